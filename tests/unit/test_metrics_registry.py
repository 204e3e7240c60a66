"""Promises of the registry: what it says of a metric is what its code and its paper say."""

import inspect
import subprocess
import sys

import pytest
import quantus

from clarity import catalogue
from clarity.metrics import registry
from clarity.metrics.quantus_adapter import ADAPTED
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import ENTRIES, UNSUPPORTED, info

CATEGORIES = {
    "faithfulness",
    "robustness",
    "complexity",
    "randomisation",
    "axiomatic",
    "localisation",
    "contrastivity",
}
NAMES = catalogue.names("metrics")
OF_QUANTUS = [name for name in NAMES if hasattr(quantus, name)]


def known(metric: str, **recipe):
    return info(MetricRecipe(metric=metric, **recipe))


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_has_a_category_and_a_direction(name):
    assert known(name).metric == name
    assert known(name).category in CATEGORIES
    assert known(name).direction in ("higher", "lower", "none")


@pytest.mark.parametrize("name", OF_QUANTUS)
def test_category_and_direction_are_those_of_quantus_but_for_what_clarity_scores_otherwise(name):
    metric = getattr(quantus, name)
    assert known(name).category == metric.evaluation_category.value.lower()
    if name not in ("Completeness", "RegionPerturbation"):
        assert known(name).direction == metric.score_direction.value.lower()


def test_a_gap_is_better_low_where_quantus_counts_equality():
    assert quantus.Completeness.score_direction.value == "higher"
    assert known("Completeness").direction == "lower"


def test_a_larger_drop_is_better_if_the_most_relevant_regions_go_first():
    assert quantus.RegionPerturbation.score_direction.value == "lower"
    assert known("RegionPerturbation").direction == "higher"
    assert known("RegionPerturbation", order="lerf").direction == "lower"
    assert known("RegionPerturbation", order="random").direction == "none"


#: Where CLarity takes another part of a map than Quantus, and why.
OTHER_SIGN = {
    "AttributionLocalisation": "positive",  # a mass is one of positive parts
    "RelevanceMassAccuracy": "positive",
}


@pytest.mark.parametrize("name", [n for n in OF_QUANTUS if n not in UNSUPPORTED])
def test_sign_and_softmax_are_the_defaults_of_quantus(name):
    metric = getattr(quantus, name)
    takes_absolute = inspect.signature(metric.__init__).parameters["abs"].default
    expected = OTHER_SIGN.get(name, "absolute" if takes_absolute else "signed")
    assert known(name).sign == expected
    softmax = inspect.signature(metric.__call__).parameters["softmax"].default
    assert known(name).softmax == softmax


@pytest.mark.parametrize("name", [n for n in OF_QUANTUS if n not in UNSUPPORTED])
def test_maps_are_scaled_where_quantus_scales_them(name):
    scales = inspect.signature(getattr(quantus, name).__init__).parameters["normalise"].default
    # The sum of a scaled map says nothing of the score.
    expected = "max" if scales and name != "Completeness" else "none"
    assert known(name).scale == expected


@pytest.mark.parametrize("name", ADAPTED)
def test_an_adapted_metric_takes_what_the_config_may_give_with_the_defaults_of_quantus(name):
    ours = inspect.signature(ADAPTED[name]).parameters
    theirs = inspect.signature(getattr(quantus, name).__init__).parameters
    allowed = set(catalogue.find("metrics", name).parameters) - {"perturb_func_kwargs"}
    assert set(ours) == allowed
    for key, parameter in ours.items():
        if key != "return_auc_per_sample":  # Quantus gives the curve, which is no score
            assert parameter.default == theirs[key].default


def test_every_entry_is_of_a_metric_that_there_is():
    assert set(ENTRIES) | set(UNSUPPORTED) == set(NAMES)
    assert not set(ENTRIES) & set(UNSUPPORTED)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_computed_says_why(name):
    assert bool(known(name).unsupported) == (name in UNSUPPORTED)


def test_localisation_needs_masks_and_the_metrics_of_scenes_need_scenes():
    for name in NAMES:
        localises = known(name).category == "localisation"
        assert known(name).needs_masks == (localises or name == "DiscriminativeMass")
    assert known("DiscriminativeMass").needs_scenes
    assert not known("PairwiseSimilarity").needs_scenes
    assert known("PairwiseSimilarity", images="scenes").needs_scenes
    assert known("RelevanceMassAccuracy", images="scenes").images == "scenes"


def test_the_recipe_has_the_last_word():
    assert known("Sparseness", sign="signed").sign == "signed"
    assert known("PixelFlipping", softmax=False).softmax is False
    assert known("Completeness", scale="max").scale == "max"


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(catalogue.UnknownName, match="did you mean 'PixelFlipping'"):
        known("PixelFliping")


def test_a_users_own_class_is_not_taken_for_one_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "class MPRT:\n    category = 'robustness'\n    direction = 'higher'\n"
        "class PointingGame:\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    assert known("theirs:MPRT").unsupported == ""
    assert (known("theirs:MPRT").category, known("theirs:MPRT").direction) == (
        "robustness",
        "higher",
    )
    assert not known("theirs:PointingGame").needs_masks
    assert known("theirs:PointingGame").direction == "none"


def test_the_registry_loads_nothing_heavy():
    code = (
        "import sys; from clarity.metrics import registry, recipe\n"
        "print([m for m in ('torch', 'quantus', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert registry.__doc__

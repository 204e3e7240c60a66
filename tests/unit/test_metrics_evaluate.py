"""Promises of the evaluation: each image counts alone, nothing is touched, nothing is hidden."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import torch
from explained import classifier
from torch import nn

from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.targets import TargetFunction
from clarity.metrics.batch import MetricUnavailable
from clarity.metrics.evaluate import evaluate, unavailable
from clarity.metrics.memory import Memory
from clarity.metrics.recipe import MetricRecipe
from clarity.seeds import derive_seed

RECIPES = {
    "b": {"metric": "Sparseness"},
    "a": {"metric": "PointingGame"},
    "flipping": {"metric": "PixelFlipping", "features_in_step": 64},
}


def recorded(cell):
    """Return the images that MaxSensitivity asks for maps of, one image after another."""
    asked = []

    def explain(model, images, classes):
        asked.append(np.array(images))
        return cell.explain(model, images, classes)

    spy = replace(cell, explain=explain)
    return spy, asked


def test_random_draws_are_the_same_for_every_loss_and_method():
    recipe = MetricRecipe(metric="MaxSensitivity", nr_samples=2)
    noises = []
    for model, factor in ((None, 1), (make.convnet(3, 16).apply(_shift), 3)):
        whole, asked = recorded(make.subject(model=model))
        whole = replace(whole, maps=whole.maps * factor)
        evaluate(whole, {"m": recipe}, dataset="d", seed=0)
        noises.append(np.stack(asked))
    np.testing.assert_array_equal(noises[0], noises[1])
    flat = (noises[0] - make.subject().images).reshape(2 * 6, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(12)).max() < 0.2


def _shift(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data += 0.1


@pytest.mark.parametrize("change", [{"dataset": "other"}, {"seed": 1}])
def test_random_draws_differ_between_datasets_and_seeds(change):
    def noise(dataset="d", seed=0, name="m"):
        whole, asked = recorded(make.subject())
        recipe = MetricRecipe(metric="MaxSensitivity", nr_samples=1)
        evaluate(whole, {name: recipe}, dataset=dataset, seed=seed)
        return asked[0]

    assert not np.allclose(noise(), noise(**change))
    # Settings of a metric differ in the setting alone.
    np.testing.assert_array_equal(noise(), noise(name="other"))


def test_the_seed_of_an_image_is_a_hash_of_its_axes():
    whole, asked = recorded(make.subject())
    recipe = MetricRecipe(metric="MaxSensitivity", nr_samples=1, lower_bound=0.1)
    evaluate(whole, {"name": recipe}, dataset="data", seed=7)
    for row in range(6):
        draw = np.random.RandomState(derive_seed("metric", "data", 7, row))
        expected = whole.images[row] + draw.uniform(-0.1, 0.1, whole.images[row].shape)
        np.testing.assert_allclose(asked[0][row], expected, atol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("scale", ["none", "max"])
def test_a_result_that_is_no_number_gets_the_status_nan(broken, scale):
    def explain(model, images, classes):
        maps = make.gradient_times_input(model, images, classes)
        maps[2] = broken
        return maps

    whole = make.subject(explain=explain, maps=make.subject().maps)
    with np.errstate(invalid="ignore"):
        frame = make.score(whole, metric="MaxSensitivity", nr_samples=2, scale=scale)
    assert frame["status"].tolist() == ["ok", "ok", "nan", "ok", "ok", "ok"]
    assert frame["reason"][2] == "not a finite number"
    assert frame["value"].isna()[2]


@pytest.mark.parametrize("metric", ["RelevanceMassAccuracy", "AttributionLocalisation"])
def test_a_map_without_positive_mass_is_told_from_a_constant_one(metric):
    whole = make.subject()
    maps = np.array(whole.maps)
    maps[1] = -np.abs(maps[1])
    frame = make.score(replace(whole, maps=maps), metric=metric)
    assert frame["reason"].tolist() == ["", "no positive mass", "", "", "", ""]


@pytest.mark.parametrize(
    "metric", ["PointingGame", "RelevanceMassAccuracy", "AUC", "RelevanceRankAccuracy"]
)
def test_an_empty_mask_makes_the_score_unavailable(metric):
    whole = make.subject()
    masks = np.array(whole.masks)
    masks[1, 0] = False
    frame = make.score(replace(whole, masks=masks), metric=metric)
    assert frame["status"].tolist() == ["ok", "unavailable", "ok", "ok", "ok", "ok"]
    assert frame["reason"].tolist() == ["", "empty mask", "", "", "", ""]
    assert np.isnan(frame["value"][1])


def test_rows_come_in_the_order_of_the_recipes_then_of_the_images():
    whole = make.subject()
    whole = replace(whole, single=np.array([True, False, True, True, False, True]))
    recipes = {
        "b": MetricRecipe(metric="Sparseness"),
        "scenes": MetricRecipe(metric="DiscriminativeMass"),
        "elsewhere": MetricRecipe(metric="Sparseness", datasets=["e"]),
        "a": MetricRecipe(metric="PointingGame", datasets=["d", "e"]),
        "sparse-scenes": MetricRecipe(metric="Sparseness", images="scenes"),
    }
    frame = evaluate(whole, recipes, dataset="d", seed=0)
    rows = list(zip(frame["metric"], frame["image"], strict=True))
    singles, scenes = [0, 2, 3, 5], [1, 4]
    assert rows == [
        *(("b", i) for i in singles),
        *(("scenes", i) for i in scenes),
        *(("a", i) for i in singles),
        *(("sparse-scenes", i) for i in scenes),
    ]
    assert list(frame.columns) == ["image", "metric", "value", "status", "reason", "curve"]
    assert frame["image"].dtype == np.int32
    assert frame["value"].dtype == np.float64


def test_a_cell_without_maps_gets_the_same_rows_all_unavailable():
    whole = make.subject()
    whole = replace(whole, single=np.array([True, False, True, True, False, True]))
    recipes = {name: MetricRecipe(**recipe) for name, recipe in RECIPES.items()}
    recipes["elsewhere"] = MetricRecipe(metric="Sparseness", datasets=["e"])
    expected = evaluate(whole, recipes, dataset="d", seed=0)
    frame = unavailable(whole.single, recipes, "LRP knows no such layer", "d")
    assert frame[["image", "metric"]].equals(expected[["image", "metric"]])
    assert (frame.dtypes == expected.dtypes).all()
    assert frame["status"].eq("unavailable").all()
    assert frame["reason"].eq("LRP knows no such layer").all()
    assert frame["value"].isna().all()


def test_a_dataset_that_no_metric_is_about_gets_no_rows_of_the_same_columns():
    recipes = {"m": MetricRecipe(metric="DiscriminativeMass")}
    frame = evaluate(make.subject(), recipes, dataset="d", seed=0)
    assert len(frame) == 0
    assert list(frame.columns) == ["image", "metric", "value", "status", "reason", "curve"]
    assert frame.equals(unavailable(np.ones(6, dtype=bool), recipes, "", "d"))


def test_an_error_is_raised_with_the_name_of_the_metric():
    def explain(model, images, classes):
        raise RuntimeError("out of memory")

    whole = make.subject(explain=explain, maps=make.subject().maps)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        make.score(whole, name="robust", metric="MaxSensitivity", nr_samples=1)
    assert "while computing the metric 'robust' (MaxSensitivity)" in caught.value.__notes__


@pytest.mark.parametrize("error", [MethodUnavailable, MetricUnavailable])
def test_what_a_metric_cannot_judge_makes_its_own_rows_unavailable_alone(error):
    def explain(model, images, classes):
        raise error("no such number of superpixels")

    whole = make.subject(explain=explain, maps=make.subject().maps)
    recipes = {
        "robust": MetricRecipe(metric="MaxSensitivity", nr_samples=1),
        "sparse": MetricRecipe(metric="Sparseness"),
    }
    frame = evaluate(whole, recipes, dataset="d", seed=0).set_index("metric")
    assert frame.loc["robust", "status"].eq("unavailable").all()
    assert frame.loc["robust", "reason"].eq("no such number of superpixels").all()
    assert frame.loc["sparse", "status"].eq("ok").all()


def test_an_argument_that_makes_no_sense_for_the_images_is_named():
    whole = make.subject()
    with pytest.raises(ValueError, match="found 256, wanted less than the 256 pixels"):
        make.score(whole, metric="FaithfulnessCorrelation", subset_size=256)
    with pytest.raises(ValueError, match="found 'balck', wanted black"):
        make.score(whole, metric="PixelFlipping", features_in_step=64, perturb_baseline="balck")
    with pytest.raises(ValueError, match=r"found noise from 0\.1 to 0\.1"):
        make.score(whole, metric="MaxSensitivity", lower_bound=0.1, upper_bound=0.1)
    with pytest.raises(ValueError, match="found 'mse', wanted one of ssim, spearman, cosine"):
        make.score(whole, metric="PairwiseSimilarity", similarity="mse")
    with pytest.raises(ValueError, match="needs masks, found none"):
        make.score(replace(whole, masks=None), metric="PointingGame")


def test_an_explainer_that_gives_maps_of_another_shape_is_caught():
    whole = make.subject(
        explain=lambda model, images, classes: np.zeros((len(images), 3, 3), np.float32),
        maps=make.subject().maps,
    )
    with pytest.raises(ValueError, match=r"explain: found maps \(6, 3, 3\)"):
        make.score(whole, metric="MaxSensitivity", nr_samples=1)


OWN = '''
import numpy as np
from quantus.metrics.complexity.complexity import Complexity
from clarity.metrics.batch import Scores

class Peak:
    category = "complexity"
    direction = "lower"

    def __init__(self, power: float = 1.0):
        self.power = power

    def __call__(self, batch):
        return Scores((batch.maps.max(axis=(1, 2)) ** self.power).astype(np.float64))

class Mine(Complexity):
    """A subclass of a metric of Quantus."""
'''


def test_a_users_own_metric_is_computed_beside_the_others(tmp_path, monkeypatch):
    (tmp_path / "my_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    whole = make.subject()
    found = make.values(whole, metric="my_metrics:Peak", power=2.0, scale="none")
    np.testing.assert_allclose(found, whole.maps[:, 0].max(axis=(1, 2)) ** 2, rtol=1e-6)
    own = make.values(whole, metric="my_metrics:Mine", sign="absolute")
    np.testing.assert_allclose(own, make.values(whole, metric="Complexity"), rtol=1e-6)


def test_sign_scale_and_softmax_of_the_recipe_are_obeyed():
    whole = make.subject()
    maps = whole.maps[:, 0]
    ours = make.values(whole, metric="Completeness", sign="positive", scale="max")
    scaled = np.maximum(maps, 0) / np.maximum(maps, 0).max(axis=(1, 2), keepdims=True)
    sums = scaled.sum(axis=(1, 2), dtype=np.float64)
    rows = np.arange(6), whole.classes[:, 0]
    for softmax in (False, True):
        with torch.no_grad():
            both = [
                whole.model(torch.from_numpy(np.array(x))) for x in (whole.images, 0 * whole.images)
            ]
        scores = [(s.softmax(1) if softmax else s).numpy()[rows] for s in both]
        change = scores[0] - scores[1]
        expected = np.abs(sums - change) / (np.abs(sums) + np.abs(change))
        ours = make.values(
            whole, metric="Completeness", sign="positive", scale="max", softmax=softmax
        )
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_curves_and_costs_stand_beside_the_values():
    costs = {}
    recipes = {name: MetricRecipe(**recipe) for name, recipe in RECIPES.items()}
    maps = np.array(make.subject().maps)
    maps[1, 0] = 0
    whole = replace(make.subject(), maps=maps)
    frame = evaluate(whole, recipes, dataset="d", seed=0, costs=costs)
    curves = frame.loc[frame["metric"] == "flipping", "curve"].tolist()
    assert curves[1] is None
    assert [len(curve) for curve in curves[2:]] == [5] * 4  # the whole image, then 4 steps of 64
    assert frame.loc[frame["metric"] != "flipping", "curve"].isna().all()
    said = frame.attrs["curves"]["flipping"]
    assert said["axis"] == "share of pixels removed"
    np.testing.assert_allclose(said["at"], [0, 0.25, 0.5, 0.75, 1])
    area = np.trapezoid(np.stack(curves[2:]), said["at"], axis=1)
    np.testing.assert_allclose(frame.loc[frame["metric"] == "flipping", "value"][2:], area)
    assert {name: cost.images for name, cost in costs.items()} == dict.fromkeys(RECIPES, 6)
    assert (costs["flipping"].forward, costs["b"].forward, costs["b"].explained) == (25, 0, 0)


def test_methods_that_explain_the_same_score_ask_for_it_once():
    memory = Memory()
    recipe = {"metric": "FaithfulnessCorrelation", "nr_runs": 4, "subset_size": 32}
    first = replace(make.subject(), scores_memory=memory)
    second = replace(first, maps=first.maps[:, ::-1].copy())
    found = [make.values(cell, **recipe) for cell in (first, second)]
    assert memory.misses == memory.hits == 5
    expected = make.values(make.with_maps(make.subject(), second.maps), **recipe)
    np.testing.assert_array_equal(found[1], expected)


def test_maps_of_all_classes_are_not_copied_where_all_images_are_judged(tmp_path, monkeypatch):
    """Of many classes and large images, a copy for each metric would not fit into memory."""
    code = """
import numpy as np
from clarity.metrics.batch import Scores

SEEN = []


class Watch:
    category = "own"
    direction = "none"

    def __call__(self, batch):
        SEEN.append(batch.stored)
        return Scores(np.zeros(len(batch)))
"""
    (tmp_path / "watching.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    cell = make.subject()
    make.score(cell, metric="watching:Watch")
    import watching

    assert np.shares_memory(watching.SEEN[0], cell.maps)


@pytest.mark.parametrize("foil", ["runner-up", "others", "softmax"])
def test_probabilities_are_those_of_the_score_without_its_foil(foil):
    model = classifier(size=16)
    scores = [TargetFunction(model, "logit", chosen) for chosen in (None, foil)]
    whole = make.trained()
    plain, contrasted = (
        make.batch(replace(whole, model=score), softmax=True).scores(whole.images)
        for score in scores
    )
    np.testing.assert_array_equal(contrasted, plain)
    np.testing.assert_allclose(plain.sum(axis=1), 1, rtol=1e-5)
    # Remembered apart from the scores with their foil.
    memory = Memory()
    batch = make.batch(replace(whole, model=scores[1], scores_memory=memory), softmax=True)
    raw = replace(batch, softmax=False)
    first = raw.scores(whole.images, remember=True)
    np.testing.assert_array_equal(batch.scores(whole.images, remember=True), plain)
    np.testing.assert_array_equal(raw.scores(whole.images, remember=True), first)
    assert (memory.hits, memory.misses) == (1, 2)


def test_metrics_get_as_many_images_at_a_time_as_a_call_takes_unless_they_are_about_the_set(
    tmp_path, monkeypatch
):
    (tmp_path / "counting.py").write_text(
        "import numpy as np\n"
        "from clarity.metrics.batch import Curves, Scores\n"
        "class Some:\n"
        "    whole_set = False\n"
        "    def __call__(self, batch):\n"
        "        values = np.full(len(batch), len(batch), dtype=float)\n"
        "        return Scores(values, Curves('id', (), [np.array([i]) for i in batch.ids]))\n"
        "class All(Some):\n"
        "    whole_set = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    maps = np.array(make.subject().maps)
    maps[1] = 0
    whole = replace(make.subject(), maps=maps)
    some = make.score(whole, batch_size=2, metric="counting:Some")
    every = make.score(whole, batch_size=2, metric="counting:All")
    np.testing.assert_array_equal(some["value"], [2, np.nan, 2, 2, 2, 1])
    np.testing.assert_array_equal(every["value"], [5, np.nan, 5, 5, 5, 5])
    for frame in (some, every):
        assert [None if c is None else c[0] for c in frame["curve"]] == [0, None, 2, 3, 4, 5]

"""Promises of the evaluation: each image counts alone, nothing is touched, nothing is hidden."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from torch import nn

from clarity import catalogue
from clarity.metrics import contrastivity
from clarity.metrics.evaluate import _metric, evaluate, unavailable
from clarity.metrics.quantus_adapter import ADAPTED
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import UNSUPPORTED, info
from clarity.seeds import derive_seed

#: What CLarity computes for all images at once.
BATCHED = {
    "pixel-flipping": {"metric": "PixelFlipping", "features_in_step": 32},
    "pixel-flipping-uniform": {
        "metric": "PixelFlipping",
        "features_in_step": 48,
        "perturb_baseline": "uniform",
    },
    "correlation": {"metric": "FaithfulnessCorrelation", "nr_runs": 8, "subset_size": 32},
    "max-sensitivity": {"metric": "MaxSensitivity", "nr_samples": 3, "lower_bound": 0.05},
    "sparseness": {"metric": "Sparseness"},
    "random-logit": {"metric": "RandomLogit"},
    "completeness": {"metric": "Completeness"},
    "relevance-mass": {"metric": "RelevanceMassAccuracy"},
    "pointing-game": {"metric": "PointingGame"},
    "ssim": {"metric": "PairwiseSimilarity", "similarity": "ssim"},
    "spearman": {"metric": "PairwiseSimilarity", "similarity": "spearman"},
    "cosine": {"metric": "PairwiseSimilarity", "similarity": "cosine"},
    "discriminative-mass": {"metric": "DiscriminativeMass"},
}
#: What Quantus computes, one image a call.
ONE_BY_ONE = {
    "AUC": {},
    "AttributionLocalisation": {},
    "AvgSensitivity": {"nr_samples": 2},
    "Complexity": {},
    "Continuity": {"nr_steps": 4},
    "EffectiveComplexity": {},
    "FaithfulnessEstimate": {"features_in_step": 64},
    "IROF": {},
    "Infidelity": {"n_perturb_samples": 2},
    "LocalLipschitzEstimate": {"nr_samples": 2},
    "Monotonicity": {"features_in_step": 64},
    "MonotonicityCorrelation": {"nr_samples": 2, "features_in_step": 64},
    "NonSensitivity": {},
    "RegionPerturbation": {"patch_size": 4, "regions_evaluation": 5},
    "RelativeInputStability": {"nr_samples": 2},
    "RelativeOutputStability": {"nr_samples": 2},
    "RelativeRepresentationStability": {"nr_samples": 2},
    "RelevanceRankAccuracy": {},
    "Selectivity": {"patch_size": 4},
    "TopKIntersection": {"k": 20},
}
ALL = {**BATCHED, **{name: {"metric": name, **more} for name, more in ONE_BY_ONE.items()}}


def cell(recipe, **more):
    """Return a cell that the metric is about."""
    # IROF fails on colour images: its mask has one channel.
    channels = 1 if recipe["metric"] == "IROF" else 3
    return make.subject(channels=channels, scenes=recipe["metric"] == "DiscriminativeMass", **more)


def test_every_metric_of_quantus_is_computed_here_or_refused_with_a_reason():
    of_quantus = {n for n in catalogue.names("metrics") if hasattr(quantus, n)}
    assert of_quantus == set(ADAPTED) | set(ONE_BY_ONE) | set(UNSUPPORTED)
    assert len(of_quantus) >= 37
    assert not (set(ADAPTED) | set(ONE_BY_ONE)) & set(UNSUPPORTED)


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_a_cell_gets_a_finite_score_for_every_image(recipe):
    frame = make.score(cell(recipe), **recipe)
    assert frame["status"].eq("ok").all(), frame
    assert np.isfinite(frame["value"]).all()


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_the_score_of_an_image_is_the_same_alone_and_in_any_batch(recipe):
    whole = cell(recipe)
    expected = make.values(whole, **recipe)
    for size in (1, 4):
        np.testing.assert_allclose(
            make.values(whole, batch_size=size, **recipe), expected, rtol=1e-5, atol=1e-5
        )
    for row in (0, 3, 5):
        alone = make.values(make.only(whole, [row]), **recipe)
        np.testing.assert_allclose(alone, expected[[row]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_the_score_of_an_image_does_not_depend_on_its_neighbours(recipe):
    whole = cell(recipe)
    expected = make.values(whole, **recipe)
    images, maps = np.array(whole.images), np.array(whole.maps)
    images[[0, 4]] = images[[0, 4], :, ::-1] ** 2
    maps[0] *= 1000
    maps[4] = -np.abs(maps[4])
    maps[5] = 0
    others = replace(whole, images=images, maps=maps)
    kept = [1, 2, 3]
    np.testing.assert_allclose(
        make.values(others, **recipe)[kept], expected[kept], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("recipe", BATCHED.values(), ids=BATCHED)
def test_the_order_of_the_images_in_a_batch_does_not_matter(recipe):
    known = info(MetricRecipe(**recipe))
    metric = _metric(MetricRecipe(**recipe), known)
    batch = make.batch(cell(recipe), known.sign, known.scale, known.softmax)
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(
        metric(batch.rows(order)).values, metric(batch).values[order], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_the_arrays_that_are_given_stay_as_they_are(recipe):
    whole = cell(recipe)  # its arrays raise when they are written to
    weights = {name: value.clone() for name, value in whole.model.state_dict().items()}
    before = [np.array(a) for a in (whole.images, whole.maps, whole.classes, whole.masks)]
    make.score(whole, **recipe)
    after = (whole.images, whole.maps, whole.classes, whole.masks)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(value, weights[k]) for k, value in whole.model.state_dict().items())


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
def test_global_random_state_is_neither_read_nor_changed(recipe):
    whole = cell(recipe)
    np.random.seed(1)
    first = make.values(whole, **recipe)
    np.random.seed(2)
    before = np.random.get_state()
    second = make.values(whole, **recipe)
    after = np.random.get_state()
    np.testing.assert_array_equal(first, second)
    assert before[2] == after[2]
    assert np.array_equal(before[1], after[1])


def test_the_global_random_state_is_put_back_after_a_failure():
    whole = make.subject(explain=lambda images, classes: 1 / 0, maps=make.subject().maps)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    with pytest.raises(ZeroDivisionError):
        make.score(whole, metric="AvgSensitivity", nr_samples=2)
    assert np.array_equal(np.random.get_state()[1], before)


def recorded(cell):
    """Return the images that MaxSensitivity asks for maps of, one image after another."""
    asked = []

    def explain(images, classes):
        asked.append(np.array(images))
        return cell.explain(images, classes)

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


@pytest.mark.parametrize("change", [{"dataset": "other"}, {"seed": 1}, {"name": "other"}])
def test_random_draws_differ_between_datasets_seeds_and_metrics(change):
    def noise(dataset="d", seed=0, name="m"):
        whole, asked = recorded(make.subject())
        recipe = MetricRecipe(metric="MaxSensitivity", nr_samples=1)
        evaluate(whole, {name: recipe}, dataset=dataset, seed=seed)
        return asked[0]

    assert not np.allclose(noise(), noise(**change))


def test_the_seed_of_an_image_is_a_hash_of_its_axes():
    whole, asked = recorded(make.subject())
    recipe = MetricRecipe(metric="MaxSensitivity", nr_samples=1, lower_bound=0.1)
    evaluate(whole, {"name": recipe}, dataset="data", seed=7)
    for row in range(6):
        draw = np.random.RandomState(derive_seed("metric", "data", 7, "name", row))
        expected = whole.images[row] + draw.uniform(-0.1, 0.1, whole.images[row].shape)
        np.testing.assert_allclose(asked[0][row], expected, atol=1e-6)


UNJUDGED = {name: recipe for name, recipe in ALL.items() if recipe["metric"] != "Completeness"}


@pytest.mark.parametrize("recipe", UNJUDGED.values(), ids=UNJUDGED)
@pytest.mark.parametrize("level", [0.0, 1.0, -0.3])
def test_a_constant_map_is_counted_and_never_scored(recipe, level):
    whole = cell(recipe)
    maps = np.array(whole.maps)
    maps[2] = level
    # A flat map that was upsampled is flat but for rounding.
    maps[3] = level + np.float32(1e-7) * level * (np.indices((16, 16)).sum(0) % 2)
    frame = make.score(replace(whole, maps=maps), **recipe)
    assert frame["status"].tolist() == ["ok", "ok", "nan", "nan", "ok", "ok"]
    assert frame["reason"].tolist() == ["", "", "constant map", "constant map", "", ""]
    assert frame["value"].isna().tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("recipe", ALL.values(), ids=ALL)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_map_with_a_value_that_is_no_number_is_never_scored(recipe, broken):
    whole = cell(recipe)
    maps = np.array(whole.maps)
    maps[1, 0, 4, 4] = broken
    with np.errstate(invalid="ignore"):
        frame = make.score(replace(whole, maps=maps), **recipe)
    assert frame["status"].tolist() == ["ok", "nan", "ok", "ok", "ok", "ok"]
    assert frame["reason"][1] == "the map has values that are not finite"


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("scale", ["none", "max"])
def test_a_result_that_is_no_number_gets_the_status_nan(broken, scale):
    def explain(images, classes):
        maps = make.gradient_times_input(model)(images, classes)
        maps[2] = broken
        return maps

    model = make.convnet(3, 16)
    whole = make.subject(model=model, explain=explain, maps=make.subject(model=model).maps)
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
    assert list(frame.columns) == ["image", "metric", "value", "status", "reason"]
    assert frame["image"].dtype == np.int32
    assert frame["value"].dtype == np.float64


def test_a_cell_without_maps_gets_the_same_rows_all_unavailable():
    whole = make.subject()
    whole = replace(whole, single=np.array([True, False, True, True, False, True]))
    recipes = {name: MetricRecipe(**recipe) for name, recipe in BATCHED.items()}
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
    assert list(frame.columns) == ["image", "metric", "value", "status", "reason"]
    assert frame.equals(unavailable(np.ones(6, dtype=bool), recipes, "", "d"))


def test_an_error_is_raised_with_the_name_of_the_metric():
    def explain(images, classes):
        raise RuntimeError("out of memory")

    whole = make.subject(explain=explain, maps=make.subject().maps)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        make.score(whole, name="robust", metric="MaxSensitivity", nr_samples=1)
    assert "while computing the metric 'robust' (MaxSensitivity)" in caught.value.__notes__


@pytest.mark.parametrize("metric", UNSUPPORTED)
def test_a_metric_without_a_score_of_one_image_is_refused(metric):
    with pytest.raises(ValueError, match=f"{metric} cannot be computed: it "):
        make.score(make.subject(), metric=metric)


def test_an_argument_that_makes_no_sense_for_the_images_is_named():
    whole = make.subject()
    with pytest.raises(ValueError, match="found 256, wanted less than the 256 pixels"):
        make.score(whole, metric="FaithfulnessCorrelation", subset_size=256)
    with pytest.raises(ValueError, match="found 'balck', wanted black, white, mean or uniform"):
        make.score(whole, metric="PixelFlipping", features_in_step=64, perturb_baseline="balck")
    with pytest.raises(ValueError, match="a score is one number"):
        make.score(whole, metric="PixelFlipping", return_auc_per_sample=False)
    with pytest.raises(ValueError, match=r"found noise from 0\.1 to 0\.1"):
        make.score(whole, metric="MaxSensitivity", lower_bound=0.1, upper_bound=0.1)
    with pytest.raises(ValueError, match="found 'mse', wanted one of ssim, spearman, cosine"):
        make.score(whole, metric="PairwiseSimilarity", similarity="mse")
    with pytest.raises(ValueError, match="needs masks, found none"):
        make.score(replace(whole, masks=None), metric="PointingGame")


def test_an_explainer_that_gives_maps_of_another_shape_is_caught():
    whole = make.subject(
        explain=lambda images, classes: np.zeros((len(images), 3, 3), np.float32),
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
    np.testing.assert_allclose(own, make.values(whole, metric="Complexity"), rtol=1e-12)


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


def test_the_own_metrics_are_those_of_their_module():
    public = {
        n
        for n, v in vars(contrastivity).items()
        if isinstance(v, type) and v.__module__ == contrastivity.__name__
    }
    assert public <= set(catalogue.names("metrics"))
    assert public == {"PairwiseSimilarity", "DiscriminativeMass"}

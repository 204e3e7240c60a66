"""Promises of the metrics of faithfulness: known answers, Quantus' where it is right, its defects.

A test named `test_defect_...` shows what Quantus 0.6.0 does wrong and fails once it is mended.
"""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus_direct import one_by_one, scaled, seed_of
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from clarity.metrics import registry
from clarity.metrics.evaluate import evaluate
from clarity.metrics.recipe import MetricRecipe

PLAIN = {"abs": False, "normalise": False, "disable_warnings": True, "return_aggregate": False}
ABSOLUTE = {**PLAIN, "abs": True}
SIZE = 8


def direct(metric, cell, maps, rows=slice(None), *, softmax=False, batch_size=64):
    """Call Quantus itself on some images together."""
    return metric(
        model=cell.model,
        x_batch=np.array(cell.images[rows]),
        y_batch=np.array(cell.classes[rows, 0]),
        a_batch=np.array(maps[rows, None]),
        softmax=softmax,
        channel_first=True,
        batch_size=batch_size,
    )


def distinct(n: int = 6, size: int = SIZE) -> np.ndarray:
    """Return maps whose values are all different, so that order is not left to chance."""
    generator = np.random.default_rng(5)
    shuffled = [generator.permutation(size * size) - size * size // 3 for _ in range(n)]
    # No two have the same absolute value either.
    return np.stack(shuffled).reshape(n, size, size) + 0.25


def grey(n: int = 6):
    """Return a cell on grey images whose maps have no ties."""
    return make.with_maps(make.subject(n=n, channels=1, size=SIZE), distinct(n))


def linear(n: int = 20, channels: int = 3, size: int = SIZE, weights=None):
    """Return a cell of exact attributions of a linear model."""
    generator = np.random.default_rng(2)
    if weights is None:
        weights = generator.normal(size=(make.CLASSES, channels, size, size)) / 4
    images = generator.uniform(0.2, 1, (n, channels, size, size)).astype(np.float32)
    return make.subject(model=make.Linear(weights).eval(), images=images)


def varied(n: int, maps: np.ndarray):
    """Return a cell whose images are of several predicted classes, with other maps."""
    weights = np.random.default_rng(3).normal(size=(make.CLASSES, 3, SIZE, SIZE))
    weights -= weights.mean(axis=(1, 2, 3), keepdims=True)
    cell = make.with_maps(linear(n, weights=weights), maps)
    assert len(set(predicted(cell))) > 2
    return cell


def predicted(cell) -> np.ndarray:
    with torch.no_grad():
        return cell.model(torch.from_numpy(np.array(cell.images))).argmax(dim=1).numpy()


def probabilities(cell, images):
    with torch.no_grad():
        found = cell.model(torch.from_numpy(np.array(images))).softmax(dim=1).double().numpy()
    return found[np.arange(len(images)), cell.classes[:, 0]]


class Deaf(make.Linear):
    """Scores that hardly depend on the image, but for rounding."""

    def forward(self, images):
        return 5 + 1e-7 * super().forward(images)


class Watched(torch.nn.Module):
    """A model that keeps what it was asked."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.seen = []

    def forward(self, images):
        self.seen.append(images.numpy().copy())
        return self.model(images)


def watched(cell):
    return replace(cell, model=Watched(cell.model).eval())


# ---- equal to Quantus, one image a call, on images of one channel -----------------------------


@pytest.mark.parametrize(
    ("name", "given", "softmax", "absolute"),
    [
        ("FaithfulnessCorrelation", {"nr_runs": 12, "subset_size": 20}, False, False),
        ("FaithfulnessEstimate", {"features_in_step": 4}, False, False),
        ("FaithfulnessEstimate", {"features_in_step": 1}, True, False),
        ("MonotonicityCorrelation", {"features_in_step": 4, "nr_samples": 2}, True, True),
        ("MonotonicityCorrelation", {"features_in_step": 1, "nr_samples": 1}, True, True),
    ],
)
def test_it_is_that_of_quantus_on_grey_images(name, given, softmax, absolute):
    metric = getattr(quantus, name)(
        perturb_baseline=0.0, **given, **(ABSOLUTE if absolute else PLAIN)
    )
    expected = one_by_one(lambda row: metric, grey(), softmax=softmax)
    found = make.values(grey(), metric=name, perturb_baseline="black", softmax=softmax, **given)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected) > 0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_infidelity_is_that_of_quantus_where_a_square_is_the_image(channels):
    cell = make.subject(channels=channels, size=SIZE)
    metric = quantus.Infidelity(
        perturb_patch_sizes=[SIZE], n_perturb_samples=2, perturb_baseline=0.0, **PLAIN
    )
    expected = one_by_one(lambda row: metric, cell, prepare=np.array)
    found = make.values(cell, metric="Infidelity", perturb_patch_sizes=[SIZE], n_perturb_samples=2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def similar_maps(n: int = 24) -> np.ndarray:
    """Return maps in three groups that look alike, with noise."""
    generator = np.random.default_rng(4)
    groups = generator.uniform(0.2, 1, (3, SIZE, SIZE))
    return groups[np.arange(n) % 3] + generator.uniform(0, 0.1, (n, SIZE, SIZE))


def test_sufficiency_is_that_of_quantus_called_with_all_images_in_one_batch():
    cell = varied(24, similar_maps())
    expected = direct(quantus.Sufficiency(**ABSOLUTE), cell, scaled(cell.maps[:, 0]), softmax=True)
    for size in (5, 64):
        np.testing.assert_allclose(make.values(cell, size, metric="Sufficiency"), expected)
    assert np.ptp(expected) > 0


# ---- known answers ----------------------------------------------------------------------------

CORRELATIONS = [
    {"metric": "FaithfulnessCorrelation", "nr_runs": 20, "subset_size": 16},
    {"metric": "FaithfulnessEstimate", "features_in_step": 4},
    {"metric": "SensitivityN", "features_in_step": 15, "nr_samples": 20, "softmax": False},
]


@pytest.mark.parametrize("recipe", CORRELATIONS, ids=lambda r: r["metric"])
@pytest.mark.parametrize("baseline", ["black", "white"])
def test_the_exact_attribution_correlates_with_the_drops_also_in_colour(recipe, baseline):
    cell = linear()
    weights = cell.model.weights.detach().numpy()[cell.classes[:, 0]]
    maps = (weights * (cell.images - (baseline == "white"))).sum(axis=1)
    recipe = {**recipe, "perturb_baseline": baseline}
    np.testing.assert_allclose(make.values(make.with_maps(cell, maps), **recipe), 1, atol=1e-4)
    np.testing.assert_allclose(make.values(make.with_maps(cell, -maps), **recipe), -1, atol=1e-4)
    assert abs(make.values(make.with_maps(cell, distinct(20)), **recipe).mean()) < 0.2


@pytest.mark.parametrize("recipe", CORRELATIONS, ids=lambda r: r["metric"])
def test_a_model_that_sees_nothing_is_not_judged_by_its_rounding(recipe):
    cell = linear()
    deaf = replace(cell, model=Deaf(cell.model.weights.detach().numpy()).eval())
    frame = make.score(deaf, **recipe)
    assert frame["status"].eq("nan").all()
    assert frame["reason"].str.contains("have the same sum or drop").all()


def test_sensitivity_n_is_the_mean_of_a_correlation_for_each_size():
    cell = make.subject(n=3, size=SIZE)
    frame = make.score(cell, metric="SensitivityN", features_in_step=20, nr_samples=6, softmax=True)
    start = probabilities(cell, cell.images)
    maps = scaled(cell.maps[:, 0]).reshape(3, -1)
    generators = [np.random.RandomState(seed_of(row)) for row in range(3)]
    curve = []
    for size in (20, 40):
        sums, drops = [], []
        for _ in range(6):
            chosen = [g.choice(SIZE**2, size, replace=False) for g in generators]
            changed = np.array(cell.images).reshape(3, 3, -1)
            for row in range(3):
                changed[row][:, chosen[row]] = 0
            sums.append([maps[row, chosen[row]].sum() for row in range(3)])
            drops.append(start - probabilities(cell, changed.reshape(cell.images.shape)))
        sums, drops = np.array(sums), np.array(drops)
        curve.append([np.corrcoef(sums[:, row], drops[:, row])[0, 1] for row in range(3)])
    np.testing.assert_allclose(np.stack(frame["curve"]), np.transpose(curve), atol=1e-3)
    np.testing.assert_allclose(frame["value"], np.mean(curve, axis=0), atol=1e-3)
    assert frame.attrs["curves"]["m"] == {"axis": "pixels removed", "at": [20.0, 40.0]}


def test_a_size_of_which_all_subsets_are_alike_has_no_correlation_and_counts_for_nothing():
    frame = make.score(
        linear(n=3), metric="SensitivityN", features_in_step=32, nr_samples=5, n_max_percentage=1.0
    )
    curve = np.stack(frame["curve"])
    assert np.isnan(curve[:, 1]).all()
    np.testing.assert_array_equal(frame["value"], curve[:, 0])


@pytest.mark.parametrize(("most", "step"), [(0.5, 40), (1.5, 1)])
def test_sizes_that_no_subset_can_have_are_refused(most, step):
    with pytest.raises(ValueError, match="n_max_percentage"):
        make.score(linear(n=2), metric="SensitivityN", n_max_percentage=most, features_in_step=step)


def test_the_last_group_of_faithfulness_estimate_is_the_least_relevant_and_may_be_smaller():
    cell = make.with_maps(make.subject(n=3, size=SIZE), distinct(3))
    found = make.values(cell, metric="FaithfulnessEstimate", features_in_step=24, softmax=True)
    start = probabilities(cell, cell.images)
    maps = scaled(distinct(3)).reshape(3, -1)
    order = (-maps).argsort(axis=1)
    sums, drops = [], []
    for group in (order[:, :24], order[:, 24:48], order[:, 48:]):
        changed = np.array(cell.images).reshape(3, 3, -1)
        for row in range(3):
            changed[row][:, group[row]] = 0
        drops.append(start - probabilities(cell, changed.reshape(cell.images.shape)))
        sums.append(np.take_along_axis(maps, group, axis=1).sum(axis=1))
    expected = [np.corrcoef(np.array(sums)[:, r], np.array(drops)[:, r])[0, 1] for r in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_infidelity_is_zero_for_the_gradient_of_a_linear_model_on_grey_images():
    cell = linear(channels=1)
    gradient = cell.model.weights.detach().numpy()[cell.classes[:, 0], 0]
    for baseline in ("black", "white", "mean", "uniform"):
        recipe = {"metric": "Infidelity", "perturb_baseline": baseline}
        exact = make.values(make.with_maps(cell, gradient), **recipe)
        np.testing.assert_allclose(exact, 0, atol=1e-9)
        assert (make.values(make.with_maps(cell, -gradient), **recipe) > 0.01).all()


def test_infidelity_with_the_indicator_is_zero_for_gradient_times_input_also_in_colour():
    recipe = {"metric": "Infidelity", "perturb_patch_sizes": [2, 4], "indicator": True}
    cell = linear()
    np.testing.assert_allclose(make.values(cell, **recipe), 0, atol=1e-9)
    tripled = make.with_maps(cell, 3 * cell.maps[:, 0])
    assert (make.values(tripled, **recipe) > 0.01).all()
    np.testing.assert_allclose(make.values(tripled, optimal_scale=True, **recipe), 0, atol=1e-9)


def test_infidelity_is_the_mean_over_squares_drawn_anew():
    cell = make.subject(n=2, size=SIZE)
    sides, samples = [3, 5], 3
    errors = []
    for row in range(2):
        draw = np.random.RandomState(seed_of(row))
        image, label = cell.images[row : row + 1], cell.classes[row, 0]
        start = cell.model(torch.from_numpy(np.array(image)))[0, label].item()
        found = []
        for _ in range(samples):
            for side in sides:
                top, left = draw.randint(SIZE - side + 1), draw.randint(SIZE - side + 1)
                changed = np.array(image)
                changed[..., top : top + side, left : left + side] = 0
                drop = start - cell.model(torch.from_numpy(changed))[0, label].item()
                found.append(((cell.maps[row, 0] * (image - changed)[0]).sum() - drop) ** 2)
        errors.append(np.mean(found))
    found = make.values(
        cell, metric="Infidelity", perturb_patch_sizes=sides, n_perturb_samples=samples
    )
    np.testing.assert_allclose(found, errors, rtol=1e-4)


def test_the_optimal_scale_of_a_map_that_no_square_meets_leaves_the_drops():
    cell = linear(n=2)
    maps = np.zeros((2, SIZE, SIZE))
    maps[:, 0, 0] = 1
    kept = {"metric": "Infidelity", "n_perturb_samples": 1, "perturb_patch_sizes": [1]}
    cell = make.with_maps(cell, maps)
    np.testing.assert_allclose(
        make.values(cell, optimal_scale=True, **kept), make.values(cell, **kept)
    )


@pytest.mark.parametrize("sides", [[0], [4, SIZE + 1]])
def test_squares_that_do_not_fit_are_refused(sides):
    with pytest.raises(ValueError, match="perturb_patch_sizes"):
        make.score(linear(n=2), metric="Infidelity", perturb_patch_sizes=sides)


def test_monotonicity_is_one_where_every_pixel_helps_and_zero_where_one_harms():
    weights = np.full((make.CLASSES, 3, SIZE, SIZE), 0.1)
    helps = make.with_maps(linear(weights=weights), distinct(20))
    recipe = {"metric": "Monotonicity", "softmax": False, "features_in_step": 4}
    np.testing.assert_array_equal(make.values(helps, **recipe), 1)
    harms = np.array(weights)
    harms[:, :, 3, 3] = -10
    one = make.with_maps(linear(weights=harms), distinct(20))
    np.testing.assert_array_equal(make.values(one, **recipe), 0)
    # The harm is done by one of 16 groups; done by the first, it is before the curve starts.
    shares = make.values(one, share=True, **recipe)
    assert set(shares.round(6)) <= {1.0, round(14 / 15, 6)}


def test_the_curve_of_monotonicity_puts_the_least_relevant_pixels_in_first():
    cell = make.with_maps(make.subject(size=SIZE), distinct())
    frame = make.score(cell, metric="Monotonicity", features_in_step=24)
    order = np.abs(distinct()).reshape(6, -1).argsort(axis=1)
    points = []
    for shown in (24, 48, 64):
        images = np.zeros((6, 3, SIZE**2), np.float32)
        for row in range(6):
            chosen = order[row, :shown]
            images[row][:, chosen] = cell.images[row].reshape(3, -1)[:, chosen]
        points.append(probabilities(cell, images.reshape(cell.images.shape)))
    curve = np.transpose(points)
    np.testing.assert_allclose(np.stack(frame["curve"]), curve, rtol=1e-5)
    np.testing.assert_array_equal(frame["value"], (np.diff(curve) >= 0).all(axis=1))
    assert frame.attrs["curves"]["m"]["at"] == [0.375, 0.75, 1.0]


def test_monotonicity_of_a_model_that_sees_nothing_is_not_that_of_its_rounding():
    cell = linear()
    deaf = replace(cell, model=Deaf(cell.model.weights.detach().numpy()).eval())
    np.testing.assert_array_equal(make.values(deaf, metric="Monotonicity", features_in_step=4), 1)


def test_all_pixels_in_one_step_are_refused():
    with pytest.raises(ValueError, match="features_in_step"):
        make.score(linear(n=2), metric="Monotonicity", features_in_step=SIZE**2)


def test_monotonicity_correlation_ranks_how_much_the_score_depends_on_each_pixel():
    """Of a linear model, the mean square change is w^2 E(u - x)^2, whose expectation is known."""
    cell = linear(channels=1)
    weights = cell.model.weights.detach().numpy()[cell.classes[:, 0], 0]
    images = cell.images[:, 0].astype(float)
    expected = weights**2 * (1 / 12 + (images - 0.5) ** 2)
    recipe = {"metric": "MonotonicityCorrelation", "nr_samples": 60, "softmax": False}
    good = make.values(make.with_maps(cell, expected), **recipe)
    assert good.min() > 0.95
    assert (make.values(make.with_maps(cell, 1 / expected), **recipe) < -0.95).all()
    assert abs(make.values(make.with_maps(cell, distinct(20)), **recipe).mean()) < 0.1


def test_monotonicity_correlation_takes_groups_of_pixels_in_the_order_of_the_map():
    cell = make.with_maps(make.subject(n=3, size=SIZE), distinct(3))
    found = make.values(cell, metric="MonotonicityCorrelation", features_in_step=16, nr_samples=2)
    start = probabilities(cell, cell.images)
    maps = np.abs(scaled(distinct(3))).reshape(3, -1)
    order = maps.argsort(axis=1)
    generators = [np.random.RandomState(seed_of(row)) for row in range(3)]
    fills = [np.stack([g.uniform(size=(3, 64)) for g in generators]) for _ in range(2)]
    sums, changes = [], []
    for group in np.split(order, 4, axis=1):
        squares = []
        for fill in fills:
            changed = np.array(cell.images).reshape(3, 3, -1)
            for row in range(3):
                changed[row][:, group[row]] = fill[row][:, group[row]]
            after = probabilities(cell, changed.reshape(cell.images.shape))
            squares.append((after - start) ** 2)
        sums.append(np.take_along_axis(maps, group, axis=1).sum(axis=1))
        changes.append(np.mean(squares, axis=0))
    expected = [spearmanr(np.array(sums)[:, r], np.array(changes)[:, r])[0] for r in range(3)]
    np.testing.assert_allclose(found, expected)


def test_pixels_that_the_model_ignores_are_not_ranked_by_its_rounding():
    cell = linear()
    deaf = replace(cell, model=Deaf(cell.model.weights.detach().numpy()).eval())
    frame = make.score(
        deaf, metric="MonotonicityCorrelation", features_in_step=8, nr_samples=2, softmax=False
    )
    assert set(frame["reason"]) == {"all groups have the same sum or change"}


def test_baselines_that_are_not_random_cost_one_sample():
    costs = {}
    given = {"metric": "MonotonicityCorrelation", "features_in_step": 8, "nr_samples": 5}
    recipes = {
        "black": MetricRecipe(**given, perturb_baseline="black"),
        "uniform": MetricRecipe(**given),
    }
    evaluate(linear(n=2), recipes, dataset="d", seed=0, costs=costs)
    sizes = {"pixels": SIZE**2, "channels": 3, "classes": 5, "layers": 1, "images": 2}
    for name, calls in (("black", 1 + 8), ("uniform", 1 + 8 * 5)):
        assert costs[name].forward == 2 * calls
        assert registry.cost(recipes[name], **sizes).forward == calls


def test_sufficiency_is_the_share_of_similar_maps_with_the_same_prediction():
    maps = np.zeros((12, SIZE, SIZE))
    # Two groups of equal maps, of 8 and 3, and one map apart from all.
    maps[:8, 0, 0] = maps[8:11, 7, 7] = maps[11, 3:5, 3:5] = 1
    cell = varied(12, maps)
    found = predicted(cell)
    groups = [found[:8]] * 8 + [found[8:11]] * 3
    expected = [
        ((group == found[row]).sum() - 1) / (len(group) - 1) for row, group in enumerate(groups)
    ]
    assert 0 < np.mean(expected) < 1
    frame = make.score(cell, metric="Sufficiency", distance_func="euclidean")
    np.testing.assert_allclose(frame["value"][:11], expected)
    assert frame["reason"][11] == "no other image has a similar map"


def test_equal_maps_are_all_similar_and_an_image_alone_has_no_other():
    equal = varied(12, np.stack([distinct(1)[0]] * 12))
    found = predicted(equal)
    share = ((found[:, None] == found).sum(axis=1) - 1) / 11
    np.testing.assert_allclose(make.values(equal, metric="Sufficiency"), share)
    assert np.ptp(share) > 0
    alone = make.score(make.only(equal, [2]), metric="Sufficiency")
    assert alone["reason"].tolist() == ["no other image has a similar map"]


# ---- draws do not depend on the maps ----------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        {"metric": "FaithfulnessCorrelation", "nr_runs": 3, "subset_size": 9},
        {"metric": "FaithfulnessEstimate"},
        {"metric": "Infidelity", "perturb_baseline": "uniform"},
        {"metric": "SensitivityN", "features_in_step": 30, "nr_samples": 2},
        {"metric": "MonotonicityCorrelation", "nr_samples": 2},
        {"metric": "Sufficiency"},
    ],
    ids=lambda r: r["metric"],
)
def test_a_second_method_asks_the_model_nothing(recipe):
    cell = watched(make.subject(size=SIZE))
    first = make.score(cell, **recipe)
    assert cell.model.seen
    cell.model.seen.clear()
    other = make.with_maps(cell, distinct())
    second = make.score(other, **recipe)
    assert not cell.model.seen
    fresh = make.score(make.with_maps(make.subject(size=SIZE), distinct()), **recipe)
    np.testing.assert_array_equal(second["value"], fresh["value"])
    assert second["value"].tolist() != first["value"].tolist()


@pytest.mark.parametrize(
    ("name", "calls"),
    [("Monotonicity", 3), ("FaithfulnessEstimate", 4), ("MonotonicityCorrelation", 4)],
)
def test_of_images_that_depend_on_the_maps_only_the_untouched_one_is_remembered(name, calls):
    cell = watched(make.subject(size=SIZE))
    recipe = {"metric": name, "features_in_step": 16, "perturb_baseline": "black"}
    make.score(cell, **recipe)
    cell.model.seen.clear()
    make.score(cell, **recipe)
    assert len(cell.model.seen) == calls


@pytest.mark.parametrize(
    ("recipe", "gone"),
    [
        ({"metric": "FaithfulnessCorrelation", "nr_runs": 3, "subset_size": 9}, {0, 9}),
        ({"metric": "FaithfulnessEstimate", "features_in_step": 16}, {0, 16}),
        ({"metric": "Infidelity", "perturb_patch_sizes": [2, 3]}, {0, 4, 9}),
        ({"metric": "Monotonicity", "features_in_step": 32}, {0, 32}),
        (
            {
                "metric": "MonotonicityCorrelation",
                "features_in_step": 16,
                "perturb_baseline": "black",
            },
            {0, 16},
        ),
        ({"metric": "SensitivityN", "features_in_step": 20, "nr_samples": 2}, {0, 20, 40}),
    ],
    ids=lambda value: value["metric"] if isinstance(value, dict) else "",
)
def test_a_pixel_goes_in_all_channels(recipe, gone):
    cell = watched(make.subject(size=SIZE))
    make.score(cell, **recipe)
    black = np.concatenate(cell.model.seen) == 0
    assert (black.any(axis=1) == black.all(axis=1)).all()
    assert set(black.all(axis=1).sum(axis=(1, 2)).tolist()) == gone


# ---- defects ----------------------------------------------------------------------------------


def test_defect_infidelity_draws_nothing():
    cell = make.subject(n=3, size=SIZE)
    theirs = [
        direct(
            quantus.Infidelity(n_perturb_samples=samples, perturb_baseline=0.0, **PLAIN),
            cell,
            cell.maps[:, 0],
        )
        for samples in (1, 10)
    ]
    np.testing.assert_allclose(*theirs, rtol=1e-6)
    ours = [
        make.values(cell, metric="Infidelity", n_perturb_samples=samples) for samples in (1, 10)
    ]
    assert (np.abs(ours[0] - ours[1]) > 1e-3 * ours[0]).all()


def test_defect_infidelity_leaves_earlier_tiles_removed():
    cell = watched(make.subject(n=1, channels=1, size=SIZE))
    metric = quantus.Infidelity(n_perturb_samples=1, perturb_baseline=0.0, **PLAIN)
    direct(metric, cell, cell.maps[:, 0])
    assert [int((images == 0).sum()) for images in cell.model.seen] == [0, 16, 32, 48, 64]
    cell.model.seen.clear()
    make.score(cell, metric="Infidelity", n_perturb_samples=4)
    assert [int((images == 0).sum()) for images in cell.model.seen] == [0, 16, 16, 16, 16]


def test_defect_infidelity_fails_if_tiles_do_not_fill_the_image():
    cell = make.subject(n=1, channels=1, size=SIZE)
    metric = quantus.Infidelity(perturb_patch_sizes=[5], perturb_baseline=0.0, **PLAIN)
    with pytest.raises((ValueError, IndexError)):
        direct(metric, cell, cell.maps[:, 0])
    assert np.isfinite(make.values(cell, metric="Infidelity", perturb_patch_sizes=[5])).all()


def test_defect_monotonicity_shows_the_model_the_baseline_alone():
    cell = watched(grey())
    metric = quantus.Monotonicity(features_in_step=16, perturb_baseline=0.0, **ABSOLUTE)
    assert all(direct(metric, cell, cell.maps[:, 0], softmax=True))
    assert not any(images.any() for images in cell.model.seen)
    cell.model.seen.clear()
    assert not make.values(cell, metric="Monotonicity", features_in_step=4).all()
    np.testing.assert_array_equal(cell.model.seen[-1], cell.images)


def test_defect_monotonicity_correlation_fails_if_some_scores_are_small():
    weights = np.zeros((make.CLASSES, 1, SIZE, SIZE))
    weights[0] = 1
    cell = linear(n=5, weights=weights, channels=1)
    cell = make.with_maps(cell, distinct(5))
    metric = quantus.MonotonicityCorrelation(
        features_in_step=16, nr_samples=1, perturb_baseline=0.0, **ABSOLUTE
    )
    with pytest.raises(ValueError, match="cannot assign"):
        direct(metric, cell, cell.maps[:, 0])
    frame = make.score(
        cell,
        metric="MonotonicityCorrelation",
        features_in_step=16,
        perturb_baseline="black",
        softmax=False,
    )
    assert frame["status"].tolist() == ["ok", "nan", "nan", "nan", "nan"]


def test_defect_monotonicity_correlation_gives_all_pixels_of_a_group_one_grey():
    cell = watched(make.with_maps(make.subject(size=SIZE), distinct()))
    metric = quantus.MonotonicityCorrelation(
        features_in_step=SIZE**2, nr_samples=1, perturb_baseline="uniform", **ABSOLUTE
    )
    direct(metric, cell, cell.maps[:, 0], softmax=True)
    changed = cell.model.seen[1] != cell.images
    assert [len(np.unique(cell.model.seen[1][r][changed[r]])) for r in range(6)] == [1] * 6
    cell.model.seen.clear()
    make.score(cell, metric="MonotonicityCorrelation", features_in_step=32, nr_samples=1)
    changed = cell.model.seen[1] != cell.images
    assert [len(np.unique(cell.model.seen[1][r][changed[r]])) for r in range(6)] == [96] * 6


def test_defect_sensitivity_n_correlates_over_images_and_forgets_later_batches():
    cell = make.subject(n=12, channels=1, size=SIZE)
    metric = quantus.SensitivityN(features_in_step=16, perturb_baseline=0.0, **PLAIN)
    maps = scaled(cell.maps[:, 0])
    theirs = [direct(metric, cell, maps, rows, batch_size=6) for rows in (slice(6), slice(12))]
    assert len(theirs[1]) == 3  # a value for each step, none for an image
    np.testing.assert_array_equal(*theirs)
    assert np.isfinite(theirs[0]).all()
    recipe = {"metric": "SensitivityN", "features_in_step": 16, "nr_samples": 4}
    ours = make.values(cell, 6, **recipe)
    assert len(ours) == 12
    np.testing.assert_allclose(
        ours[:6], make.values(make.only(cell, range(6)), **recipe), atol=1e-4
    )


def test_defect_sensitivity_n_compares_the_relevance_of_a_step_with_the_drop_of_all_steps():
    """The exact attribution of a linear model has correlation 1 by definition."""
    cell = linear(channels=1)
    metric = quantus.SensitivityN(features_in_step=16, perturb_baseline=0.0, **PLAIN)
    theirs = np.array(direct(metric, cell, cell.maps[:, 0]))
    assert theirs[0] == pytest.approx(1, abs=1e-4)
    assert theirs[1:].max() < 0.99
    ours = make.values(
        cell, metric="SensitivityN", features_in_step=16, nr_samples=8, softmax=False
    )
    np.testing.assert_allclose(ours, 1, atol=1e-4)


def test_defect_sufficiency_compares_within_a_batch():
    cell = varied(24, similar_maps())
    maps = scaled(cell.maps[:, 0])
    theirs = [
        direct(quantus.Sufficiency(**ABSOLUTE), cell, maps, softmax=True, batch_size=size)
        for size in (3, 24)
    ]
    assert not np.allclose(*theirs)
    np.testing.assert_array_equal(
        make.values(cell, 3, metric="Sufficiency"), make.values(cell, 24, metric="Sufficiency")
    )


def test_defect_one_pixel_that_is_the_same_in_all_maps_makes_sufficiency_zero():
    maps = similar_maps()
    maps[:, 0, 0] = 0
    cell = varied(24, maps)
    assert not np.any(
        direct(quantus.Sufficiency(**ABSOLUTE), cell, scaled(cell.maps[:, 0]), softmax=True)
    )
    found = make.values(cell, metric="Sufficiency")
    others = scaled(maps).reshape(24, -1)[:, 1:]
    distances = cdist(others, others, "seuclidean")
    near = distances <= 0.6 * distances.max()
    np.fill_diagonal(near, False)
    best = predicted(cell)
    expected = (near & (best == best[:, None])).sum(axis=1) / near.sum(axis=1)
    np.testing.assert_allclose(found, expected)


def test_defect_sufficiency_knows_no_distance_but_the_default():
    cell = varied(24, similar_maps())
    metric = quantus.Sufficiency(distance_func="cosine", **ABSOLUTE)
    with pytest.raises(TypeError):
        direct(metric, cell, scaled(cell.maps[:, 0]), softmax=True)
    assert np.isfinite(make.values(cell, metric="Sufficiency", distance_func="cosine")).all()

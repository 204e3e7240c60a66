"""Promises of the metrics that remove pixels in order, and of what stands for removed pixels.

For each defect of Quantus 0.6.0 that is worked round, a test shows it in Quantus itself, so that a
release without it is noticed, and that CLarity's score is free of it.
"""

from dataclasses import replace
from itertools import permutations

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus_direct import PLAIN, distinct, one_by_one, scaled, seed_of
from scipy.ndimage import gaussian_filter
from skimage.segmentation import slic

from clarity.metrics.flipping import IROF, NormalisedAopc, RegionPerturbation
from clarity.metrics.imputation import Imputer, baselines, linear, pixel_order
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import info

FLIPPING = {
    "PixelFlipping": {"features_in_step": 32},
    "Selectivity": {"patch_size": 4},
    "RegionPerturbation": {"patch_size": 4},
    "IROF": {"nr_segments": 16},
    "ROAD": {"percentages": [10, 30, 50, 70, 90]},
    "NormalisedAopc": {"grid": 3},
}
STEPPING = ["PixelFlipping", "Selectivity", "RegionPerturbation", "IROF", "NormalisedAopc"]


def probabilities(cell, images) -> np.ndarray:
    """Return the probability of each image's class: [N]."""
    with torch.no_grad():
        found = cell.model(torch.from_numpy(np.array(images))).softmax(dim=1).double().numpy()
    return found[np.arange(len(found)), cell.classes[:, 0]]


def linear_cell(n: int = 40, channels: int = 3, size: int = 16, blur: float = 0.0):
    """Return exact attributions of a linear model; every image is of the best class."""
    generator = np.random.default_rng(2)
    weights = generator.normal(size=(make.CLASSES, channels, size, size)) / 4
    model = make.Linear(weights).eval()
    images = generator.uniform(0, 1, (n, channels, size, size)).astype(np.float32)
    images = gaussian_filter(images, (0, 0, blur, blur))
    with torch.no_grad():
        best = model(torch.from_numpy(images)).argsort(dim=1, descending=True)[:, :2].numpy()
    maps = [make.gradient_times_input(model, images, best[:, slot]) for slot in range(2)]
    cell = make.subject(model=model, images=images)
    return replace(cell, maps=np.stack(maps, axis=1), classes=best)


def smooth(cell):
    """Return the cell with blurred images, which have segments, and maps without ties of means."""
    images = gaussian_filter(cell.images, (0, 0, 1.5, 1.5))
    images = (images - images.min()) / np.ptp(images)
    maps = np.random.default_rng(4).normal(size=cell.maps[:, 0].shape)
    return make.with_maps(replace(cell, images=images), maps)


def deaf(cell):
    """Return the cell with a model that sees nothing."""
    return replace(cell, model=make.Linear(0 * cell.model.weights.detach().numpy()).eval())


def grey_cell():
    return make.with_maps(make.subject(channels=1), distinct())


def curves(cell, **recipe) -> np.ndarray:
    return np.stack(list(make.score(cell, **recipe)["curve"]))


def quantus_call(metric, cell, rows, maps=None, batch_size=64):
    """Call Quantus itself on several images at once."""
    np.random.seed(0)
    return metric(
        model=cell.model,
        x_batch=np.array(cell.images[rows]),
        y_batch=np.array(cell.classes[rows, 0]),
        a_batch=scaled(cell.maps[rows, :1]) if maps is None else maps[rows],
        softmax=True,
        channel_first=True,
        batch_size=batch_size,
    )


# ---- equal to Quantus, one image a call -------------------------------------------------------


def test_pixel_flipping_is_the_area_under_the_curve_of_quantus_on_grey_images():
    cell = grey_cell()
    metric = quantus.PixelFlipping(features_in_step=32, perturb_baseline=0.0, **PLAIN)
    theirs = one_by_one(lambda row: metric, cell, softmax=True).reshape(6, 8)
    start = probabilities(cell, cell.images)
    whole = np.column_stack([start, theirs]) / start[:, None]
    area = (whole[:, 1:] + whole[:, :-1]).sum(axis=1) / 2 / 8
    recipe = {"metric": "PixelFlipping", "features_in_step": 32}
    np.testing.assert_allclose(make.values(cell, **recipe), area, rtol=1e-5)
    np.testing.assert_allclose(curves(cell, **recipe), whole, rtol=1e-5)
    asked = make.values(cell, **recipe, return_auc_per_sample=False)
    np.testing.assert_array_equal(asked, make.values(cell, **recipe))


@pytest.mark.parametrize("patch", [4, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_selectivity_is_the_area_under_the_curve_of_quantus(patch, channels):
    cell = make.with_maps(make.subject(channels=channels), distinct())
    metric = quantus.Selectivity(patch_size=patch, perturb_baseline=0.0, **PLAIN)
    theirs = one_by_one(lambda row: metric, cell, softmax=True).reshape(6, -1)
    whole = np.column_stack([probabilities(cell, cell.images), theirs])
    recipe = {"metric": "Selectivity", "patch_size": patch}
    np.testing.assert_allclose(curves(cell, **recipe), whole, rtol=1e-4)
    area = np.trapezoid(whole, np.linspace(0, 1, whole.shape[1]), axis=1)
    np.testing.assert_allclose(make.values(cell, **recipe), area, rtol=1e-4)


@pytest.mark.parametrize(
    ("order", "patch", "regions"),
    [("morf", 4, 100), ("lerf", 4, 7), ("random", 4, 100), ("morf", 7, 5), ("random", 4, 5)],
)
def test_region_perturbation_is_the_mean_of_the_drops_of_quantus(order, patch, regions):
    cell = make.with_maps(make.subject(), distinct())
    arguments = {"order": order, "patch_size": patch, "regions_evaluation": regions}
    metric = quantus.RegionPerturbation(**arguments, perturb_baseline=0.0, **PLAIN)
    theirs = one_by_one(lambda row: metric, cell, softmax=True).reshape(6, -1)
    recipe = {"metric": "RegionPerturbation", **arguments}
    np.testing.assert_allclose(curves(cell, **recipe)[:, 1:], theirs, atol=1e-6)
    expected = theirs.sum(axis=1) / (theirs.shape[1] + 1)
    np.testing.assert_allclose(make.values(cell, **recipe), expected, atol=1e-6)


@pytest.mark.parametrize("method", ["slic", "felzenszwalb"])
def test_irof_is_that_of_quantus_on_grey_images(method):
    cell = smooth(grey_cell())
    metric = quantus.IROF(
        segmentation_method=method, perturb_baseline=0.0, return_aggregate=False, **PLAIN
    )
    theirs = one_by_one(lambda row: metric, cell, softmax=True)
    recipe = {"metric": "IROF", "segmentation_method": method, "perturb_baseline": "black"}
    np.testing.assert_allclose(make.values(cell, **recipe), theirs, rtol=1e-5)


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_road_is_the_accuracy_of_quantus_on_grey_images(noise):
    cell = grey_cell()
    best = probabilities_of_all(cell).argsort(axis=1)[:, ::-1][:, :2]
    cell = replace(cell, classes=best)
    asked = {"percentages": [5, 20, 40, 60, 80, 97], "noise": noise}
    theirs = []
    for row in range(6):
        np.random.seed(seed_of(row))
        metric = quantus.ROAD(**asked, **PLAIN)
        found = metric(
            model=cell.model,
            x_batch=np.array(cell.images[row : row + 1]),
            y_batch=best[row : row + 1, 0],
            a_batch=scaled(cell.maps[row : row + 1, :1]),
            softmax=True,
            channel_first=True,
        )
        theirs.append(list(found.values()))
    recipe = {"metric": "ROAD", **asked}
    np.testing.assert_array_equal(curves(cell, **recipe), theirs)
    np.testing.assert_array_equal(make.values(cell, **recipe), np.mean(theirs, axis=1))
    assert noise < 0.1 or 0 < np.mean(theirs) < 1


def probabilities_of_all(cell) -> np.ndarray:
    with torch.no_grad():
        return cell.model(torch.from_numpy(np.array(cell.images))).softmax(dim=1).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.95])
def test_linear_imputation_is_that_of_quantus(channels, share):
    generator = np.random.default_rng(0)
    images = generator.random((3, channels, 12, 17)).astype(np.float32)
    removed = generator.random((3, 12, 17)) < share
    removed[0] = False
    removed[0, 0, 0] = removed[0, -1, -1] = True
    found = linear(images, removed, np.zeros_like(images))
    for image, mask, ours in zip(images, removed, found, strict=True):
        theirs = noisy_linear_imputation(image, np.flatnonzero(mask), noise=0.0)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# ---- known answers ----------------------------------------------------------------------------


def test_pixel_flipping_removes_whole_pixels_of_colour_images_most_relevant_first():
    cell = linear_cell()
    order = np.argsort(-cell.maps[:, 0].reshape(40, -1), axis=1)
    changed = np.array(cell.images).reshape(40, 3, 256)
    points = [probabilities(cell, cell.images)]
    for first in range(0, 256, 32):
        gone = order[:, None, first : first + 32].repeat(3, axis=1)
        np.put_along_axis(changed, gone, 0, axis=2)
        points.append(probabilities(cell, changed.reshape(cell.images.shape)))
    expected = np.trapezoid(np.stack(points) / points[0], np.linspace(0, 1, 9), axis=0)
    found = make.values(cell, metric="PixelFlipping", features_in_step=32)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", FLIPPING)
def test_the_exact_attribution_beats_random_order_which_beats_the_reverse(name):
    cell = linear_cell(blur=1.0 if name == "IROF" else 0.0)
    means = [
        make.values(make.with_maps(cell, maps), metric=name, **FLIPPING[name]).mean()
        for maps in (cell.maps[:, 0], distinct(40), -cell.maps[:, 0])
    ]
    if info(MetricRecipe(metric=name)).direction == "lower":
        means = means[::-1]
    assert means[0] > means[1] > means[2]
    assert means[0] - means[2] > 0.1 * abs(means[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PixelFlipping", 1),
        ("Selectivity", 1 / make.CLASSES),
        ("RegionPerturbation", 0),
        ("IROF", 1),
    ],
)
def test_of_a_model_that_sees_nothing_the_value_is_known(name, value):
    found = make.values(deaf(linear_cell(blur=1.0)), metric=name, **FLIPPING[name])
    np.testing.assert_allclose(found, value, atol=1e-5)


@pytest.mark.parametrize("step", [1, 100, 256, 1000])
def test_the_last_step_of_pixel_flipping_may_be_a_shorter_one(step):
    cell = make.subject(channels=1)
    area = make.values(cell, metric="PixelFlipping", features_in_step=step)
    start = probabilities(cell, cell.images)
    if step == 1:
        assert curves(cell, metric="PixelFlipping").shape == (6, 257)
    if step >= 256:
        black = probabilities(cell, 0 * cell.images)
        np.testing.assert_allclose(area, (1 + black / start) / 2, rtol=1e-5)
    if step == 100:
        ranks = cell.maps[:, 0].reshape(6, -1).argsort(axis=1)[:, ::-1]
        points = [start / start]
        for removed in (100, 200, 256):
            changed = np.array(cell.images).reshape(6, -1)
            np.put_along_axis(changed, ranks[:, :removed], 0, axis=1)
            points.append(probabilities(cell, changed.reshape(cell.images.shape)) / start)
        expected = np.trapezoid(np.stack(points), [0, 100 / 256, 200 / 256, 1], axis=0)
        np.testing.assert_allclose(area, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["PixelFlipping", "IROF"])
def test_a_score_that_is_not_positive_gives_nothing_to_start_from(name):
    cell = linear_cell()
    with torch.no_grad():
        scores = cell.model(torch.from_numpy(np.array(cell.images))).numpy()
    worst = np.stack([scores.argmin(axis=1), scores.argmax(axis=1)], axis=1)
    start = scores.min(axis=1)
    frame = make.score(replace(cell, classes=worst), metric=name, softmax=False, **FLIPPING[name])
    assert ((frame["status"] == "nan") == (start <= 0)).all()
    assert (start <= 0).any()
    assert set(frame["reason"][start <= 0]) == {"the score of the untouched image is not positive"}
    assert frame["curve"][start <= 0].isna().all()


def test_the_direction_of_region_perturbation_is_that_of_its_order():
    for order, direction in (("morf", "higher"), ("lerf", "lower"), ("random", "none")):
        recipe = MetricRecipe(metric="RegionPerturbation", order=order)
        assert info(recipe).direction == direction
    with pytest.raises(ValueError, match="order: found 'most'"):
        RegionPerturbation(order="most")


def test_irof_of_colour_images_removes_segments_by_their_mean():
    cell = smooth(make.subject())
    expected = []
    for image, map_, label in zip(cell.images, cell.maps[:, 0], cell.classes[:, 0], strict=True):
        segments = slic(np.moveaxis(image, 0, -1).astype(float), n_segments=16, start_label=0)
        names = np.unique(segments)
        order = names[np.argsort([-map_[segments == name].mean() for name in names])]
        steps = [np.array(image)]
        for name in order:
            steps.append(np.where(segments == name, image.mean(), steps[-1]))
        with torch.no_grad():
            scores = cell.model(torch.from_numpy(np.stack(steps))).softmax(1)[:, label].numpy()
        expected.append(len(order) - np.trapezoid(scores[1:] / scores[0]))
    found = make.values(cell, metric="IROF", nr_segments=16)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_irof_of_one_segment_has_no_order():
    cell = make.subject()
    images = np.array(cell.images)
    images[1] = 0.5
    frame = make.score(
        replace(cell, images=images), metric="IROF", segmentation_method="felzenszwalb"
    )
    assert frame["reason"][1] == "the image is a single segment"
    with pytest.raises(ValueError, match="segmentation_method: found 'grid'"):
        IROF(segmentation_method="grid")


def test_road_follows_the_class_alone_on_colour_images():
    """A class that depends on one pixel is lost when its neighbours cannot tell what it was."""
    weights = np.zeros((make.CLASSES, 3, 16, 16))
    weights[0, :, 5, 5], weights[1] = 1, 6e-3
    images = np.full((4, 3, 16, 16), 0.1, dtype=np.float32)
    images[:, :, 5, 5] = 1.0
    cell = make.subject(model=make.Linear(weights).eval(), images=images)
    cell = replace(cell, classes=np.tile([0, 1], (4, 1)))
    marked = np.random.default_rng(0).random((4, 16, 16)) / 2
    marked[:, 5, 5] = [1, 1, -1, -1]
    recipe = {"metric": "ROAD", "percentages": [1, 30, 60, 80]}
    found = make.values(make.with_maps(cell, marked), **recipe)
    assert found.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="percentages: found"):
        make.values(cell, metric="ROAD", percentages=[50, 120])


def test_road_by_default_asks_for_fifty_percentages():
    found = make.score(make.subject(n=2), metric="ROAD")
    assert len(found["curve"][0]) == 50
    assert found.attrs["curves"]["m"]["at"][:2] == [0.01, 0.03]


# ---- normalised AOPC --------------------------------------------------------------------------


@pytest.mark.parametrize("search", ["greedy", "exact"])
def test_normalised_aopc_of_a_linear_model_is_one_for_the_exact_map_and_minus_one_reversed(search):
    cell = linear_cell(n=12)
    recipe = {"metric": "NormalisedAopc", "grid": 3, "search": search, "softmax": False}
    np.testing.assert_allclose(make.values(cell, **recipe), 1, atol=1e-4)
    opposite = make.with_maps(cell, -cell.maps[:, 0])
    np.testing.assert_allclose(make.values(opposite, **recipe), -1, atol=1e-4)


def test_normalised_aopc_is_relative_to_the_best_and_worst_of_all_orders():
    """With four regions all 24 orders can be tried."""
    cell = make.subject()
    regions = np.arange(16)[:, None] // 8 * 2 + np.arange(16) // 8
    sums = np.stack([[map_[regions == r].sum() for r in range(4)] for map_ in cell.maps[:, 0]])
    start = probabilities(cell, cell.images)

    def aopc(orders: np.ndarray) -> np.ndarray:
        drops = []
        for step in range(1, 5):
            gone = (regions[None, :, :, None] == orders[:, None, None, :step]).any(axis=3)
            drops.append(start - probabilities(cell, np.where(gone[:, None], 0, cell.images)))
        return np.mean(drops, axis=0)

    every = np.stack([aopc(np.tile(order, (6, 1))) for order in permutations(range(4))])
    spread = every.max(axis=0) - every.min(axis=0)
    first = np.argsort(-sums, axis=1)
    expected = (aopc(first) - aopc(first[:, ::-1])) / spread
    recipe = {"metric": "NormalisedAopc", "grid": 2}
    exact = make.values(cell, **recipe, search="exact")
    np.testing.assert_allclose(exact, expected, atol=1e-4)
    assert (np.abs(exact) <= 1 + 1e-6).all()
    # The greedy search may miss the best order, but not by much.
    greedy = make.values(cell, **recipe)
    assert (np.abs(greedy) >= np.abs(expected) - 1e-4).all()
    np.testing.assert_allclose(greedy, expected, rtol=0.25, atol=1e-3)


def test_normalised_aopc_of_noise_is_zero_on_average_and_turns_with_the_map():
    cell = make.subject(n=200)
    noise = np.random.default_rng(3).normal(size=(200, 16, 16))
    recipe = {"metric": "NormalisedAopc", "grid": 2}
    found = make.values(make.with_maps(cell, noise), **recipe)
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(200)
    np.testing.assert_allclose(make.values(make.with_maps(cell, -noise), **recipe), -found)


def test_normalised_aopc_is_the_same_for_scores_of_another_scale():
    class Scaled(make.Linear):
        def forward(self, images):
            return 3 + 7 * super().forward(images)

    cell = make.with_maps(linear_cell(n=8), distinct(8))
    other = replace(cell, model=Scaled(cell.model.weights.detach().numpy()).eval())
    recipe = {"metric": "NormalisedAopc", "grid": 3, "softmax": False}
    np.testing.assert_allclose(make.values(other, **recipe), make.values(cell, **recipe), atol=1e-4)
    raw = {"metric": "RegionPerturbation", "patch_size": 4, "softmax": False}
    np.testing.assert_allclose(make.values(other, **raw), 7 * make.values(cell, **raw), rtol=1e-3)


def test_normalised_aopc_of_a_model_that_sees_nothing_has_no_value():
    frame = make.score(deaf(linear_cell(n=3)), metric="NormalisedAopc", grid=2)
    assert set(frame["reason"]) == {"no order of removal lowers the score more than another"}
    with pytest.raises(ValueError, match="grid: found 1"):
        NormalisedAopc(grid=1)
    with pytest.raises(ValueError, match="grid: found 4, wanted at most 3"):
        NormalisedAopc(grid=4, search="exact")
    with pytest.raises(ValueError, match="grid: found 17, wanted at most 16"):
        make.values(linear_cell(n=3), metric="NormalisedAopc", grid=17)


def test_the_mean_of_the_curve_of_normalised_aopc_is_its_value():
    cell = make.subject()
    frame = make.score(cell, metric="NormalisedAopc", grid=3)
    means = [curve[1:].mean() for curve in frame["curve"]]
    np.testing.assert_allclose(means, frame["value"])
    assert all(curve[0] == curve[-1] == 0 for curve in frame["curve"])


# ---- what stands for removed pixels -----------------------------------------------------------


@pytest.mark.parametrize("name", STEPPING)
@pytest.mark.parametrize("baseline", ["white", "mean", "uniform", "blur", "noisy-linear"])
def test_every_imputer_can_be_named_and_each_image_counts_alone(name, baseline):
    cell = smooth(make.subject())
    recipe = {"metric": name, "perturb_baseline": baseline, **FLIPPING[name]}
    found = make.values(cell, **recipe)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(make.values(cell, 4, **recipe), found, atol=1e-4)
    alone = make.values(make.only(cell, [2]), **recipe)
    np.testing.assert_allclose(alone, found[[2]], atol=1e-4)
    black = make.values(cell, **{**recipe, "perturb_baseline": "black"})
    assert np.abs(found - black).max() > 1e-4


@pytest.mark.parametrize("name", STEPPING)
def test_an_imputer_that_does_not_exist_is_said(name):
    with pytest.raises(ValueError, match="perturb_baseline: found 'grey'"):
        make.values(make.subject(), metric=name, perturb_baseline="grey", **FLIPPING[name])


def test_an_imputer_changes_removed_pixels_alone():
    batch = make.batch(make.subject())
    removed = np.random.default_rng(0).random((6, 16, 16)) < 0.3
    for name in ("black", "white", "mean", "uniform", "blur", "noisy-linear"):
        found = Imputer(batch, name)(removed)
        assert found.dtype == np.float32
        changed = (found != batch.images).any(axis=1)
        assert not (changed & ~removed).any()
        assert changed[removed].mean() > 0.99
        np.testing.assert_array_equal(Imputer(batch, name)(removed[[4, 1]], [4, 1]), found[[4, 1]])


def test_linear_imputation_continues_a_slope_and_takes_the_mean_where_nothing_is_left():
    slope = np.tile(np.linspace(0, 1, 9, dtype=np.float32), (9, 1))
    images = np.stack([slope, slope])[:, None]
    removed = np.zeros((2, 9, 9), dtype=bool)
    removed[0, 2:7, 2:7] = removed[1] = True
    found = linear(images, removed, np.zeros_like(images))
    np.testing.assert_allclose(found[0, 0], slope, atol=1e-6)
    np.testing.assert_allclose(found[1], 0.5, atol=1e-6)


def test_the_noise_of_the_imputer_is_that_of_the_image_at_every_step():
    batch = make.batch(make.subject())
    clean, noisy = np.zeros((6, 16, 16), dtype=bool), Imputer(batch, "noisy-linear")
    clean[:, :4] = True
    noise = noisy(clean) - linear(batch.images, clean, np.zeros_like(batch.images))
    assert 0.008 < noise[:, :, :4].std() < 0.012
    more = clean.copy()
    more[:, 8:12] = True
    again = noisy(more) - linear(batch.images, more, np.zeros_like(batch.images))
    np.testing.assert_allclose(again[:, :, :4], noise[:, :, :4], atol=1e-6)


def test_a_blur_keeps_the_mean_and_takes_the_detail():
    batch = make.batch(make.subject())
    blurred = baselines(batch, "blur")
    assert blurred.std(axis=(2, 3)).max() < 0.25 * batch.images.std(axis=(2, 3)).min()
    np.testing.assert_allclose(blurred.mean(axis=(2, 3)), batch.images.mean(axis=(2, 3)), atol=0.03)


def test_flat_parts_of_a_map_are_not_removed_in_the_order_of_the_raster():
    """A map with one peak is flat elsewhere; what is removed next must not be the top rows."""
    maps = np.zeros((200, 8, 8), np.float32)
    maps[:, 4, 4] = 1
    ranks = pixel_order(maps, list(range(200)))
    assert (ranks[:, 4, 4] == 63).all()
    assert all(sorted(r.ravel().tolist()) == list(range(64)) for r in ranks)
    of_rows = ranks.mean(axis=0)
    assert np.abs(of_rows.ravel()[np.arange(64) != 36] - 31).max() < 5  # 31 +- 1.3 expected
    np.testing.assert_array_equal(ranks[:5], pixel_order(maps[:5], list(range(5))))


def test_ranks_keep_the_order_of_the_values():
    maps = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    maps[1] = np.round(maps[1])
    ranks = pixel_order(maps, [1, 2, 3]).reshape(3, -1)
    for rank, values in zip(ranks, maps.reshape(3, -1), strict=True):
        assert (np.diff(values[np.argsort(rank)]) >= 0).all()


@pytest.mark.parametrize("baseline", ["mean", "uniform"])
def test_the_baseline_is_the_same_after_every_step(baseline):
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, images):
            seen.append(images.numpy().copy())
            return images.mean(dim=(2, 3))

    cell = replace(
        make.subject(model=torch.nn.Identity(), maps=make.subject().maps), model=Spy().eval()
    )
    cell = replace(cell, classes=cell.classes % 3)
    ranks = distinct().astype(np.float32)
    cell = make.with_maps(cell, ranks)
    make.score(cell, metric="PixelFlipping", features_in_step=16, perturb_baseline=baseline)
    last = seen[-1]
    first = ranks.reshape(6, -1).argmax(axis=1)
    rows = np.arange(6)
    one_step = seen[1].reshape(6, 3, -1)[rows, :, first]
    np.testing.assert_array_equal(one_step, last.reshape(6, 3, -1)[rows, :, first])
    if baseline == "mean":
        means = cell.images.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(last, np.broadcast_to(means[:, None, None, None], last.shape))
    else:
        assert len(np.unique(last)) > 0.9 * last.size
        assert abs(last.mean() - 0.5) < 0.02


# ---- defects of Quantus -----------------------------------------------------------------------


def test_defect_region_perturbation_calls_a_lower_drop_better():
    cell = linear_cell(n=8)
    best, worst = (
        np.mean(
            quantus_call(
                quantus.RegionPerturbation(patch_size=4, perturb_baseline=0.0, **PLAIN),
                cell,
                slice(None),
                sign * cell.maps[:, :1],
            )
        )
        for sign in (1, -1)
    )
    assert best > worst
    assert quantus.RegionPerturbation.score_direction.value == "lower"


def test_defect_irof_refuses_colour_images():
    cell = make.subject()
    with pytest.raises(AssertionError):
        quantus_call(quantus.IROF(perturb_baseline=0.0, **PLAIN), cell, slice(None))
    assert np.isfinite(make.values(cell, metric="IROF")).all()


def ragged_cell():
    """Return grey images of which the last has fewer segments than the others."""
    cell = grey_cell()
    images = np.array(cell.images)
    images[5] = np.kron(images[5, :, ::8, ::8], np.ones((8, 8), dtype=np.float32))
    return replace(cell, images=images)


def test_defect_irof_integrates_the_padding_of_images_with_fewer_segments():
    cell = ragged_cell()
    metric = quantus.IROF(
        segmentation_method="felzenszwalb",
        perturb_baseline=0.0,
        return_aggregate=False,
        **PLAIN,
    )
    alone = quantus_call(metric, cell, [5])
    beside = quantus_call(metric, cell, slice(None))
    assert abs(beside[5] - alone[0]) > 0.1
    recipe = {
        "metric": "IROF",
        "segmentation_method": "felzenszwalb",
        "perturb_baseline": "black",
    }
    assert make.values(cell, **recipe)[5] == pytest.approx(alone[0], rel=1e-4)


def test_defect_irof_takes_the_mean_of_the_whole_batch_for_removed_segments():
    cell = grey_cell()
    images = np.array(cell.images)
    images[1] = images[1] ** 8
    metric = quantus.IROF(return_aggregate=False, **PLAIN)
    alone = quantus_call(metric, cell, [0])[0]
    assert quantus_call(metric, replace(cell, images=images), [0, 1])[0] != pytest.approx(alone)


def test_defect_road_fails_on_colour_images():
    cell = make.subject()
    with pytest.raises(IndexError):
        quantus_call(quantus.ROAD(**PLAIN), cell, slice(None))


def test_defect_road_is_the_accuracy_of_the_first_batch():
    cell = grey_cell()
    cell = replace(cell, classes=probabilities_of_all(cell).argsort(axis=1)[:, ::-1][:, :2])
    wrong = np.array(cell.classes)
    wrong[3:] = wrong[3:, ::-1]
    cell = replace(cell, classes=wrong)
    metric = quantus.ROAD(percentages=[1], **PLAIN)
    assert quantus_call(metric, cell, slice(None), batch_size=3) == {1: 1.0}
    metric = quantus.ROAD(percentages=[1], **PLAIN)
    assert quantus_call(metric, cell, slice(None)) == {1: 0.5}
    assert make.values(cell, metric="ROAD", percentages=[1]).tolist() == [1, 1, 1, 0, 0, 0]


def test_defect_mean_baseline_drifts_from_step_to_step():
    cell = grey_cell()
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            seen.append(images.numpy().copy())
            return self.model(images)

    watched = replace(cell, model=Watching(cell.model).eval())
    metric = quantus.Selectivity(patch_size=8, perturb_baseline="mean", **PLAIN)
    with torch.no_grad():
        quantus_call(metric, watched, [0])
    assert len(np.unique(seen[-1].round(5))) > 1  # all removed, and not of one grey


def test_defect_flipping_channel_values_in_place_of_pixels():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, images):
            seen.append(images.numpy().copy())
            return images.mean(dim=(2, 3))

    images = np.full((3, 3, 8, 8), 0.5, np.float32)
    cell = make.subject(images=images, maps=np.zeros((3, 2, 8, 8)), model=Spy().eval())
    cell = make.with_maps(replace(cell, classes=cell.classes % 3), distinct(3, 8))

    def partly_removed():
        return max(
            ((image == 0).any(axis=0) & (image != 0).any(axis=0)).sum()
            for step in seen
            for image in step
        )

    metric = quantus.PixelFlipping(features_in_step=8, perturb_baseline=0.0, **PLAIN)
    quantus_call(metric, cell, slice(None))
    assert partly_removed() > 0
    eights = set(range(0, 65, 8))
    for recipe, steps in (
        ({"metric": "PixelFlipping", "features_in_step": 8}, eights),
        ({"metric": "Selectivity", "patch_size": 4}, {0, 16, 32, 48, 64}),
        ({"metric": "FaithfulnessCorrelation", "nr_runs": 4, "subset_size": 8}, {0, 8}),
    ):
        seen.clear()
        make.score(cell, **recipe)
        assert partly_removed() == 0
        gone = {int((image == 0).all(axis=0).sum()) for step in seen for image in step}
        assert gone | {0} == steps  # the untouched images may be remembered


def test_defect_black_is_the_darkest_value_of_the_image():
    cell = make.subject(channels=1)  # values from 0.1 to 0.9
    seen = []

    def forward(images):
        seen.append(images.detach().numpy().copy())
        return original(images)

    original, cell.model.forward = cell.model.forward, forward
    metric = quantus.PixelFlipping(features_in_step=64, perturb_baseline="black", **PLAIN)
    quantus_call(metric, cell, slice(None))
    assert seen[-1].min() > 0.05
    for recipe in (
        {"metric": "PixelFlipping", "features_in_step": 64},
        {"metric": "Selectivity", "patch_size": 4},
        {"metric": "FaithfulnessEstimate", "features_in_step": 64},
    ):
        for named in ({}, {"perturb_baseline": "black"}):
            seen.clear()
            make.score(cell, **recipe, **named)
            assert seen[-1].min() == 0
        seen.clear()
        make.score(cell, **recipe, perturb_baseline="white")
        assert seen[-1].max() == 1

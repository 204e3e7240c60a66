"""Promises of the games on mosaics: the draw, known answers, the nulls, and who cannot play."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from explained import classifier, pictures
from quantus.functions.mosaic_func import mosaic_creation
from torch import nn

from clarity.attribution.controls import RandomMap, SobelMap
from clarity.attribution.methods import Explainer, Setting
from clarity.attribution.recipe import MethodRecipe
from clarity.attribution.targets import TargetFunction
from clarity.metrics.mosaics import _Cells

SIZE = 8
GAMES = ("GridPointingGame", "Focus")
CHANCE = {"GridPointingGame": 1 / 4, "Focus": 1 / 2, "DiFull": 1 / 4, "DiPart": 1 / 4}


class Colours(nn.Module):
    """Scores a class by its own channel's mean, so that it takes images of any size."""

    def forward(self, images):
        return 40 * images.mean(dim=(2, 3))


def colours(n: int = 10) -> np.ndarray:
    """Images of a class each, with light in that class's channel alone."""
    images = np.zeros((n, make.CLASSES, SIZE, SIZE), dtype=np.float32)
    light = np.random.default_rng(3).uniform(0.3, 1, (n, SIZE, SIZE))
    images[np.arange(n), np.arange(n) % make.CLASSES] = light
    return images


def cell(explain=make.gradient_times_input, n: int = 10, **changed):
    return make.subject(model=Colours(), images=colours(n), explain=explain, **changed)


def agnostic(model, images, classes):
    return SobelMap(model).attribute(torch.from_numpy(np.array(images)), None)[:, 0].numpy()


def noise(model, images, classes):
    pair = torch.from_numpy(np.array(images)), torch.from_numpy(np.array(classes))
    return RandomMap(model).attribute(*pair)[:, 0].numpy()


def quarters(mosaic: np.ndarray) -> list[np.ndarray]:
    half = mosaic.shape[-1] // 2
    return [mosaic[..., r : r + half, c : c + half] for r in (0, half) for c in (0, half)]


class Spy:
    """Explains by a method and keeps what it was asked."""

    def __init__(self, explain):
        self.explain = explain
        self.asked = []

    def __call__(self, model, images, classes):
        maps = self.explain(model, images, classes)
        if images.shape[2] == 2 * SIZE:
            self.asked += list(zip(np.array(images), classes.tolist(), maps, strict=True))
        return maps


def owner(part: np.ndarray, images: np.ndarray) -> int:
    """Return the row of the image that a part of a mosaic is, byte by byte."""
    (found,) = np.flatnonzero((images == part).all(axis=(1, 2, 3)))
    return int(found)


def played(metric: str, explain=make.gradient_times_input, n: int = 10):
    """Return the values, and by mosaic the images in its cells and its map for each class."""
    spy = Spy(explain)
    whole = cell(spy, n)
    found = make.values(whole, metric=metric, batch_size=1)
    mosaics = {}
    for image, target, heat in spy.asked:
        parts = tuple(owner(part, whole.images) for part in quarters(image))
        mosaics.setdefault(parts, {})[target] = heat
    return found, mosaics


# ---- the draw ---------------------------------------------------------------------------------


def test_a_mosaic_holds_its_own_image_among_partners_of_distinct_other_classes():
    _, mosaics = played("GridPointingGame", n=40)
    assert len(mosaics) == 40
    for row, (parts, maps) in enumerate(mosaics.items()):
        classes = {part % make.CLASSES for part in parts}
        assert row in parts
        assert len(classes) == 4
        assert set(maps) == classes, "each cell's class is explained"
    assert {parts.index(row) for row, parts in enumerate(mosaics)} == {0, 1, 2, 3}
    assert len({part for parts in mosaics for part in parts}) == 40


def test_a_mosaic_of_focus_holds_two_classes_twice():
    _, mosaics = played("Focus", n=40)
    for row, (parts, maps) in enumerate(mosaics.items()):
        classes = [part % make.CLASSES for part in parts]
        assert row in parts
        assert len(set(parts)) == 4
        assert sorted(classes.count(label) for label in set(classes)) == [2, 2]
        assert set(maps) == set(classes)


@pytest.mark.parametrize("metric", [*GAMES, "MosaicAccuracy"])
def test_mosaics_depend_on_no_other_image_of_the_batch(metric):
    whole = make.trained(n=8)
    game = make.metric(make.MetricRecipe(metric=metric, confidence=0.0))
    batch = make.batch(whole)
    expected = game(batch).values
    assert np.isfinite(expected).all()
    for rows in ([3], [6, 1]):
        np.testing.assert_allclose(game(batch.rows(np.array(rows))).values, expected[rows], 1e-4)


@pytest.mark.parametrize("metric", GAMES)
def test_models_and_methods_meet_the_same_mosaics(metric):
    first, second = (played(metric, explain)[1] for explain in (make.gradient_times_input, noise))
    assert list(first) == list(second)


# ---- known answers and nulls --------------------------------------------------------------------


@pytest.mark.parametrize("metric", GAMES)
def test_a_game_is_won_by_a_map_that_keeps_to_its_cell_and_lost_by_one_that_shuns_it(metric):
    def reversed_(model, images, classes):
        return (make.gradient_times_input(model, images, classes) == 0).astype(np.float32)

    np.testing.assert_allclose(make.values(cell(), metric=metric), 1)
    np.testing.assert_allclose(make.values(cell(reversed_), metric=metric), 0)


@pytest.mark.parametrize("metric", GAMES)
def test_a_method_that_ignores_the_class_gets_chance_exactly(metric):
    found = make.values(cell(agnostic), metric=metric)
    np.testing.assert_allclose(found, CHANCE[metric], rtol=1e-12)


@pytest.mark.parametrize("metric", GAMES)
def test_noise_gets_chance_on_average(metric):
    found = make.values(cell(noise, 60), metric=metric)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - CHANCE[metric]) < 3 * error
    assert error < 0.005


def test_the_pointing_game_is_the_mean_share_of_positive_mass_in_the_own_cell():
    found, mosaics = played("GridPointingGame", noise)
    for value, (parts, maps) in zip(found, mosaics.items(), strict=True):
        shares = []
        for place, part in enumerate(parts):
            positive = maps[part % make.CLASSES].clip(min=0)
            shares.append(quarters(positive)[place].sum() / positive.sum())
        assert value == pytest.approx(np.mean(shares), rel=1e-5)


def test_focus_is_that_of_quantus_mosaic_by_mosaic_for_both_classes():
    found, mosaics = played("Focus", noise)
    for value, (parts, maps) in zip(found, mosaics.items(), strict=True):
        scores = []
        for label, heat in maps.items():
            places = tuple(int(part % make.CLASSES == label) for part in parts)
            scores += quantus.Focus(normalise=False, disable_warnings=True)(
                model=Colours(),
                x_batch=np.zeros((1, make.CLASSES, 2 * SIZE, 2 * SIZE), dtype=np.float32),
                y_batch=np.array([label]),
                a_batch=heat[None, None],
                custom_batch=[places],
                channel_first=True,
            )
        assert value == pytest.approx(np.mean(scores), rel=1e-5)


def test_mosaic_accuracy_is_the_share_of_parts_among_the_first_classes():
    np.testing.assert_allclose(make.values(cell(), metric="MosaicAccuracy"), 1)

    class Blind(Colours):
        """Sees classes 0 and 1, and else class 4: one part of those that it calls first lacks."""

        def forward(self, images):
            return super().forward(images) * torch.tensor([1.0, 1, 0, 0, 0]) + torch.tensor(
                [0, 0, 0, 0, 1e-3]
            )

    whole = replace(cell(), model=Blind())
    found = make.values(whole, metric="MosaicAccuracy", confidence=0.0)
    _, mosaics = played("GridPointingGame")
    for value, parts in zip(found, mosaics, strict=True):
        classes = {part % make.CLASSES for part in parts}
        # Of classes that score 0 alike, the first one comes first.
        seen = [*sorted({0, 1} & classes), 4]
        first = (seen + [c for c in range(5) if c not in seen])[:4]
        assert value == len(classes & set(first)) / 4


def test_mosaic_accuracy_means_nothing_where_all_classes_are_hits():
    class Four(Colours):
        def forward(self, images):
            return super().forward(images)[:, :4]

    frame = make.score(replace(cell(), model=Four()), metric="MosaicAccuracy")
    assert set(frame["reason"]) == {"the model scores no more classes than 4"}
    assert set(frame["status"]) == {"unavailable"}


# ---- what does not count -----------------------------------------------------------------------


@pytest.mark.parametrize("metric", [*GAMES, "MosaicAccuracy"])
def test_a_mosaic_counts_only_if_the_model_is_confident_of_each_part_alone(metric):
    images = colours(20)
    images[3] *= 1e-3  # the model has no idea of this one
    whole = make.subject(model=Colours(), images=images)
    frame = make.score(whole, metric=metric)
    everyone = make.score(whole, metric=metric, confidence=0.0)
    assert everyone["status"].eq("ok").all()
    assert frame["status"][3] == "unavailable"
    out = frame["status"].eq("unavailable")
    assert 1 < out.sum() < 20, "it is others' partner, too"
    assert set(frame["reason"][out]) == {"the model is not confident of a part of the mosaic"}
    np.testing.assert_allclose(frame["value"][~out], everyone["value"][~out])


@pytest.mark.parametrize("metric", GAMES)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (-1, "no positive mass in a map of the mosaic"),
        (0, "no positive mass in a map of the mosaic"),
        (1, "constant map of the mosaic"),
        (np.nan, "a map of the mosaic has values that are not finite"),
    ],
)
def test_a_map_that_tells_nothing_is_counted_and_not_scored(metric, value, reason):
    def explain(model, images, classes):
        maps = make.gradient_times_input(model, images, classes)
        maps[(classes == 2) & (images.shape[2] > SIZE)] = value
        return maps

    spied, mosaics = played(metric, explain)
    frame = make.score(cell(explain), metric=metric)
    hit = np.array([2 in maps for maps in mosaics.values()])
    assert 0 < hit.sum() < len(hit)
    np.testing.assert_array_equal(np.isnan(spied), hit)
    assert set(frame["reason"][hit]) == {reason}
    assert set(frame["status"][hit]) == {"nan"}
    np.testing.assert_allclose(frame["value"][~hit], 1)


def test_there_must_be_as_many_classes_as_cells():
    frame = make.score(cell(), metric="GridPointingGame", n=3)
    assert set(frame["status"]) == {"unavailable"}
    assert set(frame["reason"]) == {"a mosaic needs images of 9 classes, the evaluation set has 5"}


class Tokens(Colours):
    """Takes a larger image for several, as a network of a fixed number of tokens may."""

    def forward(self, images):
        return super().forward(torch.cat([images] * (images.shape[2] // SIZE)))


@pytest.mark.parametrize("model", [make.convnet(make.CLASSES, SIZE), Tokens()])
@pytest.mark.parametrize("metric", [*GAMES, "MosaicAccuracy"])
def test_a_network_for_one_size_of_image_cannot_play(metric, model):
    frame = make.score(make.subject(model=model, images=colours()), metric=metric, confidence=0.0)
    assert set(frame["status"]) == {"unavailable"}
    assert frame["reason"].str.startswith("the network takes no mosaics of 16x16 pixels").all()


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        ("GridPointingGame", {"n": 1}),
        ("DiFull", {"n": 0}),
        ("Focus", {"confidence": 1.5}),
        ("MosaicAccuracy", {"confidence": -0.1}),
    ],
)
def test_arguments_out_of_range_are_refused(metric, arguments):
    with pytest.raises(ValueError, match=r"found .*, wanted"):
        make.values(cell(), metric=metric, **arguments)


# ---- networks wired to cells --------------------------------------------------------------------


@pytest.mark.parametrize("encoder", [{"name": "convnet"}, {"name": "torchvision/resnet18"}])
def test_a_head_of_difull_sees_its_cell_as_an_image_alone_and_the_model_stays(encoder):
    score = TargetFunction(classifier(encoder), "prototype")
    mosaics = pictures(2, 3, 64)
    trunk = type(score.encoder.trunk)
    wired = _Cells(score, 2, apart=True)(mosaics)
    alone = torch.stack([score(part) for part in quarters(mosaics)], dim=1)
    torch.testing.assert_close(wired, alone.flatten(1), rtol=1e-4, atol=1e-4)
    assert type(score.encoder.trunk) is trunk
    assert score(mosaics).shape == (2, make.CLASSES)


def test_heads_of_dipart_see_the_last_maps_of_the_whole_mosaic():
    score = TargetFunction(classifier())
    mosaics = pictures(2, 3, 64)
    wired = _Cells(score, 2, apart=False)(mosaics)
    maps = score.encoder.maps(score.encoder.trunk(score.normalised(mosaics)))
    parts = torch.stack([score.of_maps(part) for part in quarters(maps)], dim=1)
    torch.testing.assert_close(wired, parts.flatten(1))


@pytest.mark.parametrize("method", ["InputXGradient", "DeepLift", "GuidedBackprop"])
def test_difull_is_1_for_methods_that_are_exact(method):
    np.testing.assert_allclose(make.values(make.trained(method=method), metric="DiFull"), 1)


def test_difull_is_1_for_traced_methods_on_a_network_that_ends_early():
    """The trunks of torchvision's networks end by a hook, which tracing keeps for its owner."""
    wired = _Cells(TargetFunction(classifier({"name": "torchvision/resnet18"})), 2, apart=True)
    for method in ("GuidedBackprop", "HiResCAM"):
        maps = Explainer(MethodRecipe(method=method), wired.eval())(
            pictures(1, 3, 64),
            torch.tensor([make.CLASSES]),  # class 0 in the second cell
        )
        masses = [part.clamp_min(0).sum().item() for part in quarters(maps)]
        # Maps are upsampled over the borders of cells.
        assert masses[1] / sum(masses) > (0.7 if method == "HiResCAM" else 0.999)


def test_class_activation_maps_of_cells_take_the_whole_network_and_not_its_mean():
    """Ablation-CAM knows a short cut for networks whose embedding is the mean of all places."""
    for metric in ("DiFull", "DiPart"):
        layerwise = make.values(make.trained(method="HiResCAM"), metric=metric)
        assert layerwise.min() > 0.7
    wired = _Cells(TargetFunction(classifier()), 2, apart=False).eval()
    images = pictures(1, 3, 64)
    maps = Explainer(MethodRecipe(method="AblationCAM"), wired)(images, torch.tensor([7]))
    with torch.no_grad():
        last = wired.encoder.maps(wired.encoder.trunk(wired.normalised(images)))
        start = wired.of_maps(last)[0, 7]
        total = torch.zeros_like(last[0, 0])
        for channel in range(last.shape[1]):
            ablated = last.clone()
            ablated[:, channel] = 0
            total += (start - wired.of_maps(ablated)[0, 7]) * last[0, channel]
    expected = nn.functional.interpolate(total[None, None], (64, 64), mode="bilinear")[0]
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("metric", ["DiFull", "DiPart"])
@pytest.mark.parametrize("method", ["SobelMap", "EigenCAM", "RandomMap"])
def test_controls_of_methods_have_the_chance_of_the_game(metric, method):
    found = make.values(make.trained(method=method), metric=metric)
    tolerance = 0.02 if method == "RandomMap" else 1e-6
    np.testing.assert_allclose(found, CHANCE[metric], atol=tolerance)


@pytest.mark.parametrize("metric", ["DiFull", "DiPart"])
def test_without_an_encoder_there_are_no_heads_to_wire(metric):
    frame = make.score(cell(), metric=metric)
    assert set(frame["reason"]) == {"the model has no encoder that could be run cell by cell"}
    assert set(frame["status"]) == {"unavailable"}


def test_a_vision_transformer_plays_only_where_cells_are_apart():
    small = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    score = TargetFunction(
        classifier({"name": "timm/vit_tiny_patch16_224", "arguments": small}, size=32)
    )
    images = pictures(10, 3, 32).numpy()
    whole = make.subject(model=score, images=images)
    frame = make.score(whole, metric="GridPointingGame", confidence=0.0)
    assert frame["reason"].str.startswith("the network takes no mosaics of 64x64 pixels").all()
    np.testing.assert_allclose(make.values(whole, metric="DiFull"), 1)


# ---- Quantus ------------------------------------------------------------------------------------


def test_defect_focus_scores_a_map_without_positive_values_as_if_it_pointed_elsewhere():
    maps = np.stack([-np.arange(1.0, 17).reshape(1, 4, 4)] * 2)
    found = quantus.Focus(normalise=False, disable_warnings=True).evaluate_batch(
        a_batch=maps, c_batch=[(1, 1, 0, 0)] * 2
    )
    np.testing.assert_array_equal(found, 0)


def test_defect_mosaics_of_seed_zero_are_not_seeded():
    images, labels = np.zeros((60, 1, 2, 2)), np.arange(60) % 3
    draws = [mosaic_creation(images, labels, 10, seed=0)[1] for _ in range(3)]
    assert not draws[0] == draws[1] == draws[2]
    draws = [mosaic_creation(images, labels, 10, seed=1)[1] for _ in range(3)]
    assert draws[0] == draws[1] == draws[2]


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "GradientShap", "n_samples": 4},
        {"method": "InputXGradient"},
        {"method": "LRP"},
        {"method": "IntegratedGradients", "n_steps": 4, "baseline": "sample"},
    ],
    ids=lambda recipe: recipe["method"],
)
@pytest.mark.parametrize("metric", ["GridPointingGame", "DiFull", "DiPart"])
def test_methods_that_know_training_images_or_rules_play_too(recipe, metric):
    model = classifier(size=16)
    setting = Setting(references=pictures(3, size=16))
    whole = make.trained(size=16)
    explainer = Explainer(MethodRecipe(**recipe), model, setting)

    def explain(score, images, classes):
        made = Explainer(MethodRecipe(**recipe), score, setting)
        return made(torch.from_numpy(np.array(images)), torch.from_numpy(np.array(classes))).numpy()

    cell = replace(whole, model=explainer.score, explain=explain)
    more = {"confidence": 0} if metric == "GridPointingGame" else {}
    frame = make.score(cell, metric=metric, **more)
    assert frame["status"].eq("ok").all(), frame["reason"].unique()
    if metric == "DiFull":
        # An exact method finds nothing beyond the cell.
        np.testing.assert_allclose(frame["value"], 1, atol=1e-5)


@pytest.mark.parametrize("metric", ["GridPointingGame", "MosaicAccuracy", "Focus", "DiFull"])
def test_scenes_are_no_part_of_a_mosaic(metric):
    whole = make.trained(n=12)
    mixed = replace(whole, single=np.arange(12) >= 4)  # the scenes come first
    frame = make.score(mixed, metric=metric, images="scenes")
    assert frame["status"].eq("unavailable").all()
    assert frame["reason"].eq("a mosaic is made of single images, not of two-class scenes").all()

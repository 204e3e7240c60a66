"""Promises of the explorer's data: a sample of all classes, true maps and scores, a page's size."""

import base64
import gzip
import json

import numpy as np
import pytest
from synthetic import Synthetic

from clarity import storage
from clarity.report import explorer


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def told(results: Synthetic, **changes) -> list[tuple[dict, list[np.ndarray]]]:
    """Return what the page knows of each dataset, and the maps of each image."""
    metrics = {
        name: {"category": known.category, "direction": known.direction}
        for name, known in results.metrics.items()
    }
    found = explorer.explore(
        results.root, results.grid, metrics=metrics, controls=results.controls, **changes
    )
    datasets = []
    for one in found:
        about = json.loads(unpacked(one.about))
        shape = (len(about["losses"]), len(about["methods"]), about["kept"], *about["shape"])
        maps = [np.frombuffer(unpacked(m), np.int8).reshape(shape) for m in one.maps]
        assert len(maps) == one.images == len(about["images"])
        datasets.append((about, maps))
    return datasets


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Synthetic(
        tmp_path_factory.mktemp("results"),
        seeds=(3, 1),
        unavailable=[("triplet", "gradcam")],
        failed=[("digits", "supcon", 3)],
        scene_images=30,
    ).write()


def test_maps_are_the_stored_ones_in_steps_of_their_scale(results):
    for about, maps in told(results):
        rows = [image["row"] for image in about["images"]]
        for at, loss in enumerate(about["losses"]):
            for column, method in enumerate(about["methods"]):
                folder = f"dataset={about['dataset']}/loss={loss}/seed=3/method={method}"
                path = results.root / folder / "attributions.safetensors"
                if about["reasons"][at][column]:
                    assert storage.read_tensor_metadata(path)["status"] == "unavailable"
                    assert not any(image[at, column].any() for image in maps)
                    continue
                tensors, _ = storage.read_tensors(path)
                for place, row in enumerate(rows):
                    scales = np.array(about["scales"][at][column][place])[:, None, None]
                    stored = tensors["maps"][row]
                    expected = np.clip(stored, -scales, scales)
                    found = maps[place][at, column] * scales / explorer.STEPS
                    np.testing.assert_allclose(
                        found, expected, atol=float(scales.max()) * 0.51 / explorer.STEPS
                    )
                    assert about["explained"][at][place] == tensors["classes"][row].tolist()


def test_scores_and_predictions_are_those_of_the_files(results):
    for about, _ in told(results):
        rows = [image["row"] for image in about["images"]]
        metrics = [metric["name"] for metric in about["metrics"]]
        for at, loss in enumerate(about["losses"]):
            run = results.root / f"dataset={about['dataset']}/loss={loss}/seed=3"
            for column, method in enumerate(about["methods"]):
                scores = storage.read_table(run / f"method={method}/scores.parquet")
                known = scores.set_index(["image", "metric"])["value"]
                for place, row in enumerate(rows):
                    shown = about["scores"][at][column][place]
                    for metric, value in zip(metrics, shown, strict=True):
                        expected = known.get((row, metric), np.nan)
                        assert (value is None) == np.isnan(expected)
                        if value is not None:
                            assert value == pytest.approx(expected, rel=1e-5)
            predictions = storage.read_table(run / "predictions.parquet")
            mine = predictions[predictions["split"] == "evaluation"]
            expected = mine.set_index("image")["predicted"].reindex(rows, fill_value=-1)
            assert about["predicted"][at] == expected.tolist()


def test_a_run_that_failed_has_no_maps_and_says_why(results):
    digits, _ = told(results)[0]
    place = digits["losses"].index("supcon")
    assert all("diverged in epoch 3" in reason for reason in digits["reasons"][place])
    assert set(digits["predicted"][place]) == {-1}


def test_pixels_and_objects_are_those_of_the_images(results):
    about, _ = told(results)[1]
    rows = [image["row"] for image in about["images"]]
    file = results.root / "dataset=scenes/evaluation.safetensors"
    images = storage.read_tensor_rows(file, "images", rows)
    pixels = np.frombuffer(unpacked(about["pixels"]), np.uint8)
    np.testing.assert_array_equal(
        pixels.reshape(len(rows), *about["shape"], 3), images.transpose(0, 2, 3, 1)
    )
    masks = np.frombuffer(unpacked(about["masks"]), np.uint8)
    stored = storage.read_tensor_rows(file, "masks", rows)
    np.testing.assert_array_equal(masks.reshape(stored.shape), stored > 0)


def test_controls_come_last(results):
    about, _ = told(results)[0]
    assert about["methods"][-about["controls"] :] == results.controls


def test_a_dataset_without_an_evaluation_set_cannot_be_explored(tmp_path):
    made = Synthetic(tmp_path, seeds=(0,), datasets=("digits",)).write()
    (tmp_path / "dataset=digits/evaluation.safetensors").unlink()
    assert told(made) == []


def test_a_cell_that_is_not_there_is_named(tmp_path):
    made = Synthetic(tmp_path, seeds=(0,), datasets=("digits",)).write()
    folder = tmp_path / "dataset=digits/loss=triplet/seed=0/method=gradcam"
    for file in folder.iterdir():
        file.unlink()
    ((about, _),) = told(made)
    place = about["losses"].index("triplet"), about["methods"].index("gradcam")
    assert "no file" in about["reasons"][place[0]][place[1]]
    assert {value for image in about["scores"][place[0]][place[1]] for value in image} == {None}


# What is shown


@pytest.mark.parametrize("stored", [2, 8, 1000])
@pytest.mark.parametrize("side", [8, 32, 224])
@pytest.mark.parametrize("cells", [1, 18, 250, 5000])
def test_a_dataset_keeps_to_its_budget_unless_one_small_image_is_too_much(cells, stored, side):
    budget = 3_000_000
    small, kept, count = explorer.plan(cells, stored, side, 160, budget)
    assert 1 <= count <= explorer.MOST
    assert small <= min(side, explorer.SIDES[0][0])
    assert min(stored, 2) <= kept <= stored
    assert cells * kept * small * small * count <= budget or (count, small) == (
        1,
        min(side, explorer.SIDES[-1][0]),
    )


def test_more_classes_are_kept_only_where_enough_images_are_left():
    assert explorer.plan(18, 10, 28, 100, 3_000_000)[1:] == (10, 21)
    assert explorer.plan(250, 10, 28, 100, 3_000_000)[1] == 2


def test_a_small_page_still_holds_its_datasets(results):
    for about, maps in told(results, budget=60_000):
        assert max(about["shape"]) < 32
        assert len(maps) >= 1


def test_images_are_chosen_from_all_classes_and_kinds_and_own_ones_come_first():
    singles = [(label, -1) for label in (0, 0, 0, 1, 1, 2)]
    pairs = [(0, 1), (0, 2), (1, 2), (2, 0)]
    classes = np.array(singles + pairs + [(3, -1)])
    assert explorer.chosen_images(classes, 0, 6).tolist() == [0, 3, 5, 6, 8, 9]
    assert explorer.chosen_images(classes, 1, 3).tolist() == [0, 10, 6]
    assert sorted(explorer.chosen_images(classes, 0, 99)) == list(range(len(classes)))
    only = np.array(singles)
    assert explorer.chosen_images(only, 0, 4).tolist() == [0, 1, 3, 5]


# Maps


def test_a_reduced_map_has_the_means_of_the_areas():
    maps = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    expected = maps.reshape(2, 3, 4, 3, 4, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(explorer.reduced(maps, (4, 4)), expected, rtol=1e-4, atol=1e-6)
    assert explorer.reduced(maps, (12, 12)) is maps


@pytest.mark.parametrize(
    ("height", "width", "side", "shape"),
    [
        (32, 32, 64, (32, 32)),
        (224, 224, 56, (56, 56)),
        (100, 50, 20, (20, 10)),
        (9, 300, 30, (1, 30)),
    ],
)
def test_a_reduced_map_keeps_its_shape(height, width, side, shape):
    assert explorer.reduced_shape(height, width, side) == shape


def test_maps_of_zeros_and_of_no_numbers_are_told_from_others():
    maps = np.zeros((3, 4, 4))
    maps[1, 0, 0], maps[2, 0, 0] = -2.0, np.nan
    steps, scales = explorer.in_steps(maps)
    assert scales[0] == 0
    assert scales[1] > 0
    assert np.isnan(scales[2])
    assert not steps[[0, 2]].any()
    assert steps[1, 0, 0] == -explorer.STEPS


def test_one_pixel_alone_sets_the_scale_of_a_map_that_is_0_elsewhere():
    maps = np.zeros((1, 40, 40))
    maps[0, 3, 3] = 5.0
    steps, scales = explorer.in_steps(maps)
    assert scales[0] == 5.0
    assert steps[0, 3, 3] == explorer.STEPS

"""Promises of the stage `evaluate`: one process, all methods; what is shared changes no byte."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from explained import NAMES, classifier, pictures

from clarity import catalogue, provenance, storage
from clarity.attribution.recipe import MethodRecipe
from clarity.data.sets import NONE, EvaluationSet
from clarity.grid import Run
from clarity.metrics.recipe import MetricRecipe
from clarity.models import classifier as models
from clarity.stages.attribute import attribute_run
from clarity.stages.evaluate import evaluate_run

METHODS = {
    "gradcam": {"method": "LayerGradCam"},
    "prototype": {"method": "LayerGradCam", "target": "prototype"},
    "saliency": {"method": "Saliency"},
    "shapley": {"method": "ShapleyValues", "segments": {"name": "grid", "count": 16}},
    "random": {"method": "RandomMap"},
}
METRICS = {
    "correlation": {"metric": "FaithfulnessCorrelation", "nr_runs": 3, "subset_size": 32},
    "flipping": {"metric": "PixelFlipping", "features_in_step": 256},
    "max-sensitivity": {"metric": "MaxSensitivity", "nr_samples": 2, "lower_bound": 0.02},
    "avg-sensitivity": {"metric": "AvgSensitivity", "nr_samples": 2, "lower_bound": 0.02},
    "mprt": {"metric": "MPRT"},
    "mass": {"metric": "DiscriminativeMass"},
    "parts": {"metric": "TargetSensitivity"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model, images and the maps of each method."""
    root = tmp_path_factory.mktemp("run")
    pixels = (pictures(6) * 255).to(torch.uint8).numpy()
    masks = np.zeros((6, 2, 32, 32), dtype=bool)
    masks[3:, 0, :, :12] = masks[3:, 1, :, 20:] = True
    without = np.where(masks[:, :, None], 127, pixels[:, None]).astype(np.uint8)
    EvaluationSet(
        pixels,
        np.array([[0, NONE], [3, NONE], [2, NONE], [1, 4], [4, 2], [0, 3]]),
        np.array([0, 1, 2, NONE, NONE, NONE]),
        masks,
        NAMES,
        references=pixels[:2],
        without=without,
    ).write(root / "evaluation.safetensors")
    rows = pd.DataFrame({"split": "evaluation", "runner_up": [1, 0, 4, 0, 0, 1]})
    storage.write_table(root / "predictions.parquet", rows)
    models.save(classifier(), root / "model.safetensors")
    attribute_run(
        root / "model.safetensors",
        root / "evaluation.safetensors",
        root / "predictions.parquet",
        {name: root / f"{name}.safetensors" for name in METHODS},
        methods={name: MethodRecipe(**recipe) for name, recipe in METHODS.items()},
        seed=0,
        classes="all",
        memory=None,
        compress=False,
        code=dict.fromkeys(METHODS, "code"),
        costs=root / "costs",
    )
    return root


def run(root, target, methods=METHODS, metrics=METRICS, **more):
    """Evaluate some methods and return their tables."""
    target.mkdir(exist_ok=True)
    options = {"code": dict.fromkeys(METHODS, "code"), "batch_size": 64, "memory": None, **more}
    evaluate_run(
        root / "model.safetensors",
        root / "evaluation.safetensors",
        {name: root / f"{name}.safetensors" for name in methods},
        {name: target / f"{name}.parquet" for name in methods},
        Run("d", "l", 0),
        methods={name: MethodRecipe(**METHODS[name]) for name in methods},
        metrics={name: MetricRecipe(**recipe) for name, recipe in metrics.items()},
        costs=target / "costs",
        **options,
    )
    return {name: storage.read_table(target / f"{name}.parquet") for name in methods}


@pytest.fixture(scope="module")
def together(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("together")
    return run(folder, target), target


def test_every_metric_has_rows_in_every_cell(together):
    found, _ = together
    for name, frame in found.items():
        assert set(frame["metric"]) == set(METRICS)
        if name != "shapley":
            broken = frame[frame["status"] == "nan"]
            assert broken.empty, broken
    assert found["shapley"]["status"].eq("unavailable").all()
    assert found["shapley"]["reason"].str.contains("16 regions").all()


def test_a_cell_alone_has_the_same_bytes_as_beside_others(folder, together, tmp_path):
    for name in METHODS:
        run(folder, tmp_path, methods=[name])
        alone, beside = (path / f"{name}.parquet" for path in (tmp_path, together[1]))
        assert alone.read_bytes() == beside.read_bytes()


def test_methods_of_one_score_share_what_does_not_depend_on_their_maps(together):
    _, target = together
    spent = {
        name: storage.read_json(target / f"costs/{name}-metrics.json")
        for name in ("gradcam", "saliency", "random")
    }
    # What was asked is the same; how much of it came from memory shows in the time alone.
    asked = [spent[name]["correlation"]["forward"] for name in spent]
    assert len(set(asked)) == 1
    assert set(spent["gradcam"]) == set(METRICS)
    assert spent["gradcam"]["max-sensitivity"]["explained"] == 3 * 2


def test_curves_are_lists_with_what_their_points_are(together):
    _, target = together
    schema = pq.read_schema(target / "shapley.parquet")
    assert str(schema.field("curve").type) == "list<element: double>"
    for name in ("gradcam", "shapley"):
        assert (
            pq.read_schema(target / f"{name}.parquet").field("curve").type
            == schema.field("curve").type
        )
    metadata = storage.read_table_metadata(target / "gradcam.parquet")
    curves = json.loads(metadata["curves"])
    assert curves["flipping"]["axis"] == "share of pixels removed"
    assert curves["mprt"]["axis"] == "layer"
    frame = storage.read_table(target / "gradcam.parquet").set_index("metric")
    layers = frame.loc["mprt", "curve"]
    assert all(len(curve) == len(curves["mprt"]["at"]) for curve in layers)
    assert frame.loc["correlation", "curve"].isna().all()


def test_a_randomised_network_is_explained_by_the_same_method(together):
    found, _ = together
    frame = {name: table.set_index("metric") for name, table in found.items()}
    gradcam = frame["gradcam"].loc["mprt", "value"]
    assert (gradcam < 0.9).all()
    # A map that sees no network is the same whatever its weights.
    np.testing.assert_allclose(frame["random"].loc["mprt", "value"], 1, atol=1e-6)


@pytest.mark.parametrize("module", catalogue.METRICS)
def test_an_edit_of_a_metric_is_an_edit_of_the_stage(module):
    assert f"clarity.metrics.{module}" in provenance.closure("clarity.stages.evaluate")

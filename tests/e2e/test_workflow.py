"""Promises of the whole workflow: every stage, the same bytes on every way, only what is due."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from project import METRICS, TINY

from clarity import storage
from clarity.figures.names import figure_names
from clarity.statistics.comparisons import COLUMNS
from clarity.tables.names import table_files

RUN = "results/tiny/dataset=scenes/loss=supcon/seed=0"


def test_one_command_makes_every_table_every_figure_and_the_report(finished):
    results = finished.folder / "results/tiny"
    comparisons = results / "tables/comparisons.csv"
    table = pd.read_csv(comparisons)
    assert tuple(table) == COLUMNS
    assert len(table) == 3 * len(METRICS)  # methods x metrics, one pair of losses
    assert (table["verdict"] != "better").all(), "one seed shows nothing"
    assert (table.loc[table["metric"] == "discriminative-mass", "n_images"] <= 4).all()
    assert {file.name for file in (results / "tables").iterdir()} == set(table_files())
    figures = {file.name for file in (results / "figures").iterdir()}
    directed = table[table["direction"] != "none"]
    categories = directed["category"].unique()
    named = set(figure_names(["scenes"], METRICS, categories, ["deletion"]))
    assert figures == named | {"manifest.json"}
    spent = pd.read_csv(results / "tables/run-times.csv")
    counts = spent.groupby("stage").size()
    assert counts.to_dict() == {
        "training": 2,
        "trust": 2,
        "attribution": len(TINY["methods"]),
        "evaluation": len(TINY["methods"]) * len(METRICS),
    }
    assert (spent["seconds"] > 0).all()
    models = pd.read_csv(results / "tables/models.csv").set_index("loss")
    assert (models["status"] == "ok").all()
    # Two views of an image are two images of the budget.
    assert models.loc["supcon", "images_seen"] == models.loc["cross-entropy", "images_seen"]
    assert models["pgd-accuracy:0.03"].le(models["fgsm-accuracy:0.03"] + 0.05).all()
    page = (results / "report.html").read_text()
    assert "<table" in page
    assert "supcon" in page
    manifest = json.loads((finished.folder / RUN / "manifest.json").read_text())
    assert manifest["axes"] == {"dataset": "scenes", "loss": "supcon", "seed": 0}
    assert {"torch", "quantus", "captum", "python"} <= set(manifest["versions"])
    assert {"git", "host", "device", "threads", "seconds", "inputs"} <= set(manifest)


def test_a_run_that_diverges_stops_nothing_and_stands_in_the_tables_without_numbers(make_project):
    project = make_project()
    losses = {**TINY["losses"], "wild": {"loss": "TripletMarginLoss"}}
    scenes = {**TINY["datasets"]["scenes"], "exceptions": {"wild": {"learning-rate": 1e30}}}
    project.configure(losses=losses, datasets={"scenes": scenes})
    project.run()
    tables = project.folder / "results/tiny/tables"
    models = pd.read_csv(tables / "models.csv").set_index("loss")
    assert models["status"].to_dict() == {"cross-entropy": "ok", "supcon": "ok", "wild": "diverged"}
    assert models.loc["wild", "status_epoch"] == 1
    assert np.isnan(models.loc["wild", "accuracy"])
    coverage = pd.read_csv(tables / "coverage.csv")
    # Of a model that tells no two objects apart there is one value less.
    some = coverage["metric"] == "target-sensitivity"
    np.testing.assert_allclose(coverage["unavailable"][~some], 1 / 3, rtol=1e-5)
    assert (coverage["unavailable"][some] > 0.33).all()
    summary = pd.read_csv(tables / "summary.csv")
    assert (summary.loc[summary["loss"] == "wild", "n_images"] == 0).all()
    assert (summary.loc[summary["loss"] == "supcon", "n_images"] > 0).any()
    page = (project.folder / "results/tiny/report.html").read_text()
    assert "diverged" in page


def test_results_are_one_partitioned_table(finished):
    scores = pd.concat(
        [
            pd.read_parquet(file).assign(method=file.parent.name.partition("=")[2])
            for file in sorted((finished.folder / RUN).rglob("scores.parquet"))
        ]
    )
    assert list(scores.columns[:6]) == ["image", "metric", "value", "status", "reason", "curve"]
    assert set(scores["method"]) == set(TINY["methods"])
    per_metric = scores.groupby(["method", "metric"]).size()
    assert (per_metric.xs("discriminative-mass", level="metric") == 4).all()
    assert (per_metric.xs("pixel-flipping", level="metric") == 8).all()
    assert (scores["status"].eq("ok") == scores["reason"].eq("")).all()
    assert (scores["status"].eq("ok") == np.isfinite(scores["value"])).all()


def test_nothing_is_left_to_do_afterwards(finished):
    assert finished.planned() == {}


@pytest.mark.parametrize("jobs", ["cell", "run"])
def test_jobs_of_another_size_on_two_cores_give_the_same_bytes(finished, jobs):
    expected = finished.artifacts("results/tiny")
    finished.run("--config", f"results=results/{jobs}", f"jobs={jobs}", cores=2)
    found = finished.artifacts(f"results/{jobs}")
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def test_the_rules_of_two_levels_make_the_tables_of_one(make_project, finished):
    project = make_project()
    common = project.folder / "workflow/rules/common.smk"
    common.write_text(common.read_text().replace("LARGE = 4000\n", "LARGE = 5\n"))
    shutil.copytree(finished.folder / "results/tiny", project.folder / "results/tiny")
    shutil.rmtree(project.folder / "results/tiny/tables")
    project.run("--touch", "train-all", "evaluate-all")
    table = "results/tiny/tables/comparisons.csv"
    assert project.planned(table) == {"gather_models": 1, "gather_block": 3, "compare": 1}
    assert "1 gather_models, 3 gather_block, 1 compare" in project.run("plan")
    project.run(table)
    found, expected = project.artifacts("results/tiny"), finished.artifacts("results/tiny")
    assert [name for name in expected if found.get(name) != expected[name]] == []
    parts = {name for name in found if name.startswith("parts/")}
    assert set(found) == set(expected) | parts
    assert len(parts) == 4 + 3 * 5


def test_one_deleted_cell_is_made_again_alone_with_the_same_bytes(finished):
    expected = finished.artifacts("results/tiny")
    cell = finished.folder / RUN / "method=gradcam"
    others = {
        file: file.stat().st_ino
        for file in (finished.folder / "results/tiny").rglob("*.*")
        if file.is_file() and cell not in file.parents and "logs" not in file.parts
    }
    shutil.rmtree(cell)
    finished.run(f"{RUN}/method=gradcam/scores.parquet", cores=1)
    assert finished.artifacts("results/tiny") == expected
    # A file that is written anew is another file; the others are still the same ones.
    assert {file for file, inode in others.items() if file.stat().st_ino != inode} == set()
    finished.run(cores=2)  # what depends on the cell, so that all is up to date again
    assert finished.artifacts("results/tiny") == expected


def test_a_run_killed_half_way_goes_on_to_the_same_bytes(finished):
    expected = finished.artifacts("results/tiny")
    process = finished.start("--config", "results=results/killed")
    killed = finished.folder / "results/killed"
    deadline = time.monotonic() + 300
    while not list(killed.rglob("attributions.safetensors")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # While it runs, another Snakemake may ask how far it is.
    said = finished.run("status", "--config", "results=results/killed")
    assert f"at work: process {process.pid}" in said
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "tables").exists()
    finished.run("--config", "results=results/killed")
    assert finished.artifacts("results/killed") == expected
    said = finished.run("status", "--config", "results=results/killed")
    assert "Nothing is left" in said
    assert "at work" not in said


def test_methods_of_every_kind_explain_all_classes_compressed_with_the_same_bytes(make_project):
    project = make_project()
    project.configure(
        losses={"cross-entropy": {}},
        evaluation={**TINY["evaluation"], "classes": "all", "compress": True},
        methods={
            "gradcam": {"method": "LayerGradCam", "targets": ["logit", "contrast"]},
            "lrp": {"method": "LRP", "target": "knn", "foil": "class:upright ring"},
            "kernel-shap": {
                "method": "KernelShap",
                "n_samples": 90,
                "segments": "slic",
                "noise": {"name": "vargrad", "samples": 2},
            },
        },
        metrics={
            "sparseness": {"metric": "Sparseness"},
            "discriminative-mass": {"metric": "DiscriminativeMass"},
        },
    )
    project.run("attribute-all", "evaluate-all")
    expected = project.artifacts("results/tiny")
    project.run("attribute-all", "evaluate-all", "--config", "results=results/cells", "jobs=cell")
    assert project.artifacts("results/cells") == expected
    run = project.folder / "results/tiny/dataset=scenes/loss=cross-entropy/seed=0"
    for method in ("gradcam", "gradcam-contrast", "lrp", "kernel-shap"):
        file = run / f"method={method}" / "attributions.safetensors"
        tensors, metadata = storage.read_tensors(file)
        assert metadata["status"] == "ok", metadata["reason"]
        assert tensors["maps"].shape == (12, 4, 32, 32)
        assert (np.sort(tensors["classes"], axis=1) == np.arange(4)).all()
        two = storage.read_tensor_rows(file, "maps", [11, 3], columns=2)
        assert (two == tensors["maps"][[11, 3], :2]).all()
        cost = (
            project.folder
            / "results/tiny/logs/costs"
            / run.relative_to(project.folder / "results/tiny")
        )
        assert storage.read_json(cost / f"{method}.json")["bytes"] == file.stat().st_size
        scores = pd.read_parquet(file.with_name("scores.parquet"))
        assert len(scores) == 8 + 4
    recipe = json.loads(
        storage.read_tensor_metadata(run / "method=kernel-shap/attributions.safetensors")["recipe"]
    )
    assert (recipe["segments"]["compactness"], recipe["baseline"]["name"]) == (10.0, "black")


class TestOnlyWhatIsDue:
    @pytest.fixture(autouse=True)
    def back(self, finished):
        yield
        finished.configure()

    def test_another_seed_runs_its_own_jobs_only(self, finished):
        finished.configure(seeds=[0, 1])
        assert finished.planned() == {
            "train": 2,
            "trust": 2,
            "attribute": 2,
            "evaluate": 2,
            "compare": 1,
            "figures": 1,
            "report": 1,
        }

    def test_another_parameter_of_a_metric_reruns_evaluation_and_what_follows(self, finished):
        metrics = {**TINY["metrics"], "random-logit": {"metric": "RandomLogit", "scale": "none"}}
        finished.configure(metrics=metrics)
        planned = finished.planned()
        assert planned["evaluate"] == 2
        assert set(planned) == {"evaluate", "compare", "figures", "report"}

    def test_another_argument_of_a_loss_reruns_that_loss_only(self, finished):
        losses = {**TINY["losses"], "supcon": {**TINY["losses"]["supcon"], "temperature": 0.2}}
        finished.configure(losses=losses)
        planned = finished.planned()
        assert planned["train"] == planned["attribute"] == planned["evaluate"] == 1
        assert "prepare" not in planned

    def test_another_number_of_epochs_does_not_prepare_the_data_again(self, finished):
        datasets = {"scenes": {**TINY["datasets"]["scenes"], "epochs": 2}}
        finished.configure(datasets=datasets)
        planned = finished.planned()
        assert planned["train"] == 2
        assert "prepare" not in planned

    @pytest.mark.parametrize(
        ("module", "first", "not_before"),
        [
            ("training/fit", "train", {"prepare"}),
            ("trust/attacks", "trust", {"prepare", "train", "attribute", "evaluate"}),
            ("attribution/controls", "attribute", {"prepare", "train"}),
            ("metrics/contrastivity", "evaluate", {"prepare", "train", "attribute"}),
            ("statistics/resampling", "compare", {"prepare", "train", "attribute", "evaluate"}),
        ],
    )
    def test_changed_source_reruns_its_stage_and_none_before(
        self, finished, module, first, not_before
    ):
        file = finished.folder / f"src/clarity/{module}.py"
        source = file.read_text()
        file.write_text(source + "\n# changed\n")
        try:
            planned = finished.planned()
        finally:
            file.write_text(source)
        assert first in planned
        assert not not_before & set(planned)


def test_a_method_that_is_added_computes_its_own_cells_only(make_project):
    project = make_project()
    project.run("evaluate-all")
    before = {
        file: file.stat().st_ino for file in (project.folder / "results").rglob("method=*/*.*")
    }
    project.configure(methods={**TINY["methods"], "sobel": {"method": "SobelMap"}})
    project.run("evaluate-all")
    assert {file for file, inode in before.items() if file.stat().st_ino != inode} == set()
    assert (project.folder / RUN / "method=sobel/scores.parquet").exists()


BROKEN = """
from clarity.attribution.protocol import MethodUnavailable

class Broken:
    def __init__(self, model): ...
    def attribute(self, inputs, target):
        raise RuntimeError("this method is broken")

class Unable:
    def __init__(self, model): ...
    def attribute(self, inputs, target):
        raise MethodUnavailable("no spatial maps here")
"""


BROKEN_METRIC = """
class Broken:
    def __init__(self): ...
    def __call__(self, batch):
        raise RuntimeError("this metric is broken")
"""


def test_a_failing_cell_stops_no_other_and_the_tables_say_what_is_missing(make_project):
    project = make_project()
    (project.folder / "src/mine.py").write_text(BROKEN)
    methods = {
        **TINY["methods"],
        "broken": {"method": "mine:Broken"},
        "unable": {"method": "mine:Unable"},
    }
    project.configure(methods=methods, jobs="cell")
    printed = project.run("--keep-going", check=False)
    assert "Error in rule attribute" in printed
    log = project.folder / "results/tiny/logs/attribute/scenes,supcon,0,broken.log"
    assert "this method is broken" in log.read_text()
    done = {path.parent.name for path in (project.folder / RUN).rglob("scores.parquet")}
    assert done == {f"method={name}" for name in methods if name != "broken"}
    project.run("tables-partial")
    tables = project.folder / "results/tiny/partial/tables"
    missing = pd.read_csv(tables / "missing.csv")
    assert set(missing["method"].dropna()) == {"broken"}
    coverage = pd.read_csv(tables / "coverage.csv")
    unable = coverage[coverage["method"] == "unable"]
    assert len(unable) == len(METRICS)
    assert (unable["unavailable"] == 1).all()
    assert unable["reason"].str.contains("no spatial maps here").all()
    comparisons = pd.read_csv(tables / "comparisons.csv")
    # The maps of a model that is hardly trained may have no positive mass on any of four scenes.
    few = comparisons["metric"].isin(["discriminative-mass", "target-sensitivity"])
    rows = (comparisons["method"] == "gradcam") & ~few
    assert comparisons.loc[rows, "n_runs"].tolist() == [1] * (len(METRICS) - 2)


@pytest.mark.parametrize("jobs", ["run", "model"])
def test_what_a_job_made_before_the_config_changed_never_counts_when_it_then_fails(
    make_project, finished, jobs
):
    project = make_project()
    for part in ("results/tiny", ".snakemake/metadata"):
        shutil.copytree(finished.folder / part, project.folder / part)
    project.configure(jobs=jobs)
    project.run("train-all", "evaluate-all")  # takes up what is there
    (project.folder / "src/mine.py").write_text(BROKEN_METRIC)
    project.configure(jobs=jobs, metrics={**TINY["metrics"], "mine": {"metric": "mine:Broken"}})
    for _ in range(2):
        said = project.run("evaluate-all", "--keep-going", check=False)
        assert f"Error in rule {'run' if jobs == 'run' else 'evaluate'}" in said
        assert not list(project.folder.rglob("scores.parquet")), "they lack what is asked for"
    # Mended, it takes up all that the metric has no part in.
    before = {
        file: file.stat().st_mtime_ns
        for file in (project.folder / "results/tiny/logs/costs").rglob("*.json")
        if not file.stem.endswith("-metrics") and "jobs" not in file.parts
    }
    project.configure(jobs=jobs)
    project.run("evaluate-all")
    assert [file for file, mark in before.items() if file.stat().st_mtime_ns != mark] == []
    found, expected = project.artifacts("results/tiny"), finished.artifacts("results/tiny")
    assert [name for name in expected if found[name] != expected[name]] == []


def test_a_truncated_file_between_stages_is_named_with_how_to_remake_it(make_project):
    project = make_project()
    project.run("train-all")
    model = project.folder / RUN / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    project.run("evaluate-all", "--keep-going", check=False)
    log = (project.folder / "results/tiny/logs/attribute/scenes,supcon,0.log").read_text()
    assert f"{RUN}/model.safetensors: cannot be read" in log
    assert "Delete this file and run snakemake again" in log
    other = RUN.replace("supcon", "cross-entropy")
    assert list((project.folder / other).rglob("scores.parquet"))
    assert not list((project.folder / RUN).rglob("scores.parquet"))
    model.unlink()
    project.run("evaluate-all")
    assert len(list((project.folder / RUN).rglob("scores.parquet"))) == len(TINY["methods"])


def test_bad_config_is_refused_before_any_job_starts(make_project):
    project = make_project()
    losses = {**TINY["losses"], "triplet": {"loss": "TripletMarginLoss", "margn": 0.2}}
    project.configure(losses=losses, seeds=[0, 0])
    printed = project.run(check=False)
    assert "losses.triplet.margn: unknown argument of TripletMarginLoss" in printed
    assert "did you mean 'margin'?" in printed
    assert "seeds: found [0, 0], wanted each seed once" in printed
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize("config", ["config.yaml", "config/smoke.yaml"])
def test_the_grids_that_come_with_the_project_are_valid_and_complete(config, make_project):
    project = make_project()
    shutil.copy(project.folder / config, project.folder / "tiny.yaml")
    planned = project.planned("--config", "results=results/other")
    runs = 2 * 3 * (3 if config == "config.yaml" else 2)
    assert {"prepare": 2, "run": runs, "compare": 1, "report": 1}.items() <= planned.items()


def test_a_config_on_the_command_line_stands_in_for_the_default_one(finished):
    text = finished.run("--dry-run", "--forceall")
    assert not re.search(r"dataset=mnist|loss=triplet", text)


def test_the_profile_for_slurm_is_understood(make_project):
    project = make_project()
    text = project.run("--dry-run", "--profile", "slurm")
    assert "This was a dry-run" in text
    assert Path(project.folder / "results").exists() is False

"""Promises of the check of results: whatever was altered or swapped is named, and nothing else."""

import json

import numpy as np
import pandas as pd
import pytest

from clarity import storage
from clarity.grid import TRAINED, Cell, Grid, Run
from clarity.stages.verify import verify

GRID = Grid(["d", "f"], ["ce", "triplet"], [0, 1], ["cam", "ig"])
RUN = Run("d", "triplet", 1)


def tensors(path, value: float, inputs: dict[str, str] | None = None) -> str:
    metadata = {} if inputs is None else {"inputs": json.dumps(inputs)}
    storage.write_tensors(path, {"x": np.full(5, value)}, metadata)
    return storage.digest(path)


def table(path, value: float, inputs: dict[str, str]) -> str:
    storage.write_table(path, pd.DataFrame({"x": [value]}), {"inputs": json.dumps(inputs)})
    return storage.digest(path)


@pytest.fixture
def root(tmp_path):
    """Results in which each file states what it was made from."""
    images = {
        dataset: {
            name: tensors(tmp_path / f"dataset={dataset}" / name, 2.0 * own + place)
            for place, name in enumerate(("data.safetensors", "evaluation.safetensors"))
        }
        for own, dataset in enumerate(GRID.datasets)
    }
    for place, run in enumerate(GRID.runs()):
        data, (foreign,) = images[run.dataset], (images[d] for d in images if d != run.dataset)
        seen = data["evaluation.safetensors"]
        folder = tmp_path / run.folder
        files = {
            name: (tensors if name.endswith("tensors") else table)(folder / name, 10.0 + place, {})
            for name in TRAINED
        }
        model = files["model.safetensors"]
        storage.write_record(folder / "manifest.json", {"files": files, "inputs": data})
        stated = {"model": model, "data": data["data.safetensors"]}
        stated["ood"] = foreign["data.safetensors"]
        table(folder / "trust.parquet", place, stated)
        for method in GRID.methods:
            cell = tmp_path / Cell(run, method).folder
            predictions = files["predictions.parquet"]
            used = {"model.safetensors": model, "predictions.parquet": predictions}
            used["evaluation.safetensors"] = seen
            maps = tensors(cell / "attributions.safetensors", place, used)
            scored = {"model.safetensors": model, "evaluation.safetensors": seen}
            table(cell / "scores.parquet", place, {**scored, "attributions.safetensors": maps})
    for folder, name in (("tables", "a.csv"), ("figures", "b.svg")):
        storage.write_text(tmp_path / folder / name, "text")
        storage.list_files(tmp_path / folder, [name])
    table(tmp_path / "parts/dataset=d/method=cam/runs.parquet", 0, {})
    storage.write_sealed_text(tmp_path / "report.html", f"<p>{storage.UNSEALED.decode()}</p>")
    return tmp_path


def test_sound_results_are_sound_file_by_file(root):
    found = verify(root, GRID)
    files = [file for file in root.rglob("*") if file.is_file()]
    assert (found.sound, found.wrong, found.missing) == (len(files), [], [])
    assert f"{len(files)} files are as they were written" in found.told()


def test_every_single_file_that_is_altered_is_named_and_no_other(root):
    for path in [file for file in root.rglob("*") if file.is_file()]:
        content = path.read_bytes()
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
        found = verify(root, GRID)
        assert [words.partition(": ")[0] for words in found.wrong] == [str(path)]
        path.write_bytes(content)
    assert verify(root, GRID).wrong == []


def test_whole_files_that_were_made_from_others_are_found(root):
    folder = root / RUN.folder
    tensors(folder / "model.safetensors", 99.0)
    found = verify(root, GRID).wrong
    assert len(found) == 1 + 1 + 2 * len(GRID.methods), "the record, trust, and both of each cell"
    assert all("made with another model.safetensors" in words for words in found)
    assert all(str(folder) in words for words in found)


def test_unknown_images_that_are_no_longer_there_are_found(root):
    tensors(root / "dataset=f/data.safetensors", 99.0)
    found = [words for words in verify(root, GRID).wrong if "dataset=d" in words]
    assert len(found) == 4
    assert all("trust.parquet: made with unknown images" in words for words in found)


def test_a_cell_of_another_loss_is_no_cell_of_this_one(root):
    other = root / Cell(Run("d", "ce", 1), "cam").folder / "scores.parquet"
    mine = root / Cell(RUN, "cam").folder / "scores.parquet"
    mine.write_bytes(other.read_bytes())
    found = verify(root, GRID)
    assert {words.partition(": ")[0] for words in found.wrong} == {str(mine)}


def test_the_files_of_a_run_are_looked_at_without_its_record_too(root):
    folder = root / RUN.folder
    (folder / "manifest.json").unlink()
    (folder / "history.parquet").write_bytes(b"no table")
    found = verify(root, GRID)
    assert found.missing == [str(folder / "manifest.json")]
    assert [words.partition(": ")[0] for words in found.wrong] == [str(folder / "history.parquet")]


def test_what_is_not_there_is_missing_and_not_wrong(root):
    (root / Cell(RUN, "ig").folder / "scores.parquet").unlink()
    found = verify(root, GRID)
    assert found.wrong == []
    assert found.missing == [str(root / Cell(RUN, "ig").folder / "scores.parquet")]
    assert "1 are not there" in found.told()

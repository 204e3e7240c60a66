"""Promises of the plan: what is on record is added up, and what is not is named."""

import pytest

from clarity import storage
from clarity.grid import Grid, Run
from clarity.stages.plan import plan
from clarity.tables.run_times import COSTS, JOBS, TRUST_COST

GRID = Grid(["a", "b"], ["ce", "triplet"], list(range(10)), ["cam", "ig"])
METRICS = ["flip", "mass"]
RULES = {"gather_block": 4, "compare": 1}


def write_records(root, datasets=("a", "b"), losses=("ce", "triplet")) -> None:
    """Write what seed 0 cost: 100 s to train, 20 s trust, 10 s a map, 5 and 1 s a score."""
    for dataset in datasets:
        for loss in losses:
            run = Run(dataset, loss, 0)
            manifest = {"seconds": 100.0, "images_seen": 10, "device": "cpu"}
            storage.write_record(root / run.folder / "manifest.json", manifest)
            costs = root / COSTS / run.folder
            storage.write_json(costs / TRUST_COST, {"seconds": 20.0, "images": 5})
            for method in GRID.methods:
                maps = {"seconds": 10.0, "images": 5, "status": "ok", "bytes": 1000}
                storage.write_json(costs / f"{method}.json", maps)
                scores = {"flip": {"seconds": 5.0, "images": 5}}
                if dataset == "a":  # only one dataset has masks
                    scores["mass"] = {"seconds": 1.0, "images": 5}
                storage.write_json(costs / f"{method}-metrics.json", scores)


def look(root, jobs="run", shards=1, metrics=METRICS):
    return plan(root, GRID, metrics, jobs=jobs, shards=shards, rules=RULES)


def test_one_seed_on_record_tells_what_all_seeds_need(tmp_path):
    write_records(tmp_path)
    found = look(tmp_path)
    runs = 2 * 2 * 10
    assert found.unknown == {}
    assert found.hours == pytest.approx(
        {
            "training": runs * 100 / 3600,
            "trust": runs * 20 / 3600,
            "attribution": runs * 2 * 10 / 3600,
            "evaluation": (runs * 2 * 5 + runs / 2 * 2 * 1) / 3600,
        }
    )
    said = found.told(threads=1)
    assert "80 cells in 47 jobs: 2 prepare, 40 run, 4 gather_block, 1 compare." in said
    assert "1.7 h of one core" in said


def test_a_dataset_without_records_takes_what_the_others_took(tmp_path):
    write_records(tmp_path, datasets=("a",))
    found = look(tmp_path)
    assert found.hours["training"] == pytest.approx(40 * 100 / 3600)
    assert found.unknown == {}


def test_a_loss_without_records_is_named_and_not_guessed(tmp_path):
    write_records(tmp_path, losses=("ce",))
    found = look(tmp_path)
    assert found.unknown["training"] == ["a triplet", "b triplet"]
    assert found.hours["training"] == pytest.approx(20 * 100 / 3600)
    assert "Not counted, since no record tells it: training of a triplet" in found.told(1)


def test_a_metric_that_is_new_is_named_and_one_that_a_dataset_has_not_is_none(tmp_path):
    write_records(tmp_path)
    found = look(tmp_path, metrics=[*METRICS, "road"])
    # "mass" is not of the dataset "b", which has records of all else.
    assert found.unknown == {
        "evaluation": [f"{dataset} {method} road" for dataset in "ab" for method in ("cam", "ig")]
    }


def test_a_method_whose_maps_cannot_be_made_costs_nothing_and_is_known(tmp_path):
    write_records(tmp_path)
    for loss in GRID.losses:
        costs = tmp_path / COSTS / Run("b", loss, 0).folder
        storage.write_json(costs / "ig.json", {"seconds": 0.1, "status": "unavailable"})
        storage.write_json(costs / "ig-metrics.json", {})
    found = look(tmp_path)
    assert found.unknown == {}
    assert found.hours["attribution"] == pytest.approx((40 + 20) * 10 / 3600)


def test_a_loss_that_failed_in_training_takes_no_method_from_the_plan(tmp_path):
    write_records(tmp_path)
    costs = tmp_path / COSTS / Run("b", "ce", 0).folder
    for method in GRID.methods:
        storage.write_json(costs / f"{method}.json", {"seconds": 0.1, "status": "unavailable"})
    assert look(tmp_path).hours["attribution"] == pytest.approx(80 * 10 / 3600)


def test_without_any_record_there_are_jobs_and_files_and_a_way_to_know_more(tmp_path):
    found = look(tmp_path)
    assert found.hours == {}
    assert found.files == 2 * 2 + 7 * 40 + 2 * 80
    assert "Run one seed of each first" in found.told(1)


@pytest.mark.parametrize(
    ("jobs", "shards", "expected"),
    [
        ("run", 1, {"run": 40}),
        ("run", 4, {"run": 2 * 2 * 3}),
        ("model", 1, {"train": 40, "trust": 40, "attribute": 40, "evaluate": 40}),
        ("cell", 1, {"train": 40, "trust": 40, "attribute": 80, "evaluate": 80}),
    ],
)
def test_jobs_are_those_of_the_rules(tmp_path, jobs, shards, expected):
    found = look(tmp_path, jobs, shards)
    assert found.jobs == {"prepare": 2, **expected, **RULES}


def test_the_start_of_jobs_is_what_they_took_before_their_work(tmp_path):
    write_records(tmp_path)
    for number in range(4):
        storage.write_json(tmp_path / JOBS / f"run-{number}.json", {"seconds": 100, "start": 6})
    assert look(tmp_path).hours["start of jobs"] == pytest.approx(40 * 6 / 3600)

"""Trusting: owns the stage `trust`, from a trained model and images to `trust.parquet`."""

import json
import time
from pathlib import Path

from clarity import checkpoints, storage
from clarity.data.sets import Splits
from clarity.grid import Run
from clarity.models import classifier
from clarity.runtime import deterministic
from clarity.trust.measure import Foreign, nothing, trust
from clarity.trust.recipe import Trust


def trust_run(
    model: Path,
    data: Path,
    ood: Path | None,
    output: Path,
    run: Run,
    *,
    recipe: Trust,
    code: str,
    costs: Path,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Measure one model's calibration and robustness and write `trust.parquet`.

    Of a run whose training failed nothing is measured: the table has no rows, and its metadata
    say why. A table that is there, whole and made from the same inputs, recipe and code, is left as
    it is.

    Args:
        model: the run's `model.safetensors`.
        data: the dataset's `data.safetensors`.
        ood: `data.safetensors` of the dataset that the recipe names as foreign to this one, if any.
        output: where the table goes.
        run: the run's place in the grid.
        recipe: what is measured.
        code: hash of the source of this stage.
        costs: the file of what it cost in seconds: like a log, no result and not the same again.
        device: "auto", "cpu" or "cuda".
        threads: threads for torch and numpy.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
        ValueError: if ``ood`` is given and the recipe names no foreign dataset, or the reverse.
    """
    name = recipe.out_of_distribution.get(run.dataset)
    if (name is None) != (ood is None):
        raise ValueError(
            f"trust.out-of-distribution.{run.dataset}: found '{name}', but the images are {ood}"
        )
    inputs = {"model": model, "data": data, **({} if ood is None else {"ood": ood})}
    digests = {key: storage.digest(path) for key, path in inputs.items()}
    trained = classifier.status(model)
    with deterministic(device, threads) as chosen:
        asked = {"axes": vars(run), "recipe": recipe.plain(), "inputs": digests, "code": code}
        mark = storage.fingerprint({**asked, "device": chosen.type, "threads": threads})
        if checkpoints.take_up([output], mark):
            return
        started = time.perf_counter()
        if trained["status"] == "ok":
            foreign = None if name is None or ood is None else Foreign(name, Splits.read(ood))
            network = classifier.load(model, chosen)
            frame = trust(network, Splits.read(data), foreign, recipe, run.dataset)
        else:
            frame = nothing()
    metadata = {key: str(value) for key, value in trained.items()}
    told = {"fingerprint": mark, "inputs": json.dumps(digests, sort_keys=True)}
    storage.write_table(output, frame, metadata | told)
    checkpoints.keep([output])
    cost = {"seconds": time.perf_counter() - started, "images": recipe.images}
    storage.write_json(costs, cost)

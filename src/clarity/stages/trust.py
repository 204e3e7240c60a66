"""Trusting: owns the stage `trust`, from a trained model and images to `trust.parquet`."""

from pathlib import Path

from clarity import storage
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
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Measure one model's calibration and robustness and write `trust.parquet`.

    Of a run whose training failed nothing is measured: the table has no rows, and its metadata
    say why.

    Args:
        model: the run's `model.safetensors`.
        data: the dataset's `data.safetensors`.
        ood: `data.safetensors` of the dataset that the recipe names as foreign to this one, if any.
        output: where the table goes.
        run: the run's place in the grid.
        recipe: what is measured.
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
    trained = classifier.status(model)
    metadata = {key: str(value) for key, value in trained.items()}
    if trained["status"] != "ok":
        storage.write_table(output, nothing(), metadata)
        return
    foreign = None if name is None or ood is None else Foreign(name, Splits.read(ood))
    with deterministic(device, threads) as chosen:
        frame = trust(
            classifier.load(model, chosen), Splits.read(data), foreign, recipe, run.dataset
        )
    storage.write_table(output, frame, metadata)

"""Train: owns the stage that makes a training run's model and its record."""

import time
from pathlib import Path

import numpy as np
import pandas as pd

from clarity import provenance, storage
from clarity.data.protocol import Training
from clarity.data.sets import NONE, EvaluationSet, Splits
from clarity.grid import Run
from clarity.losses.recipe import LossRecipe
from clarity.models import classifier
from clarity.models.geometry import geometry
from clarity.runtime import deterministic
from clarity.training import embed, predict, split_validation, train


def train_run(
    data: Path,
    evaluation: Path,
    folder: Path,
    run: Run,
    *,
    training: Training,
    loss: LossRecipe,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Train one run and write its model, history, predictions, geometry, embeddings and manifest.

    Args:
        data: the dataset's `data.safetensors`.
        evaluation: the dataset's `evaluation.safetensors`.
        folder: the run's folder.
        run: its place in the grid.
        training: how every loss is trained on this dataset.
        loss: the loss.
        device: "auto", "cpu" or "cuda".
        threads: threads for torch and numpy.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
        FloatingPointError: if the loss is not finite; names the run and the epoch.
    """
    started = time.perf_counter()
    splits, images = Splits.read(data), EvaluationSet.read(evaluation)
    with deterministic(device, threads) as chosen:
        fit, held_out = split_validation(splits, training.validation, run.dataset)
        try:
            model, history = train(
                fit,
                held_out,
                len(splits.class_names),
                training,
                loss,
                dataset=run.dataset,
                seed=run.seed,
                device=chosen,
            )
        except FloatingPointError as error:
            error.add_note(f"while training {run.folder}")
            raise
        tested = embed(model, splits.test_images, chosen)
        explained = embed(model, images.images, chosen)
        labels = np.stack([splits.test_labels, np.full_like(splits.test_labels, NONE)], axis=1)
        predictions = pd.concat(
            [
                predict(model, tested, labels, "test"),
                predict(model, explained, images.classes, "evaluation"),
            ],
            ignore_index=True,
        )
        embeddings = {"test": tested.cpu().numpy(), "evaluation": explained.cpu().numpy()}
        measures = geometry(embeddings["test"], splits.test_labels)
    classifier.save(model, folder / "model.safetensors")
    storage.write_table(folder / "history.parquet", history)
    storage.write_table(folder / "predictions.parquet", predictions)
    storage.write_table(folder / "geometry.parquet", measures)
    storage.write_tensors(folder / "embeddings.safetensors", embeddings)
    storage.write_json(
        folder / "manifest.json",
        {
            "axes": vars(run),
            "dataset": training.plain(),
            "loss": loss.plain(),
            "inputs": {path.name: storage.digest(path) for path in (data, evaluation)},
            "model": {
                "sha256": storage.digest(folder / "model.safetensors"),
                "parameters": sum(weights.numel() for weights in model.parameters()),
                "temperature": float(model.temperature),
                "prototype_temperature": float(model.prototype_temperature),
            },
            "device": provenance.device_name(chosen),
            "threads": threads,
            "seconds": round(time.perf_counter() - started, 3),
            **provenance.environment(),
        },
    )

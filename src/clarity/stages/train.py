"""Train: owns the stage that makes a training run's model and its record."""

import time
from pathlib import Path

import numpy as np
import pandas as pd

from clarity import checkpoints, provenance, storage
from clarity.data.protocol import Training
from clarity.data.sets import NONE, EvaluationSet, Splits
from clarity.grid import RECORD, TRAINED, Run
from clarity.losses.recipe import LossRecipe
from clarity.models import classifier
from clarity.models.geometry import geometry
from clarity.runtime import deterministic
from clarity.training.batches import part
from clarity.training.fit import train
from clarity.training.heads import embed, predict


def train_run(
    data: Path,
    evaluation: Path,
    folder: Path,
    run: Run,
    *,
    training: Training,
    loss: LossRecipe,
    code: str,
    costs: Path,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Train one run and write its model, history, predictions, geometry, embeddings and manifest.

    A run that is there, whole and made from the same data, recipes and code, is taken up.

    If training fails (it diverges, or the embeddings collapse), that is the run's status, with the
    epoch, in the metadata of model and predictions; predictions, geometry and embeddings then have
    no rows, so that no bad number passes for a result.

    Args:
        data: the dataset's `data.safetensors`.
        evaluation: the dataset's `evaluation.safetensors`.
        folder: the run's folder.
        run: its place in the grid.
        training: how the loss is trained on this dataset.
        loss: the loss.
        code: hash of the source of this stage.
        costs: where to write how long it took.
        device: "auto", "cpu" or "cuda".
        threads: threads for torch and numpy.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
    """
    started = time.perf_counter()
    inputs = {path.name: storage.digest(path) for path in (data, evaluation)}
    record = folder / RECORD
    made = [*(folder / name for name in TRAINED), record]
    with deterministic(device, threads) as chosen:
        mark = storage.fingerprint(
            {
                "axes": vars(run),
                "training": training.plain(),
                "loss": loss.plain(),
                "inputs": inputs,
                "code": code,
                "device": chosen.type,
                "threads": threads,
            }
        )
        if checkpoints.take_up(made, mark):
            return
        splits, explained = Splits.read(data), EvaluationSet.read(evaluation)
        classes = len(splits.class_names)
        test_images, test_labels = splits.test_images, splits.test_labels
        parts = part(splits.train_images, splits.train_labels, training, run.dataset)
        # The parts are copies: a large dataset is not to be held twice.
        del splits
        trained = train(
            parts,
            classes,
            training,
            loss,
            dataset=run.dataset,
            seed=run.seed,
            device=chosen,
        )
        fitted = time.perf_counter()
        model, ok = trained.model, trained.status.ok
        labels = np.stack([test_labels, np.full_like(test_labels, NONE)], axis=1)
        images = {
            "test": (test_images, labels),
            "evaluation": (explained.images, explained.classes),
        }
        kept = {
            name: embed(model, pixels if ok else pixels[:0], chosen)
            for name, (pixels, _) in images.items()
        }
        predictions = pd.concat(
            [
                predict(model, kept[name], truth if ok else truth[:0], name)
                for name, (_, truth) in images.items()
            ],
            ignore_index=True,
        )
        embeddings = {name: value.cpu().numpy() for name, value in kept.items()}
        measures = geometry(embeddings["test"], test_labels if ok else test_labels[:0])
    status = vars(trained.status)
    classifier.save(model, folder / "model.safetensors", loss=trained.loss, status=status)
    storage.write_table(folder / "history.parquet", trained.history)
    storage.write_table(
        folder / "predictions.parquet",
        predictions,
        {key: str(value) for key, value in status.items()},
    )
    storage.write_table(folder / "geometry.parquet", measures)
    storage.write_tensors(folder / "embeddings.safetensors", embeddings)
    seen = int(trained.history["images_seen"].iloc[-1])
    seconds = round(time.perf_counter() - started, 3)
    storage.write_record(
        record,
        {
            "fingerprint": mark,
            "files": {name: storage.digest(folder / name) for name in TRAINED},
            "axes": vars(run),
            "dataset": training.plain(),
            "loss": loss.plain(),
            "inputs": inputs,
            "status": status,
            "model": {
                "parameters": sum(weights.numel() for weights in model.encoder.parameters()),
                "parameters_of_loss": sum(w.numel() for w in trained.loss.parameters()),
                "temperatures": dict(
                    zip(classifier.HEADS, map(float, model.temperatures), strict=True)
                ),
            },
            "images_seen": seen,
            "device": provenance.device_name(chosen),
            "threads": threads,
            "seconds": seconds,
            "images_per_second": round(seen / (fitted - started), 1),
            **provenance.environment(),
        },
    )
    checkpoints.keep(made)
    storage.write_json(costs, {"seconds": seconds})

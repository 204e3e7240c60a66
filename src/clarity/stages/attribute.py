"""Attributing: owns the stage `attribute`, from a model and the evaluation set to stored maps."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clarity import storage
from clarity.attribution.methods import Explainer, MethodUnavailable
from clarity.attribution.recipe import MethodRecipe
from clarity.data.sets import EvaluationSet, to_input
from clarity.models import classifier
from clarity.runtime import deterministic


def attribute_run(
    model: Path,
    evaluation: Path,
    predictions: Path,
    cells: Mapping[str, Path],
    *,
    methods: Mapping[str, MethodRecipe],
    code: str,
    batch_size: int,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Explain one model by some methods and write the maps of each cell.

    A cell whose file was made from the same model, images, recipe and code is left as it is, so
    that a method can be added, or a lost cell made again, at the price of that cell alone. If a
    method fails, the other cells are still written before the error is raised.

    Args:
        model: the run's `model.safetensors`.
        evaluation: the dataset's `evaluation.safetensors`.
        predictions: the run's `predictions.parquet`, for the foil of each image.
        cells: where the maps of each method go, `attributions.safetensors`.
        methods: the recipe of each method in ``cells``.
        code: hash of the source of this stage.
        batch_size: images a call of a method.
        device: "auto", "cpu" or "cuda".
        threads: threads for torch.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
        ExceptionGroup: what the failing methods raised, each with the method's name.
    """
    inputs = {path.name: storage.digest(path) for path in (model, evaluation, predictions)}
    failures: list[Exception] = []
    trained = classifier.status(model)
    with deterministic(device, threads) as chosen:
        network = classifier.load(model, chosen)
        images = EvaluationSet.read(evaluation)
        failed = trained["status"] != "ok"
        classes = (
            images.classes if failed else explained_classes(images, storage.read_table(predictions))
        )
        pixels = to_input(images.images, chosen)
        targets = torch.from_numpy(classes).to(chosen)
        for name, path in cells.items():
            recipe = methods[name].plain()
            mark = storage.fingerprint(
                {"recipe": recipe, "inputs": inputs, "code": code, "batch-size": batch_size}
            )
            if storage.is_current(path, mark):
                path.touch()
                continue
            metadata = {"fingerprint": mark, "recipe": json.dumps(recipe, sort_keys=True)}
            try:
                if failed:
                    raise MethodUnavailable(
                        f"training {trained['status']} in epoch {trained['epoch']}: "
                        f"{trained['reason']}"
                    )
                maps = _maps(Explainer(methods[name], network), pixels, targets, batch_size)
            except MethodUnavailable as error:
                metadata |= {"status": "unavailable", "reason": str(error)}
                storage.write_tensors(path, {"classes": classes}, metadata)
            except Exception as error:
                error.add_note(f"while explaining by the method '{name}' for {path}")
                failures.append(error)
            else:
                metadata |= {"status": "ok", "reason": ""}
                storage.write_tensors(path, {"classes": classes, "maps": maps}, metadata)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(cells)} methods failed", failures)


def explained_classes(images: EvaluationSet, predictions: pd.DataFrame) -> np.ndarray:
    """Return the two classes whose maps each image gets, int64 [N, 2].

    A single image: its label and the foil, the class that this model ranks highest among the
    others. The foil is the same for all methods and targets of a model. A two-class scene: its two
    classes.
    """
    foils = predictions.loc[predictions["split"] == "evaluation", "runner_up"].to_numpy()
    second = np.where(images.single, foils, images.classes[:, 1])
    return np.stack([images.classes[:, 0], second], axis=1).astype(np.int64)


def _maps(
    explain: Explainer, pixels: torch.Tensor, targets: torch.Tensor, batch_size: int
) -> np.ndarray:
    """Explain both classes of every image: float32 [N, 2, H, W]."""
    pairs = []
    for slot in range(2):
        parts = [
            explain(pixels[start : start + batch_size], targets[start : start + batch_size, slot])
            for start in range(0, len(pixels), batch_size)
        ]
        pairs.append(torch.cat(parts).cpu().numpy())
    return np.stack(pairs, axis=1).astype(np.float32)

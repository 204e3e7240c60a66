"""Evaluate: owns the stage that scores the stored maps of a model's cells."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from clarity import storage
from clarity.attribution.methods import Explainer
from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.recipe import MethodRecipe
from clarity.data.sets import EvaluationSet, to_input
from clarity.grid import Run
from clarity.metrics.evaluate import Subject, evaluate, unavailable
from clarity.metrics.recipe import MetricRecipe
from clarity.models import classifier
from clarity.runtime import deterministic
from clarity.stages.attribute import setting


def evaluate_run(
    model: Path,
    evaluation: Path,
    attributions: Mapping[str, Path],
    scores: Mapping[str, Path],
    run: Run,
    *,
    methods: Mapping[str, MethodRecipe],
    metrics: Mapping[str, MetricRecipe],
    code: str,
    batch_size: int,
    memory: float | None,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Score the maps of some methods of one model by all metrics and write each cell's scores.

    A cell whose file was made from the same model, maps, recipes and code is left as it is. If a
    cell fails, the others are still written before the error is raised, and kept for the next run.

    Args:
        model: the run's `model.safetensors`.
        evaluation: the dataset's `evaluation.safetensors`.
        attributions: the maps of each method.
        scores: where the scores of each method go, `scores.parquet`.
        run: the run's place in the grid; dataset and seed are axes of the metrics' seeds.
        methods: the recipe of each method.
        metrics: the metrics, in the order of their rows.
        code: hash of the source of this stage.
        batch_size: images a call of a method or of the model.
        memory: GiB that a pass of a method through the network may take.
        device: "auto", "cpu" or "cuda".
        threads: threads for torch and numpy.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
        ExceptionGroup: what the failing cells raised, each with the method's name.
    """
    plain = {name: recipe.plain() for name, recipe in metrics.items()}
    inputs = {path.name: storage.digest(path) for path in (model, evaluation)}
    failures: list[Exception] = []
    written: list[Path] = []
    with deterministic(device, threads) as chosen:
        network = classifier.load(model, chosen)
        images = EvaluationSet.read(evaluation)
        known = setting(images, chosen, run.seed, memory)
        for name, path in scores.items():
            mark = storage.fingerprint(
                {
                    "metrics": plain,
                    # A mapping is compared whatever its order, the rows of the file are not.
                    "order": list(plain),
                    "inputs": {**inputs, "maps": storage.digest(attributions[name])},
                    "code": code,
                    "batch-size": batch_size,
                    "memory": memory,
                    "device": chosen.type,
                    "threads": threads,
                }
            )
            if storage.is_current(path, mark) or storage.recover(path, mark):
                path.touch()
                continue
            metadata = storage.read_tensor_metadata(attributions[name])
            try:
                if metadata["status"] == "unavailable":
                    frame = unavailable(images.single, metrics, metadata["reason"], run.dataset)
                else:
                    explainer = Explainer(methods[name], network, known)
                    subject = _subject(images, attributions[name], explainer, chosen)
                    frame = evaluate(
                        subject,
                        metrics,
                        dataset=run.dataset,
                        seed=run.seed,
                        batch_size=batch_size,
                    )
            except MethodUnavailable as error:
                # Of an image that a metric has changed: another number of superpixels, say.
                frame = unavailable(images.single, metrics, str(error), run.dataset)
                storage.write_table(path, frame, {"fingerprint": mark})
                written.append(path)
            except Exception as error:
                error.add_note(f"while evaluating the method '{name}' for {path}")
                failures.append(error)
            else:
                storage.write_table(path, frame, {"fingerprint": mark})
                written.append(path)
    if failures:
        storage.keep(written)
        raise ExceptionGroup(f"{len(failures)} of {len(scores)} cells failed", failures)


def _subject(
    images: EvaluationSet,
    attributions: Path,
    explainer: Explainer,
    device: torch.device,
) -> Subject:
    """Gather what the maps of one cell are judged on: the first two classes of each image."""

    def explain(pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        maps = explainer(torch.from_numpy(pixels).to(device), torch.from_numpy(classes).to(device))
        return maps.cpu().numpy()

    return Subject(
        images=to_input(images.images, device).cpu().numpy(),
        maps=storage.read_tensor_rows(attributions, "maps", columns=2),
        classes=storage.read_tensor_rows(attributions, "classes", columns=2),
        single=images.single,
        masks=images.masks,
        model=explainer.score,
        explain=explain,
    )

"""Evaluate: owns the stage that scores the stored maps of a model's cells."""

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from clarity import checkpoints, storage
from clarity.attribution.methods import Explainer, Setting
from clarity.attribution.recipe import MethodRecipe
from clarity.attribution.targets import Score
from clarity.data.sets import EvaluationSet, to_input
from clarity.grid import Run
from clarity.metrics.evaluate import Cost, Subject, evaluate, unavailable
from clarity.metrics.memory import Memory
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
    code: Mapping[str, str],
    costs: Path,
    batch_size: int,
    memory: float | None,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Score the maps of some methods of one model by all metrics and write each cell's scores.

    A cell whose file was made from the same model, maps, recipes and code is taken up. If a
    cell fails, the others are still written before the error is raised; they, and those that were
    finished when a job is killed, are taken up by the next try.

    Args:
        model: the run's `model.safetensors`.
        evaluation: the dataset's `evaluation.safetensors`.
        attributions: the maps of each method.
        scores: where the scores of each method go, `scores.parquet`.
        run: the run's place in the grid; dataset and seed are axes of the metrics' seeds.
        methods: the recipe of each method.
        metrics: the metrics, in the order of their rows.
        code: of each method, hash of the source of this stage and of the user's own classes.
        costs: folder of what each metric cost in seconds and passes, a JSON file a method: like a
            log, it is no result and not the same again.
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
    with deterministic(device, threads) as chosen:
        network = classifier.load(model, chosen)
        images = EvaluationSet.read(evaluation)
        known = setting(images, chosen, run.seed, memory)
        memories: dict[tuple[str, str | None], Memory] = {}
        for name, path in scores.items():
            used = {**inputs, attributions[name].name: storage.digest(attributions[name])}
            mark = storage.fingerprint(
                {
                    "metrics": plain,
                    # A mapping is compared whatever its order, the rows of the file are not.
                    "order": list(plain),
                    "inputs": used,
                    "code": code[name],
                    "batch-size": batch_size,
                    "memory": memory,
                    "device": chosen.type,
                    "threads": threads,
                }
            )
            if checkpoints.take_up([path], mark):
                continue
            metadata = storage.read_tensor_metadata(attributions[name])
            spent: dict[str, Cost] = {}
            try:
                if metadata["status"] == "unavailable":
                    frame = unavailable(images.single, metrics, metadata["reason"], run.dataset)
                else:
                    recipe = methods[name]
                    explainer = Explainer(recipe, network, known)
                    # Methods that explain the same score are asked by metrics for the same numbers.
                    shared = memories.setdefault((recipe.target, recipe.foil), Memory())
                    frame = evaluate(
                        _subject(images, attributions[name], explainer, recipe, known, shared),
                        metrics,
                        dataset=run.dataset,
                        seed=run.seed,
                        batch_size=batch_size,
                        costs=spent,
                    )
            except Exception as error:
                error.add_note(f"while evaluating the method '{name}' for {path}")
                # The frames hold tensors of the GPU.
                traceback.clear_frames(error.__traceback__)
                failures.append(error)
                continue
            curves = json.dumps(frame.attrs["curves"], sort_keys=True)
            told = {"fingerprint": mark, "inputs": json.dumps(used, sort_keys=True)}
            storage.write_table(path, frame, {**told, "curves": curves}, lists=["curve"])
            checkpoints.keep([path])
            taken = {metric: asdict(cost) for metric, cost in spent.items()}
            storage.write_json(costs / f"{name}-metrics.json", taken)
            print(f"{name}: {sum(cost.seconds for cost in spent.values()):.2f} s", flush=True)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(scores)} cells failed", failures)


def _subject(
    images: EvaluationSet,
    attributions: Path,
    explainer: Explainer,
    recipe: MethodRecipe,
    known: Setting,
    shared: Memory,
) -> Subject:
    """Gather what the maps of one cell are judged on."""
    device = next(explainer.score.parameters()).device
    changed = [explainer]

    def explain(model: nn.Module, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
        if model is not changed[-1].score:
            # Metrics change a model, ask for some maps and change it again: one is kept.
            assert isinstance(model, Score)
            changed[1:] = [] if model is explainer.score else [Explainer(recipe, model, known)]
        asked = [torch.from_numpy(np.array(array)).to(device) for array in (pixels, classes)]
        found: np.ndarray = changed[-1](*asked).cpu().numpy()
        return found

    def values(array: np.ndarray) -> np.ndarray:
        found: np.ndarray = to_input(array, device).cpu().numpy()
        return found

    without = None if images.without is None else values(images.without)
    return Subject(
        images=values(images.images),
        maps=storage.read_tensor_rows(attributions, "maps"),
        classes=storage.read_tensor_rows(attributions, "classes"),
        single=images.single,
        masks=images.masks,
        without=without,
        model=explainer.score,
        explain=explain,
        scores_memory=shared,
    )

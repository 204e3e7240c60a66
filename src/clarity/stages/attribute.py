"""Attributing: owns the stage `attribute`, from a model and the evaluation set to stored maps."""

import json
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clarity import checkpoints, storage
from clarity.attribution.methods import Explainer, Setting
from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.recipe import MethodRecipe
from clarity.data.sets import NONE, EvaluationSet, to_input
from clarity.models import classifier
from clarity.runtime import deterministic

#: The classes of each image that metrics compare.
PAIR = "label+runner-up"


def attribute_run(
    model: Path,
    evaluation: Path,
    predictions: Path,
    cells: Mapping[str, Path],
    *,
    methods: Mapping[str, MethodRecipe],
    seed: int,
    classes: str,
    memory: float | None,
    compress: bool,
    code: Mapping[str, str],
    costs: Path,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Explain one model by some methods and write the maps of each cell.

    A cell whose file was made from the same model, images, recipe and code is taken up, so
    that a method can be added, or a lost cell made again, at the price of that cell alone. If a
    method fails, the other cells are still written before the error is raised; they, and those that
    were finished when a job is killed, are taken up by the next try (`clarity.checkpoints`).

    Args:
        model: the run's `model.safetensors`.
        evaluation: the dataset's `evaluation.safetensors`.
        predictions: the run's `predictions.parquet`, for the foil of each image.
        cells: where the maps of each method go, `attributions.safetensors`.
        methods: the recipe of each method in ``cells``.
        seed: the seed axis, of the methods' random draws.
        classes: which classes' maps each image gets, see `explained_classes`.
        memory: GiB that a pass of the network may take.
        compress: store the maps compressed, without loss.
        code: of each method, hash of the source of this stage and of the user's own classes.
        costs: folder of what each method cost in time and bytes, a JSON file a method: like a log,
            it is no result and not the same again.
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
        pixels = to_input(images.images, chosen)
        failed = trained["status"] != "ok"
        explained = (
            images.classes
            if failed
            else explained_classes(
                images,
                storage.read_table(predictions),
                None if classes == PAIR else _ranks(network, pixels),
                classes,
            )
        )
        targets = torch.from_numpy(explained).to(chosen)
        known = setting(images, chosen, seed, memory)
        for name, path in cells.items():
            asked = {
                "recipe": methods[name].plain(),
                "inputs": inputs,
                "code": code[name],
                "seed": seed,
            }
            stored = {"classes": classes, "memory": memory, "compress": compress}
            runtime = {"device": chosen.type, "threads": threads}
            mark = storage.fingerprint(asked | stored | runtime)
            if checkpoints.take_up([path], mark):
                continue
            tensors: dict[str, np.ndarray] = {"classes": explained}
            described: dict[str, Any] = methods[name].plain()
            status, reason = "ok", ""
            start = time.perf_counter()
            try:
                if failed:
                    raise MethodUnavailable(
                        f"training {trained['status']} in epoch {trained['epoch']}: "
                        f"{trained['reason']}"
                    )
                explain = Explainer(methods[name], network, known)
                described = explain.described()
                tensors["maps"] = explain(pixels, targets).cpu().numpy()
            except MethodUnavailable as error:
                status, reason = "unavailable", str(error)
            except Exception as error:
                error.add_note(f"while explaining by the method '{name}' for {path}")
                # The frames hold tensors of the GPU.
                traceback.clear_frames(error.__traceback__)
                failures.append(error)
                continue
            seconds = time.perf_counter() - start
            outcome = {"status": status, "reason": reason}
            metadata = {
                "fingerprint": mark,
                "inputs": json.dumps(inputs, sort_keys=True),
                "recipe": json.dumps(described, sort_keys=True),
            }
            compressed = ("maps",) if compress and "maps" in tensors else ()
            storage.write_tensors(path, tensors, metadata | outcome, compressed=compressed)
            checkpoints.keep([path])
            images_and_bytes = {"images": len(pixels), "bytes": path.stat().st_size}
            cost = {"seconds": seconds, "classes": explained.shape[1], **images_and_bytes}
            storage.write_json(costs / f"{name}.json", outcome | cost)
            print(f"{name}: {status} {reason}, {seconds:.2f} s, {cost['bytes']} bytes", flush=True)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(cells)} methods failed", failures)


def setting(
    images: EvaluationSet, device: torch.device, seed: int, memory: float | None
) -> Setting:
    """Return what explainers know of a dataset and a run, the same in all stages."""
    return Setting(
        seed=seed,
        references=to_input(images.references, device),
        class_names=images.class_names,
        memory=memory,
    )


def explained_classes(
    images: EvaluationSet, predictions: pd.DataFrame, ranks: np.ndarray | None, which: str
) -> np.ndarray:
    """Return the classes whose maps each image gets, int64 [N, K].

    First, for a single image, its label and the foil, the class that this model ranks highest among
    the others; for a two-class scene, its two classes. They are the same for all methods and
    targets of a model. Then the classes that the model ranks highest among those that remain.

    Args:
        images: the evaluation set.
        predictions: the run's, with the runner-up of each image.
        ranks: int64 [N, classes], the classes of each image from the highest logit down; None will
            do for `PAIR`.
        which: `PAIR` for the first two, "top-K" for K in all, "all" for all.
    """
    foils = predictions.loc[predictions["split"] == "evaluation", "runner_up"].to_numpy()
    second = np.where(images.classes[:, 1] == NONE, foils, images.classes[:, 1])
    pair = np.stack([images.classes[:, 0], second], axis=1).astype(np.int64)
    if which == PAIR:
        return pair
    if ranks is None:
        raise ValueError(f"ranks: found None, wanted those of each image for '{which}'")
    others = [row[~np.isin(row, two)] for row, two in zip(ranks, pair, strict=True)]
    found = np.concatenate([pair, np.stack(others)], axis=1)
    return found if which == "all" else found[:, : int(which.removeprefix("top-"))]


@torch.no_grad()
def _ranks(network: classifier.Classifier, pixels: torch.Tensor, rows: int = 64) -> np.ndarray:
    """Rank the classes of each image by their logits, ties by their number: int64 [N, classes]."""
    logits = torch.cat([network(part) for part in torch.split(pixels, rows)])
    return logits.sort(dim=1, descending=True, stable=True).indices.cpu().numpy()

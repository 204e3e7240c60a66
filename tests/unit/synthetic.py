"""Synthetic results: a small grid in the layout of real ones, made without training anything.

Numbers are drawn so that they look like those of a real grid. Images of `digits` are scikit-learn's
digits, those of `scenes` are generated as in CLarity; no model is behind the maps and the scores.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from clarity import storage
from clarity.attribution.recipe import CONTROLS
from clarity.data import scenes
from clarity.grid import Grid
from clarity.models.geometry import DIRECTIONS
from clarity.seeds import derive_seed
from clarity.statistics.settings import Settings
from clarity.tables.build import build_tables
from clarity.tables.write import write_tables

#: Method names whose maps look at neither model nor class.
CONTROL_METHODS = ("random", "sobel")


#: What the files of a run tell whose training failed.
FAILED = {"status": "diverged", "epoch": "3", "reason": "the loss is not finite"}


@dataclass(frozen=True)
class Metric:
    """What tables must know of a metric, and what its synthetic scores look like."""

    category: str
    direction: str
    level: float
    spread: float
    of_random: float
    scenes_only: bool = False
    verdict: bool = False


METRICS = {
    "pixel-flipping": Metric("faithfulness", "lower", 0.35, 0.06, 0.6),
    "pixel-flipping-blur": Metric("faithfulness", "lower", 0.4, 0.06, 0.6),
    "sparseness": Metric("complexity", "higher", 0.6, 0.05, 0.42),
    "similarity-ssim": Metric("contrastivity", "lower", 0.4, 0.1, 0.01, verdict=True),
    "relevance-mass": Metric("localisation", "higher", 0.5, 0.1, 0.2, scenes_only=True),
}


@dataclass
class Synthetic:
    """A grid of synthetic results.

    Attributes:
        root: the results root.
        datasets: of "digits" and "scenes".
        unavailable: (loss, method) pairs whose maps could not be computed.
        failed: (dataset, loss, seed) of runs whose training diverged.
    """

    root: Path
    datasets: Sequence[str] = ("digits", "scenes")
    losses: Sequence[str] = ("cross-entropy", "triplet", "supcon")
    seeds: Sequence[int] = (0, 1, 2)
    methods: Sequence[str] = ("saliency", "gradcam", "random", "sobel")
    baseline: str = "cross-entropy"
    metrics: dict[str, Metric] = field(default_factory=lambda: dict(METRICS))
    unavailable: Sequence[tuple[str, str]] = ()
    failed: Sequence[tuple[str, str, int]] = ()
    single_images: int = 20
    scene_images: int = 10
    test_images: int = 60

    @property
    def controls(self) -> list[str]:
        return [method for method in self.methods if method in CONTROL_METHODS]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(metric.category for metric in self.metrics.values()))

    @property
    def settings(self) -> list[str]:
        """The metrics that are a setting of "flipping"."""
        return [name for name in self.metrics if name.startswith("pixel-flipping")]

    @property
    def families(self) -> list[str]:
        return ["flipping"] if self.settings else []

    @property
    def grid(self) -> Grid:
        return Grid(self.datasets, self.losses, self.seeds, self.methods)

    def write(self) -> "Synthetic":
        """Write every artifact and the tables."""
        for dataset in self.datasets:
            self._write_dataset(dataset)
        self.write_tables()
        return self

    def write_tables(self) -> None:
        """Build the tables from what is there."""
        tables = build_tables(
            self.root,
            self.grid,
            self.metrics,
            self.baseline,
            self.controls,
            Settings(resamples=200),
            families=dict.fromkeys(self.settings, "flipping"),
        )
        write_tables(tables, self.root / "tables")

    def config(self) -> dict:
        """Return the grid as the plain content of a config."""
        return {
            "results": "results",
            "seeds": list(self.seeds),
            "evaluation": {"images": self.single_images, "correct-only": True},
            "statistics": {"baseline": self.baseline, "confidence": 0.95, "resamples": 200},
            "datasets": {name: {"source": name} for name in self.datasets},
            "losses": {name: {"loss": name} for name in self.losses},
            "methods": {
                name: {"method": CONTROLS[name == "sobel"] if name in self.controls else name}
                for name in self.methods
            },
            "metrics": {name: {"metric": name} for name in self.metrics},
        }

    def _write_dataset(self, dataset: str) -> None:
        rng = np.random.default_rng(derive_seed("synthetic", dataset))
        images, classes, masks, names, test_labels = (
            self._digits() if dataset.startswith("digits") else self._scenes()
        )
        arrays = {
            "images": images,
            "classes": classes,
            "test_index": np.where(classes[:, 1] < 0, np.arange(len(classes)), -1),
        }
        if masks is not None:
            arrays["masks"] = masks
        folder = self.root / f"dataset={dataset}"
        metadata = {"classes": json.dumps(names)}
        storage.write_tensors(folder / "evaluation.safetensors", arrays, metadata)
        for run in (run for run in self.grid.runs() if run.dataset == dataset):
            place = list(self.losses).index(run.loss)
            rng = np.random.default_rng(derive_seed("synthetic", dataset, run.loss, run.seed))
            path = self.root / run.folder
            predictions = self._predictions(rng, classes, test_labels, len(names))
            embeddings = self._embeddings(rng, test_labels, len(names), place)
            tables = {
                "history": self._history(rng, place),
                "geometry": self._geometry(rng, place),
                "trust": self._trust(rng, dataset, place),
            }
            failed = (run.dataset, run.loss, run.seed) in self.failed
            status = FAILED if failed else {"status": "ok", "epoch": "8", "reason": ""}
            kept = predictions.iloc[:0] if failed else predictions
            storage.write_table(path / "predictions.parquet", kept, status)
            for name, table in tables.items():
                rows = 0 if failed and name != "history" else len(table)
                storage.write_table(path / f"{name}.parquet", table.iloc[:rows])
            embeddings = embeddings[:0] if failed else embeddings
            storage.write_tensors(
                path / "embeddings.safetensors",
                {"test": embeddings, "evaluation": embeddings[: len(classes)]},
            )
            storage.write_record(path / "manifest.json", self._manifest(run.loss, run.seed, rng))
            self._write_cells(rng, dataset, run, images, classes, masks, predictions)

    def _digits(self):
        digits = load_digits()
        images = np.kron(digits.images / 16 * 255, np.ones((1, 3, 3))).astype(np.uint8)[:, None]
        count = self.single_images
        classes = np.stack([digits.target[:count], np.full(count, -1)], axis=1)
        names = [str(digit) for digit in range(10)]
        return images[:count], classes, None, names, digits.target[: self.test_images]

    def _scenes(self):
        single = scenes.generate_single(self.single_images, split="test", seed=1)
        pairs = scenes.generate_pairs(self.scene_images, split="test", seed=1)
        return (
            np.concatenate([single.images, pairs.images]),
            np.concatenate([single.classes, pairs.classes]),
            np.concatenate([single.masks, pairs.masks]),
            list(scenes.CLASS_NAMES),
            np.arange(self.test_images) % 8,
        )

    @staticmethod
    def _predictions(rng, classes, test_labels, number) -> pd.DataFrame:
        frames = []
        for split, labels, second in (
            ("test", test_labels, np.full(len(test_labels), -1)),
            ("evaluation", classes[:, 0], classes[:, 1]),
        ):
            right = rng.random(len(labels)) < 0.93
            foil = (labels + rng.integers(1, number, len(labels))) % number
            frames.append(
                pd.DataFrame(
                    {
                        "split": split,
                        "image": np.arange(len(labels), dtype=np.int32),
                        "label": labels,
                        "second_label": second,
                        "predicted": np.where(right, labels, foil),
                        "runner_up": foil,
                        "confidence": rng.uniform(0.5, 1, len(labels)),
                        "correct": right,
                        "correct_probe": rng.random(len(labels)) < 0.92,
                        "correct_prototype": rng.random(len(labels)) < 0.9,
                        "correct_knn": rng.random(len(labels)) < 0.91,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    @staticmethod
    def _history(rng, place: int) -> pd.DataFrame:
        epochs = np.arange(1, 9)
        fall = np.exp(-epochs / (2 + place))
        return pd.DataFrame(
            {
                "epoch": epochs,
                "images_seen": epochs * 1000,
                "learning_rate": 0.005 * fall,
                "loss": (2.3, 0.2, 5.0)[place % 3] * (fall + rng.normal(0, 0.01, 8)),
                "validation_accuracy": np.clip(0.97 - 0.6 * fall + rng.normal(0, 0.01, 8), 0, 1),
            }
        )

    @staticmethod
    def _geometry(rng, place: int) -> pd.DataFrame:
        level = {"davies-bouldin": 1.5, "calinski-harabasz": 60.0, "uniformity": -2.5}
        level |= {"alignment": 0.6, "effective-rank": 12.0, "nc1": 0.4, "precision-at-1": 0.95}
        level |= {"silhouette": 0.3, "distance-ratio": 0.5, "r-precision": 0.8, "map-at-r": 0.7}
        return _measures(
            rng, {name: (level[name], way) for name, way in DIRECTIONS.items()}, place
        ).drop(columns="group")

    @staticmethod
    def _trust(rng, dataset: str, place: int) -> pd.DataFrame:
        other = "scenes" if dataset.startswith("digits") else "digits"
        groups = {
            "accuracy": {"accuracy": (0.93, "higher"), "accuracy-subset": (0.92, "higher")},
            "calibration": dict.fromkeys(("nll", "brier", "ece"), (0.1, "lower")),
            "out-of-distribution": {
                f"ood-{detector}-{end}:{other}": level
                for detector in ("msp", "energy", "knn")
                for end, level in {"auroc": (0.8, "higher"), "fpr95": (0.4, "lower")}.items()
            },
            "adversarial": {
                f"{attack}-accuracy:{radius:g}": (0.9 - 5 * radius, "higher")
                for radius in (0.01, 0.03, 0.1)
                for attack in ("fgsm", "pgd")
            },
            "corruption": {
                **{f"corruption-jpeg:{s}": (0.9 - s / 20, "higher") for s in range(1, 6)},
                "corruption-mean": (0.75, "higher"),
            },
        }
        frames = [_measures(rng, levels, place, group) for group, levels in groups.items()]
        return pd.concat(frames, ignore_index=True)

    @staticmethod
    def _embeddings(rng, labels, number: int, place: int) -> np.ndarray:
        centres = np.random.default_rng(5).normal(size=(number, 16))
        noise = rng.normal(size=(len(labels), 16)) * (0.9, 0.5, 0.4)[place % 3]
        return (centres[labels] + noise).astype(np.float32)

    @staticmethod
    def _manifest(loss: str, seed: int, rng) -> dict:
        return {
            "axes": {"loss": loss, "seed": seed},
            "device": "cpu",
            "threads": 1,
            "seconds": round(float(rng.uniform(10, 30)), 3),
            "temperature": {"logit": 1.1, "prototype": 0.1},
            "versions": {"python": "3.11.7", "clarity-xai": "0.1.0", "torch": "2.14.1"},
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "changed": False},
            "host": {"name": "host", "system": "Linux", "processor": "a processor", "cores": 2},
        }

    def _write_cells(self, rng, dataset, run, images, classes, masks, predictions) -> None:
        foils = predictions.loc[predictions["split"] == "evaluation", "runner_up"].to_numpy()
        explained = np.stack(
            [classes[:, 0], np.where(classes[:, 1] < 0, foils, classes[:, 1])], axis=1
        ).astype(np.int64)
        failed = (run.dataset, run.loss, run.seed) in self.failed
        for method in self.methods:
            folder = self.root / run.folder / f"method={method}"
            missing = (run.loss, method) in self.unavailable
            reason = f"{method} cannot explain this model" if missing else ""
            if failed:
                reason = "training {status} in epoch {epoch}: {reason}".format(**FAILED)
            metadata = {"status": "unavailable" if reason else "ok", "reason": reason}
            # A model that failed ranks no class, and so has no foils.
            tensors = {"classes": classes if failed else explained}
            if not reason:
                tensors["maps"] = _maps(rng, method, run.loss, images, masks)
            storage.write_tensors(folder / "attributions.safetensors", tensors, metadata)
            scores = self._scores(rng, dataset, run, method, classes, reason)
            storage.write_table(folder / "scores.parquet", scores)

    def _scores(self, rng, dataset, run, method, classes, reason: str) -> pd.DataFrame:
        frames = []
        place = list(self.losses).index(run.loss)
        for name, metric in self.metrics.items():
            if metric.scenes_only and not dataset.startswith("scenes"):
                continue
            level = metric.of_random if method in self.controls else metric.level
            if method not in self.controls:
                level += 0.4 * metric.spread * (place - 0.5) + rng.normal(0, metric.spread / 5)
            values = level + rng.normal(0, metric.spread, len(classes))
            status = np.full(len(classes), "unavailable" if reason else "ok", dtype=object)
            words = np.full(len(classes), reason, dtype=object)
            if name == "similarity-ssim" and not reason:
                status[::7], words[::7] = "nan", "the map is constant"
            frames.append(
                pd.DataFrame(
                    {
                        "image": np.arange(len(classes), dtype=np.int32),
                        "metric": name,
                        "value": np.where(status == "ok", values, np.nan),
                        "status": status.astype(str),
                        "reason": words.astype(str),
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)


def _measures(rng, levels: dict, place: int, group: str = "geometry") -> pd.DataFrame:
    """Return measures around their levels; losses differ a little."""
    shift = 1 + 0.03 * place + rng.normal(0, 0.02, len(levels))
    return pd.DataFrame(
        {
            "measure": list(levels),
            "group": group,
            "value": np.array([level for level, _ in levels.values()]) * shift,
            "direction": [direction for _, direction in levels.values()],
            "reason": "",
        }
    )


def _maps(rng, method: str, loss: str, images, masks) -> np.ndarray:
    """Return maps [N, 2, H, W] that look like those of such a method."""
    grey = images.mean(axis=1) / 255
    shape = grey.shape[1:]
    if method == "random":
        return rng.normal(size=(len(grey), 2, *shape)).astype(np.float32)
    edges = np.hypot(*np.gradient(grey, axis=(1, 2)))
    if method == "sobel":
        return np.repeat(edges[:, None], 2, axis=1).astype(np.float32)
    objects = np.stack([grey > 0.4, edges > 0.2], axis=1) if masks is None else masks > 0
    found = objects - 0.6 * objects[:, ::-1]
    found = found + rng.normal(0, 0.4 if method == "saliency" else 0.05, found.shape)
    if method.startswith("gradcam"):
        height, width = (-(-side // 7) * 7 for side in shape)
        padded = np.pad(found, ((0, 0), (0, 0), (0, height - shape[0]), (0, width - shape[1])))
        coarse = padded.reshape(len(found), 2, height // 7, 7, width // 7, 7).mean(axis=(3, 5))
        found = np.kron(coarse, np.ones((1, 1, 7, 7)))[:, :, : shape[0], : shape[1]]
        if loss == "supcon":
            found[0, 1] = 0
    return found.astype(np.float32)

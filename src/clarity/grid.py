"""Grid: owns the axes, the cells and the folder of each; knows nothing of what is in the files."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

#: What training leaves of a run, beside the record of it that names their digests.
TRAINED = (
    "model.safetensors",
    "history.parquet",
    "predictions.parquet",
    "geometry.parquet",
    "embeddings.safetensors",
)
RECORD = "manifest.json"
#: Then, of the whole run and of each of its cells.
TRUST = "trust.parquet"
MAPS, SCORES = "attributions.safetensors", "scores.parquet"


@dataclass(frozen=True, order=True)
class Run:
    """One training run: a dataset, a loss and a seed. The unit of every statistical test."""

    dataset: str
    loss: str
    seed: int

    @property
    def data(self) -> str:
        """The folder of the run's dataset under the results root."""
        return f"dataset={self.dataset}"

    @property
    def folder(self) -> str:
        """The run's folder under the results root, in hive form."""
        return f"{self.data}/loss={self.loss}/seed={self.seed}"


@dataclass(frozen=True, order=True)
class Cell:
    """One cell: a training run explained by one method."""

    run: Run
    method: str

    @property
    def folder(self) -> str:
        """The cell's folder under the results root, in hive form."""
        return f"{self.run.folder}/method={self.method}"

    @property
    def axes(self) -> dict[str, str | int]:
        """The cell's place on every axis."""
        run = self.run
        return {
            "dataset": run.dataset,
            "loss": run.loss,
            "seed": run.seed,
            "method": self.method,
        }


@dataclass(frozen=True)
class Grid:
    """The full product of the axes, in the order of the config."""

    datasets: Sequence[str]
    losses: Sequence[str]
    seeds: Sequence[int]
    methods: Sequence[str]

    def runs(self) -> list[Run]:
        """Return every training run."""
        return [
            Run(dataset, loss, seed)
            for dataset in self.datasets
            for loss in self.losses
            for seed in self.seeds
        ]

    def cells(self) -> list[Cell]:
        """Return every cell."""
        return [Cell(run, method) for run in self.runs() for method in self.methods]

    def shards(self, size: int) -> list[tuple[str, list[int]]]:
        """Return the seeds in parts of ``size``, each with a label: the runs of a loss a job takes.

        A new seed adds a part or goes into the last one, and changes no other.
        """
        starts = range(0, len(self.seeds), size)
        parts = [list(self.seeds[start : start + size]) for start in starts]
        return [("-".join(map(str, dict.fromkeys((p[0], p[-1])))), p) for p in parts]


def controls_last(methods: Sequence[str], controls: Collection[str]) -> list[str]:
    """Return the methods in order, those that look at neither model nor class at the end."""
    return sorted(methods, key=lambda method: method in controls)

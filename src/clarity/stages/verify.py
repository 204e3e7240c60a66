"""Verify: owns the check of a whole results folder: is each file what was written, of those inputs.

Every artifact carries its digest; models, trust, maps and scores also state those of what they were
made from. So a file that was altered is found, and so is one of these that belongs to something
else than what lies beside it now.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from clarity import storage
from clarity.grid import MAPS, RECORD, SCORES, TRAINED, TRUST, Cell, Grid, Run
from clarity.storage import CorruptArtifact
from clarity.tables.names import PARTS

#: Threads that read: digests are computed without Python's lock.
THREADS = 8


@dataclass
class Verified:
    """What was found.

    Attributes:
        sound: how many files are as they were written.
        wrong: of each other file its path and what is wrong with it.
        missing: paths that are not there.
    """

    sound: int = 0
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def digest(self, path: Path) -> str | None:
        """Check an artifact and return its digest; None if there is none that is sound."""
        if not path.exists():
            self.missing.append(str(path))
            return None
        try:
            found = storage.digest(path)
        except CorruptArtifact as error:
            self.wrong.append(f"{path}: {error.cause}")
            return None
        self.sound += 1
        return found

    def compare(
        self, path: Path, stated: Mapping[str, str], found: Mapping[str, str | None]
    ) -> None:
        """Hold the digests that a file states of others to those that they have."""
        for name, digest in stated.items():
            if found.get(name) not in (None, digest):
                self.wrong.append(f"{path}: made with another {name} than the one that is there")

    def add(self, other: "Verified") -> None:
        """Count what was found elsewhere in."""
        self.sound += other.sound
        self.wrong += other.wrong
        self.missing += other.missing

    def told(self) -> str:
        """Return it as text."""
        lines = [
            f"{self.sound:,} files are as they were written; models, trust, maps and scores were "
            f"made from what lies beside them, unless one is named here."
        ]
        if self.missing:
            lines.append(f"{len(self.missing):,} are not there, the first: {self.missing[0]}")
        if self.wrong:
            lines += [f"WRONG {words}" for words in self.wrong]
            lines.append(
                "Delete each of these and ask snakemake for it by its path: it is made anew from "
                "what comes before it. Then run the same grid again, for what depends on it."
            )
        return "\n".join(lines)


def verify(root: Path, grid: Grid) -> Verified:
    """Check all files of a grid, and those of its tables, their parts, figures and report.

    Args:
        root: the results root.
        grid: the axes.
    """
    total = Verified()
    data = {
        dataset: {
            name: total.digest(root / f"dataset={dataset}" / name)
            for name in ("data.safetensors", "evaluation.safetensors")
        }
        for dataset in grid.datasets
    }
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda run: _run(root, run, grid, data), grid.runs()):
            total.add(found)
    total.digest(root / "report.html")
    for folder in ("tables", "figures"):
        _listed(total, root / folder)
    for path in sorted((root / PARTS).rglob("*.parquet")):
        total.digest(path)
    return total


def _run(
    root: Path, run: Run, grid: Grid, data: Mapping[str, Mapping[str, str | None]]
) -> Verified:
    """Check the files of a training run and of its cells."""
    total = Verified()
    folder = root / run.folder
    known: dict[str, str | None] = dict(data[run.dataset])
    known |= {name: total.digest(folder / name) for name in TRAINED}
    record = folder / RECORD
    if total.digest(record):
        told = storage.read_record(record)
        total.compare(record, told["files"] | told["inputs"], known)
    trust = folder / TRUST
    if total.digest(trust):
        stated = json.loads(storage.read_table_metadata(trust)["inputs"])
        named = {"model": "model.safetensors", "data": "data.safetensors"}
        mine = {named[key]: digest for key, digest in stated.items() if key in named}
        total.compare(trust, mine, known)
        # It does not say of which dataset the images are that the model does not know.
        others = [files["data.safetensors"] for files in data.values()]
        if None not in others and stated.get("ood", others[0]) not in others:
            total.wrong.append(f"{trust}: made with unknown images of no dataset that is there")
    for method in grid.methods:
        cell = root / Cell(run, method).folder
        maps, scores = cell / MAPS, cell / SCORES
        own = dict(known)
        if digest := total.digest(maps):
            own[maps.name] = digest
            total.compare(maps, json.loads(storage.read_tensor_metadata(maps)["inputs"]), known)
        if total.digest(scores):
            total.compare(scores, json.loads(storage.read_table_metadata(scores)["inputs"]), own)
    return total


def _listed(total: Verified, folder: Path) -> None:
    """Check the files of a folder that have no digest of their own, but one in its record."""
    record = folder / storage.LISTING
    if not total.digest(record):
        return
    listed = storage.read_record(record)["files"]
    problems = list(storage.wrong_files(folder))
    total.sound += len(listed) - len(problems)
    for problem in problems:
        if Path(problem.path).exists():
            total.wrong.append(f"{problem.path}: {problem.cause}")
        else:
            total.missing.append(problem.path)

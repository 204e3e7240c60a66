"""Provenance: owns what the page tells of where the results come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarity import storage
from clarity.grid import RECORD, Grid


@dataclass(frozen=True)
class Provenance:
    """Where the results come from, over all training runs that have a manifest."""

    runs: int
    runs_expected: int
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    version: str
    commit: str

    @classmethod
    def of(cls, root: Path, grid: Grid) -> "Provenance":
        """Read the manifests of a grid."""
        runs = grid.runs()
        paths = [root / run.folder / RECORD for run in runs]
        found = [storage.read_record(path) for path in paths if path.exists()]
        libraries = list(dict.fromkeys(name for m in found for name in m["versions"]))
        versions = [(name, _distinct(m["versions"].get(name) for m in found)) for name in libraries]
        commit = _distinct(m["git"]["commit"] for m in found)
        changed = any(m["git"]["changed"] for m in found)
        facts = [
            ("commit", commit + (", with uncommitted changes" if changed else "")),
            ("device", _distinct(m["device"] for m in found)),
            ("processor", _distinct(m["host"]["processor"] for m in found)),
            ("system", _distinct(m["host"]["system"] for m in found)),
            ("threads a job", _distinct(m["threads"] for m in found)),
        ]
        return cls(
            len(found),
            len(runs),
            facts,
            versions,
            dict(versions).get("clarity-xai", ""),
            commit,
        )


def _distinct(values: Any) -> str:
    """Write each value once."""
    known = sorted({"unknown" if value is None else str(value) for value in values})
    return ", ".join(known) if known else "unknown"

"""Checkpoints: own how a job that was stopped goes on where it was, knowing nothing of stages.

A job makes several things, one after the other. If it fails, Snakemake deletes what it has written,
finished or not. So each finished artifact gets a second name that Snakemake does not know, as a
hard link; the next try puts it back, takes what is still right as it is, and makes the rest. The
second names go when the job is done.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from clarity import storage
from clarity.storage import CorruptArtifact


def keep(paths: Iterable[Path]) -> None:
    """Give finished artifacts a second name."""
    for path in paths:
        kept = _kept(path)
        kept.unlink(missing_ok=True)
        try:
            os.link(path, kept)
        except OSError:
            # Some network file systems have no hard links.
            shutil.copy2(path, kept)


def recover(paths: Iterable[Path]) -> None:
    """Put back what an earlier try had finished and Snakemake deleted."""
    for path in paths:
        kept = _kept(path)
        if kept.exists():
            # Whoever made it anew since then made it later.
            kept.unlink() if path.exists() else kept.replace(path)


def drop(paths: Iterable[Path]) -> None:
    """Take away the second names, at the end of a job."""
    for path in paths:
        _kept(path).unlink(missing_ok=True)


def is_current(path: Path, mark: str) -> bool:
    """Whether an artifact is there, whole and made under the fingerprint ``mark``.

    Args:
        path: a safetensors or parquet file, or the record of a run (`storage.write_record`) beside
            the files that it lists under "files" with their digests.
        mark: stands in the metadata, or in the record, under "fingerprint".
    """
    try:
        if path.suffix == ".json":
            record = storage.read_record(path)
            files = record.get("files", {}).items()
            same = all(storage.digest(path.with_name(name)) == stated for name, stated in files)
            return same and record.get("fingerprint") == mark
        parquet = path.suffix == ".parquet"
        read = storage.read_table_metadata if parquet else storage.read_tensor_metadata
        # The digest last: it reads the whole file.
        return read(path).get("fingerprint") == mark and bool(storage.digest(path))
    except CorruptArtifact:
        return False


def _kept(path: Path) -> Path:
    return path.with_name(f".kept.{path.name}")

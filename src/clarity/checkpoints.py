"""Checkpoints: own how a job goes on where an earlier one was, knowing nothing of stages.

A job makes several things, one after the other. Before it starts Snakemake deletes what is there of
them, and if it fails also what it has written, finished or not. So each finished artifact has a
second name that Snakemake does not know, a hard link beside it. The next job of it, after a failure
or a change of the config, takes up from these what it would make just so, and makes the rest.

Nothing else would do: outputs that Snakemake updates instead of deleting are put back by it when
the job fails, and count from then on as made by the new config.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from clarity import storage
from clarity.storage import CorruptArtifact

#: How a second name ends; it begins with a dot.
SUFFIX = ".kept"


def keep(paths: Sequence[Path]) -> None:
    """Give finished artifacts a second name."""
    for path in paths:
        _name_also(path, kept(path))


def take_up(paths: Sequence[Path], mark: str) -> bool:
    """Take up what was finished before, if it is what would be made now.

    Args:
        paths: artifacts that are made together; the last one says of what, see `is_current`.
        mark: the fingerprint of what would be made.

    Returns:
        Whether all are there now, their times renewed. If not, none is: what was made otherwise is
        not to lie in the place of what is to be made.
    """
    for path in paths:
        if kept(path).exists() and not path.exists():
            _name_also(kept(path), path)
    if is_current(paths[-1], mark):
        for path in paths:
            path.touch()
        return True
    for path in paths:
        path.unlink(missing_ok=True)
    return False


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


def kept(path: Path) -> Path:
    """Return the second name of an artifact."""
    return path.with_name(f".{path.name}{SUFFIX}")


def _name_also(path: Path, other: Path) -> None:
    """Give a file another name, in the place of what has it, whole at any time."""
    with storage.atomic(other) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            # Some network file systems have no hard links.
            shutil.copy2(path, temporary)

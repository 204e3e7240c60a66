"""Storage: owns how artifacts are written and read; knows nothing of what is in them.

Every write goes to a temporary file in the same folder and is renamed when it is whole, so a
killed job leaves either the old file, the new file or none. Every read failure names the file and
how to make it again. Nothing is ever unpickled: tensors are safetensors, tables are parquet.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save_file

StrPath = str | os.PathLike[str]


class CorruptArtifact(Exception):
    """A file between two stages cannot be read; the message says which and how to remake it."""

    def __init__(self, path: StrPath, cause: object) -> None:
        """Name ``path``, what is wrong with it (``cause``) and the way out."""
        super().__init__(
            f"{os.fspath(path)}: cannot be read ({cause}). Delete this file and run snakemake "
            f"again: it is made anew from what comes before it."
        )


@contextlib.contextmanager
def atomic(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; results are to be read by the user's group as usual.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(
    path: StrPath, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays and string metadata as one safetensors file."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(tensors.items())}
    with atomic(path) as temporary:
        save_file(contiguous, temporary, metadata=dict(metadata or {}))
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Order the metadata of a safetensors file: the library writes it in hash order."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # Tensor data must start on a multiple of eight bytes; the format pads with blanks.
    ordered += b" " * (-len(ordered) % 8)
    path.write_bytes(len(ordered).to_bytes(8, "little") + ordered + content[8 + length :])


def read_tensors(path: StrPath) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read all arrays and the metadata of a safetensors file.

    Raises:
        CorruptArtifact: if the file is missing, cut short or not safetensors.
    """
    try:
        return load(Path(path).read_bytes()), read_tensor_metadata(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CorruptArtifact(path, error) from error


def read_tensor_metadata(path: StrPath) -> dict[str, str]:
    """Read only the metadata of a safetensors file, without its arrays.

    Raises:
        CorruptArtifact: if the file is missing, cut short or not safetensors.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CorruptArtifact(path, error) from error


def write_table(
    path: StrPath, frame: pd.DataFrame, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a data frame, without its index, and string metadata as one parquet file."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # pandas' own schema note holds library versions, which are no part of the data.
    table = table.replace_schema_metadata(dict(sorted((metadata or {}).items())))
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: StrPath, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a parquet file, or some of its columns, as a data frame.

    The axes in the folder names are not added as columns: a file is read as it was written.

    Raises:
        CorruptArtifact: if the file is missing, cut short, not parquet or lacks a column.
    """
    try:
        names = None if columns is None else list(columns)
        with pq.ParquetFile(path) as file:
            missing = set(names or ()) - set(file.schema_arrow.names)
            if missing:
                raise CorruptArtifact(path, f"no column {sorted(missing)}")
            frame: pd.DataFrame = file.read(columns=names).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise CorruptArtifact(path, error) from error
    return frame


def read_table_metadata(path: StrPath) -> dict[str, str]:
    """Read only the string metadata of a parquet file.

    Raises:
        CorruptArtifact: if the file is missing, cut short or not parquet.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise CorruptArtifact(path, error) from error
    return {key.decode(): value.decode() for key, value in metadata.items()}


def write_json(path: StrPath, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: StrPath) -> Any:
    """Read a JSON file.

    Raises:
        CorruptArtifact: if the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptArtifact(path, error) from error


def write_text(path: StrPath, text: str) -> None:
    """Write ``text`` as UTF-8 with the line ends that it has."""
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode())


def digest(path: StrPath) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        CorruptArtifact: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorruptArtifact(path, error) from error


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_current(path: StrPath, mark: str) -> bool:
    """Whether the artifact at ``path`` is whole and was made under the fingerprint ``mark``.

    Reads the metadata of a safetensors or parquet file; a file that cannot be read is not current.
    """
    reader = read_table_metadata if str(path).endswith(".parquet") else read_tensor_metadata
    try:
        return reader(path).get("fingerprint") == mark
    except CorruptArtifact:
        return False

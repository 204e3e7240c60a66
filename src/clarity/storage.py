"""Storage: owns how artifacts are written and read; knows nothing of what is in them.

Every write goes to a temporary file in the same folder and is renamed when it is whole, so a
killed job leaves either the old file, the new file or none. Every read failure names the file and
how to make it again. Nothing is ever unpickled: tensors are safetensors, tables are parquet.

Every artifact carries a digest, the SHA-256 of its own bytes with zeros in the digest's place. It
stands in the metadata of a safetensors or parquet file, and is a key of a sealed JSON file; readers
of contents check it before they give anything back, so that a file that was cut short, emptied or
altered between two stages is an error and no result.

A tensor may be compressed without loss, row by row. Its place in the file is then taken by two
tensors: NAME.zstd, the compressed rows end to end (uint8), and NAME.offsets, where each row begins
and the last one ends (int64 [rows + 1]). The metadata hold its type and shape under a key of
storage's own. Readers get the tensor back and see none of this.
"""

import contextlib
import hashlib
import io
import json
import mmap
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

StrPath = str | os.PathLike[str]

#: What safetensors' headers call the types of numpy.
DTYPES = {
    "BOOL": "bool",
    "C64": "complex64",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}

#: The metadata key of the digest, and what stands before its 64 hexadecimal digits there: a mark by
#: which the place is found, whatever the format.
SEAL = "digest"
MARK = b"clarity-sha256:"
DIGITS = 64
UNSEALED = MARK + b"0" * DIGITS

#: What a record of the files of a folder is called.
LISTING = "manifest.json"

#: The metadata key that says which tensors are compressed: their types and shapes, as JSON.
COMPRESSED = "storage.compressed"
#: The tensors that stand for a compressed one: its rows, and where they begin.
BLOB, OFFSETS = PARTS = (".zstd", ".offsets")
#: zstd's level. Level 9 saves another 1% of upsampled maps, and takes four times as long to write.
LEVEL = 3


class CorruptArtifact(Exception):
    """A file between two stages cannot be read; the message says which and how to remake it."""

    def __init__(self, path: StrPath, cause: object) -> None:
        """Name ``path``, what is wrong with it (``cause``) and the way out."""
        super().__init__(
            f"{os.fspath(path)}: cannot be read ({cause}). Delete this file and run snakemake "
            f"again: it is made anew from what comes before it."
        )
        self.path, self.cause = os.fspath(path), str(cause)

    def __reduce__(self) -> tuple[type["CorruptArtifact"], tuple[str, str]]:
        """Make it anew from what it was made of, so that it can cross processes."""
        return type(self), (self.path, self.cause)


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
    path: StrPath,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    compressed: Collection[str] = (),
) -> None:
    """Write named arrays and string metadata as one safetensors file.

    Args:
        path: where it goes.
        tensors: arrays of numbers or truth values, by name.
        metadata: texts by name; `COMPRESSED` is storage's own.
        compressed: names of those ``tensors`` that are compressed without loss, each row (along the
            first axis) alone, so that `read_tensor_rows` need not read the others. The readers
            give them back bit for bit, with no word of it.

    Raises:
        ValueError: if a name in ``compressed`` is not in ``tensors`` or has no axis, or a name is
            taken by storage.
    """
    notes = dict(metadata or {})
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    shapes = {}
    for name in sorted(set(compressed)):
        if name not in arrays:
            raise ValueError(f"compressed: found {name!r}, wanted one of {sorted(tensors)}")
        taken = [name + part for part in PARTS if name + part in tensors]
        if taken:
            raise ValueError(f"tensors: found {', '.join(taken)}, taken by the compressed {name!r}")
        # Not the contiguous copy: numpy gives a scalar an axis there.
        if not np.ndim(tensors[name]):
            raise ValueError(f"compressed: found {name!r}, which has no axis, wanted rows")
        array = arrays.pop(name)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if array.dtype.name not in DTYPES.values():
            raise ValueError(f"compressed: found {name!r} of type {array.dtype}, wanted numbers")
        shapes[name] = {"dtype": array.dtype.name, "shape": list(array.shape)}
        arrays |= {name + part: own for part, own in _compress(array).items()}
    for own in (COMPRESSED, SEAL):
        if own in notes:
            raise ValueError(f"metadata: found {own!r}, which is storage's own")
    if shapes:
        notes[COMPRESSED] = json.dumps(shapes, sort_keys=True)
    notes[SEAL] = UNSEALED.decode()
    with atomic(path) as temporary:
        save_file(dict(sorted(arrays.items())), temporary, metadata=notes)
        _sort_header(temporary)
        _seal(temporary, path)


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


def _compress(array: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tensors that stand for a contiguous array, by their part of the name.

    The bytes of a row are put in the order first bytes of all its numbers, second bytes, and so on:
    the signs and exponents of a map are alike, and zstd finds that only if they lie together.
    """
    codec = pa.Codec("zstd", LEVEL)
    rows, count = len(array), int(np.prod(array.shape[1:]))
    planes = array.reshape(-1).view(np.uint8).reshape(rows, count, array.itemsize).swapaxes(1, 2)
    blobs = [codec.compress(row.tobytes(), asbytes=True) for row in planes]
    return {
        BLOB: np.frombuffer(b"".join(blobs), dtype=np.uint8),
        OFFSETS: np.cumsum([0, *map(len, blobs)], dtype=np.int64),
    }


def _restore(blob: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return the row that a blob of `_compress` holds."""
    count = int(np.prod(shape))
    plain = pa.Codec("zstd").decompress(blob, count * dtype.itemsize, asbytes=True)
    planes = np.frombuffer(plain, dtype=np.uint8).reshape(dtype.itemsize, count)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype).reshape(shape)


@dataclass(frozen=True)
class _Stored:
    """A tensor as it lies in a file: its type, its shape, and its bytes [start, end) there."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def row(self) -> int:
        """The bytes of a row."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:]))


class _File:
    """A safetensors file that is open, of which single rows can be read.

    Attributes:
        dtypes: the type of each tensor, by name, not of those that stand for a compressed one.
        shapes: likewise.
        metadata: the texts that came with the tensors.
    """

    def __init__(self, file: io.FileIO, metadata: dict[str, str]) -> None:
        """Take an open file, whose header is known to be sound, and all of its metadata."""
        self._file = file
        length = int(self._array(0, np.dtype("<u8"), ()))
        header = json.loads(self._array(8, np.dtype(np.uint8), (length,)).tobytes())
        begin = 8 + length
        header.pop("__metadata__", None)
        self._stored = {
            name: _Stored(
                np.dtype(DTYPES[about["dtype"]]),
                tuple(about["shape"]),
                *(begin + place for place in about["data_offsets"]),
            )
            for name, about in header.items()
        }
        compressed = json.loads(metadata.get(COMPRESSED, "{}"))
        self._compressed = set(compressed)
        self.metadata = _told(metadata)
        parts = {name + part for name in compressed for part in PARTS}
        self.dtypes = {name: it.dtype for name, it in self._stored.items() if name not in parts}
        self.shapes = {name: it.shape for name, it in self._stored.items() if name not in parts}
        for name, about in compressed.items():
            self.dtypes[name] = np.dtype(about["dtype"])
            self.shapes[name] = tuple(about["shape"])

    def whole(self, name: str) -> np.ndarray:
        """Return a tensor."""
        if name in self._compressed:
            return self.rows(name, np.arange(self.shapes[name][0]))
        stored = self._stored[name]
        return self._array(stored.start, stored.dtype, stored.shape)

    def rows(self, name: str, rows: np.ndarray, columns: int | None = None) -> np.ndarray:
        """Return some rows of a tensor, all of which it has, cut to their first columns."""
        dtype, shape = self.dtypes[name], self.shapes[name][1:]
        kept = shape if columns is None else (columns, *shape[1:])
        found = np.empty((len(rows), *kept), dtype)
        if name in self._compressed:
            blobs = self._blobs(name)
            for place, row in enumerate(rows):
                start, end = blobs[row]
                blob = self._array(start, np.dtype(np.uint8), (end - start,)).tobytes()
                whole = _restore(blob, dtype, shape)
                found[place] = whole if columns is None else whole[:columns]
            return found
        stored = self._stored[name]
        for place, row in enumerate(rows):
            found[place] = self._array(stored.start + int(row) * stored.row, dtype, kept)
        return found

    def _blobs(self, name: str) -> list[tuple[int, int]]:
        """Return where in the file each row of a compressed tensor lies."""
        blob, offsets = (self._stored[name + part] for part in PARTS)
        places = (blob.start + self.whole(name + OFFSETS)).tolist()
        rows = self.shapes[name][0]
        if offsets.shape != (rows + 1,):
            raise ValueError(f"the parts of the compressed {name!r} do not fit together")
        if places != sorted(places) or [places[0], places[-1]] != [blob.start, blob.end]:
            raise ValueError(f"the rows of the compressed {name!r} do not fit together")
        return list(pairwise(places))

    def _array(self, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Return the array whose bytes begin at a place of the file, and read no others."""
        array = np.empty(shape, dtype)
        missing = array.reshape(-1).view(np.uint8).data
        self._file.seek(start)
        while len(missing):
            # A system may give less at once than it is asked for.
            given = self._file.readinto(missing)
            if not given:
                raise ValueError("cut short")
            missing = missing[given:]
        return array


@contextlib.contextmanager
def _opened(path: StrPath) -> Iterator[_File]:
    """Open a safetensors file; what is found wrong with it is raised as a `CorruptArtifact`."""
    try:
        # The library checks the header, and that the tensors fill the file.
        metadata = _metadata(path)
        # Without a buffer, which would be filled with the neighbours of a row.
        with open(path, "rb", buffering=0) as file:
            yield _File(file, metadata)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CorruptArtifact(path, error) from error


def read_tensors(path: StrPath) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read all arrays and the metadata of a safetensors file.

    Raises:
        CorruptArtifact: if the file is missing, not safetensors, or not as it was written.
    """
    check(path)
    with _opened(path) as file:
        return {name: file.whole(name) for name in sorted(file.shapes)}, file.metadata


def read_tensor_rows(
    path: StrPath,
    name: str,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    columns: int | None = None,
) -> np.ndarray:
    """Read some rows of one array of a safetensors file, and no others.

    Args:
        path: the file.
        name: the array.
        rows: places [M] on the first axis, in any order, repeats included; None for all.
        columns: how many of the first entries of the second axis to keep; None for all. Of an
            array that is not compressed the others are not read; a compressed row is read whole.

    Returns:
        The array [M, columns, ...].

    Raises:
        CorruptArtifact: if the file is missing, not safetensors, not as it was written, or lacks
            the array.
        IndexError: if the array has no such row or not so many columns.
    """
    check(path)
    with _opened(path) as file:
        if name not in file.shapes:
            raise CorruptArtifact(path, f"no tensor {name!r}")
        shape = file.shapes[name]
        count = shape[0] if shape else 0
        wanted = np.arange(count) if rows is None else np.asarray(rows, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= count)]
        if len(outside):
            raise IndexError(f"rows: found {outside[0]}, but {name!r} has the shape {shape}")
        if columns is not None and not (len(shape) > 1 and 0 <= columns <= shape[1]):
            raise IndexError(f"columns: found {columns}, but {name!r} has the shape {shape}")
        once, places = np.unique(wanted, return_inverse=True)
        return file.rows(name, once, columns)[places]


def read_tensor_shapes(path: StrPath) -> dict[str, tuple[int, ...]]:
    """Read only the names and shapes of the arrays of a safetensors file.

    Raises:
        CorruptArtifact: if the file is missing, cut short or not safetensors.
    """
    with _opened(path) as file:
        return file.shapes


def read_tensor_metadata(path: StrPath) -> dict[str, str]:
    """Read only the metadata of a safetensors file, without its arrays; its digest is not checked.

    Raises:
        CorruptArtifact: if the file is missing, cut short or not safetensors.
    """
    try:
        return _told(_metadata(path))
    except (OSError, SafetensorError) as error:
        raise CorruptArtifact(path, error) from error


def _told(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that are not storage's own."""
    return {key: text for key, text in metadata.items() if key not in (COMPRESSED, SEAL)}


def _metadata(path: StrPath) -> dict[str, str]:
    """Read the metadata of a safetensors file, storage's own key included."""
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


def write_table(
    path: StrPath,
    frame: pd.DataFrame,
    metadata: Mapping[str, str] | None = None,
    *,
    lists: Collection[str] = (),
) -> None:
    """Write a data frame, without its index, and string metadata as one parquet file.

    Args:
        path: of the file.
        frame: the rows.
        metadata: strings to keep beside them.
        lists: columns of float64 arrays or None, which have the type of a list if all are None too.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name in lists:
        column = table.column(name).cast(pa.list_(pa.float64()))
        table = table.set_column(table.schema.get_field_index(name), name, column)
    # pandas' own schema note holds library versions, which are no part of the data.
    table = table.replace_schema_metadata(dict(sorted((metadata or {}).items())))
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, table.schema, compression="zstd") as writer:
            writer.write_table(table)
            # Not in the schema, of which the file has a second copy in another coding.
            writer.add_key_value_metadata({SEAL: UNSEALED.decode()})
        _seal(temporary, path)


def read_table(path: StrPath, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a parquet file, or some of its columns, as a data frame.

    The axes in the folder names are not added as columns: a file is read as it was written.

    Raises:
        CorruptArtifact: if the file is missing, not parquet, not as it was written or lacks a
            column.
    """
    frame: pd.DataFrame = read_columns(path, columns).to_pandas()
    return frame


def read_columns(path: StrPath, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file like `read_table`, as arrow has it: faster for many small files.

    Raises:
        CorruptArtifact: if the file is missing, not parquet, not as it was written or lacks a
            column.
    """
    check(path)
    try:
        names = None if columns is None else list(columns)
        # A file is small, and its threads would only be in each other's way.
        with pq.ParquetFile(path) as file:
            missing = set(names or ()) - set(file.schema_arrow.names)
            if missing:
                raise CorruptArtifact(path, f"no column {sorted(missing)}")
            return file.read(columns=names, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise CorruptArtifact(path, error) from error


def read_table_metadata(path: StrPath) -> dict[str, str]:
    """Read only the string metadata of a parquet file; its digest is not checked.

    Raises:
        CorruptArtifact: if the file is missing, cut short or not parquet.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise CorruptArtifact(path, error) from error
    return _told({key.decode(): value.decode() for key, value in metadata.items()})


def write_json(path: StrPath, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys."""
    write_text(path, _json(value))


def read_json(path: StrPath) -> Any:
    """Read a JSON file.

    Raises:
        CorruptArtifact: if the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptArtifact(path, error) from error


def write_record(path: StrPath, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON that carries its digest, under the key `SEAL`."""
    with atomic(path) as temporary:
        temporary.write_bytes(_json({**value, SEAL: UNSEALED.decode()}).encode())
        _seal(temporary, path)


def read_record(path: StrPath) -> dict[str, Any]:
    """Read what `write_record` wrote.

    Raises:
        CorruptArtifact: if the file is missing or not as it was written.
    """
    check(path)
    return {key: value for key, value in read_json(path).items() if key != SEAL}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_text(path: StrPath, text: str) -> None:
    """Write ``text`` as UTF-8 with the line ends that it has."""
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode())


def write_sealed_text(path: StrPath, text: str) -> None:
    """Write a text that carries its digest, in the place where it has `UNSEALED` (once)."""
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode())
        _seal(temporary, path)


def list_files(folder: StrPath, names: Iterable[str]) -> None:
    """Write a record `LISTING` of the digests of some files of a folder, which carry none."""
    record = {name: sha256(Path(folder) / name) for name in sorted(names)}
    write_record(Path(folder) / LISTING, {"files": record})


def check_files(folder: StrPath) -> None:
    """Hold the files of a folder to what `list_files` wrote of them.

    Raises:
        CorruptArtifact: if the record or a file is missing, or not as it was written.
    """
    for problem in wrong_files(folder):
        raise problem


def wrong_files(folder: StrPath) -> Iterator[CorruptArtifact]:
    """Yield what is wrong with each file that is missing or not as `list_files` found it.

    Raises:
        CorruptArtifact: if the record is missing, or not as it was written.
    """
    for name, stated in read_record(Path(folder) / LISTING)["files"].items():
        path = Path(folder) / name
        try:
            if sha256(path) != stated:
                yield CorruptArtifact(path, f"its bytes are not those that {LISTING} states")
        except CorruptArtifact as problem:
            yield problem


def digest(path: StrPath) -> str:
    """Return the digest of an artifact, in hexadecimal, once it is known to be that of its bytes.

    Raises:
        CorruptArtifact: if the file is missing, or not as it was written.
    """
    found, stated = _digests(path)
    if found != stated:
        raise CorruptArtifact(path, "its bytes are not those that were written: another digest")
    return found


#: Files that were checked: path, size, time of the last change and number on the disk.
_sound: set[tuple[str, int, int, int]] = set()


def check(path: StrPath) -> None:
    """Hold an artifact to its digest, once for each state of the file in a process.

    Raises:
        CorruptArtifact: if the file is missing, or not as it was written.
    """
    try:
        about = os.stat(path)
    except OSError as error:
        raise CorruptArtifact(path, error) from error
    state = (os.fspath(path), about.st_size, about.st_mtime_ns, about.st_ino)
    if state not in _sound:
        digest(path)
        _sound.add(state)


def sha256(path: StrPath) -> str:
    """Return the SHA-256 of all bytes of any file, in hexadecimal, as `sha256sum` prints it.

    Raises:
        CorruptArtifact: if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorruptArtifact(path, error) from error


def _digests(path: StrPath) -> tuple[str, str]:
    """Return the digest of a file's bytes, and the one that the file states."""
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise CorruptArtifact(path, "it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                # Metadata stand at the end of a parquet file, and at the start of the others.
                find = content.rfind if os.fspath(path).endswith(".parquet") else content.find
                begin = find(MARK) + len(MARK)
                end = begin + DIGITS
                if begin < len(MARK) or end > len(content):
                    raise CorruptArtifact(path, "it carries no digest: cut short, or not ours")
                total = hashlib.sha256()
                with memoryview(content) as view:
                    total.update(view[:begin])
                    total.update(b"0" * DIGITS)
                    total.update(view[end:])
                return total.hexdigest(), content[begin:end].decode(errors="replace")
    except OSError as error:
        raise CorruptArtifact(path, error) from error


def _seal(temporary: Path, path: StrPath) -> None:
    """Put the digest of a file that is being written in its place.

    Args:
        temporary: the file, with `UNSEALED` in its metadata.
        path: what it will be called, which tells where metadata stand.
    """
    content = temporary.read_bytes()
    last = os.fspath(path).endswith(".parquet")
    begin = (content.rfind if last else content.find)(UNSEALED) + len(MARK)
    if begin < len(MARK):
        raise ValueError(f"{path}: found no place for its digest, wanted {UNSEALED.decode()}")
    with temporary.open("r+b") as file:
        file.seek(begin)
        file.write(hashlib.sha256(content).hexdigest().encode())


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

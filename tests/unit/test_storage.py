"""Promises of storage: whole files or none, the same bytes, and failures that name the file."""

import contextlib
import hashlib
import io

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from clarity import storage

TENSORS = {"b": np.arange(6, dtype=np.int64).reshape(2, 3), "a": np.ones(3, np.float32)}
FRAME = pd.DataFrame({"image": np.arange(3, dtype=np.int32), "metric": ["x", "y", "z"]})


def test_tensors_and_metadata_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "t.safetensors"
    storage.write_tensors(path, TENSORS, {"reason": "größer"})
    arrays, metadata = storage.read_tensors(path)
    assert metadata == {"reason": "größer"}
    assert set(arrays) == set(TENSORS)
    for name, array in TENSORS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_bytes_do_not_depend_on_the_order_in_which_things_are_given(tmp_path):
    metadata = {f"key{i}": str(i) for i in range(20)}
    storage.write_tensors(tmp_path / "1", TENSORS, metadata)
    storage.write_tensors(
        tmp_path / "2", dict(reversed(TENSORS.items())), dict(reversed(metadata.items()))
    )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    storage.write_table(tmp_path / "3", FRAME, metadata)
    storage.write_table(tmp_path / "4", FRAME, dict(reversed(metadata.items())))
    assert (tmp_path / "3").read_bytes() == (tmp_path / "4").read_bytes()


def test_a_view_of_an_array_is_stored_by_its_values(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    storage.write_tensors(tmp_path / "t", {"x": array.transpose(2, 0, 1)[::2]})
    np.testing.assert_array_equal(
        storage.read_tensors(tmp_path / "t")[0]["x"], array.transpose(2, 0, 1)[::2]
    )


def test_a_table_comes_back_without_the_axes_of_its_folder(tmp_path):
    path = tmp_path / "dataset=mnist" / "scores.parquet"
    storage.write_table(path, FRAME, {"fingerprint": "f"})
    pd.testing.assert_frame_equal(storage.read_table(path), FRAME)
    assert list(storage.read_table(path, ["metric"])) == ["metric"]
    assert storage.read_table_metadata(path) == {"fingerprint": "f"}


@pytest.mark.parametrize("cut", [0, 1, 7, 40, -1])
@pytest.mark.parametrize("kind", ["tensors", "table", "json"])
def test_a_file_cut_short_is_named_with_how_to_remake_it(tmp_path, kind, cut):
    path = tmp_path / {"tensors": "t.safetensors", "table": "t.parquet", "json": "t.json"}[kind]
    if kind == "tensors":
        storage.write_tensors(path, TENSORS)
    elif kind == "table":
        storage.write_table(path, FRAME)
    else:
        storage.write_json(path, {"long": "x" * 60, "end": [1]})
    content = path.read_bytes()
    # A JSON text is whole without its last line end, so one more byte goes there.
    path.write_bytes(content[: cut - 1] if kind == "json" and cut < 0 else content[:cut])
    read = {"tensors": storage.read_tensors, "table": storage.read_table, "json": storage.read_json}
    with pytest.raises(storage.CorruptArtifact, match=r"Delete this file") as caught:
        read[kind](path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path):
    with pytest.raises(storage.CorruptArtifact, match=r"gone\.parquet"):
        storage.read_table(tmp_path / "gone.parquet")
    storage.write_table(tmp_path / "t.parquet", FRAME)
    with pytest.raises(storage.CorruptArtifact, match=r"no column \['value'\]"):
        storage.read_table(tmp_path / "t.parquet", ["image", "value"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "t.json"
    storage.write_json(path, 1)

    def fail_half_way() -> None:
        with storage.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert storage.read_json(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


WRITERS = {
    "t.safetensors": lambda path: storage.write_tensors(path, TENSORS, {"a": "b"}),
    "t.parquet": lambda path: storage.write_table(path, FRAME, {"a": "b"}),
    "t.json": lambda path: storage.write_record(path, {"a": "b"}),
}
READERS = {
    "t.safetensors": lambda path: storage.read_tensors(path)[1],
    "t.parquet": lambda path: (storage.read_table(path), storage.read_table_metadata(path))[1],
    "t.json": storage.read_record,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_altered_byte_of_an_artifact_is_found_by_whoever_reads_it(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    assert READERS[name](path) == {"a": "b"}, "the digest is storage's own"
    content = path.read_bytes()
    passed = []
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        path.write_bytes(altered)
        with contextlib.suppress(storage.CorruptArtifact):
            READERS[name](path)
            passed.append(place)
    assert passed == []
    path.write_bytes(content)
    assert READERS[name](path) == {"a": "b"}


@pytest.mark.parametrize("name", WRITERS)
def test_the_digest_is_that_of_the_bytes_with_zeros_in_its_place(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    digest, content = storage.digest(path), path.read_bytes()
    assert content.count(digest.encode()) == 1
    zeros = content.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(zeros).hexdigest() == digest
    WRITERS[name](path)
    assert path.read_bytes() == content, "the same again"


def test_a_file_that_others_wrote_is_not_taken_for_an_artifact(tmp_path):
    FRAME.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text('{"a": "b"}')
    for name in ("t.parquet", "t.json"):
        with pytest.raises(storage.CorruptArtifact, match="no digest"):
            READERS[name](tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (300).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[9,1]}}',
        b"PAR1" + b"\0" * 40 + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1",
        b"\x80\x04\x95cposix\nsystem\n(S'true'\ntR.",
    ],
)
@pytest.mark.parametrize("name", ["t.safetensors", "t.parquet", "t.json"])
def test_hostile_files_are_refused_whole_by_every_reader(tmp_path, name, content):
    path = tmp_path / name
    # As one would who knows the format: with the right digest, where the format has room for it.
    if content.startswith(b"PAR1"):
        sealed = b"PAR1" + storage.UNSEALED + content.removeprefix(b"PAR1")
    else:
        sealed = content + storage.UNSEALED
    path.write_bytes(sealed.replace(b"0" * 64, hashlib.sha256(sealed).hexdigest().encode()))
    readers = {
        "t.safetensors": (
            storage.read_tensors,
            storage.read_tensor_shapes,
            storage.read_tensor_metadata,
            lambda path: storage.read_tensor_rows(path, "a"),
        ),
        "t.parquet": (storage.read_table, storage.read_table_metadata),
        "t.json": (storage.read_record,),
    }
    for read in readers[name]:
        with pytest.raises(storage.CorruptArtifact, match="Delete this file"):
            read(path)


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    assert storage.fingerprint({"a": 1, "b": [2]}) == storage.fingerprint({"b": [2], "a": 1})
    values = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": None}]
    assert len({storage.fingerprint(value) for value in values}) == len(values)


# compression and single rows


RNG = np.random.default_rng(0)
#: Patterns of float32 that arithmetic would lose: NaNs with payloads, both zeros, a subnormal.
ODD = np.array([0x7FC01234, 0xFFA00001, 0x80000000, 0, 1, 0x7F800000], np.uint32).view(np.float32)
COMPRESSIBLE = {
    "maps": RNG.normal(size=(5, 3, 4, 6)).astype(np.float32),
    "odd": ODD.reshape(3, 2),
    "doubles": RNG.normal(size=(4, 7)),
    "halves": RNG.normal(size=(4, 7)).astype(np.float16),
    "integers": RNG.integers(-9, 9, (6, 2)),
    "pixels": RNG.integers(0, 256, (3, 1, 4, 4), dtype=np.uint8),
    "truth": RNG.random((4, 9)) < 0.5,
    "numbers": np.arange(5.0),
    "no rows": np.empty((0, 2, 3), np.float32),
    "empty rows": np.empty((4, 0, 3), np.float32),
    "turned": np.asfortranarray(RNG.normal(size=(4, 5))),
    "big-endian": RNG.normal(size=(4, 5)).astype(">f4"),
}


def bits(array: np.ndarray) -> tuple:
    return array.dtype.newbyteorder("<"), array.shape, array.astype(array.dtype).tobytes()


def write_both_ways(tmp_path, tensors, metadata=None):
    storage.write_tensors(tmp_path / "plain", tensors, metadata)
    storage.write_tensors(tmp_path / "small", tensors, metadata, compressed=tuple(tensors))
    return tmp_path / "plain", tmp_path / "small"


def test_a_compressed_tensor_comes_back_bit_for_bit_and_leaves_no_trace(tmp_path):
    native = {name: one for name, one in COMPRESSIBLE.items() if name != "big-endian"}
    for path in write_both_ways(tmp_path, native, {"reason": "none"}):
        arrays, metadata = storage.read_tensors(path)
        assert metadata == storage.read_tensor_metadata(path) == {"reason": "none"}
        assert list(arrays) == sorted(native)
        assert storage.read_tensor_shapes(path) == {n: one.shape for n, one in native.items()}
        for name, array in native.items():
            assert bits(arrays[name]) == bits(array), name
            assert arrays[name].flags.writeable
            assert bits(storage.read_tensor_rows(path, name)) == bits(array), name


def test_the_order_of_bytes_of_a_machine_does_not_matter(tmp_path):
    array = COMPRESSIBLE["big-endian"]
    storage.write_tensors(tmp_path / "t", {"x": array}, compressed=["x"])
    np.testing.assert_array_equal(storage.read_tensors(tmp_path / "t")[0]["x"], array)


@pytest.mark.parametrize("place", [0, 1])
def test_rows_come_in_the_order_in_which_they_are_asked_for(tmp_path, place):
    path = write_both_ways(tmp_path, COMPRESSIBLE)[place]
    maps = COMPRESSIBLE["maps"]
    for rows in ([3, 0, 3, 4], np.array([1]), [], range(5), None):
        chosen = np.arange(5) if rows is None else np.asarray(rows, dtype=int)
        for columns in (0, 1, 2, 3, None):
            found = storage.read_tensor_rows(path, "maps", rows, columns=columns)
            np.testing.assert_array_equal(found, maps[chosen][:, :columns])
            assert found.dtype == maps.dtype
    for rows, columns in (([5], None), ([-1], None), ([0], 4), ([0], -1)):
        with pytest.raises(IndexError, match=r"'maps' has the shape \(5, 3, 4, 6\)"):
            storage.read_tensor_rows(path, "maps", rows, columns=columns)
    with pytest.raises(IndexError, match="columns: found 1"):
        storage.read_tensor_rows(path, "numbers", [0], columns=1)
    with pytest.raises(storage.CorruptArtifact, match="no tensor 'map'"):
        storage.read_tensor_rows(path, "map", [0])


@pytest.mark.parametrize("compressed", [(), ("maps",)])
def test_of_a_file_only_the_rows_that_are_asked_for_are_read(tmp_path, compressed, monkeypatch):
    maps = RNG.normal(size=(64, 4, 32, 32)).astype(np.float32)
    path = tmp_path / "t"
    storage.write_tensors(path, {"maps": maps, "other": maps}, compressed=compressed)
    read = []

    class Counted(io.FileIO):
        def readinto(self, buffer):
            read.append(super().readinto(buffer))
            return read[-1]

    monkeypatch.setattr(storage, "open", lambda path, *_, **__: Counted(path), raising=False)
    row = maps[0].nbytes
    # The header, and of a compressed tensor the places of its rows.
    head = 2048
    found = storage.read_tensor_rows(path, "maps", [9, 50, 9])
    np.testing.assert_array_equal(found, maps[[9, 50, 9]])
    assert row < sum(read) < 2 * row + head
    read.clear()
    storage.read_tensor_rows(path, "maps", [9, 50], columns=1)
    assert sum(read) < (2 * row if compressed else row / 2) + head
    read.clear()
    storage.read_tensor_shapes(path)
    assert sum(read) < head


def test_compressed_bytes_do_not_depend_on_order_or_layout_of_what_is_given(tmp_path):
    turned = {name: np.asfortranarray(one) for name, one in reversed(COMPRESSIBLE.items())}
    storage.write_tensors(tmp_path / "1", COMPRESSIBLE, compressed=tuple(COMPRESSIBLE))
    storage.write_tensors(tmp_path / "2", turned, compressed=set(turned))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_maps_that_were_enlarged_take_less_room_and_noise_hardly_more(tmp_path):
    rough = torch.from_numpy(RNG.normal(size=(64, 4, 8, 8)).astype(np.float32))
    large = F.interpolate(rough, size=(64, 64), mode="bilinear").numpy()
    noise = RNG.integers(0, 2**32, large.shape, dtype=np.uint32).view(np.float32)
    for array, most in ((large, 0.8), (noise, 1.01)):
        plain, small = write_both_ways(tmp_path, {"maps": array})
        assert small.stat().st_size < most * plain.stat().st_size


def test_every_damaged_byte_of_a_compressed_row_is_found(tmp_path):
    path = tmp_path / "t"
    storage.write_tensors(path, {"x": COMPRESSIBLE["maps"]}, compressed=["x"])
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    passed = []
    reads = (storage.read_tensors, lambda path: storage.read_tensor_rows(path, "x"))
    for place in range(start, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        for read in reads:
            with contextlib.suppress(storage.CorruptArtifact):
                read(path)
                passed.append(place)
    assert passed == []


@pytest.mark.parametrize("cut", [0, 7, 40, -1])
def test_rows_of_a_file_cut_short_are_not_read(tmp_path, cut):
    for path in write_both_ways(tmp_path, COMPRESSIBLE):
        path.write_bytes(path.read_bytes()[:cut])
        for read in (
            lambda path: storage.read_tensor_rows(path, "maps", [0]),
            storage.read_tensor_shapes,
        ):
            with pytest.raises(storage.CorruptArtifact, match="Delete this file"):
                read(path)


@pytest.mark.parametrize(
    ("tensors", "compressed", "metadata", "wanted"),
    [
        ({"x": np.ones(2)}, ["y"], {}, "found 'y', wanted one of"),
        ({"x": np.float32(2)}, ["x"], {}, "which has no axis"),
        ({"x": np.array(["a"])}, ["x"], {}, "wanted numbers"),
        ({"x": np.ones(2), "x.zstd": np.ones(2)}, ["x"], {}, "found x.zstd, taken"),
        ({"x": np.ones(2)}, [], {storage.COMPRESSED: "{}"}, "which is storage's own"),
    ],
)
def test_what_cannot_be_stored_is_named(tensors, compressed, metadata, wanted, tmp_path):
    with pytest.raises(ValueError, match=wanted):
        storage.write_tensors(tmp_path / "t", tensors, metadata, compressed=compressed)
    assert list(tmp_path.iterdir()) == []

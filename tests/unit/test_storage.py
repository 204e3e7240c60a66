"""Promises of storage: whole files or none, the same bytes, and failures that name the file."""

import numpy as np
import pandas as pd
import pytest

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


def test_only_the_fingerprint_that_made_a_file_makes_it_current(tmp_path):
    for name in ("t.safetensors", "t.parquet"):
        path = tmp_path / name
        assert not storage.is_current(path, "f")
        if name.endswith("parquet"):
            storage.write_table(path, FRAME, {"fingerprint": "f"})
        else:
            storage.write_tensors(path, TENSORS, {"fingerprint": "f"})
        assert storage.is_current(path, "f")
        assert not storage.is_current(path, "g")
        path.write_bytes(path.read_bytes()[:20])
        assert not storage.is_current(path, "f")


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    assert storage.fingerprint({"a": 1, "b": [2]}) == storage.fingerprint({"b": [2], "a": 1})
    values = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": [1]}, {"b": 1}, {"a": None}]
    assert len({storage.fingerprint(value) for value in values}) == len(values)

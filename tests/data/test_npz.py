from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from elektronn_tui.data import ArraySource, NpzSource, Source, open_source
from elektronn_tui.errors import DataError


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) * 7 % 251).reshape(shape).astype(dtype)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32", "uint64", "bool"])
@pytest.mark.parametrize("shape", [(5, 11, 13), (3, 5, 11, 13)])
def test_round_trip(tmp_path: Path, shape: tuple[int, ...], dtype: str, save: object) -> None:
    stored = ramp(shape, dtype)
    save(tmp_path / "v.npz", a=np.asfortranarray(stored), **{"b/c": stored[..., :2]})  # type: ignore[operator]
    source = open_source(f"{tmp_path}/v.npz:a")
    assert isinstance(source, NpzSource)
    assert isinstance(source, Source)
    expected = stored.reshape(-1, 5, 11, 13)
    np.testing.assert_array_equal(source.read((0, 0, 0), (5, 11, 13)), expected)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read((1, 2, 3), (4, 10, 9)), expected[:, 1:4, 2:10, 3:9])
    assert open_source(f"{tmp_path}/v.npz:b/c").shape == (5, 11, 2)


def test_an_archive_is_read_once_and_anew_when_it_changed(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", np.ones((2, 3, 4), np.uint8))
    source = NpzSource(tmp_path / "v.npz", cache_bytes=0)
    for _ in range(3):
        source.read((0, 0, 0), (1, 2, 2))
    stats = source.stats()
    assert stats is not None
    assert (stats.hits, stats.misses) == (2, 1)
    np.savez(tmp_path / "v.npz", np.full((2, 3, 4), 2, np.uint8))
    os.utime(tmp_path / "v.npz", ns=(1, 1))
    with pytest.raises(DataError, match="was changed"):
        source.read((0, 0, 0), (1, 2, 2))
    assert source.read((0, 0, 0), (1, 1, 1)) == 2


def test_what_can_not_be_opened_says_why(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", raw=np.zeros((2, 3, 4)), ids=np.zeros((2, 3, 4)))
    np.savez(tmp_path / "odd.npz", words=np.array(["a", "b"]), any=np.array([None, 1], object))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "v.npz").read_bytes()[:-100])
    (tmp_path / "text.npz").write_text("no archive")
    for address, message in (
        ("v.npz", "which array\\? It holds raw, ids"),
        ("v.npz:rwa", "no array 'rwa'; it holds raw, ids. Did you mean 'raw'"),
        ("w.npz:raw", "doesn't exist"),
        ("cut.npz:raw", "can't be read as .npz"),
        ("text.npz:raw", "can't be read as .npz"),
        ("odd.npz:words", "a volume holds integers or floats"),
        ("odd.npz:any", "a volume holds integers or floats"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            _ = open_source(tmp_path / address).shape
        assert str(tmp_path) in str(caught.value)


def test_a_mapped_file_that_is_cut_short_does_not_kill_the_process(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, np.ones((64, 64, 64), np.uint8))
    whole = path.read_bytes()
    source = ArraySource(path)
    source.read((0, 0, 0), (1, 1, 1))
    os.truncate(path, 1000)
    with pytest.raises(DataError, match=r"v\.npy"):
        source.read((63, 0, 0), (64, 64, 64))
    path.write_bytes(whole)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="was changed"):
        source.read((0, 0, 0), (1, 1, 1))
    assert source.read((63, 0, 0), (64, 64, 64)).min() == 1
    path.unlink()
    with pytest.raises(DataError, match="is gone"):
        source.read((0, 0, 0), (1, 1, 1))

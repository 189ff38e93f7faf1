"""The demo volume: the same bytes for the same wish, exact cells, a cache that can't hurt."""

from __future__ import annotations

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from elektronn_tui.data.demo import DemoVolume, demo_volume
from elektronn_tui.errors import DataError

SMALL = (12, 64, 80)


def same(a: DemoVolume, b: DemoVolume) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("raw", "ids", "mitochondria"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ELEKTRONN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("anisotropic", [False, True])
def test_same_parameters_give_the_same_bytes_from_any_thread(anisotropic: bool) -> None:
    first = demo_volume(SMALL, seed=3, anisotropic=anisotropic, cache=False)
    with ThreadPoolExecutor(3) as pool:
        others = list(pool.map(lambda _: demo_volume(SMALL, seed=3, anisotropic=anisotropic, cache=False), range(3)))
    assert all(same(first, other) for other in others)
    assert not np.array_equal(first.raw, demo_volume(SMALL, seed=4, anisotropic=anisotropic, cache=False).raw)


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("shape", [SMALL, (1, 1, 1), (3, 200, 7), (40, 1, 30)])
def test_any_shape_has_a_cell_at_every_voxel(shape: tuple[int, int, int], anisotropic: bool) -> None:
    volume = demo_volume(shape, anisotropic=anisotropic, cache=False)
    assert volume.raw.shape == volume.ids.shape == volume.mitochondria.shape == shape
    assert (volume.raw.dtype, volume.ids.dtype, volume.mitochondria.dtype) == (np.uint8, np.uint32, np.uint8)
    assert volume.voxel_size == ((50.0, 4.0, 4.0) if anisotropic else (10.0, 10.0, 10.0))
    ids = np.unique(volume.ids)
    assert np.array_equal(ids, np.arange(1, len(ids) + 1))


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize("shape", [(24, 96, 112), (3, 200, 7), (40, 1, 30)])
def test_a_cell_is_one_piece_but_where_it_leaves_the_volume(shape: tuple[int, int, int], anisotropic: bool) -> None:
    ids = demo_volume(shape, anisotropic=anisotropic, cache=False).ids
    pieces = label(ids, connectivity=1, background=0)
    at_border = {int(p) for axis in range(3) for end in (0, -1) for p in np.unique(np.take(pieces, end, axis))}
    for cell in np.unique(ids):
        own, sizes = np.unique(pieces[ids == cell], return_counts=True)
        inside = [size for piece, size in zip(own, sizes, strict=True) if int(piece) not in at_border]
        assert len(inside) <= 1, cell
        assert not inside or inside[0] == sizes.max(), cell


def test_it_is_read_only() -> None:
    volume = demo_volume(SMALL, cache=False)
    with pytest.raises(ValueError, match="read-only"):
        volume.raw[0, 0, 0] = 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (64, 64)},
        {"shape": (64, 0, 64)},
        {"shape": (64, 2.5, 64)},
        {"shape": 64},
        {"shape": "abc"},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
    ],
)
def test_wrong_parameters_are_named(wrong: dict) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(DataError, match=name) as caught:
        demo_volume(**{"shape": SMALL, **wrong}, cache=False)
    assert repr(value) in str(caught.value)


def test_cache_round_trip(home: Path) -> None:
    made = demo_volume(SMALL, seed=1)
    (file,) = (home / "cache").iterdir()
    assert stat.S_IMODE((home / "cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    before = file.stat()
    assert same(made, demo_volume(SMALL, seed=1))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file.stat().st_ino == before.st_ino
    assert same(made, demo_volume(SMALL, seed=1, cache=False))


def test_what_is_asked_for_is_the_key(home: Path) -> None:
    demo_volume(SMALL)
    demo_volume(SMALL, seed=1)
    demo_volume(SMALL, anisotropic=True)
    demo_volume((12, 64, 64))
    assert len(list((home / "cache").iterdir())) == 4


def test_the_cache_is_what_is_read(home: Path) -> None:
    made = demo_volume(SMALL)
    (file,) = (home / "cache").iterdir()
    np.savez(file, raw=255 - made.raw, ids=made.ids, mitochondria=made.mitochondria)
    assert np.array_equal(demo_volume(SMALL).raw, 255 - made.raw)


@pytest.mark.parametrize("fault", ["cut", "empty", "garbage", "flipped", "foreign", "pickle", "lacking"])
def test_a_broken_cache_file_is_made_anew(home: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    made = demo_volume(SMALL)
    (file,) = (home / "cache").iterdir()
    whole = file.read_bytes()
    if fault == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif fault == "empty":
        file.write_bytes(b"")
    elif fault == "garbage":
        file.write_bytes(b"not a volume" * 100)
    elif fault == "flipped":
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    elif fault == "foreign":
        np.savez(file, raw=np.zeros((2, 2, 2)), ids=made.ids, mitochondria=made.mitochondria)
    elif fault == "pickle":
        file.unlink()
        with file.open("wb") as out:
            np.savez(out, raw=np.array([object()]), ids=made.ids, mitochondria=made.mitochondria)
    else:
        np.savez(file, raw=made.raw)
    with caplog.at_level(logging.WARNING):
        assert same(made, demo_volume(SMALL))
    assert file.name in caplog.text
    caplog.clear()
    assert same(made, demo_volume(SMALL))
    assert not caplog.records
    assert list((home / "cache").iterdir()) == [file]


def test_a_cache_that_cannot_be_written_only_warns(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.write_text("a file, where a folder should be")
    with caplog.at_level(logging.WARNING):
        volume = demo_volume(SMALL)
    assert volume.raw.shape == SMALL
    assert "can't be cached" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_home_only_warns(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    home.mkdir(mode=0o500)
    assert demo_volume(SMALL).raw.shape == SMALL
    assert "can't be cached" in caplog.text

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from elektronn_tui.data import HDF5Source
from elektronn_tui.data.hdf5_chunks import HDF5Chunks
from elektronn_tui.errors import DataError

SHAPE = (9, 22, 31)
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "gzip, shuffle": {"compression": "gzip", "shuffle": True},
    "gzip, shuffle, checksum": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "lzf, shuffle, checksum": {"compression": "lzf", "shuffle": True, "fletcher32": True},
    "checksum": {"fletcher32": True},
}


def smooth(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return values that compress, runs included, and that use all bytes of the dtype."""
    values = np.add.outer(np.arange(shape[0]) * 1000, np.arange(int(np.prod(shape[1:]))) // 7).reshape(shape)
    return (values * 65537).astype(dtype)


@pytest.fixture
def no_h5py(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, place: tuple[int, ...]) -> None:
        raise AssertionError("left to h5py")

    monkeypatch.setattr(HDF5Chunks, "_load_by_h5py", refuse)


@pytest.mark.usefixtures("no_h5py")
@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", "float32", ">f8", "uint64", "int16", "bool"])
@pytest.mark.parametrize("filters", FILTERS)
def test_filters_are_decoded_without_h5py(tmp_path: Path, filters: str, dtype: str) -> None:
    for shape, chunks in ((SHAPE, (4, 8, 9)), ((3, *SHAPE), (2, 4, 22, 7))):
        stored = smooth(shape, dtype)
        with h5py.File(tmp_path / "v.h5", "w") as file:
            file.create_dataset("v", data=stored, chunks=chunks, **FILTERS[filters])
        source = HDF5Source(tmp_path / "v.h5", "v")
        expected = stored.reshape(-1, *SHAPE)
        for lo, hi in (((0, 0, 0), SHAPE), ((3, 7, 8), (5, 17, 10)), ((8, 21, 30), SHAPE)):
            box = source.read(lo, hi)
            assert box.dtype == source.dtype
            assert box.dtype.isnative
            np.testing.assert_array_equal(box, expected[:, lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]])
        source.close()


@pytest.mark.usefixtures("no_h5py")
@pytest.mark.parametrize("filters", ["lzf", "gzip"])
def test_noise_that_does_not_compress(tmp_path: Path, filters: str) -> None:
    stored = np.random.default_rng(0).integers(0, 2**63, (8, 30, 30), np.uint64)
    stored[:4] %= 5
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", data=stored, chunks=(4, 16, 16), **FILTERS[filters])
    np.testing.assert_array_equal(HDF5Source(tmp_path / "v.h5", "v").read((0, 0, 0), (8, 30, 30))[0], stored)


@pytest.mark.usefixtures("no_h5py")
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "v.h5", "w", libver=libver) as file:
        v = file.create_dataset("v", SHAPE, "int16", chunks=(4, 8, 8), compression="gzip", fillvalue=-3)
        v[:4, :8, :8] = 7
    box = HDF5Source(tmp_path / "v.h5", "v").read((0, 0, 0), SHAPE)[0]
    expected = np.full(SHAPE, -3)
    expected[:4, :8, :8] = 7
    np.testing.assert_array_equal(box, expected)


@pytest.mark.usefixtures("no_h5py")
@pytest.mark.parametrize("shape", [(5, 400, 600), (2, 5, 400, 600), (40, 7, 9)])
def test_datasets_without_chunks_are_read_by_rows(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = smooth(shape, ">u2")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["v"] = stored
    source = HDF5Source(tmp_path / "v.h5", "v")
    np.testing.assert_array_equal(source.read((0, 0, 0), source.shape), stored.reshape(-1, *source.shape))
    source.close()
    source.read((1, 2, 3), (2, 4, 5))
    stats = source.stats()
    assert stats is not None
    assert stats.bytes <= 2 * source.channels * 2**17


def other_layout(folder: Path, kind: str, stored: np.ndarray) -> Path:
    path = folder / f"{kind}.h5"
    with h5py.File(path, "w", userblock_size=512 if kind == "userblock" else 0) as file:
        if kind == "scaleoffset":
            file.create_dataset("v", data=stored, chunks=(4, 8, 9), scaleoffset=0)
        elif kind == "external":
            file.create_dataset("v", data=stored, external=[(str(folder / "v.raw"), 0, stored.nbytes)])
        elif kind == "virtual":
            with h5py.File(folder / "part.h5", "w") as part:
                part["p"] = stored
            layout = h5py.VirtualLayout(stored.shape, stored.dtype)
            layout[:] = h5py.VirtualSource(folder / "part.h5", "p", stored.shape)
            file.create_virtual_dataset("v", layout)
        elif kind == "compact":
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_layout(h5py.h5d.COMPACT)
            space = h5py.h5s.create_simple(stored.shape)
            data = h5py.h5d.create(file.id, b"v", h5py.h5t.py_create(stored.dtype), space, plist)
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, stored)
        else:
            file.create_dataset("v", data=stored, chunks=(4, 8, 9), compression="gzip")
    return path


@pytest.mark.parametrize("kind", ["scaleoffset", "external", "virtual", "compact", "userblock"])
def test_what_is_not_ours_to_decode_is_left_to_h5py(tmp_path: Path, kind: str) -> None:
    stored = smooth(SHAPE, "uint16")
    source = HDF5Source(other_layout(tmp_path, kind, stored), "v")
    for lo, hi in (((0, 0, 0), SHAPE), ((3, 7, 8), (9, 22, 31))):
        np.testing.assert_array_equal(source.read(lo, hi)[0], stored[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]])


@pytest.mark.parametrize("filters", ["gzip", "lzf, shuffle, checksum", "checksum"])
def test_damaged_chunks_are_refused_by_place(tmp_path: Path, filters: str) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        v = file.create_dataset("v", data=smooth(SHAPE, "uint16"), chunks=(4, 8, 16), **FILTERS[filters])
        info = v.id.get_chunk_info_by_coord((4, 8, 16))
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset + info.size // 2)
        raw.write(b"\xfe" * (info.size // 4))
    source = HDF5Source(path, "v")
    source.read((0, 0, 0), (4, 22, 31))
    for _ in range(2):
        with pytest.raises(DataError, match=r"v\.h5:v.*\(4, 8, 16\) to \(5, 9, 17\).*damaged"):
            source.read((4, 8, 16), (5, 9, 17))


@pytest.mark.parametrize("filters", ["none", "gzip"])
def test_a_file_that_is_written_to_is_opened_anew(tmp_path: Path, filters: str) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=np.ones(SHAPE, np.uint8), chunks=(4, 8, 9), **FILTERS[filters])
    source = HDF5Source(path, "v")
    assert source.read((0, 0, 0), SHAPE).max() == 1
    (tmp_path / "new.h5").write_bytes(path.read_bytes())
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        file["v"][:] = 2
    path.write_bytes((tmp_path / "new.h5").read_bytes())
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match=r"v\.h5:v.*was changed after it had been opened"):
        source.read((0, 0, 0), SHAPE)
    np.testing.assert_array_equal(source.read((0, 0, 0), SHAPE), 2)


def test_truncation_and_replacement_under_us(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=np.ones(SHAPE, np.uint8), chunks=(4, 8, 9))
    whole = path.read_bytes()
    source = HDF5Source(path, "v")
    source.read((0, 0, 0), (1, 1, 1))
    os.truncate(path, len(whole) // 2)
    with pytest.raises(DataError, match="was changed after it had been opened"):
        source.read((0, 0, 0), SHAPE)
    with pytest.raises(DataError, match="truncated"):
        source.read((0, 0, 0), SHAPE)
    path.write_bytes(whole)
    assert source.read((0, 0, 0), SHAPE).min() == 1
    source.close()
    with h5py.File(path, "w") as file:
        file["v"] = np.ones((9, 22, 30), np.uint8)
    with pytest.raises(DataError, match=r"was replaced: its shape is \(9, 22, 30\).*was \(9, 22, 31\)"):
        source.read((0, 0, 0), (1, 1, 1))


def test_a_cache_of_one_chunk_and_its_address(tmp_path: Path) -> None:
    stored = smooth(SHAPE, "uint16")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", data=stored, chunks=(4, 8, 9), compression="gzip")
    source = pickle.loads(pickle.dumps(HDF5Source(tmp_path / "v.h5", "v", cache_bytes=0)))
    assert source.stats() is None
    np.testing.assert_array_equal(source.read((0, 0, 0), SHAPE)[0], stored)
    stats = source.stats()
    assert stats.bytes == 4 * 8 * 9 * 2
    assert (stats.hits, stats.misses, stats.evicted) == (0, 36, 35)


def test_threads_read_while_another_closes(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2**16, (16, 64, 64), np.uint16)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", data=stored, chunks=(8, 16, 16), compression="gzip", shuffle=True)
    source, wrong = HDF5Source(tmp_path / "v.h5", "v", cache_bytes=100_000), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            lo = rng.integers(0, (8, 32, 32))
            hi = lo + rng.integers(1, (9, 33, 33))
            try:
                box = source.read(lo, hi)[0]
            except DataError:
                continue
            if not np.array_equal(box, stored[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]]):
                wrong.append((lo, hi))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        source.close()
        threads[0].join(0.002)
        for thread in threads:
            thread.join(0.002)
    assert not wrong

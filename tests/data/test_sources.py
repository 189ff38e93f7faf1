from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import ArraySource, CroppedSource, HDF5Source, MemorySource, Source, open_source, remember
from elektronn_tui.data.memory import slabs
from elektronn_tui.data.sources import as_source
from elektronn_tui.errors import DataError


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % 251).reshape(shape).astype(dtype)


@pytest.fixture
def volume_file(tmp_path: Path) -> Path:
    path = tmp_path / "volume.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = ramp((5, 6, 7), "uint8")
        file["volumes/labels/ids"] = ramp((5, 6, 7), "uint64")
    return path


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32", "uint64", "int16", "bool"])
@pytest.mark.parametrize("shape", [(5, 11, 13), (3, 5, 11, 13), (1, 1, 1)])
def test_hdf5_round_trip(tmp_path: Path, shape: tuple[int, ...], dtype: str, compression: str | None) -> None:
    stored = ramp(shape, dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v", data=stored, chunks=tuple(min(4, n) for n in shape), compression=compression)
    source = open_source(f"{tmp_path}/a.h5:v")
    whole = source.read((0, 0, 0), source.shape)
    assert isinstance(source, Source)
    assert whole.shape == (source.channels, *source.shape)
    assert whole.dtype == source.dtype == (np.uint8 if dtype == "bool" else stored.dtype.newbyteorder("="))
    assert whole.dtype.isnative
    np.testing.assert_array_equal(whole, stored.reshape(whole.shape))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_box_of_any_axis_order_is_the_numpy_slice(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    axes = data.draw(st.sampled_from(["zyx", "czyx", "xyz", "zyxc", "yx", "yxc", "xczy"]))
    size = {"c": 3, "z": 4, "y": 5, "x": 6}
    stored = ramp(tuple(size[a] for a in axes), "uint16")
    present = [a for a in "czyx" if a in axes]
    canonical = stored.transpose([axes.index(a) for a in present]).reshape(
        [size[a] if a in axes else 1 for a in "czyx"]
    )
    lo = [data.draw(st.integers(0, n - 1)) for n in canonical.shape[1:]]
    hi = [data.draw(st.integers(l + 1, n)) for l, n in zip(lo, canonical.shape[1:], strict=True)]
    path = tmp_path_factory.mktemp("axes") / "v.h5"
    with h5py.File(path, "w") as file:
        file["v"] = stored
    box = canonical[:, lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]]
    for source in (
        ArraySource(stored, axes=axes),
        HDF5Source(path, "v", axes=axes),
        MemorySource(HDF5Source(path, "v", axes=axes)),
    ):
        np.testing.assert_array_equal(source.read(lo, hi), box)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(lo, hi), box)
        crop = CroppedSource(source, lo, hi)
        assert crop.shape == box.shape[1:]
        np.testing.assert_array_equal(crop.read((0, 0, 0), crop.shape), box)


def test_only_the_chunks_that_a_box_touches_are_read(tmp_path: Path) -> None:
    path = tmp_path / "v.h5"
    stored = np.random.default_rng(0).integers(0, 255, (8, 64, 64), np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=stored, chunks=(4, 32, 32), compression="gzip")
        broken = file["v"].id.get_chunk_info_by_coord((4, 32, 32))
    with path.open("r+b") as file:
        file.seek(broken.byte_offset)
        file.write(b"\xff" * broken.size)
    source = HDF5Source(path, "v")
    np.testing.assert_array_equal(source.read((0, 0, 0), (4, 64, 64))[0], stored[:4])
    np.testing.assert_array_equal(source.read((0, 0, 0), (8, 32, 64))[0], stored[:, :32])
    with pytest.raises(DataError, match=r"v\.h5:v.*\(4, 32, 32\) to \(5, 33, 33\).*damaged"):
        source.read((4, 32, 32), (5, 33, 33))
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["v"] = stored
    (tmp_path / "good.h5").replace(path)
    np.testing.assert_array_equal(source.read((0, 0, 0), (8, 64, 64))[0], stored)


def test_opening_is_lazy_and_pickles_hold_the_address_alone(tmp_path: Path) -> None:
    path = tmp_path / "later.h5"
    source = HDF5Source(path, "v")
    assert len(pickle.dumps(source)) < 1000
    with h5py.File(path, "w") as file:
        file["v"] = np.zeros((50, 50, 50), np.uint8)
    assert source.shape == (50, 50, 50)
    assert len(pickle.dumps(source)) < 1000
    assert len(pickle.dumps(MemorySource(source))) < 1000
    source.close()
    assert source.read((0, 0, 0), (1, 1, 1)) == 0


def test_npy_is_mapped_and_pickles_as_its_path(tmp_path: Path) -> None:
    stored = ramp((4, 20, 30), "uint16")
    np.save(tmp_path / "v.npy", stored)
    source = open_source(tmp_path / "v.npy")
    assert isinstance(source.read((0, 0, 0), (1, 1, 1)).base, np.memmap)
    assert len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(source)).read((1, 2, 3), (3, 5, 9))[0], stored[1:3, 2:5, 3:9]
    )


def test_voxel_size_and_offset_from_attributes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        for key in ("a", "volumes/raw", "um", "bad"):
            file[key] = np.zeros((2, 2, 2), np.uint8)
        file.attrs["voxel_size_nm_zyx"] = [40.0, 4.0, 4.0]
        file["volumes"].attrs["resolution"] = [50, 8, 8]
        file["volumes/raw"].attrs["offset"] = [100.0, 16.0, 0.0]
        file["um"].attrs["element_size_um"] = [0.03, 0.01, 0.01]
        file["bad"].attrs["resolution"] = "isotropic"
    path = tmp_path / "v.h5"
    assert HDF5Source(path, "a").voxel_size == (40, 4, 4)
    assert HDF5Source(path, "volumes/raw").voxel_size == (50, 8, 8)
    assert HDF5Source(path, "volumes/raw").offset == (100, 16, 0)
    assert HDF5Source(path, "um").voxel_size == pytest.approx((30, 10, 10))
    assert HDF5Source(path, "bad").voxel_size == (40, 4, 4)
    assert HDF5Source(path, "a", voxel_size=(9, 9, 9)).voxel_size == (9, 9, 9)
    crop = CroppedSource(HDF5Source(path, "volumes/raw"), (1, 0, 1), (2, 2, 2))
    assert crop.offset == (150, 16, 8)


def test_a_file_with_one_dataset_needs_no_key(tmp_path: Path, volume_file: Path) -> None:
    with h5py.File(tmp_path / "one.h5", "w") as file:
        file["deep/inside"] = np.ones((2, 3, 4), np.uint8)
    assert open_source(tmp_path / "one.h5").shape == (2, 3, 4)
    with pytest.raises(DataError, match=r"which dataset\? It holds raw, volumes/labels/ids"):
        _ = open_source(volume_file).shape


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("volume.h5:rwa", r"no dataset 'rwa'; it holds raw, volumes/labels/ids\. Did you mean 'raw'\?"),
        ("volume.h5:volumes/labels", r"'volumes/labels' is a group, not a dataset; it holds volumes/labels/ids"),
        ("volum.h5:raw", r"volum\.h5 doesn't exist\. Did you mean 'volume\.h5'\?"),
        ("nowhere/volume.h5:raw", r"doesn't exist; nor does its folder"),
        ("text.h5:raw", r"text\.h5 can't be opened: it is no HDF5 file"),
        ("cut.h5:raw", r"cut\.h5 can't be opened: the file is truncated"),
        ("odd.h5:flat", r"odd\.h5:flat has 1 axes, shape \(5,\)"),
        ("odd.h5:five", r"has 5 axes"),
        ("odd.h5:words", r"odd\.h5:words holds .*a volume holds integers or floats"),
        ("odd.h5:empty", r"is empty, shape \(0, 3, 3\)"),
        ("folder.h5:raw", r"folder\.h5"),
    ],
)
def test_what_can_not_be_opened_says_why(tmp_path: Path, volume_file: Path, address: str, message: str) -> None:
    (tmp_path / "text.h5").write_text("not a volume\n" * 200)
    (tmp_path / "cut.h5").write_bytes(volume_file.read_bytes()[:-2000])
    (tmp_path / "folder.h5").mkdir()
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["flat"] = np.zeros(5)
        file["five"] = np.zeros((1, 1, 1, 1, 1))
        file["words"] = np.full((2, 2, 2), b"x")
        file["empty"] = np.zeros((0, 3, 3))
    source = open_source(tmp_path / address)
    with pytest.raises(DataError, match=message) as caught:
        _ = source.shape
    assert str(tmp_path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(volume_file: Path) -> None:
    volume_file.chmod(0)
    with pytest.raises(DataError, match="you may not read it"):
        _ = open_source(f"{volume_file}:raw").shape


@pytest.mark.parametrize("address", ["volume.jp2", "volume", "volume.npy:key", "stack.tif:0", "x.h6:raw"])
def test_unknown_addresses(address: str) -> None:
    with pytest.raises(DataError, match="is no address of a volume"):
        open_source(address)


def test_npy_errors(tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"v\.npy can't be read as \.npy"):
        open_source(tmp_path / "v.npy")
    with pytest.raises(DataError, match=r"Did you mean 'v\.npy'\?"):
        open_source(tmp_path / "w.npy")


@pytest.mark.parametrize("box", [((0, 0, 0), (6, 6, 7)), ((-1, 0, 0), (1, 1, 1)), ((1, 1, 1), (1, 2, 2))])
def test_boxes_outside_are_refused(volume_file: Path, box: tuple) -> None:
    for source in (HDF5Source(volume_file, "raw"), ArraySource(ramp((5, 6, 7), "uint8"))):
        with pytest.raises(DataError, match=r"empty or leaves .* shape \(5, 6, 7\)"):
            source.read(*box)


def test_axes_that_make_no_sense() -> None:
    array = np.zeros((2, 3, 4))
    for axes in ("zyy", "zyq", "zy", "czyx", "zx"):
        with pytest.raises(DataError, match="axes="):
            ArraySource(array, axes=axes)
    with pytest.raises(DataError, match="axes='yx'"):
        ArraySource(np.zeros((3, 4)))
    with pytest.raises(DataError, match="voxel_size"):
        ArraySource(array, voxel_size=(1, 0, 1))


def test_as_source(volume_file: Path) -> None:
    assert as_source(f"{volume_file}:raw").shape == (5, 6, 7)
    assert as_source(np.zeros((1, 2, 3))).shape == (1, 2, 3)
    with pytest.raises(DataError, match="is no volume"):
        as_source(5)  # type: ignore[arg-type]


class CountingSource(ArraySource):
    reads = 0

    def read(self, lo, hi):  # type: ignore[no-untyped-def]
        type(self).reads += 1
        return super().read(lo, hi)


@pytest.mark.parametrize(("limit", "reads"), [(None, 1), (1000, 1), (10, 20)])
def test_memory_source_reads_once_within_its_limit(limit: int | None, reads: int) -> None:
    CountingSource.reads = 0
    array = ramp((5, 10, 20), "uint8")
    source = MemorySource(CountingSource(array), limit)
    for i in range(20):
        np.testing.assert_array_equal(source.read((0, 0, i), (5, 10, i + 1))[0], array[:, :, i : i + 1])
    assert CountingSource.reads == reads
    assert source.in_memory == (reads == 1)


def test_threads_that_come_first_together_load_once() -> None:
    CountingSource.reads = 0
    source = MemorySource(CountingSource(ramp((40, 100, 100), "uint8")))
    start = threading.Barrier(8)

    def read() -> None:
        start.wait(20)
        source.read((0, 0, 0), (1, 1, 1))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert CountingSource.reads == 1


def test_large_volumes_are_loaded_in_slabs() -> None:
    array = ramp((9, 10, 20), "uint16")
    boxes = list(slabs(ArraySource(array), 2 * 10 * 20 * 2))
    assert [(lo[0], hi[0]) for lo, hi in boxes] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    assert [hi[0] - lo[0] for lo, hi in slabs(ArraySource(array), 1)] == [1] * 9
    assert list(slabs(ArraySource(array))) == [((0, 0, 0), (9, 10, 20))]


FORKING = """
import os, sys, h5py
from elektronn_tui.data import HDF5Source
source = HDF5Source(sys.argv[1], "raw")
source.read((0, 0, 0), (1, 1, 1))
first = source._state.file
child = os.fork()
if child == 0:
    source.read((0, 0, 0), (5, 6, 7))
    os._exit(11 if not first and source._state.file else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code if source.read((4, 5, 6), (5, 6, 7)).size == 1 and first else 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_opens_its_own_handle(volume_file: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORKING, str(volume_file)], timeout=60, check=False)
    assert done.returncode == 11


def test_remember_wraps_what_is_not_in_memory(volume_file: Path) -> None:
    file, array = HDF5Source(volume_file, "raw"), ArraySource(np.zeros((1, 2, 3)))
    assert remember(file, False) is file
    assert remember(array, True) is array
    kept = remember(file, "auto")
    assert isinstance(kept, MemorySource)
    assert remember(kept) is kept
    assert not MemorySource.in_memory.fget(remember(file, 10))  # type: ignore[attr-defined]


def test_many_threads_read_one_source(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2**16, (16, 64, 64), np.uint16)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", data=stored, chunks=(8, 16, 16), compression="gzip")
    source, wrong = HDF5Source(tmp_path / "v.h5", "v"), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            lo = rng.integers(0, (8, 32, 32))
            hi = lo + rng.integers(1, (9, 33, 33))
            if not np.array_equal(source.read(lo, hi)[0], stored[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]]):
                wrong.append((lo, hi))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_real_files(shared_data: Path) -> None:
    source = open_source(shared_data / "fib25" / "fib25_dev.h5:lab")
    assert (source.shape, source.channels, source.dtype) == ((170, 250, 250), 1, np.uint64)
    assert source.voxel_size == (10, 10, 10)
    digits = HDF5Source(shared_data / "mnist5k" / "mnist5k.h5", "images")
    assert digits.shape == (5000, 28, 28)
    assert digits.voxel_size is None


def test_channels_that_seem_to_come_last_are_not_taken_for_sections() -> None:
    stored = np.zeros((16, 48, 48, 3), np.uint8)
    with pytest.raises(DataError, match="3 channels last"):
        ArraySource(stored)
    assert ArraySource(stored, axes="zyxc").channels == 3
    assert ArraySource(stored.transpose(3, 0, 1, 2)).channels == 3

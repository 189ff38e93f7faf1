from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from elektronn_tui.data import Source, TiffSource, open_source
from elektronn_tui.errors import DataError

SHAPE = (5, 41, 53)
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bigtiff": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "strips": {"compression": "zlib", "rowsperstrip": 16},
    "predictor": {"compression": "zlib", "rowsperstrip": 7, "predictor": True},
    "tiles": {"compression": "zlib", "tile": (16, 32)},
    "plain tiles": {"tile": (32, 16)},
}


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) * 7 % 251).reshape(shape).astype(dtype)


def same_boxes(source: Source, expected: np.ndarray) -> None:
    assert (source.channels, *source.shape) == expected.shape
    for lo, hi in (((0, 0, 0), source.shape), ((1, 13, 15), (4, 33, 34)), ((4, 40, 52), (5, 41, 53))):
        box = source.read(lo, hi)
        assert box.dtype == source.dtype
        assert box.dtype.isnative
        np.testing.assert_array_equal(box, expected[:, lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "uint64", "int32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip(tmp_path: Path, layout: str, dtype: str) -> None:
    if layout == "predictor" and dtype in ("float32", "uint64"):
        pytest.skip("tifffile writes those with imagecodecs only")
    stored = ramp(SHAPE, dtype)
    tifffile.imwrite(tmp_path / "v.tif", stored, photometric="minisblack", **LAYOUTS[layout])
    source = open_source(tmp_path / "v.tif")
    assert isinstance(source, TiffSource)
    assert isinstance(source, Source)
    same_boxes(source, stored[None])
    same_boxes(pickle.loads(pickle.dumps(source)), stored[None])
    assert len(pickle.dumps(source)) < 1000


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_samples_are_channels(tmp_path: Path, planar: str, compression: str | None) -> None:
    expected = ramp((3, *SHAPE), "uint8")
    stored = np.moveaxis(expected, 0, -1 if planar == "contig" else 1)
    tifffile.imwrite(
        tmp_path / "v.tif", stored, photometric="rgb", planarconfig=planar, compression=compression, rowsperstrip=16
    )
    same_boxes(open_source(tmp_path / "v.tif"), expected)


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("samples", [1, 3])
def test_lzw(tmp_path: Path, samples: int, predictor: int) -> None:
    rng = np.random.default_rng(0)
    pages = [rng.integers(0, 255, (300, 401), np.uint8), ramp((300, 401), "uint8"), np.zeros((300, 401), np.uint8)]
    images = [Image.fromarray(page if samples == 1 else np.stack([page, page // 2, 255 - page], -1)) for page in pages]
    images[0].save(
        tmp_path / "v.tif",
        compression="tiff_lzw",
        save_all=True,
        append_images=images[1:],
        tiffinfo={317: predictor},
    )
    expected = np.stack([np.asarray(image) for image in images]).reshape(3, 300, 401, samples)
    box = open_source(tmp_path / "v.tif").read((0, 0, 0), (3, 300, 401))
    np.testing.assert_array_equal(box, np.moveaxis(expected, -1, 0))


def test_axes_and_voxel_size_of_ome(tmp_path: Path) -> None:
    expected = ramp((2, *SHAPE), "uint16")
    units = {"PhysicalSizeX": 0.004, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 5, "PhysicalSizeYUnit": "nm"}
    metadata = {"axes": "ZCYX", "PhysicalSizeZ": 4e-5, "PhysicalSizeZUnit": "mm", **units}
    tifffile.imwrite(tmp_path / "v.ome.tif", np.moveaxis(expected, 0, 1), metadata=metadata)
    source = open_source(tmp_path / "v.ome.tif")
    same_boxes(source, expected)
    assert source.voxel_size == pytest.approx((40, 5, 4))
    assert TiffSource(tmp_path / "v.ome.tif", voxel_size=(1, 2, 3)).voxel_size == (1, 2, 3)


def test_voxel_size_of_imagej(tmp_path: Path) -> None:
    metadata = {"spacing": 0.05, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(
        tmp_path / "v.tif", ramp(SHAPE, "uint8"), imagej=True, resolution=(100.0, 200.0), metadata=metadata
    )
    assert open_source(tmp_path / "v.tif").voxel_size == pytest.approx((50, 5, 10))
    tifffile.imwrite(tmp_path / "w.tif", ramp(SHAPE, "uint8"), imagej=True, metadata={"unit": "pixel"})
    assert open_source(tmp_path / "w.tif").voxel_size is None


def test_pages_that_do_not_follow_each_other(tmp_path: Path) -> None:
    stored = ramp(SHAPE, "uint8")
    with tifffile.TiffWriter(tmp_path / "v.tif") as writer:
        for page in stored:
            writer.write(page, contiguous=False, metadata=None)
    same_boxes(open_source(tmp_path / "v.tif"), stored[None])


def test_one_image_and_declared_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "v.tif", ramp((41, 53), "uint8"))
    assert open_source(tmp_path / "v.tif").shape == (1, 41, 53)
    tifffile.imwrite(tmp_path / "x.tif", ramp(SHAPE, "uint8").T, photometric="minisblack")
    same_boxes(open_source(tmp_path / "x.tif", axes="xyz"), ramp(SHAPE, "uint8")[None])
    tifffile.imwrite(tmp_path / "t.ome.tif", ramp((2, *SHAPE), "uint8"), metadata={"axes": "TZYX"})
    with pytest.raises(DataError, match=r"t\.ome\.tif has the axes TZYX.*axes="):
        _ = open_source(tmp_path / "t.ome.tif").shape


def test_only_the_tiles_that_a_box_touches_are_read(tmp_path: Path) -> None:
    path = tmp_path / "v.tif"
    stored = np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8)
    tifffile.imwrite(path, stored, compression="zlib", tile=(32, 32), photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[1].dataoffsets[3]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 200)
    source = TiffSource(path)
    np.testing.assert_array_equal(source.read((0, 0, 0), (3, 64, 32))[0], stored[:, :, :32])
    with pytest.raises(DataError, match=r"v\.tif: voxels \(1, 32, 32\) to \(2, 33, 33\) can't be read"):
        source.read((1, 32, 32), (2, 33, 33))
    np.testing.assert_array_equal(source.read((2, 0, 0), (3, 64, 64))[0], stored[2:])


@pytest.mark.parametrize("layout", ["plain", "tiles"])
def test_edited_and_truncated_under_us(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "v.tif"
    tifffile.imwrite(path, np.ones(SHAPE, np.uint8), photometric="minisblack", **LAYOUTS[layout])
    source = TiffSource(path)
    assert source.read((0, 0, 0), SHAPE).max() == 1
    tifffile.imwrite(path, np.full(SHAPE, 2, np.uint8), photometric="minisblack", **LAYOUTS[layout])
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="was changed after it had been opened"):
        source.read((0, 0, 0), SHAPE)
    assert source.read((0, 0, 0), SHAPE).min() == 2
    os.truncate(path, path.stat().st_size // 2)
    for _ in range(2):
        with pytest.raises(DataError, match=r"v\.tif"):
            source.read((0, 0, 0), SHAPE)


def test_what_can_not_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no image\n" * 100)
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "folder.tif").mkdir()
    Image.fromarray(ramp((32, 32, 3), "uint8")).save(tmp_path / "jpeg.tif", compression="jpeg")
    for name, message in (
        ("text.tif", "no TIFF file"),
        ("empty.tif", "no TIFF file"),
        ("jpeg.tif", r"compression \(JPEG\) is read with the package imagecodecs"),
        ("jpg.tif", r"doesn't exist\. Did you mean 'jpeg\.tif'\?"),
        ("folder.tif", "has no section"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            _ = open_source(tmp_path / name).shape
        assert str(tmp_path) in str(caught.value)


FORKING = """
import os, sys
from elektronn_tui.data import TiffSource
source = TiffSource(sys.argv[1])
source.read((0, 0, 0), (1, 1, 1))
first = source._state
child = os.fork()
if child == 0:
    source.read((0, 0, 0), (5, 41, 53))
    os._exit(11 if source._state is not first else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code if source.read((4, 5, 6), (5, 6, 7)).size == 1 and source._state is first else 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_opens_its_own_handle(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "v.tif", ramp(SHAPE, "uint8"), compression="zlib", photometric="minisblack")
    done = subprocess.run([sys.executable, "-c", FORKING, str(tmp_path / "v.tif")], timeout=60, check=False)
    assert done.returncode == 11


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_many_threads_read_one_stack(tmp_path: Path, planar: str) -> None:
    stored = np.random.default_rng(0).integers(0, 255, (3, 16, 64, 64), np.uint8)
    pages = np.moveaxis(stored, 0, -1 if planar == "contig" else 1)
    tifffile.imwrite(
        tmp_path / "v.tif", pages, photometric="rgb", planarconfig=planar, compression="zlib", tile=(16, 16)
    )
    source, wrong = TiffSource(tmp_path / "v.tif", cache_bytes=20_000), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            lo = rng.integers(0, (8, 32, 32))
            hi = lo + rng.integers(1, (9, 33, 33))
            if not np.array_equal(source.read(lo, hi), stored[:, lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]]):
                wrong.append((lo, hi))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

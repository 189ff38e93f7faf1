"""What holds for volumes of files, whatever their format: from the address to the example."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from elektronn_tui.data import AugmentSettings, Geometry, Pair, Patches, Scaling, Warp, open_source
from elektronn_tui.errors import DataError

SHAPE = (14, 30, 32)
GEOMETRY = Geometry((7, 15, 15), (3, 5, 5), (2, 5, 5), (1, 1, 1))
FORMATS = ("h5", "npy", "npz", "tif", "folder")


def stored(folder: Path, kind: str, array: np.ndarray) -> str:
    """Write a volume; return its address."""
    name = f"{folder}/{kind}-{array.dtype}"
    if kind == "h5":
        with h5py.File(f"{name}.h5", "w") as file:
            file.create_dataset("v", data=array, chunks=(4, 8, 9), compression="gzip", shuffle=True, fletcher32=True)
        return f"{name}.h5:v"
    if kind == "npy":
        np.save(f"{name}.npy", array)
        return f"{name}.npy"
    if kind == "npz":
        np.savez_compressed(f"{name}.npz", v=array)
        return f"{name}.npz:v"
    if kind == "tif":
        tifffile.imwrite(f"{name}.tif", array, compression="zlib", tile=(16, 16), photometric="minisblack")
        return f"{name}.tif"
    Path(name).mkdir()
    for z, section in enumerate(array):
        tifffile.imwrite(f"{name}/{z}.tif", section)
    return name


@pytest.mark.parametrize("kind", FORMATS)
def test_the_whole_range_of_uint16_is_scaled(tmp_path: Path, kind: str) -> None:
    raw = np.zeros(SHAPE, np.uint16)
    raw[:, :, ::2] = 65535
    pair = Pair(stored(tmp_path, kind, raw), np.zeros(SHAPE, np.uint8), in_memory=False)
    for scaling, white in ((None, 1.0), (Scaling(mean=(65535.0,), std=(65535.0,)), 0.0)):
        example = Patches([pair], GEOMETRY, seed=0, scaling=scaling).example(0, AugmentSettings())
        assert sorted(np.unique(example.raw)) == pytest.approx([white - 1, white])


@pytest.mark.parametrize("kind", FORMATS)
def test_labels_that_are_negative_do_not_count_and_those_too_large_are_refused(tmp_path: Path, kind: str) -> None:
    labels = np.ones(SHAPE, np.int16)
    labels[:, ::2] = -32768
    raw = np.zeros(SHAPE, np.uint8)
    address = stored(tmp_path, kind, labels)
    example = Patches([Pair(raw, address)], GEOMETRY, seed=0, classes=2).example(0, AugmentSettings())
    assert np.unique(example.target).tolist() == [-1, 1]
    with pytest.raises(DataError, match=r"-int16.*is 1: with 1 classes labels are 0 to 0"):
        Patches([Pair(raw, address)], GEOMETRY, seed=0, classes=1)


@pytest.mark.parametrize("kind", FORMATS)
def test_ids_keep_all_of_their_64_bits(tmp_path: Path, kind: str) -> None:
    ids = np.full(SHAPE, 2**62 + 1, np.uint64)
    ids[7:] = 2**64 - 1
    source = open_source(stored(tmp_path, kind, ids))
    assert source.dtype == np.uint64
    assert np.unique(source.read((0, 0, 0), SHAPE)).tolist() == [2**62 + 1, 2**64 - 1]


def test_examples_are_the_same_of_every_format(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    labels = (raw > 99).astype(np.uint16)
    settings = AugmentSettings(warp=1.0, warp_args=Warp(rotation=180, perspective=0.1))
    made = [
        Patches([Pair(stored(tmp_path, k, raw), stored(tmp_path, k, labels))], GEOMETRY, seed=3).example(5, settings)
        for k in FORMATS
    ]
    for other in made[1:]:
        np.testing.assert_array_equal(other.raw, made[0].raw)
        np.testing.assert_array_equal(other.target, made[0].target)

from __future__ import annotations

import numpy as np
import pytest

from elektronn_tui.data import NEIGHBOURS, AugmentSettings, Geometry, NeighbourSource, Pair, Patches, Warp
from elektronn_tui.errors import DataError

LABELS = np.random.default_rng(0).integers(-1, 4, (7, 16, 17))


def shifted(labels: np.ndarray, offset: tuple[int, int, int]) -> np.ndarray:
    out = np.full_like(labels, -1)
    for p in np.ndindex(*labels.shape):
        q = np.subtract(p, offset)
        if (q >= 0).all() and (q < labels.shape).all():
            out[p] = labels[tuple(q)]
    return out


@pytest.mark.parametrize("offsets", [NEIGHBOURS, [(2, -3, 0), (0, 0, 20)]])
def test_each_channel_is_the_volume_shifted(offsets: list) -> None:
    source = NeighbourSource(LABELS, offsets, ignore=(3,))
    known = np.where(LABELS == 3, -1, LABELS)
    for lo, hi in (((0, 0, 0), LABELS.shape), ((2, 5, 1), (6, 9, 17))):
        box = tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))
        for channel, offset in zip(source.read(lo, hi), offsets, strict=True):
            np.testing.assert_array_equal(channel, shifted(known, offset)[box])


def test_unsigned_classes_have_no_minus_one_either() -> None:
    labels = (LABELS + 1).astype(np.uint8)
    source = NeighbourSource(labels, [(0, 0, 0), (0, 0, 1)], ignore=(0,))
    whole = source.read((0, 0, 0), LABELS.shape)
    np.testing.assert_array_equal(whole[0], np.where(LABELS < 0, -1, LABELS + 1))
    assert (whole[1, :, :, 0] == -1).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_neighbours_are_those_of_the_warped_patch(stride: int) -> None:
    geometry = Geometry(
        (5, 9, 9), (3, 5 if stride == 1 else 3, 5 if stride == 1 else 3), (1, 2, 2), (1, stride, stride)
    )
    pair = Pair(LABELS.astype(np.uint8), NeighbourSource(LABELS))
    same = Patches([pair], geometry, seed=0)
    quarter = AugmentSettings(1.0, Warp(rotation=(90, 90), scale=0, shear=0, flips=(False,) * 3, swap=False))
    for i in range(10):
        example = same.example(i, quarter)
        centre = example.target[0]
        if stride == 1:
            # A neighbour in the patch, wherever it lies in the volume.
            np.testing.assert_array_equal(example.target[3][:, 1:], centre[:, :-1])
            np.testing.assert_array_equal(example.target[6][:, :, :-1], centre[:, :, 1:])
        plain = same.example(i, AugmentSettings())
        at = tuple(
            slice(p + o, p + o + n, s)
            for p, o, n, s in zip(plain.position, geometry.offsets, geometry.span, geometry.strides, strict=True)
        )
        for channel, offset in zip(plain.target, NEIGHBOURS, strict=True):
            np.testing.assert_array_equal(channel, shifted(LABELS, offset)[at])


def test_offsets_that_are_none() -> None:
    with pytest.raises(DataError, match=r"a list of \(z, y, x\) in whole voxels is needed"):
        NeighbourSource(LABELS, [(1, 2)])

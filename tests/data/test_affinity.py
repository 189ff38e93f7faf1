import numpy as np
import pytest

from elektronn_tui.data import (
    AffinitySource,
    ArraySource,
    AugmentSettings,
    Geometry,
    Pair,
    Patches,
    Warp,
    affinities,
    split_region,
)
from elektronn_tui.errors import DataError

OFFSETS = [(-1, 0, 0), (0, 1, 0), (0, 0, -1), (0, 0, 5), (-2, 3, -4)]


def brute(ids, offsets, background="ignore"):
    out = np.full((len(offsets), *ids.shape), -1)
    for e, offset in enumerate(offsets):
        for p in np.ndindex(*ids.shape):
            q = tuple(np.add(p, offset))
            if any(v < 0 or v >= n for v, n in zip(q, ids.shape, strict=True)):
                continue
            a, b = int(ids[p]), int(ids[q])
            if a < 0 or b < 0 or (background == "ignore" and 0 in (a, b)):
                continue
            out[e][p] = int(a == b and not (background == "boundary" and a == 0))
    return out


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(0, 4, (6, 9, 11)).repeat(2, 2)


@pytest.mark.parametrize("background", ["ignore", "boundary", "object"])
def test_affinities_are_those_of_pairs_of_voxels(ids, background):
    small = ids[:4, :6, :9].astype(np.int64)
    small[1, 2, 3] = -7
    np.testing.assert_array_equal(affinities(small, OFFSETS, background=background), brute(small, OFFSETS, background))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int32])
def test_boxes_of_a_source_are_those_of_the_whole(ids, dtype):
    source = AffinitySource(ids.astype(dtype), OFFSETS)
    whole = affinities(ids, OFFSETS)
    for lo, hi in (((0, 0, 0), ids.shape), ((1, 2, 3), (4, 9, 20)), ((5, 8, 21), (6, 9, 22))):
        box = tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))
        np.testing.assert_array_equal(source.read(lo, hi), whole[(slice(None), *box)])
    assert (source.channels, source.dtype, source.shape) == (5, np.int8, ids.shape)


def test_large_ids_keep_apart():
    ids = np.array([[[2**53, 2**53 + 1, 2**62]]], np.uint64)
    source = AffinitySource(ids, [(0, 0, 1)], with_ids=True)
    assert source.read((0, 0, 0), (1, 1, 3))[:, 0, 0].tolist() == [[0, 0, -1], [2**53, 2**53 + 1, 2**62]]


def geometry(strides=(1, 1, 1)):
    target = (3, 5, 5) if strides == (1, 1, 1) else (2, 3, 3)
    span = np.multiply(strides, np.subtract(target, 1)) + 1
    return Geometry(tuple(np.add(span, (2, 4, 4)).tolist()), target, (1, 2, 2), strides)


@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 2, 1)])
def test_patches_that_are_not_warped_are_cut_from_the_whole(ids, strides):
    ids = np.tile(ids, (3, 3, 2))
    shape = geometry(strides)
    raw = np.zeros(ids.shape, np.uint8)
    patches = Patches([Pair(raw, AffinitySource(ids, OFFSETS, with_ids=True))], shape, seed=1)
    whole = np.concatenate([affinities(ids, OFFSETS), ids[None]])
    for i in range(20):
        example = patches.example(i, AugmentSettings())
        np.testing.assert_array_equal(example.target, whole[(slice(None), *shape.target_slices(example.position))])


def test_edges_of_warped_patches_join_voxels_of_the_patch(ids):
    """The ids of the same warped patch, with a margin around the target, tell all its edges."""
    ids = np.kron(ids, np.ones((5, 5, 3), int)) + 1
    raw = np.zeros(ids.shape, np.uint8)
    warp = AugmentSettings(warp=1.0, warp_args=Warp(lock_z=False, perspective=0.2))
    inner, wide = Geometry((9, 21, 21), (5, 9, 9), (2, 6, 6)), Geometry((9, 21, 21), (9, 21, 21))
    offsets = [(-1, 0, 0), (0, 1, 0), (0, 0, -1), (0, 0, 5), (-2, 3, -4)]
    edges = Patches([Pair(raw, AffinitySource(ids, offsets))], inner, seed=3)
    labels = Patches([Pair(raw, ids)], wide, seed=3)
    seen = set()
    for i in range(15):
        matrix = edges.example(i, warp).matrix
        _, dense, _ = labels.reader.empty(1)
        labels.reader.read(labels.pairs[0], matrix, np.empty((1, 9, 21, 21), np.float32), dense[0], None)
        wanted = affinities(dense[0, 0], offsets)[:, 2:-2, 6:-6, 6:-6]
        found = edges.example(i, warp).target
        # Where the margin leaves the volume, ids are unknown to one and the value of the rim to the other.
        known = found >= 0
        assert known.mean() > 0.8
        np.testing.assert_array_equal(found[known], wanted[known])
        seen |= set(np.unique(found).tolist())
    assert {0, 1} <= seen


def test_what_is_held_out_is_not_looked_at(ids):
    ids = np.ones((12, 12, 12), int)
    pair = Pair(np.zeros(ids.shape, np.uint8), AffinitySource(ids, [(4, 0, 0), (-1, 0, 0)]))
    train, valid = split_region(pair, "z", last=4)
    shape = Geometry((4, 4, 4), (4, 4, 4))
    for part, first, last in ((train, 0, 8), (valid, 8, 12)):
        for i in range(20):
            example = Patches([part], shape, seed=0).example(i, AugmentSettings())
            z = example.position[0] + np.arange(4)
            np.testing.assert_array_equal(example.target[0, :, 0, 0], np.where(z + 4 < last, 1, -1))
            np.testing.assert_array_equal(example.target[1, :, 0, 0], np.where(z - 1 >= first, 1, -1))


def test_ids_that_are_smaller_than_the_raw_volume_lie_in_its_middle():
    raw = np.zeros((8, 12, 12), np.uint8)
    ids = np.arange(4 * 8 * 8).reshape(4, 8, 8) + 1
    patches = Patches(
        [Pair(raw, AffinitySource(ids, [(0, 0, 1)], with_ids=True))], Geometry((4, 8, 8), (4, 8, 8)), seed=0
    )
    example = patches.example(0, AugmentSettings())
    assert example.position == (2, 2, 2)
    np.testing.assert_array_equal(example.target[1], ids)
    assert (example.target[0, :, :, -1] == -1).all()


@pytest.mark.parametrize(
    ("offsets", "message"),
    [([], "a list of"), ([(0, 1)], "a list of"), ([(0, 0, 0)], "joins a voxel with itself"), ([(0.5, 0, 0)], "whole")],
)
def test_offsets_that_make_no_sense(offsets, message):
    with pytest.raises(DataError, match=message):
        AffinitySource(np.zeros((1, 1, 1), int), offsets)


def test_what_is_no_volume_of_ids():
    with pytest.raises(DataError, match="ids are integers, not float64"):
        affinities(np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match=r"ids of shape \(2, 2\)"):
        affinities(np.zeros((2, 2), int))
    with pytest.raises(DataError, match="Did you mean 'ignore'"):
        affinities(np.zeros((2, 2, 2), int), background="ignor")
    with pytest.raises(DataError, match="has 2 channels; ids have one"):
        AffinitySource(ArraySource(np.zeros((2, 3, 3, 3), int))).read((0, 0, 0), (1, 1, 1))
    with pytest.raises(DataError, match="2⁶³"):
        affinities(np.full((1, 1, 1), 2**63, np.uint64))

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import convolve
from skimage.segmentation import find_boundaries

from elektronn_tui.data import (
    ArraySource,
    BoundarySource,
    Pair,
    SoftBoundarySource,
    boundaries,
    grow_segments,
    one_hot,
    open_source,
    smear_boundaries,
)
from elektronn_tui.errors import DataError


def two_slabs(axis: int, size: int = 12) -> np.ndarray:
    ids = np.full((size, size, size), 3)
    np.moveaxis(ids, axis, 0)[size // 2 :] = 8
    return ids


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("thickness", "wall"), [(1, [6]), (2, [5, 6]), (3, [5, 6, 7]), (4, [4, 5, 6, 7])])
def test_two_slabs_have_a_wall_of_the_thickness(axis: int, thickness: int, wall: list[int]) -> None:
    per_axis = [0, 0, 0]
    per_axis[axis] = thickness
    for given_thickness in (thickness, per_axis):
        lines = np.moveaxis(boundaries(two_slabs(axis), given_thickness), axis, 0)
        assert [i for i in range(12) if lines[i].all()] == wall
        assert lines.sum() == len(wall) * 144


def test_axes_of_thickness_zero_do_not_count() -> None:
    assert not boundaries(two_slabs(0), (0, 2, 2)).any()


def test_border_rows_are_marked_too() -> None:
    for axis in range(3):
        ids = np.ones((5, 5, 5), np.uint32)
        np.moveaxis(ids, axis, 0)[-1] = 2
        np.moveaxis(ids, axis, 0)[0] = 3
        marked = np.moveaxis(boundaries(ids), axis, 0)
        assert [bool(m.all()) for m in marked] == [True, True, False, True, True]


def brute_force(ids: np.ndarray, thickness: tuple[int, int, int], ignore: bool) -> np.ndarray:
    out = np.zeros(ids.shape, np.uint8)
    for axis, t in enumerate(thickness):
        lines, marked = np.moveaxis(ids, axis, 0), np.moveaxis(out, axis, 0)
        for q in range(len(lines) - 1):
            face = lines[q] != lines[q + 1]
            if ignore:
                face &= (lines[q] != 0) & (lines[q + 1] != 0)
            for p in range(q - t // 2 + 1, q + (t + 1) // 2 + 1):
                if 0 <= p < len(lines):
                    marked[p] |= face
    return out


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    thickness=st.tuples(*[st.integers(0, 5)] * 3).filter(any),
    dtype=st.sampled_from(["uint8", "int16", "uint32", "int64", "uint64"]),
)
def test_every_mode_equals_brute_force(seed: int, shape: tuple, thickness: tuple, dtype: str) -> None:
    ids = np.random.default_rng(seed).integers(0, 3, shape).astype(dtype)
    walls = brute_force(ids, thickness, ignore=False)
    np.testing.assert_array_equal(boundaries(ids, thickness), walls)
    np.testing.assert_array_equal(boundaries(ids, thickness, background="boundary"), walls | (ids == 0))
    np.testing.assert_array_equal(
        boundaries(ids, thickness, background="class"), np.where((ids == 0) & (walls == 0), 2, walls)
    )
    ignored = boundaries(ids, thickness, background="ignore")
    assert ignored.dtype == np.int8
    np.testing.assert_array_equal(
        ignored, np.where(ids == 0, -1, brute_force(ids, thickness, ignore=True).astype(np.int8))
    )


def test_ids_beyond_32_bits_and_big_endian_keep_apart() -> None:
    ids = np.array([[[2**40, 2**40, 2**41, 2**41]]], np.uint64)
    np.testing.assert_array_equal(boundaries(ids), [[[0, 1, 1, 0]]])
    np.testing.assert_array_equal(boundaries(ids.astype(">u8")), [[[0, 1, 1, 0]]])


def test_thickness_two_is_the_thick_boundary_of_scikit_image() -> None:
    ids = np.random.default_rng(1).integers(0, 4, (4, 5, 6)).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    np.testing.assert_array_equal(boundaries(ids), find_boundaries(ids))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_box_of_a_boundary_source_is_the_box_of_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    thickness = data.draw(st.tuples(*[st.integers(0, 5)] * 3).filter(any))
    background = data.draw(st.sampled_from(["object", "boundary", "ignore", "class"]))
    ids = np.random.default_rng(data.draw(st.integers(0, 10**6))).integers(0, 3, shape)
    lo = [data.draw(st.integers(0, n - 1)) for n in shape]
    hi = [data.draw(st.integers(l + 1, n)) for l, n in zip(lo, shape, strict=True)]
    source = BoundarySource(ids, thickness, background=background)
    whole = boundaries(ids, thickness, background=background)
    box = source.read(lo, hi)
    assert box.dtype == source.dtype
    np.testing.assert_array_equal(box[0], whole[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]])


def test_a_boundary_source_is_a_target() -> None:
    ids = two_slabs(0)
    pair = Pair(np.zeros((14, 14, 14), np.uint8), BoundarySource(ArraySource(ids, voxel_size=(4, 4, 4))))
    assert pair.target_offset == (1, 1, 1)
    assert pair.target is not None
    np.testing.assert_array_equal(pair.target.read((0, 0, 0), (12, 12, 12))[0], boundaries(ids))


def test_what_makes_no_sense() -> None:
    ids = np.zeros((3, 3, 3), int)
    with pytest.raises(DataError, match="ids are integers, not float64"):
        boundaries(ids.astype(float))
    with pytest.raises(DataError, match=r"shape \(3, 3\)"):
        boundaries(ids[0])
    with pytest.raises(DataError, match=r"shape \(2, 3, 3, 3\)"):
        boundaries(np.stack([ids, ids]))
    for thickness in (0, -1, (0, 0, 0), (1, -1, 1), (2, 2)):
        with pytest.raises(DataError, match="thickness"):
            boundaries(ids, thickness)
    with pytest.raises(DataError, match=r"background='bondary'.*Did you mean 'boundary'\?"):
        BoundarySource(ids, background="bondary")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 channels"):
        BoundarySource(np.zeros((2, 3, 3, 3), int)).read((0, 0, 0), (1, 1, 1))


def test_boundary_fraction_of_real_tissue(shared_data: Path) -> None:
    source = BoundarySource(open_source(shared_data / "fib25" / "fib25_dev.h5:lab"))
    assert source.read((0, 0, 0), source.shape).mean() == pytest.approx(0.12, abs=0.01)
    gala = BoundarySource(open_source(shared_data / "gala" / "gala_train.h5:lab"), background="boundary")
    assert 0.1 < gala.read((0, 0, 0), gala.shape).mean() < 0.25


def test_smoothing_is_the_thresholded_convolution() -> None:
    outer, middle = [[1, 2, 1], [2, 3, 2], [1, 2, 1]], [[3, 5, 3], [5, 10, 5], [3, 5, 3]]
    for shape in ((6, 7, 8), (1, 1, 1), (1, 4, 2), (3, 1, 1)):
        ids = np.random.default_rng(4).integers(0, 3, shape)
        total = convolve(boundaries(ids).astype(int), [outer, middle, outer], mode="nearest")
        walls = (total > 40).astype(np.uint8)
        np.testing.assert_array_equal(boundaries(ids, smoothen=True), walls)
        np.testing.assert_array_equal(boundaries(ids, smoothen=True, background="boundary"), walls | (ids == 0))
    flat = two_slabs(1)
    np.testing.assert_array_equal(boundaries(flat, smoothen=True), boundaries(flat))


@given(
    walls=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 1)),
    size=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
)
def test_smearing_is_symmetric_and_keeps_the_side(walls: np.ndarray, size: tuple[int, int, int]) -> None:
    soft = smear_boundaries(walls, size)
    assert soft.min() >= 0
    assert soft.max() <= 1
    np.testing.assert_allclose(smear_boundaries(1 - walls, size), 1 - soft, atol=1e-6)
    assert (soft[walls == 1] >= 0.5 - 1e-6).all()
    assert (soft[walls == 0] <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_smeared_face_crosses_one_half_where_the_wall_ends(axis: int) -> None:
    walls = np.zeros((12, 12, 12), np.int8)
    np.moveaxis(walls, axis, 0)[6:] = 1
    soft = smear_boundaries(walls, (5, 5, 5))
    line = np.moveaxis(soft, axis, 0)[:, 5, 5]
    assert line[[0, -1]].tolist() == [0, 1]
    assert (np.diff(line) >= -1e-6).all()
    assert (line[5] + line[6]) / 2 == pytest.approx(0.5)
    assert 0 < line[5] < 0.5 < line[6] < 1
    assert np.ptp(np.moveaxis(soft, axis, 0), axis=(1, 2)).max() < 1e-6
    assert np.array_equal(smear_boundaries(walls, [1, 1, 1]), walls)


def test_unknown_voxels_become_nan_and_count_for_nobody() -> None:
    soft = smear_boundaries(np.array([[[0, 0, -1, -1, 1, 1]]]), (1, 1, 5))
    np.testing.assert_array_equal(soft, [[[0, 0, np.nan, np.nan, 1, 1]]])
    for walls in (np.full((1, 1, 1), 2), np.zeros((2, 2), int), np.zeros((1, 1, 1))):
        with pytest.raises(DataError, match="walls of 0, 1 and -1"):
            smear_boundaries(walls)
    with pytest.raises(DataError, match="odd"):
        smear_boundaries(np.zeros((1, 1, 1), int), (2, 3, 3))


def slow_growth(ids: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    for r in range(max(steps)):
        before = ids.copy()
        for p in zip(*np.nonzero(before == 0), strict=True):
            near = []
            for axis in range(3):
                for d in (-1, 1):
                    q = list(p)
                    q[axis] += d
                    if steps[axis] > r and 0 <= q[axis] < ids.shape[axis] and before[tuple(q)]:
                        near.append(before[tuple(q)])
            ids[p] = min(near, default=0)
    return ids


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    steps=st.tuples(*[st.integers(0, 3)] * 3),
    dtype=st.sampled_from(["uint8", "int16", ">i4", "int64", "uint64"]),
)
def test_segments_grow_so_many_steps_along_each_axis(seed: int, shape: tuple, steps: tuple, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    ids = np.where(rng.random(shape) < 0.15, rng.integers(1, 100, shape), 0).astype(dtype)
    grown = grow_segments(ids, steps)
    assert grown.dtype == ids.dtype.newbyteorder("=")
    np.testing.assert_array_equal(grown, slow_growth(ids.copy(), steps))
    flipped = grow_segments(np.flip(ids, (0, 2)), steps)
    np.testing.assert_array_equal(np.flip(flipped, (0, 2)), grown)


def test_growth_of_a_point_and_where_it_ends() -> None:
    ids = np.zeros((7, 9, 9), np.uint64)
    ids[3, 4, 4] = 2**63
    grown = grow_segments(ids)
    assert [int((grown.max(axis) > 0).sum()) for axis in ((1, 2), (0, 2), (0, 1))] == [3, 7, 7]
    assert np.array_equal(grow_segments(ids, 0), ids)
    with pytest.raises(DataError, match="an id is -1"):
        grow_segments(np.full((1, 1, 1), -1))
    with pytest.raises(DataError, match="steps"):
        grow_segments(ids, (1, 2))


def test_classes_become_channels() -> None:
    labels = np.array([[[0, 2, -1]]], np.int16)
    np.testing.assert_array_equal(one_hot(labels, 3)[:, 0, 0], [[1, 0, np.nan], [0, 0, np.nan], [0, 1, np.nan]])
    np.testing.assert_allclose(one_hot(labels[None], 4, smoothing=0.2)[:, 0, 0, 0], [0.85, 0.05, 0.05, 0.05])
    with pytest.raises(DataError, match="a label is 2; with 2 classes they are 0 to 1"):
        one_hot(labels, 2)
    with pytest.raises(DataError, match="integer labels"):
        one_hot(labels.astype(float), 3)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_boxes_of_smoothed_and_soft_boundaries_are_those_of_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    background = data.draw(st.sampled_from(["object", "boundary", "ignore"]))
    ids = np.random.default_rng(data.draw(st.integers(0, 10**6))).integers(0, 3, shape)
    lo = [data.draw(st.integers(0, n - 1)) for n in shape]
    hi = [data.draw(st.integers(l + 1, n)) for l, n in zip(lo, shape, strict=True)]
    box = tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))
    whole = boundaries(ids, (1, 2, 3), background=background, smoothen=True)
    source = BoundarySource(ids, (1, 2, 3), background=background, smoothen=True)
    np.testing.assert_array_equal(source.read(lo, hi)[0], whole[box])
    soft = SoftBoundarySource(ids, (1, 2, 3), background=background, smoothen=True, size=(3, 1, 5))
    np.testing.assert_array_equal(soft.read(lo, hi)[0], smear_boundaries(whole, (3, 1, 5))[box])
    assert soft.read(lo, hi).dtype == soft.dtype == np.float32

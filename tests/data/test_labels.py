from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import find_boundaries

from elektronn_tui.data import ArraySource, BoundarySource, Pair, boundaries, open_source
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

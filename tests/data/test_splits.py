from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from elektronn_tui.data import (
    ArraySource,
    AugmentSettings,
    Geometry,
    Pair,
    Patches,
    Warp,
    split_box,
    validation_examples,
)
from elektronn_tui.errors import DataError

PLAIN = AugmentSettings()
WARPED = AugmentSettings(warp=1.0, warp_args=Warp(rotation=180, lock_z=False, perspective=0.2))
GEOMETRY = Geometry((5, 9, 9), (3, 5, 5), (1, 2, 2))


class WatchedSource(ArraySource):
    """Remembers which voxels were read."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array)
        self.seen = np.zeros(self.shape, bool)

    def read(self, lo, hi):
        self.seen[tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))] = True
        return super().read(lo, hi)


def labels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, shape)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_training_reads_nothing_of_the_box_and_reaches_all_around_it(data: st.DataObject) -> None:
    shape = (12, 30, 32)
    ends = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    box = tuple(lo for lo, _ in ends), tuple(hi for _, hi in ends)
    inside = tuple(slice(lo, hi) for lo, hi in ends)
    raw, target = WatchedSource(labels(*shape).astype(np.uint8)), WatchedSource(labels(*shape))
    # Around some side of the box a patch fits, or there is nothing to test.
    assume(any(lo >= n or size - hi >= n for lo, hi, size, n in zip(*box, shape, GEOMETRY.patch_shape, strict=True)))
    train, valid = split_box(Pair(raw, target), box)
    patches = Patches(train, GEOMETRY, seed=0, classes=2)
    assert valid.region == box
    assert sum(part.weight for part in train) + valid.weight == pytest.approx(np.prod(shape))
    raw.seen[:] = target.seen[:] = False
    for i in range(30):
        patches.example(i, WARPED)
    assert not raw.seen[inside].any()
    assert not target.seen[inside].any()


def test_all_un_warped_places_beside_the_box_are_drawn() -> None:
    geometry = Geometry((1, 3, 3), (1, 1, 1), (0, 1, 1))
    train, valid = split_box(Pair(labels(1, 9, 9).astype(np.uint8), labels(1, 9, 9)), ((0, 3, 3), (1, 5, 6)))
    patches = Patches(train, geometry, seed=0)
    drawn = {patches.example(i, PLAIN).position[1:] for i in range(800)}
    free = {(y, x) for y in range(7) for x in range(7) if not (y < 5 and y + 3 > 3 and x < 6 and x + 3 > 3)}
    assert drawn == free
    held_out = validation_examples([valid], geometry)
    assert {(e.position[1] + 1, e.position[2] + 1) for e in held_out} == {(y, x) for y in (3, 4) for x in (3, 4, 5)}


def test_parts_too_thin_for_a_patch_are_left_out_unless_all_are() -> None:
    pair = Pair(labels(12, 30, 30).astype(np.uint8), labels(12, 30, 30))
    train, _ = split_box(pair, ((0, 0, 0), (12, 30, 4)))
    assert len(Patches(train, GEOMETRY, seed=0).pairs) == 1
    train, _ = split_box(pair, ((2, 4, 4), (10, 26, 20)))
    assert len(train) == 6
    assert {part.region for part in Patches(train, GEOMETRY, seed=0).pairs} == {((0, 0, 20), (12, 30, 30))}
    train, _ = split_box(pair, ((2, 4, 4), (10, 26, 26)))
    with pytest.raises(DataError, match=r"axis x: a patch of \(5, 9, 9\) .* doesn't fit"):
        Patches(train, GEOMETRY, seed=0)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (((0, 0, 0), (12, 30, 30)), r"the box 0:12 × 0:30 × 0:30 \(z, y, x\) leaves nothing of its region"),
        (((20, 0, 0), (30, 30, 30)), "holds no voxel of its region"),
        ((0, 5), "a box is"),
    ],
)
def test_boxes_that_make_no_sense(box: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_box(Pair(labels(12, 30, 30).astype(np.uint8), labels(12, 30, 30), name="pair"), box)

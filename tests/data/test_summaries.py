from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import ArraySource, summarise_labels, summarise_values
from elektronn_tui.data.summaries import BINS, _spread, value_summary


def test_values_of_each_channel_are_summed_up() -> None:
    raw = np.stack([np.arange(1000).reshape(10, 10, 10), np.full((10, 10, 10), 7)]).astype(np.uint16)
    ramp, flat = summarise_values(ArraySource(raw))
    assert (ramp.seen, ramp.missing) == (1.0, 0)
    assert (ramp.mean, ramp.std) == (pytest.approx(499.5), pytest.approx(np.arange(1000).std()))
    assert ramp.percentiles[0] == 0
    assert ramp.percentiles[4] == pytest.approx(500, abs=1)
    assert ramp.percentiles[-1] == 999
    assert sum(ramp.histogram) == 1000
    assert max(ramp.histogram) < 3 * min(ramp.histogram)
    assert flat.std == 0
    assert flat.histogram[0] == 1000


def test_values_that_are_missing_are_counted_apart() -> None:
    values = np.array([[[1.0, np.nan, 3.0, np.inf]]], np.float32)
    (found,) = summarise_values(ArraySource(values))
    assert found.missing == 2
    assert found.mean == 2.0
    assert found.percentiles[0] == 1.0
    nothing = value_summary(np.full(3, np.nan))
    assert nothing.missing == 3
    assert math.isnan(nothing.mean)
    assert nothing.histogram == (0,) * BINS


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", "float16", "float32"])
def test_the_ends_of_dtypes_do_not_overflow(dtype: str) -> None:
    limits = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    found = value_summary(np.array([limits.min, limits.max] * 8, dtype))
    assert sum(found.histogram) == 16


def test_labels_of_each_channel_are_counted() -> None:
    labels = np.zeros((2, 4, 4, 4), np.int32)
    labels[0, 0] = 2
    labels[0, 1, 0] = -1
    labels[1] = 5
    first, second = summarise_labels(ArraySource(labels), classes=4, ignore=(3,))
    assert first.counts == {0: 44, 1: 0, 2: 16}
    assert (first.ignored, first.distinct, first.voxels) == (4, 2, 64)
    assert first.share(2) == pytest.approx(16 / 60)
    assert second.counts == {0: 0, 1: 0, 2: 0, 5: 64}  # out of range, and to be seen


def test_of_many_ids_the_most_frequent_are_listed() -> None:
    ids = np.repeat(np.arange(1, 51), np.arange(1, 51))
    (found,) = summarise_labels(ArraySource(ids.reshape(1, 1, -1)))
    assert found.distinct == 50
    assert list(found.counts) == list(range(50, 40, -1))
    assert summarise_labels(ArraySource(np.full((1, 1, 4), -1)))[0].share(0) == 0


def test_a_box_limits_what_is_looked_at() -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[4:] = 1
    (found,) = summarise_labels(ArraySource(labels), ((0, 0, 0), (4, 8, 8)))
    assert found.counts == {0: 256}


class Huge:
    """A volume that nobody could read whole; remembers what was read."""

    name, channels, dtype, voxel_size, offset = "huge", 1, np.dtype(np.uint8), None, None

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.read_voxels = 0

    def read(self, lo, hi) -> np.ndarray:
        assert all(0 <= l < h <= n for l, h, n in zip(lo, hi, self.shape, strict=True))
        box = np.full((1, *np.subtract(hi, lo)), lo[0] // (self.shape[0] // 4 + 1), np.uint8)
        self.read_voxels += box.size
        return box

    def close(self) -> None: ...


@pytest.mark.parametrize("shape", [(10**5, 10**5, 10**5), (1, 10**6, 10**6), (10**7, 64, 64), (40, 10**5, 200)])
def test_a_huge_volume_is_sampled_evenly(shape: tuple[int, int, int]) -> None:
    source = Huge(shape)
    (found,) = summarise_labels(source, most_voxels=2**21)
    assert 2**18 < source.read_voxels <= 2**21
    assert 0 < found.seen == pytest.approx(source.read_voxels / math.prod(shape))
    if shape[0] > 1000:
        assert max(found.share(k) for k in range(4)) < 0.5


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(1, 400)] * 3), st.integers(1, 2**22))
def test_blocks_stay_in_the_box_and_within_the_limit(size: tuple[int, int, int], most: int) -> None:
    box = ((3, 4, 5), tuple(a + n for a, n in zip((3, 4, 5), size, strict=True)))
    blocks, seen = _spread(ArraySource(np.zeros((403, 404, 405), np.uint8)), box, most)  # type: ignore[arg-type]
    sizes = [np.subtract(hi, lo) for lo, hi in blocks]
    assert all((size > 0).all() for size in sizes)
    assert all(np.all(np.less_equal(box[0], lo)) and np.all(np.less_equal(hi, box[1])) for lo, hi in blocks)
    block = math.prod(np.minimum((8, 128, 128), size))
    assert sum(math.prod(size) for size in sizes) <= max(most, block)
    if math.prod(size) <= most:
        assert seen == 1.0
        assert sum(math.prod(size) for size in sizes) == math.prod(size)

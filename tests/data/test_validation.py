from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import Geometry, Pair, Scaling, split_region, validation_examples
from elektronn_tui.errors import DataError


def coded(*shape: int) -> np.ndarray:
    z, y, x = np.indices(shape)
    return 10000 * z + 100 * y + x


@settings(max_examples=40, deadline=None)
@given(
    out=st.tuples(*[st.integers(1, 5)] * 3),
    offsets=st.tuples(*[st.integers(0, 3)] * 3),
    held=st.integers(5, 11),
    axis=st.integers(0, 2),
)
def test_the_grid_covers_all_that_is_held_out_and_nothing_else(
    out: tuple, offsets: tuple, held: int, axis: int
) -> None:
    code = coded(18, 19, 20)
    pair = Pair(code.astype(np.uint16), code[3:-3, 3:-3, 3:-3].copy())
    _, valid = split_region(pair, "zyx"[axis], last=held)
    geometry = Geometry(tuple(t + 2 * o for t, o in zip(out, offsets, strict=True)), out, offsets)
    examples = validation_examples([valid], geometry)
    lo, hi = valid.region
    region = code[tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))]
    assert {int(v) for e in examples for v in np.unique(e.target)} == set(region.ravel().tolist())
    assert len({e.position for e in examples}) == len(examples)


def test_examples_are_plain_crops_and_the_same_every_time() -> None:
    code = coded(12, 30, 30).astype(np.float32)
    pair, geometry = Pair(code, code), Geometry((5, 9, 9), (3, 5, 5), (1, 2, 2))
    first, second = (validation_examples([pair], geometry, Scaling((10,), (2,)), 7) for _ in range(2))
    assert len(first) == 7
    for a, b in zip(first, second, strict=True):
        z, y, x = a.position
        np.testing.assert_allclose(a.raw[0], (code[z : z + 5, y : y + 9, x : x + 9] - 10) / 2, rtol=1e-5)
        np.testing.assert_array_equal(a.target[0], code[z + 1 : z + 4, y + 2 : y + 7, x + 2 : x + 7])
        np.testing.assert_array_equal(a.raw, b.raw)
        np.testing.assert_array_equal(a.target, b.target)
        assert a.position == b.position


def test_few_examples_are_spread_over_all_pairs_and_depths() -> None:
    pairs = [Pair(np.zeros((40, 40, 40), np.uint8), np.zeros((40, 40, 40), np.uint8), name=str(k)) for k in range(2)]
    examples = validation_examples(pairs, Geometry((8, 8, 8), (8, 8, 8)), None, 10)
    assert [e.pair for e in examples] == [0] * 5 + [1] * 5
    assert sorted(e.position[0] for e in examples[:5]) == [0, 8, 16, 24, 32]
    assert len(validation_examples(pairs, Geometry((8, 8, 8), (8, 8, 8)), None, 10**6)) == 250


def test_refusals() -> None:
    pair = Pair(np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.uint8))
    with pytest.raises(DataError, match="n=0"):
        validation_examples([pair], Geometry((8, 8, 8), (8, 8, 8)), None, 0)
    with pytest.raises(DataError, match="no pair"):
        validation_examples([], Geometry((8, 8, 8), (8, 8, 8)))
    with pytest.raises(DataError, match="needs 9 raw voxels along z, there are 8"):
        validation_examples([pair], Geometry((9, 8, 8), (9, 8, 8)))

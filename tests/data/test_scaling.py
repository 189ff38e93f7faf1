from __future__ import annotations

import json

import numpy as np
import pytest

from elektronn_tui.data import ArraySource, Pair, Scaling
from elektronn_tui.errors import DataError


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535), ("int16", 32767), ("float32", 1)])
def test_the_full_range_of_a_dtype_becomes_one(dtype: str, top: int) -> None:
    raw = np.array([0, top], dtype).reshape(1, 1, 1, 2)
    scaled = Scaling.for_dtype(dtype).apply(raw)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled.ravel(), [0, 1])


def test_each_channel_has_its_own() -> None:
    scaling = Scaling((100, 10), (50, 2))
    raw = np.array([[[[150]]], [[[12]]]], np.uint8)
    out = np.empty(raw.shape, np.float32)
    assert scaling.apply(raw, out) is out
    np.testing.assert_array_equal(out.ravel(), [1, 1])
    scale, shift = scaling.factors(2)
    np.testing.assert_allclose(raw.ravel() * scale + shift, [1, 1])
    with pytest.raises(DataError, match="2 values for a volume of 3 channels"):
        scaling.apply(np.zeros((3, 1, 1, 1)))


def test_it_travels_as_json() -> None:
    scaling = Scaling((155.3, 1.0), (42.6, 0.5))
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling
    with pytest.raises(DataError, match="mean and std are needed"):
        Scaling.from_dict({"mean": [1]})


@pytest.mark.parametrize(
    "arguments", [((0,), (0,)), ((0,), (-1,)), ((0, 1), (1,)), ((), ()), ((float("nan"),), (1,)), (("a",), (1,))]
)
def test_wrong_values(arguments: tuple) -> None:
    with pytest.raises(DataError, match="Scaling"):
        Scaling(*arguments)


def test_measured_scaling_standardises_what_a_pair_may_read():
    rng = np.random.default_rng(0)
    raw = rng.normal((120, 40), (30, 5), (20, 96, 96, 2)).transpose(3, 0, 1, 2).astype(np.float32)
    raw[:, 10:] += 1000  # held out
    pair = Pair(
        ArraySource(np.ascontiguousarray(raw)), context=((0, 0, 0), (10, 96, 96)), region=((0, 0, 0), (10, 96, 96))
    )
    scaling = Scaling.measured([pair])
    assert scaling == Scaling.measured([pair])
    scaled = scaling.apply(raw[:, :10])
    np.testing.assert_allclose(scaled.mean((1, 2, 3)), 0, atol=0.02)
    np.testing.assert_allclose(scaled.std((1, 2, 3)), 1, atol=0.02)


def test_measured_scaling_of_constant_and_partly_unknown_values():
    constant = Pair(ArraySource(np.full((4, 8, 8), 7, np.uint8)))
    assert Scaling.measured([constant]) == Scaling((7.0,), (1.0,))
    gaps = np.full((4, 8, 8), 2.0, np.float32)
    gaps[::2] = 4.0
    gaps[0, 0] = np.nan
    measured = Scaling.measured([_without_check(gaps)])
    assert measured.mean[0] == pytest.approx(2.97, abs=0.02)
    assert measured.std[0] == pytest.approx(1.0, abs=0.01)


def _without_check(raw):
    class Unchecked:
        context = ((0, 0, 0), raw.shape)

    Unchecked.raw = ArraySource(raw)
    return Unchecked

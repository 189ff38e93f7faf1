from __future__ import annotations

import json

import numpy as np
import pytest

from elektronn_tui.data import Scaling
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

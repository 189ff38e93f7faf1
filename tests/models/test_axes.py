"""Nodes that change axes: cutting off, padding, reshaping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import Conv, Crop, Input, Pad, Pool, Reshape, TaggedShape


def test_pad_puts_voxels_around() -> None:
    raw = Input((2, 3, 4, 5), "b,f,y,x", name="raw")
    node = Pad(Pool(raw, (2, 1)), (0, 3), -1.5)
    x = np.random.default_rng(0).normal(size=(7, 3, 8, 2)).astype(np.float32)
    pooled = x.reshape(7, 3, 4, 2, 2).max(3)
    np.testing.assert_array_equal(node(x), np.pad(pooled, ((0, 0), (0, 0), (0, 0), (3, 3)), constant_values=-1.5))
    assert (node.shape.shape, node.shape.strides, node.shape.fov) == ((2, 3, 2, 11), (2, 1), (2, 1))
    assert node.shape.centre == (0.5, -3.0)
    assert Crop(node, (0, 3)).shape == Pool(raw, (2, 1)).shape


def test_pad_undoes_a_valid_convolution() -> None:
    raw = Input((1, 1, 9, 9), "b,f,y,x", name="raw")
    node = Pad(Conv(raw, 1, (3, 3), activation_func="lin"), (1, 1))
    assert (node.shape.offsets, node.shape.fov) == ((0, 0), (3, 3))


def test_axes_in_any_order() -> None:
    raw = Input((4, 2, 5, 3), "x,b,y,f", name="raw")
    x = np.random.default_rng(0).normal(size=(4, 2, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(Pad(raw, (1, 2))(x), np.pad(x, ((1, 1), (0, 0), (2, 2), (0, 0))))
    np.testing.assert_array_equal(Crop(raw, (1, 2))(x), x[1:-1, :, 2:-2])
    integers = Input((None, 1, 4), "b,f,x", dtype="int64", name="ids")
    assert Pad(integers, (1,), -1)(np.ones((1, 1, 4), int)).tolist() == [[[-1, 1, 1, 1, 1, -1]]]


def test_wrong_pads_and_crops() -> None:
    raw = Input((2, 3, 4, 5), "b,f,y,x", name="raw")
    with pytest.raises(ShapeError, match=r"Pad 'pad'.*whole numbers from 0"):
        Pad(raw, (1, -1))
    with pytest.raises(ShapeError, match="one entry for each of the 2"):
        Pad(raw, (1, 1, 1))
    with pytest.raises(ModelError, match="value must be a number"):
        Pad(raw, (1, 1), "reflect")  # type: ignore[arg-type]
    for kind in (Pad, Crop):
        with pytest.raises(ShapeError, match="needs a spatial axis"):
            kind(Input((2, 3), "b,f"), ())
    with pytest.raises(ShapeError, match="can't cut 2 × 2 from axis y of size 4; at most 1"):
        Crop(raw, (2, 0))


@pytest.mark.parametrize(
    ("source", "tags", "target", "wanted", "expected"),
    [
        ((2, 12), "b,f", (2, 3, 4), "b,f,x", (2, 3, 4)),
        ((None, 12), "b,f", (None, 3, 4), "b,f,x", (None, 3, 4)),
        ((None, 12), "b,f", (None, -1, 4), "b,f,x", (None, 3, 4)),
        ((2, 12), "b,f", (None, 3, 4), "b,f,x", (2, 3, 4)),
        ((3, 2, 4), "r,b,f", (6, 4), "b,f", (6, 4)),
        ((3, 2, 4), "r,b,f", (None, 4), "b,f", (6, 4)),
        ((6, 4), "b,f", (2, 3, 4), "b,r,f", (2, 3, 4)),
        ((6, 4), "f,x", (None, 8), "f,x", (3, 8)),
    ],
)
def test_reshape(source: Any, tags: str, target: Any, wanted: str, expected: Any) -> None:
    node = Reshape(Input(source, tags, name="raw"), target, wanted)
    assert node.shape.shape == expected
    size = [6 if n is None else n for n in source]
    x = np.arange(np.prod(size), dtype=np.float32).reshape(size)
    np.testing.assert_array_equal(node(x), x.reshape([-1 if n is None else n for n in expected]))
    if "b" in tags.split(","):  # twice as many examples
        axis = tags.split(",").index("b")
        longer = np.concatenate([x, x], axis)
        assert node(longer).size == 2 * x.size


def test_reshape_knows_where_voxels_lie() -> None:
    raw = Input((2, 3, 8), "b,f,x", name="raw")
    pooled = Pool(raw, (2,))
    kept = Reshape(pooled, (2, 1, 3, 4), "b,s,f,x").shape
    assert (kept.strides, kept.fov, kept.centre) == ((2,), (2,), (0.5,))
    assert Reshape(pooled, (2, 6, 2), "b,f,x").shape.strides == (1,)
    assert Reshape(pooled, (2, 6, 2), "b,f,x", (4,), (5,)).shape.offsets == (2,)
    assert Reshape(pooled, TaggedShape((2, 6, 2), "b,f,x", (4,), None, (5,))).shape.strides == (4,)


@pytest.mark.parametrize(
    ("target", "tags", "match"),
    [
        ((2, 5), "b,f", "12 entries an example.*has 5"),
        ((None, 5), "b,f", "24 entries, which don't divide"),
        ((None, None), "f,x", "only one size"),
        ((None, None, None), "b,f,x", "only one size"),
        ((2, 12), "b,q", "'q' is no axis tag"),
    ],
)
def test_wrong_reshapes(target: Any, tags: str, match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        Reshape(Input((2, 12), "b,f", name="raw"), target, tags)


def test_reshape_refuses_sizes_that_dont_fit() -> None:
    with pytest.raises(ModelError, match="tags are needed"):
        Reshape(Input((2, 12), "b,f"), (2, 12))
    with pytest.raises(ShapeError, match=r"so one of .* must be None"):
        Reshape(Input((None, 12), "b,f"), (24,), "f")
    with pytest.raises(ShapeError, match=r"12 entries an example.*has 13"):
        Reshape(Input((None, 12), "b,f"), (None, 13), "b,f")
    node = Reshape(Input((2, 3, 4), "b,f,x", name="raw"), (2, 12), "b,f")
    with pytest.raises(ShapeError, match="24 entries an example"):
        node(np.ones((2, 3, 8)))
    folded = Reshape(Input((6, 4), "b,f", name="raw"), (2, 3, 4), "b,r,f")
    with pytest.raises(ShapeError, match="a batch of 4 can't become 1/3 times"):
        folded(np.ones((4, 4)))

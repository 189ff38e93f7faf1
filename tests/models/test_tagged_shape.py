from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.errors import ShapeError
from elektronn_tui.models import TaggedShape


def example() -> TaggedShape:
    return TaggedShape((None, 3, 23, 183, 185), "b, f,z,y,x", strides=(1, 2, 4), fov=(3, 5, 8))


def test_reading() -> None:
    shape = example()
    assert shape["f"] == 3
    assert shape["x"] == shape[-1] == 185
    assert shape[1:3] == (3, 23)
    assert shape.tags == ("b", "f", "z", "y", "x")
    assert shape.spatial_axes == (2, 3, 4)
    assert shape.spatial_shape == (23, 183, 185)
    assert shape.spatial_size == 23 * 183 * 185
    assert shape.stripnone == (3, 23, 183, 185)
    assert shape.stripnone_prod == shape.stripbatch_prod == 3 * 23 * 183 * 185
    assert shape.offsets == (1, 2, 4) == tuple(f // 2 for f in shape.fov)
    assert shape.fov_all_centered is False
    assert shape.ndim == 3
    assert len(shape) == 5
    assert shape.hastag("z")
    assert not shape.hastag("r")
    assert np.array_equal(shape.mfp_offsets, [[0, 0, 0]])
    assert str(shape) == "[(None,b), (3,f), (23,z), (183,y), (185,x)]"
    assert "strides=(1, 2, 4)" in shape.ext_repr


def test_spatial_order_follows_the_tags_position() -> None:
    shape = TaggedShape((1, 5, 7, 2), ["b", "x", "z", "f"], strides=(3, 1))
    assert shape.spatial_tags == ("x", "z")
    assert shape.spatial_shape == (5, 7)


def test_updates_leave_the_original_alone() -> None:
    shape = example()
    before = repr(shape), shape.strides, shape.fov
    assert shape.updateshape("f", 8)["f"] == 8
    assert shape.updateshape(-1, 5, "add")["x"] == 190
    assert shape.updateshape("z", 2, "mult")["z"] == 46
    assert shape.updateshape("b", 2, "mult")["b"] is None
    assert shape.updatefov(1, 9).fov == (3, 9, 8)
    assert shape.updatefov(1, 9).offsets == (1, 4, 4)
    assert shape.updatefov(2, -1).offsets == (1, 2, -1)
    assert shape.updatestrides((1, 1, 1)).strides == (1, 1, 1)
    assert shape.updatemfp_offsets([[0, 0, 0], [0, 1, 1]]).mfp_offsets.shape == (2, 3)
    assert (repr(shape), shape.strides, shape.fov) == before
    with pytest.raises(ValueError, match="read-only"):
        shape.mfp_offsets[0, 0] = 5


def test_axes_come_and_go() -> None:
    shape = example()
    longer = shape.addaxis("b", 7, "s")
    assert longer.tags == ("b", "s", "f", "z", "y", "x")
    assert longer.delaxis("s") == shape
    assert longer.delaxis(1) == shape
    assert shape.addaxis(0, 4, "r")[0] == 4
    flat = shape.delaxis("z")
    assert (flat.strides, flat.fov, flat.spatial_shape) == ((2, 4), (5, 8), (183, 185))
    assert flat.addaxis("f", 23, "z").fov == (1, 5, 8)


def test_copies_are_equal() -> None:
    shape = example().updatecentre((7.0, 8.5, 2.0))
    for other in (shape.copy(), copy.deepcopy(shape), pickle.loads(pickle.dumps(shape))):
        assert other == shape
        assert hash(other) == hash(shape)
        assert other.offsets == (7, 9, 2)
    assert shape != example()


@pytest.mark.parametrize(
    ("shape", "tags", "match"),
    [
        ((1, 2), "b,q", "'q' is no axis tag"),
        ((1, 2, 3), "b,f", "3 sizes"),
        ((1, 2), "b,b", "twice"),
        ((1, 2), 5, "must be a string"),
        ((1, -2), "b,f", "whole number"),
        ((1, 2.5), "b,f", "whole number"),
        ((1, "x"), "b,f", "whole number"),
        ((1, float("inf")), "b,f", "whole number"),
        (7, "b,f", "list of sizes"),
        ("17", "b,f", "list of sizes"),
    ],
)
def test_wrong_shapes(shape: Any, tags: str, match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        TaggedShape(shape, tags)


def test_wrong_geometry() -> None:
    with pytest.raises(ShapeError, match="one entry for each of the 1 spatial axes"):
        TaggedShape((1, 2, 3), "b,f,x", strides=(1, 2))
    with pytest.raises(ShapeError, match="numbers above 0"):
        TaggedShape((1, 2, 3), "b,f,x", strides=(0,))
    with pytest.raises(ShapeError, match="mfp_offsets"):
        TaggedShape((1, 2, 3), "b,f,x", mfp_offsets=[[1, 2]])
    with pytest.raises(ShapeError, match="no axis 'z'"):
        TaggedShape((1, 2, 3), "b,f,x").tag2index("z")
    with pytest.raises(ShapeError, match="no axis 3"):
        TaggedShape((1, 2, 3), "b,f,x").updateshape(3, 1)


@given(st.permutations(["r", "b", "f", "z", "y", "x", "s"]), st.integers(0, 6), st.integers(1, 9))
def test_addaxis_undoes_delaxis(tags: list[str], index: int, size: int) -> None:
    n_spatial = 3
    shape = TaggedShape(range(1, 8), tags, strides=range(1, 1 + n_spatial), fov=(3, 5, 7))
    removed = shape.delaxis(tags[index])
    assert removed.tags == tuple(t for t in tags if t != tags[index])
    back = removed.addaxis(index, shape[index], tags[index])
    assert back.shape == shape.shape
    assert back.tags == shape.tags
    if tags[index] not in "zyx":
        assert back == shape

"""Sizes that go through: of chains, against real layers, and of whole networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import Conv, FragmentsToDense, Input, Node
from elektronn_tui.models.sizes import chain_sizes, model_sizes
from elektronn_tui.training.opening import open_model


def built(size: int, filters: list[int], pools: list[int], mfp: list[bool]) -> Node:
    node: Node = Input((1, 1, size), "b,f,x", name="raw")
    for f, p, fragments in zip(filters, pools, mfp, strict=True):
        node = Conv(node, 1, (f,), (p,), mfp=fragments)
    return node


@settings(deadline=None, max_examples=80)
@given(
    layers=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4), st.booleans()), min_size=1, max_size=4),
    size=st.integers(1, 150),
)
def test_sizes_are_those_of_real_layers(layers: list[tuple[int, int, bool]], size: int) -> None:
    filters, pools, mfp = (list(values) for values in zip(*layers, strict=True))
    (axis,) = chain_sizes(filters, pools, size, mfp=mfp).axes
    try:
        node = built(size, filters, pools, mfp)
    except ShapeError:
        assert size not in axis.valid_patch_sizes
        assert axis.patch_size < size or axis.patch_size == axis.valid_patch_sizes[0]
        return
    assert size in axis.valid_patch_sizes
    assert axis.patch_size == size
    shape = node.shape
    assert (axis.pool_out[-1], axis.fields[-1]) == (shape.spatial_shape[0], shape.fov[0])
    assert axis.strides[-1] == shape.strides[0]
    if all(f for p, f in zip(pools, mfp, strict=True) if p > 1):
        dense = FragmentsToDense(node) if max(pools) > 1 else node
        assert (axis.pred_stride, axis.output_size) == (1, dense.shape.spatial_shape[0])


def test_the_documented_network() -> None:
    found = chain_sizes([(1, 6, 6), (4, 6, 6), (3, 3, 3)], [(1, 2, 2), (2, 2, 2), 1], (23, 183, 183), ndim=3)
    assert (found.patch_size, found.output_size) == ((23, 183, 183), (8, 40, 40))
    layers = [(1, 6, 6), (4, 6, 6), (3, 3, 3)], [(1, 2, 2), (2, 2, 2), 1]
    dense = chain_sizes(*layers, (23, 183, 183), mfp=[True, True, False])
    assert (dense.patch_size, dense.output_size) == ((22, 182, 182), (14, 156, 156))
    z = dense.axes[0]
    assert (z.fields, z.strides, z.pred_stride, z.offset, z.overlap) == ((1, 5, 9), (1, 2, 2), 1, 4.0, 8)


def test_the_size_is_the_wanted_one_or_the_next_smaller_or_the_smallest() -> None:
    def patch(wanted: int | None, **more: Any) -> int:
        return chain_sizes([4, 3], [2, 2], wanted, **more).patch_size[0]

    assert (patch(15), patch(13), patch(2), patch(None)) == (15, 11, 11, 4999)
    assert chain_sizes([4, 3], [2, 2], desired_output=7).output_size == (7,)
    assert chain_sizes([1, 1], [2, 1], desired_output=3, mfp=True).output_size == (2,)  # all are even
    assert chain_sizes([4, 3], [2, 2], desired_output=0).patch_size == (11,)


def test_numbers_count_for_all_axes() -> None:
    found = chain_sizes([3, (1, 3)], 1, ndim=2)
    assert [axis.fields for axis in found.axes] == [(3, 3), (3, 5)]
    assert "field of view" in str(found)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 1), {}, "At least one filter"),
        (([3, 3], [2]), {}, "2 filters, 1 poolings, 2 mfp"),
        (([(3, 3), (3, 3, 3)], 1), {}, "values for 2 and for 3 axes"),
        (([0], 1), {}, "A filter must be a whole number from 1 on, not 0"),
        (([3], [1.5]), {}, "A pooling must be a whole number from 1 on, not 1.5"),
        (([3000, 3000], 1), {}, "No size up to 4999 goes through"),
        (([4], 1), {"force_center": True}, "field of view 4 is even"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        chain_sizes(*arguments, **options)


class TestOfNetworks:
    def test_sizes_near_the_declared_one(self) -> None:
        found = model_sizes(open_model("unet3d"))
        z = [(c.size, c.output) for c in found if c.axis == "z"]
        assert z == [(92, 4), (100, 12), (108, 20), (116, 28), (124, 36), (132, 44), (140, 52)]
        assert [c.size for c in found if c.chosen] == [116, 132, 132]

    def test_sizes_that_give_an_output(self) -> None:
        model = open_model("unet3d")
        found = model_sizes(model, output=(28, 45, 30))
        assert [(c.size, c.output) for c in found if c.chosen] == [(116, 28), (140, 52), (124, 36)]
        with pytest.raises(ModelError, match="No size up to 4999 gives an output of 9999"):
            model_sizes(model, output=(9999, 44, 44))

    def test_every_size_that_is_listed_goes_through(self) -> None:
        model = open_model("neuro3d_lite")
        found = model_sizes(model, (7, 43, 43), near=1)
        middle = [c.size for c in found if c.chosen]
        for choice in found:
            axis = "zyx".index(choice.axis)
            size = [*middle[:axis], choice.size, *middle[axis + 1 :]]
            assert model.predict(np.zeros((1, 1, *size), np.float32)).shape[2 + axis] == choice.output

    def test_fragments_fit_other_sizes(self) -> None:
        plain = {(c.axis, c.size) for c in model_sizes(open_model("neuro3d_lite"))}
        assert not plain & {(c.axis, c.size) for c in model_sizes(open_model("neuro3d_lite"), mfp=True)}

    def test_misuse(self) -> None:
        with pytest.raises(ModelError, match="has no spatial axes"):
            model_sizes(open_model("gru"))
        with pytest.raises(ModelError, match=r"A size needs one number for each of z, y, x, not \(3, 4\)"):
            model_sizes(open_model("unet3d"), (3, 4))

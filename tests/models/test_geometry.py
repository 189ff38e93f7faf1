"""Random networks: declared shapes are the real ones, and gradients reach what field of view and offset say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ShapeError
from elektronn_tui.models import Concat, Conv, Crop, Input, Model, Node, Pool, UpConvMerge
from elektronn_tui.models.plan import Plan

TAGS = {1: "b,f,x", 2: "b,f,y,x", 3: "b,f,z,y,x"}


@st.composite
def chains(draw: st.DrawFn, modes: tuple[str, ...] = ("valid", "same", "full")) -> Node:
    """A chain of convolutions, pools and crops with positive weights, that the smallest fitting input goes into."""
    ndim = draw(st.integers(1, 3))
    each = st.tuples
    layers = draw(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("conv"),
                    each(*[st.integers(1, 4)] * ndim),
                    each(*[st.integers(1, 3)] * ndim),
                    st.sampled_from(modes),
                ),
                st.tuples(st.just("pool"), each(*[st.integers(1, 3)] * ndim), each(*[st.integers(1, 3)] * ndim)),
                st.tuples(st.just("crop"), each(*[st.integers(0, 1)] * ndim)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    size = [3] * ndim
    for kind, *arguments in reversed(layers):
        if kind == "crop":
            size = [n + 2 * c for n, c in zip(size, arguments[0], strict=True)]
        elif kind == "pool":
            size = [(n - 1) * s + p for n, p, s in zip(size, *arguments, strict=True)]
        else:
            kernel, pool, mode = arguments
            if mode == "same":
                kernel = tuple(f | 1 for f in kernel)
            shift = [{"valid": f - 1, "same": 0, "full": 1 - f}[mode] for f in kernel]
            size = [n * p + k for n, p, k in zip(size, pool, shift, strict=True)]
            assume(min(size) > 0)
    assume(math.prod(size) < 40_000)
    node: Node = Input((1, 1, *size), TAGS[ndim], name="raw")
    for kind, *arguments in layers:
        if kind == "crop":
            node = Crop(node, *arguments)
        elif kind == "pool":
            node = Pool(node, *arguments, mode="sum")
        else:
            kernel, pool, mode = arguments
            kernel = tuple(f | 1 for f in kernel) if mode == "same" else kernel
            node = Conv(node, 2, kernel, activation_func="lin", conv_mode=mode)
            node.w = node.w.abs() + 0.1
            node = Pool(node, pool, mode="sum")
    return node


def reached(node: Node, index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest input voxel, on each axis, that an output voxel depends on."""
    plan = Plan([node])
    x = torch.ones([n or 1 for n in plan.inputs[0].shape.shape], requires_grad=True)
    plan.run([x])[0][(0, slice(None), *index)].sum().backward()
    assert x.grad is not None
    where = np.argwhere(x.grad[0, 0].numpy() != 0)
    return where.min(0), where.max(0)


SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@SETTINGS
@given(chains(modes=("valid",)))
def test_field_of_view_offset_and_stride(node: Node) -> None:
    shape = node.shape
    assert node.test_run().shape == tuple(shape.shape)
    low, high = reached(node, (0,) * shape.ndim)
    assert tuple(high - low + 1) == shape.fov
    assert tuple(low + high) == tuple(round(2 * c) for c in shape.centre)
    assert shape.offsets == tuple(math.ceil(c) for c in (low + high) / 2)
    if not any(isinstance(n, Crop) for n in node.all_parents.values()):
        assert shape.offsets == tuple(f // 2 for f in shape.fov)
    last = tuple((n or 1) - 1 for n in shape.spatial_shape)
    low_last, _ = reached(node, last)
    assert tuple(low_last - low) == tuple(i * s for i, s in zip(last, shape.strides, strict=True))


@SETTINGS
@given(chains())
def test_padded_networks_know_where_they_look(node: Node) -> None:
    shape = node.shape
    assert node.test_run().shape == tuple(shape.shape)
    middle = tuple((n or 1) // 2 for n in shape.spatial_shape)
    low, high = reached(node, middle)
    for i, m in enumerate(middle):
        # What lies in the padding of any layer is not reached, so these are bounds.
        centre, half = shape.centre[i] + m * shape.strides[i], (shape.fov[i] - 1) / 2
        assert centre - half <= low[i] <= high[i] <= centre + half


@pytest.mark.parametrize(("mode", "size"), [("same", 11), ("full", 15)])
def test_padded_convolution_away_from_the_border(mode: str, size: int) -> None:
    raw = Input((1, 1, 11), "b,f,x", name="raw")
    node = Conv(
        Conv(raw, 2, (3,), conv_mode=mode, activation_func="lin"), 2, (3,), conv_mode=mode, activation_func="lin"
    )  # type: ignore[arg-type]
    assert node.shape.spatial_shape == (size,)
    assert node.shape.fov == (5,)
    low, high = reached(node, (size // 2,))
    assert (low[0], high[0]) == (3, 7)
    assert node.shape.centre == (0.0 if mode == "same" else -2.0,)
    assert node.shape.offsets == (int(node.shape.centre[0]),)


@SETTINGS
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(2, 3), st.booleans()), min_size=1, max_size=2),
    st.integers(1, 3),
    st.data(),
)
def test_u_nets_are_centred(ndim: int, levels: list[tuple[int, bool]], size: int, data: st.DataObject) -> None:
    kernel = (3,) * ndim
    # From the bottom up: each level's size before its pooling, with room for two convolutions on the way down.
    bottom = size + 2
    for pool, _ in reversed(levels):
        bottom = bottom * pool + 2
    raw = Input((1, 1, *(bottom,) * ndim), TAGS[ndim], name="raw")
    node: Node = raw
    skips = []
    for pool, _ in levels:
        node = Conv(node, 2, kernel)
        skips.append(node)
        node = Pool(node, (pool,) * ndim)
    node = Conv(node, 2, kernel)
    try:
        for (_, convolve), skip in zip(reversed(levels), reversed(skips), strict=True):
            node = UpConvMerge(*data.draw(st.permutations([node, skip])), upconv_n_f=2)
            if convolve and min(n or 1 for n in node.shape.spatial_shape) > 2:
                node = Conv(node, 2, kernel)
    except ShapeError as error:
        assume("odd number" not in str(error))
        raise
    assert node.test_run().shape == tuple(node.shape.shape)
    span = [s * ((n or 1) - 1) + 1 for s, n in zip(node.shape.strides, node.shape.spatial_shape, strict=True)]
    assert tuple(2 * c for c in node.shape.centre) == tuple(bottom - s for s in span)
    if any((bottom - s) % 2 for s in span):
        with pytest.raises(ShapeError, match="odd"):
            Model(raw, prediction_node=node)
        return
    model = Model(raw, prediction_node=node)
    assert model.prediction_node.shape.offsets == tuple((bottom - s) // 2 for s in span)
    # Of a symmetric network with symmetric weights, the middle of the output sees the middle of the input.
    flipped = np.flip(x := np.random.default_rng(0).random((1, 1, *(bottom,) * ndim), dtype=np.float32), 2)
    for member in model.nodes.values():
        for key, value in member.params.items():
            if key == "w":
                setattr(member, key, value + value.flip(2))
    assert np.flip(model.predict(flipped), 2) == pytest.approx(model.predict(x), rel=1e-3, abs=1e-3)


@SETTINGS
@given(chains(modes=("valid", "same")), st.integers(-5, 5))
def test_other_sizes_either_fit_exactly_or_are_refused(node: Node, more: int) -> None:
    source = node.input_nodes[0]
    size = [max(1, (n or 1) + more) for n in source.shape.spatial_shape]
    x = np.ones((2, 1, *size), np.float32)
    try:
        y = node(x)
    except ShapeError:
        return
    again = type(source)((2, 1, *size), source.shape.tags, name="raw")
    assert y.shape[0] == 2
    span = [(n - 1) * s + 1 for n, s in zip(y.shape[2:], node.shape.strides, strict=True)]
    declared = [(n or 1) - 1 for n in node.shape.spatial_shape]
    before = [
        (n or 1) - (d * s + 1) for n, d, s in zip(source.shape.spatial_shape, declared, node.shape.strides, strict=True)
    ]
    assert [n - s for n, s in zip(again.shape.spatial_shape, span, strict=True)] == before


def test_concat_has_the_larger_field_of_view() -> None:
    raw = Input((1, 1, 9), "b,f,x", name="raw")
    joined = Concat([Crop(raw, (1,)), Conv(raw, 2, (3,))])
    assert joined.shape.fov == (3,)
    assert joined.shape.offsets == (1,)


def test_shifted_parents_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    raw = Input((1, 1, 9), "b,f,x", name="raw")
    Concat([raw, Conv(raw, 2, (3,), conv_mode="same")])
    assert not caplog.records
    Concat([Conv(raw, 2, (4,)), Conv(Crop(raw, (1,)), 2, (2,))])
    assert not caplog.records
    shifted = Input((1, 1, 9), "b,f,x", centre=[2.0], name="second")
    Concat([raw, shifted])
    assert "shifted" in caplog.text

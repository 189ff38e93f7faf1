"""Networks rewritten to give every voxel in one run, against one patch for each voxel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.errors import ModelError
from elektronn_tui.models import (
    LRN,
    Add,
    ApplyFunc,
    Concat,
    Conv,
    Crop,
    FragmentsToDense,
    Input,
    Module,
    Node,
    Perceptron,
    Pool,
    Softmax,
    UpConvMerge,
)
from elektronn_tui.models.engines import rewritten

TAGS = {2: "b,f,y,x", 3: "b,f,z,y,x"}


def source(*size: int, n_f: int = 1, **arguments: Any) -> Input:
    return Input((None, n_f, *size), TAGS[len(size)], name="raw", **arguments)


def by_patches(node: Node, image: np.ndarray) -> np.ndarray:
    """Return what `node` makes of each patch of the size of its field of view."""
    fov = node.shape.fov
    windows = np.lib.stride_tricks.sliding_window_view(image, fov, tuple(range(1, image.ndim)))
    places = windows.shape[1 : image.ndim]
    batch = np.moveaxis(windows, 0, len(fov)).reshape(-1, len(image), *fov).copy()
    return np.moveaxis(node(batch).reshape(*places, -1), -1, 0)


def at_every_voxel(node: Node, image: np.ndarray) -> np.ndarray:
    """Return the output of a node with strides of 1 in one run, of an image that is filled up until it fits."""
    fov = node.shape.fov
    sizes = image.shape[1:]
    for _ in range(60):
        filled = np.pad(image, [(0, 0), *((0, n - m) for n, m in zip(sizes, image.shape[1:], strict=True))])
        try:
            out = node(filled[None])[0]
            return out[(slice(None), *(slice(n - f + 1) for n, f in zip(image.shape[1:], fov, strict=True)))]
        except ValueError as error:
            axis = node.shape.spatial_tags.index(error.axis)  # type: ignore[attr-defined]
            sizes = (*sizes[:axis], sizes[axis] + 1, *sizes[axis + 1 :])
    raise AssertionError("no size fits")


@st.composite
def strided_networks(draw: st.DrawFn) -> tuple[Node, list[str]]:
    """Draw a chain of convolutions and poolings whose input is as large as its field of view."""
    ndim = draw(st.sampled_from([2, 3]))
    small = st.tuples(*[st.integers(1, 3)] * ndim)
    layers: list[tuple[str, Any, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["conv", "max", "average", "sum", "crop"]))
        layers.append((kind, draw(small), draw(st.tuples(*[st.integers(1, 2)] * ndim))))
    torch.manual_seed(draw(st.integers(0, 99)))
    size = [1] * ndim
    for kind, a, b in reversed(layers):
        if kind == "conv":
            size = [n * p + f - 1 for n, f, p in zip(size, a, b, strict=True)]
        elif kind == "crop":
            size = [n + 2 * (p - 1) for n, p in zip(size, b, strict=True)]
        else:
            size = [(n - 1) * p + f for n, f, p in zip(size, a, b, strict=True)]
    node: Node = source(*size, n_f=draw(st.integers(1, 2)))
    for kind, a, b in layers:
        if kind == "conv":
            node = Conv(node, 3, a, b, activation_func=draw(st.sampled_from(["tanh", "relu", "maxout 3", "prelu"])))
        elif kind == "crop":
            node = Crop(node, [p - 1 for p in b])
        else:
            node = Pool(node, a, b, mode=kind)
    if draw(st.booleans()):
        node = Softmax(Conv(node, 2, (1,) * ndim, activation_func="lin"))
    return node, [kind for kind, *_ in layers]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(strided_networks(), st.data())
def test_every_voxel_is_that_of_its_own_patch(drawn: tuple[Node, list[str]], data: st.DataObject) -> None:
    node, _ = drawn
    shape = node.shape
    more = data.draw(st.tuples(*[st.integers(1, 5)] * shape.ndim))
    raw = node.input_nodes[0]
    rng = np.random.default_rng(0)
    image = rng.normal(size=(raw.shape["f"], *(n + m for n, m in zip(raw.shape.spatial_shape, more, strict=True))))
    image = image.astype(np.float32)
    cropped = [n - f for n, f in zip(raw.shape.spatial_shape, shape.fov, strict=True)]
    if any(cropped):  # what is cropped away isn't seen
        return
    expected = by_patches(node, image)
    dilated = rewritten(node, "dilated")
    assert dilated.shape.strides == (1,) * shape.ndim
    assert dilated.shape.offsets == shape.offsets
    np.testing.assert_allclose(at_every_voxel(dilated, image), expected, atol=2e-5)
    if any(isinstance(n, Pool) and n.stride != n.pool_shape for n in node.all_parents.values()):
        with pytest.raises(ModelError, match="in steps of its window"):
            rewritten(node, "mfp")
    else:
        np.testing.assert_allclose(at_every_voxel(rewritten(node, "mfp"), image), expected, atol=2e-5)


def branches(raw: Node) -> Node:
    """Two ways of equal strides that are joined, and pointwise nodes of all kinds on the way."""
    first = Conv(raw, 3, (3, 3), (2, 2), activation_func="tanh")
    wide = Conv(first, 4, (3, 3), activation_func="tanh", batch_normalisation="train")
    narrow = LRN(Perceptron(Crop(first, (1, 1)), 4, activation_func="tanh"), 3, "channel")
    joined = Concat([Add(wide, narrow), Module(narrow, torch.nn.Conv2d(4, 2, 1)), ApplyFunc(wide, torch.tanh)])
    return Softmax(Conv(Pool(joined, (2, 2)), 2, (1, 1), activation_func="lin"))


def test_branches_that_join() -> None:
    torch.manual_seed(0)
    node = branches(source(10, 10))
    assert node.shape.fov == (10, 10)
    image = np.random.default_rng(0).normal(size=(1, 17, 14)).astype(np.float32)
    expected = by_patches(node, image)
    np.testing.assert_allclose(at_every_voxel(rewritten(node, "dilated"), image), expected, atol=1e-5)
    np.testing.assert_allclose(at_every_voxel(rewritten(node, "mfp"), image), expected, atol=1e-5)


def test_networks_with_fragments_can_be_dilated() -> None:
    torch.manual_seed(0)
    image = np.random.default_rng(0).normal(size=(1, 17, 14)).astype(np.float32)
    plain = Conv(Conv(source(6, 6), 3, (3, 3), (2, 2)), 2, (2, 2), activation_func="lin")
    raw = source(9, 9)
    weights = [(n.w, n.b) for n in (plain.parents[0], plain)]
    hidden = Conv(raw, 3, (3, 3), (2, 2), mfp=True, w=weights[0][0], b=weights[0][1])
    out = Conv(hidden, 2, (2, 2), activation_func="lin", w=weights[1][0], b=weights[1][1])
    for node in (out, FragmentsToDense(out)):
        np.testing.assert_allclose(
            at_every_voxel(rewritten(node, "dilated"), image), by_patches(plain, image), atol=1e-5
        )


@pytest.mark.parametrize("engine", ["mfp", "dilated"])
def test_parameters_are_shared(engine: Any) -> None:
    node = Conv(Conv(source(10, 10), 3, (3, 3), (2, 2)), 2, (2, 2), activation_func="lin")
    other = rewritten(node, engine)
    image = np.random.default_rng(0).normal(size=(1, 12, 12)).astype(np.float32)
    before = at_every_voxel(other, image)
    with torch.no_grad():
        node.b.add_(1)
    np.testing.assert_allclose(at_every_voxel(other, image), before + 1, atol=1e-5)
    assert node.operation.dilation is None
    assert not node.mfp
    assert not node.parents[0].operation.mfp
    assert node.shape.strides == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda raw: UpConvMerge(Conv(raw, 2, (1, 1)), Pool(raw, (2, 2)), 2), "field of view differs"),
        (lambda raw: Conv(Pool(raw, (2, 2)), 2, (3, 3), conv_mode="same"), "pads"),
        (lambda raw: Module(Pool(raw, (2, 2)), torch.nn.GroupNorm(1, 1)), "pads or looks everywhere"),
        (
            lambda raw: Conv(Module(raw, torch.nn.Conv2d(1, 1, 2, 2)), 2, (1, 1)),
            "isn't known how|one fragment for",
        ),
        (lambda raw: Pool(source(8, 8, hardcoded_shape=True), (2, 2)), "of any size"),
    ],
)
@pytest.mark.parametrize("engine", ["mfp", "dilated"])
def test_what_cannot_be_rewritten_says_why(engine: Any, make: Callable[[Node], Node], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        rewritten(make(source(8, 8)), engine)

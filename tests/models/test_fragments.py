"""Max-fragment pooling against one patch for each output voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import Concat, Conv, FragmentsToDense, Input, Node, Perceptron, Pool, TaggedShape, UpConv
from elektronn_tui.models.fragments import fragment_pool

TAGS = {1: "b,f,x", 2: "b,f,y,x", 3: "b,f,z,y,x"}
Layers = list[dict[str, Any]]


def chain(raw: Node, layers: Layers, mfp: bool) -> Node:
    """Return a chain of convolutions and poolings on `raw`; the parameters lie in `layers`."""
    node = raw
    for layer in layers:
        arguments = {key: value for key, value in layer.items() if key != "kind"}
        node = Pool(node, **arguments, mfp=mfp) if layer["kind"] == "pool" else Conv(node, **arguments, mfp=mfp)
    return node


def random_layers(rng: np.random.Generator, ndim: int) -> Layers:
    layers: Layers = []
    n_in = 2
    for _ in range(3):
        pool = tuple(rng.integers(1, 4 if ndim == 1 else 3, ndim).tolist())
        if layers and rng.random() < 0.3:
            layers.append({"kind": "pool", "pool_shape": pool, "mode": str(rng.choice(["max", "average", "sum"]))})
            continue
        filters = tuple(rng.integers(1, 4, ndim).tolist())
        n_f = int(rng.integers(1, 4))
        layers.append(
            {
                "kind": "conv",
                "n_f": n_f,
                "filter_shape": filters,
                "pool_shape": pool,
                "activation_func": str(rng.choice(["tanh", "relu", "abs"])),
                "w": rng.normal(size=(n_f, n_in, *filters)).astype(np.float32),
                "b": rng.normal(size=n_f).astype(np.float32),
            }
        )
        n_in = n_f
    return layers


def input_size(layers: Layers, axis: int, out: int) -> int:
    """Return the input size of which fragments of size `out` are left."""
    size = out
    for layer in reversed(layers):
        pool = layer["pool_shape"][axis]
        size = size * pool + pool - 1
        if layer["kind"] == "conv":
            size += layer["filter_shape"][axis] - 1
    return size


def patches(x: np.ndarray, fov: tuple[int, ...]) -> np.ndarray:
    """Return all patches (positions, f, *fov) of one image (f, ...)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, fov, tuple(range(1, x.ndim)))
    return np.moveaxis(windows, 0, len(fov)).copy().reshape(-1, len(x), *fov)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_dense_output_equals_one_patch_a_voxel(ndim: int, seed: int) -> None:
    rng = np.random.default_rng(100 * ndim + seed)
    layers = random_layers(rng, ndim)
    sizes = [input_size(layers, axis, int(rng.integers(1, 3))) for axis in range(ndim)]
    raw = Input((2, 2, *sizes), TAGS[ndim], name="raw")
    fragments = chain(raw, layers, mfp=True)
    dense = FragmentsToDense(fragments)
    x = rng.normal(size=raw.shape.shape).astype(np.float32)

    small = chain(Input((1, 2, *fragments.shape.fov), TAGS[ndim], name="raw"), layers, mfp=False)
    assert small.shape.spatial_shape == (1,) * ndim
    assert (small.shape.fov, small.shape.strides) == (fragments.shape.fov, fragments.shape.strides)
    expected = np.stack([small(patches(image, small.shape.fov)) for image in x])
    expected = np.moveaxis(expected.reshape(2, *dense.shape.spatial_shape, -1), -1, 1)
    assert dense(x) == pytest.approx(expected, abs=1e-4, rel=1e-4)

    assert dense.shape.strides == (1,) * ndim
    assert dense.shape.fov == small.shape.fov
    assert dense.shape.centre == small.shape.centre
    assert len(dense.shape.mfp_offsets) == 1
    # Fragment k, voxel i is the dense voxel mfp_offsets[k] + i * strides, example by example within a fragment.
    values = fragments(x).reshape(-1, 2, *fragments.shape.shape[1:])  # type: ignore[arg-type]
    for offset, fragment in zip(fragments.shape.mfp_offsets, values, strict=True):
        places = tuple(slice(o, None, s) for o, s in zip(offset, fragments.shape.strides, strict=True))
        assert fragment == pytest.approx(expected[:, :, *places], abs=1e-4, rel=1e-4)


def test_order_and_offsets_of_two_poolings() -> None:
    raw = Input((1, 1, 1, 11), "b,f,y,x", name="raw")
    first = Pool(raw, (1, 2), mfp=True)
    assert first.shape.mfp_offsets.tolist() == [[0, 0], [0, 1]]
    second = Pool(first, (1, 3), mfp=True)
    assert second.shape.shape == (6, 1, 1, 1)
    assert second.shape.strides == (1, 6)
    assert second.shape.mfp_offsets[:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    x = np.arange(11, dtype=np.float32).reshape(1, 1, 1, 11)
    assert second(x).ravel().tolist() == [5, 6, 7, 8, 9, 10]
    assert FragmentsToDense(second)(x).ravel().tolist() == [5, 6, 7, 8, 9, 10]


def test_shifts_have_the_last_axis_fastest() -> None:
    conv = Conv(Input((1, 1, 3, 5), "b,f,y,x"), 1, (1, 1), (2, 3), mfp=True)
    assert conv.shape.mfp_offsets.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_the_documented_network() -> None:
    node: Node = Input((1, 3, 22, 182, 182), "b,f,z,y,x")
    for arguments in ((32, (1, 6, 6), (1, 2, 2)), (64, (4, 6, 6), (2, 2, 2)), (5, (3, 3, 3))):
        node = Conv(node, *arguments, mfp=True)
    assert node.shape.strides == (2, 4, 4)
    assert node.shape.fov == (9, 27, 27)
    dense = FragmentsToDense(node)
    assert dense.shape.shape == (1, 5, 14, 156, 156)
    assert dense.shape.offsets == (4, 13, 13)


def test_other_sizes_and_batches_than_declared() -> None:
    raw = Input((None, 1, 8), "b,f,x", name="raw")
    conv = Conv(raw, 2, (2,), (2,), mfp=True)
    assert conv.shape["b"] is None
    dense = FragmentsToDense(conv)
    assert dense.shape.shape == (None, 2, 6)
    x = np.random.default_rng(0).normal(size=(3, 1, 10)).astype(np.float32)
    together = dense(x)
    assert together.shape == (3, 2, 8)
    assert together == pytest.approx(np.concatenate([dense(x[i : i + 1]) for i in range(3)]), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_format_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 5, 7, 7, dtype=dtype).to(memory_format=torch.channels_last_3d)
    y = fragment_pool(x, (2, 2, 2), torch.nn.functional.max_pool3d)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(y, fragment_pool(x.contiguous(), (2, 2, 2), torch.nn.functional.max_pool3d))


class TestMisfits:
    def test_conv_names_sizes_that_fit(self) -> None:
        with pytest.raises(ShapeError, match=r"axis x of size 9 is 8 after filter 2.*pooling 2 plus 1.*8 or 10"):
            Conv(Input((1, 1, 9), "b,f,x"), 1, (2,), (2,), mfp=True)
        with pytest.raises(ShapeError, match=r"axis x of size 3 is too small for filter 2 and pooling 2; 4 would fit"):
            Conv(Input((1, 1, 3), "b,f,x"), 1, (2,), (2,), mfp=True)

    def test_pool(self) -> None:
        raw = Input((1, 1, 6), "b,f,x")
        with pytest.raises(ShapeError, match=r"axis x of size 6 can't be pooled by 2 with mfp=True; 5 or 7 would fit"):
            Pool(raw, (2,), mfp=True)
        with pytest.raises(ModelError, match=r"stride \(1,\) can't be kept"):
            Pool(Input((1, 1, 7), "b,f,x"), (2,), (1,), mfp=True)

    def test_incomplete_fragments(self) -> None:
        raw = Input((1, 1, 7), "b,f,x", name="raw")
        plain = Pool(Pool(raw, (2,), mfp=True), (3,))
        with pytest.raises(ShapeError, match=r"each of the 6 shifts.*its parent has 2; every pooling"):
            FragmentsToDense(plain)
        with pytest.raises(ShapeError, match="needs one fragment"):
            FragmentsToDense(UpConv(raw, 1, (2,)))
        with pytest.raises(ShapeError, match="needs the axes b, f"):
            FragmentsToDense(Input((1, 4), "b,f"))

    def test_batch_is_no_multiple(self) -> None:
        odd = Pool(Input((1, 1, 7), "b,f,x"), (2,), mfp=True)
        odd.shape = TaggedShape((3, 1, 3), "b,f,x", (2,), odd.shape.mfp_offsets)
        with pytest.raises(ShapeError, match="axis b of size 3 must be a multiple of the 2 fragments"):
            FragmentsToDense(odd)

    def test_unlike_fragments_are_not_joined(self) -> None:
        raw = Input((None, 1, 7), "b,f,x", name="raw")
        with pytest.raises(ShapeError, match="unlike fragments on the batch axis"):
            Concat([Pool(raw, (2,), mfp=True), Conv(Input((None, 1, 6), "b,f,x", name="raw2"), 1, (1,), (2,))])


def test_without_pooling_nothing_is_interleaved() -> None:
    raw = Input((1, 2, 5), "b,f,x", name="raw")
    x = np.random.default_rng(0).normal(size=(1, 2, 5)).astype(np.float32)
    node = Perceptron(Conv(raw, 3, (2,), mfp=True), 2)
    assert np.array_equal(FragmentsToDense(node)(x), node(x))

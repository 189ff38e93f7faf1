"""Dense prediction against one patch for each voxel."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    LRN,
    Add,
    ApplyFunc,
    Conv,
    FragmentsToDense,
    Input,
    Model,
    Module,
    Node,
    Pad,
    Perceptron,
    Pool,
    Softmax,
    UpConv,
    UpConvMerge,
)
from elektronn_tui.models.dense import predict_dense
from elektronn_tui.models.engines import Engine
from elektronn_tui.models.predictor import DenseOptions, DensePredictor

TAGS = {1: "b,f,x", 2: "b,f,y,x", 3: "b,f,z,y,x"}


def source(*size: int, n_f: int = 1, **arguments: Any) -> Input:
    return Input((None, n_f, *size), TAGS[len(size)], name="raw", **arguments)


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def chain(raw: Node, layers: list[dict[str, Any]], mfp: tuple[bool, ...]) -> Node:
    node = raw
    for layer, fragments in zip(layers, mfp, strict=True):
        node = Conv(node, **layer, mfp=fragments)
    return node


def random_layers(rng: np.random.Generator, ndim: int, n_in: int) -> list[dict[str, Any]]:
    layers = []
    for n_f in (3, 2):
        filters = tuple(rng.integers(1, 4, ndim).tolist())
        layers.append(
            {
                "n_f": n_f,
                "filter_shape": filters,
                "pool_shape": tuple(rng.integers(1, 3, ndim).tolist()),
                "activation_func": "tanh",
                "w": rng.normal(size=(n_f, n_in, *filters)).astype(np.float32),
                "b": rng.normal(size=n_f).astype(np.float32),
            }
        )
        n_in = n_f
    return layers


def sizes(layers: list[dict[str, Any]], mfp: tuple[bool, ...], out: tuple[int, ...]) -> tuple[int, ...]:
    """Return the input size that gives an output of this size (of each fragment)."""
    result = []
    for axis, n in enumerate(out):
        for layer, fragments in zip(reversed(layers), reversed(mfp), strict=True):
            pool = layer["pool_shape"][axis]
            n = n * pool + (pool - 1) * fragments + layer["filter_shape"][axis] - 1
        result.append(n)
    return tuple(result)


def by_patches(node: Node, image: np.ndarray, fov: tuple[int, ...]) -> np.ndarray:
    """Return what `node` makes of each patch of the size of its field of view."""
    windows = np.lib.stride_tricks.sliding_window_view(image, fov, tuple(range(1, image.ndim)))
    places = windows.shape[1 : image.ndim]
    batch = np.moveaxis(windows, 0, len(fov)).reshape(-1, len(image), *fov).copy()
    return np.moveaxis(node(batch).reshape(*places, -1), -1, 0)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("engine", ["auto", "shifts"])
def test_strided_networks(ndim: int, seed: int, engine: Engine) -> None:
    """With and without fragments, mixed as well, whatever the tile and the batch, even fields of view too."""
    rng = np.random.default_rng(10 * ndim + seed)
    channels = int(rng.integers(1, 3))
    layers = random_layers(rng, ndim, channels)
    smallest = chain(source(*sizes(layers, (False, False), (1,) * ndim), n_f=channels), layers, (False, False))
    fov = smallest.shape.fov
    image = picture(channels, *(f + int(rng.integers(3, 7)) for f in fov))
    expected = by_patches(smallest, image, fov)
    for mfp in itertools.product([False, True], repeat=2):
        for out in ((1,) * ndim, tuple(rng.integers(1, 4, ndim).tolist())):
            node = chain(source(*sizes(layers, mfp, out), n_f=channels), layers, mfp)
            got = node.predict_dense(image, batch_size=int(rng.integers(1, 6)), engine=engine)
            assert got.dtype == np.float32
            assert got == pytest.approx(expected, abs=1e-5)
            if all(mfp):
                assert FragmentsToDense(node).predict_dense(image) == pytest.approx(expected, abs=1e-5)
    other = sizes(layers, mfp, tuple(rng.integers(2, 5, ndim).tolist()))
    assert node.predict_dense(image, patch_shape=other, engine=engine) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pad", [False, True])
def test_engines_agree(pad: bool, caplog: pytest.LogCaptureFixture) -> None:
    raw = source(9, 26, 26)
    node = Conv(Conv(Conv(raw, 3, (1, 3, 3), (1, 2, 2)), 4, (2, 3, 3), (2, 2, 2)), 2, (1, 1, 1), activation_func="lin")
    image = picture(1, 8, 23, 17)  # smaller than the patch
    expected = node.predict_dense(image, pad_raw=pad, engine="shifts")
    with caplog.at_level(logging.INFO):
        for engine in ("auto", "mfp", "dilated"):
            got = node.predict_dense(image, pad_raw=pad, engine=engine)
            np.testing.assert_allclose(got, expected, atol=1e-5)
    said = [record.message.split(" (")[-1].split(")")[0] for record in caplog.records]
    assert said == ["dilated", "mfp", "dilated"]
    with pytest.raises(ModelError, match="engine must be"):
        node.predict_dense(image, engine="fast")


def unet(raw: Node) -> Node:
    fine = Conv(raw, 3, (1, 3, 3), activation_func="tanh")
    coarse = Conv(Pool(fine, (1, 2, 2)), 4, (3, 3, 3), activation_func="tanh")
    deep = Conv(Pool(coarse, (1, 2, 2)), 4, (1, 3, 3), activation_func="tanh")
    merged = Conv(UpConvMerge(coarse, deep, 5), 4, (1, 3, 3), activation_func="tanh")
    return Conv(UpConvMerge(fine, merged, 4), 2, (1, 3, 3), activation_func="lin")


def test_unet_is_independent_of_its_tiles() -> None:
    torch.manual_seed(0)
    raw = source(5, 42, 42)
    model = Model(input_node=raw, prediction_node=unet(raw))
    assert model.prediction_node.shape.spatial_shape == (3, 22, 22)
    assert model.prediction_node.shape.offsets == (1, 10, 10)
    image = picture(1, 8, 70, 58)
    whole = model.predict(image[None])[0]
    assert whole.shape == (2, 6, 50, 38)
    got = model.predict_dense(image)
    assert got == pytest.approx(whole, abs=1e-5)
    assert model.predict_dense(image, patch_shape=(6, 46, 34), batch_size=3) == pytest.approx(whole, abs=1e-5)
    with pytest.raises(ShapeError, match=r"one run gives 2 voxels on axis y, but values repeat in steps of 4"):
        model.predict_dense(image, patch_shape=(5, 22, 42))


def test_upsampling_without_a_merge() -> None:
    raw = source(11, 11)
    node = UpConv(Conv(raw, 2, (2, 2), (2, 2), activation_func="tanh"), 2, (2, 2), activation_func="tanh")
    model = Model(input_node=raw, prediction_node=Conv(node, 1, (2, 2), activation_func="lin"))
    image = picture(1, 23, 19)
    assert model.predict_dense(image) == pytest.approx(model.predict(image[None])[0], abs=1e-5)


def test_network_that_pads_sees_the_whole_image() -> None:
    raw = source(8, 8)
    first = Conv(raw, 3, (3, 3), conv_mode="same", activation_func="tanh")
    node = UpConvMerge(first, Conv(Pool(first, (2, 2)), 3, (3, 3), conv_mode="same"), 3)
    model = Model(input_node=raw, prediction_node=Conv(node, 2, (1, 1), activation_func="lin"))
    image = picture(1, 12, 20)
    assert model.predict_dense(image) == pytest.approx(model.predict(image[None])[0], abs=1e-6)
    odd = picture(1, 11, 19)
    filled = np.pad(odd, ((0, 0), (0, 1), (0, 1)))
    assert model.predict_dense(odd) == pytest.approx(model.predict(filled[None])[0][:, :11, :19], abs=1e-6)


@pytest.mark.parametrize(
    "padding",
    [
        lambda node: LRN(node, (3, 3), alpha=1.0),
        lambda node: Pad(Conv(node, 3, (3, 3)), (1, 1)),
        lambda node: Conv(node, 3, (3, 3), conv_mode="same"),
        lambda node: Module(node, torch.nn.Conv2d(3, 3, 3, padding=1)),
        lambda node: Module(node, torch.nn.GroupNorm(3, 3)),
        lambda node: ApplyFunc(node, torch.nn.functional.avg_pool2d, (3, 1, 1)),
    ],
    ids=["LRN", "Pad", "Conv", "Module", "GroupNorm", "ApplyFunc"],
)
@pytest.mark.parametrize("before", [lambda node: node, lambda node: UpConv(Pool(node, (2, 2)), 3, (2, 2))])
def test_what_depends_on_cuts_sees_the_whole_image(
    padding: Callable[[Node], Node], before: Callable[[Node], Node]
) -> None:
    raw = source(8, 8, n_f=3)
    model = Model(input_node=raw, prediction_node=padding(before(raw)))
    image = picture(3, 12, 12)
    assert model.predict_dense(image) == pytest.approx(model.predict(image[None])[0], abs=1e-6)


def test_filters_of_one_voxel_pad_nothing() -> None:
    node = Conv(source(8, 8), 3, (1, 1), conv_mode="same")
    image = picture(1, 12, 12)
    assert node.predict_dense(image, patch_shape=(6, 6)) == pytest.approx(node(image[None])[0], abs=1e-6)


def test_mirrored_borders() -> None:
    for filters, before, after in (((3, 5), (1, 2), (1, 2)), ((2, 4), (1, 2), (0, 1))):
        node = Conv(source(7, 9), 2, filters, activation_func="lin")
        image = picture(1, 10, 8)
        got = node.predict_dense(image, pad_raw=True)
        assert got.shape == (2, 10, 8)
        padded = np.pad(image, [(0, 0), *zip(before, after, strict=True)], mode="symmetric")
        assert got == pytest.approx(node(padded[None])[0], abs=1e-5)
        inner = tuple(slice(b, n - a) for b, a, n in zip(before, after, (10, 8), strict=True))
        assert got[:, *inner] == pytest.approx(node.predict_dense(image), abs=1e-5)


def test_image_smaller_than_the_patch() -> None:
    node = Conv(source(16, 20), 2, (3, 3), (2, 2), activation_func="tanh")
    image = picture(1, 4, 5)
    assert node.predict_dense(image) == pytest.approx(by_patches(node, image, (4, 4)), abs=1e-5)


def test_two_dimensional_network_slice_by_slice() -> None:
    node = Conv(source(6, 8, n_f=2), 3, (3, 3), (2, 2), activation_func="tanh")
    image = picture(2, 4, 9, 10)
    expected = np.stack([node.predict_dense(image[:, z]) for z in range(4)], 1)
    assert expected.shape == (3, 4, 6, 7)
    assert node.predict_dense(image, batch_size=5) == pytest.approx(expected, abs=1e-6)
    assert node.predict_dense(image, pad_raw=True).shape == (3, 4, 9, 10)


def test_the_documented_sizes() -> None:
    raw = source(23, 185, 185)
    node: Node = raw
    for arguments in (
        (1, (1, 6, 6), (1, 2, 2)),
        (1, (1, 5, 5), (1, 2, 2)),
        (1, (1, 5, 5)),
        (1, (4, 4, 4), (2, 1, 1)),
        (1, (3, 4, 4)),
        (1, (3, 4, 4)),
        (1, (2, 4, 4)),
        (1, (1, 4, 4)),
        (2, (1, 4, 4)),
    ):
        node = Conv(node, *arguments)
    assert (node.shape.fov, node.shape.strides) == ((15, 105, 105), (2, 4, 4))
    got = node.predict_dense(picture(1, 32, 160, 160))
    assert got.shape == (2, 18, 56, 56)


def test_the_documented_tiles() -> None:
    raw = Input((1, 3, 22, 182, 182), "b,f,z,y,x", name="raw")
    node: Node = raw
    for arguments in ((1, (1, 6, 6), (1, 2, 2)), (1, (4, 6, 6), (2, 2, 2)), (1, (3, 3, 3))):
        node = Conv(node, *arguments, mfp=True)
    size = (58, 326, 326)
    tiling = DensePredictor(node, size, options=DenseOptions(patch_shape=(22, 182, 182))).tiling
    assert tiling.shifts == [(0, 0, 0)]
    assert tiling.lost == (8, 26, 26)
    assert tiling.step == (14, 156, 156)
    tiles = [-(-(n - lost) // step) for n, lost, step in zip(size, tiling.lost, tiling.step, strict=True)]
    assert tiles == [4, 2, 2]


class TestScaling:
    def test_integers_are_divided_by_255(self) -> None:
        node = Conv(source(4, 4), 1, (1, 1), activation_func="lin", w=np.ones((1, 1, 1, 1)), b=[0.0])
        image = np.random.default_rng(0).integers(0, 256, (1, 5, 6), dtype=np.uint8)
        assert node.predict_dense(image) == pytest.approx(image / 255, abs=1e-6)
        assert node.predict_dense(image.astype(np.float64)) == pytest.approx(image, abs=1e-4)

    def test_model_scales_as_in_training(self) -> None:
        raw = source(4, 4, n_f=2)
        node = Conv(raw, 2, (1, 1), activation_func="lin", w=np.eye(2).reshape(2, 2, 1, 1), b=[0.0, 0.0])
        model = Model(input_node=raw, prediction_node=node, scaling={"mean": [10.0, 20.0], "std": [2.0, 5.0]})
        image = np.random.default_rng(0).integers(0, 999, (2, 5, 6)).astype(np.uint16)
        expected = (image - np.reshape([10, 20], (2, 1, 1))) / np.reshape([2, 5], (2, 1, 1))
        assert model.predict_dense(image) == pytest.approx(expected, rel=1e-5)
        model.scaling = None
        assert model.predict_dense(image) == pytest.approx(image / 255, rel=1e-5)

    def test_bytes_are_truncated_and_cut(self) -> None:
        node = Conv(source(2, 2), 1, (1, 1), activation_func="lin", w=np.ones((1, 1, 1, 1)), b=[0.0])
        image = np.array([[[-0.5, 0.0], [0.999, 1.7]]], np.float32)
        got = node.predict_dense(image, as_uint8=True)
        assert got.dtype == np.uint8
        assert got.tolist() == [[[0, 0], [254, 255]]]


def test_mode_is_left_as_it_was_and_dropout_is_off() -> None:
    node = Conv(source(6, 6), 2, (3, 3), dropout_rate=0.5)
    node.operation.train()
    image = picture(1, 9, 9)
    assert np.array_equal(node.predict_dense(image), node.predict_dense(image))
    assert node.operation.training


def test_autocast_and_memory_format() -> None:
    raw = source(5, 8, 8)
    model = Model(
        input_node=raw, prediction_node=Softmax(Conv(Conv(raw, 8, (2, 3, 3)), 2, (1, 1, 1), None, "valid", "lin"))
    )
    image = picture(1, 6, 11, 12)
    expected = model.predict_dense(image)
    model.to(memory_format=torch.channels_last_3d)
    seen = []
    hook = model["conv"].operation.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.autocast("cpu", torch.bfloat16):
        got = model.predict_dense(image)
    hook.remove()
    assert seen[0][1].dtype == torch.bfloat16
    assert seen[0][0].stride(1) == 1
    assert got == pytest.approx(expected, abs=0.05)


def test_fixed_batches_are_filled_up() -> None:
    raw = Input((2, 1, 6, 6), "b,f,y,x", hardcoded_shape=True, name="raw")
    node = Conv(raw, 2, (3, 3), activation_func="lin")
    image = picture(1, 9, 12)
    free = Conv(source(6, 6), 2, (3, 3), activation_func="lin", w=node.w, b=node.b)
    assert node.predict_dense(image, batch_size=2) == pytest.approx(free.predict_dense(image), abs=1e-6)


def test_progress_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Conv(source(6, 6), 2, (3, 3)).predict_dense(picture(1, 9, 12))
    assert "tiles of 9×12 (direct)" in caplog.text
    shares: list[float] = []
    predict_dense(Conv(source(6, 6), 2, (3, 3)), picture(1, 9, 12), patch_shape=(6, 6), progress=shares.append)
    np.testing.assert_allclose(shares, np.arange(1, 7) / 6)
    shares.clear()
    predict_dense(Conv(source(6, 6), 2, (3, 3)), picture(1, 9, 12), progress=shares.append)
    assert shares == [1]


def test_an_image_is_left_as_it_is() -> None:
    node = ApplyFunc(source(6, 6), lambda x: x.mul_(2))
    image = picture(1, 9, 12)
    before = image.copy()
    np.testing.assert_allclose(node.predict_dense(image), 2 * before)
    np.testing.assert_array_equal(image, before)


class TestMisuse:
    def test_image(self) -> None:
        node = Conv(source(6, 6, n_f=2), 2, (3, 3))
        with pytest.raises(ShapeError, match=r"takes images with the axes f, y, x, not one of the shape \(6, 6\)"):
            node.predict_dense(picture(6, 6))
        with pytest.raises(ShapeError, match="axis f of the image must be of size 2, not 3"):
            node.predict_dense(picture(3, 8, 8))
        with pytest.raises(
            ShapeError, match=r"size 2 on axis y, which is smaller.*must be 3 at least, or pad_raw=True"
        ):
            node.predict_dense(picture(2, 2, 8))

    def test_arguments(self) -> None:
        node = Conv(source(6, 6), 2, (3, 3), (2, 2))
        image = picture(1, 8, 8)
        with pytest.raises(ShapeError, match=r"patch_shape \(6,\) must have one entry"):
            node.predict_dense(image, patch_shape=(6,))
        with pytest.raises(ShapeError, match="axis y of size 7"):
            node.predict_dense(image, patch_shape=(7, 6), engine="shifts")
        with pytest.raises(ModelError, match="batch_size must be a whole number from 1 on, not 0"):
            node.predict_dense(image, batch_size=0)

    def test_network(self) -> None:
        raw = source(6)
        with pytest.raises(ShapeError, match="two or three of z, y, x"):
            Conv(raw, 2, (3,)).predict_dense(picture(1, 8))
        flat = Perceptron(Input((1, 1, 6, 6), "b,f,y,x"), 2, flatten=True)
        with pytest.raises(ShapeError, match="two or three of z, y, x"):
            flat.predict_dense(picture(1, 8, 8))
        two = Add(source(6, 6), Input((None, 1, 6, 6), "b,f,y,x", name="other"))
        with pytest.raises(ModelError, match="one source, but this has raw, other"):
            two.predict_dense(picture(1, 8, 8))
        finer = UpConv(source(6, 6), 1, (2, 2))
        with pytest.raises(ShapeError, match="whole strides"):
            finer.predict_dense(picture(1, 8, 8))
        full = Conv(source(6, 6), 1, (4, 4), conv_mode="full")
        with pytest.raises(ShapeError, match="not known or negative"):
            full.predict_dense(picture(1, 8, 8))

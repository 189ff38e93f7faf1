"""Networks of the ELEKTRONN2 examples: sizes, fields of view, strides, offsets and parameters, all known by hand."""

from __future__ import annotations

import pytest
import torch

from elektronn_tui.models import (
    AggregateLoss,
    Conv,
    Errors,
    Input,
    Input_like,
    Model,
    MultinoulliNLL,
    Node,
    Perceptron,
    Pool,
    Softmax,
    UpConvMerge,
)


def finish(raw: Node, out: Node) -> Model:
    probs = Softmax(out)
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    nll = MultinoulliNLL(probs, target, target_is_sparse=True)
    loss = AggregateLoss(nll, name="loss")
    errors = Errors(probs, target, target_is_sparse=True)
    return Model(raw, target, loss, probs, [loss, errors, probs])


NEURO3D = [
    # n_f, kernel, pool, size, fov, strides
    (20, (1, 6, 6), (1, 2, 2), (23, 90, 90), (1, 7, 7), (1, 2, 2)),
    (30, (1, 5, 5), (1, 2, 2), (23, 43, 43), (1, 17, 17), (1, 4, 4)),
    (40, (1, 5, 5), (1, 1, 1), (23, 39, 39), (1, 33, 33), (1, 4, 4)),
    (80, (4, 4, 4), (2, 1, 1), (10, 36, 36), (5, 45, 45), (2, 4, 4)),
    (100, (3, 4, 4), (1, 1, 1), (8, 33, 33), (9, 57, 57), (2, 4, 4)),
    (100, (3, 4, 4), (1, 1, 1), (6, 30, 30), (13, 69, 69), (2, 4, 4)),
    (150, (2, 4, 4), (1, 1, 1), (5, 27, 27), (15, 81, 81), (2, 4, 4)),
    (200, (1, 4, 4), (1, 1, 1), (5, 24, 24), (15, 93, 93), (2, 4, 4)),
    (200, (1, 4, 4), (1, 1, 1), (5, 21, 21), (15, 105, 105), (2, 4, 4)),
    (200, (1, 1, 1), (1, 1, 1), (5, 21, 21), (15, 105, 105), (2, 4, 4)),
    (2, (1, 1, 1), (1, 1, 1), (5, 21, 21), (15, 105, 105), (2, 4, 4)),
]


def test_neuro3d() -> None:
    raw = out = Input((None, 1, 23, 185, 185), "b,f,z,y,x", name="raw")
    for n_f, kernel, pool, size, fov, strides in NEURO3D:
        out = Conv(out, n_f, kernel, pool, activation_func="lin" if n_f == 2 else "relu")  # type: ignore[assignment]
        assert out.shape.spatial_shape == size
        assert out.shape.fov == fov
        assert out.shape.strides == strides
        assert out.shape.offsets == tuple(f // 2 for f in fov)
    model = finish(raw, out)
    assert model.param_count == 2_756_042
    assert model.target_node is not None
    assert model.target_node.shape.offsets == model.prediction_node.shape.offsets == (7, 52, 52)
    assert model.target_node.shape.shape == (None, 1, 5, 21, 21)


def test_neuro3d_lite() -> None:
    raw = out = Input((None, 1, 11, 155, 155), "b,f,z,y,x", name="raw")
    layers = [
        (20, (1, 4, 4), (1, 2, 2), (11, 76, 76)),
        (40, (3, 3, 3), (1, 2, 2), (9, 37, 37)),
        (150, (2, 4, 4), (2, 1, 1), (4, 34, 34)),
        (200, (1, 3, 3), None, (4, 32, 32)),
        (200, (1, 3, 3), None, (4, 30, 30)),
        (200, (1, 1, 1), None, (4, 30, 30)),
    ]
    for n_f, kernel, pool, size in layers:
        out = Conv(out, n_f, kernel, pool)  # type: ignore[assignment]
        assert out.shape.spatial_shape == size
    model = finish(raw, Conv(out, 2, (1, 1, 1), activation_func="lin"))
    shape = model.prediction_node.shape
    assert (shape.fov, shape.strides) == ((5, 39, 39), (2, 4, 4))
    assert model.param_count == 885_132
    model.test_run()


def pair(parent: Node, n_f: int, kernel: tuple[int, ...]) -> Node:
    return Conv(Conv(parent, n_f, kernel), n_f, kernel)


def test_unet3d_lite() -> None:
    flat, cube, pool = (1, 3, 3), (3, 3, 3), (1, 2, 2)
    raw = Input((None, 1, 22, 140, 140), "b,f,z,y,x", name="raw")
    level0 = pair(raw, 32, flat)
    level1 = pair(Pool(level0, pool), 64, flat)
    level2 = pair(Pool(level1, pool), 128, flat)
    bottom = pair(Pool(level2, pool), 256, cube)
    assert bottom.shape.spatial_shape == (18, 10, 10)
    up = UpConvMerge(level2, bottom, 512)
    assert up.shape.spatial_shape == (18, 20, 20)
    up = pair(up, 256, flat)
    assert up.shape.spatial_shape == (18, 16, 16)
    up = UpConvMerge(level1, up, 256)
    assert up.shape.spatial_shape == (18, 32, 32)
    up = pair(up, 128, cube)
    assert up.shape.spatial_shape == (14, 28, 28)
    up = UpConvMerge(up, level0, 128)  # the order of the parents is free
    assert up.shape.spatial_shape == (14, 56, 56)
    up = pair(up, 64, cube)
    assert up.shape.spatial_shape == (10, 52, 52)
    assert min(up.shape.fov) == -1
    assert up.shape.offsets == (6, 44, 44)
    model = finish(raw, Conv(up, 2, (1, 1, 1), activation_func="lin", name="barr"))
    assert [model[f"crop{i}"].crop for i in ("", 1, 2)] == [(2, 4, 4), (2, 16, 16), (4, 40, 40)]
    shape = model.prediction_node.shape
    assert shape.offsets == (6, 44, 44)
    assert shape.strides == (1, 1, 1)
    assert shape.fov == (12, 88, 88)
    assert model.target_node is not None
    assert model.target_node.shape.offsets == (6, 44, 44)
    assert model.param_count == 7_794_786
    # Coarse features come first in a merge.
    assert [type(p).__name__ for p in model["merge"].parents] == ["UpConv", "Crop"]


def test_unet3d() -> None:
    cube = (3, 3, 3)
    raw = Input((None, 1, 116, 132, 132), "b,f,z,y,x", name="raw")
    level0 = Conv(Conv(raw, 32, cube), 64, cube)
    level1 = Conv(Conv(Pool(level0, (2, 2, 2)), 64, cube), 128, cube)
    level2 = Conv(Conv(Pool(level1, (2, 2, 2)), 128, cube), 256, cube)
    bottom = Conv(Conv(Pool(level2, (2, 2, 2)), 256, cube), 512, cube)
    sizes = [n.shape.spatial_shape for n in (level0, level1, level2, bottom)]
    assert sizes == [(112, 128, 128), (52, 60, 60), (22, 26, 26), (7, 9, 9)]
    up = UpConvMerge(level2, bottom, 512)
    assert up.shape["f"] == 768
    up = UpConvMerge(level1, pair(up, 256, cube), 256)
    assert (up.shape["f"], up.shape.spatial_shape) == (384, (20, 28, 28))
    up = UpConvMerge(level0, pair(up, 128, cube), 128)
    assert (up.shape["f"], up.shape.spatial_shape) == (192, (32, 48, 48))
    model = finish(raw, Conv(pair(up, 64, cube), 2, (1, 1, 1), activation_func="lin", name="barr"))
    shape = model.prediction_node.shape
    assert (shape.spatial_shape, shape.offsets) == ((28, 44, 44), (44, 44, 44))
    assert model.param_count == 19_069_058


def test_unet3d_litelite_enlarges_by_four() -> None:
    flat, cube, pool = (1, 3, 3), (3, 3, 3), (1, 2, 2)
    raw = Input((None, 1, 22, 140, 140), "b,f,z,y,x", name="raw")
    level0 = pair(raw, 20, flat)
    level1 = pair(Pool(level0, pool), 30, flat)
    level2 = pair(Pool(level1, pool), 35, flat)
    level3 = Conv(Pool(level2, pool), 42, cube)
    bottom = Conv(Pool(level3, pool), 42, cube)
    assert bottom.shape.spatial_shape == (18, 4, 4)
    assert bottom.shape.strides == (1, 16, 16)
    up = pair(UpConvMerge(level2, bottom, 45), 42, flat)
    up = pair(UpConvMerge(level1, up, 42), 35, cube)
    up = pair(UpConvMerge(level0, up, 30), 20, cube)
    model = finish(raw, Conv(up, 2, (1, 1, 1), activation_func="lin"))
    assert model["upconv"].pool_shape == (1, 4, 4)
    shape = model.prediction_node.shape
    assert (shape.spatial_shape, shape.offsets) == ((10, 36, 36), (6, 52, 52))
    assert model.param_count == 352_207


def test_mnist() -> None:
    raw = out = Input((None, 1, 26, 26), "b,f,y,x", name="raw")
    for n_f, pool, size in ((12, (2, 2), 12), (36, (2, 2), 5), (64, (1, 1), 3)):
        out = Conv(out, n_f, (3, 3), pool, batch_normalisation="train")  # type: ignore[assignment]
        assert out.shape.spatial_shape == (size, size)
    out = Perceptron(out, 200, flatten=True)  # type: ignore[assignment]
    assert out.shape.tags == ("b", "f")
    model = finish(raw, Perceptron(out, 10, "lin"))
    assert model.param_count == 142_366
    assert model.prediction_node(torch.rand(3, 1, 26, 26)).shape == (3, 10)
    model.test_run()


def test_documentation_example() -> None:
    raw = Input((10, 3, 23, 183, 183), "b,f,z,y,x", name="raw")
    out = Conv(raw, 32, (1, 6, 6), (1, 2, 2))
    out = Conv(out, 64, (4, 6, 6), (2, 2, 2))
    out = Conv(out, 5, (3, 3, 3), activation_func="lin")
    probs = Softmax(out)
    model = Model(raw, prediction_node=probs)
    assert model.param_count == 307_109
    assert probs.shape.fov == (9, 27, 27)
    assert probs.shape.strides == (2, 4, 4)
    assert probs.shape.shape == (10, 5, 8, 40, 40)
    assert sum(node.computational_cost for node in model.nodes.values()) / 1e9 == pytest.approx(442.5, abs=0.1)
    assert list(model.nodes) == ["raw", "conv", "conv1", "conv2", "softmax"]

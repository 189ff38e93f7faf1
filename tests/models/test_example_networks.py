"""Networks of the ELEKTRONN2 examples, layer by layer: sizes, fields of view, strides, offsets, all known by hand."""

from __future__ import annotations

import importlib

import pytest
import torch

from elektronn_tui.models import Concat, Conv, Input, Model, Node, Perceptron, Softmax


def network(name: str) -> Model:
    return importlib.import_module(f"elektronn_tui.models.zoo.{name}").create_model()


def sizes(model: Model, kind: type[Node]) -> list[tuple[int | None, ...]]:
    """Return features and spatial size of the nodes of a class."""
    return [(node.shape["f"], *node.shape.spatial_shape) for node in model.nodes.values() if isinstance(node, kind)]


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
    model = network("neuro3d")
    layers = [node for node in model.nodes.values() if isinstance(node, Conv)]
    for layer, row in zip(layers, NEURO3D, strict=True):
        shape = layer.shape
        assert (layer.n_f, layer.filter_shape, layer.pool_shape, shape.spatial_shape, shape.fov, shape.strides) == row
        assert shape.offsets == tuple(f // 2 for f in shape.fov)
    assert model.target_node is not None
    assert model.target_node.shape.offsets == model.prediction_node.shape.offsets == (7, 52, 52)
    assert model.target_node.shape.shape == (None, 1, 5, 21, 21)


def test_neuro3d_lite() -> None:
    model = network("neuro3d_lite")
    assert sizes(model, Conv) == [
        (20, 11, 76, 76),
        (40, 9, 37, 37),
        (150, 4, 34, 34),
        (200, 4, 32, 32),
        (200, 4, 30, 30),
        (200, 4, 30, 30),
        (2, 4, 30, 30),
    ]


def test_unet3d_lite() -> None:
    model = network("unet3d_lite")
    assert sizes(model, Conv)[6:8] == [(256, 20, 12, 12), (256, 18, 10, 10)]
    assert sizes(model, Concat) == [(640, 18, 20, 20), (320, 18, 32, 32), (160, 14, 56, 56)]
    # Coarse features come first in a merge.
    assert [type(p).__name__ for p in model["merge"].parents] == ["UpConv", "Crop"]


def test_unet3d() -> None:
    model = network("unet3d")
    found = sizes(model, Conv)
    assert found[1:8:2] == [(64, 112, 128, 128), (128, 52, 60, 60), (256, 22, 26, 26), (512, 7, 9, 9)]
    assert sizes(model, Concat) == [(768, 14, 18, 18), (384, 20, 28, 28), (192, 32, 48, 48)]


def test_unet3d_litelite_enlarges_by_four() -> None:
    model = network("unet3d_litelite")
    bottom = [node for node in model.nodes.values() if isinstance(node, Conv)][7]
    assert (bottom.shape.spatial_shape, bottom.shape.strides) == ((18, 4, 4), (1, 16, 16))
    assert sizes(model, Concat)[0] == (80, 18, 16, 16)


def test_mnist() -> None:
    model = network("mnist")
    assert sizes(model, Conv) == [(12, 12, 12), (36, 5, 5), (64, 3, 3)]
    flat = next(node for node in model.nodes.values() if isinstance(node, Perceptron))
    assert flat.shape.tags == ("b", "f")
    assert model.prediction_node(torch.rand(3, 1, 26, 26)).shape == (3, 10)


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

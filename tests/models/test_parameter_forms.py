"""Parameters in all the forms in which they may be given, over all kinds of nodes; first values; activations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    GRU,
    LSTM,
    AggregateLoss,
    Concat,
    Conv,
    InitialState_like,
    Input,
    Model,
    Node,
    Perceptron,
    UpConv,
    ValueNode,
    initweights,
    load_model,
)

Make = Callable[..., Node]


def raw() -> Input:
    return Input((2, 4, 3), "b,f,x", name="raw")


KINDS: dict[str, tuple[Make, str]] = {
    "perceptron": (lambda x, **p: Perceptron(x, 4, **p), "w"),
    "perceptron bias": (lambda x, **p: Perceptron(x, 4, **p), "b"),
    "conv": (lambda x, **p: Conv(x, 4, (2,), **p), "w"),
    "conv gamma": (lambda x, **p: Conv(x, 4, (2,), batch_normalisation="train", **p), "gamma"),
    "upconv": (lambda x, **p: UpConv(x, 4, (2,), **p), "w"),
    "upconv slopes": (lambda x, **p: UpConv(x, 4, (2,), activation_func="prelu", **p), "b"),
    "gru": (lambda x, **p: GRU(x, InitialState_like(x, 2, value=[np.zeros(2), "const"]), 2, **p), "w"),
    "lstm": (lambda x, **p: LSTM(x, InitialState_like(x, 4, value=[np.zeros(4), "const"]), 2, **p), "b"),
    "state": (lambda x, **p: InitialState_like(x, 4, **p), "value"),
    "value": (lambda x, **p: ValueNode((2, 4, 3), "b,f,x", apply_train=True, **p), "value"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_forms(kind: str, tmp_path: Path) -> None:
    make, key = KINDS[kind]
    x = raw()
    default = make(x)
    shape = tuple(default.params[key].shape)
    assert default.params[key].requires_grad
    values = np.random.default_rng(0).normal(size=shape)
    for given, trained in ((values, True), ([values, "trainable"], True), ([values, "const"], False)):
        node = make(x, **{key: given})
        assert node.params[key].requires_grad is trained
        np.testing.assert_allclose(node.get_param_values()[key], values, rtol=1e-6)
    shared = make(x, **{key: default.params[key]})
    assert key not in shared.params
    assert shared.shared_params[key] is default.params[key]
    default.set_param_values({key: values})
    np.testing.assert_allclose(shared.shared_params[key].detach(), values, rtol=1e-6)
    frozen = make(x)
    frozen.params[key].requires_grad_(False)
    model = Model(x, loss_node=AggregateLoss([default, shared, node, frozen]), prediction_node=Concat([x, x]))
    trained_ones = [p for group in model.parameter_groups() for p in group["params"]]
    assert sum(p is default.params[key] for p in trained_ones) == 1
    assert not any(p is n.params[key] for n in (node, frozen) for p in trained_ones)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert [n.params[key].requires_grad for n in (again[node.name], again[frozen.name])] == [False, False]
    assert again[shared.name].shared_params[key] is again[default.name].params[key]


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_forms(kind: str) -> None:
    make, key = KINDS[kind]
    wrong = nn.Parameter(torch.zeros(7, 7))
    with pytest.raises(ShapeError, match=rf"shared {key} has the shape \(7, 7\)"):
        make(raw(), **{key: wrong})
    with pytest.raises(ModelError, match="'const'"):
        make(raw(), **{key: [np.zeros(1), "constant"]})
    with pytest.raises(ShapeError, match=r"shape \(7, 7\)"):
        make(raw(), **{key: np.zeros((7, 7))})


@pytest.mark.parametrize("kind", ["perceptron", "conv", "upconv"])
@pytest.mark.parametrize("activation", ["prelu", "maxout 2"])
def test_activations_that_need_the_layer(kind: str, activation: str) -> None:
    bias = np.array([0.1, -0.2, 0.3, 0.0])
    slopes = np.array([0.5, 0.0, -1.0, 2.0])
    torch.manual_seed(0)
    x = raw()
    b = np.stack([bias, slopes], 1) if activation == "prelu" else bias
    makes: dict[str, Callable[[str, Any, Any], Node]] = {
        "perceptron": lambda activation, w, b: Perceptron(x, 4, activation, w=w, b=b),
        "conv": lambda activation, w, b: Conv(x, 4, (2,), activation_func=activation, w=w, b=b),
        "upconv": lambda activation, w, b: UpConv(x, 4, (2,), activation, w=w, b=b),
    }
    node = makes[kind](activation, None, b)
    linear = makes[kind]("lin", node.w, bias)
    array = np.random.default_rng(0).normal(size=(2, 4, 3))
    value = linear(array)
    if activation == "prelu":
        expected = np.where(value > 0, value, slopes[None, :, None] * value)
    else:
        expected = value.reshape(2, 2, 2, -1).max(2)
    assert node.shape.shape == expected.shape
    assert node(array) == pytest.approx(expected, abs=1e-6)


def test_modes_of_first_values() -> None:
    torch.manual_seed(0)
    sigma = np.sqrt(2 / 300)
    assert float(initweights((100, 200)).std()) == pytest.approx(sigma, rel=0.05)
    uniform = initweights((100, 200), mode="uni")
    assert float(uniform.abs().max()) == pytest.approx(sigma, rel=0.01)
    assert float(initweights((50, 50), 0.3, "fix-uni").abs().max()) == pytest.approx(0.3, rel=0.01)
    assert initweights((3,), 0.3, "const").tolist() == pytest.approx([0.3] * 3)
    assert initweights((3, 2), 0.3, "prelu").numpy() == pytest.approx(np.array([[0.3, 1.0]] * 3))
    assert float(initweights((100, 200), 0.1).std()) == pytest.approx(0.1, rel=0.05)


def test_orthogonal_where_there_are_more_rows_than_entries() -> None:
    w = initweights((9, 2, 2), 0.5, "ortho").reshape(9, 4).numpy()
    assert w.std(1) == pytest.approx([0.5] * 9, rel=1e-4)
    assert np.linalg.matrix_rank(w) == 4
    torch.manual_seed(3)
    first = initweights((4, 3, 5), mode="ortho")
    torch.manual_seed(3)
    moved = initweights((4, 5, 3), mode="ortho", spatial_axes=(1,))
    assert torch.equal(moved, first.transpose(1, 2))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (((3,), "glorot"), "two axes or more"),
        (((3,), 1.0, "ortho"), "two axes or more"),
        (((3, 3), 1.0, "prelu"), r"shape \(n, 2\)"),
        (((3, 3), "xavier"), "a number or 'glorot'"),
        (((3, 3), True), "a number or 'glorot'"),
        (((3, 3), 1.0, "orthogonal"), "there are normal, uni, ortho"),
        (((3, 3, 3), 1.0, "normal", None, (1, 2)), "two axes must be n_out and n_in"),
    ],
)
def test_wrong_first_values(arguments: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        initweights(*arguments)

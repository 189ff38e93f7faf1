"""GRU and LSTM against their formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import GRU, LSTM, Input, Model, Perceptron, load_model


def sig(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru(x: np.ndarray, h: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    n = h.shape[-1]
    z, r = (sig(np.concatenate([h, x], -1) @ w[:, i * n : (i + 1) * n] + b[i * n : (i + 1) * n]) for i in (0, 1))
    c = np.tanh(np.concatenate([r * h, x], -1) @ w[:, 2 * n :] + b[2 * n :])
    return (1 - z) * h + z * c


def lstm(x: np.ndarray, memory: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    n = memory.shape[-1] // 2
    h, cell = memory[..., :n], memory[..., n:]
    f, i, o, g = (np.concatenate([h, x], -1) @ w[:, k * n : (k + 1) * n] + b[k * n : (k + 1) * n] for k in range(4))
    cell = sig(f) * cell + sig(i) * np.tanh(g)
    return np.concatenate([sig(o) * np.tanh(cell), cell], -1)


def vector(n_f: int, name: str = "x") -> Input:
    return Input((1, n_f), "b,f", name=name)


def test_known_values_of_the_gru() -> None:
    node = GRU(vector(1), vector(1, "h"), 1, w=np.full((2, 3), 0.5), b=np.zeros(3))
    np.testing.assert_allclose(node([[1.0]], [[0.2]]), [[0.401030]], atol=1e-6)


def test_known_values_of_the_lstm() -> None:
    node = LSTM(vector(1), vector(2, "h"), 1, w=np.full((2, 4), 0.5), b=np.zeros(4))
    np.testing.assert_allclose(node([[1.0]], [[0.2, 0.3]]), [[0.318519, 0.540446]], atol=1e-6)


@pytest.mark.parametrize(("kind", "formula", "gates"), [(GRU, gru, 3), (LSTM, lstm, 4)])
def test_cells_follow_their_formulas_at_every_position(kind: type, formula: object, gates: int) -> None:
    rng = np.random.default_rng(1)
    states = 1 if kind is GRU else 2
    w, b = rng.normal(size=(5 + 3, gates * 5)), rng.normal(size=gates * 5)
    x, memory = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(2, 5 * states, 4, 6))
    node = kind(
        Input(x.shape, "b,f,y,x", name="x"), Input(memory.shape, "b,f,y,x", name="h"), 5, w=[w, "const"], b=[b, "const"]
    )
    expected = np.moveaxis(formula(np.moveaxis(x, 1, -1), np.moveaxis(memory, 1, -1), w, b), -1, 1)  # type: ignore[operator]
    np.testing.assert_allclose(node(x, memory), expected, atol=2e-5)
    assert node.param_count == 0
    assert node.shape["f"] == 5 * states
    one = kind(Input(x.shape, "b,f,y,x", name="x"), Input((5 * states,), "f", name="h"), 5, w=w, b=b)
    everywhere = np.broadcast_to(memory[0, :, 0, 0][:, None, None], memory.shape)
    np.testing.assert_allclose(one(x, memory[0, :, 0, 0]), node(x, everywhere), atol=1e-5)
    assert one.param_count == gates * 5 * (5 + 3 + 1)


@pytest.mark.parametrize(("kind", "gates"), [(GRU, 3), (LSTM, 4)])
def test_first_weights_are_orthogonal_and_biases_about_zero(kind: type, gates: int) -> None:
    torch.manual_seed(0)
    node = kind(vector(30), vector(6 * (1 if kind is GRU else 2), "h"), 6)
    columns = node.w.detach().numpy().T  # one for each gate of each feature
    columns = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    np.testing.assert_allclose(columns @ columns.T, np.eye(gates * 6), atol=0.06)
    assert float(node.b.detach().abs().max()) <= 1e-6
    assert node.computational_cost == gates * 30 * 6


def test_weights_may_be_shared_and_reloaded_as_constants(tmp_path: Path) -> None:
    x, h = vector(3), vector(2, "h")
    first = GRU(x, h, 2, w=[np.ones((5, 6)), "const"], b=[np.zeros(6), "trainable"])
    second = GRU(x, first, 2, b=first.b)
    assert first.param_count == 6
    assert second.param_count == 30
    model = Model(input_node=x, prediction_node=second)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again["gru"].param_count == 6
    assert again["gru1"].b is again["gru"].b
    np.testing.assert_array_equal(again.predict([[1, 2, 3]], [[1, 2]]), model.predict([[1, 2, 3]], [[1, 2]]))


@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_half_precision_keeps_a_memory_of_float32(kind: type) -> None:
    node = kind(Perceptron(vector(3), 4), vector(2 if kind is GRU else 4, "h"), 2)
    x, h = torch.randn(5, 3), torch.randn(5, 2 if kind is GRU else 4)
    with torch.autocast("cpu", torch.bfloat16):
        out = node.operation(node.parents[0].operation(x), h)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, node.operation(node.parents[0].operation(x), h), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (Input((1, 4), "b,f", name="h"), r"LSTM 'lstm'.*memory 'h' .*must have 6 features \(2 \* n_f"),
        (Input((2, 6), "b,f", name="h"), "axis b of the memory 'h' has 2 entries; it needs 4, as 'x', or 1"),
        (Input((6, 4), "f,b", name="h"), "in their order"),
        (Input((4, 6, 3), "b,f,x", name="h"), "must have axes of the input 'x'"),
        (Input((4,), "b", name="h"), "must have 6 features"),
    ],
)
def test_memory_that_does_not_fit_is_refused(memory: Input, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LSTM(Input((4, 5), "b,f", name="x"), memory, 3)


def test_inputs_that_are_no_single_step_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"GRU 'gru'.*has an axis r.*split"):
        GRU(Input((7, 4, 5), "r,b,f", name="x"), vector(3), 3)
    with pytest.raises(ShapeError, match="needs an f axis"):
        GRU(Input((4,), "b", name="x"), vector(3), 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_f": 0}, "n_f must be a whole number from 1 on, not 0"),
        ({"activation_func": "prelu"}, "'prelu' has parameters"),
        ({"activation_func": "tahn"}, "Did you mean 'tanh'"),
        ({"flatten": True}, "flatten the input before"),
        ({"batch_normalisation": "train"}, "normalise the input before"),
        ({"gamma": np.ones(3)}, "normalise the input before"),
        ({"dropout_rate": 0.5}, "drop out inputs or outputs"),
        ({"gradnet_mode": True}, "gradnet_mode is not available"),
        ({"w": np.ones((3, 3))}, r"w was given with the shape \(3, 3\), but needs \(8, 9\)"),
        ({"b": [np.ones(9), "fixed"]}, "not 'fixed'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises((ModelError, ShapeError), match=message):
        GRU(vector(5), vector(3, "h"), **{"n_f": 3, **arguments})

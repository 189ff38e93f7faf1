"""One step at a time: what a recurrence computes of a whole sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    GRU,
    LSTM,
    Add,
    Concat,
    Conv,
    InitialState_like,
    Input,
    Model,
    Node,
    Perceptron,
    Scan,
    Softmax,
    load_model,
    one_step,
    split,
)

LENGTH, BATCH = 6, 3


def model(last_only: bool = False, kind: type = GRU, dropout: float = 0) -> Model:
    torch.manual_seed(0)
    raw = Input((LENGTH, BATCH, 2), "r,b,f", name="raw")
    first = split(raw, "r", index=1, strip_singleton_dims=True)[0]
    n = 4 if kind is GRU else 8
    start = InitialState_like(first, n, init_kwargs={"scale": 1.0, "mode": "fix-uni"}, name="start")
    x = Perceptron(first, 3, "tanh", dropout_rate=dropout, name="encode")
    out = Scan(kind(x, start, 4, name="cell"), start, in_iterate=raw, in_iterate_0=first, last_only=last_only)
    return Model(input_node=raw, prediction_node=Softmax(Perceptron(out, 2, "lin")))


def sequence(length: int = LENGTH, batch: int = BATCH) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(length, batch, 2)).astype("f")


@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_steps_are_those_of_the_recurrence(kind: type) -> None:
    net, x = model(kind=kind, dropout=0.5).train(), sequence()
    expected, predicted = net["scan_out_cell"](x), net.predict(x)
    step = one_step(net)
    assert (step.inputs, step.memory, step.results, step.context) == (("raw",), ("start",), ("cell",), ())
    state = step.initial_state(BATCH)
    for t in range(LENGTH):
        results, state = step(x[t], state)
        np.testing.assert_array_equal(results["cell"], expected[t])
        np.testing.assert_allclose(step.prediction(results)[0], predicted[t], rtol=1e-6)
    np.testing.assert_array_equal(state["start"], expected[-1])
    assert net["encode"].operation.training


@pytest.mark.parametrize("length", range(1, LENGTH + 1))
def test_the_prediction_after_any_number_of_steps(length: int) -> None:
    net, x = model(last_only=True), sequence(length, 2)
    step = one_step(net)
    state = step.initial_state(2)
    for part in x:
        before = {key: value.copy() for key, value in state.items()}
        results, after = step(part, state)
        np.testing.assert_array_equal(state["start"], before["start"])
        state = after
    np.testing.assert_array_equal(step.prediction(results), net.predict(x))


def test_a_loaded_model_with_other_names(tmp_path: Path) -> None:
    net, x = model(), sequence()
    net.save(tmp_path / "model.safetensors")
    step = one_step(load_model(tmp_path / "model.safetensors"))
    results, _ = step(x[0], step.initial_state(BATCH))
    np.testing.assert_array_equal(results["cell"], net["scan_out_cell"](x)[0])


def branched() -> tuple[Model, dict[str, np.ndarray]]:
    """Two sequences, two memories, an image that all steps use, and another that only the prediction uses."""
    a, b = Input((4, 2, 3), "r,b,f", name="a"), Input((4, 2, 2), "r,b,f", name="b")
    a0, b0 = (split(x, "r", index=1, strip_singleton_dims=True)[0] for x in (a, b))
    p = Perceptron(Input((2, 2), "b,f", name="begin"), 3, "tanh", name="p")
    q = InitialState_like(b0, 2, name="q")
    image = Perceptron(Input((2, 5), "b,f", name="image"), 3, "tanh", name="looked")
    big = Add(Add(Add(a0, p), image), Perceptron(q, 3, "tanh"), name="big")
    small = Perceptron(Concat([big, b0]), 2, "tanh", name="small")
    outs: tuple[Node, ...] = Scan([small, big], [p, q], [big, small], [a, b], [a0, b0], last_only=True)  # type: ignore[assignment]
    end = Concat([*outs, Input((2, 1), "b,f", name="late")], name="end")
    net = Model(input_node=a, prediction_node=end)
    rng = np.random.default_rng(2)
    return net, {n.name: rng.normal(size=n.shape.shape).astype("f") for n in end.input_nodes}


def test_several_sequences_memories_and_sources() -> None:
    net, x = branched()
    step = one_step(net)
    assert step.context == ("begin", "image")
    state = step.initial_state(2, context={"begin": x["begin"], "image": x["image"]})
    assert set(state) == {"p", "q", "looked"}
    for t in range(4):
        results, state = step((x["a"][t], x["b"][t]), state)
    expected = net.predict(*(x[node.name] for node in net.prediction_node.input_nodes))
    np.testing.assert_allclose(step.prediction(results, {"late": x["late"]}), expected, rtol=1e-6)
    with pytest.raises(ModelError, match="also needs 'late'; give it in context"):
        step.prediction(results)
    with pytest.raises(ModelError, match="can't start without a value for image"):
        step.initial_state(2, context={"begin": x["begin"]})
    with pytest.raises(ModelError, match=r"starts without 'imagee'.*Did you mean 'image'"):
        step.initial_state(2, context={"imagee": x["image"]})
    with pytest.raises(ModelError, match=r"x must be one slice for each of 2 sequences \(a, b\), not 1"):
        step(x["a"][0], state)


def test_a_memory_made_of_the_first_slice_needs_it() -> None:
    raw = Input((4, 2, 3), "r,b,f", name="raw")
    first = split(raw, "r", index=1, strip_singleton_dims=True)[0]
    start = Perceptron(first, 4, "tanh", name="start")
    net = Model(input_node=raw, prediction_node=Scan(GRU(first, start, 4), start, None, raw, first, last_only=True))
    step, x = one_step(net), np.random.default_rng(0).normal(size=(4, 2, 3)).astype("f")
    with pytest.raises(ModelError, match=r"'start' .* is made from the first slice of a sequence \(raw\)"):
        step.initial_state(2)
    state = step.initial_state(first=x[0])
    for part in x:
        results, state = step(part, state)
    np.testing.assert_array_equal(step.prediction(results), net.predict(x))


def test_a_recurrence_without_a_sequence() -> None:
    raw = Input((1, 1, 5, 5), "b,f,y,x", name="raw")
    out = Scan(Conv(raw, 1, (3, 3), conv_mode="same", name="conv"), raw, n_steps=3, last_only=True)
    net, x = Model(input_node=raw, prediction_node=out), np.random.default_rng(0).normal(size=(1, 1, 5, 5))
    step = one_step(net)
    state = step.initial_state(context={"raw": x})
    for _ in range(3):
        results, state = step(None, state)
    np.testing.assert_allclose(step.prediction(results), net.predict(x), rtol=1e-6)


def test_what_is_no_step_is_refused() -> None:
    raw = Input((2, 3), "b,f", name="raw")
    plain = Model(input_node=raw, prediction_node=Perceptron(raw, 2))
    with pytest.raises(ModelError, match="has no recurrence"):
        one_step(plain)
    sequences = Input((4, 2, 3), "r,b,f", name="sequences")
    first = split(sequences, "r", index=1, strip_singleton_dims=True)[0]
    start = InitialState_like(first, 3)
    inner = Scan(GRU(first, start, 3), start, None, sequences, first)
    again = split(inner, "r", index=1, strip_singleton_dims=True)[0]
    end = InitialState_like(again, 3)
    deep = Model(input_node=sequences, prediction_node=Scan(GRU(again, end, 3), end, None, inner, again))
    with pytest.raises(ModelError, match="say which: the model has scan, scan1"):
        one_step(deep)
    assert one_step(deep, "scan1").inputs == ("scan_out_gru",)
    with pytest.raises(ModelError, match="there is no recurrence 'scan2'"):
        one_step(deep, "scan2")


def test_states_and_sizes_that_do_not_fit_are_refused() -> None:
    step = one_step(model())
    state = step.initial_state(BATCH)
    with pytest.raises(ModelError, match="lacks 'start'; begin with initial_state"):
        step(sequence()[0], {})
    with pytest.raises(ShapeError, match="axis b of the memory 'start' has 3 entries; it needs 5"):
        step(np.zeros((5, 2)), state)
    with pytest.raises(ModelError, match="x must be one slice for each of 1 sequences"):
        step(None, state)
    with pytest.raises(ModelError, match="batch must be a whole number from 1 on, not 0"):
        step.initial_state(0)

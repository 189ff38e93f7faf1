"""Recurrence: equal to the unrolled graph, in values, gradients and statistics, at any length."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import (
    GRU,
    LSTM,
    Add,
    AggregateLoss,
    Concat,
    Conv,
    Input,
    Model,
    Node,
    Perceptron,
    Scan,
    ScanN,
    ScanOutput,
    load_model,
    split,
)

LENGTH = 5


def parts(length: int | None = LENGTH) -> tuple[Input, Node, Input]:
    """Return a sequence, its first slice, and a memory."""
    raw = Input((length, 3, 2), "r,b,f", name="raw")
    first = split(raw, "r", index=1, strip_singleton_dims=True)[0]
    return raw, first, Input((3, 4), "b,f", name="start")


def recurrent_model(length: int | None = LENGTH, **arguments: object) -> Model:
    raw, first, start = parts(length)
    gru = GRU(first, start, 4)
    out = Scan(gru, start, in_iterate=raw, in_iterate_0=first, **arguments)  # type: ignore[arg-type]
    return Model(input_node=raw, prediction_node=Perceptron(out, 2, "lin"))  # type: ignore[arg-type]


def arrays(length: int = LENGTH, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(length, 3, 2)).astype("f"), rng.normal(size=(3, 4)).astype("f")


def by_hand(model: Model, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Call the cell once for each time."""
    cell = GRU(Input((3, 2), "b,f"), Input((3, 4), "b,f"), 4, w=model["gru"].w, b=model["gru"].b)
    steps = []
    for part in x:
        h = cell(part, h)
        steps.append(h)
    return np.stack(steps)


def test_all_steps_are_those_of_a_loop_over_the_cell() -> None:
    model, (x, h) = recurrent_model(), arrays()
    assert (model["scan"].n_steps, model["scan_out_gru"].shape.text) == (5, "[(5,r), (3,b), (4,f)]")
    np.testing.assert_allclose(model["scan_out_gru"](x, h), by_hand(model, x, h), atol=1e-6)
    assert model.predict(x, h).shape == (5, 3, 2)
    last = recurrent_model(last_only=True)
    assert last["scan_out_gru"].shape.text == "[(3,b), (4,f)]"
    np.testing.assert_allclose(last["scan_out_gru"](x, h), by_hand(last, x, h)[-1], atol=1e-6)


@pytest.mark.parametrize("declared", [LENGTH, None])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_sequences_may_have_another_length_than_declared(declared: int | None, length: int) -> None:
    model, (x, h) = recurrent_model(declared), arrays(length)
    np.testing.assert_allclose(model["scan_out_gru"](x, h), by_hand(model, x, h), atol=1e-6)
    assert model.module(torch.from_numpy(x), torch.from_numpy(h)).shape == (length, 3, 2)


def test_a_number_of_steps_given_by_hand_is_kept() -> None:
    model = recurrent_model(n_steps=LENGTH)
    with pytest.raises(ShapeError, match=r"n_steps is 5, but 'raw' has 7 entries on axis r; leave n_steps out"):
        model.predict(*arrays(7))


def unrolled(n: int, step: Callable[..., Node]) -> tuple[Node, list[Node]]:
    """Return the source, and results of n copies of a step that share the parameters of the first."""
    raw, _, start = parts(n)
    memory: Node = start
    results: list[Node] = []
    for piece in split(raw, "r", n_out=n, strip_singleton_dims=True):
        memory = step(piece, memory, results[0] if results else None)
        results.append(memory)
    return raw, results


@pytest.mark.parametrize("unroll", [True, False])
def test_gradients_are_those_of_an_unrolled_graph_with_shared_parameters(unroll: bool) -> None:
    def cell(x: Node, memory: Node, shared: Node | None) -> Node:
        return LSTM(x, memory, 2, **({} if shared is None else {"w": shared.w, "b": shared.b}))

    raw, results = unrolled(LENGTH, cell)
    reference = Model(input_node=raw, prediction_node=Concat(results))
    raw, first, start = parts()
    w = [results[0].w.detach().numpy(), "trainable"]
    outputs = Scan(LSTM(first, start, 2, w=w, b=results[0].b.detach().numpy()), start, None, raw, first, None, unroll)
    model = Model(input_node=raw, prediction_node=outputs)  # type: ignore[arg-type]
    gradients, values = [], []
    for each in (reference, model):
        x, h = (torch.from_numpy(a).requires_grad_() for a in arrays())
        out = each.module(x, h)
        out = torch.cat(tuple(out), 1) if each is model else out
        (out * torch.linspace(-1, 2, out.numel()).reshape(out.shape)).sum().backward()
        values.append(out)
        gradients.append([x.grad, h.grad, each["lstm"].w.grad, each["lstm"].b.grad])
    torch.testing.assert_close(values[0], values[1])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def noisy(unroll: bool) -> Model:
    torch.manual_seed(3)
    raw, first, start = parts()
    step = Perceptron(Concat([first, start]), 4, "tanh", batch_normalisation="train", dropout_rate=0.4, name="step")
    out = Scan(step, start, in_iterate=raw, in_iterate_0=first, unroll_scan=unroll)
    return Model(input_node=raw, prediction_node=out).train()  # type: ignore[arg-type]


def test_computing_twice_changes_neither_values_nor_statistics() -> None:
    found = []
    for unroll in (True, False):
        model = noisy(unroll)
        torch.manual_seed(4)
        out = model.module(*(torch.from_numpy(a) for a in arrays()))
        out.square().sum().backward()
        found.append((out, model["step"].w.grad, model["step"].mean, model["step"].std, model["step"].updates))
    assert int(found[0][-1]) == LENGTH  # batches are normalised in each step
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_dropout_draws_anew_in_each_step() -> None:
    model = noisy(True)
    model["step"].dropout_rate = 0.5
    out = model.module(torch.zeros(LENGTH, 3, 2), torch.zeros(3, 4))
    dropped = out == 0
    assert any(not torch.equal(dropped[0], later) for later in dropped[1:])
    model.eval()
    model["step"].b = np.ones(4)
    assert not bool((model.module(torch.zeros(LENGTH, 3, 2), torch.zeros(3, 4)) == 0).any())


def test_several_memories_sequences_and_results() -> None:
    a, b = Input((4, 2, 3), "r,b,f", name="a"), Input((4, 2, 2), "r,b,f", name="b")
    a0, b0 = (split(x, "r", index=1, strip_singleton_dims=True)[0] for x in (a, b))
    p, q = Input((2, 3), "b,f", name="p"), Input((2, 2), "b,f", name="q")
    bias = Input((2, 3), "b,f", name="bias")
    big = Add(Add(Add(a0, p, name="sum"), bias), Perceptron(q, 3, "tanh", name="mix"), name="big")
    small = Perceptron(Concat([big, b0]), 2, "tanh", name="small")
    outputs = Scan([small, big], [p, q], [big, small], [a, b], [a0, b0])
    assert isinstance(outputs, tuple)
    assert [node.name for node in outputs] == ["scan_out_small", "scan_out_big"]
    assert [node.shape.text for node in outputs] == ["[(4,r), (2,b), (2,f)]", "[(4,r), (2,b), (3,f)]"]
    model = Model(input_node=a, prediction_node=outputs[1], prediction_ext=[outputs[0]])
    rng = np.random.default_rng(0)
    x = {
        name: rng.normal(size=[n or 1 for n in model[name].shape]).astype("f") for name in ("a", "b", "p", "q", "bias")
    }
    mix, squeeze = model["mix"].get_param_values(), model["small"].get_param_values()
    h, s, bigs, smalls = x["p"], x["q"], [], []
    for t in range(4):
        h = x["a"][t] + h + x["bias"] + np.tanh(s @ mix["w"] + mix["b"])
        s = np.tanh(np.concatenate([h, x["b"][t]], 1) @ squeeze["w"] + squeeze["b"])
        bigs.append(h)
        smalls.append(s)
    for node, expected in zip(outputs, (smalls, bigs), strict=True):
        np.testing.assert_allclose(node(*(x[n.name] for n in node.input_nodes)), np.stack(expected), rtol=1e-4)
    values = model.test_run()
    assert values["scan_out_big"].shape == (4, 2, 3)
    assert "scan" not in values
    assert [d.kind for d in model.describe()].count("ScanN") == 1
    feeds = [torch.from_numpy(x[name]) for name in model.module._input_names]
    np.testing.assert_allclose(model.module(*feeds).detach().numpy(), np.stack(bigs), rtol=1e-4)
    with pytest.raises(ModelError, match=r"'scan'.*has several values; call one of its outputs"):
        model["scan"](*x.values())
    with pytest.raises(
        ModelError, match=r"Perceptron 'dot': ScanN 'scan'.*has several values; take one of its outputs"
    ):
        Perceptron(model["scan"], 3)
    with pytest.raises(ModelError, match="prediction_node must have one value, but ScanN 'scan'"):
        Model(input_node=a, prediction_node=model["scan"])


def test_a_step_without_memory_is_a_map_over_time() -> None:
    raw, first, _ = parts()
    out = Scan(Perceptron(first, 3, "tanh"), [], [], raw, first)
    together = Perceptron(raw, 3, "tanh", w=out.all_parents["dot"].w, b=out.all_parents["dot"].b)  # type: ignore[union-attr]
    np.testing.assert_allclose(out(arrays()[0]), together(arrays()[0]), atol=1e-6)  # type: ignore[operator]


def test_what_is_repeated_and_what_is_taken_from_outside() -> None:
    raw, first, start = parts()
    fixed = Perceptron(Input((3, 2), "b,f", name="image"), 2, name="fixed")
    step = GRU(Add(first, fixed), start, 4)
    scan = ScanN(step, start, in_iterate=raw, in_iterate_0=first)
    assert [node.name for node in scan.repeated] == ["add", "gru"]
    assert [node.name for node in scan.outside] == ["fixed"]
    assert scan.computational_cost == 4 * step.computational_cost
    assert "5 steps, gru → start" in scan.detail


def test_fields_of_view_grow_with_each_step() -> None:
    raw = Input((1, 1, 9, 9), "b,f,y,x", name="raw")
    out = Scan(Conv(raw, 1, (3, 3), conv_mode="same"), raw, n_steps=4, last_only=True)
    assert out.shape.fov == (9, 9)  # type: ignore[union-attr]
    assert out.shape.centre == Conv(raw, 1, (3, 3), conv_mode="same").shape.centre  # type: ignore[union-attr]


def test_parameters_are_registered_once() -> None:
    model = recurrent_model()
    assert sorted(model.module.state_dict()) == ["dot.b", "dot.w", "gru.b", "gru.w"]
    assert model.param_count == sum(p.numel() for p in model.module.parameters())
    assert [len(group["params"]) for group in model.parameter_groups()] == [2, 2]


@pytest.mark.parametrize("what", ["model", "module"])
def test_a_copy_repeats_its_own_operations(what: str) -> None:
    model, (x, h) = recurrent_model(), arrays()
    before = model.predict(x, h)
    inputs = [torch.from_numpy(a) for a in (x, h)]
    module = copy.deepcopy(model).module if what == "model" else copy.deepcopy(model.module)
    np.testing.assert_array_equal(module(*inputs).detach().numpy(), before)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert not module(*inputs).any()
    np.testing.assert_array_equal(model.predict(x, h), before)


def test_moving_and_loading_reach_every_step(tmp_path: Path) -> None:
    model, (x, h) = recurrent_model(), arrays()
    expected = model.predict(x, h)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(x, h), expected)
    np.testing.assert_array_equal(again.predict(*arrays(8)), model.predict(*arrays(8)))
    model.to(dtype=torch.float64)
    np.testing.assert_allclose(model.predict(x, h), expected, atol=1e-6)
    other = recurrent_model()
    other.module.load_state_dict(again.module.state_dict())
    np.testing.assert_array_equal(other.predict(x, h), expected)


def test_a_recurrence_is_exported() -> None:
    model, inputs = recurrent_model().eval(), tuple(torch.from_numpy(a) for a in arrays())
    exported = torch.export.export(model.module, inputs)
    torch.testing.assert_close(exported.module()(*inputs), model.module(*inputs))


def test_a_recurrence_learns_to_remember() -> None:
    torch.manual_seed(0)
    raw = Input((4, 16, 1), "r,b,f", name="raw")
    first = split(raw, "r", index=1, strip_singleton_dims=True)[0]
    start = Perceptron(first, 8, "lin", w=[np.zeros((1, 8)), "const"], name="start")
    last = Scan(GRU(first, start, 8), start, in_iterate=raw, in_iterate_0=first, last_only=True)
    loss = AggregateLoss(Perceptron(Add(Perceptron(last, 1, "lin"), first, name="difference"), 1, "abs"))  # type: ignore[arg-type]
    model = Model(input_node=raw, loss_node=loss)
    optimiser = torch.optim.Adam(model["gru"].operation.parameters(), 0.05)
    x = torch.randn(4, 16, 1)
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        (value,) = model.compute([loss], {"raw": x})
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.5 * values[0]


def wrong(**changes: object) -> None:
    raw, first, start = parts()
    gru = GRU(first, start, 4)
    given = {"step_result": gru, "in_memory": start, "in_iterate": raw, "in_iterate_0": first, "first": first}
    given |= {"out": Perceptron(gru, 3, name="out"), "other": Input((7, 3, 2), "r,b,f", name="other")}
    given |= {"batch": Input((3, 2), "b,f", name="batch"), "swapped": Input((3, 5, 2), "b,r,f", name="swapped")}
    given["made"] = Concat([raw, raw, ScanN(gru, start, None, raw, first).parents[2]], axis="r", name="made")

    def resolved(value: object) -> object:
        if isinstance(value, list):
            return [resolved(v) for v in value]
        return given.get(value, value) if isinstance(value, str) else value

    arguments = {key: given[key] for key in ("step_result", "in_memory", "in_iterate", "in_iterate_0")}
    Scan(**{**arguments, **{key: resolved(value) for key, value in changes.items()}})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_iterate": None, "in_iterate_0": None}, "give n_steps, or a sequence in in_iterate"),
        ({"in_iterate": None}, r"each node of in_iterate \(none\) needs .* in_iterate_0 \('split'\)"),
        ({"in_iterate_0": None}, r"in_iterate \('raw'\) needs .* in_iterate_0 \(none\)"),
        ({"n_steps": 4}, "n_steps is 4, but 'raw' has 5 entries on axis r"),
        ({"n_steps": 0}, "n_steps must be a whole number from 1 on, not 0"),
        ({"n_steps": 2.5}, "n_steps must be a whole number from 1 on, not 2.5"),
        ({"in_memory": "batch"}, "'batch'.* is to be replaced in each step, but the step's results 'gru' don't use it"),
        ({"step_result": "out"}, r"'out' \[\(3,b\), \(3,f\)\] is fed back to 'start' \[\(3,b\), \(4,f\)\]"),
        ({"step_result": "out", "out_memory": "step_result"}, "'gru' is fed back, but it is no result of the step"),
        ({"step_result": ["step_result", "out"]}, r"1 nodes of in_memory \('start'\) need as many .* not 2"),
        ({"in_memory": ["in_memory", "in_memory"], "out_memory": ["step_result", "step_result"]}, "'start' can be rep"),
        ({"in_iterate": "batch"}, r"the sequence 'batch' must have r as its first axis, not \[\(3,b\), \(2,f\)\]"),
        ({"in_iterate": "swapped"}, "the sequence 'swapped' must have r as its first axis"),
        ({"in_memory": [], "out_memory": [], "in_iterate": None, "in_iterate_0": None, "n_steps": 3}, "nothing chang"),
        ({"step_result": []}, "step_result needs one node at least"),
        ({"in_memory": 3}, "in_memory must be a node or a list of nodes, not 3"),
    ],
)
def test_recurrences_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    with pytest.raises((ModelError, ShapeError), match=message):
        wrong(**changes)


def test_sequences_of_unlike_length_are_refused() -> None:
    a, b = Input((4, 2, 3), "r,b,f", name="a"), Input((5, 2, 3), "r,b,f", name="b")
    a0, b0 = (split(x, "r", index=1, strip_singleton_dims=True)[0] for x in (a, b))
    start = Input((2, 3), "b,f", name="start")
    step = Add(Add(a0, b0), start, name="step")
    with pytest.raises(ShapeError, match="equally long on axis r, but 'a' has 4, 'b' has 5"):
        Scan(step, start, None, [a, b], [a0, b0])


def test_a_sequence_made_of_the_memory_is_a_cycle() -> None:
    sequence = Input((4, 2, 3), "r,b,f", name="raw")
    memory = split(sequence, "r", index=1, strip_singleton_dims=True)[0]
    made = Input((4, 2, 3), "r,b,f", name="other")
    first = split(made, "r", index=1, strip_singleton_dims=True)[0]
    step = Add(first, memory, name="step")
    with pytest.raises(ModelError, match=r"the sequence 'scan_out_step' is made from 'split', .* that is a cycle"):
        Scan(step, memory, None, Scan(step, memory, None, made, first), first)  # type: ignore[arg-type]


def test_steps_that_change_sizes_are_refused() -> None:
    raw = Input((1, 1, 9, 9), "b,f,y,x", name="raw")
    with pytest.raises(ShapeError, match=r"'conv' .* is fed back to 'raw' .* both must have the same axes and sizes"):
        Scan(Conv(raw, 1, (3, 3)), raw, n_steps=3)
    one = Input((1, 3), "b,f", name="one")
    wide = Concat([one, Perceptron(one, 3)], axis="b", name="wide")
    with pytest.raises(ShapeError, match=r"'wide' has \[\(2,b\), \(3,f\)\] after the first step, but would have"):
        Scan(wide, one, n_steps=3)


def test_outputs_are_taken_from_recurrences_only() -> None:
    raw, first, start = parts()
    scan = ScanN(GRU(first, start, 4), start, None, raw, first)
    with pytest.raises(ModelError, match="index must be a whole number from 0 to 0, not 1"):
        ScanOutput(scan, 1)
    with pytest.raises(ModelError, match="needs a ScanN, not FromTensor 'split'"):
        ScanOutput(first)  # type: ignore[arg-type]
    step = GRU(first, start, 4)
    with pytest.raises(ShapeError, match=r"'raw' .* has an axis r already: take the last step only"):
        Scan([step, raw], start, step, raw, first)

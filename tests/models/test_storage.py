from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from elektronn_tui.errors import ModelError
from elektronn_tui.models import (
    Add,
    AggregateLoss,
    Concat,
    Conv,
    Crop,
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
    load_model,
)


def finish(raw: Node, out: Node) -> Model:
    probs = Softmax(out)
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    weights = Input_like(probs, override_f=1, name="weights")
    nll = MultinoulliNLL(probs, target, True, class_weights=np.array([1.0, 3.0]), example_weights=weights)
    loss = AggregateLoss([nll, nll], mixing_weights=[0.3, 0.7], name="loss")
    errors = Errors(probs, target, target_is_sparse=True)
    return Model(raw, target, loss, probs, [loss, errors, probs], errors, [nll], name="storable")


def feeds(model: Model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    result = {}
    for node in model.nodes.values():
        if isinstance(node, Input):
            size = [n or 2 for n in node.shape.shape]
            whole = node.dtype == "int64"
            result[node.name] = (
                torch.randint(-1, 2, size, generator=generator) if whole else torch.rand(size, generator=generator)
            )
    return result


def outputs(model: Model) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        return model.compute(list(model.nodes.values()), feeds(model))


def same(a: Model, b: Model) -> bool:
    return (
        a.describe() == b.describe()
        and all(torch.equal(x, y) for x, y in zip(outputs(a), outputs(b), strict=True))
        and [p.requires_grad for p in a.module.parameters()] == [p.requires_grad for p in b.module.parameters()]
    )


def u_net() -> Model:
    raw = Input((None, 1, 4, 16, 16), "b,f,z,y,x", name="raw")
    first = Conv(raw, 3, (1, 3, 3), activation_func="prelu", dropout_rate=0.3)
    low = Conv(Pool(first, (1, 2, 2), mode="average"), 4, (1, 3, 3), batch_normalisation="train")
    padded = Conv(low, 4, (3, 3, 3), conv_mode="same", w=[np.ones((4, 4, 3, 3, 3)) / 100, "const"])
    merged = UpConvMerge(first, Add(low, padded), 5)
    cut = Crop(Conv(raw, 2, (1, 3, 3)), [(n - m) // 2 for n, m in zip((4, 14, 14), merged.shape[2:], strict=True)])
    out = Concat([merged, cut])
    return finish(raw, Conv(out, 2, (1, 1, 1), activation_func="lin"))


def test_round_trip(tmp_path: Path) -> None:
    model = u_net()
    model.train()
    model.compute([model["loss"]], feeds(model))  # moves the running statistics
    model["conv"].dropout_rate = 0.1
    model["nll"].class_weights = [0.5, 0.25]
    model["loss"].mixing_weights = [2, 1]
    path = tmp_path / "model.safetensors"
    scaling = {"mean": [0.0], "std": [255.0]}
    model.save(path, scaling=scaling, extra={"step": "1200"})
    again = load_model(path)
    assert same(model, again)
    assert again.name == "storable"
    assert again.scaling == scaling
    assert again.extra == {"step": "1200"}
    assert again["conv"].dropout_rate == 0.1
    assert again["nll"].class_weights == [0.5, 0.25]
    assert again["loss"].mixing_weights == [2, 1]
    for role in ("input_node", "target_node", "loss_node", "prediction_node", "error_node"):
        assert getattr(again, role).name == getattr(model, role).name
    for role in ("prediction_ext", "debug_outputs"):
        assert [n.name for n in getattr(again, role)] == [n.name for n in getattr(model, role)]
    assert again.prediction_node.shape == model.prediction_node.shape
    second = tmp_path / "second.safetensors"
    again.save(second)
    assert same(model, load_model(second))
    assert load_model(second).scaling == scaling
    assert set(tmp_path.iterdir()) == {path, second}


def test_perceptron_and_shared_weights(tmp_path: Path) -> None:
    raw = Input((3, 4, 4), "b,f,x", name="raw")
    first = Perceptron(raw, 4, "tanh")
    shared = Perceptron(first, 4, w=first.w)
    model = finish(raw, Conv(shared, 2, (1,), activation_func="lin"))
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = load_model(path)
    assert same(model, again)
    assert again["dot1"].w is again["dot"].w
    assert again.param_count == model.param_count
    with torch.no_grad():
        again["dot"].w.mul_(2)
    again.save(path)
    assert same(again, load_model(path))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from([1, 3]),
            st.sampled_from(["relu", "prelu", "elu", "soft+"]),
            st.sampled_from([False, "train", "predict"]),
            st.sampled_from(["valid", "same", "full"]),
            st.sampled_from([0, 0.5]),
        ),
        max_size=4,
    )
)
def test_random_networks_round_trip(tmp_path: Path, layers: list[tuple[Any, ...]]) -> None:
    raw = Input((2, 1, 11, 12), "b,f,y,x", name="raw")
    out: Node = raw
    for n_f, size, activation, norm, mode, rate in layers:
        out = Conv(out, n_f, (size, 1), None, mode, activation, batch_normalisation=norm, dropout_rate=rate)
    model = finish(raw, Conv(out, 2, (1, 1), activation_func="lin"))
    path = tmp_path / "model.safetensors"
    model.save(path)
    assert same(model, load_model(path))


def test_loading_leaves_random_numbers_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    u_net().save(path)
    torch.manual_seed(7)
    load_model(path)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), after)


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    model = u_net()
    model.to(memory_format=torch.channels_last_3d)
    path = tmp_path / "model.safetensors"
    model.save(path)
    tensors = load_file(path)
    assert set(tensors) == set(model.module.state_dict())
    assert all(torch.equal(tensors[k], v) for k, v in model.module.state_dict().items())
    with safe_open(path, "pt") as file:
        graph = json.loads(file.metadata()["graph"])
    conv = next(n for n in graph["nodes"] if n["name"] == "conv")
    assert conv["class"] == "Conv"
    assert conv["arguments"]["filter_shape"] == [1, 3, 3]
    assert conv["arguments"]["parent"] == {"$node": "raw"}


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    model = u_net()
    model.save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ModelError, match="can't be written"):
        model.save(tmp_path / "nowhere" / "model.safetensors")


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str], dict[str, Any]], None]) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    graph = json.loads(metadata["graph"])
    change(tensors, metadata, graph)
    if "graph" in metadata:
        metadata["graph"] = json.dumps(graph)
    save_file(tensors, path, metadata)


BROKEN: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "class": (lambda t, m, g: g["nodes"][1].update({"class": "os.system"}), "unknown class 'os.system'"),
    "near class": (lambda t, m, g: g["nodes"][1].update({"class": "Convo"}), "Did you mean 'Conv'"),
    "argument": (lambda t, m, g: g["nodes"][1]["arguments"].update(n_ff=3), "graph in its header is broken"),
    "value": (lambda t, m, g: g["nodes"][1]["arguments"].update(n_f=-1), "node 'conv' can't be made again"),
    "parent": (lambda t, m, g: g["nodes"][1]["arguments"].update(parent={"$node": "x"}), "header is broken"),
    "role": (lambda t, m, g: g["roles"].update(loss_node="x"), "header is broken"),
    "no graph": (lambda t, m, g: m.pop("graph"), "header is broken"),
    "version": (lambda t, m, g: m.update(version="99"), "format version 99; this package reads version 1"),
    "format": (lambda t, m, g: m.update(format="other"), "no model of this package"),
    "missing": (lambda t, m, g: t.pop("conv.w"), "lacks the parameters conv.w"),
    "unknown": (lambda t, m, g: t.update(more=torch.zeros(1)), "of no node: more"),
    "shape": (lambda t, m, g: t.update({"conv.w": torch.zeros(1)}), r"conv.w has the shape \(1,\)"),
    "nan": (lambda t, m, g: t["conv.b"].fill_(torch.nan), "6 of 6 values of conv.b are not finite"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files(tmp_path: Path, what: str) -> None:
    path = tmp_path / "model.safetensors"
    u_net().save(path)
    change, match = BROKEN[what]
    rewrite(path, change)
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match="no model file"):
        load_model(path)
    u_net().save(path)
    content = path.read_bytes()
    for broken in (b"", content[:100], content[:-10], b"\x80\x04pickle", os.urandom(1000)):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="no safetensors file, or it is truncated"):
            load_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="no model of this package"):
        load_model(path)


def test_weights_that_are_not_finite_can_be_looked_at(tmp_path: Path) -> None:
    model = u_net()
    with torch.no_grad():
        model["conv"].b[0, 0] = torch.inf
    path = tmp_path / "model.safetensors"
    model.save(path)
    assert load_model(path, allow_nan=True)["conv"].b[0, 0] == torch.inf


def test_what_can_not_be_stored(tmp_path: Path) -> None:
    class Mine(Pool):
        pass

    raw = Input((1, 1, 4), "b,f,x", name="raw")
    with pytest.raises(ModelError, match=r"Mine 'pool'.* can't be stored"):
        Model(raw, prediction_node=Mine(raw, (2,))).save(tmp_path / "m.safetensors")
    model = Model(raw, prediction_node=Pool(raw, (2,)))
    with pytest.raises(ModelError, match="scaling must hold plain values"):
        model.save(tmp_path / "m.safetensors", scaling={"mean": np.zeros(1)})
    other = Conv(raw, 1, (1,))
    with pytest.raises(ModelError, match="not in this model"):
        Model(raw, prediction_node=Conv(raw, 1, (1,), w=other.w)).save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
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
    TaggedShape,
    UpConvMerge,
    load_model,
    model_from_graph,
)
from elektronn_tui.models import graph as graph_module
from elektronn_tui.models.graph import Graph, graph_of, tensors_of
from elektronn_tui.models.model_from_graph import Foreign, make_model
from elektronn_tui.models.storage import snapshot_model


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


def test_what_is_set_on_a_finished_model_is_kept(tmp_path: Path) -> None:
    model = u_net()
    model["conv"].w.requires_grad_(False)
    model.prediction_node.feature_names = ("background", "membrane")
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = load_model(path)
    assert same(model, again)
    assert not again["conv"].w.requires_grad
    assert again["conv"].b.requires_grad
    assert again.prediction_node.feature_names == ("background", "membrane")


def test_weights_shared_with_a_node_that_comes_later(tmp_path: Path) -> None:
    raw = Input((1, 2, 5), "b,f,x", name="raw")
    owner = Conv(raw, 2, (1,), name="owner")
    borrower = Conv(raw, 2, (1,), w=owner.w, name="borrower")
    model = Model(raw, prediction_node=Concat([borrower, owner]))
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = load_model(path)
    assert again["borrower"].w is again["owner"].w
    assert same(model, again)


def test_arguments_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes in keywords and dictionaries, arrays, shapes, types; functions and modules are given again."""
    shape = TaggedShape((1, 2, 4), "b,f,x", strides=[2], mfp_offsets=[[0], [1]], fov=[3], centre=[float("nan")])
    kwargs = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": [np.float32(0.5), {"c": torch.float64}], "d": None}

    class Keeper(Node):
        def __init__(self, parent: Any, functor: Any, torch_module: Any, name: str = "keeper", **kwargs: Any) -> None:
            super().__init__([parent, *kwargs["nodes"]["n"]], name)
            self.kept, self.functor = kwargs, functor
            self.inner = torch_module
            self._build(Keeping(torch_module))

    class Keeping(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.inner(tensors[0])

    for module in (graph_module, model_from_graph):
        monkeypatch.setattr(module, "node_classes", lambda: {"Input": Input, "Conv": Conv, "Keeper": Keeper})
    raw = Input((1, 2, 4), "b,f,x", name="raw")
    first = Conv(raw, 2, (1,))
    node = Keeper(
        raw, torch.mean, torch.nn.Conv1d(2, 2, 1), shape=shape, w=first.w, values=kwargs, nodes={"n": [raw, first]}
    )
    model = Model(raw, prediction_node=node)
    assert set(node.params) == {"inner.weight", "inner.bias"}
    node.set_param_values({"inner.bias": [1.0, 2.0]})
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(ModelError, match=r"'keeper' was made with torch\.mean, .*functions=\{'keeper': \.\.\.\}"):
        load_model(path)
    with pytest.raises(ModelError, match=r"'keeper' was made with torch\S*Conv1d, .*modules=\{'keeper'"):
        load_model(path, functions={"keeper": torch.mean})
    module = torch.nn.Conv1d(2, 2, 1)
    with pytest.raises(ModelError, match=r"functions has an entry 'kepper'.*Did you mean 'keeper'"):
        load_model(path, functions={"keeper": torch.mean, "kepper": torch.sum}, modules={"keeper": module})
    again = load_model(path, functions={"keeper": torch.mean}, modules={"keeper": module})
    kept = again["keeper"].kept
    assert again["keeper"].inner is module
    assert torch.equal(module.bias, torch.tensor([1.0, 2.0]))
    assert kept["w"] is again["conv"].w
    assert kept["nodes"]["n"] == [again["raw"], again["conv"]]
    assert kept["shape"] == shape
    assert np.isnan(kept["shape"].centre[0])
    assert kept["values"]["a"].dtype == np.int32
    assert np.array_equal(kept["values"]["a"], kwargs["a"])
    assert kept["values"]["b"] == [0.5, {"c": torch.float64}]
    assert np.array_equal(again.predict(x := np.ones((1, 2, 4))), model.predict(x))


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
    metadata.pop("checksum")
    change(tensors, metadata, graph)
    if "graph" in metadata:
        metadata["graph"] = json.dumps(graph)
    save_file(tensors, path, metadata)


BROKEN: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "class": (lambda t, m, g: g["nodes"][1].update({"class": "os.system"}), "unknown class 'os.system'"),
    "near class": (lambda t, m, g: g["nodes"][1].update({"class": "Convo"}), "Did you mean 'Conv'"),
    "argument": (
        lambda t, m, g: g["nodes"][1]["arguments"].update(n_ff=3),
        r"'conv' \(Conv\) can't be made again.*n_ff",
    ),
    "value": (lambda t, m, g: g["nodes"][1]["arguments"].update(n_f=-1), "Node 'conv' can't be made again"),
    "parent": (lambda t, m, g: g["nodes"][1]["arguments"].update(parent={"$node": "x"}), "refers to 'x'"),
    "parent's kind": (lambda t, m, g: g["nodes"][1]["arguments"].update(parent=3), "parent must be a node, not 3"),
    "tag": (lambda t, m, g: g["nodes"][1]["arguments"].update(n_f={"$code": "x"}), r"'\$code' is nothing that"),
    "two tags": (lambda t, m, g: g["nodes"][1]["arguments"].update(n_f={"$node": "x", "a": 1}), "refers to 'x'"),
    "cycle": (
        lambda t, m, g: g["nodes"][1]["arguments"].update(parent={"$node": "softmax"}),
        "cycle through node",
    ),
    "variable": (lambda t, m, g: g["nodes"][1]["variables"].update(dropout_rat=0.1), "'conv'.*can't be made again"),
    "variable's value": (
        lambda t, m, g: g["nodes"][1]["variables"].update(dropout_rate=2),
        "must be a number from 0 below 1",
    ),
    "frozen": (lambda t, m, g: g["nodes"][1].update(frozen=["u"]), "'conv'.*can't be made again"),
    "same name twice": (lambda t, m, g: g["nodes"].append(g["nodes"][0]), "same name"),
    "no list": (lambda t, m, g: g.update(nodes=3), "header is broken.*nodes"),
    "no name": (lambda t, m, g: g["nodes"][2].pop("name"), "header is broken.*name"),
    "role": (lambda t, m, g: g["roles"].update(loss_node="x"), "loss_node 'x' is no node"),
    "unknown role": (
        lambda t, m, g: g["roles"].update(los_node="loss"),
        "no role 'los_node'. Did you mean 'loss_node'",
    ),
    "no input": (lambda t, m, g: g["roles"].pop("input_node"), "role input_node"),
    "no graph": (lambda t, m, g: m.pop("graph"), "header is broken"),
    "version": (lambda t, m, g: m.update(version="99"), "format version 99; this package reads version 1"),
    "format": (lambda t, m, g: m.update(format="other"), "no model of this package"),
    "missing": (lambda t, m, g: t.pop("conv.w"), "conv.w are lacking"),
    "unknown": (lambda t, m, g: t.update(more=torch.zeros(1)), "of no node: more"),
    "shape": (lambda t, m, g: t.update({"conv.w": torch.zeros(1)}), r"conv.w has the shape \(1,\)"),
    "kind of numbers": (
        lambda t, m, g: t.update({"conv.b": torch.zeros(3, 2, dtype=torch.int64)}),
        "conv.b is of torch.int64, but its node needs torch.float32",
    ),
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


def test_equal_models_make_equal_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = u_net()
    model.save(path, scaling={"b": 1, "a": 2})
    content = path.read_bytes()
    for _ in range(5):
        load_model(path).save(path)
        assert path.read_bytes() == content


def test_a_damaged_file_is_never_taken_for_another_model(tmp_path: Path) -> None:
    """Whatever byte is changed or missing: the file is refused, or the model is the same."""
    path = tmp_path / "model.safetensors"
    raw = Input((1, 1, 5), "b,f,x", name="raw")
    model = Model(raw, prediction_node=Conv(Conv(raw, 2, (2,), dropout_rate=0.5), 2, (1,), activation_func="lin"))
    model.save(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.choice(len(content), 400, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.2:
            damaged = damaged[:position]
        path.write_bytes(damaged)
        try:
            again = load_model(path)
        except ModelError:
            refused += 1
        else:
            assert same(model, again)
    assert refused > 300


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_graph_with_other_values_makes_a_model_or_a_model_error(data: st.DataObject) -> None:
    raw = Input((1, 2, 5), "b,f,x", name="raw")
    first = Conv(raw, 2, (1,), dropout_rate=0.5)
    model = Model(raw, prediction_node=Concat([first, Crop(Conv(first, 2, (1,), w=first.w), (0,))]))
    graph = msgspec.to_builtins(graph_of(model))
    record = data.draw(st.sampled_from(graph["nodes"]))
    place = data.draw(st.sampled_from([d for d in (record, record["arguments"], record["variables"]) if d]))
    key = data.draw(st.sampled_from(sorted(place)))
    small = (
        st.integers(-3, 9) | st.floats(-3, 3) | st.none() | st.booleans() | st.sampled_from(["raw", "conv", "b,f,x"])
    )
    tagged = st.builds(
        lambda tag, value: {tag: value},
        st.sampled_from(["$node", "$shared", "$array", "$shape", "$dtype", "$dict", "$given"]),
        small | st.lists(small, max_size=3),
    )
    place[key] = data.draw(small | st.lists(small, max_size=3) | tagged)
    try:
        again = make_model(msgspec.convert(graph, Graph), tensors_of(model), Foreign())
    except (ModelError, msgspec.ValidationError):
        return
    again.describe()


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


def test_a_snapshot_is_what_would_have_been_saved_then_whatever_happens_to_the_model(tmp_path):
    raw = Input((1, 2, 8, 12, 12), "b,f,z,y,x", name="raw")
    model = Model(input_node=raw, prediction_node=Conv(raw, 3, (3, 3, 3), name="conv"))
    model.to("cpu", memory_format=torch.channels_last_3d)
    model.save(tmp_path / "saved.safetensors", extra={"step": "5"})
    snapshot = snapshot_model(model, extra={"step": "5"})
    with torch.no_grad():
        model["conv"].w.zero_()
    snapshot.write(tmp_path / "snapshot.safetensors")
    assert (tmp_path / "snapshot.safetensors").read_bytes() == (tmp_path / "saved.safetensors").read_bytes()
    assert load_model(tmp_path / "snapshot.safetensors").extra == {"step": "5"}


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path):
    raw = Input((1, 1, 12, 12), "b,f,y,x", name="raw")
    model = Model(input_node=raw, prediction_node=Conv(raw, 64, (3, 3), name="conv"))
    path = tmp_path / "model.safetensors"
    model.save(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ModelError, match=r"can't be written to .*model.safetensors"):
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError
from elektronn_tui.models import (
    GRU,
    Concat,
    Conv,
    Input,
    Model,
    Node,
    Perceptron,
    Pool,
    Softmax,
    UpConvMerge,
    export_onnx,
    export_program,
    rebuild_model,
)


def u_net() -> Model:
    torch.manual_seed(2)
    raw = Input((1, 1, 2, 12, 12), "b,f,z,y,x", name="raw")
    first = Conv(raw, 3, (1, 3, 3), batch_normalisation="train", dropout_rate=0.5)
    low = Conv(Pool(first, (1, 2, 2)), 4, (1, 2, 2), activation_func="prelu")
    merged = UpConvMerge(first, Conv(low, 4, (1, 2, 2)), 5)
    model = Model(raw, prediction_node=Softmax(Conv(merged, 2, (1, 1, 1), activation_func="lin")), name="u-net")
    model.scaling = {"mean": [128.0], "std": [33.0]}
    model.prediction_node.feature_names = ("inside", "membrane")
    return model


def dense() -> Model:
    raw = Input((1, 1, 11, 11), "b,f,y,x", name="raw")
    out = Conv(Conv(raw, 3, (2, 2), (2, 2)), 2, (3, 3), activation_func="lin")
    return rebuild_model(Model(raw, prediction_node=Softmax(out)), override_mfp_to_active=True)


def recurrent() -> Model:
    raw = Input((1, 4), "b,f", name="raw")
    memory = Input((1, 3), "b,f", name="memory")
    return Model(raw, prediction_node=Perceptron(GRU(raw, memory, 3), 2))


def arrays(model: Model, batch: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = [(batch, *node.shape.shape[1:]) for node in model.prediction_node.input_nodes]
    return [rng.random(size, dtype=np.float32) for size in sizes]  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [u_net, dense, recurrent])
def test_programs(build: Any) -> None:
    model = build().train()
    program = export_program(model)
    assert model.module.training
    for batch in (1, 3):
        x = arrays(model, batch)
        value = program.module()(*map(torch.from_numpy, x))
        np.testing.assert_allclose(value.detach().numpy(), model.predict(*x), rtol=1e-5, atol=1e-6)


def test_a_program_of_one_batch_size() -> None:
    model = u_net()
    program = export_program(model, dynamic_batch=False)
    x = arrays(model, 1)
    value = program.module()(torch.from_numpy(x[0]))
    np.testing.assert_allclose(value.detach().numpy(), model.predict(*x), rtol=1e-5, atol=1e-6)
    with pytest.raises(Exception, match=r"[Gg]uard|shape"):
        program.module()(torch.from_numpy(arrays(model, 2)[0]))


def test_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = u_net().train()
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    assert model.module.training
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(str(path))
    assert [i.name for i in session.get_inputs()] == ["raw"]
    assert [o.name for o in session.get_outputs()] == ["softmax"]
    for batch in (1, 3):
        (x,) = arrays(model, batch)
        (value,) = session.run(None, {"raw": x})
        np.testing.assert_allclose(value, model.predict(x), rtol=1e-4, atol=1e-6)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["elektronn.name"] == "u-net"
    assert json.loads(metadata["elektronn.scaling"]) == model.scaling
    assert json.loads(metadata["elektronn.feature_names"]) == ["inside", "membrane"]
    assert json.loads(metadata["elektronn.strides"]) == [1, 1, 1]
    assert json.loads(metadata["elektronn.offsets"]) == list(model.prediction_node.shape.offsets)
    path.write_bytes(b"old")
    with pytest.raises(ModelError, match="can't be written"):
        export_onnx(model, tmp_path / "nowhere" / "model.onnx")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ModelError, match=r"needs the package onnxscript: pip install 'elektronn-tui\[onnx\]'"):
        export_onnx(u_net(), tmp_path / "model.onnx")


def test_what_can_not_be_exported() -> None:
    raw = Input((2, 1, 4), "b,f,x", name="raw")
    node: Node = Concat([raw, Conv(raw, 1, (1,))])
    model = Model(raw, prediction_node=node)

    def asks_for_values(*tensors: torch.Tensor) -> torch.Tensor:
        return tensors[0] if float(tensors[0].sum()) > 0 else tensors[1]

    model["concat"].operation.forward = asks_for_values  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="Model 'model' can't be exported"):
        export_program(model)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elektronn_tui.errors import ModelError
from elektronn_tui.models import Conv, Input, Model, Softmax, transfer_params


def build(classes: int = 2, first: str = "conv", shared: bool = False) -> Model:
    raw = Input((1, 1, 8, 8), "b,f,y,x", name="raw")
    out = Conv(raw, 3, (3, 3), batch_normalisation="train", name=first)
    out = Conv(out, 3, (1, 1), name="middle")
    if shared:
        out = Conv(out, 3, (1, 1), w=out.w, name="again")
    return Model(raw, prediction_node=Softmax(Conv(out, classes, (1, 1), activation_func="lin", name="last")))


def equal(a: Model, b: Model, *keys: str) -> bool:
    x, y = a.module.state_dict(), b.module.state_dict()
    return all(torch.equal(x[key], y[key]) for key in keys)


def test_from_a_model_and_from_a_file(tmp_path: Path) -> None:
    source = build()
    with torch.no_grad():
        source["conv"].mean.fill_(3)
    source.save(tmp_path / "model.safetensors")
    for origin in (source, tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")):
        target = build()
        report = transfer_params(origin, target, strict=True)
        assert equal(source, target, *source.module.state_dict())
        assert set(report.taken) == set(source.module.state_dict())
        assert not report.left_out
        assert not report.unused
    with torch.no_grad():
        source["conv"].w.zero_()
    assert not equal(source, target, "conv.w")


def test_what_does_not_fit_is_reported() -> None:
    source, target = build(classes=2), build(classes=3, first="first")
    before = target["last"].w.clone()
    report = transfer_params(source, target)
    assert set(report.taken) == {"middle.w", "middle.b"}
    assert torch.equal(target["last"].w, before)
    assert report.left_out["last.w"] == "the source's has the shape (2, 3, 1, 1), not (3, 3, 1, 1)"
    assert report.left_out["first.w"] == "the source has no such parameter"
    assert "conv.gamma" in report.unused
    text = str(report)
    assert text.startswith("2 parameters taken, 8 left out, 8 unused")
    assert "last.w kept: the source's has the shape" in text


def test_renaming() -> None:
    source, target = build(), build(first="first")
    report = transfer_params(source, target, {"conv": "first"}, strict=True)
    assert report.taken["first.w"] == "conv.w"
    assert torch.equal(source["conv"].w, target["first"].w)
    assert "first.w from conv.w" in str(report)
    transfer_params(source, target, {"middle.b": "first.b"})
    assert torch.equal(target["first"].b, source["middle"].b)
    for rename, match in (
        ({"cnov": "first"}, "source has no 'cnov'. Did you mean 'conv'"),
        ({"conv": "frist"}, "target has no 'frist'. Did you mean 'first'"),
    ):
        with pytest.raises(ModelError, match=match):
            transfer_params(source, target, rename)


def test_strict_changes_nothing() -> None:
    source, target = build(2), build(3)
    before = {k: v.clone() for k, v in target.module.state_dict().items()}
    with pytest.raises(ModelError, match=r"none was transferred.*8 parameters taken, 2 left out(.|\n)*last.w kept"):
        transfer_params(source, target, strict=True)
    assert all(torch.equal(v, before[k]) for k, v in target.module.state_dict().items())


def test_shared_weights_and_other_precision() -> None:
    source, target = build(shared=True), build(shared=True).to(dtype=torch.float64)
    report = transfer_params(source, target, strict=True)
    assert "again.w" not in report.taken
    assert target["again"].w is target["middle"].w
    assert target["middle"].w.dtype == torch.float64
    np.testing.assert_allclose(target["middle"].w.detach().numpy(), source["middle"].w.detach().numpy())


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match="no model file"):
        transfer_params(path, build())
    path.write_bytes(b"other")
    with pytest.raises(ModelError, match="no safetensors file"):
        transfer_params(path, build())

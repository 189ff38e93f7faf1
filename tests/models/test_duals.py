"""Layers that undo others, with weights of their own and with shared ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError, ShapeError
from elektronn_tui.models import Conv, FragmentsToDense, Input, Model, Perceptron, UpConv, load_model

TAGS = {1: "b,f,x", 2: "b,f,y,x", 3: "b,f,z,y,x"}


def test_perceptron_shares_its_weights_transposed() -> None:
    raw = Input((2, 5), "b,f", name="raw")
    first = Perceptron(raw, 3, "tanh")
    dual = first.make_dual(first, share_w=True, activation_func="lin")
    assert dual.name == "dot_T"
    assert dual.shape.shape == (2, 5)
    assert dual.w is first.w
    assert dual.param_count == 5
    x = torch.randn(2, 5)
    expected = first.operation(x) @ first.w.T + dual.b
    assert dual(x) == pytest.approx(expected.detach().numpy(), abs=1e-6)
    again = dual.make_dual(dual, share_w=True)
    assert again.activation_func == "lin"
    assert again(x) == pytest.approx((torch.as_tensor(dual(x)) @ first.w + again.b).detach().numpy(), abs=1e-6)


def test_perceptron_takes_over_what_is_not_given() -> None:
    first = Perceptron(Input((2, 6), "b,f"), 4, "elu", batch_normalisation="train", dropout_rate=0.5, name="encode")
    first.dropout_rate = 0.25
    dual = first.make_dual(first, dropout_rate=0.125)
    assert (dual.name, dual.n_f, dual.activation_func, dual.batch_normalisation) == ("encode_T", 6, "elu", "train")
    assert dual.dropout_rate == 0.125
    assert dual.w is not first.w
    assert first.make_dual(first).dropout_rate == 0.25
    maxout = Perceptron(Input((2, 6), "b,f"), 4, "maxout 2")
    assert maxout.make_dual(maxout).shape.shape == (2, 6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_shared_convolution_is_undone_by_its_transpose(ndim: int) -> None:
    filters = (2, 1, 3)[:ndim]
    size = (4, 3, 6)[:ndim]
    raw = Input((2, 2, *(n + f - 1 for n, f in zip(size, filters, strict=True))), TAGS[ndim], name="raw")
    conv = Conv(raw, 3, filters, filters, activation_func="lin")
    dual = conv.make_dual(conv, share_w=True)
    assert isinstance(dual, UpConv)
    assert dual.shape.shape == (2, 2, *size)
    assert dual.shape.strides == (1,) * ndim
    assert dual.w is conv.w
    y = torch.randn(2, 3, *(n // f for n, f in zip(size, filters, strict=True)))
    # <conv(x) in steps of the filter, y> = <x, dual(y)>: the dual is the adjoint map.
    x = torch.randn(2, 2, *size)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    forward = convolve(x, conv.w, None, filters)
    back = dual.operation(y) - dual.b.reshape(-1, *(1,) * ndim)
    assert (forward * y).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-4, abs=1e-4)


def test_convolution_dual_with_new_weights_and_fragments() -> None:
    raw = Input((1, 2, 10, 11), "b,f,y,x", name="raw")
    conv = Conv(raw, 4, (3, 3), (2, 1), activation_func="prelu")
    dual = conv.make_dual(conv)
    assert (dual.shape.shape, dual.activation_func) == ((1, 2, 8, 9), "prelu")
    fragments = Conv(raw, 4, (4, 3), (2, 1), mfp=True)
    dual = fragments.make_dual(fragments, mfp=True, pool_shape=(1, 1))
    assert isinstance(dual.parents[0], FragmentsToDense)
    assert dual.shape.shape == (1, 2, 6, 9)
    assert dual.shape.strides == (1, 1)
    assert fragments.make_dual(fragments, mfp=True).shape.shape == (1, 2, 12, 9)


def test_shared_weights_survive_a_file(tmp_path: Path) -> None:
    raw = Input((1, 2, 6), "b,f,x", name="raw")
    conv = Conv(raw, 3, (3,), (3,), conv_mode="same", activation_func="tanh", name="encode")
    decoded = conv.make_dual(Perceptron(conv, 3), share_w=True)
    model = Model(input_node=raw, prediction_node=Perceptron(decoded, 2))
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again["encode_T"].w is again["encode"].w
    x = np.random.default_rng(0).normal(size=(1, 2, 9)).astype(np.float32)
    assert np.array_equal(again.predict(x), model.predict(x))
    assert again.param_count == model.param_count
    assert len(list(again.module.parameters())) == len(list(model.module.parameters()))


def test_a_constant_weight_stays_constant() -> None:
    first = Perceptron(Input((2, 5), "b,f"), 3, "lin", w=[np.ones((5, 3)), "const"])
    dual = first.make_dual(first, share_w=True)
    assert not dual.w.requires_grad
    assert dual.param_count == 5


def test_misuse() -> None:
    raw = Input((2, 5), "b,f", name="raw")
    first = Perceptron(raw, 3)
    with pytest.raises(ShapeError, match=r"needs a parent of size 3 on axis f, but 'raw' has \[\(2,b\), \(5,f\)\]"):
        first.make_dual(raw)
    with pytest.raises(ModelError, match="flatten=True can't be undone"):
        (flat := Perceptron(Input((2, 5, 4), "b,f,x"), 3, flatten=True)).make_dual(flat)
    with pytest.raises(ModelError, match="can't share w and be given another"):
        first.make_dual(first, share_w=True, w=np.ones((3, 5)))
    maxout = Perceptron(raw, 4, "maxout 2")
    with pytest.raises(ShapeError, match="maxout 2 joins features"):
        maxout.make_dual(maxout, share_w=True)
    conv = Conv(Input((1, 2, 9, 9), "b,f,y,x"), 4, (2, 3), (2, 1))
    with pytest.raises(ShapeError, match=r"pool_shape \(2, 1\) must be this filter_shape"):
        conv.make_dual(conv, share_w=True)
    with pytest.raises(TypeError, match="kernel"):
        conv.make_dual(conv, kernel=3)

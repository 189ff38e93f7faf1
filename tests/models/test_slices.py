"""Channels-last volumes, computed slice by slice or as matrix products, give what convolution of the volume gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from elektronn_tui.models import Conv, Input, UpConv
from elektronn_tui.models.conv import _slices_are_free
from elektronn_tui.models.spatial import features_last

VARIANTS: dict[str, dict[str, Any]] = {
    "plane": {"filter_shape": (1, 3, 2)},
    "plane pooled": {"filter_shape": (1, 2, 3), "pool_shape": (1, 3, 2)},
    "plane pooled in z": {"filter_shape": (1, 3, 3), "pool_shape": (2, 1, 1)},
    "plane same": {"filter_shape": (1, 3, 3), "conv_mode": "same"},
    "plane full": {"filter_shape": (1, 3, 2), "conv_mode": "full"},
    "plane fragments": {"filter_shape": (1, 3, 3), "pool_shape": (1, 2, 1), "mfp": True, "activation_func": "lin"},
    "plane norm": {"filter_shape": (1, 3, 3), "batch_normalisation": "train"},
    "point": {"filter_shape": (1, 1, 1)},
    "point linear": {"filter_shape": (1, 1, 1), "activation_func": "lin"},
    "point pooled": {"filter_shape": (1, 1, 1), "pool_shape": (2, 2, 2)},
    "point prelu": {"filter_shape": (1, 1, 1), "activation_func": "prelu"},
    "point maxout": {"filter_shape": (1, 1, 1), "activation_func": "maxout 2"},
    "point norm": {"filter_shape": (1, 1, 1), "batch_normalisation": "train"},
    "point fadeout": {"filter_shape": (1, 1, 1), "batch_normalisation": "fadeout", "gradnet_mode": True},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("n_in", [1, 3])
def test_channels_last_equals_contiguous(name: str, n_in: int) -> None:
    torch.manual_seed(0)
    size = (4, 7, 7) if name == "plane fragments" else (4, 8, 8) if "pooled" not in name else (4, 8, 6)
    size = (4, 7, 8) if name == "plane pooled" else size
    conv = Conv(Input((2, n_in, *size), "b,f,z,y,x"), 4, **VARIANTS[name])
    operation = conv.operation.train()
    if name == "point fadeout":
        conv.gradnet_rate = 0.7
    results = []
    for channels_last in (False, True):
        x = torch.randn(2, n_in, *size, generator=torch.Generator().manual_seed(1))
        if channels_last:
            x = x.to(memory_format=torch.channels_last_3d)
            operation.w.data = operation.w.data.to(memory_format=torch.channels_last_3d)
        assert _slices_are_free(x, operation.w) is channels_last
        x.requires_grad_()
        y = operation(x)
        assert y.shape == conv.shape.shape
        if channels_last and n_in > 1:
            assert y.is_contiguous(memory_format=torch.channels_last_3d)
        operation.zero_grad()
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
        (y * weights).sum().backward()
        assert x.grad is not None
        results.append([y.detach(), x.grad, *(p.grad.clone() for p in operation.parameters() if p.grad is not None)])
    # Normalised, one weight per feature has no effect on the result: what is left of its gradient is rounding.
    tolerance = 1e-3 if "norm" in name else 1e-4
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=tolerance)


UP: dict[str, dict[str, Any]] = {
    "relu": {},
    "prelu": {"activation_func": "prelu"},
    "maxout": {"activation_func": "maxout 2"},
    "norm": {"batch_normalisation": "train"},
    "no enlargement": {"pool_shape": (1, 1, 1)},
}


@pytest.mark.parametrize("name", UP)
@pytest.mark.parametrize("transposed", [False, True])
def test_enlarging(name: str, transposed: bool) -> None:
    torch.manual_seed(0)
    arguments = {"pool_shape": (2, 1, 3), "identity_init": False, **UP[name]}
    up = UpConv(Input((2, 3, 2, 4, 3), "b,f,z,y,x"), 4, **arguments, transpose_w=transposed)
    operation = up.operation.train()
    results = []
    for channels_last in (False, True):
        x = torch.randn(2, 3, 2, 4, 3, generator=torch.Generator().manual_seed(1))
        x = x.to(memory_format=torch.channels_last_3d) if channels_last else x
        assert features_last(x) is channels_last
        x.requires_grad_()
        y = operation(x)
        assert y.shape == up.shape.shape
        assert y.is_contiguous(memory_format=torch.channels_last_3d) is channels_last
        operation.zero_grad()
        (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        assert x.grad is not None
        results.append([y.detach(), x.grad, *(p.grad.clone() for p in operation.parameters() if p.grad is not None)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


def test_only_where_it_was_measured() -> None:
    x = torch.randn(1, 3, 4, 5, 5).to(memory_format=torch.channels_last_3d)
    w = torch.randn(2, 3, 1, 3, 3).to(memory_format=torch.channels_last_3d)
    assert _slices_are_free(x, w)
    assert not _slices_are_free(x.contiguous(), w)
    assert not _slices_are_free(x, w.contiguous())
    assert not _slices_are_free(x.double(), w.double())
    conv = Conv(Input((1, 3, 4, 5, 5), "b,f,z,y,x"), 2, (1, 3, 3))
    conv.operation.w.data = w
    nodes = torch.export.export(conv.operation, (x,)).graph.nodes
    assert any("conv3d" in str(node.target) for node in nodes)
    with torch.autocast("cpu", torch.bfloat16):
        assert not _slices_are_free(x, w)

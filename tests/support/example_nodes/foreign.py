"""Functions and torch modules of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from elektronn_tui.models import ApplyFunc, Concat, Conv, GenericInput, Input, Module, Node, UpConvMerge

from .example import NodeExample


def small(n_f: int = 2, name: str = "raw") -> Input:
    return Input((2, n_f, 4, 4), "b,f,y,x", name=name)


def power(x: torch.Tensor, exponent: float, shift: float = 0) -> torch.Tensor:
    return (x + shift).abs() ** exponent


def joined(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, y.square()], 1)


def scaled(x: torch.Tensor, options: dict[str, float]) -> torch.Tensor:
    return x * options["scale"]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Tanh(), nn.AvgPool2d(2))


def head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 3))


class Product(nn.Module):
    """Two inputs, of which the second has half the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2, 2, 2, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x * self.up(y)


def product() -> Node:
    raw = small()
    return Module([raw, Conv(raw, 2, (1, 1), (2, 2), activation_func="tanh")], Product())


def behind_object() -> Node:
    raw = small()
    return ApplyFunc([raw, GenericInput()], scaled, shape=(2, 2, 4, 4), tags="b,f,y,x")


def object_arrays(rng: np.random.Generator, node: Node) -> list[Any]:
    return [rng.normal(size=(2, 2, 4, 4)), {"scale": 3.0}]


def given(**functions: Any) -> dict[str, Any]:
    return {"functions": functions}


EXAMPLES: dict[str, NodeExample] = {
    "function": NodeExample(lambda: ApplyFunc(small(), power, (2,), {"shift": 0.5}), given=given(apply_func=power)),
    "function to a number": NodeExample(
        lambda: ApplyFunc(small(), torch.mean, name="average"), given=given(average=torch.mean)
    ),
    "function of two": NodeExample(
        lambda: ApplyFunc([(raw := small()), Conv(raw, 2, (1, 1), activation_func="tanh")], joined),
        given=given(apply_func=joined),
    ),
    "function of an object": NodeExample(
        behind_object, arrays=object_arrays, given=given(apply_func=scaled), own_shape=True
    ),
    "module": NodeExample(lambda: Module(small(), network()), given={"modules": {"module": network()}}),
    "module head": NodeExample(lambda: Module(small(), head()), given={"modules": {"module": head()}}),
    "module of two": NodeExample(product, given={"modules": {"module": Product()}}),
    "module in a network": NodeExample(
        lambda: UpConvMerge((raw := small()), Module(raw, network(), name="net"), 2),
        given={"modules": {"net": network()}},
        differentiable=False,
    ),
    "concat with module": NodeExample(
        lambda: Concat([(raw := small()), Module(raw, nn.Conv2d(2, 1, 3, padding=1))]),
        given={"modules": {"module": nn.Conv2d(2, 1, 3, padding=1)}},
    ),
}

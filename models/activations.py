"""Activation functions by name. Some work in place: they get a tensor that nobody else holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError, did_you_mean

__all__ = ["ACTIVATIONS", "Activation", "get_activation", "maxout_factor"]

Activation = Callable[[torch.Tensor], torch.Tensor]


def _elu(x: torch.Tensor) -> torch.Tensor:
    return F.elu(x, inplace=True)


def _selu(x: torch.Tensor) -> torch.Tensor:
    return F.selu(x, inplace=True)


def _concentration(x: torch.Tensor) -> torch.Tensor:
    return 7 * F.softplus(x) + 2


def _radius(x: torch.Tensor) -> torch.Tensor:
    return 3 + 15 * torch.exp(0.15 * x)


def _linear(x: torch.Tensor) -> torch.Tensor:
    return x


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "tanh": torch.tanh_,
        "relu": torch.relu_,
        "elu": _elu,
        "selu": _selu,
        "abs": torch.abs,
        "sig": torch.sigmoid_,
        "logistic": torch.sigmoid_,
        "sigmoid": torch.sigmoid_,
        "soft+": F.softplus,
        "lin": _linear,
        "linear": _linear,
        "concentration": _concentration,
        "radius": _radius,
    }
)
"""Element-wise functions; ``prelu`` and ``maxout <r>`` depend on the layer and are made there."""


def maxout_factor(title: str, name: str) -> int:
    """Return r of ``maxout r``, and 1 for every other activation.

    Raises
    ------
    ModelError
        If r is no whole number from 2 on.
    """
    if not name.startswith("maxout"):
        return 1
    try:
        factor = int(name.removeprefix("maxout"))
    except ValueError:
        factor = 0
    if factor < 2:
        raise ModelError(f"{title}: {name!r} needs the number of features to join, as in 'maxout 2'.")
    return factor


def get_activation(title: str, name: str) -> Activation | None:
    """Return the function of this name; None for ``prelu`` and ``maxout <r>``, which need the layer.

    Raises
    ------
    ModelError
        If there is none of this name.
    """
    if not isinstance(name, str):
        raise ModelError(f"{title}: activation_func must be a name, as 'relu', not {name!r}.")
    if name == "prelu" or maxout_factor(title, name) > 1:
        return None
    if name not in ACTIVATIONS:
        known = [*ACTIVATIONS, "prelu", "maxout <r>"]
        raise ModelError(
            f"{title}: there is no activation {name!r}, only {', '.join(known)}.{did_you_mean(name, known)}"
        )
    return ACTIVATIONS[name]

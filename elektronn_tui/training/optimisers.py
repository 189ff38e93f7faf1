"""torch's optimisers, with the values of live controls in their groups, and their state by names of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["build_optimiser", "optimiser_state", "restore_optimiser"]

_TORCH = {"AdaGrad": "Adagrad", "AdaDelta": "Adadelta"}


def build_optimiser(name: str, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    """Return a new optimiser by the name that settings give it."""
    kind: type[Any] = getattr(torch.optim, _TORCH.get(name, name))
    optimiser: torch.optim.Optimizer = kind([dict(group) for group in groups], lr=lr)
    return optimiser


def optimiser_state(
    optimiser: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> dict[str, dict[str, torch.Tensor | float]]:
    """Return what an optimiser keeps for each parameter, by the parameter's name: the tensors themselves."""
    return {name: optimiser.state[parameter] for parameter, name in names.items() if optimiser.state.get(parameter)}


def restore_optimiser(
    optimiser: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    saved: Mapping[str, Mapping[str, Any]],
) -> None:
    """Bring back the state of an optimiser of the same kind; parameters that had none begin anew."""
    for parameter, name in names.items():
        for key, value in saved.get(name, {}).items():
            if isinstance(value, torch.Tensor):
                if value.shape == parameter.shape:
                    # Same strides as before the save: another layout takes another vector path and other roundings.
                    value = torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()
                else:  # a count of steps belongs on the CPU, as torch makes it
                    value = value.clone() if value.ndim == 0 else value.to(parameter.device, copy=True)
            optimiser.state[parameter][key] = value

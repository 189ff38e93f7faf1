"""torch's optimisers for a model, and their live settings as controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .controls import Control, Controls
from .experiment import Optimiser

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["add_controls", "build_optimiser"]

_BETAS = ("Adam", "AdamW", "RAdam")


def build_optimiser(settings: Optimiser, model: Model) -> torch.optim.Optimizer:
    """Return torch's optimiser for the parameters of a model: weight decay on its weights alone.

    Raises
    ------
    ExperimentError
        A value is outside its limits.
    """
    groups = [
        {**group, "weight_decay": settings.weight_decay * group["weight_decay_scale"]}
        for group in model.parameter_groups()
    ]
    own: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.eps is not None and settings.name != "SGD":
        own["eps"] = settings.eps
    if settings.name == "SGD":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, **own, momentum=settings.momentum, nesterov=nesterov)
    if settings.name == "AdaGrad":
        return torch.optim.Adagrad(groups, **own)
    if settings.name == "AdaDelta":
        return torch.optim.Adadelta(groups, **own, rho=settings.rho)
    kinds: dict[str, type[Any]] = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "RAdam": torch.optim.RAdam}
    return kinds[settings.name](groups, **own, betas=settings.betas)


def add_controls(controls: Controls, settings: Optimiser, optimiser: torch.optim.Optimizer) -> None:
    """Add learning rate, weight decay, and momentum or betas or rho of an optimiser."""
    # Looked up anew each time: torch replaces the groups when a state is loaded.

    def add(name: str, key: str, **more: Any) -> None:
        def write(value: Any) -> None:
            for group in optimiser.param_groups:
                group[key] = value

        controls.add(Control(name=name, get=lambda: optimiser.param_groups[0][key], set=write, **more))

    def set_decay(value: float) -> None:
        for group in optimiser.param_groups:
            group["weight_decay"] = value * group["weight_decay_scale"]

    def get_decay() -> float:
        decayed = [group for group in optimiser.param_groups if group["weight_decay_scale"]]
        return float(decayed[0]["weight_decay"]) if decayed else 0.0

    # lr 0 is refused by hand: a run that stands still by a slip looks like one that has converged
    add("lr", "lr", type="float", minimum=0, exclusive_minimum=True, help="learning rate")
    controls.add(
        Control(
            name="weight_decay",
            type="float",
            get=get_decay,
            set=set_decay,
            minimum=0,
            help="decay of weights",
        )
    )
    if settings.name == "SGD":
        add("momentum", "momentum", type="float", minimum=0, maximum=0.9999, help="momentum of SGD")
    elif settings.name in _BETAS:
        help = "decay rates of the running means of gradient and squared gradient"
        add("betas", "betas", type="floats", length=2, minimum=0, maximum=0.9999999, help=help)
    elif settings.name == "AdaDelta":
        add("rho", "rho", type="float", minimum=0, maximum=0.9999, help="decay rate of the running means")

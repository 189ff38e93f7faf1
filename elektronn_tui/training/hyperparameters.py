"""The optimisers of torch that an experiment can name, and their settings: each is a live control as well."""

from __future__ import annotations

from .settings import setting, settings

__all__ = ["OPTIMISERS", "USES", "Optimiser"]

USES: dict[str, tuple[str, ...]] = {
    "SGD": ("momentum", "nesterov"),
    "AdaGrad": ("eps",),
    "AdaDelta": ("rho", "eps"),
    "Adam": ("betas", "eps"),
    "AdamW": ("betas", "eps"),
    "RAdam": ("betas", "eps"),
    "NAdam": ("betas", "eps"),
    "Adamax": ("betas", "eps"),
    "RMSprop": ("momentum", "alpha", "eps"),
    "Adafactor": (),
}
"""What each optimiser uses, beside learning rate and weight decay."""

OPTIMISERS = tuple(USES)


def _users(name: str) -> str:
    return ", ".join(kind for kind, uses in USES.items() if name in uses)


@settings("optimiser.")
class Optimiser:
    """One of torch's optimisers, with torch's meaning of every setting.

    The settings of the others are kept for a change of optimiser in mid-run. torch has no Lion; its Muon takes
    matrices alone, which filters of convolutions are not.
    """

    name: str = setting(
        default="Adam",
        type="choice",
        choices=OPTIMISERS,
        help="which of torch's optimisers (it has no Lion); after a change the state begins anew",
    )
    lr: float = setting(default=1e-3, type="float", minimum=0, exclusive_minimum=True, help="learning rate")
    weight_decay: float = setting(
        default=0.0,
        type="float",
        minimum=0,
        help="of weights, not of biases and normalisation (decoupled in AdamW and Adafactor alone)",
    )
    momentum: float = setting(
        default=0.9, type="float", minimum=0, maximum=0.9999, help=f"momentum of {_users('momentum')}"
    )
    nesterov: bool = setting(default=False, type="bool", help=f"Nesterov's momentum, of {_users('nesterov')}")
    betas: tuple[float, ...] = setting(
        default=(0.9, 0.999),
        type="floats",
        length=2,
        minimum=0,
        maximum=0.9999999,
        help=f"decay rates of the running means of {_users('betas')}",
    )
    rho: float = setting(
        default=0.9, type="float", minimum=0, maximum=0.9999, help=f"decay rate of the running means of {_users('rho')}"
    )
    alpha: float = setting(
        default=0.99,
        type="float",
        minimum=0,
        maximum=0.999999,
        help=f"decay rate of the running mean of {_users('alpha')}",
    )
    eps: float | None = setting(
        default=None,
        type="float",
        minimum=0,
        exclusive_minimum=True,
        optional=True,
        help=f"keeps divisions from 0, in {_users('eps')}; none for torch's own",
    )

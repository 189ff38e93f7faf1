"""Which parameters are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from elektronn_tui.errors import ModelError, did_you_mean

from .declared import checked

if TYPE_CHECKING:
    from .model import Model
    from .node import Node

__all__ = ["freeze", "unfreeze"]


@checked
def freeze(model: Model, which: int | Sequence[str]) -> list[str]:
    """Don't train the parameters of some nodes any more; an optimiser that has them already just finds no gradient.

    Parameters
    ----------
    model : Model
    which : int or sequence of str
        The first so many nodes that have trainable parameters, in the order of computation, or nodes by name.

    Returns
    -------
    list of str
        Names of the nodes that are frozen now.

    Raises
    ------
    ModelError
        If a name is unknown, or the number is below 0.
    """
    nodes = _chosen(model, which)
    for node in nodes:
        for parameter in node.params.values():
            if isinstance(parameter, nn.Parameter):
                parameter.requires_grad_(False)
                parameter.grad = None
    return [node.name for node in nodes]


@checked
def unfreeze(model: Model, which: Sequence[str] | None = None) -> list[str]:
    """Train the parameters of some nodes again, by default of all; what was given as constant stays so.

    Returns
    -------
    list of str
        Names of the nodes that have trainable parameters by it.

    Raises
    ------
    ModelError
        If a name is unknown.
    """
    nodes = [node for node in model.nodes.values() if node.params] if which is None else _chosen(model, which)
    for node in nodes:
        for parameter in node.params.values():
            if isinstance(parameter, nn.Parameter):
                parameter.requires_grad_(True)
    return [node.name for node in nodes if node.param_count]


def _chosen(model: Model, which: int | Sequence[str]) -> list[Node]:
    if isinstance(which, int):
        if which < 0:
            raise ModelError(f"The number of nodes to freeze must be from 0 on, not {which}.")
        return [node for node in model.nodes.values() if node.param_count][: int(which)]
    names = [which] if isinstance(which, str) else which
    if not isinstance(names, list | tuple | set | dict) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"Which nodes must be said by their names or by a whole number, not by {which!r}.")
    for name in names:
        if name not in model.nodes:
            raise ModelError(
                f"There is no node {name!r} in model {model.name!r}.{did_you_mean(str(name), model.nodes)}"
            )
        if not model.nodes[name].params:
            raise ModelError(f"{model.nodes[name].title} has no parameters of its own.")
    return [model.nodes[name] for name in names]

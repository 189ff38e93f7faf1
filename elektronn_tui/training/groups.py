"""Which learning rate and weight decay each parameter gets: multipliers by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import nn

from elektronn_tui.errors import ExperimentError, did_you_mean

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["parameter_groups", "parameter_names"]


def parameter_names(model: Model) -> dict[nn.Parameter, str]:
    """Return what each parameter is called, ``node.parameter``; a shared one by its first node."""
    names: dict[nn.Parameter, str] = {}
    for node in model.nodes.values():
        for key, parameter in node.operation.named_parameters():
            names.setdefault(parameter, f"{node.name}.{key}")
    return names


def parameter_groups(
    model: Model, lr_scales: Iterable[str] = (), decay_scales: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Return groups for torch's optimisers: those of the model, divided where multipliers differ.

    What is frozen is in them, so that it is trained when somebody unfreezes it in mid-run.

    Parameters
    ----------
    model : Model
    lr_scales, decay_scales : iterable of str
        Patterns of multipliers: a node (``conv1``), one of its parameters (``conv1.w``), or several of them
        (``up*``, ``*.b``). Where more than one fits a parameter, the last one counts.

    Returns
    -------
    list of dict
        ``name``, ``params``, ``weight_decay_scale`` (what the nodes want), and ``lr_pattern`` and ``decay_pattern``:
        the multipliers that count, or None.

    Raises
    ------
    ExperimentError
        A pattern fits no parameter, or none that a later one doesn't fit as well.
    """
    names = parameter_names(model)
    lr_patterns = _chosen("lr_scales", tuple(lr_scales), names)
    decay_patterns = _chosen("decay_scales", tuple(decay_scales), names)
    groups: dict[tuple[str, str | None, str | None], dict[str, Any]] = {}
    for group in model.parameter_groups(frozen=True):
        for parameter in group["params"]:
            key = (group["name"], lr_patterns[parameter], decay_patterns[parameter])
            rest = {"lr_pattern": key[1], "decay_pattern": key[2]}
            groups.setdefault(key, {**group, "params": [], **rest})["params"].append(parameter)
    return list(groups.values())


def _chosen(
    setting: str, patterns: tuple[str, ...], names: Mapping[nn.Parameter, str]
) -> dict[nn.Parameter, str | None]:
    chosen: dict[nn.Parameter, str | None] = {}
    for parameter, name in names.items():
        fitting = [pattern for pattern in patterns if _fits(pattern, name)]
        chosen[parameter] = fitting[-1] if fitting else None
    for pattern in patterns:
        if pattern in chosen.values():
            continue
        if any(_fits(pattern, name) for name in names.values()):
            raise ExperimentError(
                f"{setting}: {pattern!r} has no effect: later patterns fit all of its parameters; put it after them"
            )
        known = list(dict.fromkeys(name.rpartition(".")[0] for name in names.values()))
        near = did_you_mean(pattern, [*known, *names.values()])
        raise ExperimentError(
            f"{setting}: {pattern!r} fits no parameter.{near or ''} There are those of {', '.join(known)}, "
            "such as " + ", ".join(list(names.values())[:2])
        )
    return chosen


def _fits(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)

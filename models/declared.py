"""What arguments are declared to be: nodes, models, flags, paths and mappings are checked by that, in one place."""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from elektronn_tui.errors import ModelError

__all__ = ["check_declared", "checked"]

P = ParamSpec("P")
R = TypeVar("R")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that calls `check_declared` first."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says it better
        check_declared(function.__name__, bound)
        return function(*args, **kwargs)

    return call


def check_declared(title: str, call: inspect.BoundArguments) -> None:
    """Check a call of a function of this package, by its annotations.

    Flags are not taken for true because they are something: an argument in the wrong place, as in
    ``Pool(raw, (2, 2), None, "average")``, would switch something on.

    Parameters
    ----------
    title : str
        Of what is called, for messages.
    call : BoundArguments

    Raises
    ------
    ModelError
        If something else than a node, model, flag, path or mapping is given where one is declared: names the argument.
    """
    for name, value in call.arguments.items():
        right = _mismatch(call.signature.parameters[name].annotation, value)
        if right:
            raise ModelError(f"{title}: {name} must be {right}, not {reprlib.repr(value)}.")


def _mismatch(declared: Any, value: Any) -> str | None:
    """Return what would be right if `value` isn't what is declared; nothing is known of other kinds of arguments."""
    from .model import Model
    from .node import Node

    kinds: dict[str, tuple[str, Any]] = {
        "Node": ("a node", Node),
        "Node | None": ("a node or None", Node | None),
        "Model": ("a model", Model),
        "Model | str | os.PathLike[str]": ("a model or a path", Model | str | os.PathLike),
        "str | os.PathLike[str]": ("a path", str | os.PathLike),
        "bool": ("True or False", bool | np.bool_),
    }
    if not isinstance(declared, str):
        return None
    right, kind = kinds.get(declared, ("a mapping", object))
    if declared.startswith("Mapping["):
        kind = Mapping | None if declared.endswith("| None") else Mapping
    return None if isinstance(value, kind) else right

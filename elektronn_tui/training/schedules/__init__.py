"""How a control's value changes with the step: pure functions, checked when they are made.

`step` counts from 1: ``value(step, base)`` is what step `step` runs with. `base` is the value that the control had
before its schedule began.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elektronn_tui.errors import ExperimentError, did_you_mean

from .curves import Cosine, OneCycle, WarmUp
from .decays import Linear, Polynomial, StepDecay
from .schedule import Schedule
from .values import Alternate, Values

__all__ = [
    "SCHEDULES",
    "Alternate",
    "Cosine",
    "Linear",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "StepDecay",
    "Values",
    "WarmUp",
    "schedule_from_dict",
]

SCHEDULES: dict[str, type[Schedule]] = {
    cls.__name__: cls for cls in (StepDecay, Linear, Polynomial, Values, Alternate, Cosine, OneCycle, WarmUp)
}
"""Schedule classes by name."""


def schedule_from_dict(description: Mapping[str, Any]) -> Schedule:
    """Return the schedule that `Schedule.to_dict` described.

    Raises
    ------
    ExperimentError
        The kind is unknown or a field does not fit it.
    """
    fields = dict(description)
    kind = str(fields.pop("kind", ""))
    if kind not in SCHEDULES:
        raise ExperimentError(
            f"no schedule is called {kind!r}; known: {', '.join(SCHEDULES)}.{did_you_mean(kind, SCHEDULES)}"
        )
    try:
        return SCHEDULES[kind](**fields)
    except TypeError as error:
        raise ExperimentError(f"{kind}: {error}") from error

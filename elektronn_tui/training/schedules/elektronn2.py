"""Schedules as ELEKTRONN2's experiments write them, and the names that they drive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elektronn_tui.errors import ExperimentError, did_you_mean

from .decays import Linear, StepDecay
from .schedule import Schedule
from .values import Alternate, Values

__all__ = ["CONTROLS", "as_schedule"]

CONTROLS = {
    "mom": "momentum",
    "wd": "weight_decay",
    "mixing": "*.mixing",
    "dropout_rates": "*.dropout_rate",
    "gradnet_rates": "*.gradnet_rate",
    "history_freq": "validate_every",
}
"""What ELEKTRONN2 called controls, and which they are; a star stands for those of all nodes."""

MODES = ("dec", "lindec", "updates", "permut")
EVERY = 1000


def as_schedule(name: str, description: Any) -> Schedule | None:
    """Return the schedule that a dictionary of ELEKTRONN2 means; None for an empty one.

    Parameters
    ----------
    name : str
        Of what it drives, for messages.
    description : Schedule or mapping
        ``{'dec': factor}``, after each 1000 steps; ``{'lindec': [steps, start]}``, a line that ends at 0;
        ``{'updates': [(step, value), ...]}``, with ``dec`` a decay between them; ``{'permut': [every, values]}`` in
        turn. A `Schedule` is returned as it is.

    Raises
    ------
    ExperimentError
        It is not one of these.
    """
    if description is None or isinstance(description, Schedule):
        return description
    if not isinstance(description, Mapping):
        raise ExperimentError(
            f"schedules: {name}: {description!r} is not allowed; it must be a schedule such as StepDecay(0.995)"
        )
    modes = {mode: value for mode, value in description.items() if value is not None and value != []}
    for mode in modes:
        if mode not in MODES:
            raise ExperimentError(
                f"schedules: {name}: no schedule is called {mode!r}; known: {', '.join(MODES)}, or one of the classes "
                f"such as StepDecay(0.995).{did_you_mean(str(mode), MODES)}"
            )
    if not modes:
        return None
    try:
        return _made(name, modes)
    except ExperimentError as error:
        raise ExperimentError(f"schedules: {name}: {error}") from error


def _made(name: str, modes: Mapping[str, Any]) -> Schedule:
    if set(modes) == {"dec", "updates"}:
        return Values(_updates(modes["updates"]), factor=modes["dec"], every=EVERY)
    if len(modes) > 1:
        raise ExperimentError(f"{' and '.join(modes)} don't go together; only dec and updates do")
    ((mode, value),) = modes.items()
    if mode == "dec":
        return StepDecay(value, EVERY)
    if mode == "updates":
        return Values(_updates(value))
    example = "[40000, 1e-3]: steps and start" if mode == "lindec" else "[500, [0.0, 1.0]]: steps and values"
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ExperimentError(f"{mode}: {value!r} is not allowed; it must be a pair such as {example}")
    return Linear(value[1], 0.0, value[0]) if mode == "lindec" else Alternate(value[1], value[0])


def _updates(pairs: Any) -> Any:
    """ELEKTRONN2 counts from 0 and took its steps in any order."""
    try:
        return sorted(((max(step, 1), value) for step, value in pairs), key=lambda pair: pair[0])
    except (TypeError, ValueError):
        return pairs  # it will be said what is wrong

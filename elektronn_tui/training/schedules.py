"""How a control's value changes with the step: pure functions, checked when they are made.

`step` counts from 1: ``value(step, base)`` is what step `step` runs with. `base` is the value that the control had
before its schedule began.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ExperimentError, did_you_mean

__all__ = ["SCHEDULES", "Cosine", "Linear", "Schedule", "StepDecay", "Values", "schedule_from_dict"]


def _number(owner: str, field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ExperimentError(f"{owner}: {field}={value!r} is not allowed; it must be a finite number")
    return float(value)


def _count(owner: str, field: str, value: Any, minimum: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ExperimentError(f"{owner}: {field}={value!r} is not allowed; it must be a whole number ≥ {minimum}")
    return value


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """Base of all schedules."""

    @abc.abstractmethod
    def value(self, step: int, base: Any) -> Any:
        """Return what step `step` (from 1) runs with, for a control that began at `base`."""

    @abc.abstractmethod
    def continued(self, step: int, value: Any, base: Any) -> tuple[Schedule, Any]:
        """Return the schedule and base that go on from `value` at `step` in the manner of this one."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return a short text for people, such as ``"× 0.995 / 1000 steps"``."""

    @abc.abstractmethod
    def extremes(self, base: Any) -> tuple[Any, ...]:
        """Return values between which, both included, all others lie."""

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as plain values, for `schedule_from_dict`."""
        return {"kind": type(self).__name__, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply by `factor` after each `every` steps.

    Parameters
    ----------
    factor : float
        Greater than 0; steps 1 to `every` run with the base, the next `every` with base × factor.
    every : int
        Steps between two changes.
    """

    factor: float
    every: int = 1000

    def __post_init__(self) -> None:
        factor = _number("StepDecay", "factor", self.factor)
        if factor <= 0:
            raise ExperimentError(f"StepDecay: factor={self.factor!r} is not allowed; it must be > 0")
        _count("StepDecay", "every", self.every)

    def value(self, step: int, base: Any) -> float:
        """Return base × factor ^ floor((step − 1) / every)."""
        return float(base) * self._power(step)

    def continued(self, step: int, value: Any, base: Any) -> tuple[StepDecay, float]:
        """Return the same decay with the base that gives `value` at `step`."""
        return self, float(value) / self._power(step)

    def _power(self, step: int) -> float:
        try:
            return self.factor ** ((step - 1) // self.every)
        except OverflowError:
            return sys.float_info.max

    def describe(self) -> str:
        """Return the factor and how often it applies."""
        return f"× {self.factor:g} / {self.every} steps"

    def extremes(self, base: Any) -> tuple[float, ...]:
        """Return the base, and 0 for a decay (infinity is never reached in practice and not reported)."""
        return (float(base), 0.0 * float(base)) if self.factor < 1 else (float(base),)


@dataclass(frozen=True)
class Linear(Schedule):
    """Go from `start` to `end` in a straight line.

    Parameters
    ----------
    start : float or None
        Value up to step `first`; None takes the control's own.
    end : float
        Value from step `steps` on, reached for any length.
    steps : int
        The step that runs with `end`.
    first : int
        The step that runs with `start`.
    """

    start: float | None
    end: float
    steps: int
    first: int = 1

    def __post_init__(self) -> None:
        if self.start is not None:
            _number("Linear", "start", self.start)
        _number("Linear", "end", self.end)
        _count("Linear", "first", self.first)
        _count("Linear", "steps", self.steps)

    def value(self, step: int, base: Any) -> float:
        """Interpolate between the two ends; constant outside."""
        if step >= self.steps:
            return float(self.end)
        start = float(base if self.start is None else self.start)
        done = max(step - self.first, 0) / (self.steps - self.first) if self.steps > self.first else 0.0
        return start + (self.end - start) * done

    def continued(self, step: int, value: Any, base: Any) -> tuple[Linear, Any]:
        """Return the line from here to the same end; a constant when the end has been reached."""
        if step >= self.steps:
            return Linear(float(value), float(value), self.steps), base
        return Linear(float(value), self.end, self.steps, first=step), base

    def describe(self) -> str:
        """Return where the line leads."""
        start = "" if self.start is None else f"{self.start:g} "
        return f"linear {start}→ {self.end:g} at step {self.steps}"

    def extremes(self, base: Any) -> tuple[float, ...]:
        """Return both ends."""
        return (float(base if self.start is None else self.start), float(self.end))


@dataclass(frozen=True)
class Values(Schedule):
    """Take listed values from listed steps on; the control's own value before the first.

    Parameters
    ----------
    values : sequence of (step, value)
        In rising order of steps. A value may be of any type that the control takes.
    """

    values: Sequence[tuple[int, Any]]

    def __post_init__(self) -> None:
        if isinstance(self.values, (str, Mapping)) or not isinstance(self.values, Sequence) or not self.values:
            raise ExperimentError(
                f"Values: {self.values!r} is not allowed; it must be a list such as [(1000, 1e-3), (5000, 1e-4)]"
            )
        pairs = []
        last = 0
        for pair in self.values:
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise ExperimentError(f"Values: {pair!r} is not allowed; each entry must be a pair (step, value)")
            step = _count("Values", "step", pair[0])
            if step <= last:
                raise ExperimentError(f"Values: step {step} follows step {last}; the steps must rise")
            if isinstance(pair[1], float):
                _number("Values", f"value at step {step}", pair[1])
            last = step
            pairs.append((step, tuple(pair[1]) if isinstance(pair[1], list) else pair[1]))
        object.__setattr__(self, "values", tuple(pairs))

    def value(self, step: int, base: Any) -> Any:
        """Return the newest listed value at `step`."""
        current = base
        for first, value in self.values:
            if first > step:
                break
            current = value
        return current

    def continued(self, step: int, value: Any, base: Any) -> tuple[Values, Any]:
        """Return the list with `value` from `step` on until its next entry."""
        later = [pair for pair in self.values if pair[0] > step]
        return Values([(max(step, 1), value), *later]), base

    def describe(self) -> str:
        """Return the first changes."""
        shown = ", ".join(f"{value} from {step}" for step, value in self.values[:3])
        return shown + (", …" if len(self.values) > 3 else "")

    def extremes(self, base: Any) -> tuple[Any, ...]:
        """Return all values."""
        return (base, *(value for _, value in self.values))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Fall from `start` to `end` along half a cosine, after a linear warm-up from near 0.

    Parameters
    ----------
    start : float or None
        Highest value; None takes the control's own.
    end : float
        Value from step `steps` on.
    steps : int
        The step that runs with `end`.
    warmup : int
        Steps in which the value rises linearly; step `warmup` runs with `start`.

    References
    ----------
    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, eq. 5.
    """

    start: float | None
    end: float
    steps: int
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.start is not None:
            _number("Cosine", "start", self.start)
        _number("Cosine", "end", self.end)
        _count("Cosine", "steps", self.steps)
        _count("Cosine", "warmup", self.warmup, minimum=0)
        if self.warmup >= self.steps:
            raise ExperimentError(
                f"Cosine: warmup={self.warmup} is not allowed; it must be less than steps={self.steps}"
            )

    def _weight(self, step: int) -> float:
        first = max(self.warmup, 1)
        if step >= self.steps:
            return 0.0
        return 0.5 * (1.0 + math.cos(math.pi * max(step - first, 0) / (self.steps - first)))

    def value(self, step: int, base: Any) -> float:
        """Return the point of the curve at `step`."""
        start = float(base if self.start is None else self.start)
        if step < self.warmup:
            return start * step / self.warmup
        weight = self._weight(step)
        return start * weight + self.end * (1.0 - weight)

    def continued(self, step: int, value: Any, base: Any) -> tuple[Cosine, Any]:
        """Return the curve whose start is such that it passes through `value` at `step`, with the same end."""
        new = float(value)
        if step < self.warmup:
            return dataclasses.replace(self, start=new * self.warmup / step), base
        weight = self._weight(step)
        if weight < 1e-6:  # the end has been reached: hold
            return dataclasses.replace(self, start=new, end=new), base
        return dataclasses.replace(self, start=(new - self.end * (1.0 - weight)) / weight), base

    def describe(self) -> str:
        """Return where the curve leads."""
        start = "" if self.start is None else f"{self.start:g} "
        warmup = f", {self.warmup} steps warm-up" if self.warmup else ""
        return f"cosine {start}→ {self.end:g} at step {self.steps}{warmup}"

    def extremes(self, base: Any) -> tuple[float, ...]:
        """Return start, end, and what the first step of a warm-up runs with."""
        start = float(base if self.start is None else self.start)
        return (start, float(self.end), self.value(1, base))


SCHEDULES: dict[str, type[Schedule]] = {cls.__name__: cls for cls in (StepDecay, Linear, Values, Cosine)}
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

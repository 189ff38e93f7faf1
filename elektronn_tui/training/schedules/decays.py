"""Schedules that lead from one value to another: in steps, lines, and powers."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ExperimentError

from .schedule import Schedule, count, number

__all__ = ["Linear", "Polynomial", "StepDecay"]


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
        factor = number("StepDecay", "factor", self.factor)
        if factor <= 0:
            raise ExperimentError(f"StepDecay: factor={self.factor!r} is not allowed; it must be > 0")
        count("StepDecay", "every", self.every)

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
            number("Linear", "start", self.start)
        number("Linear", "end", self.end)
        count("Linear", "first", self.first)
        count("Linear", "steps", self.steps)

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
class Polynomial(Schedule):
    """Go from `start` to `end` as a power of the steps that remain.

    Parameters
    ----------
    start : float or None
        Value at the first step; None takes the control's own.
    end : float
        Value from step `steps` on.
    steps : int
        The step that runs with `end`.
    power : float
        1 is a straight line; the higher, the faster at first.
    """

    start: float | None
    end: float
    steps: int
    power: float = 0.9

    def __post_init__(self) -> None:
        if self.start is not None:
            number("Polynomial", "start", self.start)
        number("Polynomial", "end", self.end)
        count("Polynomial", "steps", self.steps)
        if number("Polynomial", "power", self.power) <= 0:
            raise ExperimentError(f"Polynomial: power={self.power!r} is not allowed; it must be > 0")

    def _weight(self, step: int) -> float:
        return 0.0 if step >= self.steps else float((1.0 - (step - 1) / (self.steps - 1)) ** self.power)

    def value(self, step: int, base: Any) -> float:
        """Return end + (start − end) × (1 − (step − 1) / (steps − 1)) ^ power."""
        start, weight = float(base if self.start is None else self.start), self._weight(step)
        return start * weight + self.end * (1.0 - weight)

    def continued(self, step: int, value: Any, base: Any) -> tuple[Polynomial, Any]:
        """Return the curve whose start is such that it passes through `value` at `step`, with the same end."""
        new, weight = float(value), self._weight(step)
        if weight < 1e-6:  # the end has been reached: hold
            return dataclasses.replace(self, start=new, end=new), base
        return dataclasses.replace(self, start=(new - self.end * (1.0 - weight)) / weight), base

    def describe(self) -> str:
        """Return where the curve leads."""
        start = "" if self.start is None else f"{self.start:g} "
        return f"power {self.power:g}: {start}→ {self.end:g} at step {self.steps}"

    def extremes(self, base: Any) -> tuple[float, ...]:
        """Return both ends."""
        return (float(base if self.start is None else self.start), float(self.end))

"""Schedules that rise and fall: cosine, one cycle, warm-up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ExperimentError

from .schedule import Schedule, count, number

__all__ = ["Cosine", "OneCycle", "WarmUp"]


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
            number("Cosine", "start", self.start)
        number("Cosine", "end", self.end)
        count("Cosine", "steps", self.steps)
        count("Cosine", "warmup", self.warmup, minimum=0)
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


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise to a peak and fall below the start, each along half a cosine.

    Parameters
    ----------
    peak : float or None
        Highest value; None takes the control's own.
    steps : int
        The step that runs with the last value.
    rise : float
        Share of the steps in which the value rises.
    first, last : float
        Values of the first and last step, as multiples of `peak`. A momentum that falls while the learning rate rises
        has both above 1.

    References
    ----------
    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2018.
    """

    peak: float | None
    steps: int
    rise: float = 0.3
    first: float = 0.04
    last: float = 4e-6

    def __post_init__(self) -> None:
        if self.peak is not None:
            number("OneCycle", "peak", self.peak)
        count("OneCycle", "steps", self.steps, minimum=3)
        if not 0 < number("OneCycle", "rise", self.rise) < 1:
            raise ExperimentError(f"OneCycle: rise={self.rise!r} is not allowed; it must be > 0 and < 1")
        for field in ("first", "last"):
            if number("OneCycle", field, getattr(self, field)) <= 0:
                raise ExperimentError(
                    f"OneCycle: {field}={getattr(self, field)!r} is not allowed; it must be > 0, a multiple of the peak"
                )

    def _factor(self, step: int) -> float:
        top = 1 + self.rise * (self.steps - 1)
        if step <= top:
            low, done = self.first, (step - 1) / (top - 1)
        else:
            low, done = self.last, (self.steps - min(step, self.steps)) / (self.steps - top)
        return low + (1.0 - low) * 0.5 * (1.0 - math.cos(math.pi * done))

    def value(self, step: int, base: Any) -> float:
        """Return the point of the cycle at `step`."""
        return float(base if self.peak is None else self.peak) * self._factor(step)

    def continued(self, step: int, value: Any, base: Any) -> tuple[OneCycle, Any]:
        """Return the cycle with the peak that gives `value` at `step`."""
        return dataclasses.replace(self, peak=float(value) / self._factor(step)), base

    def describe(self) -> str:
        """Return the peak and where it is."""
        peak = "" if self.peak is None else f"to {self.peak:g} "
        return f"one cycle {peak}at step {1 + self.rise * (self.steps - 1):.0f} of {self.steps}"

    def extremes(self, base: Any) -> tuple[float, ...]:
        """Return the peak and both ends."""
        peak = float(base if self.peak is None else self.peak)
        return (peak, peak * self.first, peak * self.last)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Rise linearly from near 0 to what another schedule, or the control's own value, gives.

    Parameters
    ----------
    steps : int
        The step that runs with the whole value.
    then : Schedule, optional
        It counts its steps from the first one, not from the end of the warm-up.
    """

    steps: int
    then: Schedule | None = None

    def __post_init__(self) -> None:
        count("WarmUp", "steps", self.steps)
        if isinstance(self.then, Mapping):
            from . import schedule_from_dict

            object.__setattr__(self, "then", schedule_from_dict(self.then))
        if self.then is not None and not isinstance(self.then, Schedule):
            raise ExperimentError(f"WarmUp: then={self.then!r} is not allowed; it must be a schedule, or none")

    def _factor(self, step: int) -> float:
        return min(step / self.steps, 1.0)

    def value(self, step: int, base: Any) -> float:
        """Return min(step / steps, 1) × the value of the other schedule."""
        return float(base if self.then is None else self.then.value(step, base)) * self._factor(step)

    def continued(self, step: int, value: Any, base: Any) -> tuple[WarmUp, Any]:
        """Return the same warm-up to a schedule that goes on from the value that `value` would grow to."""
        whole = float(value) / self._factor(step)
        if self.then is None:
            return self, whole
        then, base = self.then.continued(step, whole, base)
        return dataclasses.replace(self, then=then), base

    def describe(self) -> str:
        """Return the length and what follows."""
        return f"{self.steps} steps warm-up" + (f", {self.then.describe()}" if self.then is not None else "")

    def extremes(self, base: Any) -> tuple[float, ...]:
        """Return those of the other schedule and the first value."""
        rest = (float(base),) if self.then is None else self.then.extremes(base)
        return (*rest, self.value(1, base))

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as plain values, the other one within."""
        then = self.then.to_dict() if self.then is not None else None
        return {"kind": "WarmUp", "steps": self.steps, "then": then}

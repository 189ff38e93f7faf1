"""What every schedule can do."""

from __future__ import annotations

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ExperimentError

__all__ = ["Schedule", "count", "number"]


def number(owner: str, field: str, value: Any) -> float:
    """Return a finite number, or say which field of which schedule it is not allowed for."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ExperimentError(f"{owner}: {field}={value!r} is not allowed; it must be a finite number")
    return float(value)


def count(owner: str, field: str, value: Any, minimum: int = 1) -> int:
    """Return a whole number from `minimum` on, or say which field of which schedule it is not allowed for."""
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

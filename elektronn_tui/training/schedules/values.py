"""Schedules that take values from lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ExperimentError

from .schedule import Schedule, count, number

__all__ = ["Alternate", "Values"]


@dataclass(frozen=True)
class Values(Schedule):
    """Take listed values from listed steps on; the control's own value before the first.

    Parameters
    ----------
    values : sequence of (step, value)
        In rising order of steps. A value may be of any type that the control takes.
    factor : float
        Numbers are multiplied by it after each `every` steps since they were listed; 1 leaves all as they are.
    every : int
        Steps between two such changes.
    """

    values: Sequence[tuple[int, Any]]
    factor: float = 1.0
    every: int = 1000

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
            step = count("Values", "step", pair[0])
            if step <= last:
                raise ExperimentError(f"Values: step {step} follows step {last}; the steps must rise")
            if isinstance(pair[1], float):
                number("Values", f"value at step {step}", pair[1])
            last = step
            pairs.append((step, tuple(pair[1]) if isinstance(pair[1], list) else pair[1]))
        object.__setattr__(self, "values", tuple(pairs))
        if number("Values", "factor", self.factor) <= 0:
            raise ExperimentError(f"Values: factor={self.factor!r} is not allowed; it must be > 0")
        count("Values", "every", self.every)
        if self.factor != 1:
            for step, value in pairs:
                number("Values", f"value at step {step}", value)

    def value(self, step: int, base: Any) -> Any:
        """Return the newest listed value at `step`, times the factor as often as it is due."""
        since, current = 1, base
        for first, value in self.values:
            if first > step:
                break
            since, current = first, value
        return current if self.factor == 1 else float(current) * self.factor ** ((step - since) // self.every)

    def continued(self, step: int, value: Any, base: Any) -> tuple[Values, Any]:
        """Return the list with `value` from `step` on until its next entry."""
        later = [pair for pair in self.values if pair[0] > step]
        return dataclasses.replace(self, values=[(max(step, 1), value), *later]), base

    def describe(self) -> str:
        """Return the first changes."""
        shown = ", ".join(f"{value} from {step}" for step, value in self.values[:3])
        shown += ", …" if len(self.values) > 3 else ""
        return shown if self.factor == 1 else f"{shown}; × {self.factor:g} / {self.every} steps"

    def extremes(self, base: Any) -> tuple[Any, ...]:
        """Return all values, and 0 where they decay."""
        values = (base, *(value for _, value in self.values))
        return values if self.factor >= 1 else (*values, 0.0)


@dataclass(frozen=True)
class Alternate(Schedule):
    """Take turns between values.

    Parameters
    ----------
    values : sequence
        Two or more, of any type that the control takes.
    every : int
        Steps until the next one's turn.
    """

    values: Sequence[Any]
    every: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.values, (str, Mapping)) or not isinstance(self.values, Sequence) or len(self.values) < 2:
            raise ExperimentError(
                f"Alternate: {self.values!r} is not allowed; it must be a list of values, such as [0.0, 1.0]"
            )
        values = tuple(tuple(value) if isinstance(value, list) else value for value in self.values)
        for value in values:
            if isinstance(value, float):
                number("Alternate", "value", value)
        object.__setattr__(self, "values", values)
        count("Alternate", "every", self.every)

    def _turn(self, step: int) -> int:
        return (step - 1) // self.every % len(self.values)

    def value(self, step: int, base: Any) -> Any:
        """Return the value whose turn it is."""
        return self.values[self._turn(step)]

    def continued(self, step: int, value: Any, base: Any) -> tuple[Alternate, Any]:
        """Return the same with `value` in the place of the one whose turn it is."""
        values = list(self.values)
        values[self._turn(step)] = value
        return dataclasses.replace(self, values=values), base

    def describe(self) -> str:
        """Return the values and how long each lasts."""
        return f"{' ↔ '.join(map(str, self.values))} / {self.every} step{'s' if self.every > 1 else ''}"

    def extremes(self, base: Any) -> tuple[Any, ...]:
        """Return all values."""
        return tuple(self.values)

"""Values that can be set while a network trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ModelError

__all__ = ["Variable"]

Value = float | list[float] | None


@dataclass
class Variable:
    """A live, typed value of a node; it counts from the next forward pass on.

    Assigning ``value`` checks type, length and limits.

    Attributes
    ----------
    value : float, list of float or None
    minimum, maximum : float or None
        Limits, both allowed themselves unless `exclusive_maximum`.
    help : str
        One sentence for people.
    length : int or None
        Number of entries if the value is a list.
    optional : bool
        Whether None is a value.
    not_all_zero : bool
        Whether one entry at least must differ from 0.
    """

    value: Value
    minimum: float | None = None
    maximum: float | None = None
    help: str = ""
    exclusive_maximum: bool = False
    length: int | None = None
    optional: bool = False
    not_all_zero: bool = False

    def __post_init__(self) -> None:
        self.value = self.value

    def __setattr__(self, name: str, value: Any) -> None:
        # During __init__ the value comes before the limits: it is checked in __post_init__.
        if name == "value" and "optional" in self.__dict__:
            value = self._checked(value)
        object.__setattr__(self, name, value)

    def _checked(self, value: Any) -> Value:
        if value is None:
            if not self.optional:
                raise ModelError(f"None is no value here; allowed is {self.allowed}.")
            return None
        if self.length is None:
            return self._number(value)
        try:
            values = [self._number(v) for v in value]
        except TypeError:
            raise ModelError(f"{value!r} is no list of numbers; allowed is {self.allowed}.") from None
        if len(values) != self.length:
            raise ModelError(f"{values} has {len(values)} entries; allowed is {self.allowed}.")
        if self.not_all_zero and not any(values):
            raise ModelError(f"{values} is 0 everywhere; allowed is {self.allowed}.")
        return values

    def _number(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ModelError(f"{value!r} is no number; allowed is {self.allowed}.") from None
        low = self.minimum is not None and number < self.minimum
        high = self.maximum is not None and (
            number >= self.maximum if self.exclusive_maximum else number > self.maximum
        )
        if low or high or not math.isfinite(number):
            raise ModelError(f"{number:g} is not allowed; it must be {self.allowed}.")
        return number

    @property
    def allowed(self) -> str:
        """What may be assigned, in words."""
        limits = []
        if self.minimum is not None:
            limits.append(f"from {self.minimum:g}")
        if self.maximum is not None:
            limits.append(f"{'below' if self.exclusive_maximum else 'to'} {self.maximum:g}")
        what = "a number" if self.length is None else f"a list of {self.length} numbers"
        if self.not_all_zero:
            limits.append("that are not all 0")
        return " ".join([what, *limits]) + (" or None" if self.optional else "")

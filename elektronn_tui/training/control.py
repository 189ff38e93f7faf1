"""A live value of a session: what it is called, which values it takes, and how texts are read as such."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import ControlError, did_you_mean

__all__ = ["TYPES", "Control"]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
TYPES = ("float", "int", "bool", "choice", "floats", "text")


@dataclass(frozen=True, kw_only=True)
class Control:
    """What a control is and how it is read and written.

    Parameters
    ----------
    name : str
        As in ``elektronn set SESSION name=value``.
    type : {"float", "int", "bool", "choice", "floats", "text"}
        ``floats`` is a tuple of numbers, written ``0.5,0.5``.
    get, set : callable
        Read and write the value where it lives; called on the main thread.
    minimum, maximum : float or None
        Limits of a number, or of each of several; both allowed values, but for exclusive ones.
    choices : tuple of str
        What a ``choice`` may be.
    optional : bool
        Whether None is allowed, written ``none``.
    length : int or None
        How many numbers a ``floats`` has.
    check : callable or None
        Further test of a typed value: returns what must hold where it does not, else None. Must be pure.
    """

    name: str
    type: str
    get: Callable[[], Any]
    set: Callable[[Any], None]
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    choices: tuple[str, ...] = ()
    unit: str = ""
    help: str = ""
    optional: bool = False
    length: int | None = None
    check: Callable[[Any], str | None] | None = None

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ControlError(f"{self.name}: type {self.type!r} is not allowed; it must be one of {', '.join(TYPES)}")

    def limits(self) -> str:
        """Return what is allowed, as words that follow "it must be"."""
        bounds = []
        if self.minimum is not None:
            bounds.append(f"{'>' if self.exclusive_minimum else '≥'} {self.minimum:.15g}")
        if self.maximum is not None:
            bounds.append(f"{'<' if self.exclusive_maximum else '≤'} {self.maximum:.15g}")
        within = " and ".join(bounds)
        if self.type == "choice":
            words = "one of " + ", ".join(self.choices)
        elif self.type == "bool":
            words = "true or false"
        elif self.type == "text":
            words = "text"
        elif self.type == "floats":
            count = "one or more" if self.length is None else "one" if self.length == 1 else str(self.length)
            words = f"{count} number{'s' * (count != 'one')}"
            words += ("," if count == "one" else ", each") + " " + within if within else ""
        elif within:
            words = f"a {'whole ' * (self.type == 'int')}number {within}"
        else:
            words = "a whole number" if self.type == "int" else "a finite number"
        return words + (", or none" if self.optional else "")

    def parse(self, value: Any) -> Any:
        """Return `value`, a text or already typed, as this control's type.

        Raises
        ------
        ControlError
            It is of another type or outside the limits.
        """
        if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
            if self.optional:
                return None
            if self.type not in ("text", "choice"):
                raise self._refusal(value)
        if self.type == "text":
            if not isinstance(value, str):
                raise self._refusal(value)
            typed: Any = value
        elif self.type == "bool":
            typed = self._parse_bool(value)
        elif self.type == "choice":
            typed = self._parse_choice(value)
        elif self.type == "floats":
            typed = self._parse_floats(value)
        elif self.type == "int":
            typed = self._parse_int(value)
        else:
            typed = self._number(value, value)
        reason = self.check(typed) if self.check is not None else None
        if reason:
            raise ControlError(f"{self.name}: {_shown(value)} is not allowed; it must be {reason}")
        return typed

    def fitted(self, value: Any) -> Any:
        """Return a scheduled value as the control takes it: whole where that is its type, and within its limits."""
        if not isinstance(value, float):
            return value
        value = min(value, self.maximum) if self.maximum is not None else value
        value = max(value, self.minimum) if self.minimum is not None else value
        return round(value) if self.type == "int" else value

    def _refusal(self, value: Any, more: str = "") -> ControlError:
        return ControlError(f"{self.name}: {_shown(value)} is not allowed; it must be {self.limits()}{more}")

    def _parse_bool(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise self._refusal(value)
        return text in _TRUE

    def _parse_choice(self, value: Any) -> str:
        text = str(value).strip()
        for choice in self.choices:
            if choice.lower() == text.lower():
                return choice
        raise self._refusal(value, "." + did_you_mean(text, self.choices) if did_you_mean(text, self.choices) else "")

    def _parse_floats(self, value: Any) -> tuple[float, ...]:
        if isinstance(value, str):
            parts: Sequence[Any] = [part for part in value.strip().strip("[]()").split(",") if part.strip()]
        elif isinstance(value, numbers.Real):
            parts = [value]
        else:
            try:
                parts = list(value)
            except TypeError:
                raise self._refusal(value) from None
        if not parts or (self.length is not None and len(parts) != self.length):
            raise self._refusal(value)
        return tuple(self._number(part, value) for part in parts)

    def _parse_int(self, value: Any) -> int:
        try:
            exact: int | None = int(value.strip()) if isinstance(value, str) else None
        except ValueError:
            exact = None
        number = self._number(value if exact is None else exact, value)
        if not number.is_integer():
            raise self._refusal(value)
        self._check_limits(number, value)
        return exact if exact is not None else int(value) if isinstance(value, numbers.Integral) else int(number)

    def _number(self, part: Any, value: Any) -> float:
        if isinstance(part, bool) or not isinstance(part, (str, numbers.Real)):
            raise self._refusal(value)
        try:
            number = float(part)
        except (ValueError, OverflowError):
            raise self._refusal(value) from None
        if not math.isfinite(number):
            raise ControlError(f"{self.name}: {_shown(value)} is not allowed; it must be finite")
        self._check_limits(number, value)
        return number

    def _check_limits(self, number: float, value: Any) -> None:
        low, high = self.minimum, self.maximum
        below = low is not None and (number <= low if self.exclusive_minimum else number < low)
        above = high is not None and (number >= high if self.exclusive_maximum else number > high)
        if below or above:
            raise self._refusal(value)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if 0 < len(text) <= 80 else repr(text[:77] + "...") if text else "an empty text"

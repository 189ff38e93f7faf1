"""Ranges of random quantities, checked when they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

__all__ = [
    "Range",
    "black_and_span",
    "check_choices",
    "check_number",
    "check_probability",
    "check_switch",
    "drawn",
    "drawn_count",
    "end_of",
    "set_counts",
    "set_range",
    "some_sections",
]

Range = tuple[float, float]


def set_range(owner: Any, name: str, minimum: float, maximum: float) -> None:
    """Make the field `name` of a frozen dataclass a range (low, high) of floats; one number stands for both ends.

    Raises
    ------
    DataError
        It is no range within `minimum` and `maximum`: names class, field and value.
    """
    value = getattr(owner, name)
    ends = (value, value) if _is_number(value) else value
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not minimum <= low <= high <= maximum:
        raise DataError(
            f"{type(owner).__name__}: {name}={value!r}; a number or a range (low, high) within {minimum:g} and "
            f"{maximum:g} is needed."
        )
    object.__setattr__(owner, name, (low, high))


def set_counts(owner: Any, name: str, minimum: int, maximum: int) -> None:
    """Do what `set_range` does for whole numbers; both ends of (least, most) are drawn."""
    value = getattr(owner, name)
    ends = (value, value) if _is_number(value) else value
    good = isinstance(ends, Sequence) and len(ends) == 2 and all(_is_number(end) and end == int(end) for end in ends)
    if not good or not minimum <= ends[0] <= ends[1] <= maximum:
        raise DataError(
            f"{type(owner).__name__}: {name}={value!r}; a whole number or two (least, most) from {minimum} to "
            f"{maximum} are needed."
        )
    object.__setattr__(owner, name, (int(ends[0]), int(ends[1])))


def check_number(owner: Any, name: str, minimum: float, maximum: float) -> None:
    """Raise DataError unless the field `name` is a number within the limits."""
    value = getattr(owner, name)
    if not _is_number(value) or not minimum <= value <= maximum:
        raise DataError(
            f"{type(owner).__name__}: {name}={value!r}; a number from {minimum:g} to {maximum:g} is needed."
        )


def check_probability(owner: Any, name: str) -> None:
    """Raise DataError unless the field `name` is a number from 0 to 1."""
    value = getattr(owner, name)
    if not _is_number(value) or not 0 <= value <= 1:
        raise DataError(f"{type(owner).__name__}: {name}={value!r}; a probability from 0 to 1 is needed.")


def check_switch(owner: Any, name: str) -> None:
    """Raise DataError unless the field `name` is true or false."""
    value = getattr(owner, name)
    if not isinstance(value, bool | np.bool_):
        raise DataError(f"{type(owner).__name__}: {name}={value!r}; true or false is needed.")


def check_choices(owner: Any, name: str, known: Sequence[str]) -> None:
    """Make the field `name` a tuple of some of the `known` words; one word stands for itself."""
    value = getattr(owner, name)
    words = (value,) if isinstance(value, str) else value
    wrong = [word for word in words if word not in known] if isinstance(words, Sequence) else [value]
    if wrong or not words:
        hint = did_you_mean(str(wrong[0]), known) if wrong else ""
        raise DataError(
            f"{type(owner).__name__}: {name}={value!r}; one or more of {', '.join(known)} are needed.{hint}"
        )
    object.__setattr__(owner, name, tuple(words))


def end_of(values: float | Range, which: int) -> float:
    """Return an end of a range that `set_range` has made one."""
    assert isinstance(values, tuple)
    return values[which]


def drawn(rng: np.random.Generator, values: float | Range, size: int | None = None) -> Any:
    """Draw from a range that `set_range` has made one: a float, or `size` of them (float64)."""
    return rng.uniform(end_of(values, 0), end_of(values, 1), size)


def drawn_count(rng: np.random.Generator, values: int | tuple[int, int]) -> int:
    """Draw from the counts that `set_counts` has made two."""
    assert isinstance(values, tuple)
    return int(rng.integers(values[0], values[1], endpoint=True))


def some_sections(rng: np.random.Generator, number: int | tuple[int, int], depth: int) -> list[int]:
    """Draw as many different sections as `number` says, in order; all but one of `depth` at most."""
    count = min(drawn_count(rng, number), depth - 1)
    return sorted(rng.choice(depth, count, replace=False).tolist())


def black_and_span(
    channels: int,
    scale: Sequence[float] | npt.NDArray[Any] | float,
    shift: Sequence[float] | npt.NDArray[Any] | float,
    limits: Range,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what black is in a scaled patch, and how far white is from it: (channels, 1, 1, 1) each.

    `limits` are black and white as stored; a stored value became ``value * scale + shift``.
    """
    factor, term = (np.broadcast_to(np.asarray(v, np.float64), channels) for v in (scale, shift))
    black, span = limits[0] * factor + term, (limits[1] - limits[0]) * factor
    return black.astype(np.float32).reshape(-1, 1, 1, 1), span.astype(np.float32).reshape(-1, 1, 1, 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)

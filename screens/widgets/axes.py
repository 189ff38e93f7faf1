"""Round ticks and short labels for the axes of a plot; plain numbers, no arrays."""

from __future__ import annotations

import math
from itertools import pairwise

__all__ = ["format_number", "format_time", "log_ticks", "number_ticks", "snap", "step_ticks", "time_ticks"]

_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_TIME_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def _round_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `count` parts."""
    raw = span / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5):
        if raw <= factor * magnitude * (1 + 1e-9):
            return factor * magnitude
    return 10 * magnitude


def snap(low: float, high: float, count: int) -> tuple[float, float]:
    """Widen a range to half ticks, so that it stays the same while the data inside it grow.

    Parameters
    ----------
    low, high : float
        Finite range of the data; may be empty.
    count : int
        Number of ticks that fit.

    Returns
    -------
    tuple of float
        Range that contains the data; never empty.
    """
    # What differs by less than this is the rounding of one value; below 1e-100 steps of an axis would be 0.
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-100):
        margin = abs(low) * 0.1 if abs(low) > 1e-100 else 1.0
        low, high = low - margin, high + margin
    half = _round_step(high - low, count) / 2
    return math.floor(low / half + 1e-9) * half, math.ceil(high / half - 1e-9) * half


def number_ticks(low: float, high: float, count: int, least: float = 0.0) -> list[tuple[float, str]]:
    """Round ticks in a linear range, at least `least` apart, as (value, label)."""
    if not high > low:
        return [(low, format_number(low))]
    step = max(_round_step(high - low, count), least)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    values = [number * step for number in range(first, last + 1)]
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e4 and step >= 1:
        return [(value, _with_prefix(value)) for value in values]
    exponent = math.floor(math.log10(step) + 1e-9)
    if exponent < -5:
        return [(value, format_number(value, 4)) for value in values]
    return [(value, f"{value + 0.0:.{max(-exponent, 0)}f}") for value in values]


def step_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Round ticks in a range of steps, as (value, label): there is nothing between two steps."""
    return number_ticks(low, high, count, least=1.0)


def log_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Ticks at powers of ten (and at 2 and 5 times those, if there is room) in a range of positive values."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    decades = max(last - first, 1)
    factors = (1, 2, 5) if decades * 3 <= count else (1,)
    every = max(1, -(-decades // max(count, 1)))
    values = [
        factor * 10.0**power
        for power in range(first, last + 1)
        if power % every == 0 or len(factors) > 1
        for factor in factors
    ]
    inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    if len(inside) < 2:
        return [tick for tick in number_ticks(low, high, count) if tick[0] > 0]
    return [(value, format_number(value)) for value in inside]


def time_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Round ticks in a range of seconds, as (value, label)."""
    if not high > low:
        return [(low, format_time(low))]
    raw = (high - low) / max(count, 1)
    if raw < 1:
        return [(value, f"{label}s") for value, label in number_ticks(low, high, count)]
    step = next((step for step in _TIME_STEPS if step >= raw), None)
    if step is None:
        step = int(_round_step((high - low) / 86400, count) * 86400) or 86400
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [(number * step, format_time(number * step)) for number in range(first, last + 1)]


def format_time(seconds: float) -> str:
    """Seconds as ``90s``, ``1h30``, ``2d``: at most two units."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(round(seconds))
    for (size, unit), (smaller, _) in pairwise(_TIME_UNITS):
        if seconds >= size:
            rest = int(seconds % size // smaller)
            return f"{sign}{int(seconds // size)}{unit}{f'{rest:02}' if rest else ''}"
    return f"{sign}{seconds}s"


def format_number(value: float, digits: int = 4) -> str:
    """A value in few characters: ``0.0123``, ``1.2e-5``, ``nan``."""
    if value and math.isfinite(value) and not 1e-3 <= abs(value) < 10**6:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def _with_prefix(value: float) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{prefix}"
    return f"{value:.6g}"

"""From series to dots: the part of drawing curves that needs numpy (imported with the first curve)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .series import Look, Series

__all__ = ["Curve", "Frame", "make_curve", "raster", "shown_range"]

# Without colour: dots drawn and left out along a line.
_DASHES = ((1, 0), (5, 3), (1, 2), (9, 3), (2, 2), (3, 6))
# Unicode numbers the dots of a cell down the left column, down the right, then the last row.
_BITS = (0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80)

OUTSIDE = 0.02
"""Part of a band's ends that may lie outside the y range, on either side."""


@dataclass
class Curve:
    """A series on its way to the screen: float64 arrays; `number` picks colour and dash."""

    number: int
    name: str
    last: float
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None


@dataclass
class Frame:
    """The plot's ranges in data and its size in cells and dots."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    dots: tuple[int, int] = (2, 4)

    @property
    def columns(self) -> int:
        """Width in dots."""
        return self.width * self.dots[0]

    @property
    def rows(self) -> int:
        """Height in dots."""
        return self.height * self.dots[1]

    def column(self, x: Any) -> Any:
        """Where `x` lies, in dots from the left."""
        return (x - self.x[0]) * ((self.columns - 1) / (self.x[1] - self.x[0]))

    def row(self, y: Any) -> Any:
        """Where `y` lies, in dots from the top."""
        return (self.y[1] - y) * ((self.rows - 1) / (self.y[1] - self.y[0]))


def make_curve(number: int, series: Series, look: Look) -> Curve | None:
    """Arrays of a series as they are to be drawn (log10 on a log axis); None if it has no x for this axis."""
    x = series.step if look.x_axis == "step" else series.time
    if x is None:
        return None
    x = np.asarray(x, np.float64)
    mean = np.asarray(series.mean, np.float64)
    last = series.last
    if last is None:
        last = float(mean[-1]) if len(mean) else math.nan
    if look.smoothing > 0:
        mean = _smoothed(mean, look.smoothing)
    band = look.band and series.low is not None and series.high is not None
    low = np.asarray(series.low, np.float64) if band else None
    high = np.asarray(series.high, np.float64) if band else None
    if look.log_y:
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(mean > 0, np.log10(mean), np.nan)
            if high is not None and low is not None:
                high = np.where(high > 0, np.log10(high), np.nan)
                # A band that reaches below zero ends at its mean: it has no lower end on this axis.
                low = np.where(low > 0, np.log10(low), mean)
    return Curve(number, series.name, last, x, mean, low, high)


def _smoothed(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Exponential moving average without the bias towards the start; NaN stays where it is."""
    weight = min(weight, 0.9999)
    average, total, result = 0.0, 0.0, []
    for value in values.tolist():
        if math.isfinite(value):
            average = weight * average + (1 - weight) * value
            total = weight * total + (1 - weight)
            result.append(average / total)
        else:
            result.append(value)
    return np.array(result, np.float64)


def _per_column(
    frame: Frame, x: NDArray[np.float64], values: NDArray[np.float64], how: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Reduce values to one for each dot column that has any: its mean, minimum or maximum (NaN if all are)."""
    column = np.clip(np.rint(frame.column(x)), 0, frame.columns - 1).astype(np.int64)
    new = column[1:] != column[:-1]
    if new.all():
        return column, values
    starts = np.concatenate(([0], np.flatnonzero(new) + 1))
    if how == "mean":
        finite = np.isfinite(values)
        count = np.add.reduceat(finite.astype(np.float64), starts)
        total = np.add.reduceat(np.where(finite, values, 0.0), starts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return column[starts], np.where(count > 0, total / count, np.nan)
    return column[starts], (np.fmin if how == "low" else np.fmax).reduceat(values, starts)


def _spans(
    column: NDArray[np.int64], row: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Dot columns of a curve through points, gaps left out; and the points that are not NaN."""
    good = np.flatnonzero(np.isfinite(row))
    if len(good) == 0:
        return column[:0], column[:0], row[:0]
    x, y = column[good], row[good]
    columns = np.arange(x[0], x[-1] + 1)
    if len(good) == 1:
        return columns, x, y
    broken = np.diff(good) > 1
    if broken.any():
        after = np.clip(np.searchsorted(x, columns, side="right") - 1, 0, len(broken) - 1)
        inside = broken[after] & ~np.isin(columns, x)
        columns = columns[~inside]
    return columns, x, y


def _fill(dots: NDArray[np.bool_], columns: NDArray[np.int64], top: NDArray[Any], bottom: NDArray[Any]) -> None:
    """Set the dots from `top` to `bottom` (rows, rounded) in each of `columns`."""
    height = dots.shape[0]
    first = np.clip(np.rint(top), 0, height - 1).astype(np.int16)
    last = np.clip(np.rint(bottom), 0, height - 1).astype(np.int16)
    rows = np.arange(height, dtype=np.int16)[:, None]
    dots[:, columns] |= (rows >= first) & (rows <= last)


def _line_dots(frame: Frame, curve: Curve, dashed: bool) -> NDArray[np.bool_]:
    dots = np.zeros((frame.rows, frame.columns), bool)
    column, mean = _per_column(frame, curve.x, curve.mean, "mean")
    columns, x, y = _spans(column, frame.row(mean))
    if not len(columns):
        return dots
    if len(columns) == 1:
        # A single point is one dot: too little to see.
        columns = np.unique(np.clip(columns[0] + np.arange(-1, 2), 0, frame.columns - 1))
    elif dashed:
        on, off = _DASHES[curve.number % len(_DASHES)]
        kept = columns[columns % (on + off) < on]
        columns = kept if len(kept) else columns
    left, middle, right = (np.interp(columns + offset, x, y) for offset in (-0.5, 0.0, 0.5))
    top, bottom = np.minimum(left, right), np.maximum(left, right)
    # A column's part of the line ends where the next one starts, not on the same dot; a peak stays whole.
    shrink = np.where(bottom - top > 1, 0.5, 0.0)
    _fill(dots, columns, np.minimum(top + shrink, middle), np.maximum(bottom - shrink * 0.99, middle))
    return dots


def _band_dots(frame: Frame, curve: Curve) -> NDArray[np.bool_] | None:
    if curve.low is None or curve.high is None:
        return None
    dots = np.zeros((frame.rows, frame.columns), bool)
    column, low = _per_column(frame, curve.x, curve.low, "low")
    _, high = _per_column(frame, curve.x, curve.high, "high")
    both = np.isfinite(low) & np.isfinite(high)
    columns, x, bottom = _spans(column, frame.row(np.where(both, low, np.nan)))
    if not len(columns):
        return dots
    top = frame.row(high[both])
    _fill(dots, columns, np.interp(columns, x, top), np.interp(columns, x, bottom))
    # Every second dot: a texture that is lighter than the line without colour too.
    dots[::2, ::2] = dots[1::2, 1::2] = False
    return dots


def _cells(frame: Frame, dots: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Braille bits of each cell (or 1 where an ASCII cell is set)."""
    if frame.dots == (1, 1):
        return dots.astype(np.uint32)
    bits = np.array(_BITS, np.float32)
    grid = dots.reshape(frame.height, 4, frame.width, 2).transpose(0, 2, 1, 3)
    cells: NDArray[np.uint32] = (grid.reshape(frame.height, frame.width, 8) @ bits).astype(np.uint32)
    return cells


def shown_range(lines: list[NDArray[np.float64]], bands: list[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Range that holds all of the lines and nearly all of the bands; None if nothing is finite.

    A few spikes of single steps would press the curves flat: they are drawn to the edge instead.
    """
    ends: list[float] = []
    for arrays, outside in ((lines, 0.0), (bands, OUTSIDE)):
        values = np.concatenate(arrays) if arrays else np.empty(0)
        values = values[np.isfinite(values)]
        if len(values):
            ends += np.quantile(values, (outside, 1 - outside)).tolist()
    return (min(ends), max(ends)) if ends else None


def raster(frame: Frame, curves: list[Curve], plain: bool) -> tuple[NDArray[np.uint32], NDArray[np.int16]]:
    """Draw curves into cells.

    Parameters
    ----------
    frame : Frame
        Ranges and size.
    curves : list of Curve
        The later ones on top; lines lie on top of all bands.
    plain : bool
        Draw lines unbroken (ASCII: each has its own character).

    Returns
    -------
    bits : ndarray of uint32, shape (height, width)
        Braille bits of each cell, or 1 for a set cell where cells have one dot.
    owner : ndarray of int16, shape (height, width)
        -1 for an empty cell, ``2 * number`` for a line of that curve, ``2 * number + 1`` for its band.
    """
    bits = np.zeros((frame.height, frame.width), np.uint32)
    lines = np.zeros_like(bits)
    owner = np.full(bits.shape, -1, np.int16)
    for curve in curves:
        band = _band_dots(frame, curve)
        if band is not None:
            cells = _cells(frame, band)
            owner[cells > 0] = 2 * curve.number + 1
            bits |= cells
    for curve in curves:
        cells = _cells(frame, _line_dots(frame, curve, dashed=not plain))
        owner[cells > 0] = 2 * curve.number
        lines |= cells
    # Where a line passes the band gives way, else the line is a blot.
    return np.where(lines > 0, lines, bits), owner

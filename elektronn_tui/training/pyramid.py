"""Reduce series to minimum, mean and maximum, level by level: pure functions on arrays of entries.

An entry of level 0 is a point; one of level n + 1 joins `FACTOR` entries of level n. Points that are not finite take
no part in minimum, mean and maximum; an entry of such points alone has a `count` of 0 and NaN for all three.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ENTRY", "FACTOR", "bucketed", "level_for", "points_to_entries", "reduced"]

FACTOR = 8
"""Entries that one entry of the next level joins."""

ENTRY = np.dtype(
    [
        ("first", "<i8"),  # step of the first point
        ("step", "<i8"),  # step of the last point
        ("time", "<f8"),  # training time of the last point in seconds
        ("minimum", "<f4"),
        ("mean", "<f8"),
        ("maximum", "<f4"),
        ("count", "<i4"),  # finite points
    ]
)
"""One entry, as it is stored."""

Entries = npt.NDArray[np.void]


def points_to_entries(step: npt.ArrayLike, time: npt.ArrayLike, value: npt.ArrayLike) -> Entries:
    """Return points as entries of level 0."""
    values = np.asarray(value, np.float64)
    entries = np.empty(len(values), ENTRY)
    entries["first"] = entries["step"] = step
    entries["time"] = time
    finite = np.isfinite(values)
    with np.errstate(over="ignore"):  # a loss beyond float32 shows as infinite
        for field in ("minimum", "mean", "maximum"):
            entries[field] = np.where(finite, values, np.nan)
    entries["count"] = finite
    return entries


def _joined(entries: Entries, starts: npt.NDArray[np.intp]) -> Entries:
    """Join runs of entries that begin at `starts`; the last run ends with the array."""
    out = np.empty(len(starts), ENTRY)
    if not len(starts):
        return out
    ends = np.append(starts[1:], len(entries)) - 1
    out["first"] = entries["first"][starts]
    out["step"] = entries["step"][ends]
    out["time"] = entries["time"][ends]
    out["minimum"] = np.fmin.reduceat(entries["minimum"], starts)
    out["maximum"] = np.fmax.reduceat(entries["maximum"], starts)
    counts = np.add.reduceat(entries["count"].astype(np.int64), starts)
    weighted = np.where(entries["count"] > 0, entries["mean"] * entries["count"], 0.0)
    sums = np.add.reduceat(weighted, starts)
    out["mean"] = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    out["count"] = np.minimum(counts, np.iinfo(np.int32).max)
    return out


def reduced(entries: Entries) -> tuple[Entries, Entries]:
    """Join each `FACTOR` entries into one of the next level.

    Returns
    -------
    joined, rest : ndarray of ENTRY
        The entries of the next level, and the last, fewer than `FACTOR`, that wait for more.
    """
    whole = len(entries) // FACTOR * FACTOR
    return _joined(entries[:whole], np.arange(0, whole, FACTOR)), entries[whole:]


def level_for(count: float, width: int) -> int:
    """Return the highest level that shows `count` points with at least `width` entries."""
    level = 0
    while count / FACTOR >= max(width, 1):
        count /= FACTOR
        level += 1
    return level


def bucketed(entries: Entries, first: int, last: int, width: int) -> Entries:
    """Join entries into at most `width` buckets of equal numbers of steps; empty buckets are left out."""
    if len(entries) <= width:
        return entries
    bucket = (entries["step"] - first) * width // max(last - first + 1, 1)
    starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    return _joined(entries, starts)

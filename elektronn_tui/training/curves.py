"""Read the history of a run, live or dead, at a cost that does not grow with its length.

SQLite's Python module gives the interpreter lock away for each row, and a training loop that computes in Python takes
5 ms to give it back: whatever is read beside such a loop comes in few rows.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import ElektronnError, did_you_mean
from elektronn_tui.session.protocol import Curve, MetricInfo

from .pyramid import ENTRY, Entries, bucketed, level_for, points_to_entries

__all__ = ["CurveData", "HistoryReader"]


@dataclass(frozen=True)
class CurveData:
    """A reduced series: arrays of one length, one entry a bucket.

    Attributes
    ----------
    count : int
        Points that were reduced, those that are not finite left out.
    step : ndarray of int64
        Last step of each bucket.
    time : ndarray of float64
        Training time of that step in seconds.
    minimum, mean, maximum : ndarray of float32
        NaN where no point of the bucket is finite.
    """

    metric: str
    count: int
    step: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    maximum: npt.NDArray[np.float32]

    def message(self) -> Curve:
        """Return the curve as it travels to clients."""
        return Curve(
            metric=self.metric,
            count=self.count,
            step=self.step.astype("<i8").tobytes(),
            time=self.time.astype("<f8").tobytes(),
            minimum=self.minimum.astype("<f4").tobytes(),
            mean=self.mean.astype("<f4").tobytes(),
            maximum=self.maximum.astype("<f4").tobytes(),
        )


class HistoryReader:
    """Read a history through a connection of its own; may be given to another thread, used by one at a time.

    Parameters
    ----------
    path : path-like
        ``history.sqlite`` of a run, live or dead.

    Raises
    ------
    ElektronnError
        The file is missing or not a history.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ElektronnError(f"{self.path}: there is no history")
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri()
        error: Exception | None = None
        for mode in ("mode=ro", "mode=ro&immutable=1"):  # the second where not even a lock file can be made
            connection = sqlite3.connect(
                f"{uri}?{mode}", uri=True, check_same_thread=False, isolation_level=None, timeout=5
            )
            try:
                connection.execute("SELECT count(*) FROM metrics").fetchone()
                return connection
            except sqlite3.Error as caught:
                connection.close()
                error = caught
        raise ElektronnError(f"{self.path}: not a readable history ({error})") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> HistoryReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def metrics(self) -> tuple[MetricInfo, ...]:
        """Return every series: its name, how many points it has, its last step and value."""
        rows = self._connection.execute("SELECT name, count, last_step, last_value FROM metrics ORDER BY id").fetchall()
        return tuple(MetricInfo(name=name, count=count, step=step, value=value) for name, count, step, value in rows)

    def curve(self, metric: str, first: int = 0, last: int | None = None, width: int = 400) -> CurveData:
        """Return a series between two steps, both included, reduced to at most `width` buckets.

        Parameters
        ----------
        metric : str
        first, last : int
            Steps; None for the newest.
        width : int
            Buckets, at least 1. A range with fewer points comes as it is.

        Raises
        ------
        ElektronnError
            No series goes by that name.
        """
        width = max(int(width), 1)
        with self._snapshot():
            number, count, begin, end = self._metric(metric)
            low = max(int(first), begin)
            high = end if last is None else min(int(last), end)
            if high < low:
                entries = np.empty(0, ENTRY)
            else:
                expected = count * (high - low + 1) / (end - begin + 1)
                entries = self._entries(number, level_for(expected, width), low, high)
        buckets = bucketed(entries, low, high, width)
        return CurveData(
            metric=metric,
            count=int(entries["count"].sum()),
            step=buckets["step"].astype(np.int64),
            time=buckets["time"].astype(np.float64),
            minimum=buckets["minimum"].astype(np.float32),
            mean=buckets["mean"].astype(np.float32),
            maximum=buckets["maximum"].astype(np.float32),
        )

    def points(
        self, metric: str, first: int = 0, last: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return steps, training times and values of a series exactly as published; NaN for what was NaN.

        Raises
        ------
        ElektronnError
            No series goes by that name.
        """
        with self._snapshot():
            number, _, _, end = self._metric(metric)
            rows = self._connection.execute(
                "SELECT step, time, value FROM points WHERE metric = ? AND step BETWEEN ? AND ? ORDER BY step",
                (number, int(first), end if last is None else int(last)),
            ).fetchall()
        step, time, value = zip(*rows, strict=True) if rows else ((), (), ())
        return np.array(step, np.int64), np.array(time, np.float64), np.array(value, np.float64)

    @contextlib.contextmanager
    def _snapshot(self) -> Any:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def _metric(self, name: str) -> tuple[int, int, int, int]:
        row = self._connection.execute(
            "SELECT id, count, first_step, last_step FROM metrics WHERE name = ?", (name,)
        ).fetchone()
        if row is None:
            known = [other for (other,) in self._connection.execute("SELECT name FROM metrics").fetchall()]
            if not known:
                raise ElektronnError(f"there is no metric yet, so none called {name!r}")
            hint = did_you_mean(name, known) or f" There are: {', '.join(known)}."
            raise ElektronnError(f"no metric is called {name!r}.{hint}")
        return tuple(row)

    def _points(self, metric: int, low: int, high: int) -> Entries:
        # One row instead of thousands: see the module's text. Seven digits would do for a curve.
        row = self._connection.execute(
            "SELECT json_group_array(step), '[' || group_concat(printf('%!.15g', time)) || ']', "
            "'[' || group_concat(iif(value IS NULL, 'NaN', printf('%!.15g', value))) || ']' FROM "
            "(SELECT step, time, value FROM points WHERE metric = ? AND step BETWEEN ? AND ? ORDER BY step)",
            (metric, low, high),
        ).fetchone()
        values = json.loads((row[2] or "[]").replace("Inf", "Infinity"))
        return points_to_entries(json.loads(row[0]), json.loads(row[1] or "[]"), values)

    def _entries(self, metric: int, level: int, low: int, high: int) -> Entries:
        """Return entries that cover exactly the points of a range: whole ones of `level`, both ends in finer ones."""
        if high < low:
            return np.empty(0, ENTRY)
        if level == 0:
            return self._points(metric, low, high)
        rows = self._connection.execute(
            "SELECT entries FROM chunks WHERE metric = ? AND level = ? AND last >= ? AND first <= ? ORDER BY number",
            (metric, level, low, high),
        ).fetchall()
        entries = np.frombuffer(b"".join(blob for (blob,) in rows), ENTRY)
        entries = entries[(entries["first"] >= low) & (entries["step"] <= high)]
        if not len(entries):
            return self._entries(metric, level - 1, low, high)
        before = self._entries(metric, level - 1, low, int(entries["first"][0]) - 1)
        after = self._entries(metric, level - 1, int(entries["step"][-1]) + 1, high)
        return np.concatenate([before, entries, after])

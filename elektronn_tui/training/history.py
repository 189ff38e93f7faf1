"""The metric series of a session in one SQLite file, appended by a thread of their own.

Table ``points`` has every value as it was published (NULL for NaN). Table ``chunks`` has the levels of `pyramid` as
blocks of little-endian `ENTRY` records, so that any curve is read from a few blocks whatever the length of the run.
Few rows matter: SQLite's Python module gives the interpreter lock away for each row, and a training loop that computes
in Python takes 5 ms to give it back.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import ElektronnError, did_you_mean
from elektronn_tui.session.protocol import Curve, MetricInfo

from .pyramid import ENTRY, FACTOR, Entries, bucketed, level_for, points_to_entries, reduced

__all__ = ["CurveData", "History", "HistoryReader", "is_network_file_system"]

CHUNK = 128
"""Entries in a block."""
FLUSH_SECONDS = 0.5
MAX_PENDING = 1_000_000
"""Published steps that wait for the disk at most; the oldest are dropped beyond it."""

_Published = tuple[int, float, tuple[tuple[str, Any], ...]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS format (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metrics (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, count INTEGER NOT NULL,
    first_step INTEGER NOT NULL, last_step INTEGER NOT NULL, last_value REAL);
CREATE TABLE IF NOT EXISTS points (
    metric INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL, value REAL,
    PRIMARY KEY (metric, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks (
    metric INTEGER NOT NULL, level INTEGER NOT NULL, number INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, entries BLOB NOT NULL,
    PRIMARY KEY (metric, level, number));
CREATE INDEX IF NOT EXISTS chunks_by_step ON chunks (metric, level, last, first);
"""
_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.sshfs", "9p", "glusterfs", "pvfs")


def is_network_file_system(path: Path) -> bool:
    """Tell whether `path` lies on a file system of another host, where SQLite's WAL mode must not be used."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    resolved = path.resolve()
    best, kind = -1, ""
    for line in mounts:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if (point == resolved or point in resolved.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind.startswith(_NETWORK) or "fuse.gluster" in kind


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
            raise ElektronnError(f"no metric is called {name!r}.{did_you_mean(name, known)}")
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


class _Series:
    """What the recorder keeps of a metric: what is not joined yet, level by level, and the open blocks."""

    def __init__(self, number: int, count: int = 0, first: int = 0, last: int = 0, value: float | None = None) -> None:
        self.number = number
        self.count = count
        self.first = first
        self.last = last
        self.value = value
        self.rest: list[Entries] = [np.empty(0, ENTRY)]  # by level
        self.open: list[Entries] = [np.empty(0, ENTRY)]  # entries of the newest block, by level; level 0 has none
        self.closed: list[int] = [0]  # full blocks, by level

    def level(self, level: int) -> None:
        """Make room for a level."""
        while len(self.rest) <= level:
            self.rest.append(np.empty(0, ENTRY))
            self.open.append(np.empty(0, ENTRY))
            self.closed.append(0)

    def append(self, points: Entries) -> Iterable[tuple[int, int, Entries]]:
        """Join new points upwards and yield the blocks (level, number, entries) that changed."""
        level, new = 0, points
        while len(new):
            if level > 0:
                block = np.concatenate([self.open[level], new])
                while len(block) >= CHUNK:
                    yield level, self.closed[level], block[:CHUNK]
                    self.closed[level] += 1
                    block = block[CHUNK:]
                self.open[level] = block
                if len(block):
                    yield level, self.closed[level], block
            new, self.rest[level] = reduced(np.concatenate([self.rest[level], new]))
            level += 1
            self.level(level)


class History:
    """Append metric series to a file from a thread of its own.

    Parameters
    ----------
    path : path-like
        SQLite file; made if missing, appended to if it exists. A kill loses at most the last second.
    on_error : callable, optional
        Called with a text, on the recorder's thread, when the file can't be written; what was published is kept and
        tried again.

    Notes
    -----
    A step has one value a metric: what is published later for the same or an earlier step is ignored.
    """

    def __init__(self, path: str | Path, *, on_error: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self._on_error = on_error or logging.getLogger(__name__).error
        self._pending: deque[_Published] = deque(maxlen=MAX_PENDING)
        self._series: dict[str, _Series] = {}
        self._wake = threading.Event()
        self._flushed = threading.Condition()
        self._asked = self._done = 0
        self._closing = False
        self._infos: tuple[MetricInfo, ...] = ()
        with contextlib.closing(self._connect()) as connection, connection:
            self._load(connection)
        self._thread = threading.Thread(target=self._record, name="history", daemon=True)
        self._thread.start()

    @staticmethod
    def open_read_only(path: str | Path) -> HistoryReader:
        """Return a reader of a run's history, live or dead."""
        return HistoryReader(path)

    def append(self, step: int, time: float, metrics: Mapping[str, Any]) -> None:
        """Add the values of a step; returns at once, takes no lock.

        Parameters
        ----------
        step : int
        time : float
            Training time in seconds.
        metrics : mapping of str to float
            NaN makes a gap.
        """
        self._pending.append((step, time, tuple(metrics.items())))

    def metrics(self) -> tuple[MetricInfo, ...]:
        """Return every series as of the last write; may be called from any thread."""
        return self._infos

    def flush(self, timeout: float = 10.0) -> bool:
        """Write what was published so far; tell whether it was written within `timeout` seconds."""
        with self._flushed:
            self._asked += 1
            ticket = self._asked
            self._wake.set()
            return self._flushed.wait_for(lambda: self._done >= ticket, timeout)

    def close(self) -> None:
        """Write what was published and close the file."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def reader(self) -> HistoryReader:
        """Return a reader with a connection of its own."""
        return HistoryReader(self.path)

    # --- the recorder's thread --------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=30)
            mode = "DELETE" if is_network_file_system(self.path.parent) else "WAL"
            connection.execute(f"PRAGMA journal_mode={mode}")
            connection.execute("PRAGMA synchronous=NORMAL")
            return connection
        except sqlite3.Error as error:
            raise ElektronnError(f"{self.path}: the history can't be opened ({error})") from error

    def _load(self, connection: sqlite3.Connection) -> None:
        connection.executescript(_SCHEMA)
        about = {"version": "1", "entry": str(ENTRY.descr), "factor": str(FACTOR), "chunk": str(CHUNK)}
        stored = dict(connection.execute("SELECT key, value FROM format").fetchall())
        if stored and stored.get("version") != about["version"]:
            raise ElektronnError(f"{self.path}: format version {stored.get('version')} is not known; known is 1")
        connection.executemany("INSERT OR REPLACE INTO format VALUES (?, ?)", about.items())
        for number, name, count, first, last, value in connection.execute(
            "SELECT id, name, count, first_step, last_step, last_value FROM metrics ORDER BY id"
        ).fetchall():
            series = self._series[name] = _Series(number, count, first, last, value)
            rows = connection.execute(
                "SELECT step, time, value FROM points WHERE metric = ? ORDER BY step DESC LIMIT ?",
                (number, count % FACTOR),
            ).fetchall()[::-1]
            if rows:
                step, time, values = zip(*rows, strict=True)
                series.rest[0] = points_to_entries(step, time, [np.nan if v is None else v for v in values])
            level, entries = 1, count // FACTOR
            while entries:
                series.level(level)
                series.closed[level] = entries // CHUNK
                newest = connection.execute(
                    "SELECT entries FROM chunks WHERE metric = ? AND level = ? ORDER BY number DESC LIMIT 1",
                    (number, level),
                ).fetchone()
                block = np.frombuffer(newest[0], ENTRY)
                series.open[level] = block[:0] if entries % CHUNK == 0 else block
                series.rest[level] = block[len(block) - entries % FACTOR :]  # CHUNK is a multiple of FACTOR
                level, entries = level + 1, entries // FACTOR
            series.level(level)
        self._publish_infos()

    def _publish_infos(self) -> None:
        self._infos = tuple(
            MetricInfo(name=name, count=series.count, step=series.last, value=series.value)
            for name, series in self._series.items()
        )

    def _record(self) -> None:
        connection: sqlite3.Connection | None = None
        failed = False
        while True:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            closing = self._closing
            ticket = self._asked
            batch = [self._pending.popleft() for _ in range(len(self._pending))]
            try:
                if connection is None:
                    connection = self._connect()
                if batch:
                    self._write(connection, batch)
                failed = False
            except (sqlite3.Error, ElektronnError, OSError) as error:
                if not failed:
                    self._on_error(f"the history can't be written: {error}; trying again")
                failed = True
                self._pending.extendleft(reversed(batch))
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.rollback()
                        self._series.clear()
                        self._load(connection)
            else:
                with self._flushed:
                    self._done = ticket
                    self._flushed.notify_all()
            if closing:
                break
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()

    def _write(
        self, connection: sqlite3.Connection, batch: list[tuple[int, float, tuple[tuple[str, Any], ...]]]
    ) -> None:
        columns: dict[str, list[tuple[int, float, float]]] = {}
        for step, time, metrics in batch:
            for name, value in metrics:
                column = columns.setdefault(name, [])
                series = self._series.get(name)
                newest = column[-1][0] if column else series.last if series is not None else None
                if newest is None or step > newest:
                    column.append((step, time, float("nan") if value is None else float(value)))
        with connection:  # one transaction: points, blocks and counts agree after a kill
            connection.execute("BEGIN")
            for name, column in columns.items():
                if column:
                    self._write_series(connection, name, column)
        self._publish_infos()

    def _write_series(self, connection: sqlite3.Connection, name: str, column: list[tuple[int, float, float]]) -> None:
        series = self._series.get(name)
        if series is None:
            number = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM metrics").fetchone()[0]
            series = self._series[name] = _Series(number, first=column[0][0])
        connection.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", [(series.number, *point) for point in column])
        for level, number, entries in series.append(points_to_entries(*zip(*column, strict=True))):
            connection.execute(
                "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                (
                    series.number,
                    level,
                    number,
                    int(entries["first"][0]),
                    int(entries["step"][-1]),
                    entries.tobytes(),
                ),
            )
        series.count += len(column)
        series.last = column[-1][0]
        series.value = column[-1][2] if np.isfinite(column[-1][2]) else None
        connection.execute(
            "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
            (series.number, name, series.count, series.first, series.last, series.value),
        )

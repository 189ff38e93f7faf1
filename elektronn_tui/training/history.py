"""The metric series of a session in one SQLite file, appended by a thread of their own.

Table ``points`` has every value as it was published (NULL for NaN). Table ``chunks`` has the levels of `pyramid` as
blocks of little-endian `ENTRY` records, so that any curve is read from a few blocks whatever the length of the run.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elektronn_tui.errors import ElektronnError
from elektronn_tui.session.protocol import MetricInfo

from .curves import CurveData, HistoryReader
from .pyramid import ENTRY, FACTOR, Entries, points_to_entries, reduced

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

    def __repr__(self) -> str:
        newest = [f"{info.name} {info.value:.4g}" for info in self.metrics() if info.value is not None]
        return f"History({', '.join(newest)})"

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

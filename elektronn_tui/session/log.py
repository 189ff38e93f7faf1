"""A session's log: lines of the standard `logging`, to ``session.log`` and to clients."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .protocol import LogLine
from .records import RecordFile, Ring, page, read_records

__all__ = ["LOGGER", "SessionLog", "read_log"]

LOGGER = "elektronn_tui"
"""Name of the logger whose lines, and whose children's, a session records from level INFO on."""

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d{3}) +([A-Z]+) +step (\d+)  (.*)", re.DOTALL)


class SessionLog(logging.Handler):
    """Write log records with the step at which they came.

    Parameters
    ----------
    path
        The file; lines that it holds already are kept and counted.
    current_step
        Returns the number of steps done.
    """

    def __init__(self, path: Path, current_step: Callable[[], int]) -> None:
        super().__init__(logging.INFO)
        self._records = RecordFile(path)
        self._current_step = current_step
        self.newest: Ring[LogLine] = Ring(1000)
        self.newest.total = max(len(self._records) - 200, 0)
        for line in self.read(-200, 200)[0]:
            self.newest.append(line)

    def __len__(self) -> int:
        return len(self._records)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let ours pass, and warnings of everybody."""
        ours = record.name == LOGGER or record.name.startswith(LOGGER + ".")
        return (ours or record.levelno >= logging.WARNING) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and keep it for clients."""
        try:
            text = self.format(record)
            step = self._current_step()
            index = self._records.append(formatted(record.created, record.levelname, step, text))
            self.newest.append(LogLine(index=index, time=record.created, level=record.levelname, step=step, text=text))
        except Exception:  # noqa: BLE001 - a full disk must not end the training; logging says so on stderr
            self.handleError(record)

    def read(self, first: int, count: int) -> tuple[tuple[LogLine, ...], int]:
        """Return a page of lines and how many there are; a negative `first` counts from the end."""
        total = len(self._records)
        start, end = page(first, min(count, 10_000), total)
        return tuple(parsed(text, index) for index, text in enumerate(self._records.read(start, end), start)), total

    def install(self) -> None:
        """Record what is logged from now on, Python's warnings included."""
        logging.getLogger().addHandler(self)
        logging.getLogger(LOGGER).setLevel(logging.INFO)
        logging.captureWarnings(True)

    def remove(self) -> None:
        """Record no more."""
        logging.getLogger().removeHandler(self)
        logging.captureWarnings(False)
        self._records.close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Say on stderr that a line could not be written."""
        sys.stderr.write(f"session.log can't be written: {sys.exc_info()[1]}\n")


def formatted(created: float, level: str, step: int, text: str) -> str:
    """Return a line of ``session.log``."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created))
    return f"{stamp}.{int(created * 1000) % 1000:03d} {level:<7} step {step}  {text}"


def parsed(text: str, index: int) -> LogLine:
    """Return what a line of ``session.log`` says; one that is not of the form becomes text alone."""
    match = _LINE.fullmatch(text)
    if match is None:
        return LogLine(index=index, time=0.0, level="INFO", step=0, text=text)
    stamp, millis, level, step, rest = match.groups()
    try:
        seconds = time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        seconds = 0.0
    return LogLine(index=index, time=seconds + int(millis) / 1000, level=level, step=int(step), text=rest)


def read_log(path: Path) -> list[LogLine]:
    """Return all lines of a log file that belongs to no running session."""
    return [parsed(text, index) for index, text in enumerate(read_records(path))]

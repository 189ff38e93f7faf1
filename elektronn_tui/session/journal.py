"""The ordered record of all that came from outside and changed a session."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import msgspec

from .protocol import JournalEntry
from .records import RecordFile, Ring, page, read_records

__all__ = ["Journal", "read_journal", "shown"]

_encoder = msgspec.json.Encoder()


def shown(value: Any) -> str:
    """Return a control's value as people write it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


class Journal:
    """``journal.jsonl``: an entry a line, flushed before anybody is told that it happened.

    Parameters
    ----------
    path
        The file; entries that it holds already are kept and counted.
    """

    def __init__(self, path: Path) -> None:
        self._file = RecordFile(path)
        self.newest: Ring[JournalEntry] = Ring(200)
        self.newest.total = max(len(self._file) - 200, 0)
        for entry in self.read(-200, 200)[0]:
            self.newest.append(entry)

    def __len__(self) -> int:
        return len(self._file)

    def append(
        self, kind: str, *, step: int, client: str, text: str, data: dict[str, Any] | None = None
    ) -> JournalEntry:
        """Write an entry through to the system and return it.

        Parameters
        ----------
        kind
            ``"set"``, ``"undo"``, ``"pause"``, ``"statement"``, ...
        step
            The first step that runs with it.
        client
            Who asked.
        text
            For people.
        data
            For replays: plain values.

        Raises
        ------
        OSError
            The disk refused; nothing was recorded.
        """
        entry = JournalEntry(
            id=len(self._file) + 1, time=time.time(), step=step, kind=kind, client=client, text=text, data=data or {}
        )
        self._file.append(_encoder.encode(finite(msgspec.to_builtins(entry))).decode())
        self.newest.append(entry)
        return entry

    def read(self, first: int, count: int) -> tuple[tuple[JournalEntry, ...], int]:
        """Return a page of entries and how many there are; a negative `first` counts from the end."""
        total = len(self._file)
        start, end = page(first, min(count, 10_000), total)
        return tuple(_entries(self._file.read(start, end), start)), total

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> list[JournalEntry]:
    """Return all entries of a journal file that belongs to no running session."""
    return _entries(read_records(path), 0)


def _entries(lines: list[str], first: int) -> list[JournalEntry]:
    entries = []
    for index, line in enumerate(lines, first + 1):
        try:
            entries.append(msgspec.json.decode(line, type=JournalEntry))
        except msgspec.DecodeError:  # what a crash left of the last line
            entries.append(JournalEntry(id=index, time=0.0, step=0, kind="damaged", client="", text=line[:200]))
    return entries


def finite(value: Any) -> Any:
    """Return a plain value without NaN and infinity, which JSON has not: they become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value

"""Records that only grow: on disk for good, their newest in memory for clients."""

from __future__ import annotations

import errno
import threading
from array import array
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["RecordFile", "Ring", "page", "read_records"]

T = TypeVar("T")


class Ring(Generic[T]):
    """The newest of all items that were ever added, and how many there were.

    Parameters
    ----------
    size
        How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque(maxlen=size)
        self._lock = threading.Lock()  # held for a copy at most, never while anything is sent
        self.total = 0

    def append(self, item: T) -> int:
        """Add an item and return its index among all."""
        with self._lock:
            self._items.append(item)
            self.total += 1
            return self.total - 1

    def since(self, total: int, count: int | None = None) -> tuple[tuple[T, ...], int]:
        """Return what was added after the first `total` items, at most the newest `count`, and the total now."""
        with self._lock:
            wanted = min(self.total - total, len(self._items))
            if count is not None:
                wanted = min(wanted, count)
            return (tuple(self._items)[len(self._items) - wanted :] if wanted > 0 else ()), self.total

    def until(self, total: int, count: int) -> tuple[T, ...]:
        """Return the newest `count` of the first `total` items, as far as they are kept."""
        with self._lock:
            end = len(self._items) - (self.total - total)
            return tuple(self._items)[max(end - count, 0) : max(end, 0)]


def page(first: int, count: int, total: int) -> tuple[int, int]:
    """Return the bounds of a page within 0 and `total`; a negative `first` counts from the end."""
    start = max(total + first, 0) if first < 0 else min(first, total)
    return start, min(start + max(count, 0), total)


class RecordFile:
    """A text file of records, a line each and further lines of it indented, with an index of where each begins.

    Written by one thread at a time; read by any.
    """

    INDENT = "    "

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets = array("Q")
        self._end = 0
        if path.exists():
            self._index()
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for as long as the session lives
        if self._end and not self._ends_line():
            self._file.write(b"\n")  # what a crash left half written ends here
            self._end += 1

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, text: str) -> int:
        """Write a record through to the system, and return its index.

        Raises
        ------
        OSError
            The disk refused; the file is as it was.
        """
        content = (text.replace("\0", "").replace("\n", "\n" + self.INDENT) + "\n").encode("utf-8", "replace")
        if self._file.write(content) != len(content):
            self._file.truncate(self._end)  # half a record would spoil the next
            raise OSError(errno.ENOSPC, "no space left for a record", str(self.path))
        self._offsets.append(self._end)
        self._end += len(content)
        return len(self._offsets) - 1

    def read(self, first: int, last: int) -> list[str]:
        """Return the records from index `first` to before `last`, as they were given to `append`."""
        end = self._offsets[last] if last < len(self._offsets) else self._end
        if first >= last or first >= len(self._offsets):
            return []
        with open(self.path, "rb") as file:
            file.seek(self._offsets[first])
            text = file.read(end - self._offsets[first]).decode("utf-8", "replace")
        return _split(text)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _index(self) -> None:
        indent = self.INDENT.encode()
        with open(self.path, "rb") as file:
            for line in file:
                if not line.startswith(indent):
                    self._offsets.append(self._end)
                self._end += len(line)

    def _ends_line(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"


def read_records(path: Path) -> list[str]:
    """Return all records of a file, whole ones and what a crash left of the last; none when it does not exist."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            return _split(file.read())
    except FileNotFoundError:
        return []


def _split(text: str) -> list[str]:
    records = text.removesuffix("\n").replace("\n" + RecordFile.INDENT, "\0").split("\n") if text else []
    return [record.replace("\0", "\n") for record in records]

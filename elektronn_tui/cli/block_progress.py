"""How far a command is that goes block by block: lines of JSON, or a line for the person."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .output import format_seconds, print_json_line, print_line, warn

if TYPE_CHECKING:
    from elektronn_tui.data import BlockProgress

LINE_EVERY = 10.0  # seconds between two lines where there is no terminal
SHOW_EVERY = 0.5  # and between two signs of life elsewhere


class BlockProgressShown:
    """How far it is: lines of JSON, a line that is written over on a terminal, or one now and then elsewhere."""

    def __init__(self, as_json: bool) -> None:
        self.begin = time.monotonic()
        self.voxels = 0
        self._json = as_json
        self._terminal = sys.stderr.isatty()
        self._every = SHOW_EVERY if self._json or self._terminal else LINE_EVERY
        self._last = self.begin
        self._first: float | None = None

    def __enter__(self) -> BlockProgressShown:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Make room for what is said next, and tell whoever interrupts what to do."""
        self.clear()
        if kind is KeyboardInterrupt:
            warn("interrupted; what is done is kept, --resume goes on")

    def show(self, now: BlockProgress) -> None:
        """Show it, but not more often than can be read."""
        self.voxels = now.voxels
        clock = time.monotonic()
        first = self._first is None
        if self._first is None:
            self._first = now.share
        if clock - self._last < self._every and not (first and (self._json or self._terminal)):
            return
        self._last = clock
        text = f"block {min(now.done + 1, now.blocks)} of {now.blocks}"
        if now.share > self._first:
            seconds = clock - self.begin
            left = seconds / (now.share - self._first) * (1 - now.share)
            text += f", {now.voxels / 1e6 / seconds:.3g} MVoxel/s, eta {format_seconds(left)}"
        if self._json:
            print_json_line({"event": "progress", "progress": now.share, "blocks": now.done, "text": text})
        elif self._terminal:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
        else:
            warn(text)

    def clear(self) -> None:
        """Make room for the next line."""
        if self._terminal and not self._json:
            sys.stderr.write("\r\x1b[K")

    def finish(self, path: Path) -> None:
        """Say what was made, and how long it took."""
        seconds = time.monotonic() - self.begin
        if self._json:
            print_json_line({"event": "done", "progress": 1.0, "output": str(path.absolute()), "seconds": seconds})
        else:
            print_line(f"{path}: {self.voxels / 1e6:.3g} MVoxel in {format_seconds(seconds)}")

"""A Textual driver for thin lines: it keeps a shadow of the terminal and sends only the cells that changed."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from asyncio import TimerHandle
from collections.abc import Callable
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, cast

from textual import events
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from .shadow import Shadow

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["ChangedCellsDriver"]

_SYNC_START, _SYNC_END = "\x1b[?2026h", "\x1b[?2026l"
_FIRST_RETRY, _LAST_RETRY = 0.01, 0.2


class _Output:
    """The terminal as a file that knows how much of what it was given has left the process.

    Written by Textual's writer thread; `taken` and `broken` are read by the main thread.
    """

    def __init__(self, file: IO[str], on_flush: Callable[[], None]) -> None:
        self._file = file
        self._on_flush = on_flush
        self._given = 0
        self.taken = 0
        self.broken = False

    def fileno(self) -> int:
        """Return the file descriptor of the terminal."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._file.isatty()

    def write(self, text: str) -> int:
        """Write text; after the terminal has gone, do nothing."""
        self._given += len(text)
        if not self.broken:
            try:
                self._file.write(text)
            except (OSError, ValueError):
                self.broken = True
        return len(text)

    def flush(self) -> None:
        """Wait until the terminal has taken what was written."""
        if not self.broken:
            try:
                self._file.flush()
            except (OSError, ValueError):
                self.broken = True
        self.taken = self._given
        self._on_flush()


class ChangedCellsDriver(LinuxDriver):
    """Send a terminal only what changed (``App(driver_class=ChangedCellsDriver)``).

    Textual sends each widget that changed whole. This driver reads that stream, keeps the terminal's cells, and
    sends the cells that differ: the fewest cursor moves and style changes, in one synchronized update a frame.
    While the terminal has not taken the last frame, frames are not sent but merged, so that a slow line shows the
    newest state and never holds up the application.

    Attributes
    ----------
    raw_bytes : int
        Bytes that Textual wrote so far.
    sent_bytes : int
        Bytes that the terminal was given so far.
    frames, merged_frames : int
        Updates sent, and updates that were merged into a later one because the terminal was busy.
    """

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._output = _Output(cast("IO[str]", self._file), self._taken)
        self._file = cast(Any, self._output)
        self._given = 0
        self._shadow = Shadow(*self._terminal_size())
        self._stale = False
        self._held = False
        self._retry: TimerHandle | None = None
        self._retry_after = _FIRST_RETRY
        self._started = False
        self.raw_bytes = 0
        self.sent_bytes = 0
        self.frames = 0
        self.merged_frames = 0

    # Life -----------------------------------------------------------------------------------------

    def start_application_mode(self) -> None:
        """Start, or come back from a suspension: nothing is known of what the terminal shows."""
        self._stale = True
        self._given = self._output.taken
        super().start_application_mode()
        textual_handler = signal.getsignal(signal.SIGWINCH)

        def resized(number: int, frame: FrameType | None) -> None:
            self._stale = True
            if callable(textual_handler):
                textual_handler(number, frame)

        signal.signal(signal.SIGWINCH, resized)
        if self._started:
            self._loop.call_soon_threadsafe(self.redraw)
        self._started = True

    def stop_application_mode(self) -> None:
        """Drop what was held back, and restore the terminal."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._held = False
        super().stop_application_mode()

    def _sigcont_application(self, *args: Any) -> None:
        if self._must_signal_resume or not self._started:
            super()._sigcont_application(*args)
        elif self._auto_restart:
            # Stopped from outside (SIGSTOP): the driver's threads live on, and a shell may have used the terminal.
            # Starting the driver again, as Textual does, would leave two threads reading the keyboard.
            self._loop.call_soon_threadsafe(self._continue)

    def _continue(self) -> None:
        self.write("\x1b[?1049h\x1b[?25l\x1b[?1004h\x1b[?2004h\x1b[?7l")
        self._enable_mouse_support()
        self.redraw()

    def process_message(self, message: Message) -> None:
        """Note a resize that the terminal reports in its input."""
        if isinstance(message, events.Resize):
            self._stale = True
        super().process_message(message)

    def redraw(self) -> None:
        """Send the whole screen again: for a terminal that something else wrote to."""
        self._stale = True
        if self._app.screen_stack:
            self._app.screen.refresh(layout=True)

    # Output ---------------------------------------------------------------------------------------

    def write(self, data: str) -> None:
        """Take Textual's output; send what it changes.

        Parameters
        ----------
        data : str
            Terminal sequences and text.
        """
        self.raw_bytes += len(data) if data.isascii() else len(data.encode("utf-8", "replace"))
        size = self._terminal_size()
        if self._stale or size != (self._shadow.width, self._shadow.height):
            self._stale = False
            self._shadow.resize(*size)
        at_once = self._shadow.feed(data)
        if at_once:
            self._send(at_once)
        if not self._shadow.in_sync:
            self.merged_frames += self._held
            self._send_frame()

    def _send_frame(self) -> None:
        if not self._shadow.dirty:
            return
        if self._busy():
            self._hold()
            return
        self._held = False
        self._retry_after = _FIRST_RETRY
        frame = self._shadow.frame()
        if self._shadow.lossy:
            self._shadow.lossy = False
            self._loop.call_soon_threadsafe(self.redraw)
        if frame:
            self.frames += 1
            self._send(f"{_SYNC_START}{frame}{_SYNC_END}" if self._shadow.saw_sync else frame)

    def _send(self, text: str) -> None:
        self.sent_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self._given += len(text)
        super().write(text)

    # The terminal's pace --------------------------------------------------------------------------

    def _busy(self) -> bool:
        """Whether the terminal hasn't taken all of what it was given."""
        return self._output.taken < self._given or self._queued() > 0

    def _queued(self) -> int:
        """Bytes in the kernel's output queue (a serial line; pseudo-terminals report none and block instead)."""
        try:
            return int(struct.unpack("i", fcntl.ioctl(self._output.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
        except (OSError, ValueError):
            return 0

    def _hold(self) -> None:
        self._held = True
        # When the writer thread is the one to wait for, `_taken` comes first; the kernel's queue has to be asked.
        if self._retry is None:
            self._retry = self._loop.call_later(self._retry_after, self._try_again)
            self._retry_after = min(2 * self._retry_after, _LAST_RETRY)

    def _taken(self) -> None:
        if self._held:
            try:
                self._loop.call_soon_threadsafe(self._try_again)
            except RuntimeError:
                self._held = False  # the loop has ended, and nothing is left to show

    def _try_again(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._held and not self._shadow.in_sync:
            self._send_frame()

    def _terminal_size(self) -> tuple[int, int]:
        """Columns and rows of the terminal itself."""
        try:
            size = os.get_terminal_size(self._output.fileno())
        except (OSError, ValueError):
            return self._get_terminal_size()
        return (size.columns, size.lines) if size.columns and size.lines else self._get_terminal_size()

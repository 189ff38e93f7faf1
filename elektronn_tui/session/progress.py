"""What a session trained in the foreground shows on its terminal, from a thread that the training never waits for."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TextIO

from .log import formatted
from .protocol import Status
from .session import Session

__all__ = ["Progress", "summary"]

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal, as in a batch job's log."""
QUIET_START = 30.0
"""Seconds of a start that nothing is said of: where it is refused, the reason is all there is to read."""


class Progress:
    """A bar with the log above it on a terminal, a line now and then elsewhere.

    Parameters
    ----------
    session
        What is shown.
    stream
        Where to; standard error when not given.
    """

    def __init__(self, session: Session, stream: TextIO | None = None) -> None:
        self._session = session
        self._stream = sys.stderr if stream is None else stream
        self._over = threading.Event()
        self._discarded = False
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._log = 0
        self._measured = (0.0, 0)
        self._rate = 0.0

    def start(self) -> None:
        """Show from now on."""
        self._thread.start()

    def stop(self, timeout: float = 2.0, *, discard: bool = False) -> None:
        """Show no more; a terminal that takes nothing is given up after `timeout` seconds.

        With `discard`, what was not shown yet is left out and the bar is taken away.
        """
        self._discarded = discard
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def let_go(self) -> None:
        """Show no more, at once: the terminal is gone. Safe to call from a signal handler."""
        self._over.set()

    def _run(self) -> None:
        try:
            if self._stream.isatty():
                self._bar()
            else:
                self._lines()
        except (OSError, ValueError):
            return  # the terminal went away; the log has it all

    def _bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        console = Console(file=self._stream)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        with Bar(*columns, console=console, refresh_per_second=2, transient=False) as bar:
            task = bar.add_task(self._session.name, total=None, text="")
            while True:
                over = self._over.wait(0.5)
                if over and self._discarded:
                    bar.live.transient = True
                    break
                for line in self._new_log_lines():
                    console.print(line, markup=False, highlight=False, soft_wrap=True)
                status = self._status()
                bar.update(task, completed=status.step, total=status.steps, text=self._text(status))
                if over:
                    break

    def _lines(self) -> None:
        next_line = time.monotonic() + 5.0
        shown = -1
        while True:
            over = self._over.wait(0.5)
            if over and self._discarded:
                break
            for line in self._new_log_lines():
                self._stream.write(line + "\n")
            status = self._status()
            if not self._starting() and (over or time.monotonic() >= next_line) and status.step != shown:
                next_line, shown = time.monotonic() + LINE_EVERY, status.step
                self._stream.write(f"{self._session.name}  {self._text(status)}\n")
            self._stream.flush()
            if over:
                break

    def _starting(self) -> bool:
        return self._session.state == "starting" and time.monotonic() - self._begun < QUIET_START

    def _new_log_lines(self) -> list[str]:
        if self._starting():
            return []
        lines, self._log = self._session.log.newest.since(self._log)
        return [formatted(line.time, line.level, line.step, line.text) for line in lines]

    def _status(self) -> Status:
        status = self._session.status()
        passed = status.training_time - self._measured[0]
        if passed >= 0.5:
            self._rate = (status.step - self._measured[1]) / passed
            self._measured = (status.training_time, status.step)
        return status

    def _text(self, status: Status) -> str:
        return summary(status, self._session, status.rate or self._rate)


def summary(status: Status, session: Session, rate: float) -> str:
    """Return where a session stands in a line."""
    parts = [f"step {status.step}{f'/{status.steps}' if status.steps else ''}"]
    if status.state != "running":
        parts.append(status.state)
    if rate:
        parts.append(f"{rate:.1f} it/s")
    for info in session.history.metrics()[:4]:
        if info.value is not None:
            parts.append(f"{info.name} {info.value:.4g}")
    if status.eta is None and status.steps and rate:
        left: float | None = (status.steps - status.step) / rate
    else:
        left = status.eta
    if left is not None and math.isfinite(left) and status.state == "running":
        parts.append(f"eta {int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}")
    return "  ".join(parts)

"""Sessions for tests and benchmarks: started as a person starts them, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from elektronn_tui.session.blocking import ask
from elektronn_tui.session.errors import ConnectError, ConnectionLost, RequestRefused
from elektronn_tui.session.launch import Order, start_worker
from elektronn_tui.session.protocol import CurrentStatus, GetStatus, Stop
from elektronn_tui.session.registry import Entry, SessionInfo, read_session_file

ELEKTRONN = str(Path(sys.executable).with_name("elektronn"))
"""The installed command."""


@contextlib.contextmanager
def running(
    loop: str, *, name: str, settings: dict[str, str] | None = None, steps: int | None = None
) -> Iterator[Entry]:
    """Start a session that runs a loop of `loops`, and end it."""
    import loops

    order = Order(experiment=str(loops.HERE), name=name, settings=settings or {}, steps=steps, entry=loops.entry(loop))
    entry = start_worker(order)
    try:
        yield entry
    finally:
        end(entry)


def end(entry: Entry | SessionInfo) -> None:
    """Stop a session without a checkpoint, and kill its process if it does not listen."""
    with contextlib.suppress(ConnectError, ConnectionLost, RequestRefused):
        ask(entry.socket, Stop(now=True), timeout=5.0)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(entry.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(entry.pid, signal.SIGKILL)


def status(entry: Entry) -> CurrentStatus:
    """Ask a session where it stands."""
    answer: CurrentStatus = ask(entry.socket, GetStatus())[0]
    return answer


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Wait for a condition and return what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)


def wait_for_state(run_dir: str | Path, *states: str, seconds: float = 60.0) -> str:
    """Wait until ``session.json`` tells one of these states, and return it."""

    def found() -> str:
        file = read_session_file(Path(run_dir))
        return file.state if file is not None and file.state in states else ""

    return str(wait_until(found, f"{run_dir} in state {' or '.join(states)}", seconds))

"""Start a worker that outlives its terminal, or become one."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from elektronn_tui.errors import SessionError

from .errors import LaunchError
from .registry import Entry, create_run, new_id

__all__ = [
    "Order",
    "become_worker",
    "start_worker",
    "worker_environment",
]

ENTRY = "elektronn_tui.session.worker:train_experiment"
READY_TIMEOUT = 180.0  # seconds; the first import of torch on a cold network disk takes a minute
_THRESHOLD = str(2**31 - 1)


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker is to do."""

    experiment: str  # path of the experiment file
    name: str = ""  # of the session; empty: the experiment's name and a time stamp
    settings: dict[str, str] = {}  # --set KEY=VALUE
    steps: int | None = None
    on_error: Literal["", "halt", "stop"] = ""  # empty: as the experiment says, else by `foreground`
    on_nan: Literal["", "pause", "rollback", "stop"] = ""
    foreground: bool = False
    entry: str = ENTRY  # "module:function" or "file.py:function", called with (session, order)
    session_id: str = ""
    run_dir: str = ""


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker says through the pipe that it was started with."""

    event: Literal["bound", "ready", "error"]
    entry: Entry | None = None
    message: str = ""
    traceback: str = ""
    refused: bool = False


def worker_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a worker: what must be set before a process starts.

    ``OMP_DYNAMIC`` and ``OMP_THREAD_LIMIT`` are removed, because with them oneDNN hung. glibc's thresholds are
    raised together, so that tensors are not mapped and unmapped each step (training 1.2 to 1.4 times as fast, for
    up to half more memory); ``ELEKTRONN_MALLOC=default`` leaves them alone. What the user set stays.
    """
    environment = dict(os.environ if base is None else base)
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment.pop("OMP_DYNAMIC", None)
    environment.pop("OMP_THREAD_LIMIT", None)
    if environment.get("ELEKTRONN_MALLOC") != "default":
        environment.setdefault("MALLOC_MMAP_THRESHOLD_", _THRESHOLD)
        environment.setdefault("MALLOC_TRIM_THRESHOLD_", _THRESHOLD)
    return environment


def prepared(order: Order) -> Order:
    """Return the order with a session id and a run directory, which is made."""
    session_id = order.session_id or new_id()
    run_dir = order.run_dir or str(create_run(Path(order.experiment).stem, order.name or None))
    return msgspec.structs.replace(order, session_id=session_id, run_dir=run_dir)


def start_worker(order: Order, *, until: Literal["bound", "ready"] = "ready", timeout: float = READY_TIMEOUT) -> Entry:
    """Start a worker in a session of its own, wait for its word, and return its entry.

    Parameters
    ----------
    order
        What to do; a run directory is made for it.
    until
        ``"ready"``: the experiment is loaded and the first step comes next. ``"bound"``: clients can connect, and
        see it start or fail.
    timeout
        Seconds to wait.

    Raises
    ------
    LaunchError
        The worker failed before that, or said nothing in time (then it is ended).
    """
    order = prepared(order)
    run_dir = Path(order.run_dir)
    ours, its = os.pipe()
    try:
        with open(run_dir / "stdout.log", "ab") as stdout, open(run_dir / "stderr.log", "ab") as stderr:
            process = subprocess.Popen(
                _command(order, its),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=worker_environment(),
                pass_fds=(its,),
                start_new_session=True,
            )
        os.close(its)
        its = -1
        # Reaped when it ends, or it would look alive for as long as this process lives.
        threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
        return _word(process, ours, run_dir, until, timeout)
    finally:
        os.close(ours)
        if its >= 0:
            os.close(its)


def become_worker(order: Order) -> NoReturn:
    """Replace this process by a worker that trains in the foreground of this terminal."""
    order = prepared(msgspec.structs.replace(order, foreground=True))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, _command(order, -1), worker_environment())


def _command(order: Order, ready: int) -> list[str]:
    text = msgspec.json.encode(order).decode()
    return [sys.executable, "-P", "-m", "elektronn_tui.session.worker", "--ready-fd", str(ready), "--order", text]


def _word(process: subprocess.Popen[bytes], pipe: int, run_dir: Path, until: str, timeout: float) -> Entry:
    end = time.monotonic() + timeout
    text = b""
    while True:
        left = end - time.monotonic()
        if left <= 0:
            process.terminate()
            raise LaunchError(f"the worker said nothing for {timeout:g} s and was ended", _tail(run_dir))
        if not select.select([pipe], [], [], left)[0]:
            continue
        part = os.read(pipe, 65536)
        if not part:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            how = (
                f"exit code {process.returncode}" if (process.returncode or 0) >= 0 else f"signal {-process.returncode}"
            )
            raise LaunchError(f"the worker died before it was up ({how})", _tail(run_dir))
        text += part
        *lines, text = text.split(b"\n")
        for line in lines:
            word = msgspec.json.decode(line, type=Word)
            if word.event == "error":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)  # it takes its run directory away
                raise LaunchError(word.message, word.traceback, refused=word.refused)
            if word.entry is not None and (word.event == until or word.event == "ready"):
                return word.entry


def _tail(run_dir: Path, count: int = 4000) -> str:
    try:
        return (run_dir / "stderr.log").read_bytes()[-count:].decode(errors="replace")
    except OSError as error:
        raise SessionError(f"the worker's stderr can't be read: {error}") from error

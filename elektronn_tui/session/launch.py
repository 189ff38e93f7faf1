"""Start a worker that outlives its terminal, or become one."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from elektronn_tui.training.examples import experiment_name

from .errors import LaunchError
from .registry import Entry, create_run, new_id, socket_path

__all__ = [
    "Order",
    "Start",
    "become_worker",
    "follow_start",
    "start_worker",
    "stderr_tail",
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
    as_json: bool = False  # in the foreground: how it ended, as JSON on stdout
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
    socket_path(session_id)  # refused here, no run directory is left behind that takes the name
    run_dir = order.run_dir or str(create_run(experiment_name(Path(order.experiment)), order.name or None))
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
    words = _started(prepared(order))
    try:
        return words.until(until, timeout)
    finally:
        words.close()


class Start:
    """A worker that clients can connect to, and that may still fail before its first step.

    Attributes
    ----------
    entry : Entry
        Who it is.
    failure : LaunchError or None
        Why it did not come up, once that is known.
    settled : threading.Event
        Set when it is up, or has failed.
    """

    def __init__(self, words: _Words, entry: Entry) -> None:
        self.entry = entry
        self.failure: LaunchError | None = None
        self.settled = threading.Event()
        self._words = words
        self._tell: Callable[[LaunchError], None] | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._follow, name=f"start-{entry.pid}", daemon=True).start()

    def when_failed(self, tell: Callable[[LaunchError], None]) -> None:
        """Let a function be called once, from any thread, if the worker fails before its first step or has failed."""
        with self._lock:
            self._tell = tell
            failure = self.failure
        if failure is not None:
            tell(failure)

    def _follow(self) -> None:
        try:
            self._words.until("ready", None)
        except LaunchError as error:
            with self._lock:
                self.failure = error
                tell = self._tell
            self.settled.set()
            if tell is not None:
                tell(error)
        finally:
            self._words.close()
            self.settled.set()


def follow_start(order: Order, *, timeout: float = READY_TIMEOUT) -> Start:
    """Start a worker in a session of its own, and return when clients can connect and see it start or fail.

    Raises
    ------
    LaunchError
        The worker failed before that, or said nothing in time (then it is ended).
    """
    words = _started(prepared(order))
    try:
        entry = words.until("bound", timeout)
    except LaunchError:
        words.close()
        raise
    return Start(words, entry)


def become_worker(order: Order) -> NoReturn:
    """Replace this process by a worker that trains in the foreground of this terminal."""
    order = prepared(msgspec.structs.replace(order, foreground=True))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, _command(order, -1), worker_environment())


def _command(order: Order, ready: int) -> list[str]:
    text = msgspec.json.encode(order).decode()
    return [sys.executable, "-P", "-m", "elektronn_tui.session.worker", "--ready-fd", str(ready), "--order", text]


def _started(order: Order) -> _Words:
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
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(its)
    # Reaped when it ends, or it would look alive for as long as this process lives.
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return _Words(process, ours, run_dir)


class _Words:
    """What a worker that was started says through its pipe."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int, run_dir: Path) -> None:
        self._process = process
        self._pipe = pipe
        self._run_dir = run_dir
        self._text = b""

    def close(self) -> None:
        """Listen no more."""
        os.close(self._pipe)

    def until(self, event: str, timeout: float | None) -> Entry:
        """Return the entry that came with a word, or with the last one before the first step."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            line, found, rest = self._text.partition(b"\n")
            if found:
                self._text = rest
                word = msgspec.json.decode(line, type=Word)
                if word.event == "error":
                    self._wait()  # it takes its run directory away
                    raise LaunchError(word.message, word.traceback, refused=word.refused)
                if word.entry is not None and word.event in (event, "ready"):
                    return word.entry
                continue
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                self._process.terminate()
                raise LaunchError(
                    f"the worker said nothing for {timeout:g} s and was ended", stderr_tail(self._run_dir)
                )
            if not select.select([self._pipe], [], [], left)[0]:
                continue
            part = os.read(self._pipe, 65536)
            if not part:
                self._wait()
                code = self._process.returncode or 0
                how = f"exit code {code}" if code >= 0 else f"signal {-code}"
                raise LaunchError(f"the worker died before it was up ({how})", stderr_tail(self._run_dir))
            self._text += part

    def _wait(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def stderr_tail(run_dir: Path, count: int = 4000) -> str:
    """Return the end of what a worker wrote on stderr; empty where that is gone."""
    try:
        return (run_dir / "stderr.log").read_bytes()[-count:].decode(errors="replace")
    except OSError:
        return ""

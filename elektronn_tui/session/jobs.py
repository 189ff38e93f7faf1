"""Jobs: what would take minutes, done by processes of their own on snapshots, while the loop goes on.

The session knows how jobs are started, followed, cancelled and let go, and nothing of what they do: a loop says that
by `Jobs.offer`. One job runs at a time and the others wait for it; one that has begun outlives its session.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from elektronn_tui.errors import SessionError, did_you_mean

from .job_files import JobRecord, Sayings, last_words, write_record
from .job_process import command_of
from .processes import process_start
from .protocol import ACTIVE_JOBS, JobInfo, JobOffer, JobOption, JobState

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Job", "Jobs", "Offer", "Work"]

LOOK_EVERY = 0.25
"""Seconds between two looks at what a job says."""
CANCEL_PATIENCE = 10.0
"""Seconds that a cancelled job has to end by itself."""
LETTING_GO_PATIENCE = 60.0
"""Seconds that the end of a session waits for snapshots that are still being written."""
LONGEST_LOG = 20_000
MOST_ACTIVE = 50
"""Jobs that may wait or run: each is a process and a snapshot."""


@dataclass(frozen=True)
class Work:
    """What one job is to do.

    Parameters
    ----------
    text
        For people: what it makes of what.
    command
        What runs; its first item is the path of an executable. What it prints is described in `job_files`.
    prepare
        Called once on a thread of the job's own before the command starts, to write what it needs.
    environment
        Variables that it gets beside the session's own.
    """

    text: str
    command: tuple[str, ...]
    prepare: Callable[[], object]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """A kind of job.

    Parameters
    ----------
    help
        What it does.
    options
        Returns its arguments with the defaults of now; called on any thread.
    check
        Raises an `ElektronnError` where arguments are wrong; called on any thread.
    make
        Called on the main thread with the job's directory and the arguments: takes the snapshot, in memory.
    """

    help: str
    options: Callable[[], tuple[JobOption, ...]]
    check: Callable[[Sequence[str]], object]
    make: Callable[[Path, Sequence[str]], Work]


class Job:
    """A handle on a job; every method may be called from any thread."""

    def __init__(self, jobs: Jobs, info: JobInfo, work: Work, cwd: str) -> None:
        self.launched = threading.Event()  # there is a process, or there will be none
        self._jobs = jobs
        self._info = info
        self._work = work
        self._cwd = cwd
        self._over = threading.Event()
        self._lock = threading.Lock()  # held to change what is known, and while the process starts
        self._process: subprocess.Popen[bytes] | None = None
        self._start: int | None = None
        self._cancelled = 0.0

    @property
    def info(self) -> JobInfo:
        """What clients see of it."""
        return self._info

    @property
    def number(self) -> int:
        """Its number, as `jobs()` and ``elektronn jobs`` show it."""
        return self._info.number

    @property
    def state(self) -> JobState:
        """``starting``, ``queued``, ``running``, ``finished``, ``failed`` or ``cancelled``."""
        return self._info.state

    @property
    def progress(self) -> float:
        """How much is done, from 0 to 1."""
        return self._info.progress

    @property
    def reason(self) -> str:
        """Why it failed; empty otherwise."""
        return self._info.reason

    @property
    def directory(self) -> Path:
        """Where its snapshot, its record and its log lie."""
        return Path(self._info.directory)

    @property
    def log(self) -> str:
        """The end of what it wrote on standard error."""
        try:
            return (self.directory / "log").read_text(errors="replace")[-LONGEST_LOG:]
        except OSError:
            return ""

    @property
    def process(self) -> tuple[int, int] | None:
        """Pid and start of its process, while it waits or runs."""
        if self._start is None or self._over.is_set():
            return None
        return self._info.pid, self._start

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over, for at most `timeout` seconds; return whether it is.

        In the console the training waits, too.
        """
        return self._over.wait(timeout)

    def cancel(self) -> None:
        """End it, if it isn't over; what it wrote stays as it is."""
        self._jobs.cancel(self.number)

    def __repr__(self) -> str:
        info = self._info
        where = f"{100 * info.progress:.0f} %" if info.state == "running" else ""
        told = ", ".join(part for part in (where, info.reason or (info.detail if where else "")) if part)
        return f"<job {info.number}: {info.kind} {info.text}, {info.state}{f': {told}' if told else ''}>"

    # --- for Jobs ---------------------------------------------------------------------------------

    def begin(self, before: Sequence[Job]) -> None:
        """Start when those before it have been started, and follow it, on a thread of its own."""
        name = f"job-{self.number}"
        threading.Thread(target=self._run, args=(tuple(before),), name=name, daemon=True).start()

    def end(self) -> bool:
        """Ask its process to end; return whether it is not over yet."""
        with self._lock:
            if self._info.state not in ACTIVE_JOBS:
                return False
            self._cancelled = self._cancelled or time.monotonic()
            self._signal(signal.SIGTERM)
        return True

    def record(self) -> JobRecord:
        """Return what is kept of it on disk."""
        return JobRecord(info=self._info, command=self._work.command, cwd=self._cwd, process_start=self._start)

    def _run(self, before: tuple[Job, ...]) -> None:
        self._jobs.changed(self)  # here: it waits for the disk, which the main thread must not
        try:
            if self._prepared():
                for job in before:
                    job.launched.wait()
                self._launch([job.process for job in before])
        except OSError as error:
            self._finish("failed", f"its process can't be started: {error}")
        finally:
            self.launched.set()
        if self._process is not None:
            self._follow(self._process)

    def _prepared(self) -> bool:
        try:
            self._work.prepare()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the job failed and the loop goes on
            self._finish("failed", str(error) or type(error).__name__)
            return False
        if self._cancelled:
            self._finish("cancelled")
            return False
        return True

    def _launch(self, before: Sequence[tuple[int, int] | None]) -> None:
        after = [process for process in before if process is not None]
        with (
            self._lock,
            open(self.directory / "progress.jsonl", "ab") as said,
            open(self.directory / "log", "ab") as log,
        ):
            process = self._process = subprocess.Popen(
                command_of(self._work.command, after),
                stdin=subprocess.DEVNULL,
                stdout=said,  # a file, not a pipe: it can be written when the session is gone
                stderr=log,
                cwd=self._cwd,
                env={**os.environ, **self._work.environment},
                close_fds=True,
                start_new_session=True,
            )
            self._start = process_start(process.pid)
        self._say(state="queued", pid=process.pid)

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        said = Sayings(self.directory)
        while True:
            try:
                code = process.wait(LOOK_EVERY)
                break
            except subprocess.TimeoutExpired:
                if said.read():
                    self._say(state="running", **_progress(said))
            if self._cancelled and time.monotonic() - self._cancelled > CANCEL_PATIENCE:
                with self._lock:
                    self._signal(signal.SIGKILL)
        said.read()
        if code == 0:
            self._finish("finished", progress=1.0, detail=said.text)
        elif self._cancelled:
            self._finish("cancelled", **_progress(said))
        else:
            self._finish("failed", said.error or _how_it_ended(code, last_words(self.directory)), **_progress(said))

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _say(self, **changes: Any) -> None:
        with self._lock:
            before, self._info = self._info, msgspec.structs.replace(self._info, **changes)
        if before.state != self._info.state:
            self._jobs.changed(self)

    def _finish(self, state: JobState, reason: str = "", **changes: Any) -> None:
        self._say(state=state, reason=reason, ended=time.time(), **changes)
        self._jobs.ended(self)
        self._over.set()


def _progress(said: Sayings) -> dict[str, Any]:
    return {"progress": said.progress, "detail": said.text}


def _how_it_ended(code: int, words: str) -> str:
    if code >= 0:
        return words.removeprefix("elektronn: ") or f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"killed by {name}{', as the system does where memory runs out' if name == 'SIGKILL' else ''}"


class Jobs:
    """The jobs of a session.

    Attributes
    ----------
    version : int
        Grows whenever the state of a job changes.
    """

    def __init__(self, session: Session) -> None:
        self.version = 0
        self._session = session
        self._offers: dict[str, Offer] = {}
        self._jobs: list[Job] = []
        self._untold: deque[tuple[str, str, dict[str, Any]]] = deque()  # client, text, data for the journal

    # --- for the loop -----------------------------------------------------------------------------

    def offer(self, kind: str, offer: Offer) -> None:
        """Say that jobs of a kind can be started."""
        self._offers[kind] = offer

    # --- any thread -------------------------------------------------------------------------------

    def all(self) -> list[Job]:
        """Return the jobs of this session, oldest first."""
        return list(self._jobs)

    def infos(self) -> tuple[JobInfo, ...]:
        """Return the jobs as clients see them."""
        return tuple(job.info for job in list(self._jobs))

    def offers(self) -> tuple[JobOffer, ...]:
        """Return what can be started now."""
        return tuple(
            JobOffer(kind=kind, help=offer.help, options=offer.options()) for kind, offer in self._offers.items()
        )

    def check(self, kind: str, arguments: Sequence[str], cwd: str = "") -> Offer:
        """Return what makes jobs of a kind.

        Raises
        ------
        ElektronnError
            There is no such kind, its arguments are wrong, there is no such directory, or too many jobs wait.
        """
        offer = self._offers.get(kind)
        if offer is None:
            known = did_you_mean(kind, self._offers) or f" It offers: {', '.join(self._offers) or 'none'}."
            raise SessionError(f"this session's loop offers no job {kind!r}.{known}")
        if cwd and not os.path.isdir(cwd):
            raise SessionError(f"there is no directory {cwd}")
        if len([job for job in list(self._jobs) if job.state in ACTIVE_JOBS]) >= MOST_ACTIVE:
            raise SessionError(f"{MOST_ACTIVE} jobs wait or run already; cancel one, or wait for one")
        offer.check(arguments)
        return offer

    def cancel(self, number: int, *, client: str = "") -> None:
        """End a job that waits or runs.

        Raises
        ------
        SessionError
            There is none, or it is over.
        """
        job = next((job for job in list(self._jobs) if job.number == number), None)
        if job is None:
            known = ", ".join(str(job.number) for job in self._jobs) or "none"
            raise SessionError(f"there is no job {number}; there are: {known}")
        if not job.end():
            raise SessionError(f"job {number} is over: it {_WORDS[job.state]}")
        self._tell(client, f"cancel job {number}", {"job": number, "event": "cancel"})

    def changed(self, job: Job) -> None:
        """Keep a job's state and let clients hear of it."""
        try:
            write_record(job.record())
        except OSError as error:
            self._session.logger.warning("job %d: its record can't be written: %s", job.number, error)
        self.version += 1
        self._session.changed()

    def ended(self, job: Job) -> None:
        """Say how a job ended."""
        info = job.info
        text = f"job {info.number} {_WORDS[info.state]}{f': {info.reason}' if info.reason else ''}"
        log = self._session.logger.error if info.state == "failed" else self._session.logger.info
        log("%s (%s; %s)", text, info.text, f"log: {info.directory}/log" if info.state == "failed" else info.directory)
        data = {"job": info.number, "event": info.state, "reason": info.reason}
        self._tell("", text, data)

    # --- the main thread --------------------------------------------------------------------------

    def start(self, kind: str, arguments: Sequence[str], *, cwd: str = "", client: str = "") -> Job:
        """Start a job on a snapshot that is taken now; it is written, and its process started, by another thread.

        Parameters
        ----------
        kind
            One of those that are offered.
        arguments
            As on the command line.
        cwd
            Where its relative paths begin; this process's working directory where it is empty.

        Raises
        ------
        ElektronnError
            The arguments are wrong, or its directory can't be made.
        """
        session = self._session
        offer = self.check(kind, arguments, cwd)
        directory = self._new_directory()
        number = int(directory.name)
        try:
            work = offer.make(directory, arguments)
            data = {"job": number, "event": "start", "kind": kind, "arguments": list(arguments), "cwd": cwd}
            session.record("job", f"job {number}: {kind} {work.text}", data, client=client)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        info = JobInfo(
            number=number,
            kind=kind,
            text=work.text,
            step=session.step,
            started=time.time(),
            directory=str(directory),
            client=client,
        )
        job = Job(self, info, work, cwd or os.getcwd())
        before = [other for other in self._jobs if other.state in ACTIVE_JOBS]
        session.logger.info("job %d: %s %s, on a snapshot of step %d", number, kind, work.text, session.step)
        self._jobs.append(job)
        job.begin(before)
        return job

    def let_go(self) -> None:
        """Leave what waits or runs to itself: the session ends, and it goes on."""
        deadline = time.monotonic() + LETTING_GO_PATIENCE
        for job in self._jobs:
            job.launched.wait(max(deadline - time.monotonic(), 0))
            if job.state in ACTIVE_JOBS and job.process is not None:
                self.changed(job)
                text = f"job {job.number} goes on as process {job.info.pid}; its record is in {job.directory}"
                self._session.logger.info("%s", text)
                self._untold.append(("", text, {"job": job.number, "event": "let go", "pid": job.info.pid}))
        self._write_journal()

    def _new_directory(self) -> Path:
        parent = self._session.run_dir / "jobs"
        number = 1 + max((int(path.name) for path in parent.glob("*") if path.name.isdigit()), default=0)
        directory = parent / f"{number:02d}"
        try:
            directory.mkdir(parents=True)
        except OSError as error:
            raise SessionError(f"no job can be started: {directory} can't be made ({error.strerror})") from error
        return directory

    def _tell(self, client: str, text: str, data: dict[str, Any]) -> None:
        self._untold.append((client, text, data))
        self._session.at_safe_point(self._write_journal)  # the journal is written by the main thread alone

    def _write_journal(self) -> None:
        session = self._session
        with contextlib.suppress(IndexError):
            while True:
                client, text, data = self._untold.popleft()
                try:
                    session.journal.append("job", step=session.step + 1, client=client, text=text, data=data)
                except OSError as error:
                    session.logger.warning("the journal misses %r: %s", text, error)
        session.changed()


_WORDS = {"finished": "finished", "failed": "failed", "cancelled": "was cancelled", "lost": "is lost"}

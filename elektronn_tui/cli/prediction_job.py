"""``elektronn predict`` where MODEL is a running session: a job there, that is waited for here."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from elektronn_tui.errors import SessionError, SessionNotFound

from . import DONE, REFUSED
from .output import print_json, print_line, warn
from .session import connect

if TYPE_CHECKING:
    from elektronn_tui.session.blocking import BlockingClient
    from elektronn_tui.session.protocol import JobInfo
    from elektronn_tui.session.registry import SessionInfo

INTERVAL = 0.5  # seconds between two looks at a job
LINE_EVERY = 30.0  # seconds between two lines where there is no terminal


def add_snapshot_options(parser: argparse._ActionsContainer) -> None:
    """Declare which weights of a session are predicted with."""
    parser.add_argument(
        "--weights",
        choices=("averaged", "current"),
        help="of a session, run or checkpoint: the average of its weights (the default where there is one), or the "
        "weights as they are",
    )


def add_session_options(parser: argparse._ActionsContainer) -> None:
    """Declare what only a running session can be asked for."""
    add_snapshot_options(parser)
    parser.add_argument("--detach", action="store_true", help="of a session: don't wait for the job that it starts")


def refuse_session_options(args: argparse.Namespace) -> None:
    """Refuse what only a running session can be asked for.

    Raises
    ------
    SessionError
        It was.
    """
    if args.detach:
        raise SessionError(f"{args.model} is no running session; --detach is for those alone")


def job_arguments(args: argparse.Namespace) -> list[str]:
    """Return the verb's arguments for a job: all but the model, and what is done here."""
    named: dict[str, Any] = {}
    placed = []
    for action in args.parser._actions:
        value = getattr(args, action.dest, None)
        if action.dest in ("model", "detach", "json", "help") or value == action.default:
            continue
        if action.option_strings:
            named[action.option_strings[-1].removeprefix("--")] = value
        else:
            placed.append(str(value))
    return [*placed, *flags_of(named)]


def flags_of(options: Mapping[str, Any]) -> list[str]:
    """Return keywords as flags: True as the flag alone, False and None as nothing, several values with commas."""
    flags = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            flags.append(flag)
        elif value is not None and value is not False:
            several = isinstance(value, (list, tuple))
            flags.append(f"{flag}={','.join(str(item) for item in value) if several else value}")
    return flags


def running_session(text: str) -> SessionInfo | None:
    """Return the session of that name, if it runs and there is no file called so."""
    from elektronn_tui.session.registry import find

    if os.path.exists(text):
        return None
    try:
        info = find(text)
    except SessionNotFound:
        return None
    return info if info.socket else None


def run_as_job(session: SessionInfo, args: argparse.Namespace) -> int:
    """Start a job with the verb's arguments, wait for it unless told not to, and return the exit code.

    Ctrl-C leaves the job to itself.
    """
    from elektronn_tui.session.protocol import StartJob

    with connect(session.id) as client:
        message = StartJob(kind="predict", arguments=tuple(job_arguments(args)), cwd=os.getcwd())
        job = client.request(message, timeout=None).job
        if args.detach:
            print_json(job) if args.json else print_line(f"job {job.number} of {session.name}: {job.directory}")
            return DONE
        shown = Shown(sys.stderr)
        try:
            job = waited_for(client, session, job, shown.show)
            shown.clear()
        except KeyboardInterrupt:
            shown.clear()
            warn(f"job {job.number} goes on; cancel it by: elektronn jobs {session.name} --cancel {job.number}")
            return 130
    if args.json:
        print_json(job)
    elif job.state == "finished":
        print_line(f"job {job.number} finished: {job.text}")
    if job.state != "finished":
        why = f": {job.reason.rstrip('.')}" if job.reason else ""
        warn(f"job {job.number} {job.state}{why}; its log: {job.directory}/log")
    return DONE if job.state == "finished" else REFUSED


def waited_for(client: BlockingClient, session: SessionInfo, job: JobInfo, show: Callable[[JobInfo], None]) -> JobInfo:
    """Return a job that is over; it may outlive its session, and is then followed by its files."""
    from msgspec import structs

    from elektronn_tui.session.errors import ConnectionLost
    from elektronn_tui.session.job_files import read_jobs
    from elektronn_tui.session.protocol import ACTIVE_JOBS, GetJobs

    connected = True
    while job.state in ACTIVE_JOBS:
        show(job)
        time.sleep(INTERVAL)
        try:
            jobs = client.request(GetJobs()).jobs if connected else read_jobs(Path(session.run_dir))
        except ConnectionLost:
            connected = False
            continue
        found = next((other for other in jobs if other.number == job.number), None)
        job = found or structs.replace(job, state="lost", reason="the session died before it began")
    return job


class Shown:
    """Where a job stands: a line that is written over on a terminal, one now and then elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._last = ("", 0.0)

    def show(self, job: JobInfo) -> None:
        """Show it."""
        line, now = line_of(job), time.monotonic()
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self._stream.write(f"\r\x1b[K{line[: width - 1]}")
        elif job.state != self._last[0] or now - self._last[1] >= LINE_EVERY:
            self._last = (job.state, now)
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line of a terminal away."""
        if self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def line_of(job: JobInfo) -> str:
    """Return where a job stands."""
    how = f"{100 * job.progress:.0f} %" if job.state == "running" else job.state
    return "  ".join(part for part in (f"job {job.number}", how, job.detail or job.text) if part)

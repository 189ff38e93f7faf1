"""What a job leaves in its directory ``jobs/NN`` of the run, which tells of it when its session is over, too.

``job.json`` is the record, ``progress.jsonl`` what the job said of itself, a JSON object a line, ``log`` its standard
error. An object of ``progress.jsonl`` may have ``progress`` (0 to 1), ``text`` (for people) and ``event``: ``begin``,
``done`` or ``error``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from elektronn_tui.errors import SessionError

from .files import write_atomically
from .processes import boot_id, host_name, pid_namespace, process_start
from .protocol import ACTIVE_JOBS, JobInfo

__all__ = ["JobRecord", "Sayings", "cancel_job", "last_words", "read_jobs", "write_record"]

LONGEST_REASON = 500


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``job.json``."""

    info: JobInfo
    command: tuple[str, ...]
    cwd: str
    process_start: int | None = None
    host: str = msgspec.field(default_factory=host_name)
    boot_id: str = msgspec.field(default_factory=boot_id)
    pid_namespace: str = msgspec.field(default_factory=pid_namespace)

    @property
    def alive(self) -> bool:
        """Whether its process runs, as far as can be seen from here."""
        if self.process_start is None or not self.here:
            return False
        return process_start(self.info.pid) == self.process_start

    @property
    def here(self) -> bool:
        """Whether its process would be seen from here."""
        return (self.host, self.boot_id, self.pid_namespace) == (host_name(), boot_id(), pid_namespace())


def write_record(record: JobRecord) -> None:
    """Write ``job.json``."""
    write_atomically(Path(record.info.directory) / "job.json", msgspec.json.format(msgspec.json.encode(record)))


class Sayings:
    """What a job has said of itself, read as it comes.

    Parameters
    ----------
    directory
        The job's.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "progress.jsonl"
        self._read = 0
        self._rest = b""
        self.begun = self.done = False
        self.progress = 0.0
        self.text = ""
        self.error = ""

    def read(self) -> bool:
        """Read on; return whether there was anything new."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._read)
                new = file.read()
        except OSError:
            return False
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for said in _objects(lines):
            self._take(said)
        return bool(lines)

    def applied(self, info: JobInfo) -> JobInfo:
        """Return where a job stands that has said this."""
        return msgspec.structs.replace(info, progress=1.0 if self.done else self.progress, detail=self.text)

    def _take(self, said: Mapping[str, Any]) -> None:
        event = said.get("event")
        self.begun = True
        self.done = self.done or event == "done"
        progress = said.get("progress")
        if isinstance(progress, int | float) and math.isfinite(progress):
            self.progress = min(max(float(progress), 0.0), 1.0)
        if isinstance(said.get("text"), str):
            self.text = said["text"][:LONGEST_REASON]
        if event == "error":
            self.error = str(said.get("message") or said.get("text") or "")[:LONGEST_REASON]


def _objects(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict):
                yield said


def last_words(directory: Path) -> str:
    """Return the last line that a job wrote on standard error; empty for none."""
    try:
        with open(directory / "log", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 4000, 0))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:LONGEST_REASON] for line in reversed(lines) if line.strip()), "")


def read_jobs(run_dir: Path) -> tuple[JobInfo, ...]:
    """Return the jobs of a run whose session is over, as their files tell."""
    return tuple(_settled(record) for record in _records(run_dir))


def cancel_job(run_dir: Path, number: int) -> JobInfo:
    """End a job of a run whose session is over, and return what became of it.

    Raises
    ------
    SessionError
        There is no such job, or its process is on another host.
    """
    record = next((record for record in _records(run_dir) if record.info.number == number), None)
    if record is None:
        raise SessionError(f"there is no job {number} in {run_dir}")
    info = _settled(record)
    if info.state not in ACTIVE_JOBS:
        return info
    if not record.alive:
        raise SessionError(f"job {number} runs on {record.host} as process {info.pid}; cancel it there")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(info.pid, signal.SIGTERM)
    info = msgspec.structs.replace(info, state="cancelled", ended=time.time(), reason="")
    write_record(msgspec.structs.replace(record, info=info))
    return info


def _records(run_dir: Path) -> Iterator[JobRecord]:
    for path in sorted((run_dir / "jobs").glob("*/job.json"), key=lambda path: (len(path.parent.name), path)):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            record = msgspec.json.decode(path.read_bytes(), type=JobRecord)
            info = msgspec.structs.replace(record.info, directory=str(path.parent))  # the run may have been moved
            yield msgspec.structs.replace(record, info=info)


def _settled(record: JobRecord) -> JobInfo:
    info = record.info
    if info.state not in ACTIVE_JOBS:
        return info
    directory = Path(info.directory)
    said = Sayings(directory)
    alive = record.alive  # before what it said is read: what it says last, it says before it ends
    said.read()
    info = said.applied(info)
    if alive or not record.here:
        return msgspec.structs.replace(info, state="running" if said.begun else "queued")
    if said.done:
        return msgspec.structs.replace(info, state="finished", reason="")
    if said.error:
        return msgspec.structs.replace(info, state="failed", reason=said.error)
    why = "its process is gone" if record.process_start is not None else "the session ended before it began"
    return msgspec.structs.replace(info, state="lost", reason=why)

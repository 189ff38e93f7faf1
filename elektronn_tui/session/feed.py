"""What clients see of a session: a snapshot, then what changed since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from .protocol import (
    ConsoleOutput,
    ControlInfo,
    Delta,
    JobInfo,
    LogLine,
    MetricInfo,
    NodeInfo,
    PreviewInfo,
    Snapshot,
    Status,
)
from .session import Session

__all__ = ["Cursor", "Feed"]

T = TypeVar("T", LogLine, ConsoleOutput)

TEXT_BUDGET = 48_000
"""Characters of log lines, and of console output, that one message brings at most."""
MARKS, LOG_LINES, JOURNAL_ENTRIES, CONSOLE_PIECES, JOBS = 1000, 200, 100, 200, 100


@dataclass
class Cursor:
    """What was sent so far."""

    sequence: int = 0
    status: Status | None = None
    controls_version: int = -1
    controls: dict[str, ControlInfo] = field(default_factory=dict)
    metrics: dict[str, MetricInfo] = field(default_factory=dict)
    marks: int = 0
    log: int = 0
    journal: int = 0
    console: int = 0
    graph: tuple[NodeInfo, ...] = ()
    preview: PreviewInfo | None = None
    undo: str = ""
    redo: str = ""
    jobs_version: int = 0
    jobs: dict[int, JobInfo] = field(default_factory=dict)


class Feed:
    """Makes snapshots and deltas of a session; server thread only."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._measured = (0.0, 0)
        self._rate = 0.0
        self.clients = 0

    def measure(self) -> None:
        """Measure the loop's speed, for loops that do not say it."""
        seconds, step = self._session.training_time, self._session.step
        passed = seconds - self._measured[0]
        if passed >= 0.5:
            rate = max(step - self._measured[1], 0) / passed
            self._rate = rate if not self._rate else 0.6 * self._rate + 0.4 * rate
            self._measured = (seconds, step)

    def status(self) -> Status:
        """Return where the session stands, with speed and end estimated where the loop does not say them."""
        status = self._session.status(self.clients)
        if not status.rate and self._rate:
            status = msgspec.structs.replace(status, rate=self._rate)
        if status.eta is None and status.steps and status.rate > 0:
            status = msgspec.structs.replace(status, eta=max(status.steps - status.step, 0) / status.rate)
        return status

    def delta(self, cursor: Cursor, *, urgent: bool = False) -> Delta | None:
        """Return what changed since the cursor, and move it; None for nothing.

        Parameters
        ----------
        urgent
            Leave out what flows all the time, metrics and log.
        """
        session = self._session
        changes: dict[str, object] = {}
        status = self.status()
        if status != cursor.status:
            changes["status"] = cursor.status = status
        if session.controls.version != cursor.controls_version:
            cursor.controls_version = session.controls.version
            infos = {info.name: info for info in session.controls.infos()}
            changed = tuple(info for name, info in infos.items() if cursor.controls.get(name) != info)
            cursor.controls = infos
            if changed:
                changes["controls"] = changed
        marks, cursor.marks = session.marks.since(cursor.marks, MARKS)
        if marks:
            changes["marks"] = marks
        entries, total = session.journal.newest.since(cursor.journal, JOURNAL_ENTRIES)
        if total != cursor.journal:
            changes |= {"journal_total": total, "journal_tail": entries}
            cursor.journal = total
        session.console.gather()
        pieces, cursor.console = session.console.transcript.since(cursor.console, CONSOLE_PIECES)
        if pieces:
            changes["console"] = _within_budget(pieces)
        if session.graph is not cursor.graph:
            changes["graph"] = cursor.graph = session.graph
        if session.previews.newest is not cursor.preview:
            changes["preview"] = cursor.preview = session.previews.newest
        undo, redo = session.edits.undo_text, session.edits.redo_text
        if undo != cursor.undo:
            changes["undo"] = cursor.undo = undo
        if redo != cursor.redo:
            changes["redo"] = cursor.redo = redo
        if session.jobs.version != cursor.jobs_version or not urgent:
            self._jobs(cursor, changes)
        if not urgent:
            self._flowing(cursor, changes)
        if not changes:
            return None
        cursor.sequence += 1
        return Delta(sequence=cursor.sequence, **changes)  # type: ignore[arg-type]

    def snapshot(self, cursor: Cursor) -> Snapshot:
        """Return the whole state as of the cursor, so that its next delta follows without a gap or a repetition."""
        session = self._session
        log = session.log.newest.until(cursor.log, LOG_LINES)
        console = session.console.transcript.until(cursor.console, CONSOLE_PIECES)
        return Snapshot(
            sequence=cursor.sequence,
            status=cursor.status or self.status(),
            controls=tuple(cursor.controls.values()),
            metrics=tuple(cursor.metrics.values()),
            marks=session.marks.until(cursor.marks, MARKS),
            log_total=cursor.log,
            log_tail=_within_budget(log),
            journal_total=cursor.journal,
            journal_tail=session.journal.newest.until(cursor.journal, JOURNAL_ENTRIES),
            graph=cursor.graph,
            preview=cursor.preview,
            console=_within_budget(console),
            undo=cursor.undo,
            redo=cursor.redo,
            jobs=tuple(cursor.jobs.values()),
        )

    def _jobs(self, cursor: Cursor, changes: dict[str, object]) -> None:
        cursor.jobs_version = self._session.jobs.version
        infos = {info.number: info for info in self._session.jobs.infos()[-JOBS:]}
        changed = tuple(info for number, info in infos.items() if cursor.jobs.get(number) != info)
        cursor.jobs = infos
        if changed:
            changes["jobs"] = changed

    def _flowing(self, cursor: Cursor, changes: dict[str, object]) -> None:
        session = self._session
        infos = {info.name: info for info in session.history.metrics()}
        changed = tuple(info for name, info in infos.items() if cursor.metrics.get(name) != info)
        cursor.metrics = infos
        if changed:
            changes["metrics"] = changed
        lines, total = session.log.newest.since(cursor.log, LOG_LINES)
        if total != cursor.log:
            changes |= {"log_total": total, "log_tail": _within_budget(lines)}
            cursor.log = total


def _within_budget(items: Sequence[T]) -> tuple[T, ...]:
    """Return the newest items whose texts fit into a message; one that alone is longer is cut."""
    kept: list[T] = []
    left = TEXT_BUDGET
    for item in reversed(items):
        if len(item.text) > left:
            if not kept:
                kept.append(msgspec.structs.replace(item, text=item.text[:left] + " …"))
            break
        kept.append(item)
        left -= len(item.text)
    return tuple(reversed(kept))

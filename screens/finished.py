"""A run that nobody serves any more, read from its directory: the same screen, nothing to change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import msgspec

from elektronn_tui.errors import ElektronnError
from elektronn_tui.session.errors import RequestRefused
from elektronn_tui.session.job_files import read_jobs
from elektronn_tui.session.journal import read_journal
from elektronn_tui.session.log import read_log
from elektronn_tui.session.protocol import (
    LIVE_STATES,
    Answer,
    ControlInfo,
    Curve,
    Curves,
    GetCurves,
    GetLog,
    GetPreview,
    JournalEntry,
    LogLine,
    LogLines,
    Mark,
    MetricInfo,
    NodeInfo,
    Preview,
    PreviewInfo,
    Request,
    Status,
    Welcome,
)
from elektronn_tui.session.registry import SessionInfo

from .kept_preview import newest_preview, preview_info, read_preview
from .state import ALL_PARTS, KEPT_JOURNAL, KEPT_LOG, KEPT_MARKS, Part, SessionState

__all__ = ["FinishedLink"]

MARKED = frozenset({"set", "undo", "redo", "pause", "save", "statement", "policy"})
"""Kinds of journal entries that are drawn on the curves."""


class FinishedLink:
    """Answers what a session would, from the files that it left.

    Parameters
    ----------
    info : SessionInfo
        The run.
    on_change : callable
        Called once, with the state that was read.
    """

    read_only = True

    def __init__(
        self, info: SessionInfo, on_change: Callable[[SessionState, frozenset[Part]], None] = lambda *_: None
    ) -> None:
        self.info = info
        self.state = SessionState()
        self.welcome: Welcome | None = None
        self._on_change = on_change
        self._run_dir = Path(info.run_dir)
        self._log_read: list[LogLine] | None = None

    async def run(self) -> None:
        """Read the run."""
        self.state = await asyncio.to_thread(self._read)
        self._on_change(self.state, ALL_PARTS)

    def retry(self) -> None:
        """There is nothing to try again: what ended stays ended."""

    async def request(self, message: Request) -> Answer:
        """Answer what the files can.

        Raises
        ------
        RequestRefused
            It would need the session itself.
        """
        if isinstance(message, GetLog):
            log = await asyncio.to_thread(self._log_lines)
            first = message.first if message.first >= 0 else max(0, len(log) + message.first)
            return LogLines(total=len(log), lines=tuple(log[first : first + message.count]))
        if isinstance(message, GetCurves):
            return Curves(curves=await asyncio.to_thread(self._curves, message))
        if isinstance(message, GetPreview):
            return await asyncio.to_thread(self._preview, message)
        raise RequestRefused(f"the session has {self.info.state}; what is seen comes from {self._run_dir}")

    def _read(self) -> SessionState:
        info = self.info
        elsewhere = info.state in LIVE_STATES
        text = f"it runs on {info.host}; attach from there" if elsewhere else info.reason
        log = self._log_lines()
        journal = self._journal()
        status = Status(
            state=info.state,
            reason=info.reason,
            step=info.step,
            steps=info.steps,
            training_time=info.training_time,
            started=info.started,
        )
        metrics = {metric.name: metric for metric in self._metrics()}
        return SessionState(
            link="ended",
            link_text=text,
            status=status,
            controls=MappingProxyType({info.name: info for info in self._controls()}),
            metrics=MappingProxyType(metrics),
            marks=_marks(journal),
            log_total=len(log),
            log_tail=tuple(log[-KEPT_LOG:]),
            journal_total=len(journal),
            journal_tail=tuple(journal[-KEPT_JOURNAL:]),
            graph=self._graph(),
            preview=self._preview_info(),
            jobs=MappingProxyType({job.number: job for job in read_jobs(self._run_dir)}),
        )

    def _log_lines(self) -> list[LogLine]:
        if self._log_read is None:
            try:
                self._log_read = read_log(self._run_dir / "session.log")
            except OSError as error:
                text = f"session.log can't be read: {error}"
                self._log_read = [LogLine(index=0, time=0.0, level="ERROR", step=0, text=text)]
        return self._log_read

    def _preview_info(self) -> PreviewInfo | None:
        path = newest_preview(self._run_dir)
        try:
            return preview_info(path) if path is not None else None
        except OSError:
            return None

    def _preview(self, message: GetPreview) -> Preview:
        path = newest_preview(self._run_dir)
        if path is None:
            raise RequestRefused(f"there is no preview in {self._run_dir / 'previews'}")
        try:
            return read_preview(path, message)
        except OSError as error:
            raise RequestRefused(f"{path}: {error}") from error

    def _journal(self) -> list[JournalEntry]:
        try:
            return read_journal(self._run_dir / "journal.jsonl")
        except OSError:
            return []

    def _graph(self) -> tuple[NodeInfo, ...]:
        try:
            return msgspec.json.decode((self._run_dir / "graph.json").read_bytes(), type=tuple[NodeInfo, ...])
        except (OSError, msgspec.DecodeError):
            return ()  # it failed before it had a network, or was cut off

    def _controls(self) -> list[ControlInfo]:
        """Return the controls as the last checkpoint has them."""
        from elektronn_tui.training.schedules import schedule_from_dict

        try:
            saved = json.loads((self._run_dir / "checkpoints" / "latest" / "state.json").read_bytes())["controls"]
            return [
                ControlInfo(
                    name=name,
                    type="text",
                    value=control["value"],
                    edits=control["edits"],
                    pinned=control["pinned"],
                    schedule=schedule_from_dict(control["schedule"]).describe() if control["schedule"] else "",
                    help="as in the last checkpoint",
                )
                for name, control in saved.items()
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []  # no checkpoint, or one of another version: nothing to show

    def _metrics(self) -> tuple[MetricInfo, ...]:
        from elektronn_tui.training.history import HistoryReader

        try:
            with HistoryReader(self._run_dir / "history.sqlite") as history:
                return history.metrics()
        except ElektronnError:
            return ()

    def _curves(self, message: GetCurves) -> tuple[Curve, ...]:
        from elektronn_tui.training.history import HistoryReader

        with HistoryReader(self._run_dir / "history.sqlite") as history:
            return tuple(history.curve(q.metric, q.first, q.last, q.width).message() for q in message.queries)


def _marks(journal: list[JournalEntry]) -> tuple[Mark, ...]:
    kinds = {"set": "edit"}
    marks = [
        Mark(step=entry.step, time=float("nan"), kind=kinds.get(entry.kind, entry.kind), text=entry.text)
        for entry in journal
        if entry.kind in MARKED
    ]
    return tuple(marks[-KEPT_MARKS:])

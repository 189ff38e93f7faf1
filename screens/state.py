"""What the screens know of a session: an immutable state, and how a snapshot or a delta makes the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeVar

from elektronn_tui.session.protocol import (
    LIVE_STATES,
    ConsoleOutput,
    ControlInfo,
    Delta,
    JobInfo,
    JournalEntry,
    LogLine,
    Mark,
    MetricInfo,
    NodeInfo,
    PreviewInfo,
    Snapshot,
    Status,
)

__all__ = ["ALL_PARTS", "Link", "Part", "SessionState", "after_delta", "after_snapshot", "with_link"]

Link = Literal["connecting", "live", "lost", "ended"]
Part = Literal[
    "status", "controls", "metrics", "marks", "log", "journal", "graph", "preview", "console", "undo", "jobs", "link"
]
ALL_PARTS: frozenset[Part] = frozenset(
    ("status", "controls", "metrics", "marks", "log", "journal", "graph", "preview", "console", "undo", "jobs", "link")
)

KEPT_MARKS = 1000
KEPT_LOG = 200
KEPT_JOURNAL = 100
KEPT_CONSOLE = 200

T = TypeVar("T")


@dataclass(frozen=True)
class SessionState:
    """Everything a screen can show of a session at one moment.

    Attributes
    ----------
    link : {"connecting", "live", "lost", "ended"}
        How fresh the rest is: only ``live`` is of now.
    link_text : str
        Why the link is as it is, for people.
    gap : int
        Deltas that the session skipped because this client did not read, since it last caught up.
    log_tail, journal_tail, console, marks : tuple
        The newest ones, as many as a snapshot carries.
    """

    link: Link = "connecting"
    link_text: str = ""
    gap: int = 0
    sequence: int = -1
    status: Status = field(default_factory=Status)
    controls: Mapping[str, ControlInfo] = field(default_factory=lambda: MappingProxyType({}))
    metrics: Mapping[str, MetricInfo] = field(default_factory=lambda: MappingProxyType({}))
    marks: tuple[Mark, ...] = ()
    log_total: int = 0
    log_tail: tuple[LogLine, ...] = ()
    journal_total: int = 0
    journal_tail: tuple[JournalEntry, ...] = ()
    graph: tuple[NodeInfo, ...] = ()
    preview: PreviewInfo | None = None
    console: tuple[ConsoleOutput, ...] = ()
    undo: str = ""
    redo: str = ""
    jobs: Mapping[int, JobInfo] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def live(self) -> bool:
        """Whether the session runs, as far as is known."""
        return self.link != "ended" and self.status.state in LIVE_STATES

    @property
    def extent(self) -> int:
        """Axes of space that the input has; 3 as long as it is not known."""
        inputs = [node.tags for node in self.graph if node.role == "input" and node.tags]
        return max((sum(tag in tags.split(",") for tag in "zyx") for tags in inputs), default=3)


def after_snapshot(state: SessionState, snapshot: Snapshot) -> SessionState:
    """Return the state that a snapshot describes; nothing of the old one but the link's text is kept."""
    return SessionState(
        link="live",
        gap=0,
        sequence=snapshot.sequence,
        status=snapshot.status,
        controls=_by_name({}, snapshot.controls),
        metrics=_by_name({}, snapshot.metrics),
        marks=snapshot.marks[-KEPT_MARKS:],
        log_total=snapshot.log_total,
        log_tail=snapshot.log_tail[-KEPT_LOG:],
        journal_total=snapshot.journal_total,
        journal_tail=snapshot.journal_tail[-KEPT_JOURNAL:],
        graph=snapshot.graph,
        preview=snapshot.preview,
        console=snapshot.console[-KEPT_CONSOLE:],
        undo=snapshot.undo,
        redo=snapshot.redo,
        jobs=MappingProxyType({job.number: job for job in snapshot.jobs}),
    )


def after_delta(state: SessionState, delta: Delta) -> tuple[SessionState, frozenset[Part]]:
    """Return the state after a delta, and which parts of it changed."""
    changed: dict[str, object] = {"sequence": delta.sequence}
    parts: set[Part] = set()
    if delta.status is not None:
        changed["status"] = delta.status
        parts.add("status")
    if delta.controls:
        changed["controls"] = _by_name(state.controls, delta.controls)
        parts.add("controls")
    if delta.metrics:
        changed["metrics"] = _by_name(state.metrics, delta.metrics)
        parts.add("metrics")
    if delta.marks:
        changed["marks"] = (state.marks + delta.marks)[-KEPT_MARKS:]
        parts.add("marks")
    if delta.log_total is not None or delta.log_tail:
        changed["log_total"] = state.log_total if delta.log_total is None else delta.log_total
        changed["log_tail"] = (state.log_tail + (delta.log_tail or ()))[-KEPT_LOG:]
        parts.add("log")
    if delta.journal_total is not None or delta.journal_tail:
        changed["journal_total"] = state.journal_total if delta.journal_total is None else delta.journal_total
        changed["journal_tail"] = (state.journal_tail + (delta.journal_tail or ()))[-KEPT_JOURNAL:]
        parts.add("journal")
    if delta.graph is not None:
        changed["graph"] = delta.graph
        parts.add("graph")
    if delta.preview is not None:
        changed["preview"] = delta.preview
        parts.add("preview")
    if delta.console:
        changed["console"] = (state.console + delta.console)[-KEPT_CONSOLE:]
        parts.add("console")
    if delta.undo is not None or delta.redo is not None:
        changed["undo"] = state.undo if delta.undo is None else delta.undo
        changed["redo"] = state.redo if delta.redo is None else delta.redo
        parts.add("undo")
    if delta.jobs:
        changed["jobs"] = MappingProxyType({**state.jobs, **{job.number: job for job in delta.jobs}})
        parts.add("jobs")
    return replace(state, **changed), frozenset(parts)  # type: ignore[arg-type]


def with_link(state: SessionState, link: Link, text: str = "", *, gap: int | None = None) -> SessionState:
    """Return the state under another condition of the link; what was known stays known."""
    return replace(state, link=link, link_text=text, gap=state.gap if gap is None else gap)


_Named = TypeVar("_Named", ControlInfo, MetricInfo)


def _by_name(known: Mapping[str, _Named], new: Iterable[_Named]) -> Mapping[str, _Named]:
    return MappingProxyType({**known, **{info.name: info for info in new}})

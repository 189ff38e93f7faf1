"""The state of a session: delta after delta equals the snapshot that a late client gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.screens.state import ALL_PARTS, SessionState, after_delta, after_snapshot, with_link
from elektronn_tui.session.protocol import (
    ConsoleOutput,
    ControlInfo,
    Delta,
    JournalEntry,
    LogLine,
    Mark,
    MetricInfo,
    NodeInfo,
    PreviewInfo,
    Snapshot,
    Status,
)

NAMES = st.sampled_from(["lr", "momentum", "batch_size", "warp"])
CONTROLS = st.builds(ControlInfo, name=NAMES, type=st.just("float"), value=st.floats(0, 1), edits=st.integers(0, 9))
METRICS = st.builds(MetricInfo, name=NAMES, count=st.integers(0, 99), step=st.integers(0, 99), value=st.floats(0, 1))
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "status": st.builds(Status, step=st.integers(0, 10**6), state=st.sampled_from(["running", "paused"])),
        "controls": st.lists(CONTROLS, max_size=3).map(tuple),
        "metrics": st.lists(METRICS, max_size=3).map(tuple),
        "marks": st.integers(0, 400),
        "log": st.integers(0, 150),
        "journal": st.integers(0, 80),
        "console": st.integers(0, 150),
        "graph": st.lists(st.builds(NodeInfo, name=NAMES, kind=st.just("Conv")), max_size=2).map(tuple),
        "preview": st.builds(PreviewInfo, count=st.integers(1, 9), step=st.integers(0, 99), depth=st.integers(1, 9)),
        "undo": st.text(max_size=5),
        "redo": st.text(max_size=5),
    },
)


class Session:
    """Keeps everything, as a session does; gives snapshots and deltas of it."""

    def __init__(self) -> None:
        self.sequence = 0
        self.status = Status()
        self.controls: dict[str, ControlInfo] = {}
        self.metrics: dict[str, MetricInfo] = {}
        self.marks: list[Mark] = []
        self.log: list[LogLine] = []
        self.journal: list[JournalEntry] = []
        self.console: list[ConsoleOutput] = []
        self.rest: dict[str, Any] = {"graph": (), "preview": None, "undo": "", "redo": ""}

    def change(self, changes: dict[str, Any]) -> Delta:
        self.sequence += 1
        fields: dict[str, Any] = {}
        for name, value in changes.items():
            if name == "status":
                self.status = fields[name] = value
            elif name in ("controls", "metrics"):
                getattr(self, name).update({info.name: info for info in value})
                fields[name] = value
            elif name == "marks":
                new = [Mark(step=len(self.marks) + i, time=0.0, kind="edit", text="") for i in range(value)]
                self.marks += new
                fields[name] = tuple(new)
            elif name == "log":
                new_lines = [
                    LogLine(index=len(self.log) + i, time=0.0, level="INFO", step=0, text="") for i in range(value)
                ]
                self.log += new_lines
                fields |= {"log_tail": tuple(new_lines), "log_total": len(self.log)}
            elif name == "journal":
                entries = [
                    JournalEntry(id=len(self.journal) + i, time=0.0, step=0, kind="set", client="", text="")
                    for i in range(value)
                ]
                self.journal += entries
                fields |= {"journal_tail": tuple(entries), "journal_total": len(self.journal)}
            elif name == "console":
                outputs = [
                    ConsoleOutput(statement=len(self.console) + i, stream="stdout", text="") for i in range(value)
                ]
                self.console += outputs
                fields[name] = tuple(outputs)
            else:
                self.rest[name] = fields[name] = value
        return Delta(sequence=self.sequence, **fields)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            sequence=self.sequence, status=self.status, controls=tuple(self.controls.values()),
            metrics=tuple(self.metrics.values()), marks=tuple(self.marks[-1000:]), log_total=len(self.log),
            log_tail=tuple(self.log[-200:]), journal_total=len(self.journal),
            journal_tail=tuple(self.journal[-100:]), console=tuple(self.console[-200:]), **self.rest,
        )  # fmt: skip


@given(before=st.lists(CHANGES, max_size=4), after=st.lists(CHANGES, max_size=4))
def test_deltas_lead_where_a_snapshot_leads(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    session = Session()
    for changes in before:
        session.change(changes)
    state = after_snapshot(SessionState(), session.snapshot())
    for changes in after:
        state, parts = after_delta(state, session.change(changes))
        assert parts <= ALL_PARTS
    assert state == after_snapshot(SessionState(), session.snapshot())


def test_a_delta_names_the_parts_that_changed_and_leaves_the_old_state_alone() -> None:
    first = after_snapshot(SessionState(), Snapshot(sequence=4, status=Status(step=3)))
    second, parts = after_delta(first, Delta(sequence=5, status=Status(step=4), undo="lr 1 → 2"))
    assert parts == {"status", "undo"}
    assert (first.status.step, second.status.step) == (3, 4)
    assert (first.undo, second.undo) == ("", "lr 1 → 2")
    assert after_delta(second, Delta(sequence=6))[1] == frozenset()


def test_a_lost_connection_keeps_what_was_known_and_a_snapshot_heals_it() -> None:
    live = after_snapshot(SessionState(), Snapshot(sequence=4, status=Status(step=3, state="running")))
    lost = with_link(live, "lost", "the line is down")
    assert (lost.status, lost.link, lost.live) == (live.status, "lost", True)
    gap = with_link(live, "live", gap=7)
    assert after_snapshot(gap, Snapshot(sequence=9, status=live.status)).gap == 0


def test_a_session_that_ended_is_not_live() -> None:
    status = msgspec.structs.replace(Status(), state="finished")
    assert not replace(SessionState(), link="ended", status=status).live
    assert not replace(SessionState(), link="live", status=status).live

"""What the panes compute: orders, texts, and the list that several of them are made of."""

from __future__ import annotations

from typing import Any

import pytest
from fake_session import GRAPH
from textual.app import App, ComposeResult

from elektronn_tui.errors import ControlError
from elektronn_tui.screens.panes.controls import as_control, receipt_text
from elektronn_tui.screens.panes.graph import tree_order
from elektronn_tui.screens.panes.plots import default_metrics, families
from elektronn_tui.screens.panes.rows import Column, Row, RowsView
from elektronn_tui.screens.panes.transcript import TranscriptView
from elektronn_tui.screens.wording import ago, count, duration, number, size, value_text
from elektronn_tui.session.protocol import ConsoleOutput, ControlInfo, NodeInfo, Receipt


def test_numbers_are_written_for_people() -> None:
    assert count(12430) == "12 430"
    assert [size(v) for v in (12, 48210, 3.2e6)] == ["12", "48.2 k", "3.2 M"]
    assert [number(v) for v in (None, float("nan"), float("inf"), 0.123456)] == ["–", "NaN", "∞", "0.1235"]
    assert [duration(v) for v in (None, 59, 61, 11520, 90000)] == ["–", "59 s", "1 m 1 s", "3 h 12 m", "1 d 1 h"]
    assert [ago(0, v) for v in (5, 120, 7200, 200000)] == ["just now", "2 min ago", "2 h ago", "2 d ago"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-4, "5.0e-4"),
        (0.0018000000000000002, "0.0018"),
        (1.0, "1.0"),
        (0.0, "0.0"),
        (-3.0, "-3.0"),
        (1.25e7, "1.25e7"),
        (3, "3"),
        (True, "true"),
        (None, "none"),
        ([0.5, 1.0], "0.5, 1.0"),
        ("pause", "pause"),
        (float("inf"), "inf"),
    ],
)
def test_a_value_is_shown_as_it_is_typed(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_a_receipt_is_a_sentence() -> None:
    receipt = Receipt(control="lr", old=5e-4, new=1e-4, step=12431, schedule="pinned")
    assert receipt_text(receipt) == "lr 5.0e-4 → 1.0e-4, applied at step 12 431, pinned"


def test_a_control_refuses_here_as_in_the_session() -> None:
    control = as_control(ControlInfo(name="lr", type="float", value=1.0, minimum=0.0, exclusive_minimum=True))
    assert control.parse("1e-3") == 1e-3
    with pytest.raises(ControlError, match="> 0"):
        control.parse("0")


def test_a_network_is_ordered_as_a_narrow_tree() -> None:
    order = tree_order(GRAPH)
    assert sorted(node.name for node, _, _ in order) == sorted(node.name for node in GRAPH)
    place = {node.name: i for i, (node, _, _) in enumerate(order)}
    for node in GRAPH:
        assert not node.parents or place[node.parents[-1]] < place[node.name]
    depth = {node.name: d for node, d, _ in order}
    assert depth["raw"] == 0
    assert depth["conv1"] == depth["conv4"] == 1  # a chain stays where it is
    assert depth["nll"] == depth["errors"] == 2  # a fork goes deeper


def test_a_network_with_unknown_parents_is_shown_all_the_same() -> None:
    nodes = (NodeInfo(name="a", kind="Conv", parents=("gone",)), NodeInfo(name="b", kind="Conv", parents=("a",)))
    assert [node.name for node, _, _ in tree_order(nodes)] == ["a", "b"]


def test_metrics_are_grouped_by_what_they_measure() -> None:
    assert families(["loss", "valid_loss", "error", "valid_balanced_error"]) == {
        "loss": ["loss", "valid_loss"],
        "error": ["error", "valid_balanced_error"],
    }


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        (
            ["loss", "error", "valid_loss", "valid_error", "valid_balanced_error"],
            ("loss", "valid_loss", "valid_balanced_error", "error"),
        ),
        (["loss", "error", "valid_error"], ("loss", "error", "valid_error")),
        (["reward", "length", "speed"], ("reward", "length")),
        ([], ()),
    ],
)
def test_what_is_plotted_before_anybody_chose(known: list[str], chosen: tuple[str, ...]) -> None:
    assert default_metrics(known) == chosen


class Rows(App[None]):
    def compose(self) -> ComposeResult:
        yield RowsView((Column("name"), Column("value", align="right", rank=2), Column("text", grow=True, rank=1)))


def lines(app: App[None]) -> list[str]:
    view = app.query_one(RowsView)
    return ["".join(segment.text for segment in view.render_line(y)).rstrip() for y in range(view.size.height)]


async def test_columns_are_aligned_and_dropped_by_rank() -> None:
    app = Rows()
    async with app.run_test(size=(30, 6)) as pilot:
        view = app.query_one(RowsView)
        view.set_rows([Row("a", ("a", "1", "first")), Row("bcd", ("bcd", "22", "second"))])
        await pilot.pause()
        assert lines(app)[:3] == ["name  value  text", "a         1  first", "bcd      22  second"]
        await pilot.resize_terminal(14, 6)
        await pilot.pause()
        assert lines(app)[:3] == ["name  text", "a     first", "bcd   second"]
        await pilot.resize_terminal(8, 6)
        await pilot.pause()
        assert all(len(line) <= 8 for line in lines(app))


async def test_the_cursor_stays_with_its_row_when_rows_come_and_go() -> None:
    app = Rows()
    async with app.run_test(size=(30, 6)) as pilot:
        view = app.query_one(RowsView)
        view.focus()
        view.set_rows([Row(key, (key, "", "")) for key in "abc"])
        await pilot.press("down", "j", "k")
        assert view.cursor_key == "b"
        view.set_rows([Row(key, (key, "", "")) for key in "xyab"])
        assert view.cursor_key == "b"
        view.set_rows([Row("x", ("x", "", ""))])
        assert view.cursor_key == "x"
        view.set_rows([])
        assert view.cursor_key is None
        await pilot.press("down", "enter", "end")


async def test_the_list_scrolls_with_the_cursor_and_keeps_its_header(until: Any) -> None:
    app = Rows()
    async with app.run_test(size=(30, 6)) as pilot:
        view = app.query_one(RowsView)
        view.focus()
        view.set_rows([Row(str(i), (f"row {i}", "", "")) for i in range(50)])
        await pilot.press("end")
        await until(pilot, lambda: lines(app)[-1].startswith("row 49"))
        assert lines(app)[0].startswith("name")
        await pilot.press("home")
        await until(pilot, lambda: lines(app)[1].startswith("row 0"))


class Transcript(App[None]):
    def compose(self) -> ComposeResult:
        yield TranscriptView()


async def test_a_transcript_joins_unfinished_lines_and_wraps_long_ones() -> None:
    app = Transcript()
    async with app.run_test(size=(21, 8)) as pilot:
        view = app.query_one(TranscriptView)
        view.show(
            [
                ConsoleOutput(statement=1, stream="code", text="for i in x:\n    i"),
                ConsoleOutput(statement=1, stream="stdout", text="one "),
                ConsoleOutput(statement=1, stream="stdout", text="two\n"),
                ConsoleOutput(statement=1, stream="result", text="0123456789" * 3),
                ConsoleOutput(statement=1, stream="error", text="\x1b[31mred\x1b[0m"),
            ]
        )
        await pilot.pause()
        expected = ">>> for i in x:\n...     i\none two\n01234567890123456789\n0123456789\nred"
        assert view.text == expected
        rendered = ["".join(s.text for s in view.render_line(y)).rstrip() for y in range(8)]
        assert rendered == ["", "", *expected.split("\n")]

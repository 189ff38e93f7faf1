"""The console's editor: what Enter, Tab, Esc and the arrows do, and its colours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widgets import Static

from elektronn_tui.screens.widgets.code_input import CodeInput
from elektronn_tui.screens.widgets.python_text import SYNTAX_STYLES, highlights, indentation, verdict

SIZES = [(80, 24), (120, 40)]


@dataclass
class Item:
    name: str
    kind: str = "function"
    detail: str = ""


@dataclass
class Answer:
    start: int
    items: list[Item] = field(default_factory=list)
    signature: str = ""


NAMES = ["mean", "median", "max", "shape"]


class ConsoleApp(App):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []
        self.asked: list[tuple[str, int, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def compose(self) -> ComposeResult:
        yield Static("above")
        yield CodeInput(self.complete, history=["one", "two = 2\ntwo"])

    async def complete(self, code: str, row: int, column: int) -> Answer:
        self.asked.append((code, row, column))
        line = code.split("\n")[row]
        start = line.rfind(".", 0, column) + 1
        await self.gate.wait()
        return Answer(start, [Item(name) for name in NAMES if name.startswith(line[start:column])])

    def on_mount(self) -> None:
        self.query_one(CodeInput).focus()

    def on_code_input_submitted(self, message: CodeInput.Submitted) -> None:
        self.seen.append(message.code)

    def on_code_input_interrupt(self) -> None:
        self.seen.append("interrupt")

    def on_code_input_left(self) -> None:
        self.seen.append("left")


@pytest.mark.parametrize("size", SIZES)
async def test_enter_submits_what_is_complete(size: tuple[int, int]) -> None:
    app = ConsoleApp()
    async with app.run_test(size=size) as pilot:
        editor = app.query_one(CodeInput)
        await pilot.press(*"x=1", "enter")
        assert app.seen == ["x=1"]
        assert editor.text == ""
        await pilot.press("enter")
        assert app.seen == ["x=1"]


async def test_enter_goes_on_with_what_is_not() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        for key in "if x:":
            await pilot.press({" ": "space", ":": "colon"}.get(key, key))
        await pilot.press("enter")
        assert editor.text == "if x:\n    "
        await pilot.press(*"pass", "enter")
        assert editor.text == "if x:\n    pass\n"
        await pilot.press("enter")
        assert app.seen == ["if x:\n    pass"]


async def test_a_wrong_statement_is_submitted_for_its_error() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        app.query_one(CodeInput).insert("1 +* 2")
        await pilot.press("enter")
        assert app.seen == ["1 +* 2"]


async def test_history_and_the_draft() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        await pilot.press(*"dr")
        await pilot.press("up")
        assert editor.text == "two = 2\ntwo"
        await pilot.press("up", "up")
        assert editor.text == "one"
        await pilot.press("up")
        assert editor.text == "one"
        await pilot.press("down", "down", "down")
        assert editor.text == "dr"
        await pilot.press("down")
        assert editor.text == "dr"


async def test_up_moves_inside_several_lines() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("f(1,\n2")
        await pilot.press("up")
        assert editor.text == "f(1,\n2"
        assert editor.cursor_location[0] == 0


@pytest.mark.parametrize("size", SIZES)
async def test_tab_completes_and_escape_closes_then_leaves(size: tuple[int, int]) -> None:
    app = ConsoleApp()
    async with app.run_test(size=size) as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("x.m")
        await pilot.press("tab")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert app.asked == [("x.m", 0, 3)]
        assert editor.popup.is_open
        assert editor.popup.region.offset == editor.region.translate((2, 1)).offset, "its names stand below the word"
        assert app.screen.region.contains_region(editor.popup.region)
        await pilot.press("escape")
        assert not editor.popup.is_open
        assert editor.has_focus
        await pilot.press("escape")
        await pilot.pause()
        assert not editor.has_focus
        assert app.seen == ["left"]


async def test_the_highlighted_completion_is_accepted_with_enter() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("x.m")
        await pilot.press("tab")
        await app.workers.wait_for_complete()
        await pilot.press("down", "enter")
        assert editor.text == "x.median"
        assert app.seen == []


async def test_typing_narrows_the_list() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("x.m")
        await pilot.press("tab")
        await app.workers.wait_for_complete()
        await pilot.press("e")
        await pilot.pause()
        assert [item.name for item in editor.popup._popup_shown] == ["mean", "median"]
        await pilot.press("space")
        await pilot.pause()
        assert not editor.popup.is_open


async def test_a_list_is_of_one_word_alone() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("x.m")
        await pilot.press("tab")
        await app.workers.wait_for_complete()
        editor.insert('ean["m')  # at once, as keys come over a slow line
        await pilot.pause()
        assert not editor.popup.is_open


async def test_the_only_completion_is_taken_at_once() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("x.s")
        await pilot.press("tab")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert editor.text == "x.shape"


async def test_a_late_answer_is_dropped() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        app.gate.clear()
        editor.insert("x.s")
        await pilot.press("tab")
        await pilot.press("backspace")
        app.gate.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert editor.text == "x."
        assert not editor.popup.is_open


async def test_tab_indents_and_backspace_takes_it_back() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        await pilot.press("tab")
        assert editor.text == "    "
        await pilot.press("backspace")
        assert editor.text == ""


async def test_ctrl_c_interrupts_unless_something_is_selected() -> None:
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("abc")
        await pilot.press("ctrl+c")
        assert app.seen == ["interrupt"]
        editor.select_all()
        await pilot.press("ctrl+c")
        assert app.seen == ["interrupt"]
        assert app.clipboard == "abc"


async def test_python_is_coloured_and_no_caret_blinks() -> None:
    """Guards the private API of Textual that the colours go through."""
    app = ConsoleApp()
    async with app.run_test() as pilot:
        editor = app.query_one(CodeInput)
        editor.insert("for é in 'x': pass  # y")
        await pilot.pause()
        colours = {
            segment.text.strip(): segment.style.color.name
            for segment in editor.render_line(0)
            if segment.style and segment.style.color
        }
        assert colours["for"] == SYNTAX_STYLES["keyword"].color.name
        assert colours["'x'"] == SYNTAX_STYLES["string"].color.name
        assert colours["# y"] == SYNTAX_STYLES["comment"].color.name
        assert editor.cursor_blink is False


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "complete"),
        ("f(", "incomplete"),
        ("'''a", "incomplete"),
        ("for i in x: print(i)", "complete"),
        ("for i in x:", "incomplete"),
        ("for i in x:\n    print(i)", "incomplete"),
        ("for i in x:\n    print(i)\n", "complete"),
        ("for i in x:\n    print(i)\n    ", "complete"),
        ("f(1,\n  2)", "complete"),
        ("a = 1\nb = 2", "complete"),
        ("@d", "incomplete"),
        ("a b", "wrong"),
        ("x = 'a\0b'", "wrong"),
    ],
)
def test_verdict(source: str, expected: str) -> None:
    assert verdict(source) == expected


def test_indentation() -> None:
    assert indentation("  if x:") == "      "
    assert indentation("    return 3") == ""
    assert indentation("    x = 1") == "    "


@given(st.text(alphabet="ab '\"\n\t(#:é界=1\\", max_size=60))
def test_spans_lie_inside_their_lines(source: str) -> None:
    lines = source.split("\n")
    for row, spans in highlights(source).items():
        for first, last, name in spans:
            assert 0 <= first < last <= len(lines[row].encode())
            assert name in SYNTAX_STYLES

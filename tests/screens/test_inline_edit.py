"""Editing a value in its place."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.widgets import Button

from elektronn_tui.screens.widgets.inline_edit import InlineEdit


def positive(text: str) -> str | None:
    try:
        return None if float(text) > 0 else f"lr must be above 0, got {text}"
    except ValueError:
        return f"not a number: {text!r}"


class EditApp(App):
    AUTO_FOCUS = "#first"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def compose(self) -> ComposeResult:
        yield Button("cell", id="first")
        yield Button("other", id="other")

    def on_inline_edit_accepted(self, message: InlineEdit.Accepted) -> None:
        self.seen.append((message.editor.control_name, message.value))

    def on_inline_edit_cancelled(self) -> None:
        self.seen.append("cancelled")


async def open_editor(app: EditApp, pilot, region: Region, **kwargs) -> InlineEdit:
    editor = InlineEdit(region, "0.1", check=positive, **kwargs)
    editor.control_name = "lr"
    await app.screen.mount(editor)
    await pilot.pause()
    return editor


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_lies_over_its_region(size: tuple[int, int]) -> None:
    app = EditApp()
    async with app.run_test(size=size) as pilot:
        editor = await open_editor(app, pilot, Region(30, 10, 14, 1))
        assert editor.region == Region(30, 10, 14, 1)
        assert editor.has_focus
        assert editor.cursor_blink is False


async def test_valid_text_is_accepted_and_the_focus_returns() -> None:
    app = EditApp()
    async with app.run_test() as pilot:
        editor = await open_editor(app, pilot, Region(3, 10, 14, 1))
        await pilot.press(*"1e-4", "enter")
        await pilot.pause()
        assert app.seen == [("lr", "1e-4")]
        assert not editor.is_attached
        assert app.focused is app.query_one("#first")
        assert not app.screen.query("_Note")


async def test_invalid_text_is_refused_as_it_is_typed() -> None:
    app = EditApp()
    async with app.run_test() as pilot:
        editor = await open_editor(app, pilot, Region(3, 10, 14, 1))
        await pilot.press("minus", "1")
        await pilot.pause()
        assert editor.error == "lr must be above 0, got -1"
        note = app.screen.query_one("_Note")
        assert note.display
        assert note.region.y == 11
        assert "above 0" in str(note.content)
        await pilot.press("enter")
        await pilot.pause()
        assert app.seen == []
        assert editor.has_focus
        await pilot.press("backspace", "backspace", "2", "enter")
        await pilot.pause()
        assert app.seen == [("lr", "2")]


async def test_the_note_stays_on_the_screen_at_its_bottom() -> None:
    app = EditApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await open_editor(app, pilot, Region(3, 23, 14, 1))
        await pilot.press("x")
        await pilot.pause()
        assert app.screen.query_one("_Note").region.y == 22


async def test_escape_cancels() -> None:
    app = EditApp()
    async with app.run_test() as pilot:
        await open_editor(app, pilot, Region(3, 10, 14, 1))
        await pilot.press("5", "escape")
        await pilot.pause()
        assert app.seen == ["cancelled"]
        assert app.focused is app.query_one("#first")


async def test_losing_the_focus_cancels_once() -> None:
    app = EditApp()
    async with app.run_test() as pilot:
        editor = await open_editor(app, pilot, Region(3, 10, 14, 1))
        app.query_one("#other").focus()
        await pilot.pause()
        await pilot.pause()
        assert app.seen == ["cancelled"]
        assert not editor.is_attached
        assert app.focused is app.query_one("#other")


async def test_choices_are_gone_through() -> None:
    app = EditApp()
    async with app.run_test() as pilot:
        editor = InlineEdit(Region(3, 10, 14, 1), "adam", choices=("sgd", "adam", "rmsprop"))
        await app.screen.mount(editor)
        await pilot.press("down")
        assert editor.value == "rmsprop"
        await pilot.press("down")
        assert editor.value == "sgd"
        await pilot.press("up", "up", "enter")
        await pilot.pause()
        assert app.seen == [("", "adam")]

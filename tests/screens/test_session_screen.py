"""The session screen on a session that is real but for what it trains."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_session import CONTROLS
from textual.events import Key
from textual.widgets import Input

from elektronn_tui.actions import actions_for
from elektronn_tui.keymap import KeyMap
from elektronn_tui.screens.chrome import Banner, KeyLine, StatusLine, TabLine
from elektronn_tui.screens.dialogs import ScheduleQuestion, StopQuestion
from elektronn_tui.screens.help import HelpScreen
from elektronn_tui.screens.home import HomeScreen
from elektronn_tui.screens.panes.rows import RowsView, spans
from elektronn_tui.screens.panes.transcript import TranscriptView
from elektronn_tui.screens.settings import Settings
from elektronn_tui.screens.widgets.code_input import CodeInput
from elektronn_tui.screens.widgets.half_blocks import ImageView
from elektronn_tui.screens.widgets.inline_edit import InlineEdit
from elektronn_tui.screens.widgets.log_view import LogView
from elektronn_tui.screens.widgets.plot import Plot
from elektronn_tui.session.errors import LaunchError
from elektronn_tui.session.protocol import (
    Complete,
    Execute,
    GetCurves,
    GetPreview,
    Interrupt,
    LogLine,
    Pause,
    Resume,
    Save,
    SetConsoleMode,
    SetControls,
    Stop,
    Undo,
    Unpin,
)

SIZES = [(120, 40), (80, 24)]
PANES = ("plots", "preview", "controls", "log", "graph", "console")


def text_of(pilot: Any, kind: type) -> str:
    return pilot.app.screen.query_one(kind).text


def message(pilot: Any) -> str:
    return pilot.app.screen.query_one(KeyLine).message


def row_texts(view: RowsView) -> list[str]:
    return ["|".join("".join(text for text, _ in spans(cell)) for cell in row.cells) for row in view.rows]


def screen_text(pilot: Any) -> str:
    height = pilot.app.size.height
    lines = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line) for line in lines[:height])


# --- what is seen


@pytest.mark.parametrize("size", SIZES)
async def test_status_and_keys_are_seen_in_one_line_each(shown: Any, size: tuple[int, int]) -> None:
    async with shown(size) as pilot:
        status = text_of(pilot, StatusLine)
        assert "fib25-membranes" in status
        assert "● running" in status
        assert "12 430 / 100 000" in status
        assert "7.6 it/s" in status
        assert len(status) <= size[0]
        keys = text_of(pilot, KeyLine)
        assert "p pause" in keys
        assert "q detach" in keys
        assert "? help" in keys
        assert len(keys) <= size[0]


async def test_all_panes_are_seen_together_where_there_is_room(shown: Any, until: Any) -> None:
    async with shown((120, 40)) as pilot:
        assert all(pilot.app.screen.pane(name).region.area for name in PANES)
        await until(pilot, lambda: "conv3.dropout_rate" in screen_text(pilot))
        await until(pilot, lambda: "prediction" in screen_text(pilot))
        text = screen_text(pilot)
        assert "checkpoint latest saved" in text
        assert "1×40×20×39×39" in text
        assert "[observe] >>>" in text
        assert not pilot.app.screen.query_one(TabLine).display


async def test_one_pane_with_tabs_where_it_is_narrow_and_only_it_is_built(shown: Any, until: Any) -> None:
    async with shown((80, 24)) as pilot:
        screen = pilot.app.screen
        assert screen.query_one(TabLine).display
        assert [name for name in PANES if screen.pane(name).built] == ["plots"]
        for number, name in enumerate(PANES, start=1):
            await pilot.press(str(number))
            await until(pilot, lambda name=name: screen.pane(name).region.area)
            assert [other for other in PANES if screen.pane(other).region.area] == [name]
        await pilot.press("tab")
        await until(pilot, lambda: screen.active == "plots")
        await pilot.press("shift+tab")
        await until(pilot, lambda: screen.active == "console")


async def test_a_terminal_that_grows_shows_the_other_panes(shown: Any, until: Any) -> None:
    async with shown((80, 24)) as pilot:
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: all(pilot.app.screen.pane(name).region.area for name in PANES))


async def test_zoom_gives_a_pane_the_screen_and_back(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        screen = pilot.app.screen
        await pilot.press("5", "z")
        await until(pilot, lambda: screen.pane("graph").region.width == 120)
        assert [name for name in PANES if screen.pane(name).region.area] == ["graph"]
        await pilot.press("z")
        await until(pilot, lambda: all(screen.pane(name).region.area for name in PANES))


async def test_news_reach_status_plots_and_log(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query(Plot)) == 2)
        asked = len(fake.seen(GetCurves))
        fake.train(10)
        await until(pilot, lambda: "12 440" in text_of(pilot, StatusLine))
        await until(pilot, lambda: len(fake.seen(GetCurves)) > asked)
        view = pilot.app.screen.query_one(LogView)
        await until(pilot, lambda: view.total == len(fake.log))
        assert fake.log[-1].text.strip() in screen_text(pilot)


async def test_curves_are_not_asked_for_when_nothing_changed(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query(Plot)) == 2)
        await pilot.pause(0.1)
        asked = len(fake.seen(GetCurves))
        for step in range(5):
            fake.set_status(rate=7.0 + step)
        await until(pilot, lambda: "11 it/s" in text_of(pilot, StatusLine))
        assert len(fake.seen(GetCurves)) == asked


# --- pausing and other states


async def test_pause_shows_a_banner_with_the_key_that_resumes(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        banner = pilot.app.screen.query_one(Banner)
        assert not banner.display
        await pilot.press("p")
        await until(pilot, lambda: banner.display)
        assert fake.seen(Pause)
        assert "paused" in banner.text
        assert " p  resume" in banner.text
        await pilot.press("p")
        await until(pilot, lambda: not banner.display)
        assert fake.seen(Resume)


@pytest.mark.parametrize("size", SIZES)
async def test_a_long_reason_leaves_the_key_that_resumes_in_sight(shown: Any, fake: Any, until: Any, size: Any) -> None:
    fake.set_status(state="paused", reason=f"the loss is nan at step 64; the batch is in /{'long/' * 40}batch.npz")
    async with shown(size) as pilot:
        await until(pilot, lambda: "paused (the loss is nan at step 64; the batch is in /long/" in screen_text(pilot))
        assert "…  p  resume" in screen_text(pilot)


@pytest.mark.parametrize("pane", range(1, 7))
async def test_space_never_pauses_and_p_does_in_every_pane(shown: Any, fake: Any, until: Any, pane: int) -> None:
    async with shown() as pilot:
        await pilot.press(str(pane), "space")
        await pilot.pause()
        assert not fake.seen(Pause)
        await pilot.press("p")
        await until(pilot, lambda: fake.seen(Pause))


async def test_halted_says_what_happened(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        fake.set_status(state="halted", reason="RuntimeError: shapes do not fit")
        banner = pilot.app.screen.query_one(Banner)
        await until(pilot, lambda: "RuntimeError: shapes do not fit" in banner.text)
        await pilot.press("p")
        await until(pilot, lambda: fake.seen(Resume))


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
async def test_an_ended_session_stays_readable(shown: Any, fake: Any, until: Any, state: str) -> None:
    async with shown() as pilot:
        fake.end(state, "for a reason")
        banner = pilot.app.screen.query_one(Banner)
        await until(pilot, lambda: banner.display and state in banner.text)
        assert "for a reason" in banner.text
        assert state in text_of(pilot, StatusLine)
        await pilot.press("p")
        await pilot.pause()
        assert "can't be changed any more" in message(pilot)
        assert not fake.seen(Pause)
        assert "conv3.dropout_rate" in screen_text(pilot)


async def test_a_lost_connection_is_shown_and_comes_back(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        banner = pilot.app.screen.query_one(Banner)
        await fake.vanish()
        await until(pilot, lambda: "reconnecting" in banner.text and banner.display)
        assert "12 430" in text_of(pilot, StatusLine)
        await pilot.press("s")
        await until(pilot, lambda: "no connection" in message(pilot))
        fake.status = type(fake.status)(
            **{**{f: getattr(fake.status, f) for f in fake.status.__struct_fields__}, "step": 13_000}
        )
        await fake.listen()
        await until(pilot, lambda: not banner.display and "13 000" in text_of(pilot, StatusLine))
        fake.train(10)
        await until(pilot, lambda: "13 010" in text_of(pilot, StatusLine))


async def test_a_session_that_hangs_is_noticed(
    shown: Any, fake: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elektronn_tui.screens.link.PING_SECONDS", 0.1)
    async with shown() as pilot:
        banner = pilot.app.screen.query_one(Banner)
        fake.deaf = True
        await until(pilot, lambda: banner.display and "does not answer" in banner.text)
        fake.deaf = False
        await until(pilot, lambda: not banner.display)


async def test_skipped_deltas_are_shown_until_a_snapshot_comes(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        fake.gap(42)
        await until(pilot, lambda: "42 skipped" in text_of(pilot, StatusLine))
        fake.send(fake.snapshot())
        await until(pilot, lambda: "skipped" not in text_of(pilot, StatusLine))


# --- controls


async def edit(pilot: Any, until: Any, name: str, text: str) -> InlineEdit:
    await pilot.press("3")
    pilot.app.screen.query_one("#control-rows", RowsView).select(name)
    await pilot.press("e")
    editor = await until(pilot, lambda: pilot.app.screen.query_one(InlineEdit))
    await until(pilot, lambda: editor.has_focus)
    await pilot.press(*text)
    return editor


@pytest.mark.parametrize("size", SIZES)
async def test_an_edit_is_sent_and_answered_with_its_receipt(shown: Any, fake: Any, until: Any, size: Any) -> None:
    async with shown(size) as pilot:
        await edit(pilot, until, "momentum", "0.8")
        await pilot.press("enter")
        await until(pilot, lambda: "momentum 0.9 → 0.8, applied at step 12 431" in message(pilot))
        (request,) = fake.seen(SetControls)
        assert (request.values, request.schedule) == ({"momentum": 0.8}, "")
        view = pilot.app.screen.query_one("#control-rows", RowsView)
        await until(pilot, lambda: any(row.startswith("momentum|0.8") and "✎ 1 edit" in row for row in row_texts(view)))
        await until(pilot, lambda: view.has_focus)
        await pilot.press("u")
        await until(pilot, lambda: "momentum 0.8 → 0.9" in message(pilot))
        assert fake.seen(Undo)


async def test_what_does_not_fit_is_refused_while_it_is_typed(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        editor = await edit(pilot, until, "momentum", "1.5")
        assert "≤ 1" in editor.error
        await pilot.press("enter")
        await pilot.pause()
        assert editor.is_attached
        assert not fake.seen(SetControls)
        await pilot.press("escape")
        await until(pilot, lambda: not editor.is_attached)


async def test_a_refusal_of_the_session_is_shown(shown: Any, fake: Any, until: Any) -> None:
    fake.refuse = "momentum can't be changed while the optimiser warms up"
    async with shown() as pilot:
        await edit(pilot, until, "momentum", "0.5")
        await pilot.press("enter")
        await until(pilot, lambda: "warms up" in message(pilot))


@pytest.mark.parametrize(
    ("key", "schedule", "words"), [("p", "pin", "pinned"), ("c", "continue", "goes on from there")]
)
async def test_a_scheduled_control_asks(shown: Any, fake: Any, until: Any, key: str, schedule: str, words: str) -> None:
    async with shown() as pilot:
        await edit(pilot, until, "lr", "1e-4")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ScheduleQuestion))
        assert not fake.seen(SetControls)
        await pilot.press(key)
        await until(pilot, lambda: fake.seen(SetControls))
        assert fake.seen(SetControls)[0].schedule == schedule
        await until(pilot, lambda: words in message(pilot))


async def test_a_scheduled_control_is_left_alone_when_the_question_is(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await edit(pilot, until, "lr", "1e-4")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ScheduleQuestion))
        await pilot.press("escape")
        await until(pilot, lambda: "stays" in message(pilot))
        assert not fake.seen(SetControls)


async def test_a_pinned_control_goes_back_to_its_schedule(shown: Any, fake: Any, until: Any) -> None:
    import msgspec

    fake.controls["lr"] = msgspec.structs.replace(fake.controls["lr"], pinned=True)
    async with shown() as pilot:
        await pilot.press("3", "U")
        await until(pilot, lambda: fake.seen(Unpin))
        assert fake.seen(Unpin)[0].control == "lr"


async def test_letters_are_letters_in_an_editor(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        editor = await edit(pilot, until, "on_nan", "spq1")
        assert editor.value == "spq1"
        assert not fake.seen(Pause)
        assert not fake.seen(Save)


async def test_filter_leaves_what_fits(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("3", "slash")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press(*"rate")
        view = pilot.app.screen.query_one("#control-rows", RowsView)
        await until(pilot, lambda: [row.key for row in view.rows] == ["conv3.dropout_rate"])
        await pilot.press("escape")
        await until(pilot, lambda: len(view.rows) == len(CONTROLS))
        await until(pilot, lambda: view.has_focus)


# --- log


async def test_the_log_is_filtered_over_all_its_lines(shown: Any, fake: Any, until: Any) -> None:
    for i in range(1500):
        fake.add_log("needle" if i % 500 == 7 else f"hay {i}")
    async with shown() as pilot:
        view = pilot.app.screen.query_one(LogView)
        await until(pilot, lambda: view.total == len(fake.log))
        await pilot.press("4", "slash", *"needle")
        await until(pilot, lambda: view.total == 3)
        line = LogLine(index=len(fake.log), time=0.0, level="INFO", step=1, text="another needle")
        fake.log.append(line)
        fake.delta(log_total=len(fake.log), log_tail=(line,))
        await until(pilot, lambda: view.total == 4)
        await pilot.press("escape")
        await until(pilot, lambda: view.total == len(fake.log))


# --- console


async def write(pilot: Any, until: Any, code: str) -> CodeInput:
    await pilot.press("colon")
    editor = await until(pilot, lambda: pilot.app.screen.query_one(CodeInput))
    await until(pilot, lambda: editor.has_focus)
    editor.insert(code)
    return editor


@pytest.mark.parametrize("size", SIZES)
async def test_a_statement_is_run_and_its_result_seen(shown: Any, fake: Any, until: Any, size: Any, home: Path) -> None:
    async with shown(size) as pilot:
        await write(pilot, until, "w.std()")
        await pilot.press("enter")
        view = pilot.app.screen.query_one(TranscriptView)
        await until(pilot, lambda: view.text == ">>> w.std()\n0.0412")
        (request,) = fake.seen(Execute)
        assert (request.code, request.mode) == ("w.std()", "observe")
        assert "w.std()" in (home / "console-history").read_text()


async def test_the_history_comes_back_in_the_next_session(shown: Any, until: Any, home: Path) -> None:
    (home / "console-history").write_text('"first"\nnot json\n"two\\nlines"\n')
    async with shown() as pilot:
        editor = await write(pilot, until, "")
        await pilot.press("up")
        assert editor.text == "two\nlines"


async def test_an_error_is_seen(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await write(pilot, until, "1/0")
        await pilot.press("enter")
        await until(pilot, lambda: "ZeroDivisionError" in pilot.app.screen.query_one(TranscriptView).text)


async def test_a_refused_statement_stays_to_be_seen_with_its_reason(shown: Any, fake: Any, until: Any) -> None:
    fake.refuse = "SyntaxError: invalid syntax (line 1)"
    async with shown() as pilot:
        editor = await write(pilot, until, "asdf qwer")
        editor.submit()
        view = pilot.app.screen.query_one(TranscriptView)
        await until(pilot, lambda: view.text == ">>> asdf qwer\nSyntaxError: invalid syntax (line 1)")
        fake.refuse = ""
        editor.insert("w.std()")
        await pilot.press("enter")
        await until(pilot, lambda: view.text.endswith(">>> w.std()\n0.0412"))


async def test_ctrl_c_interrupts_the_statement_and_nothing_else(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await write(pilot, until, "while True: pass")
        await pilot.press("enter")
        # At once: whether this client has heard that the statement runs must not matter.
        await pilot.press("ctrl+c")
        await until(pilot, lambda: fake.seen(Interrupt))
        await until(pilot, lambda: "KeyboardInterrupt" in pilot.app.screen.query_one(TranscriptView).text)
        assert pilot.app.is_running
        assert not fake.seen(Stop)


async def test_tab_completes_from_live_objects_and_then_from_jedi(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        editor = await write(pilot, until, "w")
        await pilot.press("tab")
        await until(pilot, lambda: editor.popup.is_open and len(editor.popup.options) == 4)
        assert [request.fast for request in fake.seen(Complete)] == [True, False]
        await pilot.press("enter")
        assert editor.text == "weight"
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen.query_one(TranscriptView).has_focus)


async def test_hold_shows_in_the_prompt_and_the_banner(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("h")
        await until(pilot, lambda: "[hold]" in screen_text(pilot))
        await until(pilot, lambda: "held by the console of tui" in pilot.app.screen.query_one(Banner).text)
        await pilot.press("p")
        await until(pilot, lambda: "[observe]" in screen_text(pilot))
        assert [request.mode for request in fake.seen(SetConsoleMode)] == ["hold", "observe"]


# --- preview, plots


@pytest.mark.parametrize("size", SIZES)
async def test_slices_scroll(shown: Any, fake: Any, until: Any, size: Any) -> None:
    async with shown(size) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "z 12/23" in screen_text(pilot))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "z 13/23" in screen_text(pilot))
        await pilot.press("left_square_bracket", "left_square_bracket")
        await until(pilot, lambda: "z 11/23" in screen_text(pilot))
        assert len(pilot.app.screen.query_one(ImageView).pictures) == 3
        request = fake.seen(GetPreview)[-1]
        assert request.z == 10
        assert request.width <= size[0]


async def test_why_there_are_no_previews_is_said_in_their_place(shown: Any, fake: Any, until: Any) -> None:
    fake.preview = None
    async with shown() as pilot:
        await until(pilot, lambda: "no preview yet" in screen_text(pilot))
        fake.set_status(no_preview="the prediction is no image")
        await until(pilot, lambda: "no previews: the prediction is no image" in screen_text(pilot))


@pytest.mark.parametrize(("tags", "unit"), [("b,f,y,x", "12.4 MPx/s"), ("r,b,f", "")])
async def test_throughput_is_in_the_unit_of_the_input(shown: Any, fake: Any, until: Any, tags: str, unit: str) -> None:
    fake.graph = (msgspec.structs.replace(fake.graph[0], tags=tags), *fake.graph[1:])
    async with shown() as pilot:
        await until(pilot, lambda: "it/s" in screen_text(pilot))
        assert unit in screen_text(pilot)
        assert "MVx/s" not in screen_text(pilot)


def title(pilot: Any) -> str:
    return str(pilot.app.screen.pane("preview").border_title)


async def test_a_preview_shows_what_is_readable_first(shown: Any, fake: Any, until: Any) -> None:
    async with shown((120, 40)) as pilot:
        await until(pilot, lambda: "of 128×128 voxels" in title(pilot))
        asked = fake.seen(GetPreview)[-1]
        part = pilot.app.screen.pane("preview").shown.window
        assert 2.3 < part[3] / asked.width <= 2.5
        assert asked.width == pilot.app.screen.query_one(ImageView).pictures[0].pixels.shape[1]
        assert f"×{asked.zoom:.1f}  {part[2]}×{part[3]} of" in title(pilot)


async def test_a_preview_of_flat_images_counts_images_and_pixels(shown: Any, fake: Any, until: Any) -> None:
    fake.graph = (msgspec.structs.replace(fake.graph[0], tags="b,f,y,x"), *fake.graph[1:])
    fake.preview = msgspec.structs.replace(fake.preview, along="image")
    async with shown((120, 40)) as pilot:
        await until(pilot, lambda: "of 128×128 pixels" in title(pilot))
        assert "image 12/23" in title(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_a_preview_is_zoomed_and_panned(shown: Any, fake: Any, until: Any, size: Any) -> None:
    async with shown(size) as pilot:
        await pilot.press("2")
        pane = pilot.app.screen.pane("preview")

        async def part_after(*keys: str) -> Any:
            before = pane.shown.window
            await pilot.press(*keys)
            await until(pilot, lambda: pane.shown.window != before)
            return pane.shown.window

        await until(pilot, lambda: pane.shown)
        if fake.seen(GetPreview)[-1].zoom > 1:
            await part_after("f")
        assert pane.shown.window == (0, 0, 128, 128)
        await until(pilot, lambda: "128×128 voxels" in title(pilot) and "×1.0" not in title(pilot))
        top, left, height, width = await part_after("+", "+", "+")
        assert width < 60
        assert abs(2 * left + width - 128) <= 1
        assert await part_after("right") == (top, left + round(width / 4), height, width)
        assert (await part_after("up"))[0] < top
        await pilot.press(*["down"] * 20, *["right"] * 20)
        await until(pilot, lambda: pane.shown.window == (128 - height, 128 - width, height, width))
        assert (await part_after("left"))[1] < 128 - width
        wider = await part_after("-")
        assert wider[2] > height
        await pilot.press(*["-"] * 9)
        await until(pilot, lambda: pane.shown.window == (0, 0, 128, 128))
        assert (await part_after("0"))[2] <= 128


async def test_a_new_preview_keeps_part_and_slice(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("2", "+", "right", "right_square_bracket")
        pane = pilot.app.screen.pane("preview")
        await until(pilot, lambda: pane.shown and pane.shown.z == 12)
        part = pane.shown.window
        fake.status = msgspec.structs.replace(fake.status, step=13_000)
        await pilot.press("v")
        await until(pilot, lambda: pane.shown.step == 13_000)
        assert (pane.shown.window, pane.shown.z) == (part, 12)


async def test_the_whole_screen_shows_more_of_the_slice(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("2")
        pane = pilot.app.screen.pane("preview")
        await until(pilot, lambda: pane.shown)
        before = pane.shown.window
        await pilot.press("z")
        await until(pilot, lambda: pane.shown.window[2] > before[2])
        await pilot.press("z")
        await until(pilot, lambda: pane.shown.window == before)


async def test_arrow_keys_mean_the_preview_only_while_it_is_active(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        pane = pilot.app.screen.pane("preview")
        await until(pilot, lambda: pane.shown)
        for number in ("1", "3", "4", "5"):
            await pilot.press(number, "down", "up", "right")
        assert pane.centre == (0.5, 0.5)


async def test_slices_that_were_not_kept_are_passed_over(shown: Any, fake: Any, until: Any) -> None:
    fake.preview = msgspec.structs.replace(fake.preview, slices=(2, 10, 20))
    async with shown() as pilot:
        await pilot.press("2")
        pane = pilot.app.screen.pane("preview")
        await until(pilot, lambda: pane.shown)
        for key, z in (("]", 20), ("]", 20), ("[", 10), ("[", 2), ("[", 2)):
            await pilot.press({"]": "right_square_bracket", "[": "left_square_bracket"}[key])
            await until(pilot, lambda z=z: pane.shown.z == z)


async def test_a_preview_of_unknown_size_is_seen_as_a_whole(shown: Any, fake: Any, until: Any) -> None:
    fake.preview = msgspec.structs.replace(fake.preview, height=0, width=0)
    async with shown() as pilot:
        await pilot.press("2", "+")
        await until(pilot, lambda: "only be seen as a whole" in pilot.app.screen.query_one(KeyLine).message)
        assert all(request.zoom == 1 for request in fake.seen(GetPreview))


async def test_plots_change_axis_scale_and_smoothing(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        plot = await until(pilot, lambda: pilot.app.screen.query(Plot).first())
        await until(pilot, lambda: len(plot.series) == 2)
        await pilot.press("y")
        await until(pilot, lambda: plot.log_y)
        await pilot.press("t")
        await until(pilot, lambda: plot.x_axis == "time")
        smoothing = plot.smoothing
        await pilot.press("w")
        await until(pilot, lambda: plot.smoothing != smoothing)
        await pilot.press("x")
        await until(pilot, lambda: min(plot.series[0].step) > 5000)


async def test_marks_are_named(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await until(pilot, lambda: "▲ 9 200 checkpoint best" in " ".join(screen_text(pilot).split()))
        await pilot.press("comma")
        await until(pilot, lambda: "conv3.dropout_rate 0.5 → 0.2" in screen_text(pilot))


async def test_metrics_are_chosen(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await until(pilot, lambda: len(pilot.app.screen.query(Plot)) == 2)
        await pilot.press("m")
        view = await until(pilot, lambda: pilot.app.screen_stack[-1].query_one(RowsView))
        await until(pilot, lambda: view.select("grad_norm"))
        await pilot.press("space", "escape")
        await until(pilot, lambda: len(pilot.app.screen.query(Plot)) == 3)
        assert "grad_norm" in pilot.app.screen.pane("plots").metrics


# --- application


async def test_stop_asks_first(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("S")
        await until(pilot, lambda: isinstance(pilot.app.screen, StopQuestion))
        await pilot.press("escape")
        await pilot.pause()
        assert not fake.seen(Stop)
        await pilot.press("S")
        await until(pilot, lambda: isinstance(pilot.app.screen, StopQuestion))
        await pilot.press("y")
        await until(pilot, lambda: fake.seen(Stop))
        assert not fake.seen(Stop)[0].now
        await until(pilot, lambda: "stopped" in text_of(pilot, Banner))


async def test_q_leaves_and_stops_nothing(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("q")
        await until(pilot, lambda: not pilot.app.is_running)
        assert not fake.seen(Stop)
        assert "elektronn attach fib25-membranes" in pilot.app.farewell


@pytest.mark.parametrize("key", ["ctrl+q", "ctrl+c", "escape", "space"])
async def test_no_habit_leaves_the_application(shown: Any, key: str) -> None:
    async with shown() as pilot:
        await pilot.press(key)
        await pilot.pause()
        assert pilot.app.is_running


async def test_a_read_only_client_can_look_and_change_nothing(shown: Any, fake: Any, until: Any) -> None:
    async with shown(read_only=True) as pilot:
        assert "read-only" in text_of(pilot, StatusLine)
        assert "pause" not in text_of(pilot, KeyLine)
        for action in actions_for("session"):
            if action.writes:
                await pilot.press(pilot_key(action.keys[0]))
                await pilot.pause()
                assert len(pilot.app.screen_stack) == 1, action.name
        await pilot.press("colon", "enter")
        assert not [request for request in fake.requests if request.writes]
        assert "read-only" in message(pilot)


def pilot_key(key: str) -> str:
    from elektronn_tui.keymap import key_name

    return key_name(key)


async def test_help_lists_every_action(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, HelpScreen))


async def test_the_palette_finds_an_action_and_a_control(shown: Any, fake: Any, until: Any) -> None:
    from textual.command import CommandPalette

    async with shown() as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
        await pilot.press(*"save a check")
        await until(
            pilot, lambda: pilot.app.screen._list_visible and pilot.app.screen.query_one("CommandList").option_count
        )
        await pilot.press("enter")
        await until(pilot, lambda: fake.seen(Save))


async def test_every_action_is_in_the_palette(shown: Any) -> None:
    from elektronn_tui.screens.commands import ActionCommands

    async with shown() as pilot:
        hits = [hit async for hit in ActionCommands(pilot.app.screen).discover()]
        texts = {str(hit.text or hit.display) for hit in hits}
        for action in actions_for("session"):
            assert action.palette in texts or action.name == "palette"
        assert {f"Set {info.name}" for info in CONTROLS} <= texts


async def test_other_keys_from_the_settings(shown: Any, fake: Any, until: Any) -> None:
    async with shown(settings=Settings(keys=KeyMap({"pause": "P"}))) as pilot:
        assert "P pause" in text_of(pilot, KeyLine)
        await pilot.press("p")
        await pilot.pause()
        assert not fake.seen(Pause)
        await pilot.press("P")
        await until(pilot, lambda: fake.seen(Pause))


async def test_home_and_back(shown: Any, until: Any) -> None:
    async with shown() as pilot:
        await pilot.press("H")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))


async def test_a_click_on_a_tab_goes_to_its_pane(shown: Any, until: Any) -> None:
    async with shown((80, 24)) as pilot:
        await pilot.click(TabLine, offset=(30, 0))
        await until(pilot, lambda: pilot.app.screen.active == "controls")


def test_the_interface_imports_nothing_heavy(home: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from elektronn_tui.app import prepare_terminal
prepare_terminal()
from elektronn_tui.screens.application import ElektronnApp
from elektronn_tui.session.registry import SessionInfo

async def main():
    info = SessionInfo(name="x", id="x", state="running", reason="", step=0, steps=None, run_dir="/nonexistent", pid=1,
        host="h", started=0.0, updated=0.0,
        training_time=0.0, experiment="", socket="/nonexistent.sock", liveness="alive")
    app = ElektronnApp(info)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.3)
        heavy = {{"torch", "numba", "h5py", "skimage", "jedi", "scipy", "numpy"}} & set(sys.modules)
        assert not heavy, heavy
asyncio.run(main())
"""
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


async def test_plots_and_images_bring_numpy_and_nothing_else(home: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_session import FakeSession
from elektronn_tui.screens.application import ElektronnApp

async def main():
    async with FakeSession(Path({str(home)!r})) as fake:
        app = ElektronnApp(fake.info)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause(0.5)
            heavy = {{"torch", "numba", "h5py", "skimage", "jedi", "scipy", "plotext"}} & set(sys.modules)
            assert not heavy, heavy
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


# --- sessions that never ran


@pytest.mark.parametrize("refused", [True, False])
async def test_the_application_leaves_when_its_session_never_ran(
    shown: Any, fake: Any, until: Any, refused: bool
) -> None:
    fake.status = msgspec.structs.replace(fake.status, state="starting", step=0)
    async with shown() as pilot:
        app = pilot.app
        fake.end("failed", "no such file", never_ran=True, refused=refused, traceback="" if refused else "Traceback")
        await until(pilot, lambda: app.failure)
        assert (str(app.failure), app.failure.refused) == ("no such file", refused)
        assert app.failure.traceback == ("" if refused else "Traceback")
        await until(pilot, lambda: not app.is_running)


async def test_a_session_that_ran_and_failed_stays_to_be_looked_at(shown: Any, fake: Any, until: Any) -> None:
    async with shown() as pilot:
        fake.end("failed", "RuntimeError: broken")
        await until(pilot, lambda: "failed" in pilot.app.screen.query_one(StatusLine).text)
        assert pilot.app.failure is None
        assert pilot.app.is_running


async def test_a_session_that_left_nothing_failed_while_it_started(shown: Any, fake: Any, until: Any) -> None:
    fake.status = msgspec.structs.replace(fake.status, state="starting", step=0)
    fake.directory = Path("/nowhere/run")
    async with shown() as pilot:
        await fake.vanish()
        await until(pilot, lambda: pilot.app.failure)
        assert "failed while it started" in str(pilot.app.failure)


async def test_on_another_screen_a_failed_start_is_only_told(shown: Any, fake: Any, until: Any) -> None:
    class Start:
        def when_failed(self, tell: Any) -> None:
            self.tell = tell

    start = Start()
    async with shown(start=start) as pilot:
        await pilot.press("H")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
        start.tell(LaunchError("no such file", refused=True))
        await until(pilot, lambda: list(pilot.app._notifications))
        assert pilot.app.failure is None


async def test_the_worker_itself_says_why_it_failed(shown: Any, fake: Any, until: Any) -> None:
    class Start:
        def when_failed(self, tell: Any) -> None:
            self.tell = tell

    fake.status = msgspec.structs.replace(fake.status, state="starting", step=0)
    start = Start()
    async with shown(start=start) as pilot:
        fake.end("failed", "gone", never_ran=True)
        await until(pilot, lambda: pilot.app.screen.state.link == "ended")
        assert pilot.app.failure is None
        start.tell(LaunchError("the worker died", "last words"))
        await until(pilot, lambda: pilot.app.failure)
        assert pilot.app.failure.traceback == "last words"


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_typed_behind_the_console_key_reaches_the_prompt(shown: Any, until: Any, size: Any) -> None:
    async with shown(size) as pilot:
        driver = pilot.app._driver
        assert driver is not None
        for key in ("colon", *"mpq", "equals_sign", "1"):  # m, p and q are commands elsewhere
            driver.process_message(Key(key, {"colon": ":", "equals_sign": "="}.get(key, key)))
        editor = await until(pilot, lambda: next(iter(pilot.app.screen.query(CodeInput)), None))
        await until(pilot, lambda: editor.text == "mpq=1")
        assert pilot.app.is_running


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_typed_behind_the_edit_key_reaches_the_editor(shown: Any, until: Any, size: Any) -> None:
    async with shown(size) as pilot:
        await until(pilot, lambda: pilot.app.screen.state.controls)
        driver = pilot.app._driver
        assert driver is not None
        for key in ("e", "q"):
            driver.process_message(Key(key, key))
        editor = await until(pilot, lambda: next(iter(pilot.app.screen.query(InlineEdit)), None))
        await until(pilot, lambda: editor.value == "q")
        assert pilot.app.is_running

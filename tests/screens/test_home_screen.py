"""The home screen on a home with running, finished, failed and foreign sessions."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_session import FakeSession
from PIL import Image
from textual.widgets import Input

from elektronn_tui.errors import ExperimentError
from elektronn_tui.screens.application import ElektronnApp
from elektronn_tui.screens.chrome import Banner, KeyLine, Line, StatusLine
from elektronn_tui.screens.dialogs import TextDialog
from elektronn_tui.screens.home import HomeScreen, sparkline
from elektronn_tui.screens.panes.rows import RowsView, spans
from elektronn_tui.screens.session import SessionScreen
from elektronn_tui.screens.start import StartDialog, parse_order
from elektronn_tui.screens.widgets.half_blocks import ImageView
from elektronn_tui.screens.widgets.log_view import LogView
from elektronn_tui.screens.widgets.plot import Plot
from elektronn_tui.session import launch, registry
from elektronn_tui.session.errors import LaunchError
from elektronn_tui.session.journal import Journal
from elektronn_tui.training.history import History


def past_run(name: str, state: str, *, host: str = "", step: int = 500, reason: str = "", days: float = 1.0) -> Path:
    """Write what a run leaves behind."""
    directory = registry.create_run("x", name)
    file = registry.SessionFile(
        id=name, name=name, state=state, host=host or registry.host_name(), pid=1, step=step, steps=1000, reason=reason,
        started=time.time() - 86400 * days, training_time=step / 7, boot_id="another boot",
    )  # fmt: skip
    (directory / "session.json").write_bytes(msgspec.json.encode(file))
    return directory


@pytest.fixture
def opened(until: Any) -> Callable[..., AbstractAsyncContextManager[Any]]:
    @contextlib.asynccontextmanager
    async def run(size: tuple[int, int] = (120, 40)) -> AsyncIterator[Any]:
        app = ElektronnApp(None)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "running" in app.screen.query_one("#title", Line).text)
            yield pilot

    return run


@pytest.fixture
async def running(home: Path) -> AsyncIterator[FakeSession]:
    """A fake session that the registry knows."""
    fake = FakeSession(home)
    entry = registry.own_entry(session_id="f00dfeed", run_dir=registry.create_run("x", "fib25-membranes"))
    registry.register(entry)
    fake.socket = Path(entry.socket)
    async with fake:
        yield fake
    registry.unregister(entry)


def rows(pilot: Any) -> dict[str, str]:
    view = pilot.app.screen.query_one(RowsView)
    return {row.key: "|".join("".join(text for text, _ in spans(cell)) for cell in row.cells) for row in view.rows}


async def test_an_empty_home_says_how_to_start(home: Path, opened: Any, until: Any) -> None:
    async with opened() as pilot:
        await until(pilot, lambda: "n starts one" in pilot.app.screen.query_one(RowsView)._empty_text)
        assert "0 running" in pilot.app.screen.query_one("#title", Line).text


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_sessions_are_listed_those_that_run_first(
    running: FakeSession, opened: Any, until: Any, size: tuple[int, int]
) -> None:
    past_run("old", "finished", days=3)
    past_run("broken", "failed", reason="RuntimeError: no", days=2)
    past_run("gone", "running", days=4)
    past_run("far", "running", host="atlas", days=5)
    async with opened(size) as pilot:
        await until(pilot, lambda: len(rows(pilot)) == 5)
        assert list(rows(pilot)) == ["f00dfeed", "far", "broken", "old", "gone"]
        await until(pilot, lambda: "12 430 / 100 000" in rows(pilot)["f00dfeed"])
        assert "lost" in rows(pilot)["gone"]
        assert "on atlas" in rows(pilot)["far"]
        assert "2 running, 3 past" in pilot.app.screen.query_one("#title", Line).text
        await pilot.press("a")
        await until(pilot, lambda: list(rows(pilot)) == ["f00dfeed", "far"])
        await pilot.press("a", "slash", *"bro")
        await until(pilot, lambda: list(rows(pilot)) == ["broken"])


async def test_running_sessions_show_their_speed_and_loss(running: FakeSession, opened: Any, until: Any) -> None:
    async with opened() as pilot:
        await until(pilot, lambda: "7.6" in rows(pilot)["f00dfeed"] and "█" in rows(pilot)["f00dfeed"])


async def test_enter_opens_a_running_session(running: FakeSession, opened: Any, until: Any) -> None:
    async with opened() as pilot:
        await until(pilot, lambda: rows(pilot))
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, SessionScreen) and pilot.app.screen.state.link == "live"
        )
        assert not pilot.app.screen.read_only
        await pilot.press("H")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
        await until(pilot, lambda: rows(pilot))
        await pilot.press("w")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, SessionScreen) and pilot.app.screen.state.link == "live"
        )
        assert pilot.app.screen.read_only


async def test_a_finished_run_is_read_from_its_directory(home: Path, opened: Any, until: Any) -> None:
    directory = past_run("old", "finished", step=600)
    history = History(directory / "history.sqlite")
    for step in range(1, 601):
        history.append(step, step / 7, {"loss": 1 / step})
    history.close()
    (directory / "session.log").write_text("2026-11-22 14:00:00.000 INFO    step 600  the last word\n")
    (directory / "checkpoints" / "latest").mkdir(parents=True)
    schedule = {"kind": "StepDecay", "factor": 0.9, "every": 1000}
    controls = {"lr": {"value": 0.01, "edits": 2, "schedule": schedule, "base": 0.1, "pinned": False}}
    (directory / "checkpoints" / "latest" / "state.json").write_text(json.dumps({"controls": controls}))
    (directory / "previews").mkdir()
    for step in (100, 600):
        Image.fromarray(np.full((8, 6), step % 256, np.uint8)).save(directory / "previews" / f"step-{step:09d}.png")
    graph = [{"name": "raw", "kind": "Input", "shape": [1, 1, 3, 15, 15], "role": "input"}]
    (directory / "graph.json").write_text(json.dumps(graph))
    journal = Journal(directory / "journal.jsonl")
    journal.append("set", step=300, client="tui", text="lr 0.1 → 0.01")
    journal.close()
    async with opened() as pilot:
        await until(pilot, lambda: rows(pilot))
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, SessionScreen) and pilot.app.screen.state.link == "ended"
        )
        screen = pilot.app.screen
        assert "✓ finished" in screen.query_one(StatusLine).text
        assert "finished" in screen.query_one(Banner).text
        plot = await until(pilot, lambda: screen.query_one(Plot))
        await until(pilot, lambda: len(plot.series) == 1)
        assert np.asarray(plot.series[0].step)[-1] == 600
        await until(pilot, lambda: screen.query_one(LogView).total == 1)
        assert "lr 0.1 → 0.01" in str(screen.pane("plots").border_title)
        assert screen.state.controls["lr"].value == 0.01
        assert "1000" in screen.state.controls["lr"].schedule
        assert [(node.name, node.shape) for node in screen.state.graph] == [("raw", (1, 1, 3, 15, 15))]
        assert "1 nodes" in str(screen.pane("graph").border_title)
        (picture,) = await until(pilot, lambda: screen.query_one(ImageView).pictures)
        assert picture.pixels.shape == (8, 6)
        assert picture.pixels[0, 0] == 600 % 256
        await pilot.press("p")
        assert "can't be changed" in screen.query_one(KeyLine).message


async def test_a_run_with_nothing_in_it_opens_too(home: Path, opened: Any, until: Any) -> None:
    past_run("bare", "failed", reason="ExperimentError: no model")
    async with opened() as pilot:
        await until(pilot, lambda: rows(pilot))
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, SessionScreen) and pilot.app.screen.state.link == "ended"
        )
        await until(pilot, lambda: "ExperimentError: no model" in pilot.app.screen.query_one(Banner).text)


async def test_an_experiment_is_started_and_opened(
    running: FakeSession, opened: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = []

    def start(order: launch.Order) -> registry.Entry:
        orders.append(order)
        return registry.sweep()[0]

    monkeypatch.setattr(launch, "start_worker", start)
    async with opened() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, StartDialog))
        zoo = pilot.app.screen.query_one(RowsView)
        assert zoo.select("membranes")
        await pilot.press("tab")
        field = pilot.app.screen.query_one(Input)
        await until(pilot, lambda: field.has_focus)
        await pilot.press(*"lr=1")
        assert field.value == "membranes lr=1"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, SessionScreen))
        assert Path(orders[0].experiment).stem == "membranes"
        assert orders[0].settings == {"lr": "1"}


async def test_a_start_that_fails_shows_why(
    home: Path, opened: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(order: launch.Order) -> registry.Entry:
        raise LaunchError("the worker died", "Traceback: the data is not there")

    monkeypatch.setattr(launch, "start_worker", start)
    async with opened() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, StartDialog))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, TextDialog))
        assert "the data is not there" in pilot.app.screen._text
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))


async def test_an_experiment_that_is_not_there_is_said_in_the_dialog(home: Path, opened: Any, until: Any) -> None:
    async with opened() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, StartDialog))
        field = pilot.app.screen.query_one(Input)
        field.focus()
        field.value = "membrane"
        await pilot.press("enter")
        await until(pilot, lambda: "membranes" in str(pilot.app.screen.query_one("#trouble").render()))


@pytest.mark.parametrize("text", ["", "'", "membranes lr"])
def test_an_order_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ExperimentError):
        parse_order(text)


def test_sparkline() -> None:
    assert sparkline([0, 1]) == "▁█"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([0, float("nan"), 7]) == "▁ █"
    assert sparkline([]) == ""

"""The log view: pages, following, search."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from elektronn_tui.errors import SessionError
from elektronn_tui.screens.widgets.log_view import LogView

SIZES = [(80, 24), (120, 40)]


@dataclass(frozen=True)
class Line:
    index: int
    text: str
    level: str = "info"
    time: float = 1_700_000_000.0


class LogApp(App):
    def __init__(self, total: int = 100_000, known: int = 50) -> None:
        super().__init__()
        self.total = total
        self.known = known
        self.fetched: list[tuple[int, int]] = []
        self.found: list[int | None] = []
        self.broken = False

    def line(self, index: int) -> Line:
        return Line(index, f"line {index}", "warning" if index % 10 == 3 else "info")

    async def fetch(self, first: int, count: int) -> list[Line]:
        self.fetched.append((first, count))
        await asyncio.sleep(0)
        if self.broken:
            raise SessionError("connection lost")
        return [self.line(index) for index in range(first, min(first + count, self.total))]

    def compose(self) -> ComposeResult:
        yield LogView(self.fetch)

    def on_mount(self) -> None:
        view = self.query_one(LogView)
        view.focus()
        view.reset(self.total, [self.line(i) for i in range(max(self.total - self.known, 0), self.total)])

    def on_log_view_found(self, message: LogView.Found) -> None:
        self.found.append(message.index)


def rows(app: App) -> list[str]:
    view = app.query_one(LogView)
    return [view.render_line(y).text.rstrip() for y in range(view.size.height)]


async def settle(pilot) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES)
async def test_shows_the_tail_and_fetches_nothing_for_it(size: tuple[int, int]) -> None:
    app = LogApp()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        shown = [row for row in rows(app) if row]
        assert shown[-1].endswith("line 99999")
        assert len(shown) == size[1]
        assert app.fetched == []
        assert app.query_one(LogView).total == 100_000


async def test_the_end_of_long_lines_is_reached_with_the_arrow_keys() -> None:
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        view = app.query_one(LogView)
        view.push([Line(100_000, "x" * 100 + " the end")])
        await settle(pilot)
        assert not any(row.endswith("the end") for row in rows(app))
        await pilot.press("right")
        await settle(pilot)
        assert any(row.endswith("the end") for row in rows(app))
        view.push([Line(100_001, "next")])
        await settle(pilot)
        assert any(row.endswith("the end") for row in rows(app)), "what comes moves nothing sideways"
        await pilot.press("left")
        await settle(pilot)
        assert any(row.endswith("next") for row in rows(app))


async def test_new_lines_stay_in_view() -> None:
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        tops = []
        for index in range(100_000, 100_040):
            view.push([app.line(index)])
            await pilot.pause()
            assert any(row.endswith(f"line {index}") for row in rows(app))
            tops.append(view.scroll_offset.y)
        assert len(set(tops)) < 12, "the view should jump now and then, not move with every line"


async def test_a_new_line_paints_one_row() -> None:
    app = LogApp(total=5, known=5)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        painted: list[tuple] = []
        original = view.refresh
        view.refresh = lambda *regions, **kw: (painted.append(regions), original(*regions, **kw))[1]  # type: ignore[method-assign]
        view.push([Line(5, "the sixth")])
        assert [region.y for regions in painted for region in regions] == [5]


@pytest.mark.parametrize("size", SIZES)
async def test_older_pages_are_fetched_when_seen(size: tuple[int, int]) -> None:
    app = LogApp()
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        await pilot.press("home")
        await settle(pilot)
        rows(app)
        await settle(pilot)
        assert not view.following
        assert rows(app)[0].endswith("line 0")
        assert app.fetched == [(0, 256)]
        view.push([app.line(100_000)])
        assert rows(app)[0].endswith("line 0")
        await pilot.press("end")
        await settle(pilot)
        assert view.following
        assert any(row.endswith("line 100000") for row in rows(app))


async def test_scrolling_back_stops_following_and_the_end_starts_it() -> None:
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        view.scroll_relative(y=-10, animate=False)
        await settle(pilot)
        assert not view.following
        top = view.scroll_offset.y
        view.push([app.line(100_000)])
        await settle(pilot)
        assert view.scroll_offset.y == top
        view.scroll_relative(y=60, animate=False)
        await settle(pilot)
        assert view.following


async def test_memory_is_bounded() -> None:
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        for page in range(60):
            view.scroll_to(y=page * 256, animate=False)
            await settle(pilot)
            rows(app)
            await settle(pilot)
            assert rows(app)[0].endswith(f"line {page * 256}")
        assert len(view._log_pages) <= 33


async def test_a_page_that_cannot_be_had_says_why() -> None:
    app = LogApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.broken = True
        await pilot.press("home")
        await settle(pilot)
        rows(app)
        await settle(pilot)
        assert "connection lost" in rows(app)[0]
        app.broken = False
        app.query_one(LogView).reset(app.total, [app.line(99_999)])
        await settle(pilot)
        await pilot.press("home")
        await settle(pilot)
        rows(app)
        await settle(pilot)
        assert rows(app)[0].endswith("line 0")


async def test_levels_have_letters_and_control_characters_do_not_pass() -> None:
    app = LogApp(total=0)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        levels = ["debug", "INFO", "warning", "error", "critical"]
        view.push([Line(i, f"a\x1b[2J\t{level}\r", level) for i, level in enumerate(levels)])
        await settle(pilot)
        shown = rows(app)[:5]
        assert [row[9] for row in shown] == ["D", " ", "W", "E", "C"]
        assert not any("\x1b" in row or "\r" in row for row in shown)


async def test_search_highlights_and_goes_through_pages() -> None:
    app = LogApp(total=3000, known=100)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        view = app.query_one(LogView)
        view.search = "LINE 12"
        view.action_find_next()
        await settle(pilot)
        assert app.found == [None]
        view.search = "line 12"
        for expected in (1299, 1298):
            view.action_find_next()
            await settle(pilot)
            assert app.found[-1] == expected
            assert any(row.endswith(f"line {expected}") for row in rows(app))
        view.action_find_previous()
        await settle(pilot)
        assert app.found[-1] == 1299
        strip = next(strip for strip in map(view.render_line, range(24)) if strip.text.rstrip().endswith("line 1299"))
        marked = [segment.text for segment in strip if segment.style and segment.style.bgcolor and segment.style.bold]
        assert "line 12" in marked


async def test_follows_a_resize() -> None:
    app = LogApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert any(row.endswith("line 99999") for row in rows(app))


async def test_the_tail_is_seen_in_a_layout_that_settles_late() -> None:
    class Nested(LogApp):
        CSS = "LogView, Static { border: round $primary; height: 1fr; } Static { height: 8; width: 1fr; }"

        def compose(self) -> ComposeResult:
            with Horizontal():
                yield Static("left")
                with Vertical():
                    yield LogView(self.fetch)
                    yield Static("below")

    for size in SIZES:
        app = Nested(total=60, known=60)
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            assert rows(app)[-1].endswith("line 59")
            for other in ((100, 16), (90, 36), size):
                await pilot.resize_terminal(*other)
                await settle(pilot)
                assert rows(app)[-1].endswith("line 59")
                assert app.query_one(LogView).following

"""The plot widget: what is redrawn, and when."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from elektronn_tui.screens.widgets.plot import Look, Mark, Plot, Series


class Recorder(Plot):
    """A plot that remembers which regions it asked to have painted."""

    asked: list[tuple[Region, ...]]

    def refresh(self, *regions, **kwargs):
        self.__dict__.setdefault("asked", []).append(regions)
        return super().refresh(*regions, **kwargs)


class PlotApp(App):
    def compose(self) -> ComposeResult:
        yield Recorder("loss", id="plot")


def curve(last: float, n: int = 200) -> Series:
    values = [1 + 0.3 * (i % 7) for i in range(n - 1)] + [last]
    return Series("train", list(range(1, n + 1)), values)


def text_of(app: App, plot: Plot) -> list[str]:
    return [plot.render_line(y).text for y in range(plot.size.height)]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_fills_its_size(size: tuple[int, int]) -> None:
    app = PlotApp()
    async with app.run_test(size=size) as pilot:
        plot = app.query_one(Recorder)
        plot.set_series([curve(2.0)])
        await pilot.pause()
        rows = text_of(app, plot)
        assert (len(rows[0]), len(rows)) == size
        assert rows[0].startswith("loss")
        assert "train 2" in rows[0]
        assert any("⣀" <= c <= "⣿" for row in rows for c in row)


async def test_only_changed_rows_are_painted() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 24)) as pilot:
        plot = app.query_one(Recorder)
        plot.set_series([curve(1.0)])
        await pilot.pause()
        plot.asked.clear()
        plot.set_series([curve(1.05)])
        (regions,) = plot.asked
        assert 1 <= len(regions) < 6
        assert regions[0] == Region(0, 0, 80, 1)


async def test_the_same_data_paint_nothing() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 24)) as pilot:
        plot, series = app.query_one(Recorder), [curve(1.0)]
        plot.set_series(series)
        plot.set_marks([Mark(10)])
        await pilot.pause()
        plot.asked.clear()
        plot.set_series(list(series))
        plot.set_marks([Mark(10)])
        assert plot.asked == []
        plot.set_marks([Mark(10), Mark(100)])
        assert len(plot.asked[0]) == 1


async def test_toggles_change_the_picture() -> None:
    app = PlotApp()
    async with app.run_test(size=(80, 24)) as pilot:
        plot = app.query_one(Recorder)
        steps = list(range(1, 301))
        mean = [1 / step for step in steps]
        plot.set_series(
            [Series("a", steps, mean, [m * 0.5 for m in mean], [m * 2 for m in mean], [3.0 * s for s in steps])]
        )
        await pilot.pause()
        seen = [text_of(app, plot)]
        for action in ("toggle_log", "toggle_time", "toggle_band", "cycle_smoothing"):
            await plot.run_action(action)
            await pilot.pause()
            seen.append(text_of(app, plot))
            assert seen[-1] != seen[-2], action
        assert "log" in seen[-1][0]
        assert "time" in seen[-1][0]
        assert "smooth 0.6" in seen[-1][0]
        assert plot.look == Look(log_y=True, x_axis="time", band=False, smoothing=0.6)
        assert "m" in seen[-1][-1]


async def test_follows_a_resize() -> None:
    app = PlotApp()
    async with app.run_test(size=(120, 40)) as pilot:
        plot = app.query_one(Recorder)
        plot.set_series([curve(1.0)])
        await pilot.pause()
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        rows = text_of(app, plot)
        assert (len(rows[0]), len(rows)) == (80, 24)

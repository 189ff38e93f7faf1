"""The home screen: sessions that run and runs that were, and how to start another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Static

from elektronn_tui.actions import find
from elektronn_tui.errors import ElektronnError, SessionError
from elektronn_tui.keymap import KeyMap
from elektronn_tui.session import launch, registry
from elektronn_tui.session.errors import LaunchError
from elektronn_tui.session.protocol import LIVE_STATES, CurveQuery, Curves, GetCurves
from elektronn_tui.session.registry import SessionInfo

from .chrome import KeyLine, Line
from .dialogs import TextDialog
from .link import SessionLink
from .panes.filterbar import FilterBar
from .panes.rows import Cell, Column, Row, RowsView
from .session import screen_bindings
from .start import StartDialog
from .wording import ago, count, duration, number, state_symbol

if TYPE_CHECKING:
    from .application import ElektronnApp

__all__ = ["HomeScreen", "sparkline"]

COLUMNS = (
    Column("", limit=2),
    Column("session", grow=True),
    Column("state", limit=10),
    Column("step", align="right", limit=24),
    Column("it/s", align="right", rank=4),
    Column("loss", limit=26, rank=3),
    Column("trained", align="right", rank=2),
    Column("started", align="right", rank=5),
    Column("host", rank=1, limit=20),
)
REFRESH_SECONDS = 2.0
SPARK_WIDTH = 16
MOST_FOLLOWED = 12  # running sessions whose curves are shown live
BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Return values as bars of one line; NaN as a blank."""
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        BARS[round((value - low) * scale)] if value == value and abs(value) != float("inf") else " " for value in values
    )


class HomeScreen(Screen[None]):
    """All sessions, those that run first."""

    DEFAULT_CSS = """
    HomeScreen { background: $background; }
    HomeScreen #title { background: $panel; }
    HomeScreen #list { height: 1fr; padding: 1 1 0 1; }
    HomeScreen #detail { height: auto; max-height: 3; color: $text-muted; padding: 0 1; }
    """
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = screen_bindings("home")
    app: ElektronnApp

    def __init__(self, keys: KeyMap | None = None) -> None:
        super().__init__()
        self.keys = keys or KeyMap()
        self.infos: list[SessionInfo] = []
        self.all_runs = True
        self.filter_text = ""
        self._links: dict[str, SessionLink] = {}
        self._sparks: dict[str, tuple[str, str]] = {}
        self._starting = ""

    def compose(self) -> ComposeResult:
        """Give the title, the list and the keys."""
        yield Line(id="title")
        with Vertical(id="list"):
            yield RowsView(COLUMNS, empty="looking for sessions ...")
        yield Static(id="detail", markup=False)
        yield KeyLine("home", self.keys)

    def on_mount(self) -> None:
        """Look which sessions there are, now and from time to time."""
        self._title()
        self.query_one(RowsView).focus()
        self.set_interval(REFRESH_SECONDS, self._look)
        self._look()

    # --- what there is

    def _look(self) -> None:
        self.run_worker(self._read(), group="look", exclusive=True)

    async def _read(self) -> None:
        try:
            infos = await asyncio.to_thread(registry.sessions, past=True)
        except (ElektronnError, OSError) as error:
            self.say(str(error), "bad")
            return
        self.infos = sorted(infos, key=lambda info: (info.state not in LIVE_STATES, -info.started))
        self._follow()
        self._show()
        for info in self.infos:
            link = self._links.get(info.id)
            if link is not None and link.state.link == "live":
                await self._spark(info.id, link)

    def _follow(self) -> None:
        """Keep a quiet read-only connection to each running session that can be reached."""
        running = [info for info in self.infos if info.socket and info.state in LIVE_STATES][:MOST_FOLLOWED]
        wanted = {info.id for info in running}
        for info in running:
            if info.id not in self._links:
                link = SessionLink(info, lambda *_: None, read_only=True, rate=0.5, name="home")
                self._links[info.id] = link
                self.run_worker(link.run(), group=f"link-{info.id}", name=info.id)
        for gone in [id_ for id_ in self._links if id_ not in wanted]:
            del self._links[gone]
            self.workers.cancel_group(self, f"link-{gone}")

    async def _spark(self, id_: str, link: SessionLink) -> None:
        metrics = link.state.metrics
        name = next((name for name in ("loss", "train_loss") if name in metrics), None)
        name = name or next((name for name in metrics if "loss" in name), None)
        if name is None:
            return
        try:
            answer = await link.request(GetCurves(queries=(CurveQuery(metric=name, width=SPARK_WIDTH),)))
        except SessionError:
            return
        if isinstance(answer, Curves) and answer.curves and answer.curves[0].mean:
            values = memoryview(answer.curves[0].mean).cast("f").tolist()
            self._sparks[id_] = (sparkline(values[-SPARK_WIDTH:]), number(metrics[name].value))
            self._show()

    def _show(self) -> None:
        now = time.time()
        wanted = self.filter_text.lower()
        shown = [
            info
            for info in self.infos
            if (self.all_runs or info.state in LIVE_STATES)
            and wanted in f"{info.name} {info.state} {info.host}".lower()
        ]
        rows = self.query_one(RowsView)
        new = self.keys.shown(find("new"))
        rows.set_empty(
            f"no session yet.\n\n{new} starts one: an experiment of the zoo, or a file of yours."
            if not self.infos
            else "no session fits; Esc in the filter, or " + self.keys.shown(find("all_runs")) + ", shows more"
        )
        rows.set_rows([self._row(info, now) for info in shown])
        self._title()
        self._describe()

    def _row(self, info: SessionInfo, now: float) -> Row:
        link = self._links.get(info.id)
        live = link is not None and link.state.link == "live"
        status = link.state.status if link is not None and live else None
        state = status.state if status is not None else info.state
        symbol, role = state_symbol(state)
        step = status.step if status is not None else info.step
        steps = status.steps if status is not None else info.steps
        spark, value = self._sparks.get(info.id, ("", ""))
        loss: Cell = ((spark, "accent"), (f" {value}", "")) if spark else ""
        trained = status.training_time if status is not None else info.training_time
        host: Cell = (("on " + info.host, "warn"),) if info.liveness == "elsewhere" else ""
        progress: Cell = ((count(step), ""), (f" / {count(steps)}" if steps else "", "dim"))
        return Row(
            info.id,
            (
                ((symbol[:1], role),),
                ((info.name, "strong" if state in LIVE_STATES else ""),),
                ((state, role),),
                progress,
                number(round(status.rate, 2)) if status is not None and state == "running" else "",
                loss,
                duration(trained) if trained else "",
                ((ago(info.started, now), "dim"),),
                host,
            ),
        )

    def _title(self) -> None:
        running = sum(info.state in LIVE_STATES for info in self.infos)
        which = "" if self.all_runs else "   running ones only"
        starting = f"   ◌ starting {self._starting} ..." if self._starting else ""
        counts = f"   {running} running, {len(self.infos) - running} past"
        self.query_one("#title", Line).show(
            ((" elektronn", "strong"), ("   sessions", ""), (counts, "dim"), (which, "dim"), (starting, "accent"))
        )

    def _describe(self) -> None:
        info = self._selected()
        text = ""
        if info is not None:
            text = f"{info.run_dir}" + (f"\n{info.reason}" if info.reason else "")
        self.query_one("#detail", Static).update(text)

    def on_rows_view_moved(self) -> None:
        """Describe the session under the cursor."""
        self._describe()

    # --- actions

    def say(self, text: str, role: str = "good") -> None:
        """Tell the person what happened, in the bottom line."""
        self.query_one(KeyLine).say(text, role)

    def _selected(self) -> SessionInfo | None:
        key = self.query_one(RowsView).cursor_key
        return next((info for info in self.infos if info.id == key), None)

    def on_rows_view_chosen(self) -> None:
        """Open the session that Enter was pressed on."""
        self.action_open()

    def action_open(self) -> None:
        """Open the session under the cursor."""
        info = self._selected()
        if info is not None:
            self.app.show_session(info)

    def action_watch(self) -> None:
        """Open the session under the cursor without the right to change it."""
        info = self._selected()
        if info is not None:
            self.app.show_session(info, read_only=True)

    def action_all_runs(self) -> None:
        """Show past runs, or not."""
        self.all_runs = not self.all_runs
        self._show()

    def action_refresh(self) -> None:
        """Look again and draw everything anew."""
        self.app.redraw()
        self._look()

    def action_filter(self) -> None:
        """Ask for a text to filter by."""
        bars = self.query(FilterBar)
        if bars:
            bars.first().focus_input()
        else:
            self.query_one("#list").mount(FilterBar(self.filter_text))

    def on_filter_bar_changed(self, message: FilterBar.Changed) -> None:
        """Filter while the text is typed."""
        self.filter_text = message.text
        self._show()

    def on_filter_bar_closed(self) -> None:
        """Give the focus back to the list."""
        self.query_one(RowsView).focus()

    def action_leave(self) -> None:
        """Leave the application."""
        self.app.leave()

    def action_help(self) -> None:
        """Show the keys."""
        self.app.show_help("home")

    # --- starting

    def action_new(self) -> None:
        """Ask for an experiment, and start it."""
        if self._starting:
            self.say(f"{self._starting} is still starting", "warn")
            return
        self.app.push_screen(StartDialog(), self._start)

    def _start(self, order: launch.Order | None) -> None:
        if order is None:
            return
        self._starting = Path(order.experiment).stem
        self._title()
        self.run_worker(self._launch(order), group="start")

    async def _launch(self, order: launch.Order) -> None:
        experiment = self._starting
        try:
            entry = await asyncio.to_thread(launch.start_worker, order)
            info = await asyncio.to_thread(registry.find, entry.id, exact=True)
        except LaunchError as error:
            self.app.push_screen(TextDialog(f"{experiment} did not start", f"{error}\n\n{error.traceback}".strip()))
        except (ElektronnError, OSError) as error:
            self.app.push_screen(TextDialog(f"{experiment} did not start", str(error)))
        else:
            self.app.show_session(info)
            return
        finally:
            self._starting = ""
        self._title()
        self._look()

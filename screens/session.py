"""The session screen: six panes on one session, live or ended."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from elektronn_tui.actions import actions_for
from elektronn_tui.errors import ElektronnError, SessionError
from elektronn_tui.keymap import KeyMap, key_name
from elektronn_tui.session.errors import RequestRefused
from elektronn_tui.session.protocol import (
    Answer,
    ConsoleMode,
    Done,
    Interrupt,
    JobInfo,
    JobStarted,
    MakePreview,
    Pause,
    Receipts,
    Redo,
    Request,
    Resume,
    Save,
    SetConsoleMode,
    Stop,
    Undo,
)
from elektronn_tui.session.registry import SessionInfo

from .chrome import Banner, KeyLine, StatusLine, TabLine
from .dialogs import StopQuestion
from .finished import FinishedLink
from .job_actions import ask_what_to_predict, list_jobs, show_jobs
from .link import Link, SessionLink
from .panes.console import ConsolePane
from .panes.controls import ControlsPane, receipt_text
from .panes.graph import GraphPane
from .panes.log import LogPane
from .panes.pane import Pane
from .panes.plots import PlotsPane
from .panes.preview import PreviewPane
from .state import ALL_PARTS, Part, SessionState
from .wording import count

if TYPE_CHECKING:
    from .application import ElektronnApp

__all__ = ["SessionScreen", "screen_bindings"]

WIDE = 100  # columns from which the panes are seen together
TALL = 20  # rows
PANES: tuple[type[Pane], ...] = (PlotsPane, PreviewPane, ControlsPane, LogPane, GraphPane, ConsolePane)
NAMES = tuple(pane.pane_name for pane in PANES)

LinkMaker = Callable[[Callable[[SessionState, frozenset[Part]], None]], Link]


def screen_bindings(screen: str) -> list[BindingType]:
    """Return the bindings of a screen, as the action table has them."""
    return [
        Binding(
            ",".join(key_name(key) for key in action.keys), action.action, action.palette, show=False, id=action.name
        )
        for action in actions_for(screen)
    ]


class SessionScreen(Screen[None]):
    """Everything about one session."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = screen_bindings("session")
    app: ElektronnApp

    def __init__(
        self,
        info: SessionInfo,
        *,
        read_only: bool = False,
        rate: float = 1.0,
        keys: KeyMap | None = None,
        make_link: LinkMaker | None = None,
    ) -> None:
        super().__init__()
        self.info = info
        self.keys = keys or KeyMap()
        self.link: Link = (
            make_link(self.changed)
            if make_link is not None
            else SessionLink(info, self.changed, read_only=read_only, rate=rate)
        )
        self.active = "plots"
        self.zoomed = False
        self._following = False
        self._jobs: Mapping[int, JobInfo] = {}
        self._archive: FinishedLink | None = None

    # --- layout

    @property
    def state(self) -> SessionState:
        """What is known of the session."""
        return self.link.state

    @property
    def read_only(self) -> bool:
        """Whether this screen may change nothing."""
        welcome = self.link.welcome
        return self.link.read_only or (welcome is not None and welcome.read_only)

    def compose(self) -> ComposeResult:
        """Give the lines and the panes, which are empty until they are seen."""
        yield StatusLine()
        yield Banner()
        yield TabLine(NAMES)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield PlotsPane()
                yield PreviewPane()
            with Vertical(id="right"):
                yield ControlsPane()
                yield LogPane()
                yield GraphPane()
                yield ConsolePane()
        yield KeyLine("session", self.keys)

    def on_mount(self) -> None:
        """Begin to follow the session."""
        self._following = True
        self.query_one(KeyLine).set_read_only(self.read_only)
        self._show_chrome()
        self.run_worker(self.link.run(), group="link", exit_on_error=True)

    async def on_resize(self, event: events.Resize) -> None:
        """Show the panes together where there is room."""
        await self._arrange()

    @property
    def single(self) -> bool:
        """Whether one pane has the whole body."""
        return self.zoomed or self.size.width < WIDE or self.size.height < TALL

    def pane(self, name: str) -> Pane:
        """Return a pane by its name."""
        return self.query_one(f"#{name}", Pane)

    def seen(self, name: str) -> bool:
        """Whether a pane is on the screen."""
        return not self.single or name == self.active

    async def _arrange(self) -> None:
        narrow = self.size.width < WIDE or self.size.height < TALL
        self.set_class(self.single, "-single")
        tabs = self.query_one(TabLine)
        tabs.set_class(narrow or self.zoomed, "-shown")
        tabs.mark(self.active)
        for name in NAMES:
            pane = self.pane(name)
            pane.set_class(name == self.active, "-active").set_class(self.single, "-alone")
            pane.draw_title()
        holders = {ancestor.id for ancestor in self.pane(self.active).ancestors}
        for name in ("left", "right"):
            self.query_one(f"#{name}").set_class(name in holders, "-holds")
        for name in sorted(NAMES, key=lambda name: name != self.active):
            pane = self.pane(name)
            if self.seen(name):
                if pane.built:
                    pane.take(self.state, ALL_PARTS)
                else:
                    await pane.build()

    # --- state

    def changed(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Show a new state."""
        if not self._following:
            return
        if parts & {"status", "link", "jobs"}:
            self._show_chrome()
        if "jobs" in parts:
            show_jobs(self, self._jobs, state.jobs)
            self._jobs = state.jobs
        if state.link == "ended" and isinstance(self.link, SessionLink) and self.link.never_ran is not None:
            self.app.never_ran(self.info, self.link.never_ran)
        for name in NAMES:
            pane = self.pane(name)
            if pane.built and self.seen(name) and (parts & pane.parts or "link" in parts):
                pane.take(state, parts)

    def _show_chrome(self) -> None:
        state = self.state
        self.query_one(StatusLine).take(state, self.info.name, self.read_only)
        self.query_one(Banner).take(state, self.keys, self.read_only)

    # --- asking the session

    def say(self, text: str, role: str = "good") -> None:
        """Tell the person what happened, in the bottom line."""
        self.query_one(KeyLine).say(text, role)

    def say_receipts(self, answer: Receipts) -> None:
        """Show what an edit, undo or redo did."""
        self.say("; ".join(receipt_text(receipt) for receipt in answer.receipts) or "nothing to change")

    def may_write(self) -> bool:
        """Whether changes are allowed; says why when they are not."""
        if self.state.link == "ended":
            self.say(f"the session has {self.state.status.state}: it can't be changed any more", "warn")
            return False
        if self.read_only:
            self.say("read-only: attach without --read-only to change the session", "warn")
            return False
        return True

    async def request(self, message: Request) -> Answer:
        """Send a request; to the files that it left when the session is over.

        Raises
        ------
        SessionError
            It was refused, or nobody could answer.
        """
        if self.state.link == "ended" and isinstance(self.link, SessionLink):
            if self._archive is None:
                self._archive = FinishedLink(self.info)
            return await self._archive.request(message)
        return await self.link.request(message)

    async def ask(self, message: Request) -> Answer | None:
        """Send a request; a refusal is shown and gives None."""
        try:
            return await self.request(message)
        except RequestRefused as error:
            self.say(error.reason, "bad")
        except SessionError as error:
            self.say(str(error), "bad")
        return None

    def send(self, message: Request, done: str = "") -> None:
        """Send a request that changes the session, and show its answer."""

        async def exchange() -> None:
            answer = await self.ask(message)
            if isinstance(answer, Receipts):
                self.say_receipts(answer)
            elif isinstance(answer, Done):
                self.say(answer.text or done)
            elif isinstance(answer, JobStarted):
                self.say(f"job {answer.job.number}: {answer.job.kind} {answer.job.text}")

        if self.may_write():
            self.work(exchange)

    def work(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Do something that waits for the session."""
        self.run_worker(work, group="requests")

    # --- actions: training

    def action_pause(self) -> None:
        """Pause, or go on."""
        state = self.state.status
        if state.held_by:
            self.set_console_mode("observe")
        elif state.state in ("paused", "halted"):
            self.send(Resume(), "training goes on")
        else:
            self.send(Pause(), "paused at the next step boundary")

    async def action_edit(self) -> None:
        """Edit the selected control."""
        if self.may_write():
            self.app.keep_keys()
            await self.action_pane("controls")
            self.call_after_refresh(self._open_editor)  # which needs to know where the row is

    async def _open_editor(self) -> None:
        try:
            await self.query_one(ControlsPane).edit()
        finally:
            self.app.call_later(self.app.release_keys)

    def action_undo(self) -> None:
        """Take the last edit back."""
        self.send(Undo(), "nothing to undo")

    def action_redo(self) -> None:
        """Bring the last undone edit back."""
        self.send(Redo(), "nothing to redo")

    async def action_unpin(self) -> None:
        """Give the selected control back to its schedule."""
        if self.may_write():
            await self.action_pane("controls")
            self.work(self.query_one(ControlsPane).unpin)

    def action_save(self) -> None:
        """Write a checkpoint."""
        self.send(Save(), "checkpoint saved")

    def action_preview(self) -> None:
        """Make a preview."""
        self.send(MakePreview(), "preview made")

    def action_predict(self) -> None:
        """Ask what is to be predicted, and start it."""
        ask_what_to_predict(self)

    async def action_jobs(self) -> None:
        """Show the jobs, and cancel one."""
        await list_jobs(self)

    def action_hold(self) -> None:
        """Switch the console's mode."""
        self.set_console_mode("observe" if self.state.status.held_by else "hold")

    def set_console_mode(self, mode: ConsoleMode) -> None:
        """Hold the loop for the console, or let it go on."""

        async def switch() -> None:
            if await self.ask(SetConsoleMode(mode=mode)) is not None:
                pane = self.query_one(ConsolePane)
                pane.mode = mode
                if pane.built:
                    pane.take(self.state, frozenset(("console",)))
                self.say("the loop waits for the console" if mode == "hold" else "the loop goes on")

        if self.may_write():
            self.work(switch)

    async def edit_control(self, name: str) -> None:
        """Go to a control and edit it."""
        if self.may_write():
            await self.action_pane("controls")
            self.call_after_refresh(self.query_one(ControlsPane).edit, name)

    async def run_statement(self, code: str) -> None:
        """Run a statement in the console, where it can be seen."""
        if self.may_write():
            await self.action_pane("console")
            self.query_one(ConsolePane).run(code)

    def action_interrupt(self) -> None:
        """Interrupt the running statement."""
        running = self.state.status.running_statement
        # What was just sent may run without this client having heard of it yet.
        if running or any(console.waits for console in self.query(ConsolePane)):
            self.send(Interrupt(statement=running), "interrupted")
        else:
            self.say("no statement runs; q leaves, p pauses the training", "dim")

    def action_stop(self) -> None:
        """Ask, then end the session."""
        if not self.may_write():
            return
        status = self.state.status

        def answered(answer: str | None) -> None:
            if answer:
                self.send(Stop(now=answer == "now"), "the session ends")

        where = f"step {count(status.step)}" + (f" of {count(status.steps)}" if status.steps else "")
        self.app.push_screen(StopQuestion(self.info.name, where), answered)

    # --- actions: view

    async def action_console(self) -> None:
        """Write in the console."""
        self.app.keep_keys()
        try:
            await self.action_pane("console")
            await self.query_one(ConsolePane).write()
        finally:
            self.app.call_later(self.app.release_keys)  # behind the change of focus, which is queued, too

    def action_filter(self) -> None:
        """Filter the active pane."""
        self.pane(self.active).open_filter()

    async def action_zoom(self) -> None:
        """Give the active pane the whole screen, or show all again."""
        self.zoomed = not self.zoomed
        await self._arrange()

    async def action_slice(self, by: int) -> None:
        """Scroll the preview through its slices."""
        if self.seen("preview"):
            self.query_one(PreviewPane).scroll_slice(by)

    def action_magnify(self, by: int) -> None:
        """Show the preview larger or smaller."""
        if self.seen("preview"):
            self.query_one(PreviewPane).magnify(by)

    def action_whole_slice(self) -> None:
        """Show the preview's whole slice, or the readable part of it."""
        if self.seen("preview"):
            self.query_one(PreviewPane).toggle_whole()

    def action_pan(self, down: int, right: int) -> None:
        """Move in the preview; in other panes the keys have no such meaning."""
        if self.active == "preview":
            self.query_one(PreviewPane).pan(down, right)

    async def action_pane(self, name: str) -> None:
        """Go to a pane."""
        if name != self.active:
            self.active = name
            await self._arrange()
        owner = self.pane(name).owner()
        if owner is not None and owner.focusable:
            owner.focus()
        else:
            self.set_focus(None)

    async def action_cycle(self, by: int) -> None:
        """Go to the next or the previous pane."""
        await self.action_pane(NAMES[(NAMES.index(self.active) + by) % len(NAMES)])

    async def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Let the pane that has the focus be the active one."""
        for node in event.widget.ancestors_with_self:
            if isinstance(node, Pane):
                if node.pane_name != self.active:
                    self.active = node.pane_name
                    await self._arrange()
                return

    # --- actions: plots

    def action_metrics(self) -> None:
        """Choose what is plotted."""
        self.query_one(PlotsPane).choose_metrics()

    def action_log_y(self) -> None:
        """Switch between linear and logarithmic."""
        self.query_one(PlotsPane).toggle_log()

    def action_time_axis(self) -> None:
        """Switch between steps and time."""
        self.query_one(PlotsPane).toggle_time()

    def action_smoothing(self) -> None:
        """Go to the next smoothing window."""
        self.query_one(PlotsPane).next_smoothing()

    def action_span(self) -> None:
        """Go to the next range of steps."""
        self.query_one(PlotsPane).next_span()

    def action_mark(self, by: int) -> None:
        """Go to another mark."""
        self.query_one(PlotsPane).go_to_mark(by)

    # --- actions: application

    def action_detach(self) -> None:
        """Leave; the session goes on."""
        self.app.leave(self.info.name if self.state.live else "")

    def action_home(self) -> None:
        """Show all sessions."""
        self.app.show_home()

    async def action_refresh(self) -> None:
        """Ask for everything again and draw it anew."""
        self.link.retry()
        self.app.redraw()
        try:
            if isinstance(self.link, SessionLink):
                await self.link.refresh()
        except ElektronnError as error:
            self.say(str(error), "bad")

    def action_help(self) -> None:
        """Show the keys."""
        self.app.show_help("session")

"""Dialogs about jobs: what one is to do, and the list of those that wait, run or are over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from elektronn_tui.session.protocol import ACTIVE_JOBS, JobInfo, JobOffer, JobOption

from .panes.rows import Column, Row, RowsView
from .wording import duration

__all__ = ["JobForm", "JobList", "job_pieces", "job_rows"]

_ROLES = {"running": "accent", "finished": "good", "failed": "bad", "lost": "bad", "cancelled": "warn"}


def job_pieces(jobs: Iterable[JobInfo]) -> tuple[tuple[str, str], ...]:
    """Return what the status line says of the jobs that are not over; nothing where all are."""
    active = [job for job in jobs if job.state in ACTIVE_JOBS]
    if not active:
        return ()
    first = active[0]
    how = f"{100 * first.progress:.0f} %" if first.state == "running" else first.state
    more = f" +{len(active) - 1}" if len(active) > 1 else ""
    return ((f"{first.kind} ", "dim"), (how, "accent"), (more, "dim"))


def job_rows(jobs: Iterable[JobInfo]) -> list[Row]:
    """Return the jobs as rows, the newest first."""
    rows = []
    for job in sorted(jobs, key=lambda job: -job.number):
        running = job.state == "running"
        how = f"{100 * job.progress:.0f} %" if running else job.state
        took = duration(job.ended - job.started) if job.ended else ""
        told = job.reason or (job.detail if running else "") or job.text
        cells = (str(job.number), job.kind, ((how, _ROLES.get(job.state, "dim")),), took, ((told, "dim"),))
        rows.append(Row(str(job.number), cells))
    return rows


class Toggle(Widget, can_focus=True):
    """One of a few values: Space and the arrow keys go on to the next."""

    DEFAULT_CSS = """
    Toggle { height: 1; width: 1fr; background: $panel; }
    Toggle:focus { background: $block-cursor-background; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,right", "turn(1)", "next", show=False),
        Binding("left", "turn(-1)", "previous", show=False),
    ]

    def __init__(self, values: Sequence[tuple[object, str]], value: object) -> None:
        super().__init__()
        self._values = tuple(values)
        self._index = next((i for i, (known, _) in enumerate(self._values) if known == value), 0)

    @property
    def value(self) -> object:
        """What is chosen."""
        return self._values[self._index][0]

    def render(self) -> RenderResult:
        """Draw the value."""
        return Content(self._values[self._index][1])

    def action_turn(self, by: int) -> None:
        """Choose another."""
        self._index = (self._index + by) % len(self._values)
        self.refresh()


class JobForm(ModalScreen[tuple[str, ...] | None]):
    """What a job is to do, by the arguments that its kind has; answers those of the command."""

    DEFAULT_CSS = """
    JobForm { align: center middle; background: transparent; }
    JobForm > Vertical { width: 78; max-width: 100%; height: auto; max-height: 90%; border: round $accent;
                         padding: 0 1; background: $surface; border-title-style: bold; }
    JobForm Horizontal { height: 1; }
    JobForm .label { width: 10; }
    JobForm Input { width: 1fr; background: $panel; }
    JobForm .hint { color: $text-muted; }
    JobForm #help { height: auto; margin-top: 1; }
    JobForm #trouble { color: $error; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", show=False),
        Binding("enter", "start", "start", show=False, priority=True),
        Binding("down,tab", "app.focus_next", "next", show=False, priority=True),
        Binding("up,shift+tab", "app.focus_previous", "previous", show=False, priority=True),
    ]

    def __init__(self, offer: JobOffer) -> None:
        super().__init__()
        self._offer = offer
        self._fields: list[tuple[JobOption, Input | Toggle]] = []

    def compose(self) -> ComposeResult:
        """Give a line for each argument."""
        with Vertical() as box:
            box.border_title = Content(self._offer.help or self._offer.kind)
            for option in self._offer.options:
                field = _field(option)
                self._fields.append((option, field))
                with Horizontal():
                    yield Static(option.name, classes="label", markup=False)
                    yield field
            yield Static(id="trouble", markup=False)
            yield Static(id="help", classes="hint", markup=False)
            yield Static("enter: start   ↑ ↓: other fields   space: change   esc: cancel", classes="hint")

    def on_mount(self) -> None:
        """Begin where something has to be given."""
        fields = [field for _, field in self._fields]
        empty = [field for field in fields if isinstance(field, Input) and not field.value]
        for field in (empty or fields)[:1]:
            field.focus()

    def on_descendant_focus(self) -> None:
        """Say what the field is for."""
        found = [option.help for option, field in self._fields if field.has_focus]
        self.query_one("#help", Static).update(found[0] if found else "")

    def action_start(self) -> None:
        """Answer, unless something is missing."""
        arguments: list[str] = []
        for option, field in self._fields:
            value = field.value.strip() if isinstance(field, Input) else field.value
            if not option.flag and not value:
                self.query_one("#trouble", Static).update(f"{option.name} is missing: {option.help}")
                field.focus()
                return
            arguments += option.arguments(value)
        self.dismiss(tuple(arguments))

    def action_cancel(self) -> None:
        """Start nothing."""
        self.dismiss(None)


def _field(option: JobOption) -> Input | Toggle:
    if option.type == "bool":
        return Toggle(((False, "no"), (True, "yes")), bool(option.default))
    if option.type == "choice":
        return Toggle([(choice, choice) for choice in option.choices], option.default)
    field = Input(str(option.default or ""), compact=True)
    field.cursor_blink, field.select_on_focus = False, False
    return field


class JobList(ModalScreen[int | None]):
    """The jobs of a session as they stand; answers the number of one to cancel."""

    DEFAULT_CSS = """
    JobList { align: center middle; background: transparent; }
    JobList > Vertical { width: 96; max-width: 100%; height: auto; max-height: 80%; border: round $accent;
                         padding: 0 1; background: $surface; border-title-style: bold; }
    JobList RowsView { height: auto; max-height: 16; background: $surface; }
    JobList .hint { color: $text-muted; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,J,enter", "close", "close", show=False),
        Binding("c", "cancel", "cancel the job", show=False),
    ]

    def __init__(self, jobs: Sequence[JobInfo], where: str) -> None:
        super().__init__()
        self._jobs = {str(job.number): job for job in jobs}
        self._where = where

    def compose(self) -> ComposeResult:
        """Give the list."""
        columns = (Column(limit=4), Column(limit=10, rank=2), Column(limit=10), Column(limit=12, rank=1))
        with Vertical() as box:
            box.border_title = Content("jobs")
            yield RowsView((*columns, Column(grow=True)), empty="there are none yet")
            yield Static(f"snapshots and logs: {self._where}", classes="hint", markup=False)
            yield Static("c: cancel the selected job   esc: close", classes="hint")

    def on_mount(self) -> None:
        """Show them."""
        self._draw()
        self.query_one(RowsView).focus()

    def take(self, jobs: Sequence[JobInfo]) -> None:
        """Show them as they stand now."""
        self._jobs = {str(job.number): job for job in jobs}
        self._draw()

    def action_cancel(self) -> None:
        """Answer the job under the cursor, if it is not over."""
        job = self._jobs.get(self.query_one(RowsView).cursor_key or "")
        if job is not None and job.state in ACTIVE_JOBS:
            self.dismiss(job.number)

    def action_close(self) -> None:
        """Cancel none."""
        self.dismiss(None)

    def _draw(self) -> None:
        self.query_one(RowsView).set_rows(job_rows(self._jobs.values()))

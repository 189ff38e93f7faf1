"""The question which experiment to start."""

from __future__ import annotations

import shlex
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from elektronn_tui.errors import ElektronnError, ExperimentError
from elektronn_tui.session import launch
from elektronn_tui.training.examples import examples, experiment_file

from .panes.rows import Column, Row, RowsView

__all__ = ["StartDialog", "parse_order"]


def parse_order(text: str) -> launch.Order:
    """Return what to start: an experiment (zoo name or file) and settings, as ``fib25 data.path=/a.h5 lr=1e-3``.

    Raises
    ------
    ExperimentError
        There is no such experiment, or a setting is none.
    """
    try:
        experiment, *settings = shlex.split(text)
    except ValueError as error:
        raise ExperimentError(f"give an experiment: a file or a name of the zoo ({error})") from error
    values = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key:
            raise ExperimentError(f"{setting!r} is no setting; write KEY=VALUE, such as data.path=/volume.h5")
        values[key] = value
    return launch.Order(experiment=str(experiment_file(experiment)), settings=values)


class StartDialog(ModalScreen[launch.Order | None]):
    """Choose an experiment of the zoo, or give a file; answers what to start."""

    DEFAULT_CSS = """
    StartDialog { align: center middle; background: transparent; }
    StartDialog > Vertical { width: 78; max-width: 100%; height: auto; max-height: 90%; border: round $accent;
                             padding: 0 1; background: $surface; border-title-style: bold; }
    StartDialog RowsView { height: auto; max-height: 14; background: $surface; margin-bottom: 1; }
    StartDialog Input { background: $panel; }
    StartDialog .hint { color: $text-muted; }
    StartDialog #trouble { color: $error; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", show=False),
        Binding("tab,shift+tab", "switch", "zoo or file", show=False, priority=True),
    ]

    def compose(self) -> ComposeResult:
        """Give the zoo and a line for a file."""
        with Vertical() as box:
            box.border_title = Content("start a session")
            yield RowsView((Column("zoo", limit=24), Column("", grow=True, rank=1)), empty="the zoo is empty")
            yield Static("or a file, or a name, with settings:", classes="hint")
            field = Input(placeholder="experiment.py data.path=/volume.h5 optimiser.lr=1e-3", compact=True)
            field.cursor_blink, field.select_on_focus = False, False
            yield field
            yield Static(id="trouble", markup=False)
            yield Static("enter: start   tab: give settings or a file   esc: cancel", classes="hint")

    def on_mount(self) -> None:
        """List the zoo."""
        rows = self.query_one(RowsView)
        zoo = examples()
        rows.set_rows([Row(name, (name, ((example.summary, "dim"),))) for name, example in zoo.items()])
        (rows if zoo else self.query_one(Input)).focus()

    def on_rows_view_chosen(self, message: RowsView.Chosen) -> None:
        """Start an experiment of the zoo."""
        self._answer(message.key)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Start an experiment file, if there is one."""
        self._answer(message.value)

    def _answer(self, text: str) -> None:
        try:
            self.dismiss(parse_order(text))
        except ElektronnError as error:
            self.query_one("#trouble", Static).update(str(error))

    def action_switch(self) -> None:
        """Go from the zoo to the line, taking the name along, or back."""
        field, rows = self.query_one(Input), self.query_one(RowsView)
        if field.has_focus:
            rows.focus()
            return
        if not field.value and rows.cursor_key is not None:
            field.value = f"{rows.cursor_key} "
        field.focus()

    def action_cancel(self) -> None:
        """Start nothing."""
        self.dismiss(None)

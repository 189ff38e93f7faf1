"""The question which experiment to start."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from elektronn_tui.errors import ElektronnError
from elektronn_tui.session import launch
from elektronn_tui.training.examples import examples

from .panes.rows import Column, Row, RowsView

__all__ = ["StartDialog"]


class StartDialog(ModalScreen[str | None]):
    """Choose an experiment of the zoo, or give a file; answers its name or path."""

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
            yield Static("or the path of an experiment file:", classes="hint")
            field = Input(placeholder="experiment.py", compact=True)
            field.cursor_blink = False
            yield field
            yield Static(id="trouble", markup=False)
            yield Static("enter: start   tab: zoo or file   esc: cancel", classes="hint")

    def on_mount(self) -> None:
        """List the zoo."""
        rows = self.query_one(RowsView)
        zoo = examples()
        rows.set_rows([Row(name, (name, ((example.title, "dim"),))) for name, example in zoo.items()])
        (rows if zoo else self.query_one(Input)).focus()

    def on_rows_view_chosen(self, message: RowsView.Chosen) -> None:
        """Start an experiment of the zoo."""
        self.dismiss(message.key)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Start an experiment file, if there is one."""
        try:
            self.dismiss(str(launch.find_experiment(message.value.strip())))
        except ElektronnError as error:
            self.query_one("#trouble", Static).update(str(error))

    def action_switch(self) -> None:
        """Go from the zoo to the line, or back."""
        field = self.query_one(Input)
        (self.query_one(RowsView) if field.has_focus else field).focus()

    def action_cancel(self) -> None:
        """Start nothing."""
        self.dismiss(None)

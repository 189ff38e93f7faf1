"""A line to type a filter into."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

__all__ = ["FilterBar"]


class FilterBar(Horizontal):
    """A line at the bottom of a pane: filters while it is typed into; Enter keeps the filter, Esc drops it."""

    DEFAULT_CSS = """
    FilterBar { height: 1; dock: bottom; background: $surface; }
    FilterBar Static { width: 2; color: $accent; }
    FilterBar Input { background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop", "drop the filter", show=False)]

    class Changed(Message):
        """Another text to filter by."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Closed(Message):
        """The person is done with the filter; the pane takes the focus back."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._initial = text

    def compose(self) -> ComposeResult:
        """Give the sign and the input."""
        yield Static("/")
        field = Input(self._initial, compact=True, placeholder="filter")
        field.cursor_blink = False
        yield field

    def on_mount(self) -> None:
        """Take the focus."""
        self.focus_input()

    def focus_input(self) -> None:
        """Take the focus."""
        self.query_one(Input).focus()

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter by what is typed so far."""
        message.stop()
        self.post_message(self.Changed(message.value.strip()))

    async def on_input_submitted(self, message: Input.Submitted) -> None:
        """Keep the filter; an empty one goes with its line."""
        message.stop()
        self.post_message(self.Closed())
        if not message.value.strip():
            await self.remove()

    async def action_drop(self) -> None:
        """Show everything again."""
        self.post_message(self.Changed(""))
        self.post_message(self.Closed())
        await self.remove()

"""A one-line editor that lies over the value it edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset, Region
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

__all__ = ["InlineEdit"]


class _Note(Static):
    """The line beneath (or above) an editor: why its text is refused, or what may be chosen."""

    DEFAULT_CSS = """
    _Note {
        overlay: screen; position: absolute; constrain: inside none; width: auto; max-width: 60; height: auto;
        max-height: 4;
        padding: 0 1; background: $panel; color: $text; display: none;
    }
    _Note.-error { background: $error-muted; color: $text-error; }
    """


class InlineEdit(Input):
    """Edit a value in its place; mount it on the screen.

    Enter submits what is valid, Esc and losing the focus cancel; either way the editor goes and the focus returns
    to where it was.

    Parameters
    ----------
    region : Region
        The cells to lie over, in coordinates of the screen.
    value : str
        The text to begin with, all of it selected.
    check : callable, optional
        ``check(text)`` gives None for what is valid, else the reason why not; called at each key.
    choices : sequence of str, optional
        Values that the up and down keys (and Tab) go through.
    name, id, classes : str, optional
        As for every widget.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", show=False),
        Binding("up,shift+tab", "choose(-1)", "Previous choice", show=False),
        Binding("down,tab", "choose(1)", "Next choice", show=False),
    ]
    DEFAULT_CSS = """
    InlineEdit {
        overlay: screen; position: absolute; height: 1; border: none; padding: 0;
        background: $primary-muted; color: $text;
    }
    InlineEdit:focus { border: none; background-tint: transparent; }
    InlineEdit.-refused { background: $error-muted; }
    """

    class Accepted(Message):
        """A valid text was submitted."""

        def __init__(self, editor: InlineEdit, value: str) -> None:
            super().__init__()
            self.editor = editor
            self.value = value

        @property
        def control(self) -> InlineEdit:
            """The editor."""
            return self.editor

    class Cancelled(Message):
        """The editor was left without submitting."""

        def __init__(self, editor: InlineEdit) -> None:
            super().__init__()
            self.editor = editor

        @property
        def control(self) -> InlineEdit:
            """The editor."""
            return self.editor

    def __init__(
        self,
        region: Region,
        value: str = "",
        *,
        check: Callable[[str], str | None] | None = None,
        choices: Sequence[str] = (),
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(value, compact=True, select_on_focus=True, name=name, id=id, classes=classes)
        self.cursor_blink = False
        self.control_name = ""
        self._edit_region = region
        self._edit_check = check
        self._edit_choices = tuple(choices)
        self._edit_note = _Note(markup=False)
        self._edit_before: Widget | None = None
        self._edit_done = False

    @property
    def error(self) -> str | None:
        """Why the present text is refused; None if it is valid."""
        return self._edit_check(self.value) if self._edit_check is not None else None

    def on_mount(self) -> None:
        """Lie down over the region and take the focus."""
        region = self._edit_region
        self.styles.width = region.width
        self.absolute_offset = Offset(region.x, region.y)
        self._edit_before = self.screen.focused
        below = region.y + 2 < self.screen.size.height
        self._edit_note.absolute_offset = Offset(region.x, region.y + 1 if below else max(region.y - 1, 0))
        self.screen.mount(self._edit_note)
        self.focus()
        self._edit_show()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once whether the text is valid."""
        event.stop()
        self._edit_show()

    def _edit_show(self) -> None:
        error = self.error
        self.set_class(error is not None, "-refused")
        choices = "↑↓ " + "  ".join(self._edit_choices) if self._edit_choices else ""
        self._edit_note.update(error or choices)
        self._edit_note.set_class(error is not None, "-error")
        self._edit_note.display = bool(error or choices)

    async def action_submit(self) -> None:
        """Submit the text if it is valid; else stay, with the reason shown."""
        if self.error is None:
            self._edit_leave(self.Accepted(self, self.value))
        else:
            self._edit_show()

    def action_cancel(self) -> None:
        """Leave without submitting."""
        self._edit_leave(self.Cancelled(self))

    def action_choose(self, by: int) -> None:
        """Go to the next or the previous of the choices."""
        if not self._edit_choices:
            return
        here = self._edit_choices.index(self.value) if self.value in self._edit_choices else -(by < 0)
        self.value = self._edit_choices[(here + by) % len(self._edit_choices)]
        self.select_all()

    def on_blur(self, event: events.Blur) -> None:
        """Cancel, unless it is the whole terminal that lost the focus."""
        if self.app.app_focus and self.is_attached:
            self._edit_leave(self.Cancelled(self), refocus=False)

    def _edit_leave(self, message: Message, refocus: bool = True) -> None:
        if self._edit_done:
            return
        self._edit_done = True
        # To the widget that had the focus, so that the pane it is in hears it: the screen is this one's parent.
        (self._edit_before if self._edit_before is not None else self.screen).post_message(message)
        if refocus and self._edit_before is not None and self._edit_before.is_attached:
            self._edit_before.focus()
        self._edit_note.remove()
        self.remove()

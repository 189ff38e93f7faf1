"""Questions that a person must answer before something happens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from .panes.rows import Column, Row, RowsView

__all__ = ["Choice", "ChoiceDialog", "PickDialog", "ScheduleQuestion", "StopQuestion", "TextDialog"]

Choice = tuple[str, str, str]
"""Key, answer, words."""


class ChoiceDialog(ModalScreen[str | None]):
    """A question with a few answers, each with a key; Esc, n and q answer None."""

    DEFAULT_CSS = """
    ChoiceDialog { align: center middle; background: transparent; }
    ChoiceDialog > Vertical { width: auto; max-width: 76; height: auto; border: round $accent; padding: 0 2;
                              background: $surface; border-title-style: bold; }
    ChoiceDialog Static { width: auto; max-width: 70; }
    ChoiceDialog .choices { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,n,q", "answer('')", "cancel", show=False)]

    def __init__(self, title: str, text: str, choices: Iterable[Choice]) -> None:
        super().__init__()
        self._title_text = title
        self._question = text
        self._choices = tuple(choices)

    def compose(self) -> ComposeResult:
        """Give the box."""
        with Vertical() as box:
            box.border_title = Content(self._title_text)
            yield Static(self._question, markup=False)
            lines = [Content.assemble((f" {key} ", "reverse"), f" {words}") for key, _, words in self._choices]
            lines.append(Content.assemble((" esc ", "reverse"), (" cancel", "$text-muted")))
            yield Static(Content("\n").join(lines), classes="choices")

    def on_key(self, event: object) -> None:
        """Take the answer."""
        key = getattr(event, "key", "")
        for wanted, answer, _ in self._choices:
            if key in (wanted, wanted.lower()) or (wanted == "↵" and key == "enter"):
                event.stop()  # type: ignore[attr-defined]
                self.dismiss(answer)
                return

    def action_answer(self, answer: str) -> None:
        """Close with an answer, none when it is empty."""
        self.dismiss(answer or None)


class StopQuestion(ChoiceDialog):
    """Whether the session shall really end: answers ``"stop"``, ``"now"`` or None."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(
            "stop the session?",
            f"{name} is at {where}. Stopping ends its training. To leave and let it go on, press q instead.",
            (("y", "stop", "stop at the next step, with a checkpoint"), ("x", "now", "stop now, without a checkpoint")),
        )


class ScheduleQuestion(ChoiceDialog):
    """What a schedule does after its control is edited: answers ``"pin"``, ``"continue"`` or None."""

    def __init__(self, control: str, schedule: str, value: str) -> None:
        super().__init__(
            f"{control} is driven by a schedule",
            f"{control} = {value}; its schedule is: {schedule}",
            (
                ("p", "pin", f"pin it: {control} stays {value}"),
                ("c", "continue", "continue: the schedule goes on from there"),
            ),
        )


class PickDialog(ModalScreen[tuple[str, ...] | None]):
    """Choose several of a list: Space or Enter ticks, Esc closes and keeps."""

    DEFAULT_CSS = """
    PickDialog { align: center middle; background: transparent; }
    PickDialog > Vertical { width: 60; max-width: 90%; height: auto; max-height: 80%; border: round $accent;
                            padding: 0 1; background: $surface; border-title-style: bold; }
    PickDialog RowsView { height: auto; max-height: 20; background: $surface; }
    PickDialog Static { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,m", "close", "close", show=False),
        Binding("space,enter", "tick", "tick", show=False, priority=True),
    ]

    def __init__(self, title: str, options: Iterable[tuple[str, str]], ticked: Iterable[str]) -> None:
        super().__init__()
        self._title_text = title
        self._options = tuple(options)
        self._ticked = set(ticked)

    def compose(self) -> ComposeResult:
        """Give the box."""
        with Vertical() as box:
            box.border_title = Content(self._title_text)
            yield RowsView(
                (Column(limit=3), Column(limit=40), Column(grow=True, rank=1)), empty="nothing to choose yet"
            )
            yield Static("space or enter: tick   esc: done")

    def on_mount(self) -> None:
        """Show the options."""
        self._draw()
        self.query_one(RowsView).focus()

    def action_tick(self) -> None:
        """Tick or untick the option under the cursor."""
        key = self.query_one(RowsView).cursor_key
        if key is not None:
            self._ticked ^= {key}
            self._draw()

    def action_close(self) -> None:
        """Answer what is ticked, in the options' order."""
        self.dismiss(tuple(key for key, _ in self._options if key in self._ticked))

    def _draw(self) -> None:
        self.query_one(RowsView).set_rows(
            [Row(key, ("[x]" if key in self._ticked else "[ ]", key, ((more, "dim"),))) for key, more in self._options]
        )


class TextDialog(ModalScreen[None]):
    """A text to read, such as a traceback."""

    DEFAULT_CSS = """
    TextDialog { align: center middle; background: transparent; }
    TextDialog > Vertical { width: 90%; height: auto; max-height: 90%; border: round $error; padding: 0 1;
                            background: $surface; border-title-style: bold; overflow-y: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,space", "dismiss", "close", show=False)]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title_text = title
        self._text = text

    def compose(self) -> ComposeResult:
        """Give the box."""
        with Vertical() as box:
            box.can_focus = True
            box.border_title = Content(self._title_text)
            yield Static(self._text, markup=False)

    def on_mount(self) -> None:
        """Let the cursor keys scroll."""
        self.query_one(Vertical).focus()

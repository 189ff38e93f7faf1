"""The help screen, made from the table of actions."""

from __future__ import annotations

import textwrap
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from elektronn_tui.actions import actions_for
from elektronn_tui.keymap import KeyMap, key_shown

__all__ = ["HelpScreen", "help_text"]

WIDTH = 96  # as in the style below
WORDS = (
    "● running   ❚❚ paused   ▲ halted   ✓ finished   ■ stopped   ✗ failed   ? lost",
    "▲ below a curve: a control was edited, or something else from outside happened, at that step.",
    "In a list: ↑ ↓ or k j, PgUp PgDn, Home End; Enter opens. In an editor letters are letters; Esc leaves it.",
)


def help_text(screen: str, keys: KeyMap, width: int = 90) -> Content:
    """Return what can be done on a screen, by groups: each action with its keys, command and sentence.

    Parameters
    ----------
    screen : {"session", "home"}
        Whose actions.
    keys : KeyMap
        Which keys they have.
    width : int
        Columns that the text may have.
    """
    lines: list[Content] = []
    actions = actions_for(screen)
    shown = {action.name: " ".join(map(key_shown, keys.keys(action))) for action in actions}
    indent = max(map(len, shown.values())) + 4
    for group in dict.fromkeys(action.group for action in actions):
        lines.append(Content.styled(group, "bold $accent"))
        for action in actions:
            if action.group != group:
                continue
            verb = f"elektronn {action.verb}" if action.verb else ""
            gap = " " * max(2, width - indent - len(action.palette) - len(verb))
            key = f"{shown[action.name]:>{indent - 2}}  "
            lines.append(Content.assemble((key, "bold"), action.palette, (gap + verb if verb else "", "$text-muted")))
            lines.extend(Content.styled(line, "$text-muted") for line in _wrapped(action.help, width, indent))
        lines.append(Content(""))
    for words in WORDS:
        lines.extend(Content.styled(line, "$text-muted") for line in _wrapped(words, width, 0))
    return Content("\n").join(lines)


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    lead = " " * indent
    return textwrap.wrap(text, max(20, width), initial_indent=lead, subsequent_indent=lead)


class HelpScreen(ModalScreen[None]):
    """Every action of a screen with its keys."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: transparent; }
    HelpScreen > Vertical { width: 96; max-width: 100%; height: 100%; border: round $accent; background: $surface;
                            padding: 0 1; border-title-style: bold; }
    HelpScreen VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "close", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, for_screen: str, keys: KeyMap) -> None:
        super().__init__()
        self._for_screen = for_screen
        self._keymap = keys

    def compose(self) -> ComposeResult:
        """Give the list."""
        with Vertical() as box:
            box.border_title = Content(f"help: {self._for_screen}   esc closes")
            with VerticalScroll():
                yield Static(id="help-text", markup=False)

    def on_mount(self) -> None:
        """Let the cursor keys scroll."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """Wrap the text for the width."""
        width = min(self.size.width, WIDTH) - 5
        self.query_one("#help-text", Static).update(help_text(self._for_screen, self._keymap, width))

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

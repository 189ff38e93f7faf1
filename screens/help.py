"""The help screen, made from the table of actions."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from elektronn_tui.actions import KeyMap, actions_for, key_shown

__all__ = ["HelpScreen", "help_text"]

WORDS = (
    ("●  running   ❚❚ paused   ▲  halted   ✓  finished   ■  stopped   ✗  failed"),
    ("▲ below a curve: a control was edited, or something else from outside happened, at that step."),
    ("Keys in a list: ↑ ↓ or k j, PgUp PgDn, Home End; Enter opens. Esc leaves an editor."),
)


def help_text(screen: str, keys: KeyMap) -> Content:
    """Return what can be done on a screen, by groups, each action with its keys, sentence and command."""
    lines: list[Content] = []
    actions = actions_for(screen)
    groups = list(dict.fromkeys(action.group for action in actions))
    width = max(len(" ".join(map(key_shown, keys.keys(action)))) for action in actions)
    for group in groups:
        lines.append(Content.styled(f"{group}", "bold $accent"))
        for action in actions:
            if action.group != group:
                continue
            shown = " ".join(map(key_shown, keys.keys(action)))
            verb = f"   elektronn {action.verb}" if action.verb else ""
            lines.append(
                Content.assemble(
                    (f"  {shown:>{width}}  ", "bold"),
                    action.palette,
                    (f"\n{'':>{width + 4}}{action.help}", "$text-muted"),
                    (verb, "$text-muted italic"),
                )
            )
        lines.append(Content(""))
    lines.extend(Content.styled(words, "$text-muted") for words in WORDS)
    return Content("\n").join(lines)


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
                yield Static(help_text(self._for_screen, self._keymap), markup=False)

    def on_mount(self) -> None:
        """Let the cursor keys scroll."""
        self.query_one(VerticalScroll).focus()

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

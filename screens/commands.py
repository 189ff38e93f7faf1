"""What the command palette offers: the actions of the screen, its controls and its themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider

from elektronn_tui.actions import actions_for

from .session import SessionScreen
from .wording import value_text

__all__ = ["ActionCommands"]

Offer = tuple[str, Callable[[], Any], str]

CONSOLE_FUNCTIONS = (
    ("paramstats()", "Parameters: size, mean and spread of each"),
    ("gradstats()", "Gradients: mean and spread of each"),
    ("actstats()", "Activations: mean and spread of each node"),
    ("debugbatch()", "The batch: shapes, ranges, labels"),
    ("datastats()", "The data: reads, bytes, caches, times"),
)
"""ELEKTRONN2's shortcuts, run in the console."""


class ActionCommands(Provider):
    """Offers what can be done now."""

    def _offers(self) -> Iterator[Offer]:
        screen = self.screen
        for_session = isinstance(screen, SessionScreen)
        for action in actions_for("session" if for_session else "home"):
            if action.name == "palette":
                continue
            keys = self.app.settings.keys.shown(action)  # type: ignore[attr-defined]
            verb = f"   elektronn {action.verb}" if action.verb else ""
            run = partial(screen.run_action, action.action)
            yield action.palette, run, f"{keys}   {action.help}{verb}"
        if isinstance(screen, SessionScreen) and screen.state.live and not screen.read_only:
            for info in screen.state.controls.values():
                run = partial(screen.edit_control, info.name)
                yield f"Set {info.name}", run, f"now {value_text(info.value)}   {info.help}"
            for code, words in CONSOLE_FUNCTIONS:
                yield f"Console: {code}", partial(screen.run_statement, code), words
        for name in sorted(self.app.available_themes):
            yield f"Theme: {name}", partial(setattr, self.app, "theme", name), "Colours of the application"

    async def discover(self) -> Hits:
        """Offer everything but the themes that are not ours."""
        for text, run, help_ in self._offers():
            if text.startswith("Theme: ") and "elektronn" not in text:
                continue
            yield DiscoveryHit(text, run, help=help_)

    async def search(self, query: str) -> Hits:
        """Offer what fits a text."""
        matcher = self.matcher(query)
        for text, run, help_ in self._offers():
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, matcher.highlight(text), run, help=help_)

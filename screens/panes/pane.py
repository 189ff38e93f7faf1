"""What the six panes of the session screen have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.containers import Vertical
from textual.content import Content
from textual.css.query import NoMatches
from textual.widget import Widget

from ..state import ALL_PARTS, Part, SessionState
from .filterbar import FilterBar

if TYPE_CHECKING:
    from ..session import SessionScreen

__all__ = ["Pane"]


class Pane(Vertical):
    """A part of the session screen: builds its content when it is first seen, and is told what changed while it is.

    Subclasses name the parts of the state that they show, give their content in `content` and draw in `take`.
    """

    DEFAULT_CSS = """
    Pane { border-top: solid $border; border-title-color: $text-muted; border-title-background: $background;
           height: 1fr; width: 1fr; }
    Pane.-active { border-title-color: $foreground; }
    Pane.-untitled { border-top: none; }
    """
    pane_name: ClassVar[str] = ""
    number: ClassVar[int] = 0
    parts: ClassVar[frozenset[Part]] = ALL_PARTS

    def __init__(self) -> None:
        super().__init__(id=self.pane_name)
        self.built = False
        self._building = False
        self.filter_text = ""
        self._title_more = ""
        self._title_drawn = ("", False)
        self.set_title()

    @property
    def session(self) -> SessionScreen:
        """The screen that it is part of."""
        return cast("SessionScreen", self.screen)

    @property
    def state(self) -> SessionState:
        """What is known of the session."""
        return self.session.state

    def set_title(self, more: str = "") -> None:
        """Name the pane, and what it shows, in its top line."""
        self._title_more = more
        self.draw_title()

    def draw_title(self) -> None:
        """Draw the top line anew: the name, unless the tabs show it, and what was given beside it."""
        single, active = self.has_class("-alone"), self.has_class("-active")
        name = "" if single else f"{self.number} {self.pane_name}"
        # Textual leaves a blank before a title only where the border has a corner.
        lead = "" if not name or self.styles.border_left[0] else " "
        more = f"  {self._title_more}" if name and self._title_more else self._title_more
        title = Content.assemble(lead, (name, "bold reverse" if active else ""), more, " ")
        self.set_class(single and not self._title_more, "-untitled")
        drawn = (title.plain, active)  # contents that differ in style alone are equal
        if drawn != self._title_drawn:
            self._title_drawn = drawn
            self.border_title = title

    async def build(self) -> None:
        """Mount the content, once, and show the present state."""
        if self._building or not self.is_attached:  # the screen may be left while it is put together
            return
        self._building = True
        await self.mount(*self.content())
        if self.is_attached:
            self.built = True
            self.take(self.state, ALL_PARTS)

    def content(self) -> Iterable[Widget]:
        """Give the widgets to mount."""
        return ()

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Show a new state; only called while the pane is seen."""

    def owner(self) -> Widget | None:
        """Give the widget that has the focus when the pane has it."""
        return None

    def apply_filter(self, text: str) -> None:
        """Show only what contains a text."""

    # --- the filter bar

    def open_filter(self) -> None:
        """Ask for a text to filter by."""
        try:
            self.query_one(FilterBar).focus_input()
        except NoMatches:
            self.mount(FilterBar(self.filter_text))

    def on_filter_bar_changed(self, message: FilterBar.Changed) -> None:
        """Filter while the text is typed."""
        message.stop()
        self.filter_text = message.text
        self.apply_filter(message.text)

    def on_filter_bar_closed(self, message: FilterBar.Closed) -> None:
        """Give the focus back."""
        message.stop()
        owner = self.owner()
        if owner is not None:
            owner.focus()

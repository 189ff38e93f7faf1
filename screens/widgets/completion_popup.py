"""The list of completions that floats beside a caret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from rich.text import Text
from textual.geometry import Offset
from textual.widgets import OptionList
from textual.widgets.option_list import Option

__all__ = ["Complete", "CompletionItem", "CompletionList", "CompletionPopup"]

_MOST_ROWS = 10
_MOST_ITEMS = 200


class CompletionItem(Protocol):
    """One completion."""

    @property
    def name(self) -> str:
        """What the word becomes."""

    @property
    def kind(self) -> str:
        """``function``, ``module``, ``instance``, ..."""

    @property
    def detail(self) -> str:
        """A few words more, such as a type or a shape."""


class CompletionList(Protocol):
    """What a completer answers."""

    @property
    def start(self) -> int:
        """Column in the caret's line at which the completed word begins."""

    @property
    def items(self) -> Sequence[CompletionItem]:
        """The completions, best first."""

    @property
    def signature(self) -> str:
        """Of the call that the caret is in; may be empty."""


Complete = Callable[[str, int, int], Awaitable[CompletionList | None]]


class CompletionPopup(OptionList, can_focus=False):
    """Completions beside a caret; the editor keeps the focus and moves the highlight."""

    DEFAULT_CSS = """
    CompletionPopup {
        overlay: screen; position: absolute; constrain: none inside; width: auto; min-width: 16; max-width: 64;
        height: auto; max-height: 10; border: none; padding: 0; background: $panel; display: none;
        scrollbar-size-vertical: 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__(markup=False, compact=True)
        self._popup_all: tuple[CompletionItem, ...] = ()
        self._popup_shown: list[CompletionItem] = []
        self._popup_prefix = ""

    @property
    def is_open(self) -> bool:
        """Whether it is seen."""
        return bool(self.display and self._popup_shown)

    @property
    def chosen(self) -> CompletionItem | None:
        """The highlighted completion."""
        index = self.highlighted
        return self._popup_shown[index] if self.is_open and index is not None else None

    def open(self, items: Sequence[CompletionItem], prefix: str, caret: Offset) -> None:
        """Show completions at the caret's place on the screen."""
        self._popup_all = tuple(items[:_MOST_ITEMS])
        self.narrow(prefix)
        rows = min(len(self._popup_shown), _MOST_ROWS)
        width, height = self.screen.size
        below = caret.y + 1 + rows <= height or caret.y < rows
        widest = max((len(item.name) + len(item.detail or item.kind) for item in self._popup_shown), default=0)
        x = max(min(caret.x - len(prefix), width - min(widest + 5, 64)), 0)
        self.absolute_offset = Offset(x, caret.y + 1 if below else caret.y - rows)

    def narrow(self, prefix: str) -> None:
        """Show only those that begin with what is typed now (case aside); none closes the list."""
        self._popup_prefix = prefix
        lowered = prefix.lower()
        self._popup_shown = [item for item in self._popup_all if item.name.lower().startswith(lowered)]
        self.clear_options()
        width = max((len(item.name) for item in self._popup_shown), default=0)
        self.add_options(
            [
                Option(Text.assemble(item.name.ljust(width), "  ", (item.detail or item.kind, "dim"), no_wrap=True))
                for item in self._popup_shown
            ]
        )
        self.display = bool(self._popup_shown)
        if self._popup_shown:
            self.highlighted = 0

    def close(self) -> None:
        """Hide it."""
        self._popup_all = ()
        self._popup_shown = []
        self.display = False

    def move(self, by: int) -> None:
        """Move the highlight."""
        if self.highlighted is not None and self._popup_shown:
            self.highlighted = (self.highlighted + by) % len(self._popup_shown)

    def common_prefix(self) -> str:
        """The beginning that all shown completions share."""
        names = [item.name for item in self._popup_shown]
        if not names:
            return ""
        first, last = min(names), max(names)
        length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        return first[:length]

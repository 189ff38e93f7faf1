"""The log pane: the session's log, paged, newest at the bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import msgspec
from textual.binding import Binding, BindingType
from textual.widget import Widget

from elektronn_tui.errors import SessionError
from elektronn_tui.session.protocol import GetLog, LogLine, LogLines

from ..state import Part, SessionState
from ..widgets.log_view import LogView
from ..wording import count
from .pane import Pane

__all__ = ["LogPane"]

FILTERED_LINES = 20_000
"""The newest lines that a filter looks through."""
PAGE = 1000


class LogPane(Pane):
    """The log; a filter leaves only the lines that contain its text."""

    pane_name = "log"
    number = 4
    parts: ClassVar[frozenset[Part]] = frozenset(("log",))
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll(-1)", "up", show=False),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("G", "end", "newest line", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._pushed = 0
        self._matches: list[LogLine] = []

    def content(self) -> Iterable[Widget]:
        """Give the view."""
        yield LogView(self._fetch)

    def owner(self) -> Widget | None:
        """Give the view."""
        return self.query_one(LogView)

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Append what is new."""
        if "log" not in parts:
            return
        view = self.query_one(LogView)
        if self.filter_text:
            new = [line for line in state.log_tail if line.index >= self._pushed]
            self._push_matches(view, new)
        elif state.log_total < self._pushed or self._pushed == 0:
            view.reset(state.log_total, state.log_tail, self._fetch)
        else:
            view.push([line for line in state.log_tail if line.index >= self._pushed], state.log_total)
        self._pushed = state.log_total

    async def _fetch(self, first: int, wanted: int) -> Sequence[LogLine]:
        answer = await self.session.request(GetLog(first=first, count=wanted))
        return answer.lines if isinstance(answer, LogLines) else ()

    # --- filter

    def apply_filter(self, text: str) -> None:
        """Show the lines that contain a text, newest at the bottom; all when it is empty."""
        view = self.query_one(LogView)
        view.search = text
        if not text:
            self.set_title()
            self.workers.cancel_group(self, "filter")
            view.reset(self.state.log_total, self.state.log_tail, self._fetch)
            self._pushed = self.state.log_total
            return
        self.run_worker(self._filter(text), group="filter", exclusive=True)

    async def _filter(self, text: str) -> None:
        wanted = _matcher(text)
        total = self.state.log_total
        found: list[LogLine] = []
        last = total
        while last > max(0, total - FILTERED_LINES):
            first = max(0, last - PAGE)
            try:
                lines = await self._fetch(first, last - first)
            except SessionError as error:
                self.session.say(str(error), "bad")
                break
            found = [line for line in lines if wanted(line.text)] + found
            last = first
        self._matches = []
        self._pushed = total
        view = self.query_one(LogView)
        view.reset(0, (), self._fetch_match)
        self._push_matches(view, found + [line for line in self.state.log_tail if line.index >= total])

    def _push_matches(self, view: LogView, lines: Sequence[LogLine]) -> None:
        wanted = _matcher(self.filter_text)
        new = [line for line in lines if wanted(line.text)]
        numbered = [msgspec.structs.replace(line, index=len(self._matches) + i) for i, line in enumerate(new)]
        self._matches += numbered
        if numbered:
            view.push(numbered)
        self.set_title(f"{count(len(self._matches))} of {count(self.state.log_total)} lines")

    async def _fetch_match(self, first: int, wanted: int) -> Sequence[LogLine]:
        return self._matches[first : first + wanted]

    # --- keys

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one(LogView).scroll_relative(y=by, animate=False)

    def action_end(self) -> None:
        """Go to the newest line."""
        self.query_one(LogView).action_scroll_end()


def _matcher(text: str) -> Callable[[str], bool]:
    """Return whether a line contains a text; case counts only if the text has capitals."""
    if text != text.lower():
        return lambda line: text in line
    return lambda line: text in line.lower()

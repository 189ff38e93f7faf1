"""A log of any length: only the lines that are seen are fetched, kept and drawn."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from elektronn_tui.errors import ElektronnError

__all__ = ["Fetch", "Line", "LogView"]

_PAGE = 256
_PAGES_KEPT = 32
# Letter and style by level; the quiet level has neither, so that the others stand out.
_LEVELS = {
    "debug": ("D", Style(color="#808080")),
    "info": (" ", Style()),
    "warning": ("W", Style(color="#ffaf00")),
    "error": ("E", Style(color="#ff5f5f", bold=True)),
    "critical": ("C", Style(color="#ff5f5f", bold=True, reverse=True)),
}
_TIME = Style(color="#8a8a8a")
_MATCH = Style(color="#000000", bgcolor="#ffd75f", bold=True)


class Line(Protocol):
    """What a line of the log has to have."""

    @property
    def index(self) -> int:
        """Number of the line, from 0."""

    @property
    def time(self) -> float:
        """When it was written, Unix time."""

    @property
    def level(self) -> str:
        """``debug``, ``info``, ``warning``, ``error`` or ``critical``, in any case."""

    @property
    def text(self) -> str:
        """The line itself."""


Fetch = Callable[[int, int], Awaitable[Sequence[Line]]]


class LogView(ScrollView, can_focus=True):
    """Lines of a log, the newest at the bottom.

    Parameters
    ----------
    fetch : callable, optional
        ``await fetch(first, count)`` gives lines `first` to ``first + count - 1``, those that exist.
    name, id, classes : str, optional
        As for every widget.

    Attributes
    ----------
    following : bool
        Whether new lines scroll into view; ends when the person scrolls back, begins again at the end.
    search : str
        Text that is highlighted (case counts only if it has capitals).
    """

    DEFAULT_CSS = """
    LogView { overflow-y: scroll; overflow-x: hidden; scrollbar-size-vertical: 1; width: 1fr; height: 1fr; }
    """

    following: reactive[bool] = reactive(True, repaint=False)
    search: reactive[str] = reactive("", repaint=False)

    class Found(Message):
        """The end of a search for the next match: the line's number, or None."""

        def __init__(self, view: LogView, index: int | None) -> None:
            super().__init__()
            self.view = view
            self.index = index

        @property
        def control(self) -> LogView:
            """The view that was searched."""
            return self.view

    def __init__(
        self,
        fetch: Fetch | None = None,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._log_fetch = fetch
        self._log_total = 0
        self._log_pages: OrderedDict[int, dict[int, Line]] = OrderedDict()
        self._log_errors: dict[int, str] = {}
        self._log_wanted: set[int] = set()
        self._log_loading = False
        self._log_current: int | None = None
        self._log_scrolling = False
        self._log_width = 0
        self._log_size = Size(0, 0)

    # Data -----------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Number of lines of the whole log."""
        return self._log_total

    def reset(self, total: int, tail: Iterable[Line] = (), fetch: Fetch | None = None) -> None:
        """Show another log, or the same one after its connection came back.

        Parameters
        ----------
        total : int
            Number of its lines.
        tail : iterable of Line
            The newest ones, as far as they are known.
        fetch : callable, optional
            Where its pages come from now.
        """
        self._log_pages.clear()
        self._log_errors.clear()
        self._log_fetch = fetch or self._log_fetch
        self._log_total = 0
        self._log_width = 0
        self._log_current = None
        self.following = True
        self._log_extend(list(tail), total)
        self.refresh()

    def push(self, lines: Iterable[Line], total: int | None = None) -> None:
        """Append new lines.

        Parameters
        ----------
        lines : iterable of Line
            Lines with their numbers; a gap before them is fetched when it is seen.
        total : int, optional
            Number of lines of the log, if it is more than these show.
        """
        self._log_extend(list(lines), total or 0, jump=True)

    def _log_extend(self, lines: list[Line], total: int, jump: bool = False) -> None:
        before = self._log_total
        for line in lines:
            self._log_pages.setdefault(line.index // _PAGE, {})[line.index] = line
            self._log_width = max(self._log_width, len(line.text) + 11)
        if lines:
            total = max(total, lines[-1].index + 1)
        self._log_total = max(before, total)
        self._log_evict()
        changed = {line.index for line in lines}
        self._log_resize(jump)
        top = self.scroll_offset.y
        rows = sorted({index - top for index in changed} & set(range(self.size.height)))
        if rows:
            self.refresh(*[Region(0, row, self.size.width, 1) for row in rows])

    def _log_evict(self) -> None:
        seen = self._log_seen_pages()
        newest = (self._log_total - 1) // _PAGE
        for page in list(self._log_pages):
            if len(self._log_pages) <= _PAGES_KEPT:
                break
            if page not in seen and page != newest:
                del self._log_pages[page]

    def _log_seen_pages(self) -> range:
        top = self.scroll_offset.y
        return range(top // _PAGE, (top + max(self.size.height, 1) - 1) // _PAGE + 1)

    # Scrolling ------------------------------------------------------------------------------------

    def _log_resize(self, jump: bool = False) -> None:
        """Take the number of lines in; in follow mode, bring the newest into view.

        New lines make the view jump by a quarter of its height: moving by one for each would paint, and send, all
        rows for every line.
        """
        height = self.scrollable_content_region.height
        end = max(self._log_total - height, 0)
        top = self.scroll_offset.y
        virtual = self._log_total
        if self.following and height:
            if not jump:
                top = end
            elif self._log_total > top + height or top > end + height // 4:
                top = end + height // 4
            virtual = max(virtual, top + height)
        self.virtual_size = Size(self._log_width, virtual)
        if self.following and height:
            self._log_go(top)

    def _log_go(self, top: int) -> None:
        self._log_scrolling = True
        try:
            self.scroll_target_y = self.scroll_y = top
        finally:
            self._log_scrolling = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the end, or stop to, when the person scrolls."""
        super().watch_scroll_y(old_value, new_value)
        # A view that is given another size is scrolled by the layout, not by the person.
        same_size = self.container_size == self._log_size
        if same_size and not self._log_scrolling and round(old_value) != round(new_value):
            self.following = round(new_value) + self.scrollable_content_region.height >= self._log_total

    # No animation: it would fetch and send every page that it passes.

    def action_scroll_home(self) -> None:
        """Go to the first line."""
        self.scroll_to(y=0, animate=False)

    def action_scroll_up(self) -> None:
        """Go back a line."""
        self.scroll_relative(y=-1, animate=False)

    def action_scroll_down(self) -> None:
        """Go on a line."""
        self.scroll_relative(y=1, animate=False)

    def action_scroll_left(self) -> None:
        """Show what lies half a width to the left."""
        self.scroll_relative(x=-max(self.size.width // 2, 1), animate=False, force=True)

    def action_scroll_right(self) -> None:
        """Show what lies half a width to the right: the end of long lines."""
        self.scroll_relative(x=max(self.size.width // 2, 1), animate=False, force=True)

    def action_page_up(self) -> None:
        """Go back a page."""
        self.scroll_relative(y=-max(self.scrollable_content_region.height - 1, 1), animate=False)

    def action_page_down(self) -> None:
        """Go on a page."""
        self.scroll_relative(y=max(self.scrollable_content_region.height - 1, 1), animate=False)

    def action_scroll_end(self) -> None:
        """Go to the newest line and follow from there."""
        self.following = True
        self._log_resize()

    def on_resize(self, event: events.Resize) -> None:
        """Keep the newest line in view."""
        self._log_size = self.container_size
        self._log_resize()

    # Search ---------------------------------------------------------------------------------------

    def watch_search(self) -> None:
        """Paint the highlights."""
        self._log_current = None
        self.refresh()

    def action_find_next(self) -> None:
        """Scroll to the next older line that has the text searched for."""
        self.run_worker(self._log_find(-1), group="log-find", exclusive=True)

    def action_find_previous(self) -> None:
        """Scroll to the next newer line that has the text searched for."""
        self.run_worker(self._log_find(1), group="log-find", exclusive=True)

    async def _log_find(self, direction: int) -> None:
        """Look through the log page by page, from the last match or the edge of the view."""
        index = self._log_current
        if index is None:
            index = min(self.scroll_offset.y + self.size.height, self._log_total) if direction < 0 else -1
        index += direction
        while self.search and 0 <= index < self._log_total:
            page = index // _PAGE
            if not await self._log_load(page):
                break
            lines = self._log_pages.get(page, {})
            stop = page * _PAGE - 1 if direction < 0 else min((page + 1) * _PAGE, self._log_total)
            for number in range(index, stop, direction):
                line = lines.get(number)
                if line is not None and self._log_matches(line.text):
                    self._log_show(number)
                    return
            index = stop
        self.post_message(self.Found(self, None))

    def _log_show(self, index: int) -> None:
        self._log_current = index
        height = self.scrollable_content_region.height
        if not self.scroll_offset.y <= index < self.scroll_offset.y + height:
            self.following = False
            self.virtual_size = Size(self._log_width, self._log_total)
            self._log_go(max(min(index - height // 2, self._log_total - height), 0))
        self.refresh()
        self.post_message(self.Found(self, index))

    def _log_matches(self, text: str) -> list[tuple[int, int]]:
        needle = self.search
        if not needle:
            return []
        where = text if needle != needle.lower() else text.lower()
        found, start = [], where.find(needle)
        while start >= 0:
            found.append((start, start + len(needle)))
            start = where.find(needle, start + len(needle))
        return found

    # Pages ----------------------------------------------------------------------------------------

    def _log_whole(self, page: int) -> bool:
        size = min((page + 1) * _PAGE, self._log_total) - page * _PAGE
        return len(self._log_pages.get(page, ())) >= size

    def _log_want(self, page: int) -> None:
        if self._log_fetch is None or page in self._log_errors:
            return
        self._log_wanted.add(page)
        if not self._log_loading:
            self._log_loading = True
            self.run_worker(self._log_load_seen(), group="log-pages")

    async def _log_load_seen(self) -> None:
        """Fetch what is wanted as long as it is still seen: scrolling through fetches nothing it passes."""
        try:
            while pages := [page for page in self._log_seen_pages() if page in self._log_wanted]:
                self._log_wanted.discard(pages[0])
                await self._log_load(pages[0])
                self.refresh()
        finally:
            self._log_wanted.clear()
            self._log_loading = False

    async def _log_load(self, page: int) -> bool:
        """Have all of a page; False if it can't be had."""
        if self._log_whole(page):
            return True
        if self._log_fetch is None:
            return bool(self._log_pages.get(page))
        fetch, first = self._log_fetch, page * _PAGE
        try:
            lines = await fetch(first, min(_PAGE, self._log_total - first))
        except (ElektronnError, OSError, TimeoutError) as error:
            self._log_errors[page] = str(error)
            return False
        if fetch is not self._log_fetch:
            return False
        known = self._log_pages.setdefault(page, {})
        known.update({line.index: line for line in lines})
        self._log_pages.move_to_end(page)
        self._log_evict()
        if not lines:
            self._log_errors[page] = "the session has no such lines"
        return bool(lines)

    # Drawing --------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Give one row: a line of the log, or what stands for it until it is there."""
        width = self.size.width
        index = y + self.scroll_offset.y
        if index >= self._log_total:
            return Strip.blank(width, self.rich_style)
        page = index // _PAGE
        line = self._log_pages.get(page, {}).get(index)
        if line is None:
            self._log_want(page)
            error = self._log_errors.get(page)
            text = f"line {index}: {error}" if error else "..."
            segments = [Segment(text, _TIME)]
        else:
            segments = self._log_segments(line)
        left = self.scroll_offset.x
        strip = Strip(segments).crop_extend(left, left + width, None)
        return strip.apply_style(self.rich_style)

    def _log_segments(self, line: Line) -> list[Segment]:
        letter, style = _LEVELS.get(line.level.lower(), _LEVELS["info"])
        clock = time.strftime("%H:%M:%S", time.localtime(line.time))
        # A control character would move the terminal's cursor.
        text = "".join(c if c.isprintable() else " " for c in line.text.expandtabs(4))
        segments = [Segment(clock, _TIME), Segment(f" {letter} ", style)]
        start = 0
        current = _MATCH + Style(underline=True) if line.index == self._log_current else _MATCH
        for first, last in self._log_matches(text):
            segments += [Segment(text[start:first], style), Segment(text[first:last], current)]
            start = last
        segments.append(Segment(text[start:], style))
        return segments

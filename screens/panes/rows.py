"""A list of aligned rows with a cursor: what controls, graph, sessions and pickers are shown in.

Textual's DataTable repaints far more than it must and its Tree eats the space bar; this one repaints the rows that
changed and takes the cursor keys and Enter alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

__all__ = ["Cell", "Column", "Row", "RowsView", "spans"]

ROLES = ("dim", "accent", "good", "warn", "bad", "strong")
Cell = str | tuple[tuple[str, str], ...]
"""A text, or pieces of text each with its role (one of `ROLES`, or empty)."""


def spans(cell: Cell) -> tuple[tuple[str, str], ...]:
    """Return a cell as pieces with roles."""
    return ((cell, ""),) if isinstance(cell, str) else cell


@dataclass(frozen=True)
class Column:
    """How a column is laid out.

    Parameters
    ----------
    title : str
        Shown in the header; no header is shown when all titles are empty.
    align : {"left", "right"}
        Where a short cell lies.
    rank : int
        The column of the highest rank goes first when the line is short; 0 never goes.
    grow : bool
        Whether it takes what is left of the line. The last one that grows does.
    limit : int
        Widest it gets, in cells, unless it grows.
    """

    title: str = ""
    align: str = "left"
    rank: int = 0
    grow: bool = False
    limit: int = 60


@dataclass(frozen=True)
class Row:
    """A row: a key that stays the same when its cells change."""

    key: str
    cells: tuple[Cell, ...]


class RowsView(ScrollView, can_focus=True):
    """Rows in aligned columns, with a cursor."""

    DEFAULT_CSS = """
    RowsView { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; padding: 0; }
    RowsView > .rows--dim { color: $text-muted; }
    RowsView > .rows--accent { color: $accent; }
    RowsView > .rows--good { color: $success; }
    RowsView > .rows--warn { color: $warning; }
    RowsView > .rows--bad { color: $error; }
    RowsView > .rows--strong { text-style: bold; }
    RowsView > .rows--header { color: $text-muted; }
    RowsView > .rows--cursor { background: $panel; }
    RowsView:focus > .rows--cursor { background: $block-cursor-background; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"rows--{role}" for role in (*ROLES, "header", "cursor")}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "edge(-1)", "first", show=False),
        Binding("end", "edge(1)", "last", show=False),
        Binding("enter", "choose", "choose", show=False),
    ]

    class Moved(Message):
        """The cursor came to another row."""

        def __init__(self, view: RowsView, key: str | None) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> RowsView:
            """The list."""
            return self.view

    class Chosen(Message):
        """Enter was pressed, or the row with the cursor was clicked."""

        def __init__(self, view: RowsView, key: str) -> None:
            super().__init__()
            self.view = view
            self.key = key

        @property
        def control(self) -> RowsView:
            """The list."""
            return self.view

    def __init__(self, columns: Sequence[Column], *, empty: str = "", gap: int = 2, **keywords: str) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]
        self.columns = tuple(columns)
        self._rows: tuple[Row, ...] = ()
        self._empty_text = empty
        self._column_gap = gap
        self._cursor_row = 0
        self._column_widths: tuple[int, ...] = ()
        self._laid_out_for = -1

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows."""
        return self._rows

    @property
    def cursor_key(self) -> str | None:
        """Key of the row under the cursor, None when there are no rows."""
        return self._rows[self._cursor_row].key if self._rows else None

    @property
    def has_header(self) -> bool:
        """Whether the first line shows the columns' titles."""
        return any(column.title for column in self.columns)

    def set_rows(self, rows: Sequence[Row]) -> None:
        """Show other rows; the cursor stays with its key, and only rows that changed are repainted."""
        new, old = tuple(rows), self._rows
        if new == old:
            return
        key = self.cursor_key
        self._rows = new
        keys = [row.key for row in new]
        self._cursor_row = keys.index(key) if key in keys else max(0, min(self._cursor_row, len(new) - 1))
        widths, self._column_widths = self._column_widths, self._widths()
        if widths != self._column_widths or len(new) != len(old):
            self._resize_virtual()
            self.refresh()
            self.call_after_refresh(self._show_cursor)  # how far it scrolls is known after the layout
        else:
            top = int(self.has_header) - self.scroll_offset.y
            width = self.scrollable_content_region.width
            regions = [Region(0, top + i, width, 1) for i, (a, b) in enumerate(zip(new, old, strict=True)) if a != b]
            if regions:
                self.refresh(*regions)
        if self.cursor_key != key:
            self.post_message(self.Moved(self, self.cursor_key))

    def set_empty(self, text: str) -> None:
        """Say what is shown when there are no rows."""
        if text != self._empty_text:
            self._empty_text = text
            if not self._rows:
                self.refresh()

    def select(self, key: str) -> bool:
        """Put the cursor on a row; return whether it is there."""
        for i, row in enumerate(self._rows):
            if row.key == key:
                self._go(i)
                return True
        return False

    def cell_region(self, key: str, column: int) -> Region | None:
        """Return where a cell lies on the screen, None when it is not in view."""
        start = 0
        for i, width in enumerate(self._column_widths):
            if i == column:
                break
            start += width + (self._column_gap if width else 0)
        for i, row in enumerate(self._rows):
            if row.key == key:
                y = i + int(self.has_header) - self.scroll_offset.y
                area = self.scrollable_content_region
                if not 0 <= y < area.height:
                    return None
                origin = self.content_region
                width = max(1, min(self._column_widths[column], area.width - start))
                return Region(origin.x + start, origin.y + y, width, 1)
        return None

    # --- moving

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._go(self._cursor_row + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by pages."""
        self._go(self._cursor_row + by * max(1, self.size.height - 1 - int(self.has_header)))

    def action_edge(self, side: int) -> None:
        """Move the cursor to the first or last row."""
        self._go(0 if side < 0 else len(self._rows) - 1)

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        key = self.cursor_key
        if key is not None:
            self.post_message(self.Chosen(self, key))

    def _go(self, index: int) -> None:
        index = max(0, min(index, len(self._rows) - 1))
        if index == self._cursor_row or not self._rows:
            return
        self._refresh_row(self._cursor_row)
        self._cursor_row = index
        self._refresh_row(index)
        self._show_cursor()
        self.post_message(self.Moved(self, self.cursor_key))

    def _show_cursor(self) -> None:
        height = max(1, self.scrollable_content_region.height - int(self.has_header))
        top = self.scroll_offset.y
        if self._cursor_row < top:
            self.scroll_to(y=self._cursor_row, animate=False)
        elif self._cursor_row >= top + height:
            self.scroll_to(y=self._cursor_row - height + 1, animate=False)

    def _refresh_row(self, index: int) -> None:
        y = index + int(self.has_header) - self.scroll_offset.y
        self.refresh(Region(0, y, self.size.width, 1))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; a second click chooses."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        index = offset.y + self.scroll_offset.y - int(self.has_header)
        if 0 <= index < len(self._rows):
            if index == self._cursor_row:
                self.action_choose()
            self._go(index)

    # --- drawing

    def on_resize(self) -> None:
        """Lay the columns out for the new width."""
        self._column_widths = self._widths()
        self._resize_virtual()
        self._show_cursor()

    def notify_style_update(self) -> None:
        """Draw anew when the theme changes."""
        super().notify_style_update()
        self.refresh()

    def _resize_virtual(self) -> None:
        self.virtual_size = Size(max(1, self.size.width - 1), len(self._rows) + int(self.has_header))

    def _widths(self) -> tuple[int, ...]:
        """Give each column what it needs, drop those of high rank until the line fits, let the last one grow."""
        available = self.size.width - (1 if len(self._rows) + int(self.has_header) > self.size.height else 0)
        needed = []
        for i, column in enumerate(self.columns):
            widest = max((sum(cell_len(text) for text, _ in spans(row.cells[i])) for row in self._rows), default=0)
            width = max(widest, cell_len(column.title)) if widest else 0
            needed.append(width if column.grow else min(width, column.limit))
        growing = max((i for i, column in enumerate(self.columns) if column.grow), default=-1)

        def total() -> int:
            shown = [width for width in needed if width]
            return sum(shown) + self._column_gap * (len(shown) - 1)

        while total() > available:
            droppable = [i for i, column in enumerate(self.columns) if needed[i] and column.rank]
            if not droppable:
                break
            worst = max(droppable, key=lambda i: self.columns[i].rank)
            over = total() - available
            if worst == growing and needed[worst] - over >= 8:
                needed[worst] -= over
            else:
                needed[worst] = 0
        if total() > available and growing >= 0 and needed[growing]:
            needed[growing] = max(1, needed[growing] - (total() - available))
        elif growing >= 0 and needed[growing]:
            needed[growing] += available - total()
        return tuple(needed)

    def render_line(self, y: int) -> Strip:
        """Draw one line of the view."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        if not self._rows:
            lines = self._empty_text.split("\n")
            style = base + self.get_component_rich_style("rows--dim", partial=True)
            return (
                Strip([Segment(lines[y] if y < len(lines) else "", style)])
                .extend_cell_length(width, base)
                .crop(0, width)
            )
        if self.has_header and y == 0:
            titles = Row("", tuple(column.title for column in self.columns))
            return self._strip(titles, base + self.get_component_rich_style("rows--header", partial=True), width)
        index = y - int(self.has_header) + self.scroll_offset.y
        if index >= len(self._rows):
            return Strip.blank(width, base)
        on_cursor = index == self._cursor_row
        style = base + self.get_component_rich_style("rows--cursor", partial=True) if on_cursor else base
        return self._strip(self._rows[index], style, width, on_cursor and self.has_focus)

    def _strip(self, row: Row, style: Style, width: int, on_cursor: bool = False) -> Strip:
        segments: list[Segment] = []
        for column, cell, room in zip(self.columns, row.cells, self._column_widths, strict=False):
            if not room:
                continue
            if segments:
                segments.append(Segment(" " * self._column_gap, style))
            segments.extend(self._cell(spans(cell), room, column.align, style, on_cursor))
        return Strip(segments).adjust_cell_length(width, style)

    def _cell(
        self, pieces: tuple[tuple[str, str], ...], room: int, align: str, style: Style, on_cursor: bool
    ) -> list[Segment]:
        used = sum(cell_len(text) for text, _ in pieces)
        segments = []
        if used < room and align == "right":
            segments.append(Segment(" " * (room - used), style))
        left = room
        for text, role in pieces:
            length = cell_len(text)
            plain = not role or (on_cursor and role == "dim")  # grey on the cursor's colour can't be read
            own = style if plain else style + self.get_component_rich_style(f"rows--{role}", partial=True)
            if length > left or (used > room and length == left):
                segments.append(Segment(set_cell_size(text, max(0, left - 1)) + "…" * (left > 0), own))
                left = 0
                break
            segments.append(Segment(text, own))
            left -= length
        if left and align != "right":
            segments.append(Segment(" " * left, style))
        return segments

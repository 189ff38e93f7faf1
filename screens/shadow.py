"""What the terminal shows, cell by cell, and the fewest bytes that turn it into what it should show.

Pure: text goes in (Textual's own output), text comes out. `elektronn_tui.screens.driver` puts it on a terminal.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size

__all__ = ["Shadow"]

# Row and column of a cursor move; everything between two moves is one run of text on one row.
_MOVE = re.compile(r"\x1b\[(\d*)(?:;(\d*))?H")
_TOKEN = re.compile(
    r"\x1b\[([0-9;]*)m"
    r"|\x1b\]8;([^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|([^\x1b\r\n\x07]+)"
    r"|(\r?\n|\r)"
    r"|(\x1b\[[?<>=!]?[0-9;:]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|\x07|\x1b)"
)
# Sequences that move neither the cursor nor any cell: modes, keyboard protocol, queries, titles, clipboard, bell.
_HARMLESS = re.compile(
    r"\x1b\[\?(?!(?:47|1047|1049|3|5|6|7)[hl])[0-9;]*(?:[hl]|\$p|u)"
    r"|\x1b\[[<>=][0-9;]*u|\x1b\[[0-9;]*(?:n|t|c| q)|\x1b\].*|\x07",
    re.DOTALL,
)
_SYNC_START, _SYNC_END = "\x1b[?2026h", "\x1b[?2026l"
# Line wrap is a mode that leaves cells alone at the moment it is set.
_WRAP = ("\x1b[?7h", "\x1b[?7l")

_UNKNOWN = -1
_RUN_CACHE_SIZE = 1024
_STYLE_LIMIT = 16384
_OPERATIONS_LIMIT = 2048
# Attributes with an "off" code that terminals agree on (22 ends bold and dim both).
_OFF = {"1": "22", "2": "22", "3": "23", "4": "24", "7": "27", "9": "29"}

# fg, bg, attributes (sorted), hyperlink: all as they stand in the escape sequence.
_Style = tuple[str, str, tuple[str, ...], str]
_PLAIN: _Style = ("", "", (), "")


@lru_cache(maxsize=4096)
def _is_simple(character: str) -> bool:
    """Tell whether every terminal draws `character` as one cell by itself.

    Scripts that combine, run right to left or are as wide as the terminal's own tables say are not simple.
    """
    code = ord(character)
    if 0x20 <= code < 0x7F:
        return True
    if code < 0xA0 or 0x590 <= code < 0x1E00 or code >= 0x3000:
        return False
    return (
        unicodedata.category(character)[0] in "LNPSZ"
        and unicodedata.category(character) not in ("Zl", "Zp")
        and unicodedata.east_asian_width(character) not in "WF"
        and unicodedata.normalize("NFC", character) == character
        and get_character_cell_size(character) == 1
    )


def _simple(text: str) -> bool:
    if text.isascii():
        return text.isprintable()
    return all(map(_is_simple, text))


def _joins_to_the_left(text: str) -> bool:
    return bool(text) and not _is_simple(text[0]) and get_character_cell_size(text[0]) == 0


class _Row:
    """One row: what the terminal has (`front`) and what it should have (`back`)."""

    __slots__ = (
        "back",
        "back_style",
        "front",
        "front_style",
        "hi",
        "lo",
        "operations",
        "sent",
        "verbatim",
    )

    def __init__(self, width: int) -> None:
        self.back = [""] * width
        self.front = [""] * width
        self.back_style = [_UNKNOWN] * width
        self.front_style = [_UNKNOWN] * width
        self.lo, self.hi = width, 0
        # (column or None to go on where the last one ended, style, text), in the order written.
        self.operations: list[tuple[int | None, int, str]] = []
        # The operations of the last frame, when they were sent verbatim and nothing came since.
        self.sent: list[tuple[int | None, int, str]] | None = None
        self.verbatim = False


class Shadow:
    """The terminal's cells, kept from what is written to it.

    Feed it a terminal stream; `frame` returns the bytes that bring the terminal to the same cells. Text that
    terminals may lay out differently (wide, combining, right to left, emoji) is never diffed: its row is sent as
    it was written, and the cells that it may have touched count as unknown until they are written again.

    Parameters
    ----------
    width, height : int
        Size of the terminal in cells.
    """

    def __init__(self, width: int, height: int) -> None:
        self._styles: dict[_Style, int] = {_PLAIN: 0}
        self._style_list: list[_Style] = [_PLAIN]
        self._after_sgr: dict[tuple[int, str], int] = {}
        self._changes: dict[tuple[int, int], str] = {}
        self._runs: dict[str, tuple[list[str], list[int], list[tuple[int, str]]] | None] = {}
        self._style = 0
        self._lost_style = False
        self.in_sync = False
        self.saw_sync = False
        self.lossy = False
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        """Take a new size, in cells, and forget every cell."""
        self.width, self.height = max(width, 1), max(height, 1)
        self._rows = [_Row(self.width) for _ in range(self.height)]
        self._dirty: set[int] = set()
        self._y: int | None = None
        self._x = 0
        self._floating = False
        self._cursor: tuple[int, int] | None = None

    def forget(self) -> None:
        """Count everything that the terminal shows as unknown: what is written next is sent whole."""
        position = self._y, self._x, self._floating
        self.resize(self.width, self.height)
        self._y, self._x, self._floating = position

    @property
    def dirty(self) -> bool:
        """Whether something was written since the last frame."""
        return bool(self._dirty) or (self._y is not None and self._cursor != self._target(self._y))

    def _target(self, y: int) -> tuple[int, int]:
        return min(self._x, self.width - 1), y

    # Input ----------------------------------------------------------------------------------------

    def feed(self, data: str) -> str:
        """Take terminal output in; return what has to be sent at once (mode changes, clipboard, bell, ...)."""
        out: list[str] = []
        parts = _MOVE.split(data)
        if parts[0]:
            self._run(parts[0], out)
        for index in range(1, len(parts), 3):
            row, column, run = parts[index : index + 3]
            if self._lost_style:
                out.append("\x1b[0m")
                self._lost_style = False
            self._y = min(max(int(row or 1), 1), self.height) - 1
            self._x = min(max(int(column or 1), 1), self.width) - 1
            self._floating = False
            if run:
                self._run(run, out)
        return "".join(out)

    def _run(self, run: str, out: list[str]) -> None:
        """Write a run of text and style changes at the cursor."""
        if self._style == 0 and self._y is not None and not self._floating:
            # Textual ends all rows of an update but the last with a newline.
            body = run.removesuffix("\n")
            cells = self._parsed(body)
            if cells is not None and self._x + len(cells[0]) <= self.width:
                self._write_cells(*cells)
                run = run[len(body) :]
        for token in _TOKEN.finditer(run):
            kind = token.lastindex
            if kind == 3:
                self._text(token[3], out)
            elif kind == 1:
                self._raw(token[0], out)
                self._style = self._sgr(self._style, token[1])
            elif kind == 2:
                self._raw(token[0], out)
                link = token[2] if token[2] != ";" else ""
                fg, bg, attributes, _ = self._style_list[self._style]
                self._style = self._style_id((fg, bg, attributes, link))
            elif kind == 4 and self._y is not None and (token[4] == "\r" or self._y + 1 < self.height):
                # The terminal is in its usual output mode, in which a newline returns to the first column too.
                self._y += token[4] != "\r"
                self._x = 0
                self._floating = False
            else:
                self._control(token[0], out)

    def _raw(self, sequence: str, out: list[str]) -> None:
        """Pass a sequence on while it isn't known where the cursor is."""
        if self._y is None:
            out.append(sequence)
            self._lost_style = True

    def _parsed(self, run: str) -> tuple[list[str], list[int], list[tuple[int, str]]] | None:
        """Cells and styles of a run that starts and ends without style; None if it isn't that simple."""
        if run in self._runs:
            return self._runs[run]
        characters: list[str] = []
        styles: list[int] = []
        pieces: list[tuple[int, str]] = []
        style = 0
        result: tuple[list[str], list[int], list[tuple[int, str]]] | None = (characters, styles, pieces)
        for token in _TOKEN.finditer(run):
            kind = token.lastindex
            if kind == 3 and _simple(token[3]):
                characters.extend(token[3])
                styles.extend([style] * len(token[3]))
                pieces.append((style, token[3]))
            elif kind == 1:
                style = self._sgr(style, token[1])
            else:
                result = None
                break
        if style:
            result = None
        if len(self._runs) >= _RUN_CACHE_SIZE:
            self._runs.clear()
        self._runs[run] = result
        return result

    def _write_cells(self, characters: list[str], styles: list[int], pieces: list[tuple[int, str]]) -> None:
        assert self._y is not None
        row = self._touch(self._y)
        x, end = self._x, self._x + len(characters)
        row.back[x:end] = characters
        row.back_style[x:end] = styles
        row.lo, row.hi = min(row.lo, x), max(row.hi, end)
        for style, text in pieces:
            row.operations.append((x, style, text))
            x += len(text)
        self._x = end

    def _touch(self, y: int) -> _Row:
        row = self._rows[y]
        self._dirty.add(y)
        if len(row.operations) > _OPERATIONS_LIMIT:
            # The terminal takes nothing. Without a wide character the cells say it all; with one, the oldest
            # writes go, and the whole screen has to be written again.
            if row.verbatim:
                del row.operations[: _OPERATIONS_LIMIT // 2]
                self.lossy = True
            else:
                row.operations = [
                    (x, row.back_style[x], row.back[x]) for x in range(row.lo, row.hi) if row.back_style[x] != _UNKNOWN
                ]
        return row

    def _text(self, text: str, out: list[str]) -> None:
        if self._y is None:
            self._raw(text, out)
            return
        if not self._floating and self._x + len(text) <= self.width and _simple(text):
            self._write_cells(list(text), [self._style] * len(text), [(self._style, text)])
            return
        row = self._touch(self._y)
        row.operations.append((None if self._floating else self._x, self._style, text))
        row.verbatim = True
        # A mark joins the cell to the left, half of a wide character overwrites its other half, and all that
        # follows may be shifted.
        start = max(min(self._x, self.width) - 2, 0)
        row.back_style[start:] = [_UNKNOWN] * (self.width - start)
        row.back[start:] = [""] * (self.width - start)
        self._x += cell_len(text)
        self._floating = True

    def _control(self, sequence: str, out: list[str]) -> None:
        if sequence == _SYNC_START:
            self.in_sync = self.saw_sync = True
        elif sequence == _SYNC_END:
            self.in_sync = False
        elif sequence in _WRAP or _HARMLESS.fullmatch(sequence):
            out.append(sequence)
        else:
            # Erasing paints with the current style.
            out += (self.frame(), self._change(0, self._style) if self._style else "", sequence)
            self._lost_style = True
            self.forget()
            self._y = None

    # Styles ---------------------------------------------------------------------------------------

    def _style_id(self, style: _Style) -> int:
        number = self._styles.get(style)
        if number is None:
            number = self._styles[style] = len(self._style_list)
            self._style_list.append(style)
        return number

    def _sgr(self, before: int, parameters: str) -> int:
        key = before, parameters
        after = self._after_sgr.get(key)
        if after is None:
            after = self._after_sgr[key] = self._style_id(_apply_sgr(self._style_list[before], parameters))
        return after

    def _drop_styles(self) -> None:
        """Start the table of styles anew (true colour images would grow it without end)."""
        current = self._style_list[self._style]
        self._styles, self._style_list = {_PLAIN: 0}, [_PLAIN]
        self._after_sgr.clear()
        self._changes.clear()
        self._runs.clear()
        self._style = self._style_id(current)
        cursor = self._cursor
        self.forget()
        self._cursor = cursor

    def _change(self, before: int, after: int) -> str:
        key = before, after
        change = self._changes.get(key)
        if change is None:
            if len(self._changes) > _STYLE_LIMIT:
                self._changes.clear()
            change = self._changes[key] = _style_change(self._style_list[before], self._style_list[after])
        return change

    # Output ---------------------------------------------------------------------------------------

    def frame(self) -> str:
        """Return what brings the terminal from the last frame to what was written since, and start a new frame."""
        out: list[str] = []
        style = 0
        cursor = self._cursor
        for y in sorted(self._dirty):
            row = self._rows[y]
            if row.verbatim:
                style, cursor = self._send_verbatim(y, row, out, style, cursor)
            else:
                style, cursor = self._send_cells(y, row, out, style, cursor)
                row.sent = None
            row.operations = []
            row.verbatim = False
            row.lo, row.hi = self.width, 0
        self._dirty.clear()
        if style:
            out.append(self._change(style, 0))
        if self._y is not None:
            target = self._target(self._y)
            if cursor != target:
                out.append(_move(cursor, *target))
            self._cursor = cursor = target
        else:
            self._cursor = None
        if len(self._style_list) > _STYLE_LIMIT:
            self._drop_styles()
        return "".join(out)

    def _send_verbatim(
        self, y: int, row: _Row, out: list[str], style: int, cursor: tuple[int, int] | None
    ) -> tuple[int, tuple[int, int] | None]:
        operations = row.operations
        if operations == row.sent and not any(_joins_to_the_left(text) for _, _, text in operations):
            return style, cursor
        for x, wanted, text in operations:
            if x is not None and cursor != (x, y):
                out.append(_move(None, x, y))
            # As Textual does, styled piece by styled piece: what a terminal makes of one cluster of characters
            # must not depend on where pieces of equal style meet.
            if x is None or wanted != style:
                out.append(self._change(style, wanted) or f"\x1b[0m{self._change(0, wanted)}")
                style = wanted
            out.append(text)
            cursor = None
        row.front[:] = row.back
        row.front_style[:] = row.back_style
        row.sent = operations
        return style, cursor

    def _send_cells(
        self, y: int, row: _Row, out: list[str], style: int, cursor: tuple[int, int] | None
    ) -> tuple[int, tuple[int, int] | None]:
        back, back_style, front, front_style = row.back, row.back_style, row.front, row.front_style
        if back == front and back_style == front_style:
            return style, cursor
        lo, hi, width = row.lo, row.hi, self.width
        end = -1
        for x in range(lo, hi):
            wanted = back_style[x]
            if (back[x] == front[x] and wanted == front_style[x]) or wanted == _UNKNOWN:
                continue
            if cursor != (x, y):
                bridge = self._bridge(row, end, x, style) if end >= 0 else None
                out.append(_move(cursor, x, y) if bridge is None else bridge)
            if wanted != style:
                out.append(self._change(style, wanted))
                style = wanted
            out.append(back[x])
            end = x + 1
            # After the last column terminals disagree about where the cursor is.
            cursor = (end, y) if end < width else None
        front[lo:hi] = back[lo:hi]
        front_style[lo:hi] = back_style[lo:hi]
        return style, cursor

    def _bridge(self, row: _Row, start: int, stop: int, style: int) -> str | None:
        """The unchanged characters between two changed runs, when writing them again is no longer than a move."""
        if stop - start > 4 or any(number != style for number in row.back_style[start:stop]):
            return None
        text = "".join(row.back[start:stop])
        cost = len(text) if text.isascii() else len(text.encode())
        return text if cost <= len(f"\x1b[{stop - start}C") - (stop - start == 1) else None


def _move(cursor: tuple[int, int] | None, x: int, y: int) -> str:
    """The shortest sequence that brings the cursor to column `x`, row `y` (from 0)."""
    absolute = f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H" if y else "\x1b[H"
    if cursor is None:
        return absolute
    old_x, old_y = cursor
    if old_y == y:
        distance = x - old_x
        count = "" if abs(distance) == 1 else str(abs(distance))
        relative = f"\x1b[{count}{'C' if distance > 0 else 'D'}" if x else "\r"
    elif old_x == x:
        distance = y - old_y
        count = "" if abs(distance) == 1 else str(abs(distance))
        relative = f"\x1b[{count}{'B' if distance > 0 else 'A'}"
    else:
        return absolute
    return relative if len(relative) < len(absolute) else absolute


def _apply_sgr(style: _Style, parameters: str) -> _Style:
    """The style after ``ESC [ parameters m``."""
    fg, bg, attributes, link = style
    on = set(attributes)
    codes = parameters.split(";")
    index = 0
    while index < len(codes):
        code = codes[index].lstrip("0")
        length = 1
        if code in ("38", "48"):
            length = 5 if codes[index + 1 : index + 2] == ["2"] else 3
            colour = ";".join(codes[index : index + length])
            fg, bg = (colour, bg) if code == "38" else (fg, colour)
        elif not code:
            fg, bg = "", ""
            on.clear()
        elif code == "39":
            fg = ""
        elif code == "49":
            bg = ""
        elif code == "22":
            on -= {"1", "2"}
        elif code == "24":
            on -= {"4", "21"}
        elif code == "25":
            on -= {"5", "6"}
        elif code == "54":
            on -= {"51", "52"}
        elif code in ("23", "27", "28", "29", "55"):
            on.discard({"23": "3", "27": "7", "28": "8", "29": "9", "55": "53"}[code])
        elif len(code) == 2 and code[0] in "39":
            fg = code
        elif (len(code) == 2 and code[0] == "4") or (len(code) == 3 and code[:2] == "10"):
            bg = code
        else:
            on.add(code)
        index += length
    return fg, bg, tuple(sorted(on, key=int)), link


def _style_change(before: _Style, after: _Style) -> str:
    """The shortest sequence that turns one style into another."""
    link = f"\x1b]8;{after[3] or ';'}\x1b\\" if before[3] != after[3] else ""
    if before[:3] == after[:3]:
        return link
    full = [*after[2], *(colour for colour in after[:2] if colour)]
    whole = f"\x1b[0;{';'.join(full)}m" if full and before[:3] != _PLAIN[:3] else f"\x1b[{';'.join(full)}m"
    gone, new = set(before[2]) - set(after[2]), set(after[2]) - set(before[2])
    if gone - set(_OFF):
        return link + whole
    off = sorted({_OFF[code] for code in gone})
    # Ending bold ends dim too, and the other way round.
    again = {"1", "2"} & set(after[2]) if "22" in off else set()
    step = [*off, *sorted(new | again, key=int)]
    if before[0] != after[0]:
        step.append(after[0] or "39")
    if before[1] != after[1]:
        step.append(after[1] or "49")
    partial = f"\x1b[{';'.join(step)}m"
    return link + min(partial, whole, key=len)

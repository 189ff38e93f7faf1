"""The console's transcript: what was typed and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from elektronn_tui.session.protocol import ConsoleOutput

__all__ = ["TranscriptView"]

STREAMS = ("code", "stdout", "stderr", "result", "error", "note")


class TranscriptView(ScrollView, can_focus=True):
    """Pieces of a transcript as wrapped lines; stays at the end unless it was scrolled away from there."""

    DEFAULT_CSS = """
    TranscriptView { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    TranscriptView > .transcript--code { text-style: bold; }
    TranscriptView > .transcript--stdout { color: $foreground; }
    TranscriptView > .transcript--stderr { color: $warning; }
    TranscriptView > .transcript--result { color: $success; }
    TranscriptView > .transcript--error { color: $error; }
    TranscriptView > .transcript--note { color: $text-muted; text-style: italic; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"transcript--{stream}" for stream in STREAMS}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", show=False),
        Binding("j", "scroll_down", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="transcript")
        self._pieces: tuple[ConsoleOutput, ...] = ()
        self._wrapped: list[list[Segment]] = []
        self._wrapped_for = -1

    @property
    def text(self) -> str:
        """The lines as they are shown."""
        return "\n".join("".join(segment.text for segment in line) for line in self._wrapped)

    def show(self, pieces: Sequence[ConsoleOutput]) -> None:
        """Show a transcript."""
        if tuple(pieces) != self._pieces or self._wrapped_for != self._room():
            self._pieces = tuple(pieces)
            self._wrap()

    def on_resize(self) -> None:
        """Wrap the lines anew."""
        if self._wrapped_for != self._room():
            self._wrap()

    def notify_style_update(self) -> None:
        """Colour the lines anew when the theme changes."""
        super().notify_style_update()
        if self._pieces:
            self._wrap()

    def _room(self) -> int:
        return max(10, self.size.width - 1)

    def _wrap(self) -> None:
        at_end = self.scroll_offset.y >= self.max_scroll_y - 1
        width = self._wrapped_for = self._room()
        lines: list[list[Segment]] = []
        open_stream = ""
        for piece in self._pieces:
            style = self.get_component_rich_style(f"transcript--{piece.stream}", partial=True)
            text = piece.text.expandtabs(4)
            continues = piece.stream == open_stream and piece.stream in ("stdout", "stderr") and bool(lines)
            parts = _lines_of(piece, text, style)
            for number, line in enumerate(parts):
                if number == 0 and continues:
                    line = Text.assemble(Text("".join(s.text for s in lines.pop()), style=style), line)
                lines.extend(_folded(line, width))
            # Output that ended in the middle of a line goes on there.
            open_stream = piece.stream if not text.endswith("\n") else ""
        self._wrapped = lines
        self.virtual_size = Size(width, len(lines))
        if at_end:
            self.scroll_end(animate=False, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw a line; a short transcript lies at the bottom, above the prompt."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        index = y + self.scroll_offset.y - max(0, self.size.height - len(self._wrapped))
        if not 0 <= index < len(self._wrapped):
            return Strip.blank(width, base)
        segments = [Segment(text, base + style if style else base) for text, style, _ in self._wrapped[index]]
        return Strip(segments).adjust_cell_length(width, base)


def _lines_of(piece: ConsoleOutput, text: str, style: Style) -> list[Text]:
    lines = text.removesuffix("\n").split("\n")
    if piece.stream == "code":
        return [Text(("... " if number else ">>> ") + line, style=style) for number, line in enumerate(lines)]
    found = []
    for line in lines:
        coloured = Text.from_ansi(line) if "\x1b" in line else Text(line)
        coloured.stylize_before(style)
        found.append(coloured)
    return found


def _folded(line: Text, width: int) -> list[list[Segment]]:
    cells = line.cell_len
    if cells <= width:
        return [_segments(line)]
    return [_segments(part) for part in line.divide(_cuts(line.plain, width))]


def _cuts(text: str, width: int) -> list[int]:
    from rich.cells import cell_len

    cuts, used = [], 0
    for index, character in enumerate(text):
        length = cell_len(character)
        if used + length > width:
            cuts.append(index)
            used = 0
        used += length
    return cuts


def _segments(line: Text) -> list[Segment]:
    pieces: list[Segment] = []
    plain = line.plain
    bounds = sorted(
        {0, len(plain), *(edge for span in line.spans for edge in (span.start, span.end) if edge <= len(plain))}
    )
    base = line.style if isinstance(line.style, Style) else Style.null()
    for start, end in pairwise(bounds):
        style = base
        for span in line.spans:
            if span.start <= start and end <= span.end and isinstance(span.style, Style):
                style += span.style
        pieces.append(Segment(plain[start:end], style))
    return pieces

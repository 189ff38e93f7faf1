"""Images as half blocks: two pixels a cell, in colours that no theme changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ImageView", "Picture", "pixels_for"]

# 16 levels: neighbours of one tissue then share a style, which is what makes a line of text short.
_GREYS = 16
_CUBE = (0, 95, 135, 175, 215, 255)
_BOUNDARY = (255, 175, 0)
_CAPTION = Style(color="#8a8a8a")
_GAP = 2
_RAMP = " .:-=+*#%@"


@dataclass(frozen=True, eq=False)
class Picture:
    """One image to show.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (y, x) or (y, x, 3)
        Grey or RGB.
    caption : str
        Shown above it.
    labels : ndarray of int, shape (y, x), optional
        Segment ids; where they change a line is drawn over the image.
    """

    pixels: NDArray[np.uint8]
    caption: str = ""
    labels: NDArray[np.integer] | None = None


class ImageView(Widget):
    """Images side by side at one scale, as large as fits, with square pixels.

    Parameters
    ----------
    pictures : sequence of Picture
        Shown from left to right.
    name, id, classes : str, optional
        As for every widget.
    """

    DEFAULT_CSS = "ImageView { width: 1fr; height: 1fr; }"

    def __init__(
        self,
        pictures: Sequence[Picture] = (),
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._image_pictures = tuple(pictures)
        self._image_strips: list[Strip] = []
        self._image_drawn_for: Size | None = None
        self.ascii = False

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The images shown."""
        return self._image_pictures

    def show(self, *pictures: Picture) -> None:
        """Show these images from left to right."""
        before, size = self._image_strips, self._image_drawn_for
        self._image_pictures = pictures
        if size is None or size != self.content_size or not self.is_on_screen:
            self._image_drawn_for = None
            self.refresh()
            return
        self._image_draw()
        rows = zip(before, self._image_strips, strict=True)
        changed = [Region(0, y, size.width, 1) for y, (old, new) in enumerate(rows) if old != new]
        if changed:
            self.refresh(*changed)

    def cells_for_pixels(self) -> tuple[int, int]:
        """Return how many pixels (y, x) one image can show at most: what to ask the session for."""
        captions = any(picture.caption for picture in self._image_pictures)
        size = self.content_size
        return pixels_for(size.width, size.height, max(len(self._image_pictures), 1), captions=captions)

    def _image_draw(self) -> None:
        size = self.content_size
        self._image_strips = draw_pictures(self._image_pictures, size.width, size.height, self.ascii)
        self._image_drawn_for = size

    def render_line(self, y: int) -> Strip:
        """Give one row of cells."""
        if self._image_drawn_for != self.content_size:
            self._image_draw()
        if y < len(self._image_strips):
            return self._image_strips[y].apply_style(self.rich_style)
        return Strip.blank(self.content_size.width, self.rich_style)


def pixels_for(width: int, height: int, count: int, *, captions: bool = True) -> tuple[int, int]:
    """Return how many pixels (y, x) each of `count` images has in `height` rows of `width` cells."""
    rows = height - (captions and height > 2)
    return 2 * max(rows, 1), max((width - _GAP * (count - 1)) // count, 1)


def draw_pictures(pictures: Sequence[Picture], width: int, height: int, plain: bool = False) -> list[Strip]:
    """Draw images side by side.

    Parameters
    ----------
    pictures : sequence of Picture
        From left to right, all at one scale.
    width, height : int
        Size in cells.
    plain : bool
        One ASCII character a cell instead of half blocks.

    Returns
    -------
    list of Strip
        `height` strips, each `width` cells wide.
    """
    if not pictures or width < 1 or height < 1:
        return [Strip.blank(max(width, 0)) for _ in range(height)]
    captions = any(picture.caption for picture in pictures) and height > 2
    rows = height - captions
    _, room = pixels_for(width, height, len(pictures), captions=captions)
    # A cell is two pixels high and one wide, and about twice as high as wide.
    scale = max(max(picture.pixels.shape[0] / (2 * rows), picture.pixels.shape[1] / room) for picture in pictures)
    columns: list[list[list[Segment]]] = []
    for picture in pictures:
        high, wide = (max(1, round(length / scale)) for length in picture.pixels.shape[:2])
        cells = _image_cells(picture, min(high, 2 * rows), min(wide, room), plain)
        block = [[Segment(picture.caption[:room].ljust(room), _CAPTION)]] if captions else []
        for row in cells:
            block.append([*row, Segment(" " * (room - min(wide, room)))])
        block += [[Segment(" " * room)] for _ in range(height - len(block))]
        columns.append(block)
    strips = []
    for y in range(height):
        line: list[Segment] = []
        for number, block in enumerate(columns):
            if number:
                line.append(Segment(" " * _GAP))
            line += block[y]
        strips.append(Strip(line).adjust_cell_length(width))
    return strips


def resample(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resample an image: area means where it gets smaller, nearest neighbours where it gets larger.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (y, x) or (y, x, 3)
        Image.
    height, width : int
        New size.

    Returns
    -------
    ndarray of uint8, shape (height, width) or (height, width, 3)
        Resampled image.
    """
    import numpy as np

    result = pixels.astype(np.float32)
    for axis, length in ((0, height), (1, width)):
        old = result.shape[axis]
        if length >= old:
            result = np.take(result, np.arange(length) * old // length, axis=axis)
            continue
        # Means over [i, i + 1) * old / length from differences of the interpolated running sum.
        total = np.concatenate([np.zeros_like(np.take(result, [0], axis)), np.cumsum(result, axis, np.float64)], axis)
        edges = np.arange(length + 1) * (old / length)
        low = np.minimum(edges.astype(np.int64), old - 1)
        part = (edges - low).reshape([-1 if dimension == axis else 1 for dimension in range(result.ndim)])
        at_edges = np.take(total, low, axis) * (1 - part) + np.take(total, low + 1, axis) * part
        result = (np.diff(at_edges, axis=axis) * (length / old)).astype(np.float32)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _image_cells(picture: Picture, high: int, wide: int, plain: bool) -> list[list[Segment]]:
    """Segments of one image of `high` pixels (two a cell) by `wide`."""
    import numpy as np

    pixels = resample(picture.pixels, high, wide)
    grey = pixels.ndim == 2
    if grey:
        levels = (pixels.astype(np.uint16) * (_GREYS - 1) + 127) // 255
        codes = levels.astype(np.int32)
    else:
        codes = _GREYS + _to_cube(pixels)
    if picture.labels is not None:
        codes = np.where(_boundaries(picture.labels, high, wide), _GREYS + 216, codes)
    if high % 2:
        codes = np.concatenate([codes, np.full((1, wide), -1, codes.dtype)])
    top, bottom = codes[::2], codes[1::2]
    if plain:
        return [[Segment(row)] for row in _plain_rows(pixels, codes)]
    rows = []
    for upper, lower in zip(top.tolist(), bottom.tolist(), strict=True):
        segments: list[Segment] = []
        start = 0
        for x in range(1, wide + 1):
            if x == wide or upper[x] != upper[start] or lower[x] != lower[start]:
                same = upper[start] == lower[start]
                style = _cell_style(upper[start], lower[start])
                segments.append(Segment((" " if same else "▀") * (x - start), style))
                start = x
        rows.append(segments)
    return rows


def _plain_rows(pixels: NDArray[np.uint8], codes: NDArray[np.int32]) -> list[str]:
    import numpy as np

    grey = pixels if pixels.ndim == 2 else pixels.mean(2)
    if len(grey) % 2:
        grey = np.concatenate([grey, grey[-1:]])
    level = (grey[::2].astype(np.float32) + grey[1::2]) / 2 * (len(_RAMP) - 1) / 255
    edge = (codes[::2] == _GREYS + 216) | (codes[1::2] == _GREYS + 216)
    text = np.array([ord(c) for c in _RAMP], np.uint32)[np.rint(level).astype(int)]
    text[edge] = ord("o")
    return [row.tobytes().decode("utf-32-le") for row in text]


def _to_cube(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Nearest colour of the 6 × 6 × 6 cube that terminals with 256 colours have, 0 to 215."""
    import numpy as np

    limits = [(a + b) // 2 + 1 for a, b in pairwise(_CUBE)]
    steps = np.digitize(pixels, limits).astype(np.int32)
    cube: NDArray[np.int32] = steps @ np.array([36, 6, 1], np.int32)
    return cube


def _boundaries(labels: NDArray[np.integer], high: int, wide: int) -> NDArray[np.bool_]:
    """Where the nearest labels of neighbouring pixels differ, at the size of the screen."""
    import numpy as np

    y = np.arange(high) * labels.shape[0] // high
    x = np.arange(wide) * labels.shape[1] // wide
    small = labels[np.ix_(y, x)]
    edge = np.zeros(small.shape, bool)
    edge[:-1] |= small[:-1] != small[1:]
    edge[:, :-1] |= small[:, :-1] != small[:, 1:]
    return edge


def _colour(code: int) -> Color | None:
    if code < 0:
        return None
    if code < _GREYS:
        level = round(code * 255 / (_GREYS - 1))
        return Color.from_rgb(level, level, level)
    if code == _GREYS + 216:
        return Color.from_rgb(*_BOUNDARY)
    red, rest = divmod(code - _GREYS, 36)
    green, blue = divmod(rest, 6)
    return Color.from_rgb(_CUBE[red], _CUBE[green], _CUBE[blue])


def _cell_style(top: int, bottom: int) -> Style:
    if top == bottom:
        return Style.from_color(None, _colour(top))
    return Style.from_color(_colour(top), _colour(bottom))

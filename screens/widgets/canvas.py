"""Curves as braille dots: buckets in, lines of text out. No widget, and no numpy before the first curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from .axes import format_number, log_ticks, number_ticks, snap, step_ticks, time_ticks
from .series import Look, Mark, Series

if TYPE_CHECKING:
    from .raster import Curve, Frame

__all__ = ["Look", "Mark", "Series", "draw"]

# Colours that colour-blind people can tell apart (Okabe & Ito 2008), each with its dark shade for the band.
_COLOURS = (
    ("#56b4e9", "#28566f"),
    ("#e69f00", "#6b4b05"),
    ("#2fc79a", "#175c48"),
    ("#f06a9a", "#70324a"),
    ("#f0e442", "#6f6a22"),
    ("#b9a0ff", "#554a75"),
)
# How the legend shows the dashes of `raster`.
_SAMPLES = ("━━", "╍╍", "┅┅", "━╸", "╺╸", "╸ ")
_ASCII_DOTS = "*+ox#@"
_AXIS = Style(color="#8a8a8a")
_TITLE = Style(bold=True)
_MARK = Style(color="#ff8700", bold=True)
_GUTTER = 6


def draw(
    series: Sequence[Series],
    width: int,
    height: int,
    *,
    title: str = "",
    look: Look | None = None,
    marks: Sequence[Mark] = (),
) -> list[Strip]:
    """Draw curves with title, legend and axes.

    Parameters
    ----------
    series : sequence of Series
        Drawn in this order; later ones lie on top.
    width, height : int
        Size in cells.
    title : str
        First words of the first row; the legend with the current values follows.
    look : Look, optional
        Scale, band, smoothing.
    marks : sequence of Mark
        Shown as ▲ below the curves.

    Returns
    -------
    list of Strip
        `height` strips, each `width` cells wide.
    """
    look = look or Look()
    if width < 1 or height < 1:
        return []
    curves: list[Curve | None] = []
    if series:
        from .raster import make_curve

        curves = [make_curve(number, one, look) for number, one in enumerate(series)]
    shown = [curve for curve in curves if curve is not None]
    strips = [_title_row(title, curves, series, width, look)]
    framed = _ranges(shown, width, height, look) if height >= 4 and width >= 16 else None
    if framed is None:
        note = _why_empty(series, shown, look) if height >= 2 else ""
        strips += [Strip([Segment("")]) for _ in range(height - 1)]
        if note:
            strips[height // 2] = Strip([Segment(" " * max(0, (width - len(note)) // 2) + note, _AXIS)])
        return [strip.adjust_cell_length(width) for strip in strips]
    frame, y_ticks, x_ticks, axis_rows, gutter = framed
    strips += _body(frame, shown, y_ticks, gutter, look, marks if axis_rows == 1 else ())
    strips += _x_axis(frame, x_ticks, gutter, axis_rows, look, marks)
    return [strip.adjust_cell_length(width) for strip in strips]


def _ranges(
    curves: list[Curve], width: int, height: int, look: Look
) -> tuple[Frame, list[tuple[float, str]], list[tuple[float, str]], int, int] | None:
    """Ranges of both axes with their ticks, rows of the x axis, columns of the y axis; None without data."""
    from . import raster

    bands = [part for curve in curves for part in (curve.low, curve.high) if part is not None]
    xs = [curve.x for curve in curves if len(curve.x)]
    y_range = raster.shown_range([curve.mean for curve in curves], bands)
    if y_range is None:
        return None
    axis_rows = 2 if height >= 9 else 1
    plot_height = height - 1 - axis_rows
    y_count = max(2, int(plot_height / 2.5))
    y_low, y_high = y_range
    if look.log_y:
        if y_high - y_low < 0.02:
            y_low, y_high = y_low - 0.1, y_high + 0.1
        y_low, y_high = math.floor(y_low * 4) / 4, math.ceil(y_high * 4) / 4
        y_ticks = [(math.log10(value), label) for value, label in log_ticks(10**y_low, 10**y_high, plot_height // 2)]
    else:
        y_low, y_high = snap(y_low, y_high, y_count)
        y_ticks = number_ticks(y_low, y_high, y_count)
    gutter = min(max([_GUTTER, *(len(label) + 1 for _, label in y_ticks)]), width // 2)
    plot_width = width - gutter
    x_count = max(2, plot_width // 12)
    x_low, x_high = min(float(x[0]) for x in xs), max(float(x[-1]) for x in xs)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    # The range grows in jumps: a curve that gets longer then changes only at its end.
    x_low, x_high = snap(0.0 if 0 <= x_low < 0.1 * x_high else x_low, x_high, x_count)
    ticks = time_ticks if look.x_axis == "time" else step_ticks
    frame = raster.Frame(plot_width, plot_height, (x_low, x_high), (y_low, y_high), (1, 1) if look.ascii else (2, 4))
    return frame, y_ticks, ticks(x_low, x_high, x_count), axis_rows, gutter


def _why_empty(series: Sequence[Series], shown: list[Curve], look: Look) -> str:
    if not series:
        return "no data yet"
    if not shown:
        return "no times known: press the key for steps"
    if look.log_y and any(len(curve.x) for curve in shown):
        return "no positive values to show on a log scale"
    return "no data yet"


def _body(
    frame: Frame,
    curves: list[Curve],
    y_ticks: list[tuple[float, str]],
    gutter: int,
    look: Look,
    marks: Sequence[Mark],
) -> list[Strip]:
    """The rows of the plot with the y axis."""
    import numpy as np

    from . import raster

    bits, owner = raster.raster(frame, curves, plain=look.ascii)
    if look.ascii:
        table = np.array(
            [ord(" "), *(ord(c) for i in range(len(_ASCII_DOTS)) for c in (_ASCII_DOTS[i], ":"))], np.uint32
        )
        text = table[np.where(owner < 0, 0, owner % (2 * len(_ASCII_DOTS)) + 1)]
    else:
        text = np.where(bits > 0, bits + 0x2800, ord(" ")).astype(np.uint32)
    for mark in marks:
        place = _mark_place(frame, mark, look)
        if place is not None:
            text[-1, place] = ord("^" if look.ascii else "▲")
            owner[-1, place] = -2
    labels = {min(max(round(frame.row(value)), 0), frame.rows - 1) // frame.dots[1]: label for value, label in y_ticks}
    tick, plain = ("+", "|") if look.ascii else ("┤", "│")
    characters = text.tobytes().decode("utf-32-le")
    width = frame.width
    change = np.ones(owner.shape, bool)
    change[:, 1:] = owner[:, 1:] != owner[:, :-1]
    edges = [*np.flatnonzero(change).tolist(), owner.size]
    styles = [_style(number) for number in owner.ravel()[edges[:-1]].tolist()]
    rows: list[list[Segment]] = [[] for _ in range(frame.height)]
    for start, stop, style in zip(edges, edges[1:], styles, strict=False):
        rows[start // width].append(Segment(characters[start:stop], style))
    strips = []
    for index, segments in enumerate(rows):
        label = labels.get(index)
        axis = f"{(label or '')[: gutter - 1]:>{gutter - 1}}{plain if label is None else tick}"
        strips.append(Strip([Segment(axis, _AXIS), *segments], gutter + width))
    return strips


def _style(owner: int) -> Style | None:
    if owner == -2:
        return _MARK
    if owner < 0:
        return None
    return _STYLES[owner % len(_STYLES)]


_STYLES = tuple(Style(color=shade) for pair in _COLOURS for shade in pair)


# Around the plot ----------------------------------------------------------------------------------


def _mark_place(frame: Frame, mark: Mark, look: Look) -> int | None:
    x = mark.step if look.x_axis == "step" else mark.time
    if x is None or not frame.x[0] <= x <= frame.x[1]:
        return None
    return min(round(frame.column(x)) // frame.dots[0], frame.width - 1)


def _title_row(title: str, curves: Sequence[Curve | None], series: Sequence[Series], width: int, look: Look) -> Strip:
    """Title, legend with current values, and what is not the default, as far as they fit."""
    segments = [Segment(f"{title} ", _TITLE)] if title else []
    room = width - sum(len(segment.text) for segment in segments)
    for number, (one, curve) in enumerate(zip(series, curves, strict=True)):
        sample = (_ASCII_DOTS[number % len(_ASCII_DOTS)] * 2) if look.ascii else _SAMPLES[number % len(_SAMPLES)]
        value = format_number(curve.last) if curve is not None else "no times"
        text = f" {sample} {one.name} {value}"
        if len(text) > room:
            break
        room -= len(text)
        segments.append(Segment(text, _STYLES[2 * number % len(_STYLES)]))
    notes = " ".join(
        note
        for note, on in (
            ("log", look.log_y),
            (f"smooth {look.smoothing:g}", look.smoothing > 0),
            ("time", look.x_axis == "time"),
        )
        if on
    )
    if notes and len(notes) + 1 <= room:
        segments.append(Segment(f"{notes:>{room}}", _AXIS))
    return Strip(segments)


def _x_axis(
    frame: Frame,
    ticks: list[tuple[float, str]],
    gutter: int,
    rows: int,
    look: Look,
    marks: Sequence[Mark],
) -> list[Strip]:
    """The axis with its marks (if there are two rows) and the row of labels."""
    strips = []
    width = frame.width
    places = [(min(round(frame.column(value)) // frame.dots[0], width - 1), label) for value, label in ticks]
    if rows == 2:
        corner, plain, tick, symbol = "+-+^" if look.ascii else "└─┬▲"
        axis = [plain] * width
        for place, _ in places:
            axis[place] = tick
        found = {_mark_place(frame, mark, look) for mark in marks} - {None}
        segments = [Segment(" " * (gutter - 1) + corner, _AXIS)]
        start = 0
        for place in sorted(place for place in found if place is not None):
            segments += [Segment("".join(axis[start:place]), _AXIS), Segment(symbol, _MARK)]
            start = place + 1
        strips.append(Strip([*segments, Segment("".join(axis[start:]), _AXIS)]))
    line = [" "] * (gutter + width)
    free = 0
    for place, label in places:
        start = min(max(gutter + place - len(label) // 2, free), gutter + width - len(label))
        if start < free:
            continue
        line[start : start + len(label)] = label
        free = start + len(label) + 1
    strips.append(Strip([Segment("".join(line), _AXIS)]))
    return strips

"""A network as a layered drawing in SVG, by itself: no fonts, scripts or styles from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from xml.sax.saxutils import escape, quoteattr

from .drawing_facts import Facts, Family, NodeFacts
from .layered_layout import Box, Layout, Point, lay_out

__all__ = ["STYLE", "drawing_of", "svg_of"]

TITLE, LINE = 13.0, 11.0
"""Sizes of type in pixels."""
LEADING = 15.0
WIDEST = 0.6
"""Of a letter, in sizes of type: a little more than the average of common sans-serif faces."""
MARGIN, PADDING = 28.0, 11.0
BAR = 4.0
HEAD = 62.0
CORNER = 12.0
ROLES: Mapping[str, str] = MappingProxyType(
    {"input": "▶ input", "target": "◎ target", "loss": "▼ loss", "prediction": "★ prediction", "error": "✕ error"}
)

# Form and colour tell the same, so neither is needed to read it.
COLOURS: Mapping[Family, tuple[str, str]] = MappingProxyType(
    {
        "source": ("#fdf3d8", "#b88a1a"),
        "convolution": ("#e3edf9", "#3b6ea8"),
        "pooling": ("#e4f3ec", "#35805d"),
        "upsampling": ("#ece6f7", "#6d50a6"),
        "dense": ("#e0f2f4", "#2b7d89"),
        "merge": ("#f1f1f1", "#6a6a6a"),
        "recurrent": ("#f9e4ea", "#ad3f62"),
        "loss": ("#fbe6dd", "#bb5a2b"),
        "other": ("#f6f6f2", "#85857a"),
    }
)
STYLE = f"""
text {{ font-family: -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #24292f }}
.name {{ font-size: {TITLE:g}px; font-weight: 600 }}
.line {{ font-size: {LINE:g}px; fill: #57606a }}
.head {{ font-size: 19px; font-weight: 600 }}
.totals {{ font-size: 12px; fill: #57606a }}
.role {{ font-size: {LINE:g}px; font-weight: 600 }}
.edge {{ fill: none; stroke: #8c959f; stroke-width: 1.4 }}
.back {{ fill: none; stroke: #cf222e; stroke-width: 2.2; stroke-dasharray: 6 3 }}
.again {{ font-size: {LINE:g}px; font-weight: 600; fill: #cf222e }}
""" + "\n".join(
    f".{family} .box {{ fill: {fill}; stroke: {stroke}; stroke-width: 1.3 }} .{family} .bar {{ fill: {stroke} }} "
    f".{family} .role {{ fill: {stroke} }}"
    for family, (fill, stroke) in COLOURS.items()
)


def svg_of(facts: Facts) -> str:
    """Return the drawing as a document."""
    content, width, height = drawing_of(facts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}">\n<style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{_header(facts)}\n{content}\n</svg>\n'
    )


def drawing_of(facts: Facts) -> tuple[str, float, float]:
    """Return the elements of nodes and edges, and the size of a drawing that has room for a header above them."""
    sizes = {node.name: _size(node) for node in facts.nodes}
    layout = lay_out(sizes, {node.name: node.parents for node in facts.nodes})
    header = max(len(facts.name) * 19 * WIDEST, max(map(len, _totals(facts)), default=0) * 12 * WIDEST)
    back, room = _feedback(facts, layout)
    drawn = layout.width + room
    width = max(drawn, header) + 2 * MARGIN
    dx, dy = (width - drawn) / 2, MARGIN + HEAD
    elements = [
        f"<defs>{_marker('arrow', '#8c959f')}{_marker('again', '#cf222e')}</defs>",
        f'<g transform="translate({dx:.1f},{dy:.1f})">',
        *_edges(layout),
        *back,
        *(_node(node, layout.boxes[node.name]) for node in facts.nodes),
        "</g>",
    ]
    return "\n".join(elements), width, layout.height + dy + MARGIN


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.8 L7,4 L0,7.2 z" fill="{colour}"/></marker>'
    )


def _feedback(facts: Facts, layout: Layout) -> tuple[list[str], float]:
    """Return what is fed back in time as lines up the right side of all else, and the room that they take there."""
    elements: list[str] = []
    x = layout.width
    for one in facts.feedback:
        new, old = layout.boxes[one.new], layout.boxes[one.old]
        x += LEADING
        start, end = new.y + new.height / 2, old.y + old.height / 2
        path = (
            f"M{new.x + new.width / 2:.1f},{start:.1f} H{x - CORNER:.1f} Q{x:.1f},{start:.1f} {x:.1f},"
            f"{start - CORNER:.1f} V{end + CORNER:.1f} Q{x:.1f},{end:.1f} {x - CORNER:.1f},{end:.1f} "
            f"H{old.x + old.width / 2 + 2:.1f}"
        )
        elements.append(
            f'<path class="back" data-from={quoteattr(one.new)} data-to={quoteattr(one.old)} d="{path}" '
            'marker-end="url(#again)"/>'
        )
        elements.append(f'<text class="again" x="{x + 6:.1f}" y="{(start + end) / 2:.1f}">{escape(one.label)}</text>')
        x += 6 + len(one.label) * LINE * WIDEST
    return elements, x - layout.width


def _totals(facts: Facts) -> tuple[str, ...]:
    half = (len(facts.totals) + 1) // 2
    return " · ".join(facts.totals[:half]), " · ".join(facts.totals[half:])


def _header(facts: Facts) -> str:
    lines = [f'<text class="head" x="{MARGIN}" y="{MARGIN + 10}">{escape(facts.name)}</text>']
    lines += [
        f'<text class="totals" x="{MARGIN}" y="{MARGIN + 30 + 17 * i}">{escape(text)}</text>'
        for i, text in enumerate(_totals(facts))
    ]
    return "\n".join(lines)


def _size(node: NodeFacts) -> tuple[float, float]:
    title = len(node.title) * TITLE * WIDEST * 1.06  # it is bold
    if node.role in ROLES:
        title += len(ROLES[node.role]) * LINE * WIDEST + 14
    width = max(title, *(len(line) * LINE * WIDEST for line in node.lines), 90.0)
    return width + 2 * PADDING + 2 * CORNER, TITLE + LEADING * len(node.lines) + 2 * PADDING


def _node(node: NodeFacts, box: Box) -> str:
    left, right = box.x - box.width / 2, box.x + box.width / 2
    bottom = box.y + box.height
    x = left + PADDING + CORNER / 2
    parts = [
        f'<g class="node {node.family}" data-name={quoteattr(node.name)}>',
        f"<title>{escape(node.kind)} {escape(node.name)}</title>",
        f'<path class="box" d="{_outline(node.family, left, box.y, right, bottom)}"/>',
        f'<text class="name" x="{x:.1f}" y="{box.y + PADDING + TITLE - 2:.1f}">{escape(node.title)}</text>',
    ]
    if node.role in ROLES:
        parts.append(
            f'<text class="role" text-anchor="end" x="{right - PADDING - CORNER / 2:.1f}" '
            f'y="{box.y + PADDING + TITLE - 2:.1f}">{ROLES[node.role]}</text>'
        )
    for i, line in enumerate(node.lines, 1):
        y = box.y + PADDING + TITLE + LEADING * i - 2
        parts.append(f'<text class="line" x="{x:.1f}" y="{y:.1f}">{escape(line)}</text>')
    if node.share > 0:
        length = (box.width - 2 * CORNER) * node.share
        parts.append(
            f'<rect class="bar" x="{left + CORNER:.1f}" y="{bottom - BAR - 1.5:.1f}" width="{max(length, 1):.1f}" '
            f'height="{BAR:g}" rx="2"/>'
        )
    return "".join([*parts, "</g>"])


def _outline(family: Family, left: float, top: float, right: float, bottom: float) -> str:
    """Return the path of a node's form."""
    c, middle = CORNER, (top + bottom) / 2
    a, b = left + c, right - c
    points: dict[Family, list[Point]] = {
        "pooling": [(left, top), (right, top), (b, bottom), (a, bottom)],
        "upsampling": [(a, top), (b, top), (right, bottom), (left, bottom)],
        "merge": [(left, middle), (a, top), (b, top), (right, middle), (b, bottom), (a, bottom)],
        "dense": [
            *((a, top), (b, top), (right, top + c), (right, bottom - c)),
            *((b, bottom), (a, bottom), (left, bottom - c), (left, top + c)),
        ],
        "loss": [(left, top), (b, top), (right, top + c), (right, bottom), (a, bottom), (left, bottom - c)],
    }
    if family in points:
        return "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points[family]) + " z"
    radius = {"source": (bottom - top) / 2.6, "convolution": 4.0}.get(family, 9.0)
    outline = _rounded(left, top, right, bottom, radius)
    return outline + _rounded(left + 3, top + 3, right - 3, bottom - 3, 6.0) if family == "recurrent" else outline


def _rounded(left: float, top: float, right: float, bottom: float, r: float) -> str:
    arc = f"A{r:g},{r:g} 0 0 1"
    return (
        f"M{left + r:.1f},{top:.1f} H{right - r:.1f} {arc} {right:.1f},{top + r:.1f} V{bottom - r:.1f} "
        f"{arc} {right - r:.1f},{bottom:.1f} H{left + r:.1f} {arc} {left:.1f},{bottom - r:.1f} "
        f"V{top + r:.1f} {arc} {left + r:.1f},{top:.1f} z"
    )


def _edges(layout: Layout) -> list[str]:
    leaving = _ports(layout, 0)
    arriving = _ports(layout, 1)
    drawn = []
    for edge, points in layout.lines.items():
        (_, y0), *middle, (_, y1) = points
        path = _curve([(leaving[edge], y0), *middle, (arriving[edge], y1)])
        parent, child = edge
        drawn.append(
            f'<path class="edge" data-from={quoteattr(parent)} data-to={quoteattr(child)} d="{path}" '
            'marker-end="url(#arrow)"/>'
        )
    return drawn


def _ports(layout: Layout, end: int) -> dict[tuple[str, str], float]:
    """Return where each line leaves (0) or arrives at (1) a box: side by side, in the order of the other ends."""
    lines: dict[str, list[tuple[float, tuple[str, str]]]] = {}
    for edge, points in layout.lines.items():
        other = points[1][0] if end == 0 else points[-2][0]
        lines.setdefault(edge[end], []).append((other, edge))
    found = {}
    for name, those in lines.items():
        box = layout.boxes[name]
        room = min(box.width / 2 - CORNER, 18.0 * (len(those) - 1) / 2 + 1)
        for i, (_, edge) in enumerate(sorted(those)):
            share = 0.0 if len(those) == 1 else 2 * i / (len(those) - 1) - 1
            found[edge] = box.x + share * room
    return found


def _curve(points: list[Point]) -> str:
    """Return a path through points: straight where it goes down, in the shape of an S where it goes aside."""
    (x, y), *rest = points
    parts = [f"M{x:.1f},{y:.1f}"]
    for to_x, to_y in rest:
        if abs(to_x - x) < 0.5:
            parts.append(f"L{to_x:.1f},{to_y:.1f}")
        else:
            half = (y + to_y) / 2
            parts.append(f"C{x:.1f},{half:.1f} {to_x:.1f},{half:.1f} {to_x:.1f},{to_y:.1f}")
        x, y = to_x, to_y
    return " ".join(parts)

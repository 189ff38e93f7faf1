"""Where the boxes and lines of a layered drawing lie: parents above children, few crossings, straight long lines.

The steps are those of Sugiyama et al. (1981): layers, places within layers by barycentres, coordinates. For these,
links that don't cross are joined to straight columns, as by Brandes and Köpf (2001), which then move towards their
neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .plan import in_order

__all__ = ["Box", "Layout", "lay_out"]

Point = tuple[float, float]

GAP_X, GAP_Y = 36.0, 38.0
"""Between boxes of a layer, and between layers."""
LANE = 14.0
"""Width of a line on its way past a layer."""
ROUNDS = 24


@dataclass(frozen=True)
class Box:
    """A node's box: its middle, its upper edge, and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """A drawing.

    Attributes
    ----------
    boxes : dict of str to Box
        By node.
    lines : dict
        For each edge (parent, child) the points that it goes through, from the parent's lower edge to the child's upper
        edge: one where it leaves, two for each layer that it passes, one where it arrives.
    width, height : float
    """

    boxes: dict[str, Box]
    lines: dict[tuple[str, str], list[Point]]
    width: float
    height: float


def lay_out(sizes: Mapping[str, tuple[float, float]], parents: Mapping[str, Sequence[str]]) -> Layout:
    """Lay out a graph without cycles.

    Parameters
    ----------
    sizes : mapping of str to (width, height)
        Of the nodes, parents before children.
    parents : mapping of str to sequence of str
        Of each node; a parent that is named twice is one edge.

    Returns
    -------
    Layout
        The same for the same graph.
    """
    edges = [(parent, child) for child in sizes for parent in dict.fromkeys(parents.get(child, ()))]
    layer = _layers(list(sizes), edges)
    rows: list[list[_Cell]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    cells = {name: _Cell(name, *sizes[name]) for name in sizes}
    for name, cell in cells.items():
        rows[layer[name]].append(cell)
    paths = {}
    for parent, child in edges:
        path = [cells[parent]]
        for row in range(layer[parent] + 1, layer[child]):
            lane = _Cell("", LANE, 0.0)
            rows[row].append(lane)
            path.append(lane)
        path.append(cells[child])
        paths[parent, child] = path
        for above, below in pairwise(path):
            above.below.append(below)
            below.above.append(above)
    _order(rows)
    _place(rows)
    return _drawn(rows, cells, paths)


class _Cell:
    """A node, or the lane of an edge that passes a layer."""

    def __init__(self, name: str, width: float, height: float) -> None:
        self.name, self.width, self.height = name, width, height
        self.above: list[_Cell] = []
        self.below: list[_Cell] = []
        self.place = 0
        self.x = 0.0
        self.column: _Column


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: one below its lowest parent; those without parents right above their children."""
    parents: dict[str, list[str]] = {name: [] for name in names}
    children: dict[str, list[str]] = {name: [] for name in names}
    for parent, child in edges:
        parents[child].append(parent)
        children[parent].append(child)
    layer: dict[str, int] = {}
    for name in names:
        layer[name] = max((layer[parent] + 1 for parent in parents[name]), default=0)
    for name in reversed(names):
        if children[name] and len(parents[name]) < 2:  # lines get shorter by it, or stay as long
            least = min(layer[child] for child in children[name]) - 1
            if not parents[name] or len(children[name]) > 1 or _is_side(name, parents, children):
                layer[name] = least
    return layer


def _is_side(name: str, parents: Mapping[str, list[str]], children: Mapping[str, list[str]]) -> bool:
    """Return whether a node is on a way beside the main one: its only parent has other children."""
    return len(children[parents[name][0]]) > 1


def _order(rows: list[list[_Cell]]) -> None:
    """Give the cells of each row the order with the fewest crossings that was found."""
    for row in rows:
        _number(row)
    best, least = [list(row) for row in rows], _crossings(rows)
    for turn in range(ROUNDS):
        down = turn % 2 == 0
        for row in rows if down else reversed(rows):
            row.sort(key=lambda cell: _barycentre(cell, cell.above if down else cell.below))
            _number(row)
        found = _crossings(rows)
        if found < least:
            best, least = [list(row) for row in rows], found
    for row, order in zip(rows, best, strict=True):
        row[:] = order
        _number(row)


def _number(row: Sequence[_Cell]) -> None:
    for place, cell in enumerate(row):
        cell.place = place


def _barycentre(cell: _Cell, neighbours: Sequence[_Cell]) -> tuple[float, bool]:
    # Of two with the same one the node lies left of the line that passes it.
    middle = sum(n.place for n in neighbours) / len(neighbours) if neighbours else float(cell.place)
    return middle, not cell.name


def _crossings(rows: Sequence[Sequence[_Cell]]) -> int:
    total = 0
    for row in rows:
        ends = [below.place for cell in row for below in sorted(cell.below, key=lambda c: c.place)]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _place(rows: Sequence[Sequence[_Cell]]) -> None:
    """Set `x` of all cells: columns of cells that stand straight below each other, each near to its neighbours."""
    columns = _columns(rows)
    for row in rows:
        for left, right in pairwise(row):
            space = (left.width + right.width) / 2 + (GAP_X if left.name or right.name else LANE / 2)
            left.column.to_the_right.append((right.column, space))
            right.column.to_the_left.append((left.column, space))
    for column in columns:
        column.x = max((other.x + space for other, space in column.to_the_left), default=0.0)
    for turn in range(ROUNDS * 4):
        for column in columns if turn % 2 else reversed(columns):
            column.move()
    for column in columns:
        for cell in column.cells:
            cell.x = column.x


class _Column:
    """Cells of adjacent layers that have one `x`."""

    def __init__(self, first: _Cell) -> None:
        self.cells = [first]
        self.to_the_left: list[tuple[_Column, float]] = []
        self.to_the_right: list[tuple[_Column, float]] = []
        self.x = 0.0

    def move(self) -> None:
        """Go as near to the mean of the neighbours as the columns beside it allow."""
        near = [
            (_weight(cell, other), other.column.x)
            for cell in self.cells
            for other in (*cell.above, *cell.below)
            if other.column is not self
        ]
        if not near:
            return
        wanted = sum(weight * x for weight, x in near) / sum(weight for weight, _ in near)
        least = max((other.x + space for other, space in self.to_the_left), default=wanted)
        most = min((other.x - space for other, space in self.to_the_right), default=wanted)
        self.x = min(max(wanted, least), most) if least <= most else self.x


def _weight(cell: _Cell, other: _Cell) -> float:
    return 1.0 if cell.name and other.name else 0.5


def _columns(rows: Sequence[Sequence[_Cell]]) -> list[_Column]:
    """Join cells into columns, and return these from left to right.

    Links that don't cross any other one of a column can't contradict each other. A line past several layers is straight
    before all else, then the longest way through the network.
    """
    depth: dict[int, int] = {}
    for row in reversed(rows):
        for cell in row:
            depth[id(cell)] = 1 + max((depth[id(other)] for other in cell.below), default=0)
    height: dict[int, int] = {}
    for row in rows:
        for cell in row:
            height[id(cell)] = 1 + max((height[id(other)] for other in cell.above), default=0)
    for row in rows:
        for cell in row:
            cell.column = _Column(cell)
    for above, below in pairwise(rows):
        links = [(cell, other) for cell in above for other in cell.below]
        # Of a node's children the one counts that leads furthest, of its parents the one that comes from furthest.
        links.sort(
            key=lambda link: (
                bool(link[0].name or link[1].name),
                not (link[0].name and link[1].name),
                -depth[id(link[1])],
                -height[id(link[0])],
            )
        )
        taken: list[tuple[_Cell, _Cell]] = []
        for a, b in links:
            if all((a.place - c.place) * (b.place - d.place) > 0 for c, d in taken):
                taken.append((a, b))
                a.column.cells.append(b)
                b.column = a.column
        assert len({id(cell.column) for cell in below}) == len(below)
    return _from_left(rows)


def _from_left(rows: Sequence[Sequence[_Cell]]) -> list[_Column]:
    """Return the columns such that each comes after all that stand left of it in some row."""
    left_of: dict[int, list[int]] = {}
    by_id: dict[int, _Column] = {}
    for row in rows:
        for cell in row:
            by_id.setdefault(id(cell.column), cell.column)
            left_of.setdefault(id(cell.column), [])
        for left, right in pairwise(row):
            left_of[id(right.column)].append(id(left.column))
    return [by_id[key] for key in in_order(left_of, lambda key: left_of[key], lambda key: AssertionError(key))]


def _drawn(
    rows: Sequence[Sequence[_Cell]],
    cells: Mapping[str, _Cell],
    paths: Mapping[tuple[str, str], Sequence[_Cell]],
) -> Layout:
    left = min((cell.x - cell.width / 2 for row in rows for cell in row), default=0.0)
    tops: dict[int, tuple[float, float]] = {}
    y = 0.0
    for row in rows:
        height = max(cell.height for cell in row)
        for cell in row:
            tops[id(cell)] = (y, height)
        y += height + GAP_Y
    boxes = {}
    for name, cell in cells.items():
        top, height = tops[id(cell)]
        boxes[name] = Box(cell.x - left, top + (height - cell.height) / 2, cell.width, cell.height)
    lines = {}
    for (parent, child), path in paths.items():
        points = [(boxes[parent].x, boxes[parent].y + boxes[parent].height)]
        for lane in path[1:-1]:
            top, height = tops[id(lane)]
            points += [(lane.x - left, top), (lane.x - left, top + height)]
        lines[parent, child] = [*points, (boxes[child].x, boxes[child].y)]
    width = max((cell.x - left + cell.width / 2 for row in rows for cell in row), default=0.0)
    return Layout(boxes, lines, width, max(y - GAP_Y, 0.0))

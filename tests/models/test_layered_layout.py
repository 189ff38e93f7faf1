"""Layered drawings: nothing overlaps, all goes down, and what can be straight is."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.models.layered_layout import Box, Layout, lay_out


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, tuple[float, float]], dict[str, list[str]]]:
    """Draw a graph without cycles, parents first."""
    count = draw(st.integers(1, 24))
    names = [f"n{i}" for i in range(count)]
    size = st.tuples(st.floats(20, 200), st.floats(15, 90))
    sizes = {name: draw(size) for name in names}
    parents = {
        name: draw(st.lists(st.sampled_from(names[:i]), max_size=3)) if i else [] for i, name in enumerate(names)
    }
    return sizes, parents


def sides(box: Box) -> tuple[float, float, float, float]:
    return box.x - box.width / 2, box.y, box.x + box.width / 2, box.y + box.height


def chain(*names: str) -> dict[str, list[str]]:
    return {name: [before] for before, name in pairwise(names)}


@settings(deadline=None, max_examples=150)
@given(graphs())
def test_boxes_are_apart_and_lines_lead_down_between_them(graph: tuple) -> None:
    sizes, parents = graph
    layout = lay_out(sizes, parents)
    assert {name: (box.width, box.height) for name, box in layout.boxes.items()} == sizes
    for a, b in combinations(layout.boxes.values(), 2):
        (l, t, r, u), (l2, t2, r2, u2) = sides(a), sides(b)
        assert r <= l2 + 1e-6 or r2 <= l + 1e-6 or u <= t2 + 1e-6 or u2 <= t + 1e-6
    for box in layout.boxes.values():
        left, top, right, bottom = sides(box)
        assert min(left, top) >= -1e-6
        assert (right <= layout.width + 1e-6, bottom <= layout.height + 1e-6) == (True, True)
    assert set(layout.lines) == {(parent, child) for child, those in parents.items() for parent in those}
    for (parent, child), points in layout.lines.items():
        first, last = layout.boxes[parent], layout.boxes[child]
        assert points[0] == (first.x, first.y + first.height)
        assert points[-1] == (last.x, last.y)
        assert all(a[1] <= b[1] + 1e-6 for a, b in pairwise(points))
        for x, y in points[1:-1]:
            assert not any(left < x < right and top < y < bottom for left, top, right, bottom in boxes(layout))


def boxes(layout: Layout) -> list[tuple[float, float, float, float]]:
    return [sides(box) for box in layout.boxes.values()]


@settings(deadline=None, max_examples=20)
@given(graphs())
def test_the_same_graph_looks_the_same(graph: tuple) -> None:
    assert lay_out(*graph) == lay_out(*graph)


def test_a_ladder_is_straight_and_without_crossings() -> None:
    names = ["raw", "a", "b", "c", "d", "e", "f"]
    parents = chain(*names)
    parents["e"].append("b")
    parents["f"].append("a")
    layout = lay_out({name: (80.0 + 10 * i, 40.0) for i, name in enumerate(names)}, parents)
    assert len({layout.boxes[name].x for name in names}) == 1
    outer, inner = layout.lines["a", "f"], layout.lines["b", "e"]
    assert len({x for x, _ in outer[1:-1]}) == 1
    middle = layout.boxes["a"].x
    outside, inside = outer[1][0] - middle, inner[1][0] - middle
    assert (abs(outside) > abs(inside)) or outside * inside < 0


def test_a_source_lies_right_above_what_it_is_for() -> None:
    names = ["raw", "a", "b", "target", "loss"]
    parents = chain("raw", "a", "b", "loss")
    parents["loss"].append("target")
    layout = lay_out(dict.fromkeys(names, (50.0, 20.0)), parents)
    assert layout.boxes["target"].y == layout.boxes["b"].y


def test_nothing_is_drawn_of_nothing() -> None:
    assert lay_out({}, {}) == Layout({}, {}, 0.0, 0.0)

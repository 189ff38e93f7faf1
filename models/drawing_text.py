"""A network as text for a terminal: a line for each node, and rails beside it for what is kept for later."""

from __future__ import annotations

from .description import figure
from .drawing_facts import Facts, NodeFacts

__all__ = ["WIDTH", "text_of"]

WIDTH = 80
COLUMNS = (("shape", 17, "<"), ("params", 7, ">"), ("cost", 5, ">"), ("fov", 11, "<"), ("stride", 6, "<"))
"""Heads, widths and sides; the first column, which has the rails, takes what is left."""


def text_of(facts: Facts, width: int = WIDTH) -> str:
    """Return a drawing of at most `width` columns (80 at least), without a line break at its end.

    A node stands on the rail of its parent; a rail goes on as long as its value is needed, and bends into the node that
    needs it last. ``↺`` names the node whose value a node's replaces in the next step of a recurrent part.
    """
    width = max(width, WIDTH)
    rails = _rails(facts.nodes)
    first = width - sum(columns + 1 for _, columns, _ in COLUMNS)
    lines = [facts.name, *_wrapped(facts.totals, width), ""]
    lines.append(_row("node", [head for head, _, _ in COLUMNS], first))
    back = {one.new: f" ↺ {one.old}" for one in facts.feedback}
    for node, rail in zip(facts.nodes, rails, strict=True):
        lines.append(_row(f"{rail} {_label(node)}{back.get(node.name, '')}", _cells(node), first))
    return "\n".join(lines)


def _label(node: NodeFacts) -> str:
    kind = "" if node.name.rstrip("0123456789") == node.kind.lower() else f" {node.kind}"
    return node.name + kind + (f" ({node.role})" if node.role and node.role != node.name else "")


def _cells(node: NodeFacts) -> list[str]:
    d = node.description
    return [
        node.shape,
        figure(d.params).replace(" ", "") if d.params else "",
        "" if not d.cost else f"{100 * node.share:.0f} %" if node.share >= 0.005 else "<1 %",
        ",".join("?" if n < 0 else str(n) for n in d.fov),
        ",".join(f"{n:g}" for n in d.strides),
    ]


def _row(label: str, cells: list[str], first: int) -> str:
    texts = [_fitted(label, first, "<")]
    texts += [_fitted(cell, columns, side) for cell, (_, columns, side) in zip(cells, COLUMNS, strict=True)]
    return " ".join(texts).rstrip()


def _fitted(text: str, columns: int, side: str) -> str:
    return f"{text if len(text) <= columns else text[: columns - 1] + '…':{side}{columns}}"


def _wrapped(parts: tuple[str, ...], width: int) -> list[str]:
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _rails(nodes: tuple[NodeFacts, ...]) -> list[str]:
    """Return what stands before each node."""
    last_use = {parent: node.name for node in nodes for parent in node.parents}
    lanes: list[str] = []  # whose value is on each rail; empty where there is none
    drawn = []
    for node in nodes:
        parents = {lane for lane, name in enumerate(lanes) if name in node.parents}
        ending = {lane for lane in parents if last_use[lanes[lane]] == node.name}
        free = [lane for lane, name in enumerate(lanes) if not name]
        own = min(ending) if ending else free[0] if free else len(lanes)
        if own == len(lanes):
            lanes.append("")
        ends = [*parents, own]
        drawn.append(
            "".join(
                _sign(lane, name, own, parents, ending, min(ends), max(ends)) for lane, name in enumerate(lanes)
            ).rstrip()
        )
        for lane in ending:
            lanes[lane] = ""
        lanes[own] = node.name if node.name in last_use else ""
        while lanes and not lanes[-1]:
            lanes.pop()
    return drawn


def _sign(lane: int, name: str, own: int, parents: set[int], ending: set[int], first: int, last: int) -> str:
    """Return what is drawn on a rail, and to the right of it, beside a node that stands on the rail `own`."""
    line = "─" if first <= lane < last else " "
    if lane == own:
        return "●" + line
    if lane in parents:
        left, middle, right = ("╰", "┴", "╯") if lane in ending else ("├", "┼", "┤")
        return (left if lane == first else right if lane == last else middle) + line
    if name:
        return "│" + line
    return (" " if line == " " else "─") + line

"""The graph pane: the network's nodes with their shapes, fields of view, strides, parameters and costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from elektronn_tui.session.protocol import NodeInfo

from ..state import Part, SessionState
from ..wording import count, size
from .pane import Pane
from .rows import Column, Row, RowsView

__all__ = ["GraphPane", "GraphView", "tree_order"]

COLUMNS = (
    Column("node", grow=True),
    Column("kind", rank=6),
    Column("shape", rank=1),
    Column("fov", rank=4),
    Column("stride", rank=5),
    Column("params", align="right", rank=3),
    Column("cost", align="right", rank=2),
)


def tree_order(nodes: Sequence[NodeInfo]) -> list[tuple[NodeInfo, int, bool]]:
    """Order a network as a tree that stays narrow.

    A chain of nodes keeps its depth; only where a node feeds several others do these lie one deeper. A node with
    several parents hangs below the last of them in the network's order.

    Returns
    -------
    list of (node, depth, has_children)
        Parents before their children.
    """
    known = {node.name for node in nodes}
    children: dict[str, list[NodeInfo]] = {}
    roots: list[NodeInfo] = []
    for node in nodes:
        parents = [parent for parent in node.parents if parent in known]
        if parents:
            children.setdefault(parents[-1], []).append(node)
        else:
            roots.append(node)
    ordered: list[tuple[NodeInfo, int, bool]] = []
    waiting = [(root, 0) for root in reversed(roots)]
    while waiting:
        node, depth = waiting.pop()
        below = children.get(node.name, [])
        ordered.append((node, depth, bool(below)))
        step = 1 if len(below) > 1 or depth == 0 else 0
        waiting.extend((child, depth + step) for child in reversed(below))
    return ordered


class GraphView(RowsView):
    """The list of nodes, with branches that fold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "fold(True)", "fold", show=False),
        Binding("right", "fold(False)", "unfold", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(COLUMNS, empty="no network yet", id="graph-rows")
        self._network: tuple[NodeInfo, ...] = ()
        self._folded: set[str] = set()
        self._wanted = ""

    def show(self, nodes: tuple[NodeInfo, ...], wanted: str = "") -> None:
        """Show a network, or the part of it whose names or kinds contain `wanted`."""
        self._network, self._wanted = nodes, wanted.lower()
        self._draw()

    def action_fold(self, folded: bool) -> None:
        """Fold or unfold what hangs below the node under the cursor."""
        key = self.cursor_key
        if key is not None:
            (self._folded.add if folded else self._folded.discard)(key)
            self._draw()

    def action_choose(self) -> None:
        """Fold or unfold."""
        key = self.cursor_key
        self.action_fold(key not in self._folded)

    def _draw(self) -> None:
        total = sum(node.cost for node in self._network)
        rows = []
        hidden_below = -1
        for node, depth, has_children in tree_order(self._network):
            if 0 <= hidden_below < depth:
                continue
            hidden_below = -1
            if self._wanted and self._wanted not in f"{node.name} {node.kind}".lower():
                continue
            sign = "  "
            if has_children:
                sign = "▸ " if node.name in self._folded else "▾ "
                if node.name in self._folded:
                    hidden_below = depth
            rows.append(_row(node, "  " * depth + sign, total))
        self.set_rows(rows)


def _row(node: NodeInfo, lead: str, total: float) -> Row:
    shape = "×".join("?" if length is None else str(length) for length in node.shape)
    strides = ",".join(map(str, node.strides)) if any(stride != 1 for stride in node.strides) else ""
    name: tuple[tuple[str, str], ...] = ((lead, "dim"), (node.name, "strong" if node.role else ""))
    if node.role and node.role != node.name:
        name += ((f" {node.role}", "accent"),)
    percent = 100 * node.cost / total if total else 0.0
    return Row(
        node.name,
        (
            name,
            ((node.kind, "dim"),),
            shape,
            ((_fov(node.fov), "dim"),),
            ((strides, "dim"),),
            ((size(node.params) if node.params else "", "dim"),),
            f"{percent:.0f} %" if percent >= 0.5 else "",
        ),
    )


def _fov(fov: tuple[int, ...]) -> str:
    """Return a field of view; nothing for a single voxel, or where branches make it differ from voxel to voxel."""
    return ",".join(map(str, fov)) if all(extent > 0 for extent in fov) and any(extent > 1 for extent in fov) else ""


class GraphPane(Pane):
    """The network as a tree."""

    DEFAULT_CSS = """
    GraphPane #graph-detail { height: auto; max-height: 3; color: $text-muted; display: none; }
    GraphPane.-detailed #graph-detail { display: block; }
    """
    pane_name = "graph"
    number = 5
    parts: ClassVar[frozenset[Part]] = frozenset(("graph",))

    def content(self) -> Iterable[Widget]:
        """Give the list of nodes and the lines on the node under the cursor."""
        yield GraphView()
        yield Static(id="graph-detail", markup=False)

    def owner(self) -> Widget | None:
        """Give the list."""
        return self.query_one(GraphView)

    def take(self, state: SessionState, parts: frozenset[Part]) -> None:
        """Show the network."""
        if "graph" in parts:
            view = self.query_one(GraphView)
            view.set_empty("no network yet" if state.live else "see the run's experiment.py")
            view.show(state.graph, self.filter_text)
            params = sum(node.params for node in state.graph)
            self.set_title(f"{len(state.graph)} nodes, {count(params)} parameters" if state.graph else "")
            self._describe()

    def apply_filter(self, text: str) -> None:
        """Show the nodes whose names or kinds contain a text."""
        self.query_one(GraphView).show(self.state.graph, text)

    def on_rows_view_moved(self, message: RowsView.Moved) -> None:
        """Describe the node under the cursor."""
        message.stop()
        self._describe()

    def on_descendant_focus(self) -> None:
        """Describe the node under the cursor while the pane is in use."""
        self.set_class(True, "-detailed")
        self._describe()

    def on_descendant_blur(self) -> None:
        """Give the lines back to the list."""
        self.set_class(False, "-detailed")

    def _describe(self) -> None:
        key = self.query_one(GraphView).cursor_key
        node = next((node for node in self.state.graph if node.name == key), None)
        if node is None:
            return
        facts = [node.kind]
        if node.parents:
            facts.append("of " + ", ".join(node.parents))
        if node.tags:
            facts.append(f"axes {node.tags}")
        if _fov(node.fov):
            facts.append(f"fov {_fov(node.fov)}")
        if any(node.offsets):
            facts.append(f"offset {','.join(map(str, node.offsets))}")
        if node.params:
            facts.append(f"{count(node.params)} parameters")
        if node.detail:
            facts.append(node.detail)
        self.query_one("#graph-detail", Static).update("   ".join(facts))

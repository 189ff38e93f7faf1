"""The order in which a graph is computed, worked out once and then only walked."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from elektronn_tui.errors import ModelError, ShapeError, did_you_mean

from .shape import TaggedShape

if TYPE_CHECKING:
    from .node import Node

__all__ = ["Plan", "fitting_input_sizes", "in_order", "infer_shapes", "walk"]

Item = TypeVar("Item")


def walk(nodes: Iterable[Node], given: Container[Node] = ()) -> list[Node]:
    """Return `nodes` and all their ancestors, each once, parents before children; not those of `given` nodes.

    Raises
    ------
    ModelError
        If a node is its own ancestor.
    """

    def parents(node: Node) -> Sequence[Node]:
        return () if node in given else node.parents

    def cycle(node: Node) -> ModelError:
        return ModelError(
            f"The graph has a cycle through {node.name!r}: no node can be its own ancestor. Parents are given to "
            "the constructor and stay; Scan makes recurrent networks."
        )

    return in_order(nodes, parents, cycle)


def in_order(
    wanted: Iterable[Item], needs: Callable[[Item], Sequence[Item]], cycle: Callable[[Item], Exception]
) -> list[Item]:
    """Return `wanted` and all that they need, each once, behind what it needs itself.

    Parameters
    ----------
    wanted : iterable of hashable
    needs : callable
        Returns what an item needs.
    cycle : callable
        Makes the exception to raise for an item that needs itself by some way.
    """
    order: dict[Item, None] = {}
    open_: set[Item] = set()
    stack = [(item, False) for item in reversed(list(wanted))]
    while stack:
        item, expanded = stack.pop()
        if item in order:
            continue
        if expanded:
            order[item] = None
        elif item in open_:
            raise cycle(item)
        else:
            open_.add(item)
            stack.append((item, True))
            stack.extend((other, False) for other in reversed(needs(item)) if other not in order)
    return list(order)


def infer_shapes(nodes: Sequence[Node], given: Mapping[Node, TaggedShape]) -> dict[Node, TaggedShape]:
    """Return the shape of each of `nodes` (in the order of `walk`) when some inputs have other sizes.

    Raises
    ------
    ShapeError
        By the first node that the sizes don't fit.
    """
    shapes: dict[Node, TaggedShape] = {}
    for node in nodes:
        if node in given:
            shapes[node] = given[node]
        elif not node.parents:
            shapes[node] = node.shape
        else:
            shapes[node] = node.infer_shape(*(shapes[parent] for parent in node.parents))
    return shapes


class Plan:
    """How to compute some nodes from their inputs: operations in order, with the slots that they use.

    Parameters
    ----------
    wanted : sequence of Node
        The nodes whose values are returned, in this order.
    given : sequence of Node
        Nodes whose values are fed in instead of being computed; `run` takes them behind the sources.

    Attributes
    ----------
    inputs : list of Node
        The sources that are needed, in order of discovery, then the given nodes: the order of `run`'s arguments.
    """

    def __init__(self, wanted: Sequence[Node], given: Sequence[Node] = ()) -> None:
        self.nodes = walk(wanted, given)
        self.inputs = [node for node in self.nodes if node.is_source and node not in given]
        self.inputs += given
        self._computed = [node for node in self.nodes if not node.is_source and node not in given]
        slot = {node: i for i, node in enumerate([*self.inputs, *self._computed])}
        self._wanted = [slot[node] for node in wanted]
        last_use: dict[int, Node] = {slot[parent]: node for node in self._computed for parent in node.parents}
        keep = {*self._wanted, *range(len(self.inputs))}
        self._steps: list[tuple[torch.nn.Module, tuple[int, ...], tuple[int, ...]]] = []
        for node in self._computed:
            arguments = tuple(slot[parent] for parent in node.parents)
            dead = tuple(i for i in sorted({*arguments} - keep) if last_use[i] is node)
            self._steps.append((node.operation, arguments, dead))
        self._checked: set[tuple[torch.Size, ...]] = set()

    def run(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Compute the wanted nodes; intermediate values are let go after their last use.

        Raises
        ------
        ShapeError
            If the sizes of the inputs don't fit the network.
        """
        sizes = tuple(x.shape if isinstance(x, torch.Tensor) else torch.Size() for x in inputs)  # or any object
        if sizes not in self._checked:
            self.check(sizes)
        values: list[Any] = list(inputs)
        append = values.append
        try:
            for operation, arguments, dead in self._steps:
                if len(arguments) == 1:
                    append(operation(values[arguments[0]]))
                else:
                    append(operation(*[values[i] for i in arguments]))
                for i in dead:
                    values[i] = None
        except RuntimeError as error:
            node = self._computed[len(values) - len(inputs)]
            error.add_note(f"This happened in {node.title} of {', '.join(p.name for p in node.parents)}.")
            raise
        return [values[i] for i in self._wanted]

    def check(self, sizes: tuple[torch.Size, ...]) -> None:
        """Check once that arrays of these sizes go through; batch and spatial sizes may differ from the declared.

        Raises
        ------
        ShapeError
            Naming input, axis and what would fit.
        """
        given = {
            node: node.fitted_shape(size) if node.is_source else _resized(node, size)
            for node, size in zip(self.inputs, sizes, strict=True)
        }
        infer_shapes(self.nodes, given)
        self._checked.add(sizes)

    def collect(self, feeds: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Pick the inputs from `feeds`, which is keyed by the names of the input nodes.

        Raises
        ------
        ModelError
            If one is missing.
        """
        try:
            return [feeds[node.name] for node in self.inputs]
        except KeyError as error:
            name = str(error.args[0])
            have = ", ".join(feeds) or "nothing"
            raise ModelError(
                f"The input {name!r} is missing among what was given: {have}.{did_you_mean(name, feeds)}"
            ) from None


def _resized(node: Node, size: Sequence[int]) -> TaggedShape:
    """Return the shape of a node that is no source for a value of this size."""
    if len(size) != len(node.shape):
        raise ShapeError(f"{node.title} has the axes {node.shape.text}; a value of shape {tuple(size)} doesn't fit.")
    shape = node.shape
    for i, n in enumerate(size):
        shape = shape.updateshape(i, n)
    return shape


def fitting_input_sizes(node: Node, axis: str, reach: int = 64) -> tuple[Node, list[int]] | None:
    """Return the one source of `node` and its nearest sizes on `axis` (below, above) for which shapes fit.

    None if the node has several sources or none of those sizes fits.
    """
    nodes = walk([node])
    sources = [n for n in nodes if n.is_source]
    if len(sources) != 1 or not sources[0].shape.hastag(axis) or sources[0].shape[axis] is None:
        return None
    source = sources[0]
    size: int = source.shape[axis]
    found = []
    for sign in (-1, 1):
        for distance in range(1, reach + 1):
            candidate = size + sign * distance
            if candidate < 1:
                break
            try:
                infer_shapes(nodes, {source: source.shape.updateshape(axis, candidate)})
            except ShapeError as error:
                # Axes are checked one after the other: a complaint about another one means that this one fits.
                if error.axis in (axis, None):
                    continue
            found.append(candidate)
            break
    return (source, found) if found else None

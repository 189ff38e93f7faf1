"""Names of nodes, and what they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from elektronn_tui.errors import ModelError, did_you_mean

from .inputs import Input
from .node import Node
from .plan import walk

__all__ = ["find_node", "node_list", "of_kind", "unique_names"]


def find_node(role: str, value: Any, given: Iterable[Node]) -> Any:
    """Return the node that a role's value means: itself, or the one of that name among all that `given` need.

    Raises
    ------
    ModelError
        If none or more than one has the name.
    """
    if not isinstance(value, str):
        return value
    nodes = walk(given)
    found = [node for node in nodes if node.name == value]
    if len(found) > 1:
        raise ModelError(f"{role}: {len(found)} nodes are called {value!r}; give the node itself.")
    if not found:
        names = [node.name for node in nodes]
        raise ModelError(f"{role}: none of the nodes is called {value!r}.{did_you_mean(value, names)}")
    return found[0]


def node_list(role: str, nodes: Sequence[Node] | None) -> list[Node]:
    """Return the nodes of a role that takes a list of them."""
    if nodes is None:
        return []
    if not isinstance(nodes, list | tuple) or not all(isinstance(node, Node) for node in nodes):
        raise ModelError(f"{role} must be a list of nodes, not {nodes!r}.")
    return [of_kind(role, node, Node) for node in nodes]


def of_kind(role: str, node: Any, kind: type[Node]) -> Node:
    """Return the node of a role that takes one of this class with one value."""
    if not isinstance(node, kind):
        what = node.title if isinstance(node, Node) else repr(node)
        raise ModelError(f"{role} must be one {'Input' if kind is Input else 'node'}, not {what}.")
    if node.several:
        raise ModelError(f"{role} must have one value, but {node.title} has several; take one of its outputs.")
    return node


def unique_names(nodes: Sequence[Node]) -> dict[str, Node]:
    """Give unique names: first to nodes that another model has named, then to those named by hand, then to the rest."""
    taken: set[str] = set()
    for node in nodes:
        if node.__dict__.get("_final_name"):
            if node.name in taken:
                raise ModelError(f"Two models have each a node {node.name!r}: join their networks before naming.")
            taken.add(node.name)
    for explicit in (True, False):
        for node in nodes:
            if node.__dict__.get("_final_name") or ("name" in node.arguments) is not explicit:
                continue
            node.name = _free_name(node.name, taken)
            taken.add(node.name)
    for node in nodes:
        node._final_name = True
    return {node.name: node for node in nodes}


def _free_name(wanted: str, taken: set[str]) -> str:
    if wanted not in taken:
        return wanted
    match = re.fullmatch(r"(.*?)(\d*)", wanted, re.DOTALL)
    assert match is not None
    stem, number = match[1], int(match[2] or 0)
    while f"{stem}{number + 1}" in taken:
        number += 1
    return f"{stem}{number + 1}"

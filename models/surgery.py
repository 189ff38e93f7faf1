"""Cuts in the graph of a model: a source in the place of a node."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from elektronn_tui.errors import ModelError, did_you_mean

from .declared import checked
from .graph import FOREIGN, Graph, NodeRecord, graph_of, references, tensors_of
from .model_from_graph import Foreign, make_model
from .node import Node
from .shape import TaggedShape

if TYPE_CHECKING:
    from .model import Model

__all__ = ["rebuild_decoder", "replace_with_input"]


@checked
def replace_with_input(
    model: Model, node: Node | str, name: str | None = None, *, child: Node | str | None = None
) -> Model:
    """Return a model in which a source stands in place of a node, so that its values are fed in.

    Parameters
    ----------
    model : Model
    node : Node or str
        The node or its name. What only it needed is left out of the new model.
    name : str, optional
        Of the new source; default ``<node>_input``.
    child : Node or str, optional
        Replace it for this child only, not for all that use it.

    Returns
    -------
    Model
        With the same roles, but those whose nodes are gone. The new source is its `input_node` if the old one isn't
        needed any more.

    Raises
    ------
    ModelError
        If there is no such node or child, or it is a source already.
    """
    node = _member(model, node)
    if node.is_source:
        raise ModelError(f"{node.title} is a source already.")
    child = None if child is None else _member(model, child)
    if child is not None and node not in child.parents:
        raise ModelError(
            f"{child.title} doesn't use {node.title}, but {', '.join(p.name for p in child.parents) or 'nothing'}."
        )
    graph = graph_of(model)
    name = free_name(graph, name or f"{node.name}_input")
    geometry = node.shape
    record = NodeRecord("Input", name, {"dtype": node.dtype, "shape": None}, {})
    record.arguments |= geometry_arguments(geometry) | {"shape": list(geometry.shape)}
    for other in graph.nodes:
        if child is None or other.name == child.name:
            other.arguments = redirected(other.arguments, node.name, name)
    graph.nodes.insert(0, record)
    return _reduced(model, graph, name, node.name)


@checked
def rebuild_decoder(
    model: Model, state_name: str, state_child_name: str | None = None, name: str = "state_input"
) -> Model:
    """Return the part of a model that computes the prediction from a latent state, as of an auto-encoder.

    Parameters
    ----------
    model : Model
    state_name : str
        The node whose values will be fed in.
    state_child_name : str, optional
        The first node of the decoder, if others use the state as well.
    name : str
        Of the new source.

    Returns
    -------
    Model
        With an `input_node` and a `prediction_node` only.

    Raises
    ------
    ModelError
        If the prediction needs other sources, too, or there are no such nodes.
    """
    from .model import Model

    replaced = replace_with_input(model, state_name, name, child=state_child_name)
    prediction = replaced.prediction_node
    if others := [node.name for node in prediction.input_nodes if node.name != name]:
        raise ModelError(
            f"The prediction {prediction.title} can't be computed from {state_name!r} alone: it needs "
            f"{', '.join(others)} as well."
        )
    return like(model, Model(replaced[name], prediction_node=prediction, name=model.name, scaling=None))


def _reduced(model: Model, graph: Graph, source: str, replaced: str) -> Model:
    """Make the model without what no role needs; roles that would bring back the replaced part are dropped."""
    records = {record.name: record for record in graph.nodes}
    prediction = graph.roles["prediction_node"]
    if prediction == replaced:
        raise ModelError(f"{replaced!r} is the prediction itself: nothing would be left.")
    behind = _needed(records, [prediction])
    if source not in behind:
        raise ModelError(f"The prediction {prediction!r} doesn't depend on {replaced!r}.")
    singles = [graph.roles[role] for role in ("loss_node", "error_node") if role in graph.roles]
    needed = behind | _needed(records, [*singles, *itertools.chain(*graph.role_lists.values())])
    if graph.roles["input_node"] not in behind:
        graph.roles["input_node"] = source
    if graph.roles.get("target_node") not in needed:
        graph.roles.pop("target_node", None)
    graph.nodes = [record for record in graph.nodes if record.name in needed]
    tensors = _inherited(graph, tensors_of(model), needed)
    foreign = foreign_of(model)
    foreign = Foreign(
        {k: v for k, v in foreign.functions.items() if k in needed},
        {k: v for k, v in foreign.modules.items() if k in needed},
    )
    return like(model, make_model(graph, tensors, foreign, scaling=model.scaling, allow_nan=True))


def _inherited(graph: Graph, tensors: Mapping[str, torch.Tensor], needed: set[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of the nodes that stay; of a tensor whose owner goes the next node that has it is owner."""
    result = {key: tensor for key, tensor in tensors.items() if key.partition(".")[0] in needed}
    result |= {key: tensors[owner] for key, owner in graph.aliases.items() if key.partition(".")[0] in needed}
    heirs: dict[tuple[str, str], list[str]] = {}
    for record in graph.nodes:
        for key, value in record.arguments.items():
            if not isinstance(value, dict) or "$shared" not in value or value["$shared"][0] in needed:
                continue
            owner = (value["$shared"][0], value["$shared"][1])
            if owner in heirs:
                record.arguments[key] = {"$shared": heirs[owner]}
            else:
                heirs[owner] = [record.name, key]
                record.arguments[key] = {"$given": "trainable"}
                result[f"{record.name}.{key}"] = tensors[".".join(owner)]
    graph.aliases = {}
    return result


def _needed(records: Mapping[str, NodeRecord], names: Iterable[str]) -> set[str]:
    """Return nodes and all whose values they need, by name."""
    needed: set[str] = set()
    stack = list(names)
    while stack:
        if (current := stack.pop()) not in needed:
            needed.add(current)
            stack.extend(references(records[current].arguments, shared=False))
    return needed


def like(model: Model, result: Model) -> Model:
    """Return `result` on the device and in the mode of `model`, with its extras."""
    result.extra = dict(model.extra)
    result.to(model.device)
    return result.train(model.module.training)


def foreign_of(model: Model) -> Foreign:
    """Return the functions and copies of the modules that the nodes of a model were made with."""
    given: dict[str, dict[str, Any]] = {"functions": {}, "modules": {}}
    for node in model.nodes.values():
        for key, (_, keyword) in FOREIGN.items():
            if key in node.arguments:
                given[keyword][node.name] = node.arguments[key]
    # The new model's modules are its own, but two nodes that share one go on sharing.
    return Foreign(given["functions"], copy.deepcopy(given["modules"]))


def _member(model: Model, node: Node | str) -> Node:
    if isinstance(node, str):
        if node not in model.nodes:
            raise ModelError(f"There is no node {node!r} in model {model.name!r}.{did_you_mean(node, model.nodes)}")
        return model.nodes[node]
    if not isinstance(node, Node):
        raise ModelError(f"A node of model {model.name!r} must be given, or its name, not {node!r}.")
    if model.nodes.get(node.name) is not node:
        raise ModelError(f"{node.title} is not in model {model.name!r}.")
    return node


def free_name(graph: Graph, wanted: str) -> str:
    """Return a name that no node of the graph has."""
    taken = {record.name for record in graph.nodes}
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}{number}"
    return name


def redirected(value: Any, old: str, new: str) -> Any:
    """Return encoded arguments with references to one node replaced by references to another."""
    if isinstance(value, dict):
        if value == {"$node": old}:
            return {"$node": new}
        return value if "$shared" in value else {key: redirected(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [redirected(item, old, new) for item in value]
    return value


def geometry_arguments(shape: TaggedShape) -> dict[str, Any]:
    """Return the arguments of an `Input` that has the geometry of this shape."""
    return {
        "tags": list(shape.tags),
        "strides": list(shape.strides),
        "fov": list(shape.fov),
        "centre": [None if math.isnan(c) else c for c in shape.centre],
    }

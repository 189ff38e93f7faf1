"""A model as plain values: the constructor calls of its nodes and their roles."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError, did_you_mean

from .node import Node
from .plan import in_order
from .shape import TaggedShape

if TYPE_CHECKING:
    from .model import Model

__all__ = [
    "FOREIGN",
    "ROLES",
    "ROLE_LISTS",
    "Graph",
    "NodeRecord",
    "graph_of",
    "node_classes",
    "ordered_records",
    "references",
    "stored_tensors",
    "tensors_of",
]

ROLES = ("input_node", "target_node", "loss_node", "prediction_node", "error_node")
ROLE_LISTS = ("prediction_ext", "debug_outputs")
FOREIGN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"functor": ("$function", "functions"), "torch_module": ("$module", "modules")}
)
"""Arguments that hold code of other people: the tag that stands for them, and the keyword that brings them back."""


@functools.cache
def node_classes() -> Mapping[str, type[Node]]:
    """Return the only classes that a model file can name: the nodes that this package gives, by name."""
    from elektronn_tui import models

    public = {name: getattr(models, name) for name in models.__all__}
    return MappingProxyType(
        {
            name: value
            for name, value in public.items()
            if isinstance(value, type) and issubclass(value, Node) and value.__name__ == name and value is not Node
        }
    )


class NodeRecord(msgspec.Struct):
    """The constructor's call of a node, and what was changed since.

    Attributes
    ----------
    kind : str
        Name of the class.
    name : str
    arguments : dict
        Plain values; objects are dictionaries with one tag, as ``{"$node": "conv"}``.
    variables : dict
        Live values.
    frozen : list of str
        Parameters that are not trained although the constructor would train them.
    feature_names : list of str or None
    """

    kind: str = msgspec.field(name="class")
    name: str
    arguments: dict[str, Any]
    variables: dict[str, Any]
    frozen: list[str] = []
    feature_names: list[str] | None = None


class Graph(msgspec.Struct):
    """All nodes of a model, parents before children, and their roles.

    Attributes
    ----------
    name : str
    nodes : list of NodeRecord
    roles, role_lists : dict
        Names of nodes.
    aliases : dict
        Tensors that are the same as another one, ``<node>.<parameter>`` to ``<node>.<parameter>``.
    """

    name: str
    nodes: list[NodeRecord]
    roles: dict[str, str]
    role_lists: dict[str, list[str]]
    aliases: dict[str, str] = {}

    def record(self, name: str) -> NodeRecord:
        """Return the record of a node."""
        for record in self.nodes:
            if record.name == name:
                return record
        raise ModelError(
            f"There is no node {name!r} in model {self.name!r}.{did_you_mean(name, [r.name for r in self.nodes])}"
        )


def graph_of(model: Model) -> Graph:
    """Return a model as plain values.

    Raises
    ------
    ModelError
        If a node can't be described: it is of a foreign class, or has an argument that is no plain value.
    """
    owners = _owners(model)
    records = {node.name: _record(node, owners) for node in model.nodes.values()}
    return Graph(
        name=model.name,
        nodes=ordered_records(records),
        roles={role: getattr(model, role).name for role in ROLES if getattr(model, role) is not None},
        role_lists={role: [node.name for node in getattr(model, role)] for role in ROLE_LISTS},
        aliases={
            f"{node.name}.{key}": ".".join(owners[id(tensor)])
            for node, key, tensor in stored_tensors(model)
            if owners[id(tensor)] != (node.name, key)
        },
    )


def tensors_of(model: Model) -> dict[str, torch.Tensor]:
    """Return all tensors of a model, each once, keyed ``<node>.<parameter>``."""
    owners = _owners(model)
    return {
        f"{node.name}.{key}": tensor
        for node, key, tensor in stored_tensors(model)
        if owners[id(tensor)] == (node.name, key)
    }


def ordered_records(
    records: Mapping[str, NodeRecord], also: Mapping[str, Sequence[str]] | None = None
) -> list[NodeRecord]:
    """Return records such that whatever one refers to comes before it.

    Parameters
    ----------
    records : mapping of str to NodeRecord
        By name.
    also : mapping, optional
        More nodes that must come before a node, by name.

    Raises
    ------
    ModelError
        If a reference leads nowhere, or in a circle.
    """

    def needs(name: str) -> list[str]:
        others = [*references(records[name].arguments), *(also or {}).get(name, ())]
        for other in others:
            if other not in records:
                raise ModelError(f"Node {name!r} refers to {other!r}, which isn't there.{did_you_mean(other, records)}")
        return others

    def cycle(name: str) -> ModelError:
        return ModelError(f"The graph has a cycle through node {name!r}: no node can be its own ancestor.")

    return [records[name] for name in in_order(records, needs, cycle)]


def references(value: Any, shared: bool = True) -> Iterator[str]:
    """Yield the names of the nodes that encoded arguments refer to, or of those whose values they take only."""
    if isinstance(value, dict):
        if "$node" in value:
            yield str(value["$node"])
        elif "$shared" in value:
            owner = value["$shared"]
            if shared:
                yield str(owner[0] if isinstance(owner, list) and owner else owner)
        else:
            for item in value.values():
                yield from references(item, shared)
    elif isinstance(value, list):
        for item in value:
            yield from references(item, shared)


def stored_tensors(model: Model) -> Iterator[tuple[Node, str, torch.Tensor]]:
    """Yield node, key and tensor of all parameters and buffers, but for those that another node has given."""
    for node in model.nodes.values():
        shared = node.shared_params
        for key, tensor in node.operation.state_dict(keep_vars=True).items():
            if isinstance(tensor, torch.Tensor) and key not in shared:
                yield node, key, tensor


def _owners(model: Model) -> dict[int, tuple[str, str]]:
    owners: dict[int, tuple[str, str]] = {}
    for node, key, tensor in stored_tensors(model):
        owners.setdefault(id(tensor), (node.name, key))
    return owners


def _record(node: Node, owners: Mapping[int, tuple[str, str]]) -> NodeRecord:
    kind = type(node).__name__
    if node_classes().get(kind) is not type(node):
        raise ModelError(f"{node.title} can't be stored: {kind} is none of {', '.join(node_classes())}.")
    state = node.operation.state_dict(keep_vars=True)
    arguments = {}
    for key, value in node.arguments.items():
        if key in ("name", "print_repr"):  # loading is no news: nodes are not announced in the log again
            continue
        if key in FOREIGN:
            arguments[key] = {FOREIGN[key][0]: _qualified_name(value)}
        elif key in state:
            arguments[key] = _encode_parameter(node, key, value, owners)
        else:
            arguments[key] = _encode(node, key, value, owners)
    frozen = [key for key, tensor in state.items() if isinstance(tensor, nn.Parameter) and not tensor.requires_grad]
    names = node.__dict__.get("_feature_names")
    return NodeRecord(
        kind=kind,
        name=node.name,
        arguments=arguments,
        variables={key: variable.value for key, variable in node.variables.items()},
        frozen=frozen,
        feature_names=None if names is None else list(names),
    )


def _qualified_name(value: Any) -> str:
    what = type(value) if isinstance(value, nn.Module) else value
    module, name = getattr(what, "__module__", None), getattr(what, "__name__", None)
    if name is None:
        return type(value).__qualname__
    if module is not None and getattr(sys.modules.get(module), name, None) is what:
        return f"{module}.{name}"
    return str(getattr(what, "__qualname__", name))


def _encode_parameter(node: Node, key: str, value: Any, owners: Mapping[int, tuple[str, str]]) -> Any:
    """Return how a parameter was given, without its values: these are among the tensors."""
    if value is None or isinstance(value, nn.Parameter | Node | bool | int | float | str):
        return _encode(node, key, value, owners)
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], str):
        return {"$given": value[1]}
    return {"$given": None}


def _encode(node: Node, key: str, value: Any, owners: Mapping[int, tuple[str, str]]) -> Any:
    def encode(item: Any) -> Any:
        return _encode(node, key, item, owners)

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Node):
        return {"$node": value.name}
    if isinstance(value, nn.Parameter):
        owner = owners.get(id(value))
        if owner is None:
            raise ModelError(f"{node.title}: {key} is shared with a node that is not in this model.")
        return {"$shared": list(owner)}
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"$array": [str(value.dtype), list(value.shape), value.reshape(-1).tolist()]}
    if isinstance(value, TaggedShape):
        centre = [None if c != c else c for c in value.centre]  # not a number: unknown
        geometry = [list(value.strides), value.mfp_offsets.tolist(), list(value.fov), centre]
        return {"$shape": [list(value.shape), list(value.tags), *geometry]}
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {"$dict": {k: encode(item) for k, item in value.items()}}
    raise ModelError(f"{node.title} can't be stored: {key} is a {type(value).__name__}, which is no plain value.")

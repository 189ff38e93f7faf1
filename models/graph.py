"""A model as plain values: the constructor calls of its nodes, and the way back to nodes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ElektronnError, ModelError, did_you_mean

from .node import Node
from .shape import TaggedShape

if TYPE_CHECKING:
    from .model import Model

__all__ = ["FOREIGN", "ROLES", "ROLE_LISTS", "Foreign", "Graph", "NodeRecord", "graph_of", "node_classes", "tensors_of"]

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
        nodes=in_order(records),
        roles={role: getattr(model, role).name for role in ROLES if getattr(model, role) is not None},
        role_lists={role: [node.name for node in getattr(model, role)] for role in ROLE_LISTS},
        aliases={
            f"{node.name}.{key}": ".".join(owners[id(tensor)])
            for node, key, tensor in _stored(model)
            if owners[id(tensor)] != (node.name, key)
        },
    )


def tensors_of(model: Model) -> dict[str, torch.Tensor]:
    """Return all tensors of a model, each once, keyed ``<node>.<parameter>``."""
    owners = _owners(model)
    return {
        f"{node.name}.{key}": tensor for node, key, tensor in _stored(model) if owners[id(tensor)] == (node.name, key)
    }


def in_order(records: Mapping[str, NodeRecord], also: Mapping[str, Sequence[str]] | None = None) -> list[NodeRecord]:
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
    done: dict[str, NodeRecord] = {}
    open_: set[str] = set()
    stack = [(name, False) for name in reversed(list(records))]
    while stack:
        name, expanded = stack.pop()
        if name in done:
            continue
        if expanded:
            done[name] = records[name]
            continue
        if name in open_:
            raise ModelError(f"The graph has a cycle through node {name!r}: no node can be its own ancestor.")
        open_.add(name)
        stack.append((name, True))
        for other in reversed([*references(records[name].arguments), *(also or {}).get(name, ())]):
            if other not in records:
                raise ModelError(f"Node {name!r} refers to {other!r}, which isn't there.{did_you_mean(other, records)}")
            if other not in done:
                stack.append((other, False))
    return list(done.values())


def references(value: Any) -> Iterator[str]:
    """Yield the names of the nodes that encoded arguments refer to."""
    if isinstance(value, dict):
        if "$node" in value:
            yield str(value["$node"])
        elif "$shared" in value:
            owner = value["$shared"]
            yield str(owner[0] if isinstance(owner, list) and owner else owner)
        else:
            for item in value.values():
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def _stored(model: Model) -> Iterator[tuple[Node, str, torch.Tensor]]:
    for node in model.nodes.values():
        shared = node.shared_params
        for key, tensor in node.operation.state_dict(keep_vars=True).items():
            if isinstance(tensor, torch.Tensor) and key not in shared:
                yield node, key, tensor


def _owners(model: Model) -> dict[int, tuple[str, str]]:
    owners: dict[int, tuple[str, str]] = {}
    for node, key, tensor in _stored(model):
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


@dataclass
class Foreign:
    """What loading has to be given again, by names of nodes.

    Attributes
    ----------
    functions : mapping of str to callable
    modules : mapping of str to Module
    """

    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    def check(self, graph: Graph) -> None:
        """Raise a `ModelError` unless each node with foreign code gets it, and nobody else does."""
        for key, (tag, keyword) in FOREIGN.items():
            given = getattr(self, keyword)
            needed = {r.name: r.arguments[key].get(tag) for r in graph.nodes if isinstance(r.arguments.get(key), dict)}
            for name, what in needed.items():
                if name not in given:
                    raise ModelError(
                        f"Node {name!r} was made with {what}, and model files hold no code: give it again, as "
                        f"{keyword}={{{name!r}: ...}}."
                    )
            for name in given:
                if name not in needed:
                    raise ModelError(
                        f"{keyword} has an entry {name!r}, but no node of that name needs one; these do: "
                        f"{', '.join(needed) or 'none'}.{did_you_mean(name, needed)}"
                    )

    def value(self, key: str, node: str) -> Any:
        """Return what was given for an argument of a node."""
        return getattr(self, FOREIGN[key][1])[node]


def make_node(
    record: NodeRecord, nodes: Mapping[str, Node], tensors: Mapping[str, torch.Tensor], foreign: Foreign
) -> Node:
    """Make a node from its record by calling its constructor.

    Parameters
    ----------
    record : NodeRecord
    nodes : mapping of str to Node
        Those that were made already.
    tensors : mapping of str to Tensor
        For the parameters that were given to the constructor; the others get their first values.
    foreign : Foreign

    Raises
    ------
    ModelError
        If class, an argument or a live value is no good.
    """
    cls = node_classes().get(record.kind)
    if cls is None:
        raise ModelError(
            f"{record.name!r} is of the unknown class {record.kind!r}.{did_you_mean(record.kind, node_classes())}"
        )
    try:
        arguments: dict[str, Any] = {}
        for key, value in record.arguments.items():
            if key in FOREIGN:
                arguments[key] = foreign.value(key, record.name)
            elif isinstance(value, dict) and "$given" in value:
                stored, flag = tensors[f"{record.name}.{key}"], value["$given"]
                arguments[key] = stored if flag is None else [stored, flag]
            else:
                arguments[key] = _decode(value, nodes)
        node = cls(**arguments, name=record.name)
        for key, value in record.variables.items():
            node.variables[key].value = value
        state = node.operation.state_dict(keep_vars=True)
        for key in record.frozen:
            state[key].requires_grad_(False)
        if record.feature_names is not None:
            node.feature_names = tuple(record.feature_names)
    except ElektronnError as error:
        raise ModelError(f"Node {record.name!r} can't be made again. {error}") from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError) as error:
        raise _broken(record, error) from error
    except (TypeError, ValueError) as error:
        raise _broken(record, error) from error
    return node


def _broken(record: NodeRecord, error: Exception) -> ModelError:
    return ModelError(
        f"Node {record.name!r} ({record.kind}) can't be made again with the arguments that are stored "
        f"({type(error).__name__}: {error})."
    )


def _decode(value: Any, nodes: Mapping[str, Node]) -> Any:
    if isinstance(value, list):
        return [_decode(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    (tag, content), *more = value.items()
    if more:
        raise ModelError(f"{value!r} is no argument.")
    if tag == "$node":
        return nodes[content]
    if tag == "$shared":
        owner, key = content
        return nodes[owner].operation.state_dict(keep_vars=True)[key]
    if tag == "$array":
        dtype, shape, values = content
        return np.array(values, dtype).reshape(shape)
    if tag == "$shape":
        shape, tags, strides, offsets, fov, centre = content
        return TaggedShape(
            shape, tags, strides, offsets, fov, centre=[float("nan") if c is None else c for c in centre]
        )
    if tag == "$dtype":
        dtype = getattr(torch, content)
        if not isinstance(dtype, torch.dtype):
            raise ModelError(f"{content!r} is no dtype.")
        return dtype
    if tag == "$dict":
        return {key: _decode(item, nodes) for key, item in content.items()}
    raise ModelError(f"{tag!r} is nothing that an argument can hold.")


def make_model(
    graph: Graph,
    tensors: Mapping[str, torch.Tensor],
    foreign: Foreign,
    *,
    scaling: dict[str, Any] | None = None,
    allow_nan: bool = False,
) -> Model:
    """Make a model: call all constructors, give the roles, load the tensors.

    Raises
    ------
    ModelError
        If anything doesn't fit.
    """
    foreign.check(graph)
    records = in_order({record.name: record for record in graph.nodes})
    if len(records) != len(graph.nodes):
        raise ModelError("Two nodes have the same name.")
    nodes: dict[str, Node] = {}
    # First values are drawn and then replaced at once: nobody's random numbers may change by it.
    with torch.random.fork_rng(devices=[]):
        for record in records:
            nodes[record.name] = make_node(record, nodes, tensors, foreign)
    model = assign_roles(graph, nodes, scaling)
    load_tensors(model, {**tensors, **_aliased(graph, tensors)}, allow_nan)
    return model


def _aliased(graph: Graph, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensors[owner] for key, owner in graph.aliases.items() if owner in tensors}


def assign_roles(graph: Graph, nodes: Mapping[str, Node], scaling: dict[str, Any] | None) -> Model:
    """Return the model of these nodes with the roles of the graph."""
    from .model import Model

    def node(role: str, name: str) -> Node:
        if name not in nodes:
            raise ModelError(f"The {role} {name!r} is no node.{did_you_mean(name, nodes)}")
        return nodes[name]

    if unknown := [*(graph.roles.keys() - set(ROLES)), *(graph.role_lists.keys() - set(ROLE_LISTS))]:
        raise ModelError(f"There is no role {unknown[0]!r}.{did_you_mean(unknown[0], [*ROLES, *ROLE_LISTS])}")
    if "input_node" not in graph.roles:
        raise ModelError("No node has the role input_node.")
    roles: dict[str, Any] = {role: node(role, name) for role, name in graph.roles.items()}
    roles |= {role: [node(role, name) for name in names] for role, names in graph.role_lists.items()}
    return Model(**roles, name=graph.name, scaling=scaling)


def load_tensors(model: Model, tensors: Mapping[str, torch.Tensor], allow_nan: bool) -> None:
    """Give all parameters and buffers of a model the values of `tensors`, keyed ``<node>.<parameter>``.

    Raises
    ------
    ModelError
        If one is missing, is of no node, has another shape or kind of numbers, or values that are not finite.
    """
    expected = {f"{node.name}.{key}": tensor for node, key, tensor in _stored(model)}
    if missing := expected.keys() - tensors.keys():
        raise ModelError(f"The parameters {', '.join(sorted(missing))} are lacking.")
    if unknown := tensors.keys() - expected.keys():
        raise ModelError(f"There are parameters of no node: {', '.join(sorted(unknown))}.")
    with torch.no_grad():
        for key, tensor in expected.items():
            stored = tensors[key]
            if stored.shape != tensor.shape:
                raise ModelError(
                    f"{key} has the shape {tuple(stored.shape)}, but its node needs {tuple(tensor.shape)}."
                )
            if stored.is_floating_point() != tensor.is_floating_point():
                raise ModelError(f"{key} is of {stored.dtype}, but its node needs {tensor.dtype}.")
            if not allow_nan and stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
                bad = int((~torch.isfinite(stored)).sum())
                raise ModelError(
                    f"{bad} of {stored.numel()} values of {key} are not finite; allow_nan=True loads them all the same."
                )
            tensor.data = stored.detach().clone()

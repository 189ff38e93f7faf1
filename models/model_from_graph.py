"""From plain values to a model: nodes are made by calling their constructors again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import CodeMissing, ElektronnError, ModelError, did_you_mean

from .graph import FOREIGN, ROLE_LISTS, ROLES, Graph, NodeRecord, node_classes, ordered_records, stored_tensors
from .node import Node
from .shape import TaggedShape

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Foreign", "make_model"]

REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What constructors raise when they are called with arguments of a file that nobody wrote on purpose."""


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
        """Raise `CodeMissing` unless each node with foreign code gets it, and `ModelError` if others do."""
        for key, (tag, keyword) in FOREIGN.items():
            given = getattr(self, keyword)
            needed = {r.name: r.arguments[key].get(tag) for r in graph.nodes if isinstance(r.arguments.get(key), dict)}
            for name, what in needed.items():
                if name not in given:
                    raise CodeMissing(
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
                # Constructors refuse what isn't finite; `load_tensors` gives the stored values and judges these.
                finite = stored.nan_to_num()
                arguments[key] = finite if flag is None else [finite, flag]
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
    except REFUSALS as error:
        raise ModelError(
            f"Node {record.name!r} ({record.kind}) can't be made again with the arguments that are stored "
            f"({type(error).__name__}: {error})."
        ) from error
    return node


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
    before: Callable[[NodeRecord, Mapping[str, Node]], None] | None = None,
    after: Mapping[str, Sequence[str]] | None = None,
) -> Model:
    """Make a model: call all constructors, give the roles, load the tensors.

    Parameters
    ----------
    graph : Graph
    tensors : mapping of str to Tensor
    foreign : Foreign
    scaling : dict, optional
    allow_nan : bool
    before : callable, optional
        Called with each record and the nodes that are made already, to change its arguments.
    after : mapping, optional
        Nodes that must be made before a node although it doesn't refer to them, by name.

    Raises
    ------
    ModelError
        If anything doesn't fit.
    """
    foreign.check(graph)
    records = ordered_records({record.name: record for record in graph.nodes}, after)
    if len(records) != len(graph.nodes):
        raise ModelError("Two nodes have the same name.")
    nodes: dict[str, Node] = {}
    # First values are drawn and then replaced at once: nobody's random numbers may change by it.
    with torch.random.fork_rng(devices=[]):
        for record in records:
            if before is not None:
                before(record, nodes)
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
    expected = {f"{node.name}.{key}": tensor for node, key, tensor in stored_tensors(model)}
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

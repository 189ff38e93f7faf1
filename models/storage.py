"""Model files: one safetensors file with the graph as JSON in its header. No pickle, no foreign code."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import nn

from elektronn_tui.errors import ElektronnError, ModelError, did_you_mean

from .node import Node
from .shape import TaggedShape

if TYPE_CHECKING:
    from .model import Model

__all__ = ["FORMAT_VERSION", "load_model", "node_classes", "save_model"]

FORMAT = "elektronn-model"
FORMAT_VERSION = 1


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


PARAMETERS = ("w", "b", "gamma", "mean", "std")
ROLES = ("input_node", "target_node", "loss_node", "prediction_node", "error_node")
ROLE_LISTS = ("prediction_ext", "debug_outputs")


def save_model(
    model: Model,
    path: str | os.PathLike[str],
    *,
    scaling: dict[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model to one ``.safetensors`` file, which is either the old or the new one at any time.

    Tensors are keyed ``<node>.<parameter>``. The header holds ``format``, ``version``, ``graph`` (constructor calls
    of all nodes, their live values, the roles), ``scaling`` and ``extra``.

    Raises
    ------
    ModelError
        If a node can't be stored, or the file can't be written.
    """
    scaling = model.scaling if scaling is None else scaling
    extra = dict(model.extra if extra is None else extra)
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "graph": json.dumps(_graph(model)),
        "scaling": _json("scaling", scaling),
        "extra": _json("extra", extra),
    }
    tensors = {
        f"{node.name}.{key}": tensor.detach().cpu().contiguous().clone()
        for node in model.nodes.values()
        for key, tensor in node.operation.state_dict().items()
        if key not in node.shared_params
    }
    write_atomically(Path(path), to_safetensors(tensors, metadata))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old or the new one."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ModelError(f"The model can't be written to {path}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def load_model(path: str | os.PathLike[str], *, allow_nan: bool = False) -> Model:
    """Read a model that `save_model` wrote, by calling the constructors of its nodes again.

    Parameters
    ----------
    path : path
    allow_nan : bool
        Accept weights that are not finite, to look at a run that went wrong.

    Returns
    -------
    Model
        In training mode, on the CPU; ``model.scaling`` and ``model.extra`` are what was saved.

    Raises
    ------
    ModelError
        If the file is missing, truncated, not ours, of another version, or inconsistent.
    """
    from .model import Model

    path = Path(path)
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is a safetensors file, but no model of this package.")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise ModelError(
            f"{path} has the format version {metadata.get('version')}; this package reads version {FORMAT_VERSION}."
        )
    try:
        graph = json.loads(metadata["graph"])
        scaling, extra = json.loads(metadata["scaling"]), json.loads(metadata["extra"])
        # Rebuilding draws first values that are replaced at once: nobody's random numbers may change by it.
        with torch.random.fork_rng(devices=[]):
            nodes: dict[str, Node] = {}
            for entry in graph["nodes"]:
                nodes[entry["name"]] = _rebuild(path, entry, nodes, tensors)
        roles: dict[str, Any] = {role: nodes[name] for role, name in graph["roles"].items()}
        roles |= {role: [nodes[name] for name in graph["role_lists"][role]] for role in ROLE_LISTS}
        model = Model(**roles, name=graph["name"], scaling=scaling)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: the graph in its header is broken ({type(error).__name__}: {error}).") from error
    model.extra = extra
    _load_tensors(path, model, tensors, allow_nan)
    return model


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise ModelError(f"There is no model file {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {}), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file, or it is truncated ({error}).") from error
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}.") from error


def _load_tensors(path: Path, model: Model, tensors: Mapping[str, torch.Tensor], allow_nan: bool) -> None:
    expected = {
        f"{node.name}.{key}": tensor
        for node in model.nodes.values()
        for key, tensor in node.operation.state_dict(keep_vars=True).items()
        if key not in node.shared_params
    }
    if missing := expected.keys() - tensors.keys():
        raise ModelError(f"{path} lacks the parameters {', '.join(sorted(missing))}.")
    if unknown := tensors.keys() - expected.keys():
        raise ModelError(f"{path} has parameters of no node: {', '.join(sorted(unknown))}.")
    with torch.no_grad():
        for key, tensor in expected.items():
            stored = tensors[key]
            if stored.shape != tensor.shape:
                raise ModelError(
                    f"{path}: {key} has the shape {tuple(stored.shape)}, but its node needs {tuple(tensor.shape)}."
                )
            if not allow_nan and stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
                bad = int((~torch.isfinite(stored)).sum())
                raise ModelError(
                    f"{path}: {bad} of {stored.numel()} values of {key} are not finite; "
                    "allow_nan=True loads them all the same."
                )
            tensor.data = stored.clone()


def _graph(model: Model) -> dict[str, Any]:
    owners = {id(tensor): (node.name, key) for node in model.nodes.values() for key, tensor in node.params.items()}
    roles = {role: getattr(model, role).name for role in ROLES if getattr(model, role) is not None}
    lists = {role: [node.name for node in getattr(model, role)] for role in ROLE_LISTS}
    entries = []
    for node in model.nodes.values():
        kind = type(node).__name__
        if node_classes().get(kind) is not type(node):
            raise ModelError(f"{node.title} can't be stored: {kind} is none of {', '.join(node_classes())}.")
        arguments = {}
        for key, value in node.arguments.items():
            if key in PARAMETERS:
                flag = _parameter_flag(node, key, value, owners)
                if flag is not None:
                    arguments[key] = flag
            elif key != "name":
                arguments[key] = _encode(node, key, value)
        variables = {key: variable.value for key, variable in node.variables.items()}
        entries.append({"class": kind, "name": node.name, "arguments": arguments, "variables": variables})
    return {"name": model.name, "nodes": entries, "roles": roles, "role_lists": lists}


def _parameter_flag(node: Node, key: str, given: Any, owners: Mapping[int, tuple[str, str]]) -> dict[str, Any] | None:
    """Return how a parameter was given, without its values: these are among the tensors."""
    if isinstance(given, nn.Parameter):
        owner = owners.get(id(given))
        if owner is None:
            raise ModelError(f"{node.title}: {key} is shared with a node that is not in this model.")
        return {"$shared": list(owner)}
    if isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[1], str):
        return {"$given": given[1]}
    return None


def _encode(node: Node, key: str, value: Any) -> Any:
    if isinstance(value, Node):
        return {"$node": value.name}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, TaggedShape):
        return list(value.shape)
    if isinstance(value, list | tuple):
        return [_encode(node, key, v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ModelError(f"{node.title} can't be stored: {key} is a {type(value).__name__}.")


def _json(what: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{what} must hold plain values only ({error}).") from error


def _rebuild(
    path: Path, entry: Mapping[str, Any], nodes: Mapping[str, Node], tensors: Mapping[str, torch.Tensor]
) -> Node:
    kind, name = entry["class"], entry["name"]
    cls = node_classes().get(kind)
    if cls is None:
        raise ModelError(f"{path}: {name!r} is of the unknown class {kind!r}.{did_you_mean(kind, node_classes())}")
    arguments: dict[str, Any] = {}
    for key, value in entry["arguments"].items():
        if isinstance(value, dict) and "$given" in value:
            arguments[key] = [tensors[f"{name}.{key}"], value["$given"]]
        elif isinstance(value, dict) and "$shared" in value:
            owner, parameter = value["$shared"]
            arguments[key] = getattr(nodes[owner], parameter)
        else:
            arguments[key] = _decode(value, nodes)
    # Loading is no news: nodes are not announced in the log again.
    arguments["print_repr"] = False
    try:
        node = cls(**arguments, name=name)
    except ElektronnError as error:
        raise ModelError(f"{path}: node {name!r} can't be made again. {error}") from error
    for key, value in entry["variables"].items():
        node.variables[key].value = value
    return node


def _decode(value: Any, nodes: Mapping[str, Node]) -> Any:
    if isinstance(value, dict):
        return nodes[value["$node"]]
    if isinstance(value, list):
        return [_decode(v, nodes) for v in value]
    return value

"""Model files: one safetensors file with the graph as JSON in its header. No pickle, no foreign code."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import nn

from elektronn_tui.errors import ModelError

from .declared import checked
from .graph import Graph, graph_of, node_classes, tensors_of
from .model_from_graph import Foreign, make_model
from .rewriting import rebuild_model

if TYPE_CHECKING:
    from .model import Model

__all__ = ["FORMAT_VERSION", "load_model", "node_classes", "read_tensors", "save_model", "write_atomically"]

FORMAT = "elektronn-model"
FORMAT_VERSION = 1
TEXTS = ("format", "version", "graph", "scaling", "extra")


@checked
def save_model(
    model: Model,
    path: str | os.PathLike[str],
    *,
    scaling: dict[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a model to one ``.safetensors`` file, which is either the old or the new one at any time.

    Tensors are keyed ``<node>.<parameter>``. The header holds ``format``, ``version``, ``graph`` (constructor calls
    of all nodes, their live values, the roles), ``scaling``, ``extra`` and a checksum of all of it. Equal models make
    equal bytes. Functions of `ApplyFunc` and modules of `Module` are not in the file: `load_model` is given them again.

    Raises
    ------
    ModelError
        If a node can't be stored, or the file can't be written.
    """
    scaling = model.scaling if scaling is None else scaling
    if not isinstance(scaling, dict | None):
        raise ModelError(f"scaling must be a dict of plain values or None, not {scaling!r}.")
    extra = dict(model.extra if extra is None else extra)
    if not all(isinstance(text, str) for item in extra.items() for text in item):
        raise ModelError(f"extra must be texts by names, not {extra!r}.")
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "graph": json.dumps(msgspec.to_builtins(graph_of(model))),
        "scaling": _json("scaling", scaling),
        "extra": _json("extra", extra),
    }
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors_of(model).items()}
    metadata["checksum"] = _checksum(metadata, tensors)
    write_atomically(Path(path), _sorted_header(to_safetensors(tensors, metadata)))


def _sorted_header(data: bytes) -> bytes:
    """Return the file with its metadata in alphabetical order: the library writes them in a random one."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the CRC-32 of texts and tensors: it finds bits that a disk or a copy has changed."""
    value = 0
    for key in TEXTS:
        value = zlib.crc32(metadata.get(key, "").encode(), value)
    for key, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


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
    except ValueError as error:  # of the name, as one with a null character
        raise ModelError(f"The model can't be written to {str(path)!r}: {error}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@checked
def load_model(
    path: str | os.PathLike[str],
    *,
    allow_nan: bool = False,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    modules: Mapping[str, nn.Module] | None = None,
    **rewrites: Any,
) -> Model:
    """Read a model that `save_model` wrote, by calling the constructors of its nodes again.

    Parameters
    ----------
    path : path
    allow_nan : bool
        Accept weights that are not finite, to look at a run that went wrong.
    functions : mapping of str to callable, optional
        For each `ApplyFunc` node, by its name, the function that it was made with: files hold no code.
    modules : mapping of str to Module, optional
        For each `Module` node, by its name, a torch module of the same architecture. It becomes part of the model
        and gets the stored weights.
    **rewrites
        What to change at once: all keywords of `rebuild_model`, as ``imposed_patch_size=(32, 160, 160)``.

    Returns
    -------
    Model
        In training mode, on the CPU; ``model.scaling`` and ``model.extra`` are what was saved.

    Raises
    ------
    ModelError
        If the file is missing, truncated, damaged, not ours, of another version, or inconsistent, or if a function
        or module is missing.
    """
    path = Path(path)
    metadata, tensors = _checked(path)
    try:
        graph = msgspec.convert(json.loads(metadata["graph"]), Graph)
        scaling = msgspec.convert(json.loads(metadata["scaling"]), dict[str, Any] | None)
        extra = msgspec.convert(json.loads(metadata["extra"]), dict[str, str])
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its header is broken ({type(error).__name__}: {error}).") from error
    try:
        model = make_model(
            graph, tensors, Foreign(functions or {}, modules or {}), scaling=scaling, allow_nan=allow_nan
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    model.extra = extra
    return rebuild_model(model, **rewrites) if rewrites else model


def read_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model file, keyed ``<node>.<parameter>``, without making its nodes.

    Raises
    ------
    ModelError
        If the file is missing, truncated, damaged, not ours or of another version.
    """
    return _checked(Path(path))[1]


def _checked(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is a safetensors file, but no model of this package.")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise ModelError(
            f"{path} has the format version {metadata.get('version')}; this package reads version {FORMAT_VERSION}."
        )
    if metadata.get("checksum", _checksum(metadata, tensors)) != _checksum(metadata, tensors):
        raise ModelError(f"{path} is damaged: its checksum is not that of its content. Take another copy of it.")
    return metadata, tensors


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        if not path.is_file():
            raise ModelError(f"There is no model file {path}.")
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {}), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file, or it is truncated ({error}).") from error
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}.") from error


def _json(what: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{what} must hold plain values only ({error}).") from error

"""Model files: one safetensors file with the graph as JSON in its header. No pickle, no foreign code."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from elektronn_tui.errors import CodeMissing, ModelError

from .declared import checked
from .graph import Graph, graph_of, node_classes, tensors_of
from .model_from_graph import Foreign, make_model
from .rewriting import rebuild_model

if TYPE_CHECKING:
    from .model import Model

__all__ = [
    "FORMAT_VERSION",
    "ModelSnapshot",
    "load_model",
    "node_classes",
    "read_tensors",
    "save_model",
    "snapshot_model",
    "write_atomically",
]

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
    snapshot_model(model, scaling=scaling, extra=extra).write(path)


@dataclass(frozen=True)
class ModelSnapshot:
    """A model as it was at one moment, in memory; the model itself may change or go meanwhile.

    Attributes
    ----------
    metadata : dict of str to str
        The texts of the file, but for the checksum.
    tensors : dict of str to Tensor
        Copies, on the CPU.
    """

    metadata: dict[str, str]
    tensors: dict[str, torch.Tensor]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file that `save_model` would have written then; from any thread.

        Raises
        ------
        ModelError
            If the file can't be written.
        """
        tensors = {key: tensor.contiguous() for key, tensor in self.tensors.items()}
        metadata = {**self.metadata, "checksum": _checksum(self.metadata, tensors)}

        def write(temporary: Path) -> None:
            # Not `save` and bytes: making them keeps other threads of Python waiting (130 ms for 20 M parameters).
            save_file(tensors, temporary, metadata)
            _sort_header(temporary)

        write_atomically(Path(path), write)


def snapshot_model(
    model: Model, *, scaling: dict[str, Any] | None = None, extra: Mapping[str, str] | None = None
) -> ModelSnapshot:
    """Return what `save_model` writes, without writing it: as long as a copy in memory takes.

    Raises
    ------
    ModelError
        If a node can't be stored.
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
    # In the memory format that they have: changing it takes five times as long as copying, and can wait.
    tensors = {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors_of(model).items()}
    return ModelSnapshot(metadata, tensors)


def _sort_header(path: Path) -> None:
    """Put a file's metadata into alphabetical order, in place: the library writes them in a random one."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the CRC-32 of texts and tensors: it finds bits that a disk or a copy has changed."""
    value = 0
    for key in TEXTS:
        value = zlib.crc32(metadata.get(key, "").encode(), value)
    for key, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


def write_atomically(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write a file so that a crash at any moment leaves the old or the new one.

    Parameters
    ----------
    path : Path
    content : bytes or callable
        What is written, or what writes it into the file that it is called with.

    Raises
    ------
    ModelError
        If the file can't be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            if isinstance(content, bytes):
                file.write(content)
                file.flush()
        if not isinstance(content, bytes):
            content(Path(temporary))
        _sync(temporary)
        os.replace(temporary, path)
        temporary = None
        _sync(path.parent)
    except OSError as error:
        raise ModelError(f"The file can't be written to {path}: {error.strerror or error}.") from error
    except SafetensorError as error:  # as of a full disk
        raise ModelError(f"The file can't be written to {path}: {error}.") from error
    except ValueError as error:  # of the name, as one with a null character
        raise ModelError(f"The file can't be written to {str(path)!r}: {error}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        If the file is missing, truncated, damaged, not ours, of another version, or inconsistent.
    CodeMissing
        If a function or module is missing.
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
        kind = CodeMissing if isinstance(error, CodeMissing) else ModelError
        raise kind(f"{path}: {error}") from error
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

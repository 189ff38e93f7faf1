"""Networks for other programs: `torch.export` programs and ONNX files."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elektronn_tui.errors import ModelError

from .declared import checked
from .feeding import computing_tensor, to_tensor
from .storage import write_atomically

if TYPE_CHECKING:
    from .model import Model

__all__ = ["export_onnx", "export_program"]


@checked
def export_program(model: Model, *, dynamic_batch: bool = True) -> torch.export.ExportedProgram:
    """Return the prediction as a program of `torch.export`, in evaluation mode, for the declared sizes.

    Parameters
    ----------
    model : Model
        Itself stays as it is.
    dynamic_batch : bool
        Leave the batch size free, where the network allows it.

    Returns
    -------
    torch.export.ExportedProgram
        It has copies of the weights and takes the sources of the prediction, in their order.

    Raises
    ------
    ModelError
        If an operation can't be exported.
    """
    module, inputs, shapes = _prepared(model, dynamic_batch)
    try:
        with torch.no_grad():
            return torch.export.export(module, inputs, dynamic_shapes=shapes)
    except Exception as error:
        raise ModelError(_refusal(model, dynamic_batch, error)) from error


@checked
def export_onnx(model: Model, path: str | os.PathLike[str], *, dynamic_batch: bool = True) -> None:
    """Write the prediction to an ONNX file, in evaluation mode, for the declared sizes.

    Its inputs and outputs have the names of the nodes. Its metadata are texts: ``elektronn.name``, and as JSON
    ``elektronn.scaling`` (of raw values), ``elektronn.feature_names``, ``elektronn.tags``, ``elektronn.strides`` and
    ``elektronn.offsets`` of the output.

    Parameters
    ----------
    model : Model
    path : path
        Replaced at once when the new file is complete.
    dynamic_batch : bool
        Leave the batch size free, where the network allows it.

    Raises
    ------
    ModelError
        If the ``onnx`` extra is missing, an operation has no counterpart, or the file can't be written.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ModelError(f"ONNX export needs the package {package}: pip install 'elektronn-tui[onnx]'.")
    module, inputs, shapes = _prepared(model, dynamic_batch)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=[node.name for node in model.prediction_node.input_nodes],
                output_names=[model.prediction_node.name],
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:
        raise ModelError(_refusal(model, dynamic_batch, error)) from error
    for key, text in _metadata(model).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    try:
        content = proto.SerializeToString()
    except ValueError as error:
        raise ModelError(f"Model {model.name!r} is too large for one ONNX file ({error}).") from error
    write_atomically(Path(path), content)


def _prepared(model: Model, dynamic_batch: bool) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], Any]:
    """Return a copy of the network in evaluation mode, inputs of the declared sizes, and which axes are free."""
    module = copy.deepcopy(model.module).eval().cpu()
    like = computing_tensor([module])
    rng = np.random.default_rng(0)
    inputs, free = [], []
    batch = torch.export.Dim("batch", min=1)
    for node in model.prediction_node.input_nodes:
        sizes = node.shape
        x = to_tensor(node, node.random_array(rng), like)
        axis = sizes.tag2index("b") if sizes.hastag("b") else None
        if dynamic_batch and axis is not None:
            # A size of 1 would be taken as one that never changes.
            x = x.index_select(axis, torch.zeros(2, dtype=torch.int64))
            free.append({axis: batch})
        else:
            free.append({})
        inputs.append(x)
    # The network takes any number of arguments, so they are one tuple to the exporter.
    return module, tuple(inputs), (tuple(free),) if any(free) else None


def _refusal(model: Model, dynamic_batch: bool, error: Exception) -> str:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    hint = " Perhaps its batch size can't be free: dynamic_batch=False." if dynamic_batch else ""
    return f"Model {model.name!r} can't be exported ({type(error).__name__}: {reason}).{hint}"


def _metadata(model: Model) -> dict[str, str]:
    shape = model.prediction_node.shape
    values = {
        "scaling": model.scaling,
        "feature_names": model.prediction_feature_names,
        "tags": shape.tags,
        "strides": shape.strides,
        "offsets": shape.offsets,
    }
    texts = {f"elektronn.{key}": json.dumps(value) for key, value in values.items() if value is not None}
    return {"elektronn.name": model.name, **texts}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its warnings about itself away from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

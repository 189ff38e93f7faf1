"""Batch normalisation taken out of a model, held fast, or folded into weights."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from elektronn_tui.errors import ModelError, did_you_mean

from .graph import Graph
from .layer import Layer
from .patch_size import is_pooled

if TYPE_CHECKING:
    from .model import Model

__all__ = ["replace_normalisation"]

logger = logging.getLogger(__name__)

WAYS = ("remove", "predict", "const", "fold")
STATISTICS = ("gamma", "mean", "std", "updates")


def replace_normalisation(
    model: Model, graph: Graph, tensors: dict[str, torch.Tensor], way: str
) -> dict[str, torch.Tensor]:
    """Change `graph` and return its tensors; see ``replace_bn`` of `rebuild_model`.

    Raises
    ------
    ModelError
        If there is no such way, or a layer that must be folded can't be.
    """
    if not isinstance(way, str) or way not in WAYS:
        hint = did_you_mean(str(way), WAYS)
        raise ModelError(f"replace_bn must be False or one of {', '.join(WAYS)}, not {way!r}.{hint}")
    tensors = dict(tensors)
    for record in graph.nodes:
        layer = model[record.name]
        if not isinstance(layer, Layer) or not layer.batch_normalisation:
            continue
        this = way
        if way == "fold" and (why := _obstacle(model, layer)):
            logger.warning("%s keeps its batch normalisation, with constant statistics: %s", layer.title, why)
            this = "const"
        if this != "remove":
            tensors |= _fixed_statistics(layer, record.name)
        if this in ("predict", "const"):
            record.arguments["batch_normalisation"] = "predict"
            tensors.pop(f"{record.name}.updates", None)
            for key in ("gamma", "mean", "std"):
                if f"{record.name}.{key}" in tensors:
                    record.arguments[key] = {"$given": "const" if this == "const" else None}
                    if this == "predict":
                        record.arguments.pop(key)
            record.frozen = [key for key in record.frozen if key not in STATISTICS]
            continue
        if this == "fold":
            _fold(layer, record.name, tensors)
        record.arguments["batch_normalisation"] = False
        record.frozen = [key for key in record.frozen if key not in STATISTICS]
        for key in STATISTICS:
            tensors.pop(f"{record.name}.{key}", None)
            record.arguments.pop(key, None)
    return tensors


def _obstacle(model: Model, layer: Layer) -> str | None:
    """Return why a layer's normalisation can't be folded into its weights, or None."""
    own = {id(parameter) for key, parameter in layer.params.items() if key in ("w", "b")}
    users = [n.name for n in model.nodes.values() if n is not layer and own & {id(p) for p in n._tensors().values()}]
    if users or len(own) < 2:
        return f"its weights are shared{' with ' + ', '.join(users) if users else ''}."
    if is_pooled(layer) and bool((layer.params["gamma"] < 0).any()):
        return "it pools before it normalises, and a negative gamma turns a maximum into a minimum."
    return None


def _fixed_statistics(layer: Layer, name: str) -> dict[str, torch.Tensor]:
    """Return gamma, mean and std that do in mode 'predict' what the layer does now, however far it is faded out."""
    gamma, mean, std = (layer.params[key].detach() for key in ("gamma", "mean", "std"))
    if layer.batch_normalisation == "fadeout":
        rate = layer.gradnet_rate
        gamma, mean, std = rate * gamma, rate * mean, rate * std + 1 - rate
    return {f"{name}.gamma": gamma, f"{name}.mean": mean, f"{name}.std": std}


def _fold(layer: Layer, name: str, tensors: dict[str, torch.Tensor]) -> None:
    operation = layer.operation
    gamma, mean, std = (tensors[f"{name}.{key}"] for key in ("gamma", "mean", "std"))
    scale = gamma / (std.square() + 1e-12).sqrt()
    w, b = operation.w.detach(), operation.b.detach().clone()
    if operation.has_slope:
        b[:, 0] -= mean * scale
    else:
        b -= mean * scale
    tensors[f"{name}.w"] = w * scale.reshape(-1, *(1,) * (w.ndim - 1 - layer.output_axis))
    tensors[f"{name}.b"] = b

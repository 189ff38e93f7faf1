"""What nodes on one to three spatial axes share: their torch functions, and checks of sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F

from .node import Node, misfit
from .shape import TaggedShape

__all__ = [
    "AVERAGE_POOL",
    "CONV",
    "MAX_POOL",
    "UP_CONV",
    "check_layout",
    "features_last",
    "neighbours",
    "spatial_tuple",
]

CONV: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType({1: F.conv1d, 2: F.conv2d, 3: F.conv3d})
MAX_POOL: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType(
    {1: torch.max_pool1d, 2: torch.max_pool2d, 3: torch.max_pool3d}  # not of F: those can't be pickled
)
AVERAGE_POOL: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType(
    {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
)
UP_CONV: Mapping[int, Callable[..., torch.Tensor]] = MappingProxyType(
    {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
)


def spatial_tuple(node: Node, what: str, value: Any, ndim: int, minimum: int = 1) -> tuple[int, ...]:
    """Return `value` as one int for each spatial axis.

    Raises
    ------
    ShapeError
        If the number of entries or an entry is wrong.
    """
    try:
        result = tuple(int(v) for v in value)
        whole = all(int(v) == v for v in value)
    except (TypeError, ValueError):
        raise misfit(node, f"{what} must be {ndim} whole numbers, not {value!r}.") from None
    if len(result) != ndim:
        raise misfit(node, f"{what} {result} must have one entry for each of the {ndim} spatial axes of its parent.")
    if not whole or min(result, default=minimum) < minimum:
        raise misfit(node, f"{what} must be whole numbers from {minimum} on, not {tuple(value)}.")
    return result


def neighbours(size: int, fits: Callable[[int], bool], reach: int = 64) -> str:
    """Return the nearest sizes below and above that fit, as words."""
    below = next((n for n in range(size - 1, max(0, size - reach), -1) if fits(n)), None)
    above = next((n for n in range(size + 1, size + reach) if fits(n)), None)
    return " or ".join(str(n) for n in (below, above) if n is not None) or "no size near it"


def check_layout(node: Node, shape: TaggedShape) -> None:
    """Raise if the axes aren't b, f and then one to three spatial ones."""
    if shape.tags[:2] != ("b", "f") or len(shape) != 2 + shape.ndim or not 1 <= shape.ndim <= 3:
        raise misfit(node, f"needs the axes b, f and one to three of z, y, x, but its parent has {shape.text}.")
    if None in shape.shape[1:]:
        raise misfit(node, f"needs known feature and spatial sizes, but its parent has {shape.text}.")


def features_last(x: torch.Tensor) -> bool:
    """Return whether `x` is a channels-last volume in float32 on a CPU, outside of autocast.

    There a matrix product over its features needs no copy, and was measured to be faster than some convolutions.
    Never while a network is compiled or exported: its program shall serve tensors of all formats.
    """
    return (
        x.ndim == 5
        and not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.stride(1) == 1
        and x.is_contiguous(memory_format=torch.channels_last_3d)
        and not torch.is_autocast_enabled("cpu")
    )

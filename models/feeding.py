"""Arrays into a network and out of it: types and devices, and the mode in which it computes."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError

if TYPE_CHECKING:
    from .node import Node

__all__ = ["computing_tensor", "in_evaluation", "to_numpy", "to_tensor"]


def computing_tensor(operations: Iterable[nn.Module]) -> torch.Tensor:
    """Return a tensor of the type and on the device with which operations compute: their first one of floats.

    Where there is none it is float32 on the CPU.
    """
    tensors = (tensor for module in operations for tensor in chain(module.parameters(), module.buffers()))
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))


def to_tensor(node: Node, array: Any, like: torch.Tensor) -> Any:
    """Return an array for the source `node` as a tensor on the device of `like`.

    Floats get the type of `like`, other numbers that of the node. Objects, as of a `GenericInput`, stay as they are.

    Raises
    ------
    ModelError
        If it isn't an array of numbers.
    """
    if node.dtype == "object":
        return array
    if not isinstance(array, torch.Tensor):
        try:
            array = np.ascontiguousarray(array)
        except ValueError as error:
            raise ModelError(f"{node.title} takes an array, not {reprlib.repr(array)} ({error}).") from None
        if array.dtype.kind not in "biuf":
            raise ModelError(f"{node.title} takes an array of numbers, not {reprlib.repr(array)} of {array.dtype}.")
    dtype: torch.dtype = getattr(torch, node.dtype)
    return torch.as_tensor(array, device=like.device).to(like.dtype if dtype.is_floating_point else dtype)


def to_numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return a tensor's values; numpy knows no bfloat16, so half precision becomes float32."""
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.detach().cpu().numpy()


@contextlib.contextmanager
def in_evaluation(operations: Iterable[nn.Module]) -> Iterator[None]:
    """Switch modules to evaluation, and afterwards each of those within them back to the mode that it had."""
    training = [module for operation in operations for module in operation.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True

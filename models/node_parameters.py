"""Parameters of a node by name, and those of all that it depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError, did_you_mean

from .declared import checked
from .feeding import to_numpy
from .plan import walk

if TYPE_CHECKING:
    from .node import Node

__all__ = ["NodeParameters"]


class NodeParameters:
    """The part of `Node` that knows its parameters."""

    operation: nn.Module
    arguments: dict[str, Any]

    @property
    def title(self) -> str:
        """Class, name and detail, for messages."""
        return type(self).__name__

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """Own parameters by name, constant ones and running statistics too; shared ones are their owner's."""
        shared = self.shared_params
        return {k: v for k, v in self._tensors().items() if k not in shared and k != "updates"}

    @property
    def shared_params(self) -> dict[str, torch.Tensor]:
        """Parameters that were given by another node."""
        given = {id(parameter) for parameter in _parameters_in(self.__dict__.get("arguments", {}))}
        return {k: v for k, v in self._tensors().items() if id(v) in given}

    def _tensors(self) -> dict[str, torch.Tensor]:
        state = self.operation.state_dict(keep_vars=True)
        return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}

    @property
    def param_count(self) -> int:
        """Number of own trainable numbers."""
        return sum(v.numel() for v in self.params.values() if v.requires_grad)

    @property
    def all_params(self) -> dict[str, torch.Tensor]:
        """Parameters of the node and all ancestors, ``<node>.<parameter>``."""
        return {f"{n.name}.{k}": v for n in walk([cast("Node", self)]) for k, v in n.params.items()}

    @property
    def all_trainable_params(self) -> dict[str, torch.Tensor]:
        """Those of `all_params` that are trained."""
        return {name: tensor for name, tensor in self.all_params.items() if tensor.requires_grad}

    @property
    def all_nontrainable_params(self) -> dict[str, torch.Tensor]:
        """Those of `all_params` that are not trained: constant and frozen ones and running statistics."""
        return {name: tensor for name, tensor in self.all_params.items() if not tensor.requires_grad}

    @property
    def all_params_count(self) -> int:
        """Number of trainable numbers of the node and all ancestors."""
        return sum(tensor.numel() for tensor in self.all_trainable_params.values())

    def get_param_values(self, skip_const: bool = False) -> dict[str, npt.NDArray[Any]]:
        """Return copies of all own parameters by name; with `skip_const` only of those that are trained."""
        chosen = {k: v for k, v in self.params.items() if v.requires_grad or not skip_const}
        return {k: to_numpy(v.detach()).copy() for k, v in chosen.items()}

    @checked
    def set_param_values(self, values: Mapping[str, npt.ArrayLike | torch.Tensor], skip_const: bool = False) -> None:
        """Set own parameters; with `skip_const` those that aren't trained are left alone.

        Raises
        ------
        ModelError
            If a name is unknown or a shape differs.
        """
        params = self._tensors()
        for name, value in values.items():
            if name not in params:
                raise ModelError(
                    f"{self.title} has no parameter {name!r}, only {', '.join(params) or 'none'}."
                    f"{did_you_mean(name, params)}"
                )
            try:
                tensor = torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError):
                raise ModelError(f"{self.title}: {name} must be an array, not {value!r}.") from None
            if tensor.shape != params[name].shape:
                raise ModelError(
                    f"{self.title}: {name} has the shape {tuple(params[name].shape)}, "
                    f"but {tuple(tensor.shape)} was given."
                )
            if skip_const and not params[name].requires_grad:
                continue
            with torch.no_grad():
                params[name].copy_(tensor)


def _parameters_in(value: Any) -> Iterator[nn.Parameter]:
    """Yield the parameters among arguments, however deep in lists and dictionaries."""
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _parameters_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parameters_in(item)

"""The torch module that lies under a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

__all__ = ["Network"]


class Network(nn.Module):
    """All operations of a model as children under their nodes' names; calling it computes the prediction.

    It is an ordinary module: copy it, move it, compile it, export it, load a state dict into it.

    Parameters
    ----------
    operations : mapping of str to Module
        In the order of computation.
    parents : mapping of str to sequence of str
        Names of the arguments of each operation.
    inputs : sequence of str
        Names of the arguments of `forward`.
    output : str
        Name of the operation whose value is returned.
    """

    def __init__(
        self,
        operations: Mapping[str, nn.Module],
        parents: Mapping[str, Sequence[str]],
        inputs: Sequence[str],
        output: str,
    ) -> None:
        super().__init__()
        for name, operation in operations.items():
            self.add_module(name, operation)
        self._steps = [(name, tuple(parents[name])) for name in parents]
        self._input_names = tuple(inputs)
        self._output_name = output

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Compute the prediction from the input nodes' tensors."""
        values = dict(zip(self._input_names, inputs, strict=True))
        for name, arguments in self._steps:
            values[name] = self._modules[name](*[values[a] for a in arguments])  # type: ignore[misc]
        return values[self._output_name]

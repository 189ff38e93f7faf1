"""The operation that repeats the operations of a step in time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["ScanOperation"]


class ScanOperation(nn.Module):
    """Repeat the operations of a step.

    They belong to the nodes of the step, where they are registered; here they stand in a tuple, so that a network has
    each of its parameters once.

    Parameters
    ----------
    steps : sequence of (str, Module, tuple of int)
        The nodes that depend on memory or slices: title, operation, and the slots of its arguments. The slots hold
        values from outside, then memory, then slices, then what the operations give, in their order.
    outside : sequence of int
        Which of the arguments of `forward` come from outside of the step.
    first, sequences : sequence of int
        Which are the results of the first step, and which are sequences.
    results : sequence of int
        Slots of the results.
    fed_back : sequence of int
        Which results are the next memory.
    n_steps : int or None
        None: as long as the sequences are.
    last_only, forget : bool
        Return the last values only; keep only the memory of each step for the gradient and compute the rest again.
    """

    def __init__(
        self,
        steps: Sequence[tuple[str, nn.Module, tuple[int, ...]]],
        outside: Sequence[int],
        first: Sequence[int],
        sequences: Sequence[int],
        results: Sequence[int],
        fed_back: Sequence[int],
        n_steps: int | None,
        last_only: bool,
        forget: bool,
    ) -> None:
        super().__init__()
        self._steps = tuple(steps)
        self.outside, self.first, self.sequences = tuple(outside), tuple(first), tuple(sequences)
        self.results, self.fed_back = tuple(results), tuple(fed_back)
        self.n_steps, self.last_only, self.forget = n_steps, last_only, forget

    def forward(self, *values: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Go on from the results of the first step, and return one value for each of them."""
        outside = [values[i] for i in self.outside]
        sequences = [values[i] for i in self.sequences]
        current = [values[i] for i in self.first]
        kept = [current]
        n_steps = sequences[0].shape[0] if self.n_steps is None else self.n_steps
        forget = self.forget and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        for t in range(1, n_steps):
            arguments = [*outside, *(current[k] for k in self.fed_back), *(sequence[t] for sequence in sequences)]
            if forget:
                current = checkpoint(self.step, *arguments, use_reentrant=False, context_fn=self._contexts)
            else:
                current = self.step(*arguments)
            if not self.last_only:
                kept.append(current)
        results = current if self.last_only else [torch.stack(steps) for steps in zip(*kept, strict=True)]
        return results[0] if len(results) == 1 else tuple(results)

    def step(self, *arguments: torch.Tensor) -> list[torch.Tensor]:
        """Return the results of one step."""
        values: list[Any] = list(arguments)
        for title, operation, slots in self._steps:
            try:
                values.append(operation(*[values[i] for i in slots]))
            except RuntimeError as error:
                error.add_note(f"This happened in {title}, in a step after the first.")
                raise
        return [values[i] for i in self.results]

    def _contexts(self) -> tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]:
        return contextlib.nullcontext(), OnCopies([operation for _, operation, _ in self._steps])


class OnCopies:
    """A context, entered any number of times, in which buffers in training are copies of themselves.

    What is computed for a second time then doesn't count twice in running statistics.
    """

    def __init__(self, operations: Sequence[nn.Module]) -> None:
        self._operations = operations
        self._buffers: list[tuple[dict[str, torch.Tensor | None], str, torch.Tensor]] = []

    def __enter__(self) -> None:
        self._buffers = [
            (module._buffers, name, tensor)
            for operation in self._operations
            for module in operation.modules()
            for name, tensor in module._buffers.items()
            if tensor is not None and module.training
        ]
        for place, name, tensor in self._buffers:
            place[name] = tensor.clone()

    def __exit__(self, *error: object) -> None:
        for place, name, tensor in self._buffers:
            place[name] = tensor
        self._buffers = []

"""How long each operation of a network takes."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .feeding import computing_tensor, in_evaluation, to_tensor
from .plan import Plan

if TYPE_CHECKING:
    from .node import Node

__all__ = ["Pass", "measure_exectimes", "one_pass"]

logger = logging.getLogger(__name__)


def measure_exectimes(
    nodes: Sequence[Node], n_samples: int = 5, n_warmup: int = 4, *, backward: bool = False
) -> dict[str, float]:
    """Measure the time of each operation that some nodes need, in one real pass after another.

    Parameters
    ----------
    nodes : sequence of Node
        These and their ancestors are computed, from random numbers of the declared shapes.
    n_samples, n_warmup : int
        Passes that count and passes before them that don't.
    backward : bool
        Time the gradients by inputs and parameters instead of the values.

    Returns
    -------
    dict of str to float
        Median in ms, by name of the node; sources aren't in it.

    Raises
    ------
    ModelError
        If a number of passes is no good.
    """
    for what, number, least in (("n_samples", n_samples, 1), ("n_warmup", n_warmup, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ModelError(f"{what} must be a whole number from {least} on, not {number!r}.")
    plan = Plan(nodes)
    operations = [node.operation for node in plan.nodes]
    like, rng = computing_tensor(operations), np.random.default_rng(0)
    inputs = {node: to_tensor(node, node.random_array(rng), like) for node in plan.inputs}
    times: dict[str, list[float]] = {node.name: [] for node in plan.nodes if not node.is_source}
    with in_evaluation(operations):
        for number in range(n_warmup + n_samples):
            for node, timed in one_pass(plan, inputs, backward).items():
                if number >= n_warmup:
                    times[node.name].append(1000 * (timed.backward if backward else timed.forward))
    return {name: statistics.median(values) for name, values in times.items()}


@dataclass(frozen=True)
class Pass:
    """An operation in one pass: seconds forward and backward, and bytes of its value."""

    forward: float
    backward: float
    bytes: int


def one_pass(plan: Plan, inputs: Mapping[Node, torch.Tensor], backward: bool) -> dict[Node, Pass]:
    """Compute all nodes of a plan one after the other, and with `backward` the gradients of each by itself."""
    values: dict[Node, Any] = dict(inputs)
    passes = {}
    for node in plan.nodes:
        if node.is_source:
            continue
        arguments = [_leaf(values[parent], backward) for parent in node.parents]
        with torch.set_grad_enabled(backward):
            forward, value = _timed(lambda node=node, arguments=arguments: node.operation(*arguments))  # type: ignore[misc]
        back = _backward(node.operation, arguments, value) if backward else 0.0
        tensors = value if isinstance(value, tuple) else (value,)
        passes[node] = Pass(forward, back, sum(t.numel() * t.element_size() for t in tensors))
        values[node] = _leaf(value, False)
    return passes


def _backward(operation: nn.Module, arguments: Sequence[Any], value: Any) -> float:
    outputs = [y for y in (value if isinstance(value, tuple) else (value,)) if y.requires_grad]
    if not outputs:
        return 0.0
    wanted = [x for given in arguments for x in (given if isinstance(given, tuple) else (given,)) if x.requires_grad]
    wanted += [p for p in operation.parameters() if p.requires_grad]
    ones = [torch.ones_like(y) for y in outputs]
    return _timed(lambda: torch.autograd.grad(outputs, wanted, ones, allow_unused=True))[0]


def _leaf(value: Any, backward: bool) -> Any:
    if isinstance(value, tuple):
        return tuple(_leaf(item, backward) for item in value)
    return value.detach().requires_grad_() if backward and value.is_floating_point() else value.detach()


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    cuda = torch.cuda.is_initialized()
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    value = function()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, value

"""What each node of a network costs: seconds forward and backward, and memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from elektronn_tui.errors import ModelError

from .feeding import computing_tensor, in_evaluation, to_tensor
from .plan import Plan
from .precision import Precision, autocast
from .timing import Pass, one_pass

if TYPE_CHECKING:
    from .model import Model
    from .node import Node

__all__ = ["NodeProfile", "profile_nodes", "training_bytes"]

MARGIN = 1.2
"""What gradients take that are on their way; 0.6 to 1 of the whole estimate was measured."""
PASSES = 7
"""At most; the first one, which makes plans and copies, counts only if it is the only one."""


@dataclass(frozen=True)
class NodeProfile:
    """What a node costs.

    Attributes
    ----------
    name, kind : str
    forward, backward : float
        Seconds; median of the passes.
    bytes : int
        Of its value.
    parameter_bytes : int
    cost : int
        Multiplications, roughly.
    share : float
        Of the seconds of the whole network, both ways.
    """

    name: str
    kind: str
    forward: float
    backward: float
    bytes: int
    parameter_bytes: int
    cost: int
    share: float


def profile_nodes(
    model: Model,
    *,
    precision: Precision = "fp32",
    seconds: float = 15.0,
    progress: Callable[[int], object] | None = None,
) -> list[NodeProfile]:
    """Measure each node on random numbers of the declared shapes, parents first; sources are left out.

    Parameters
    ----------
    model : Model
        In the memory format that it has.
    precision : {'fp32', 'bf16'}
    seconds : float
        Passes go on for so long, but one is made at least, and seven at most.
    progress : callable, optional
        Called after each pass with the number of them.

    Raises
    ------
    ModelError
        There are no random numbers for an input, as of Python objects.
    """
    if not seconds >= 0:
        raise ModelError(f"seconds must be from 0 on, not {seconds!r}.")
    nodes = list(model.nodes.values())
    plan = Plan([node for node in nodes if not node.several])
    like, rng = computing_tensor([model.module]), np.random.default_rng(0)
    inputs = {node: model.formatted(to_tensor(node, node.random_array(rng), like)) for node in plan.inputs}
    passes: list[dict[Node, Pass]] = []
    begin = time.perf_counter()
    with in_evaluation([model.module]), autocast(precision, like.device):
        while not passes or (time.perf_counter() - begin < seconds and len(passes) < PASSES):
            passes.append(one_pass(plan, inputs, backward=True))
            if progress is not None:
                progress(len(passes))
    counted = passes[1:] or passes
    found = {
        node: (
            statistics.median(one[node].forward for one in counted),
            statistics.median(one[node].backward for one in counted),
        )
        for node in passes[0]
    }
    total = sum(map(sum, found.values())) or 1.0
    return [
        NodeProfile(
            node.name,
            type(node).__name__,
            forward,
            backward,
            passes[0][node].bytes,
            sum(p.numel() * p.element_size() for p in node.operation.parameters()),
            node.computational_cost,
            (forward + backward) / total,
        )
        for node, (forward, backward) in found.items()
    ]


def training_bytes(model: Model) -> int:
    """Return about how many bytes a training step takes: values and what gradients need of them, in float32.

    Parameters count four times: themselves, gradients, and two states of the optimiser.
    """
    values = 0
    for node in model.nodes.values():
        if not node.is_source:
            pooled = math.prod(getattr(node, "pool_shape", (1,))) if node.param_count else 1
            values += node.shape.stripnone_prod * (pooled if pooled == 1 else 1 + pooled)
    parameters = sum(p.numel() * p.element_size() for p in model.module.parameters())
    return round(4 * values * MARGIN) + 4 * parameters

"""How much memory a run of a network takes, before it is made, and how much there is."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from .node import Node
    from .plan import Plan
    from .shape import TaggedShape

__all__ = ["free_memory", "peak_bytes"]

CGROUPS = Path("/sys/fs/cgroup")
MARGIN = 1.3
"""What allocators and libraries take beside tensors: 1.05 to 1.25 of them in the networks that were measured."""


def peak_bytes(plan: Plan, shapes: Mapping[Node, TaggedShape], itemsize: int = 4) -> int:
    """Return about how many bytes the values of a forward pass take at its worst moment, without the parameters.

    Parameters
    ----------
    plan : Plan
        Which lets values go after their last use.
    shapes : mapping of Node to TaggedShape
        Of all its nodes, as of `elektronn_tui.models.plan.infer_shapes`.
    itemsize : int
        Bytes of a value.
    """
    sizes = {node: shapes[node].stripnone_prod for node in plan.nodes}
    last_use = {parent: node for node in plan.nodes for parent in node.parents}
    alive = peak = sum(sizes[node] for node in plan.nodes if node.is_source)
    for node in plan.nodes:
        if not node.parents:
            continue
        alive += sizes[node]
        peak = max(peak, alive + _scratch(node, sizes[node]))
        alive -= sum(sizes[p] for p in set(node.parents) if last_use[p] is node and not p.is_source)
    return round(peak * itemsize * MARGIN)


def _scratch(node: Node, size: int) -> int:
    """Return how many values an operation holds on its way to `size` of them."""
    pool = getattr(node, "pool_shape", None)
    if pool is None or max(pool) == 1:
        return size  # as of an activation function
    return size * (1 if getattr(node, "mfp", False) else math.prod(pool))


def free_memory(device: torch.device) -> int:
    """Return how many bytes this process may still take on a device: limits of control groups and shells count."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = psutil.virtual_memory().available
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit - psutil.Process().memory_info().vms)
    for most, used in _group_limits():
        free = min(free, most - used)
    return max(int(free), 0)


def _group_limits() -> list[tuple[int, int]]:
    """Return limit and use of the control groups (version 2) that this process is in, as of Slurm and containers."""
    found = []
    try:
        line = next(t for t in Path("/proc/self/cgroup").read_text().splitlines() if t.startswith("0::"))
        group = CGROUPS / line.removeprefix("0::").lstrip("/")
        for folder in (group, *group.parents):
            if folder == CGROUPS.parent:
                break
            most = folder / "memory.max"
            if most.is_file() and (text := most.read_text().strip()) != "max":
                found.append((int(text), int((folder / "memory.current").read_text())))
    except (OSError, StopIteration, ValueError):
        return found  # no such groups, as outside of Linux
    return found

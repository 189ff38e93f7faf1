"""What all losses share: how precise they are, and what targets and weights must be like."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["EPS", "check_target", "full_precision", "per_position", "sizes_agree"]

EPS = 1e-5
"""Added inside logarithms and to divisors."""


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """Return `x` as float32, or as float64 if it is that already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def per_position(weights: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
    """Return weights of positions with an f axis of size 1, which they may lack."""
    weights = weights.to(pred.dtype)
    return weights if weights.ndim == pred.ndim else weights.unsqueeze(1)


def check_target(node: Node, pred: TaggedShape, target: TaggedShape, n_f: int) -> None:
    """Raise unless `target` is as large as `pred`, with `n_f` features."""
    if pred.tags != target.tags:
        raise misfit(node, f"the target's axes {target.text} must be those of the prediction {pred.text}.")
    if pred.tags[:2] != ("b", "f"):
        raise misfit(node, f"the prediction's axes must begin with b, f; it has {pred.text}.")
    for tag, n, m in zip(pred.tags, pred.shape, target.shape, strict=True):
        want = n_f if tag == "f" else n
        if want != m and None not in (want, m):
            raise misfit(
                node,
                f"the target {target.text} must have size {want} on axis {tag}"
                + (" (class ids)." if tag == "f" and n_f != pred["f"] else f", as the prediction {pred.text}."),
            )


def sizes_agree(a: Sequence[int | None], b: Sequence[int | None]) -> bool:
    """Return whether two shapes can be the same: None agrees with every size."""
    return len(a) == len(b) and all(n == m or None in (n, m) for n, m in zip(a, b, strict=True))

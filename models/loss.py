"""What all losses share: how precise they are, and what targets and weights must be like."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from elektronn_tui.errors import ModelError

from .node import Node, misfit
from .shape import TaggedShape

__all__ = [
    "EPS",
    "NO_LABEL",
    "check_activation",
    "check_target",
    "check_weights",
    "full_precision",
    "labelled_targets",
    "per_position",
    "sizes_agree",
]

EPS = 1e-5
"""Added inside logarithms and to divisors."""

NO_LABEL = -666.0
"""What a target of a regression is where nothing is known; NaN says the same."""

PROBABILITY = ("sig", "logistic", "sigmoid")
"""Activations whose values lie between 0 and 1."""


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """Return `x` as float32, or as float64 if it is that already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def labelled_targets(target: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a target of a regression in the type of `like`, 0 where it isn't known, and where it is known."""
    if not target.is_floating_point():
        target = target.to(like.dtype)
    # In its own type, to which the mark is rounded as the target was: half precision holds -664, not -666.
    unknown = torch.isnan(target) | torch.isclose(target, target.new_tensor(NO_LABEL))
    return target.to(like.dtype).masked_fill(unknown, 0), ~unknown


def per_position(weights: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
    """Return weights of positions with an f axis of size 1, which they may lack; features are on axis 1."""
    weights = weights.to(pred.dtype)
    return weights if weights.ndim == pred.ndim else weights.unsqueeze(1)


def check_target(node: Node, pred: TaggedShape, target: TaggedShape, n_f: int | None = None) -> None:
    """Raise unless `target` has the axes and sizes of `pred`, with `n_f` features if that is given."""
    if pred.tags != target.tags:
        raise misfit(node, f"the target's axes {target.text} must be those of the prediction {pred.text}.")
    if n_f is not None and not pred.hastag("f"):
        raise misfit(node, f"the prediction needs an axis f for the classes; it has {pred.text}.")
    for tag, n, m in zip(pred.tags, pred.shape, target.shape, strict=True):
        want = n_f if tag == "f" and n_f is not None else n
        if want != m and None not in (want, m):
            raise misfit(
                node,
                f"the target {target.text} must have size {want} on axis {tag}"
                + (" (class ids)." if tag == "f" and want != pred["f"] else f", as the prediction {pred.text}."),
                tag,
            )


def check_weights(node: Node, weights: TaggedShape, pred: TaggedShape) -> None:
    """Raise unless there is one weight for each position of `pred`; the f axis is 1 or missing."""
    sizes = tuple(n for n, tag in zip(pred.shape, pred.tags, strict=True) if tag != "f")
    if not sizes_agree(weights.shape, sizes) and not sizes_agree(weights.shape, pred.updateshape("f", 1).shape):
        raise misfit(node, f"example_weights must have the shape {sizes}, not {weights.text}.")


def check_activation(node: Node, parent: Node, what: str, allowed: Sequence[str]) -> None:
    """Raise if `parent` is a layer with another activation; of other nodes nothing is known.

    Raises
    ------
    ModelError
        Naming the activations that would be right.
    """
    activation = getattr(parent, "activation_func", None)
    if activation is not None and activation not in allowed:
        raise ModelError(
            f"{node.title}: {what} {parent.name!r} has the activation {activation!r}; it needs {', '.join(allowed)}."
        )


def sizes_agree(a: Sequence[int | None], b: Sequence[int | None]) -> bool:
    """Return whether two shapes can be the same: None agrees with every size."""
    return len(a) == len(b) and all(n == m or None in (n, m) for n, m in zip(a, b, strict=True))

"""One number from several losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .loss import full_precision
from .node import Node
from .shape import TaggedShape
from .variables import Variable

__all__ = ["AggregateLoss"]


class AggregateOperation(nn.Module):
    """Mixed mean of losses."""

    def __init__(self, mixing_weights: Variable) -> None:
        super().__init__()
        self.mixing_weights = mixing_weights

    def forward(self, *losses: torch.Tensor) -> torch.Tensor:
        """Map K losses of any shape to one number, (1,)."""
        weights: list[float] = self.mixing_weights.value  # type: ignore[assignment]
        total = torch.stack([full_precision(x).mean() * w for x, w in zip(losses, weights, strict=True)])
        return total.sum().reshape(1) / len(weights)


class AggregateLoss(Node):
    """One number from several losses: ``1/K * sum_k w_k * mean(loss_k)``.

    Parameters
    ----------
    parent_nodes : Node or sequence of Node
    mixing_weights : sequence of float, optional
        One for each parent, 1 by default, not normalised; live, as ``node.mixing_weights``.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If `mixing_weights` is no list with one number for each parent.
    """

    def __init__(
        self,
        parent_nodes: Node | Sequence[Node],
        mixing_weights: npt.ArrayLike | None = None,
        name: str = "total_loss",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent_nodes, name, print_repr)
        if not self.parents:
            raise ModelError(f"{self.title} needs at least one loss.")
        if mixing_weights is None:
            mixing_weights = [1.0] * len(self.parents)
        variable = self._add_variable(
            "mixing_weights", mixing_weights, help="weight of each loss in the sum", length=len(self.parents)
        )
        self._build(AggregateOperation(variable))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of one number."""
        return TaggedShape((1,), "f")

    @property
    def computational_cost(self) -> int:
        """Sum of the parents' sizes."""
        return sum(parent.shape.stripnone_prod for parent in self.parents)

"""A direction in space as two numbers without a jump."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["StereographicMap"]


class StereographicOperation(nn.Module):
    """From the plane onto the sphere."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (R, Y, X) to (z, y, x) along the f axis."""
        radius, v, u = x.unbind(self.axis)
        radius = F.softplus(radius)
        square = u.square() + v.square()
        scale = radius / (1 + square)
        return torch.stack((scale * (1 - square), 2 * scale * v, 2 * scale * u), self.axis)


class StereographicMap(Node):
    """A vector in space from a length and a point of the plane, by stereographic projection onto the sphere.

    From features (R, Y, X) it computes (z, y, x) of the length softplus(R). With ``q = 1 + X² + Y²`` it is
    ``softplus(R) / q`` times ``(1 - X² - Y², 2 Y, 2 X)``: the origin of the plane points along z, its unit circle lies
    in the plane z = 0, and no finite point reaches -z.

    Parameters
    ----------
    pred : Node
        With three features on the axis f; all other axes are free.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If there aren't three features.
    """

    def __init__(self, pred: Node, name: str = "stereo_map", print_repr: bool = False) -> None:
        super().__init__(pred, name, print_repr)
        self.infer_shape(pred.shape)
        self._build(StereographicOperation(pred.shape.tag2index("f")))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape."""
        (shape,) = parents
        if not shape.hastag("f") or shape["f"] != 3:
            raise misfit(self, f"needs three features (R, Y, X), but its parent has {shape.text}.", "f")
        return shape

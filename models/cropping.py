"""Nodes that cut voxels off, or put them on, at both ends of the spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from elektronn_tui.errors import ModelError

from .node import Node, misfit
from .shape import TaggedShape
from .spatial import spatial_tuple

__all__ = ["Crop", "Pad"]


class CropOperation(nn.Module):
    """Cut off both ends of the spatial axes."""

    def __init__(self, crop: dict[int, int]) -> None:
        super().__init__()
        cut = {axis: slice(c, -c if c else None) for axis, c in crop.items()}
        self.index = tuple(cut.get(axis, slice(None)) for axis in range(max(cut) + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cut."""
        return x[self.index]


class Crop(Node):
    """Cut voxels off both sides of every spatial axis.

    Parameters
    ----------
    parent : Node
        With any axes; at least one is spatial.
    crop : sequence of int
        Voxels to cut off each side, for each spatial axis; 0 is allowed.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If there is no spatial axis, or nothing would be left.
    """

    def __init__(self, parent: Node, crop: Sequence[int], name: str = "crop", print_repr: bool = False) -> None:
        super().__init__(parent, name, print_repr)
        shape = parent.shape
        if not shape.ndim:
            raise misfit(self, f"needs a spatial axis, but its parent has {shape.text}.")
        self.crop = spatial_tuple(self, "crop", crop, shape.ndim, minimum=0)
        self.dtype = parent.dtype
        self._build(CropOperation(dict(zip(shape.spatial_axes, self.crop, strict=True))))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the smaller shape."""
        (shape,) = parents
        result = shape
        for axis, tag, n, c in zip(shape.spatial_axes, shape.spatial_tags, shape.spatial_shape, self.crop, strict=True):
            if n is None or n - 2 * c < 1:
                raise misfit(
                    self, f"can't cut 2 × {c} from axis {tag} of size {n}; at most {((n or 1) - 1) // 2}.", tag
                )
            result = result.updateshape(axis, n - 2 * c)
        return result.updatecentre([m + c * s for m, c, s in zip(shape.centre, self.crop, shape.strides, strict=True)])

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """What is cut off."""
        return f"cut {','.join(map(str, self.crop))}"


class PadOperation(nn.Module):
    """Put a constant around."""

    def __init__(self, widths: tuple[int, ...], value: float) -> None:
        super().__init__()
        self.widths, self.value = widths, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge."""
        return F.pad(x, self.widths, value=self.value)


class Pad(Node):
    """Put voxels of a constant value on both sides of every spatial axis.

    Parameters
    ----------
    parent : Node
        With any axes; at least one is spatial.
    pad : sequence of int
        Voxels on each side, for each spatial axis; 0 is allowed.
    value : float
        What they hold.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If there is no spatial axis, or `pad` doesn't have one whole number from 0 on for each.
    ModelError
        If `value` is no number.
    """

    def __init__(
        self, parent: Node, pad: Sequence[int], value: float = 0.0, name: str = "pad", print_repr: bool = False
    ) -> None:
        super().__init__(parent, name, print_repr)
        shape = parent.shape
        if not shape.ndim:
            raise misfit(self, f"needs a spatial axis, but its parent has {shape.text}.")
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise ModelError(f"{self.title}: value must be a number, not {value!r}.")
        self.pad = spatial_tuple(self, "pad", pad, shape.ndim, minimum=0)
        self.value = value
        self.dtype = parent.dtype
        by_axis = dict(zip(shape.spatial_axes, self.pad, strict=True))
        axes = range(len(shape) - 1, shape.spatial_axes[0] - 1, -1)  # torch counts from the last one
        self._build(PadOperation(tuple(w for axis in axes for w in (by_axis.get(axis, 0),) * 2), value))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the larger shape."""
        (shape,) = parents
        result = shape
        for axis, n, p in zip(shape.spatial_axes, shape.spatial_shape, self.pad, strict=True):
            result = result.updateshape(axis, None if n is None else n + 2 * p)
        return result.updatecentre([m - p * s for m, p, s in zip(shape.centre, self.pad, shape.strides, strict=True)])

    @property
    def needs_whole_image(self) -> bool:
        """Whether there is something to put on."""
        return any(self.pad)

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """What is put on."""
        return f"add {','.join(map(str, self.pad))} of {self.value:g}"

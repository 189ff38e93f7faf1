"""Which target voxels belong to an input patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elektronn_tui.errors import DataError

from .sources import Vec3

__all__ = ["Geometry"]


@dataclass(frozen=True)
class Geometry:
    """Shapes of input and target patches, and how the one lies in the other.

    Target voxel ``k`` of an axis is centred on input voxel ``offsets + k * strides`` of the patch. Networks for
    images have patches of z extent 1.

    Parameters
    ----------
    patch_shape
        Input patch (z, y, x) in voxels.
    target_shape
        Target patch (z, y, x): the network's output.
    offsets
        Input voxel (z, y, x) of the patch on which target voxel 0 lies.
    strides
        Input voxels (z, y, x) between two target voxels.
    at_centre
        The target is one voxel, for networks that say one thing of a whole patch: the one in its centre, of an even
        extent the one behind it.

    Raises
    ------
    DataError
        ``2 * offset + stride * (target - 1) + 1`` is not the patch's size on some axis: says which, and what fits.
    """

    patch_shape: Vec3
    target_shape: Vec3
    offsets: Vec3 = (0, 0, 0)
    strides: Vec3 = (1, 1, 1)
    at_centre: bool = False

    def __post_init__(self) -> None:
        for field, least in (("patch_shape", 1), ("target_shape", 1), ("offsets", 0), ("strides", 1)):
            value = tuple(int(v) for v in getattr(self, field))
            if len(value) != 3 or min(value) < least:
                raise DataError(f"Geometry: {field}={value}; three integers (z, y, x) ≥ {least} are needed.")
            object.__setattr__(self, field, value)
        if self.at_centre:
            object.__setattr__(self, "offsets", tuple(n // 2 for n in self.patch_shape))
            if self.target_shape != (1, 1, 1) or self.strides != (1, 1, 1):
                raise DataError(f"Geometry: a target of {self.target_shape} voxels is more than the centre of a patch.")
            return
        for axis, patch, target, offset, stride in zip(
            "zyx", self.patch_shape, self.target_shape, self.offsets, self.strides, strict=True
        ):
            span = stride * (target - 1) + 1
            if 2 * offset + span == patch:
                continue
            reason = (
                f"a target of {target} with offset {offset} and stride {stride} needs a patch of {2 * offset + span}"
            )
            if (patch - span) % 2:
                reason += (
                    "; the field of view is even there, so that the output has no centre voxel: "
                    "use odd filters, or a pooling that makes the field of view odd"
                )
            elif patch > 2 * offset:
                fit = (patch - 2 * offset - 1) // stride + 1
                reason += f"; a patch of {2 * offset + stride * (fit - 1) + 1} holds a target of {fit}"
            raise DataError(f"Geometry: axis {axis}: the patch is {patch}, but {reason}.")

    @classmethod
    def from_shapes(cls, input_shape: Any, target_shape: Any) -> Geometry:
        """Make the geometry of a network.

        Parameters
        ----------
        input_shape, target_shape
            Tagged shapes of the input and the target node: `spatial_shape` and, for the target, `strides` and
            `offsets`, each over three (z, y, x) or two (y, x) axes. A target without axes is one voxel in the centre.

        Raises
        ------
        DataError
            The shapes don't fit each other, or have neither two nor three spatial axes.
        """
        n = len(input_shape.spatial_shape)
        if n in (2, 3) and len(target_shape.spatial_shape) == 0:
            return cls(_three(input_shape.spatial_shape, 1), (1, 1, 1), at_centre=True)
        if n not in (2, 3) or len(target_shape.spatial_shape) != n:
            raise DataError(
                f"Geometry: input {tuple(input_shape.spatial_shape)} and target {tuple(target_shape.spatial_shape)}: "
                "both need two (y, x) or three (z, y, x) spatial axes."
            )
        return cls(
            _three(input_shape.spatial_shape, 1),
            _three(target_shape.spatial_shape, 1),
            _three(target_shape.offsets, 0),
            _three(target_shape.strides, 1),
        )

    @property
    def span(self) -> Vec3:
        """Input voxels (z, y, x) from the first to the last target voxel, both included."""
        z, y, x = (s * (t - 1) + 1 for s, t in zip(self.strides, self.target_shape, strict=True))
        return z, y, x

    def target_slices(self, position: Sequence[int]) -> tuple[slice, slice, slice]:
        """Return the slices of the target voxels of an un-warped patch.

        Parameters
        ----------
        position
            First voxel (z, y, x) of the patch, in the coordinates that the slices shall have.
        """
        z, y, x = (
            slice(p + o, p + o + n, s)
            for p, o, n, s in zip(position, self.offsets, self.span, self.strides, strict=True)
        )
        return z, y, x


def _three(values: Sequence[Any], fill: int) -> Vec3:
    z, y, x = (fill,) * (3 - len(values)) + tuple(int(v) for v in values)
    return z, y, x

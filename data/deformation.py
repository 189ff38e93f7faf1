"""Random deformations within a patch: elastic ones, and sections that lie beside where they should.

They displace voxels of the patch before the matrix of the warp takes them to the volume, so that a voxel is still
interpolated once, and raw values, labels and masks go through the same displacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .geometry import Geometry
from .ranges import Range, check_number, check_switch, drawn, end_of, set_counts, set_range, some_sections

__all__ = ["Deformation", "Displacement", "Elastic", "Field", "Misalignment", "Slip"]

Vector = npt.NDArray[np.float64]
_FOLDING = 0.4


@dataclass(frozen=True)
class Elastic:
    """A smooth random deformation: a uniform cubic B-spline through a grid of randomly displaced control points.

    Parameters
    ----------
    displacement
        Range of the greatest displacement in voxels along y and x. One is drawn for an example; along each axis its
        control points move by up to as much, and voxels by about a fifth of it in the mean, never by more.
    spacing
        Voxels between two control points along y and x. `displacement` is at most 0.4 of it: then nothing is folded
        (Choi and Lee, Injectivity conditions of 2D and 3D uniform cubic B-spline functions, 2000).
    anisotropy
        Size of a voxel of the patch in z over its lateral size: displacements and spacing along z are that many times
        fewer voxels.
    lock_z
        Keep voxels in their section; displacements differ between sections all the same.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    displacement: float | Range = (2.0, 8.0)
    spacing: float = 32.0
    anisotropy: float = 1.0
    lock_z: bool = True

    def __post_init__(self) -> None:
        set_range(self, "displacement", 0.0, 1000.0)
        check_number(self, "spacing", 2.0, 10_000.0)
        check_number(self, "anisotropy", 0.01, 100.0)
        check_switch(self, "lock_z")
        if (most := end_of(self.displacement, 1)) > _FOLDING * self.spacing:
            raise DataError(
                f"Elastic: displacement={self.displacement!r} with spacing={self.spacing:g}; beyond "
                f"{_FOLDING * self.spacing:g}, {_FOLDING:g} of the spacing, the patch would fold. A spacing of "
                f"{most / _FOLDING:g} would do."
            )

    def draw(self, rng: np.random.Generator, patch_shape: Sequence[int]) -> Field:
        """Return the displaced control points for a patch (z, y, x)."""
        stretch = np.array([self.anisotropy, 1.0, 1.0])
        spacing = self.spacing / stretch
        count = np.ceil((np.asarray(patch_shape) - 1) / spacing).astype(int) + 3
        greatest = drawn(rng, self.displacement) / stretch
        control = rng.uniform(-1.0, 1.0, (3, *np.maximum(count, 4))) * greatest[:, None, None, None]
        if self.lock_z:
            control[0] = 0
        return Field(control, spacing)


@dataclass(frozen=True)
class Slip:
    """Single sections of the raw image that lie beside where they should, while the target stays.

    What a network sees where a section was aligned badly: it has to carry on over it.

    Parameters
    ----------
    number
        How many, (least, most), anywhere in the patch; at most all but one of its sections.
    distance
        Range in voxels along y and x, in any direction; rounded to whole voxels.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    number: int | tuple[int, int] = (1, 2)
    distance: float | Range = (1.0, 10.0)

    def __post_init__(self) -> None:
        set_counts(self, "number", 1, 1000)
        set_range(self, "distance", 0.0, 1000.0)

    def draw(self, rng: np.random.Generator, depth: int) -> Vector:
        """Return how far (y, x) each section is displaced: (depth, 2)."""
        shifts = np.zeros((depth, 2))
        for z in some_sections(rng, self.number, depth):
            shifts[z] = _whole_voxels(rng, self.distance)
        return shifts


@dataclass(frozen=True)
class Misalignment:
    """A step in the alignment: from some section on all lie beside the ones before, raw image and target together.

    Parameters
    ----------
    distance
        Range in voxels along y and x, in any direction; rounded to whole voxels.

    Raises
    ------
    DataError
        If it is out of its limits.
    """

    distance: float | Range = (1.0, 10.0)

    def __post_init__(self) -> None:
        set_range(self, "distance", 0.0, 1000.0)

    def draw(self, rng: np.random.Generator, depth: int) -> Vector:
        """Return how far (y, x) each section is displaced: (depth, 2)."""
        shifts = np.zeros((depth, 2))
        shifts[int(rng.integers(1, max(depth, 2))) :] = _whole_voxels(rng, self.distance)
        return shifts


@dataclass(frozen=True, eq=False)
class Field:
    """Control points of a uniform cubic B-spline over a patch.

    Attributes
    ----------
    control
        Displacements (z, y, x) of the control points in voxels, (3, n, m, k) float64; point 1 of each axis lies on
        voxel 0.
    spacing
        Voxels (z, y, x) between two of them.
    """

    control: Vector
    spacing: Vector


@dataclass(frozen=True, eq=False)
class Deformation:
    """A deformation that was drawn: where each voxel of a patch takes its value from, in voxels of the patch.

    Parameters
    ----------
    depth
        Sections of the patch.
    field
        Smooth displacements; None for none.
    slips, offsets
        Displacements (y, x) of sections, (depth, 2): of the raw image alone, and of raw image and target.
    """

    depth: int
    field: Field | None = None
    slips: Vector | None = None
    offsets: Vector | None = None

    def scaled(self, strength: float) -> Deformation:
        """Return it `strength` times as strong, sections displaced by whole voxels."""
        field = self.field and Field(self.field.control * strength, self.field.spacing)
        slips, offsets = (None if s is None else np.trunc(s * strength) for s in (self.slips, self.offsets))
        return Deformation(self.depth, field, slips, offsets)

    def of_raw(self) -> Displacement:
        """Return the displacements of the voxels of the patch."""
        shifts = np.zeros((self.depth, 2))
        for moved in (self.slips, self.offsets):
            if moved is not None:
                shifts = shifts + moved
        return Displacement(self.field, np.zeros(3), np.ones(3), shifts)

    def of_target(self, geometry: Geometry) -> Displacement:
        """Return the displacements of the voxels of the target, in units of their own grid."""
        return self.on(geometry.offsets, geometry.strides, geometry.target_shape[0])

    def on(self, first: Sequence[int] | npt.NDArray[np.int64], strides: Sequence[int], depth: int) -> Displacement:
        """Return the displacements of a grid of voxels, in units of that grid; those of targets.

        Parameters
        ----------
        first
            Voxel (z, y, x) of the patch on which the first one lies; may be outside, where displacements go on as at
            the rim.
        strides
            Voxels of the patch between two of them.
        depth
            How many there are along z.
        """
        start, step = np.asarray(first, np.float64), np.asarray(strides, np.float64)
        shifts = np.zeros((depth, 2))
        if self.offsets is not None:
            at = np.clip(int(first[0]) + int(strides[0]) * np.arange(depth), 0, self.depth - 1)
            shifts = self.offsets[at] / step[1:]
        return Displacement(self.field, start, step, shifts)


class Displacement:
    """Displacements of the voxels ``first + step * k`` of a patch, in units of `step`.

    Attributes
    ----------
    reach
        The least and the greatest displacement (z, y, x) there may be.
    """

    def __init__(self, field: Field | None, first: Vector, step: Vector, shifts: Vector) -> None:
        self._field, self._first, self._step, self._shifts = field, first, step, shifts
        low, high = np.zeros(3), np.zeros(3)
        if field is not None:
            # Weights of a B-spline are a mean: no voxel goes further than its control points.
            low = field.control.min((1, 2, 3)) / step
            high = field.control.max((1, 2, 3)) / step
        low[1:] += shifts.min(0)
        high[1:] += shifts.max(0)
        self.reach = low, high

    def tables(
        self, matrix: npt.NDArray[np.float64], shape: Sequence[int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return what `matrix` makes of the displacements of a grid of `shape`, as the compiled loops take it.

        Returns
        -------
        planes
            (z, 4, n, x) float32: of each section, what is to be added to the homogeneous coordinates (z, y, x, w), at
            the n control points along y.
        rows
            (y,) int32: the first of the control points that count for a row.
        weights
            (y, taps) float32: how much they do.
        """
        shifts = self._shifts @ matrix[:, 1:3].T  # (z, 4)
        if self._field is None:
            planes = np.broadcast_to(shifts[:, :, None, None], (*shifts.shape, 1, shape[2]))
            return (
                np.ascontiguousarray(planes, np.float32),
                np.zeros(shape[1], np.int32),
                np.ones((shape[1], 1), np.float32),
            )
        along_z, along_y, along_x = (self._spline(axis, np.arange(shape[axis])) for axis in range(3))
        control = np.tensordot(matrix[:, :3] / self._step, self._field.control, 1)  # (4, n_z, n_y, n_x)
        wide = control @ _dense(*along_x, control.shape[3]).T
        planes = np.tensordot(_dense(*along_z, control.shape[1]), wide, (1, 1)) + shifts[:, :, None, None]
        return np.ascontiguousarray(planes, np.float32), along_y[0].astype(np.int32), along_y[1].astype(np.float32)

    def at(self, voxel: Sequence[int] | npt.NDArray[np.int64]) -> Vector:
        """Return the displacement (z, y, x) of one voxel of the grid."""
        moved = np.array([0.0, *self._shifts[voxel[0]]])
        if self._field is not None:
            sums = self._field.control
            for axis in (2, 1, 0):
                first, weights = self._spline(axis, np.array([voxel[axis]]))
                sums = np.take(sums, range(first[0], first[0] + 4), 1 + axis)
                sums = np.tensordot(sums, weights[0], (1 + axis, 0))
            moved = moved + sums / self._step
        return moved

    def _spline(self, axis: int, voxels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Vector]:
        """Return the first control point and the four weights of voxels along an axis."""
        assert self._field is not None
        cells = self._field.control.shape[1 + axis] - 3
        at = np.clip((self._first[axis] + self._step[axis] * voxels) / self._field.spacing[axis], 0, cells)
        cell = np.minimum(at.astype(np.int64), cells - 1)
        t = at - cell
        cubic = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
        return cell, np.stack(cubic, 1) / 6


def _dense(first: npt.NDArray[np.int64], weights: Vector, count: int) -> Vector:
    dense = np.zeros((len(first), count))
    np.put_along_axis(dense, first[:, None] + np.arange(weights.shape[1]), weights, 1)
    return dense


def _whole_voxels(rng: np.random.Generator, distance: float | Range) -> Vector:
    angle = rng.uniform(0, 2 * np.pi)
    vector: Vector = np.rint(drawn(rng, distance) * np.array([np.sin(angle), np.cos(angle)]))
    return vector

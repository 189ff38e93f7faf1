"""Random warps: the transform is drawn first, then only positions where it fits, then the source is sampled once.

A warp is a 4x4 matrix that takes a voxel index of the patch, ``(z, y, x, 1)``, to a voxel index of the volume (a
pull-back). Raw values and labels are taken through the same matrix, so they can't drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

if TYPE_CHECKING:
    from .deformation import Deformation, Displacement
    from .geometry import Geometry

__all__ = ["Warp", "bounding_box", "corners_of", "place", "positions", "source_box", "target_matrix", "translated"]

Matrix: TypeAlias = npt.NDArray[np.float64]
Shape: TypeAlias = tuple[int, int, int]
Region: TypeAlias = tuple[Sequence[int], Sequence[int]]

# Rounding of the matrix product; far below what shows in a voxel's value.
_TOLERANCE = 1e-4
# A homogeneous coordinate near zero would blow a patch up without limit.
_LEAST_HOMOGENEOUS = 0.3
_STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)
_UNIFORMS, _NORMALS = 15, 7


@dataclass(frozen=True)
class Warp:
    """What a random warp may do, in units that a person can judge.

    Angles and factors are drawn uniformly from their ranges; each range may also be given as one number `r`, which
    stands for ``(-r, r)`` (for `scale`: ``(1 - r, 1 + r)``).

    Parameters
    ----------
    rotation
        Rotation about the z axis in degrees. All directions of three dimensions are equally likely (random unit
        quaternions) where this range is a full turn, `tilt` is not given and `lock_z` is off.
    tilt
        Rotation out of the y-x plane in degrees, about an axis of random direction in that plane; for
        ``lock_z=False``. ``None``: as `rotation`.
    scale
        Magnification, one factor per axis; 1.1 shows things 1.1 times as large. With `lock_z` z keeps its own.
    shear
        Shift of one axis per step along another one, without unit. With `lock_z` only between y and x.
    flips
        Whether z, y, x may be mirrored, each with probability 1/2. `lock_z` does not forbid flips of z.
    swap
        Whether y and x may be exchanged, with probability 1/2.
    perspective
        Largest relative change of magnification between the centre of the patch and its faces, 0 to 0.4.
    lock_z
        Keep sections what they are: rotation, scale, shear and perspective act in the y-x plane only.
    anisotropy
        Size of a voxel in z over its lateral size. Rotations and shears happen in physical space.
    sample_aniso
        ``True``: patches have the volume's own grid. ``False``: isotropic voxels (z `anisotropy` times as fine).
    amount
        Strength, 0 to 1: multiplies angles, shear, perspective and the distance of scale factors from 1. Flips and
        swap are as they are.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    rotation: float | tuple[float, float] = (-180.0, 180.0)
    tilt: float | tuple[float, float] | None = None
    scale: float | tuple[float, float] = (0.9, 1.1)
    shear: float | tuple[float, float] = (-0.1, 0.1)
    flips: tuple[bool, bool, bool] = (True, True, True)
    swap: bool = True
    perspective: float = 0.0
    lock_z: bool = True
    anisotropy: float = 1.0
    sample_aniso: bool = True
    amount: float = 1.0

    def __post_init__(self) -> None:
        _set_range(self, "rotation", 0.0, -360.0, 360.0)
        if self.tilt is not None:
            _set_range(self, "tilt", 0.0, -180.0, 180.0)
        _set_range(self, "scale", 1.0, 0.1, 10.0)
        _set_range(self, "shear", 0.0, -0.5, 0.5)
        flips = tuple(self.flips) if isinstance(self.flips, Sequence) else (self.flips,)
        if len(flips) != 3 or not all(isinstance(flip, bool | np.bool_) for flip in flips):
            raise DataError(f"warp: flips must be three booleans (z, y, x), not {self.flips!r}")
        object.__setattr__(self, "flips", flips)
        for name in ("swap", "lock_z", "sample_aniso"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise DataError(f"warp: {name} must be true or false, not {getattr(self, name)!r}")
        _check_number("perspective", self.perspective, 0.0, 0.4)
        _check_number("anisotropy", self.anisotropy, 0.01, 100.0)
        _check_number("amount", self.amount, 0.0, 1.0)

    def draw(
        self,
        rng: np.random.Generator,
        patch_shape: Sequence[int],
        fits: Callable[[Matrix], bool] | None = None,
    ) -> Matrix:
        """Return a random 4x4 float64 matrix: voxel index of the patch -> voxel index relative to an origin.

        The warp turns about the true centre of the patch, ``(patch_shape - 1) / 2``. Flips and swaps alone keep whole
        voxels whole. The number of random values taken from `rng` is always the same.

        Parameters
        ----------
        patch_shape
            Voxels of the patch, z, y, x.
        fits
            Says whether there is room for a matrix. Where there is none the same warp is tried at 3/4, 1/2, 1/4 and
            0 of its strength, then without flips and swap: a volume that is hardly larger than the patch gives weak
            warps instead of none. The last one is returned whatever `fits` says of it.
        """
        uniform, normal = rng.random(_UNIFORMS), rng.standard_normal(_NORMALS)
        shape = np.asarray(patch_shape, np.float64)
        for strength in _STRENGTHS if fits else _STRENGTHS[:1]:
            matrix = self._matrix(uniform, normal, shape, self.amount * strength)
            if fits is None or fits(matrix):
                return matrix
        matrix = np.eye(4)
        if not self.sample_aniso:
            matrix[0, 0] = 1 / self.anisotropy
        return matrix

    def _matrix(
        self, uniform: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], shape: Matrix, amount: float
    ) -> Matrix:
        centre = (shape - 1) / 2
        linear = self._rotation(uniform[0:3], normal, amount) @ self._deformation(uniform[3:12], amount)
        if self.swap and uniform[12] < 0.5:
            linear = linear[[0, 2, 1]]
            source_centre = centre[[0, 2, 1]]
        else:
            source_centre = centre
        mirrored = np.asarray(self.flips) & (np.modf(uniform[13] * np.array([2, 4, 8]))[0] < 0.5)
        linear = linear * np.where(mirrored, -1.0, 1.0)[:, None]
        linear[0] /= self.anisotropy
        if self.sample_aniso:
            linear[:, 0] *= self.anisotropy
        whole = np.round(linear)
        linear = np.where(np.abs(linear - whole) < 1e-12, whole, linear) + 0.0  # no negative zeros
        matrix = np.eye(4)
        matrix[:3, :3] = linear
        matrix[3, :3] = self._perspective(uniform[14], normal, shape, amount)
        # T(source centre) @ [[linear, 0], [row, 1]] @ T(-centre)
        matrix[:, 3] -= matrix[:, :3] @ centre
        matrix[:3] += np.outer(source_centre, matrix[3])
        return matrix

    def _rotation(self, uniform: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], amount: float) -> Matrix:
        low, high = _range(self.rotation)
        about_z = math.radians(low + (high - low) * uniform[0]) * amount
        turn = _rotation_about(np.array([1.0, 0.0, 0.0]), about_z)
        if self.lock_z:
            return turn
        if self.tilt is None and high - low >= 360:
            quaternion = normal[:4] / np.linalg.norm(normal[:4])
            angle = 2 * math.acos(min(1.0, abs(float(quaternion[0]))))
            axis = quaternion[1:] * np.copysign(1.0, quaternion[0])
            return _rotation_about(axis / max(float(np.linalg.norm(axis)), 1e-300), angle * amount)
        if self.tilt is not None:
            low, high = _range(self.tilt)
        towards = 2 * math.pi * uniform[1]
        axis = np.array([0.0, math.cos(towards), math.sin(towards)])
        return _rotation_about(axis, math.radians(low + (high - low) * uniform[2]) * amount) @ turn

    def _deformation(self, uniform: npt.NDArray[np.float64], amount: float) -> Matrix:
        low, high = _range(self.scale)
        scale = 1 + (low + (high - low) * uniform[:3] - 1) * amount
        low, high = _range(self.shear)
        shears = (low + (high - low) * uniform[3:9]) * amount
        deformation = np.diag(1 / scale)
        deformation[~np.eye(3, dtype=bool)] = shears
        if self.lock_z:
            deformation[0] = deformation[:, 0] = 0
            deformation[0, 0] = 1
        return deformation

    def _perspective(self, uniform: float, normal: npt.NDArray[np.float64], shape: Matrix, amount: float) -> Matrix:
        # A normal vector has a uniform direction; a corner gets at most sqrt(3) times what the faces get.
        direction = normal[4:7].copy()
        if self.lock_z:
            direction[0] = 0
        direction /= max(float(np.linalg.norm(direction)), 1e-300)
        half = np.maximum((shape - 1) / 2, 0.5)
        row: Matrix = self.perspective * amount * uniform * direction / half
        return row


def target_matrix(matrix: Matrix, geometry: Geometry, origin: Sequence[float] = (0, 0, 0)) -> Matrix:
    """Return the matrix that takes target voxels to where `matrix` takes their voxels of the patch, minus `origin`.

    `origin` is the voxel of the raw volume on which the first voxel of the labels that will be sampled lies.
    """
    grid = np.diag([*map(float, geometry.strides), 1.0])
    grid[:3, 3] = geometry.offsets
    return translated(matrix @ grid, [-position for position in origin])


def corners_of(shape: Sequence[int], displacement: Displacement | None = None) -> Matrix:
    """Return the corners (z, y, x, 1) of the box that displaced voxels of a patch of `shape` lie in, (8, 4) float64."""
    low, high = (np.zeros(3), np.zeros(3)) if displacement is None else displacement.reach
    ends = list(zip(low, np.asarray(shape) - 1 + high, strict=True))
    return np.array([(z, y, x, 1.0) for z in ends[0] for y in ends[1] for x in ends[2]])


def bounding_box(
    matrix: Matrix, shape: Sequence[int], displacement: Displacement | None = None
) -> tuple[Matrix, Matrix]:
    """Return the least and the greatest index (z, y, x; float64) that `matrix` takes a patch of `shape` to.

    Its voxels may be displaced before.

    Raises
    ------
    DataError
        If the perspective is so strong that the homogeneous coordinate falls to 0.3 or below at a corner.
    """
    corners = corners_of(shape, displacement) @ matrix.T
    if corners[:, 3].min() <= _LEAST_HOMOGENEOUS:
        raise DataError(
            f"the perspective of this warp is too strong for a patch of {_text(shape)}: the homogeneous coordinate "
            f"falls to {corners[:, 3].min():.2g}, it must stay above {_LEAST_HOMOGENEOUS}"
        )
    indices = corners[:, :3] / corners[:, 3:]
    return indices.min(axis=0), indices.max(axis=0)


def positions(
    matrix: Matrix,
    geometry: Geometry,
    raw_shape: Sequence[int],
    region: Region | None = None,
    deformation: Deformation | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first and the last translation (z, y, x; both may be used) that keep a warped patch in its volume.

    Parameters
    ----------
    geometry
        The patch, and where its target voxels are.
    raw_shape
        Voxels of the raw volume; the patch stays in it.
    region
        ``(lo, hi)``, half open, in voxels of the raw volume: the target voxels stay in it. ``None``: no limit.
    deformation
        What is done to the patch before `matrix`; ``None``: nothing.

    Raises
    ------
    DataError
        If no translation does; the message names the shapes.
    """
    low, high = bounding_box(matrix, geometry.patch_shape, deformation.of_raw() if deformation else None)
    first = np.ceil(-low - _TOLERANCE)
    last = np.floor(np.asarray(raw_shape) - 1 - high + _TOLERANCE)
    spans = high - low + 1
    if region is not None:
        moved = deformation.of_target(geometry) if deformation else None
        low, high = bounding_box(target_matrix(matrix, geometry), geometry.target_shape, moved)
        first = np.maximum(first, np.ceil(np.asarray(region[0]) - low - _TOLERANCE))
        last = np.minimum(last, np.floor(np.asarray(region[1]) - 1 - high + _TOLERANCE))
    if (last < first).any():
        axes = ", ".join(name for name, lacks in zip("zyx", last < first, strict=True) if lacks)
        message = (
            f"no position along {axes} for a patch of {_text(geometry.patch_shape)} voxels in a raw volume of "
            f"{_text(raw_shape)}"
        )
        if region is not None:
            message += (
                f" whose {_text(geometry.target_shape)} target voxels (offsets {_text(geometry.offsets, ', ')}, "
                f"strides {_text(geometry.strides, ', ')}) lie between {_text(region[0], ', ')} and "
                f"{_text(region[1], ', ')}"
            )
        if not np.array_equal(matrix[:, :3], np.eye(4)[:, :3]):
            message += f"; warped, the patch spans {' × '.join(f'{span:.1f}' for span in spans)} voxels"
        raise DataError(message)
    return first.astype(np.int64), last.astype(np.int64)


def place(
    matrix: Matrix,
    geometry: Geometry,
    raw_shape: Sequence[int],
    rng: np.random.Generator,
    region: Region | None = None,
    deformation: Deformation | None = None,
) -> npt.NDArray[np.int64]:
    """Draw one of the translations that `positions` admits, each equally likely. Raises what `positions` raises."""
    first, last = positions(matrix, geometry, raw_shape, region, deformation)
    return rng.integers(first, last + 1)


def translated(matrix: Matrix, position: Sequence[float] | npt.NDArray[np.int64]) -> Matrix:
    """Return `matrix` followed by a translation (z, y, x)."""
    moved = matrix.copy()
    moved[:3] += np.outer(np.asarray(position, np.float64), matrix[3])
    return moved


def source_box(
    matrix: Matrix, shape: Sequence[int], source_shape: Sequence[int], displacement: Displacement | None = None
) -> tuple[Shape, Shape]:
    """Return the box ``(lo, hi)``, half open, of the source that sampling `shape` voxels through `matrix` needs."""
    low, high = bounding_box(matrix, shape, displacement)
    extent = np.asarray(source_shape)
    begin = np.clip(np.floor(low + _TOLERANCE), 0, extent - 1).astype(int)
    end = np.clip(np.ceil(high - _TOLERANCE) + 1, begin + 1, extent).astype(int)
    return (int(begin[0]), int(begin[1]), int(begin[2])), (int(end[0]), int(end[1]), int(end[2]))


def _rotation_about(axis: npt.NDArray[np.float64], angle: float) -> Matrix:
    """Return the 3x3 rotation by `angle` (radians) about the unit vector `axis`, by Rodrigues' formula."""
    z, y, x = axis
    cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
    rotation: Matrix = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
    return rotation


def _range(value: float | tuple[float, float] | None) -> tuple[float, float]:
    assert isinstance(value, tuple)
    return value


def _set_range(warp: Warp, name: str, middle: float, minimum: float, maximum: float) -> None:
    value = getattr(warp, name)
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        value = (middle - float(value), middle + float(value))
    try:
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        raise DataError(f"warp: {name} must be a number or a range (low, high), not {value!r}") from None
    if not minimum <= low <= high <= maximum:
        raise DataError(
            f"warp: {name} must be a range (low, high) within {minimum:g} and {maximum:g}, not ({low:g}, {high:g})"
        )
    object.__setattr__(warp, name, (low, high))


def _check_number(name: str, value: float, minimum: float, maximum: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not minimum <= value <= maximum:
        raise DataError(f"warp: {name} must be a number from {minimum:g} to {maximum:g}, not {value!r}")


def _text(numbers: Sequence[int], separator: str = " × ") -> str:
    return separator.join(str(int(number)) for number in numbers)

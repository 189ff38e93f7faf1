"""Targets made of segment ids: how far the boundary is, and which way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .affinity import Unlabelled
from .derived import GridTarget, whole_numbers
from .labels import boundaries
from .sources import SourceLike, as_source

__all__ = ["DistanceKind", "DistanceSource", "Squash", "distances", "distances_to"]

DistanceKind: TypeAlias = Literal["signed", "unsigned", "vector"]
Squash: TypeAlias = Literal["tanh", "clip"]

_REACH: dict[str, float] = {"tanh": 3.0, "clip": 1.0}
"""Up to how many scales distances are told apart; tanh(3) is 0.995."""


def distances(
    ids: np.ndarray,
    scale: float,
    *,
    kind: DistanceKind = "signed",
    squash: Squash = "tanh",
    voxel_size: Sequence[float] = (1, 1, 1),
    thickness: int | Sequence[int] = 2,
    background: Unlabelled = "object",
) -> npt.NDArray[np.float32]:
    """Return how far each voxel is from the boundaries between segments.

    Parameters
    ----------
    ids
        Integer ids (z, y, x), or (1, z, y, x). Negative ones are unknown.
    scale
        Length that distances are divided by, in the unit of `voxel_size`.
    kind
        * ``"signed"``: to the nearest boundary voxel; in boundaries minus that to the nearest voxel outside of them;
        * ``"unsigned"``: to the nearest boundary voxel, 0 in boundaries;
        * ``"vector"``: the way (z, y, x) to the nearest boundary voxel. Where none is in reach it is unknown.
    squash
        What becomes of lengths d: ``"tanh"``: tanh(d / scale), where 3 scales are the reach; ``"clip"``: d / scale, at
        most 1.
    voxel_size
        (z, y, x), such as in nm.
    thickness
        Of the boundaries, as in `elektronn_tui.data.boundaries`.
    background
        What id 0 is: ``"object"``, an id like any other; ``"boundary"``; or ``"ignore"``, unknown as negative ids are.

    Returns
    -------
    ndarray of float32
        (1, z, y, x), or (3, z, y, x) of vectors; lengths up to 1. NaN where unknown, which doesn't count in training.

    Raises
    ------
    DataError
        `ids` are no volume of integers, or an argument makes no sense.

    Examples
    --------
    >>> distances(np.array([[[7, 7, 7, 7, 9, 9, 9]]]), 4, squash="clip", thickness=(0, 0, 2))
    array([[[[ 0.75,  0.5 ,  0.25, -0.25, -0.25,  0.25,  0.5 ]]]], dtype=float32)
    """
    size = _checked(scale, kind, squash, voxel_size, background)
    if ids.ndim < 3 or any(n != 1 for n in ids.shape[:-3]):
        raise DataError(f"distances: ids of shape {ids.shape}; one volume (z, y, x) is needed.")
    volume = whole_numbers(ids.reshape(ids.shape[-3:]), "distances")
    walls = _walls(volume, thickness, background)
    reach = scale * _REACH[squash]
    if kind == "vector":
        length, step = distances_to(walls == 1, reach, size, vectors=True)
        known = (walls >= 0) & np.isfinite(length)
        length[~known] = 0
        factor = np.divide(_squashed(length, scale, squash), length, out=np.zeros_like(length), where=length > 0)
        vectors = (np.moveaxis(step, -1, 0) * np.array(size, np.float32)[:, None, None, None]).astype(np.float32)
        vectors *= factor
        vectors[:, ~known] = np.nan
        return vectors
    length = _squashed(np.minimum(distances_to(walls == 1, reach, size)[0], reach), scale, squash)
    if kind == "signed":
        length -= _squashed(np.minimum(distances_to(walls == 0, reach, size)[0], reach), scale, squash) * (walls == 1)
    length[walls < 0] = np.nan
    return length[None]


def distances_to(
    marked: npt.NDArray[np.bool_],
    reach: float,
    voxel_size: Sequence[float] = (1, 1, 1),
    *,
    vectors: bool = False,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
    """Return how far the nearest marked voxel is, exactly, as long as it is in reach.

    Parameters
    ----------
    marked
        (z, y, x).
    reach
        Longest distance, in the unit of `voxel_size`. The time grows with it.
    voxel_size
        (z, y, x).
    vectors
        Return the ways, too.

    Returns
    -------
    length : ndarray of float32, (z, y, x)
        Distances; infinity beyond the reach.
    step : ndarray of int16, (z, y, x, 3), or of size 0
        Voxels (z, y, x) to the nearest one; not to be used where `length` is infinite. Of several nearest ones the one
        with the least steps along z counts, then y, then x, and the lower side before the higher.
    """
    from . import _distance_kernels as kernels

    size = [np.float32(v) for v in voxel_size]
    steps = [min(int(reach / v + 1e-6), n - 1) for v, n in zip(voxel_size, marked.shape, strict=True)]
    squares, other = np.empty(marked.shape, np.float32), np.empty(marked.shape, np.float32)
    shape = (*marked.shape, 3) if vectors else (*marked.shape, 0)
    ways, other_ways = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    kernels.nearest_along_x(np.ascontiguousarray(marked).view(np.int8), size[2], steps[2], squares, ways)
    kernels.nearest_along_y(squares, size[1], steps[1], other, ways, other_ways)
    kernels.nearest_along_z(other, size[0], steps[0], squares, other_ways, ways)
    length = np.sqrt(squares, out=squares)
    length[length > reach * (1 + 1e-6)] = np.inf
    return length, ways


class DistanceSource(GridTarget):
    """The distances to the boundaries of a volume of ids, computed where they are needed; see `distances`.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    scale, kind, squash, thickness, background
        As in `distances`.
    voxel_size
        (z, y, x); None: that of the ids, in nm, or 1.
    in_memory
        Whether the ids are kept in memory, see `elektronn_tui.data.remember`.
    """

    def __init__(
        self,
        ids: SourceLike,
        scale: float,
        *,
        kind: DistanceKind = "signed",
        squash: Squash = "tanh",
        voxel_size: Sequence[float] | None = None,
        thickness: int | Sequence[int] = 2,
        background: Unlabelled = "object",
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        source = as_source(ids)
        self._size = _checked(scale, kind, squash, voxel_size or source.voxel_size or (1, 1, 1), background)
        boundaries(np.zeros((1, 1, 1), np.uint8), thickness)  # refuses a thickness that makes no sense
        thick = np.broadcast_to(thickness, 3)
        margin = np.ceil(scale * _REACH[squash] / np.array(self._size) + 1e-6).astype(int) + (thick + 1) // 2
        super().__init__(source, "distances", margin, margin, in_memory)
        self.scale = scale
        self.channels = 3 if kind == "vector" else 1
        self.dtype = np.dtype(np.float32)
        self._options: dict[str, Any] = {
            "kind": kind,
            "squash": squash,
            "thickness": thickness,
            "background": background,
        }

    def compute(self, ids: np.ndarray) -> np.ndarray:
        """Return the distances in a box of ids."""
        return distances(ids, self.scale, voxel_size=self._size, **self._options)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"DistanceSource({self.ids!r}, {self.scale}, {options})"


def _walls(ids: npt.NDArray[np.int64], thickness: int | Sequence[int], background: Unlabelled) -> npt.NDArray[np.int8]:
    """Return 1 for boundaries, 0 for what is between them, -1 for what is unknown."""
    # Shifted by one, id 0 is an object, and unknown is what becomes 0: there are no faces to that.
    known = np.maximum(ids if background == "ignore" else ids + 1, 0)
    walls = boundaries(known, thickness, background="ignore")
    if background == "boundary":
        walls[ids == 0] = 1
    return walls


def _squashed(length: npt.NDArray[np.float32], scale: float, squash: str) -> npt.NDArray[np.float32]:
    length = length / np.float32(scale)
    return np.tanh(length, out=length) if squash == "tanh" else np.minimum(length, np.float32(1), out=length)


def _checked(
    scale: float, kind: str, squash: str, voxel_size: Sequence[float], background: str
) -> tuple[float, float, float]:
    """Return the voxel size, or refuse what makes no sense."""
    for name, value, choices in (
        ("kind", kind, get_args(DistanceKind)),
        ("squash", squash, get_args(Squash)),
        ("background", background, get_args(Unlabelled)),
    ):
        if value not in choices:
            hint = did_you_mean(str(value), choices)
            raise DataError(f"distances: {name}={value!r}; use one of {', '.join(choices)}.{hint}")
    if not 0 < scale < np.inf:
        raise DataError(f"distances: scale={scale!r}; a length above 0, in the unit of the voxel size, is needed.")
    size = tuple(float(v) for v in voxel_size)
    if len(size) != 3 or not all(0 < v < np.inf for v in size):
        raise DataError(f"distances: voxel_size={voxel_size!r}; three lengths above 0 for z, y, x are needed.")
    return size[0], size[1], size[2]

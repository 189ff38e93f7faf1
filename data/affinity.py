"""Targets made of segment ids: affinities, which say whether two voxels belong together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .derived import GridTarget, whole_numbers
from .sources import SourceLike, Vec3

__all__ = ["NEAREST", "AffinitySource", "Unlabelled", "affinities"]

Unlabelled: TypeAlias = Literal["object", "boundary", "ignore"]

_MODES: dict[str, int] = {name: i for i, name in enumerate(get_args(Unlabelled))}
NEAREST: tuple[Vec3, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""The edges to the neighbours below."""


def affinities(
    ids: np.ndarray, offsets: Sequence[Sequence[int]] = NEAREST, *, background: Unlabelled = "ignore"
) -> npt.NDArray[np.int8]:
    """Say for every voxel and offset whether the voxel has the same id as the one at that offset.

    Parameters
    ----------
    ids
        Integer ids (z, y, x), or (..., z, y, x) with leading axes of size 1. Negative ones are unlabelled.
    offsets
        (z, y, x) in voxels, one for each edge; any distance.
    background
        What id 0 is: ``"ignore"``: unlabelled, as negative ids are; ``"boundary"``: no object, not even with itself;
        ``"object"``: an id like any other.

    Returns
    -------
    ndarray of int8
        (edges, z, y, x): 1 the same id, 0 another one, -1 for edges that leave the volume or touch what is unlabelled.

    Raises
    ------
    DataError
        `ids` are no integers or no volume; `offsets` or `background` make no sense.

    Examples
    --------
    >>> affinities(np.array([[[7, 7, 9, 0]]]), [(0, 0, 1)])
    array([[[[ 1,  0, -1, -1]]]], dtype=int8)
    """
    edges, mode = _offsets(offsets), _mode(background)
    if ids.ndim < 3 or any(n != 1 for n in ids.shape[:-3]):
        raise DataError(f"affinities: ids of shape {ids.shape}; one volume (z, y, x) is needed.")
    volume = whole_numbers(ids.reshape(ids.shape[-3:]), "affinities")
    out = np.empty((len(edges), *volume.shape), np.int8)
    _kernel()(volume, edges, np.zeros(3, np.int64), np.ones(3, np.int64), mode, out)
    return out


class AffinitySource(GridTarget):
    """The affinities of a volume of ids, computed where they are needed.

    As a target of training patches they are computed of warped ids, see `GridTarget`: an edge always joins voxels that
    lie `offsets` apart in the patch that the network sees.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    offsets, background
        As in `affinities`.
    with_ids
        Add the ids themselves as the last channel, for losses over whole segments such as MALIS; 0 for negative ones.
    in_memory
        Whether the ids are kept in memory, see `elektronn_tui.data.remember`.
    """

    def __init__(
        self,
        ids: SourceLike,
        offsets: Sequence[Sequence[int]] = NEAREST,
        *,
        background: Unlabelled = "ignore",
        with_ids: bool = False,
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        self.edges = _offsets(offsets)
        self.background = background
        self.with_ids = with_ids
        self._mode = _mode(background)
        below, above = np.maximum(-self.edges.min(0), 0), np.maximum(self.edges.max(0), 0)
        super().__init__(ids, "affinities", below, above, in_memory)
        self.channels = len(self.edges) + with_ids
        self.dtype = np.dtype(np.int64 if with_ids else np.int8)

    def fill(self, ids: np.ndarray, first: Sequence[int], strides: Sequence[int], out: np.ndarray) -> None:
        """Write the affinities at the voxels ``first + k * strides`` of a box of ids."""
        ids = whole_numbers(ids, self.ids.name)
        at, steps = np.asarray(first, np.int64), np.asarray(strides, np.int64)
        _kernel()(ids, self.edges, at, steps, self._mode, out[: len(self.edges)])
        if self.with_ids:
            picked = tuple(slice(a, a + s * n, s) for a, s, n in zip(first, strides, out.shape[1:], strict=True))
            np.maximum(ids[picked], 0, out=out[-1])

    def __repr__(self) -> str:
        return f"AffinitySource({self.ids!r}, {self.edges.tolist()}, background={self.background!r})"


def _offsets(offsets: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    edges = np.asarray(offsets)
    if edges.ndim != 2 or edges.shape[1:] != (3,) or len(edges) == 0 or edges.dtype.kind not in "iu":
        raise DataError(f"affinities: offsets={offsets!r}; a list of (z, y, x) in whole voxels is needed.")
    if not edges.any(1).all():
        raise DataError(f"affinities: offsets={offsets!r}; (0, 0, 0) joins a voxel with itself.")
    return edges.astype(np.int64)


def _mode(background: str) -> int:
    if background not in _MODES:
        hint = did_you_mean(str(background), _MODES)
        raise DataError(f"affinities: background={background!r}; use one of {', '.join(_MODES)}.{hint}")
    return _MODES[background]


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the compiled pass (numba is imported when it is first needed)."""
    from ._label_kernels import mark_affinities

    return mark_affinities

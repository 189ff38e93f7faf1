"""Targets made of classes: those of a voxel and of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from elektronn_tui.errors import DataError

from .derived import GridTarget, whole_numbers
from .sources import SourceLike

__all__ = ["NEIGHBOURS", "NeighbourSource"]

NEIGHBOURS = ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
"""A voxel and the six that share a face with it."""


class NeighbourSource(GridTarget):
    """The classes of voxels and of their neighbours, a channel for each: what a network says of several places at once.

    As a target of training patches they are taken of warped classes, see `GridTarget`: a neighbour always lies at its
    offset in the patch that the network sees.

    Parameters
    ----------
    labels
        Source, array or address of integer classes; one channel.
    offsets
        (z, y, x) in voxels: the channel of offset o holds at voxel p the class of voxel p - o, and -1 where that lies
        outside of the volume.
    ignore
        Classes that don't count, apart from negative ones; they become -1.
    in_memory
        Whether the classes are kept in memory, see `elektronn_tui.data.remember`.

    Examples
    --------
    >>> NeighbourSource(np.array([[[5, 6, 7]]]), [(0, 0, 0), (0, 0, 1)]).read((0, 0, 0), (1, 1, 3))[:, 0, 0]
    array([[ 5,  6,  7],
           [-1,  5,  6]])
    """

    def __init__(
        self,
        labels: SourceLike,
        offsets: Sequence[Sequence[int]] = NEIGHBOURS,
        *,
        ignore: Sequence[int] = (),
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        self.offsets = np.asarray(offsets)
        if self.offsets.ndim != 2 or self.offsets.shape[1] != 3 or self.offsets.dtype.kind not in "iu":
            raise DataError(f"neighbours: offsets={offsets!r}; a list of (z, y, x) in whole voxels is needed.")
        self.ignore = tuple(ignore)
        self.channels = len(self.offsets)
        self.dtype = np.dtype(np.int64)
        below, above = np.maximum(self.offsets.max(0), 0), np.maximum(-self.offsets.min(0), 0)
        super().__init__(labels, "neighbours", below, above, in_memory)

    def fill(self, ids: np.ndarray, first: Sequence[int], strides: Sequence[int], out: np.ndarray) -> None:
        """Write the classes at the voxels ``first + k * strides - offset`` of a box of them."""
        ids = whole_numbers(ids, self.ids.name)
        known = np.where((ids >= 0) & ~np.isin(ids, self.ignore), ids, -1)
        reach = np.abs(self.offsets).max(0)
        padded = np.pad(known, [(int(n), int(n)) for n in reach], constant_values=-1)
        for channel, offset in zip(out, self.offsets, strict=True):
            begin = (np.asarray(first) + reach - offset).tolist()
            at = [slice(b, b + s * (n - 1) + 1, s) for b, s, n in zip(begin, strides, channel.shape, strict=True)]
            channel[:] = padded[tuple(at)]

    def __repr__(self) -> str:
        return f"NeighbourSource({self.ids!r}, {self.offsets.tolist()})"

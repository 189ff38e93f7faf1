"""Segments of blocks that overlap become segments of the whole: which belong together, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Numbering", "every_overlap", "number_wholes", "sure_overlaps"]

Links = npt.NDArray[np.int64]
"""Pairs (n, 2) of ids."""

SHARE = 0.5
"""Of the smaller one of two segments that must lie in the other one, in the voxels that both blocks have."""


@dataclass(frozen=True)
class Numbering:
    """What segments of blocks are called in the whole.

    Attributes
    ----------
    ids : ndarray of int64
        By segment, whose numbers go on from block to block: 0 what is no segment, or too small.
    count : int
        Segments of the whole.
    """

    ids: npt.NDArray[np.int64]
    count: int


def every_overlap(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> Links:
    """Return all pairs of segments that share a voxel: right where each block has the components of what it sees."""
    return _overlaps(a, b)[0]


def sure_overlaps(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> Links:
    """Return the pairs of segments that are the same one: each shares more with the other than with any third.

    Their common part must be half of the smaller one. So a segment that one block cuts in two and the other doesn't
    gives one pair, and the smaller piece stays by itself: what is merged in error does more harm than what is split.
    """
    pairs, shared = _overlaps(a, b)
    if not len(pairs):
        return pairs
    best = []
    for side in (0, 1):
        order = np.lexsort((pairs[:, 1 - side], -shared, pairs[:, side]))
        first = order[np.unique(pairs[order, side], return_index=True)[1]]
        chosen = np.zeros(len(pairs), bool)
        chosen[first] = True
        best.append(chosen)
    sizes = np.minimum(np.bincount(a.ravel())[pairs[:, 0]], np.bincount(b.ravel())[pairs[:, 1]])
    kept: Links = pairs[best[0] & best[1] & (shared >= SHARE * sizes)]
    return kept


def _overlaps(a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> tuple[Links, npt.NDArray[np.int64]]:
    """Return the pairs of ids above 0 that share voxels, and how many."""
    inside = (a > 0) & (b > 0)
    width = int(b.max(initial=0)) + 1
    keys, counts = np.unique(a[inside].astype(np.int64) * width + b[inside], return_counts=True)
    return np.stack([keys // width, keys % width], 1), counts


def number_wholes(
    links: Sequence[Links],
    sizes: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    min_size: int = 1,
) -> Numbering:
    """Join segments along links, and number the wholes from 1 on in the order of their first voxels.

    Parameters
    ----------
    links : sequence of (n, 2)
        Pairs of segments.
    sizes : ndarray of int64
        Voxels of each segment, counted once; index 0 is no segment. One without voxels may still join others.
    first : ndarray of int64
        Flat index in the whole of each segment's first voxel.
    min_size : int
        Wholes of fewer voxels get the number 0.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([np.empty((0, 2), np.int64), *links])
    count = len(sizes)
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (count, count))
    parts, part = connected_components(graph, directed=False)
    voxels = np.zeros(parts, np.int64)
    np.add.at(voxels, part, sizes)
    begin = np.full(parts, np.iinfo(np.int64).max)
    np.minimum.at(begin, part, first)
    voxels[part[0]] = 0  # what is no segment has no links
    kept = np.flatnonzero(voxels >= max(min_size, 1))
    number = np.zeros(parts, np.int64)
    number[kept[np.argsort(begin[kept], kind="stable")]] = np.arange(1, len(kept) + 1)
    return Numbering(number[part], len(kept))

"""Affinity graphs and MALIS: how many pairs of voxels hang on every edge.

An affinity graph has an edge from voxel v to v + ``nhood[e]`` for each offset e (z, y, x); affinities are arrays
(E, z, y, x), in which edges that leave the volume are undefined and 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

__all__ = [
    "affgraph_to_seg",
    "bmap_to_affgraph",
    "malis_weights",
    "mknhood2d",
    "mknhood3d",
    "mknhood3d_aniso",
    "seg_to_affgraph",
]

Offsets: TypeAlias = npt.NDArray[np.int32]


def mknhood2d(radius: float = 1) -> Offsets:
    """Return half of the offsets (y, x) within a radius, without 0; for radius 1 the rows [-1, 0] and [0, -1]."""
    return _half_ball(2, radius)


def mknhood3d(radius: float = 1) -> Offsets:
    """Return half of the offsets (z, y, x) within a radius, without 0: [-1, 0, 0], [0, -1, 0], [0, 0, -1] for 1."""
    return _half_ball(3, radius)


def mknhood3d_aniso(radiusxy: float = 1, radiusxy_zminus1: float = 1.8) -> Offsets:
    """Return offsets for thick sections: `mknhood3d`, and those within another radius in the section below.

    With the defaults 3 + 2 × 4 rows.
    """
    below = mknhood2d(radiusxy_zminus1)
    pairs = np.concatenate([below, -below])
    return np.concatenate([mknhood3d(radiusxy), np.insert(pairs, 0, -1, axis=1)]).astype(np.int32)


def _half_ball(ndim: int, radius: float) -> Offsets:
    if not radius >= 1:
        raise DataError(f"radius={radius!r}: a neighbourhood needs a radius from 1 on.")
    reach = int(radius)
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * ndim, indexing="ij"), -1).reshape(-1, ndim)
    inside = grid[(grid**2).sum(1) <= radius**2 + 1e-9]
    return inside[: len(inside) // 2].astype(np.int32)


def seg_to_affgraph(seg: npt.NDArray[np.integer], nhood: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """Return the affinities (E, z, y, x) of segment ids (z, y, x): 1 where both ids are equal and not 0.

    Raises
    ------
    DataError
        If `seg` is no volume of integers or `nhood` isn't (E, 3).
    """
    seg, offsets = _ids(seg), _offsets(nhood)
    aff = np.zeros((len(offsets), *seg.shape), np.int16)
    for e, offset in enumerate(offsets):
        here, there = _ends(seg.shape, offset)
        aff[e][here] = (seg[here] == seg[there]) & (seg[here] != 0)
    return aff


def bmap_to_affgraph(bmap: npt.NDArray[np.generic], nhood: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Return the affinities (E, z, y, x) of a boundary map (z, y, x): ``1 - max(b[v], b[v + offset])``.

    Parameters
    ----------
    bmap
        1 is boundary; integers and bool give int16, floats (probabilities) float32.
    nhood
        Offsets of length 1: a boundary between two voxels that don't touch would be overlooked.

    Raises
    ------
    DataError
        If an offset is longer, or `bmap` is no volume.
    """
    offsets = _offsets(nhood)
    bmap = np.asarray(bmap)
    if bmap.ndim != 3:
        raise DataError(f"A boundary map is a volume (z, y, x), not of shape {bmap.shape}.")
    if (far := (offsets.astype(np.int64) ** 2).sum(1) > 1).any():
        raise DataError(f"nhood: {offsets[far][0].tolist()} is longer than 1; a boundary map says nothing of it.")
    values = bmap.astype(np.float32 if bmap.dtype.kind == "f" else np.int16)
    aff = np.zeros((len(offsets), *bmap.shape), values.dtype)
    for e, offset in enumerate(offsets):
        here, there = _ends(bmap.shape, offset)
        aff[e][here] = 1 - np.maximum(values[here], values[there])
    return aff


def affgraph_to_seg(
    aff: npt.NDArray[np.generic], nhood: npt.ArrayLike, size_thresh: int = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the connected components of an affinity graph.

    Parameters
    ----------
    aff
        (E, z, y, x); an edge connects where its value differs from 0 by more than 1e-5.
    nhood
        (E, 3).
    size_thresh
        Components of so many voxels or fewer become 0.

    Returns
    -------
    seg : ndarray of int64, (z, y, x)
        Ids 1, 2, ... in the order of their first voxel.
    sizes : ndarray of int64
        Voxels of each id, from id 1 on.

    Raises
    ------
    DataError
        If shapes don't fit.
    """
    aff, offsets = _affinities("aff", aff, nhood)
    from ._malis_kernels import connected_components

    n_voxels = int(np.prod(aff.shape[1:]))
    edges = np.abs(aff) > 1e-5 if aff.dtype.kind != "b" else aff
    roots = connected_components(edges, offsets, np.arange(n_voxels, dtype=_index_type(n_voxels)))
    sizes = np.bincount(roots, minlength=n_voxels)
    kept = sizes > max(size_thresh, 0)
    new = np.where(kept, np.cumsum(kept), 0)
    return new[roots].reshape(aff.shape[1:]), sizes[kept]


def malis_weights(
    aff_pred: npt.NDArray[np.generic],
    aff_gt: npt.NDArray[np.generic],
    seg_gt: npt.NDArray[np.integer],
    nhood: npt.ArrayLike,
    unrestrict_neg: bool = False,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Count for every edge the pairs of voxels that it joins: the edge with the least affinity on their best path.

    The best path of a pair maximises its least affinity; it runs in the maximum spanning tree, so that the counts are
    exact (Turaga et al., 2009, with the two passes of Funke et al., 2018).

    Parameters
    ----------
    aff_pred
        Predicted affinities (E, z, y, x); compared in float32.
    aff_gt
        Those of the ground truth, 0 or 1; see `seg_to_affgraph`.
    seg_gt
        Ids (z, y, x); voxels of id 0 are in no pair. An id may lie in several pieces.
    nhood
        Offsets (E, 3).
    unrestrict_neg
        Count the negative pairs on the prediction alone, instead of with all edges inside of objects set to 1.

    Returns
    -------
    pos : ndarray of uint64, (E, z, y, x)
        Pairs of the same id, in the graph of ``min(pred, gt)``.
    neg : ndarray of uint64, (E, z, y, x)
        Pairs of different ids, in the graph of ``max(pred, gt)``, or of ``pred`` if `unrestrict_neg`.

    Raises
    ------
    DataError
        If shapes don't fit or a prediction is NaN.

    Notes
    -----
    Among edges of equal weight the order is that of their flat index. Counts on single ones of them depend on it, sums
    do not. Most edges join nothing and are filtered out before they are sorted; the time is that of some scans, of a
    radix sort of little more than the tree, and of n log n for joining.
    """
    pred, offsets = _affinities("aff_pred", aff_pred, nhood)
    gt, _ = _affinities("aff_gt", aff_gt, nhood)
    ids = _ids(seg_gt)
    for name, shape in (("aff_gt", gt.shape[1:]), ("seg_gt", ids.shape)):
        if shape != pred.shape[1:]:
            raise DataError(f"{name} covers {shape} voxels (z, y, x), but aff_pred {pred.shape[1:]}.")
    p, t = (np.asarray(aff, np.float32) for aff in (pred, gt))
    if np.isnan(p.min(initial=0)) or np.isnan(t.min(initial=0)):
        raise DataError("aff_pred or aff_gt has NaN, which has no place in an order.")
    labels = _labels(ids, _index_type(p.size))
    pos = _pass(np.minimum(p, t, order="C"), labels, offsets, same_ids=True)
    weights = np.array(p, order="C") if unrestrict_neg else np.maximum(p, t, order="C")
    neg = _pass(weights, labels, offsets, same_ids=False)
    return pos, neg


def _pass(
    weights: npt.NDArray[np.float32],
    labels: npt.NDArray[np.signedinteger],
    offsets: npt.NDArray[np.int64],
    *,
    same_ids: bool,
) -> npt.NDArray[np.uint64]:
    """Count the pairs in the graph of the weights, which are overwritten."""
    from ._malis_kernels import NO_EDGE, count_pairs, edge_keys

    keys = weights.view(np.uint32)
    edge_keys(keys, offsets)
    # The first round takes as many edges as there are voxels, which build most of the tree; later ones go on to twice,
    # four times as many, and so on.
    last = np.uint32(NO_EDGE - 1)
    sample = np.sort(np.append(keys.ravel()[:: keys.size // 2**16 | 1], last))
    ranks = sample.size / len(offsets) * 2 ** np.arange(np.log2(len(offsets)))
    bounds = np.unique(np.append(np.minimum(sample[ranks.astype(int)], last), last))
    parent = np.arange(labels.size, dtype=labels.dtype)
    counts: npt.NDArray[np.int64] = count_pairs(keys, bounds, offsets, labels, same_ids, parent)
    return counts.view(np.uint64).reshape(weights.shape)


def _labels(ids: npt.NDArray[np.integer], dtype: type[np.signedinteger]) -> npt.NDArray[np.signedinteger]:
    """Return ids in C order as another type, renumbered if it doesn't hold them; 0 stays 0."""
    limits = np.iinfo(dtype)
    if ids.size and (int(ids.min()) < limits.min or int(ids.max()) > limits.max):
        _, inverse = np.unique(ids, return_inverse=True)
        ids = np.where(ids == 0, 0, inverse.reshape(ids.shape) + 1)
    return np.ascontiguousarray(ids, dtype)


def _index_type(n: int) -> type[np.signedinteger]:
    return np.int32 if n < 2**31 - 1 else np.int64


def _offsets(nhood: npt.ArrayLike) -> npt.NDArray[np.int64]:
    offsets = np.asarray(nhood)
    if offsets.ndim != 2 or offsets.shape[1] != 3 or not len(offsets) or not np.array_equal(offsets, np.rint(offsets)):
        raise DataError(f"nhood must be whole offsets (E, 3) in z, y, x, not of shape {offsets.shape}.")
    if not offsets.any(1).all():
        raise DataError("nhood has the offset 0, which joins a voxel with itself.")
    return np.ascontiguousarray(offsets, np.int64)


def _affinities(
    name: str, aff: npt.NDArray[np.generic], nhood: npt.ArrayLike
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]:
    offsets, aff = _offsets(nhood), np.asarray(aff)
    if aff.ndim != 4 or len(aff) != len(offsets):
        raise DataError(f"{name} must be (E, z, y, x) with E = {len(offsets)} as nhood has, not {aff.shape}.")
    return aff, offsets


def _ids(seg: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    seg = np.asarray(seg)
    if seg.ndim != 3 or seg.dtype.kind not in "iub":
        raise DataError(f"Segment ids are a volume (z, y, x) of integers, not {seg.dtype} of shape {seg.shape}.")
    return seg


def _ends(
    shape: Sequence[int], offset: npt.NDArray[np.int64]
) -> tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]:
    """Return the boxes of the voxels at both ends of an offset, inside of the volume."""
    here = [slice(max(0, -o), max(0, min(n, n - o))) for n, o in zip(shape, offset.tolist(), strict=True)]
    there = [slice(max(0, o), max(0, min(n, n + o))) for n, o in zip(shape, offset.tolist(), strict=True)]
    return (here[0], here[1], here[2]), (there[0], there[1], there[2])

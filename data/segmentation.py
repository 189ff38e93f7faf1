"""From predictions to segments: connected components, watersheds, mutex watershed, and small segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .affinity import NEAREST
from .malis import _affinities, _index_type, affgraph_to_seg

__all__ = [
    "affinity_watershed",
    "boundary_watershed",
    "mutex_watershed",
    "relabel",
    "remove_small_segments",
    "threshold_segments",
]


def threshold_segments(
    prediction: np.ndarray,
    threshold: float = 0.5,
    *,
    nhood: npt.ArrayLike | None = None,
    min_size: int = 1,
) -> npt.NDArray[np.int64]:
    """Return the connected components of a boundary map or of affinities.

    Parameters
    ----------
    prediction
        Boundary map (z, y, x): voxels below the threshold are connected to their six neighbours. Or affinities
        (E, z, y, x): voxels are connected by edges above it.
    threshold
        In the range of the prediction.
    nhood
        (E, 3), the offsets of affinities.
    min_size
        Components of fewer voxels become 0.

    Returns
    -------
    ndarray of int64, (z, y, x)
        Ids 1, 2, ... in the order of first voxels; 0 boundaries and what is too small.

    Raises
    ------
    DataError
        Shapes don't fit.
    """
    prediction = np.asarray(prediction)
    if nhood is not None:
        _, offsets = _affinities("prediction", prediction, nhood)
        return affgraph_to_seg(prediction > threshold, offsets, min_size - 1)[0]
    inside = _boundary_map(prediction) < threshold
    from scipy.ndimage import label

    return relabel(remove_small_segments(label(inside, output=np.int64)[0], min_size))


def boundary_watershed(
    boundaries: np.ndarray,
    threshold: float = 0.5,
    *,
    seed_distance: float = 0.0,
    h: float = 0.0,
    min_size: int = 1,
    voxel_size: Sequence[float] = (1, 1, 1),
    per_section: bool = False,
    keep_boundaries: bool = False,
) -> npt.NDArray[np.int64]:
    """Flood a boundary map from seeds in the middle of objects.

    Parameters
    ----------
    boundaries
        (z, y, x), the larger the surer.
    threshold
        Voxels below it are inside of objects.
    seed_distance
        Seeds are the connected voxels farther than this from the nearest that is not inside, in the unit of
        `voxel_size`.
    h
        If above 0, only maxima of that distance that rise this much above the pass to a higher one are seeds: round
        parts are told apart without a distance that thin ones don't reach.
    min_size
        Segments of fewer voxels are given to those around them.
    voxel_size
        (z, y, x).
    per_section
        Flood each section for itself, for sections that are much thicker than pixels or badly aligned.
    keep_boundaries
        Leave voxels from the threshold on 0; otherwise segments meet in the boundaries.

    Returns
    -------
    ndarray of int64, (z, y, x)
        Ids 1, 2, ... in the order of first voxels.

    Raises
    ------
    DataError
        The map is no volume or has NaN, or an argument makes no sense.
    """
    volume = _boundary_map(boundaries)
    size = tuple(float(v) for v in voxel_size)
    if len(size) != 3 or not all(0 < v < np.inf for v in size):
        raise DataError(f"voxel_size={voxel_size!r}; three lengths above 0 for z, y, x are needed.")
    if not (seed_distance >= 0 and h >= 0):
        raise DataError(f"seed_distance={seed_distance!r}, h={h!r}; lengths from 0 on are needed.")
    if not per_section:
        segments = _flood(volume, threshold, seed_distance, h, min_size, size)
    else:
        segments, last = np.zeros(volume.shape, np.int64), 0
        for section, out in zip(volume, segments, strict=True):
            found = _flood(section, threshold, seed_distance, h, min_size, size[1:])
            np.add(found, last, out=out, where=found > 0)
            last = max(last, int(out.max(initial=0)))
    if keep_boundaries:
        segments[volume >= threshold] = 0
    return relabel(segments)


def _flood(
    volume: np.ndarray,
    threshold: float,
    seed_distance: float,
    h: float,
    min_size: int,
    voxel_size: Sequence[float],
) -> npt.NDArray[np.int64]:
    from scipy.ndimage import distance_transform_edt, label
    from skimage.segmentation import watershed

    inside = volume < threshold
    if inside.all():
        return np.ones(volume.shape, np.int64)
    distance = distance_transform_edt(inside, sampling=voxel_size)
    seeds = distance > seed_distance
    if h > 0:
        seeds &= _maxima(distance, h)
    segments = watershed(volume, label(seeds)[0]).astype(np.int64)
    kept = remove_small_segments(segments, min_size)
    if np.array_equal(kept > 0, segments > 0) or not kept.any():
        return kept
    again: npt.NDArray[np.int64] = watershed(volume, kept).astype(np.int64)
    return again


def _maxima(distance: npt.NDArray[np.float64], h: float) -> npt.NDArray[np.bool_]:
    """Return the tops of what rises by `h` or more above the pass to something higher."""
    from skimage.morphology import local_maxima, reconstruction

    cut = reconstruction(distance - h, distance)
    tops: npt.NDArray[np.bool_] = local_maxima(cut, connectivity=1)
    return tops


def affinity_watershed(
    aff: np.ndarray,
    seeds: np.ndarray,
    nhood: npt.ArrayLike = NEAREST,
    *,
    threshold: float = 0.0,
) -> npt.NDArray[np.int64]:
    """Let seeds grow along the strongest affinities: a maximum spanning forest, one tree for each seed.

    Edges are taken by descending affinity; each joins what it connects, unless both have a seed already.

    Parameters
    ----------
    aff
        (E, z, y, x), from 0 to 1; uint8 counts as 255ths.
    seeds
        (z, y, x): ids above 0; 0 is free; negative voxels are excluded.
    nhood
        Offsets (E, 3).
    threshold
        Edges up to this affinity join nothing, from 0.

    Returns
    -------
    ndarray of int64, (z, y, x)
        The id of the seed of each voxel; 0 where excluded or not reached.

    Raises
    ------
    DataError
        Shapes don't fit, an affinity is NaN, or a threshold below 0.
    """
    weights, offsets = _weights(aff, nhood)
    seeds = np.asarray(seeds)
    if seeds.shape != weights.shape[1:] or seeds.dtype.kind not in "iub":
        raise DataError(f"seeds must be integers {weights.shape[1:]} (z, y, x), not {seeds.dtype} of {seeds.shape}.")
    if not threshold >= 0:
        raise DataError(f"threshold={threshold!r}; from 0 on.")
    from ._agglomeration_kernels import join_seeds

    if threshold > 0:
        weights = np.where(weights > threshold, weights, np.float32(0))
    labels = np.maximum(seeds, 0).astype(np.int64).ravel()
    order, steps, parent = _order(weights, offsets, np.ones(offsets.shape, np.int64), seeds >= 0)
    join_seeds(order, steps, labels, parent)
    return labels.reshape(seeds.shape)


def mutex_watershed(
    aff: np.ndarray,
    nhood: npt.ArrayLike,
    *,
    attractive: int | None = None,
    strides: Sequence[int] = (1, 1, 1),
    mask: npt.NDArray[np.bool_] | None = None,
    min_size: int = 1,
) -> npt.NDArray[np.int64]:
    """Segment affinities without seeds or threshold: near edges join, far ones keep apart (Wolf et al., 2018).

    All edges are taken in one order. An attractive edge counts as its affinity a and joins two clusters unless they are
    kept apart; a repulsive one counts as 1 − a and keeps them apart from then on.

    Parameters
    ----------
    aff
        (E, z, y, x), from 0 to 1; uint8 counts as 255ths.
    nhood
        Offsets (E, 3).
    attractive
        The first so many offsets attract, the others repel. None: those of length 1 attract.
    strides
        Repulsive edges of every n-th voxel (z, y, x) alone: far fewer of them give nearly the same segments.
    mask
        (z, y, x): where False, voxels are 0 and have no edges.
    min_size
        Segments of fewer voxels become 0.

    Returns
    -------
    ndarray of int64, (z, y, x)
        Ids 1, 2, ... in the order of first voxels.

    Raises
    ------
    DataError
        Shapes don't fit, or an affinity is NaN or not from 0 to 1.

    Notes
    -----
    Exact; of edges of equal weight the order is that of their flat index. The time is n log n.

    References
    ----------
    Wolf et al., The mutex watershed: efficient, parameter-free image partitioning, ECCV 2018.
    """
    weights, offsets = _weights(aff, nhood)
    if weights.size and not (weights.min() >= 0 and weights.max() <= 1):
        raise DataError(f"aff must be from 0 to 1; they are {weights.min()} to {weights.max()}.")
    if attractive is not None and not 0 <= attractive <= len(offsets):
        raise DataError(f"attractive={attractive}; nhood has {len(offsets)} offsets.")
    every = np.array([int(s) for s in strides], np.int64)
    if every.shape != (3,) or every.min() < 1:
        raise DataError(f"strides={strides!r}; three numbers ≥ 1 for z, y, x.")
    shape = weights.shape[1:]
    inside = np.ones(shape, np.bool_) if mask is None else np.asarray(mask, np.bool_)
    if inside.shape != shape:
        raise DataError(f"mask covers {inside.shape} voxels (z, y, x), but aff {shape}.")
    from ._agglomeration_kernels import join_unless_apart, number_segments

    attracts = (offsets**2).sum(1) == 1 if attractive is None else np.arange(len(offsets)) < attractive
    weights = np.where(attracts[:, None, None, None], weights, 1 - weights)
    order, steps, parent = _order(weights, offsets, np.where(attracts[:, None], 1, every), inside)
    join_unless_apart(order, steps, attracts, int((~attracts).sum()) * parent.size, parent)
    segments = np.empty(parent.size, np.int64)
    number_segments(parent, inside.ravel(), min_size, segments)
    return segments.reshape(shape)


def remove_small_segments(ids: np.ndarray, min_size: int) -> np.ndarray:
    """Set segments of fewer than so many voxels to 0; ids from 0 on, of any shape."""
    if min_size <= 1:
        return ids
    numbers = relabel(ids)
    kept = np.bincount(numbers.ravel()) >= min_size
    return np.where(kept[numbers], ids, ids.dtype.type(0))


def relabel(ids: np.ndarray) -> npt.NDArray[np.int64]:
    """Return ids as 1, 2, ... in the order of their first voxels; 0 stays 0.

    Raises
    ------
    DataError
        They are no integers.
    """
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iub":
        raise DataError(f"ids are integers, not {ids.dtype}.")
    flat = ids.ravel()
    if not flat.size:
        return np.zeros(ids.shape, np.int64)
    # Neighbours mostly agree: what has to be sorted is runs of voxels, not voxels.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    found, first, inverse = np.unique(flat[starts], return_index=True, return_inverse=True)
    number = np.empty(len(found), np.int64)
    order = np.argsort(first)
    order = order[found[order] != 0]
    number[found == 0] = 0
    number[order] = np.arange(1, len(order) + 1)
    return np.repeat(number[inverse], np.diff(starts, append=flat.size)).reshape(ids.shape)


def _boundary_map(prediction: np.ndarray) -> np.ndarray:
    prediction = np.asarray(prediction)
    if prediction.ndim == 4 and len(prediction) == 1:
        prediction = prediction[0]
    if prediction.ndim != 3 or prediction.dtype.kind not in "fiub":
        raise DataError(
            f"A boundary map is a volume (z, y, x) of numbers, not {prediction.dtype} of shape {prediction.shape}."
        )
    if prediction.dtype.kind == "f" and np.isnan(prediction.min(initial=0)):
        raise DataError("The boundary map has NaN.")
    return prediction


def _weights(aff: np.ndarray, nhood: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    checked, offsets = _affinities("aff", aff, nhood)
    weights = np.asarray(checked, np.float32)
    if checked.dtype == np.uint8:
        weights = weights / np.float32(255)
    if np.isnan(weights.min(initial=0)):
        raise DataError("aff has NaN, which has no place in an order.")
    return weights, offsets


def _order(
    weights: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    strides: npt.NDArray[np.int64],
    mask: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.signedinteger], npt.NDArray[np.int64], npt.NDArray[np.signedinteger]]:
    """Return edges by descending weight as flat indices, the steps along offsets, and each voxel as its own root."""
    from ._agglomeration_kernels import edge_order
    from ._malis_kernels import edge_keys

    keys = np.array(weights, order="C").view(np.uint32)
    edge_keys(keys, offsets)
    dtype = _index_type(weights.size)
    order = edge_order(
        keys, offsets, np.ascontiguousarray(strides, np.int64), np.ascontiguousarray(mask), np.empty(0, dtype)
    )
    _, height, width = mask.shape
    steps = (offsets[:, 0] * height + offsets[:, 1]) * width + offsets[:, 2]
    return order, steps, np.arange(mask.size, dtype=_index_type(mask.size))

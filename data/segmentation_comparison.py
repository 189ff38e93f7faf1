"""Segmentations of any size against the truth, read piece by piece: scores, and what became of each true object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from elektronn_tui.errors import DataError

from .segmentation_scores import Contingency, SegmentationScores, contingency, joined, scores_of
from .sources import Source, Vec3

__all__ = ["Comparison", "ObjectScore", "compare_segmentations"]

PIECE_BYTES = 128 * 2**20
LEAST_PIECE = 0.01


@dataclass(frozen=True)
class ObjectScore:
    """What became of a true object.

    Attributes
    ----------
    id : int
        Its true id.
    voxels : int
        Its size where both segmentations are.
    iou : float
        Intersection over union with the segment that has most of it, 1 is best.
    best : int
        The id of that segment; 0 may be one.
    pieces : int
        Segments that have a hundredth of it or more: 1 unless it was split.
    merged_with : int
        Other true objects that have most of theirs in the same segment: 0 unless it was merged.
    """

    id: int
    voxels: int
    iou: float
    best: int
    pieces: int
    merged_with: int


@dataclass(frozen=True)
class Comparison:
    """A segmentation against the truth.

    Attributes
    ----------
    scores : SegmentationScores
    objects : list of ObjectScore
        The true objects; those first of which most voxels are in other segments or hold what isn't theirs.
    lo, hi : (z, y, x)
        The box of the truth in which both were compared.
    """

    scores: SegmentationScores
    objects: list[ObjectScore]
    lo: Vec3
    hi: Vec3


def compare_segmentations(
    pred: Source, gt: Source, *, offset: Sequence[int] | None = None, ignore: Sequence[int] = ()
) -> Comparison:
    """Compare a segmentation with the true one where both are, reading slabs of both.

    Parameters
    ----------
    pred, gt
        Volumes of ids; 0 in `gt` is unlabelled and doesn't count, 0 in `pred` is a segment of its own.
    offset
        Voxel (z, y, x) of `gt` on which voxel 0 of `pred` lies. Default: by the offsets in nm of the volumes, where one
        has any; else volumes of equal shape lie on each other.
    ignore
        More true ids that don't count.

    Raises
    ------
    DataError
        They hold no ids or several channels, it isn't known how they lie, or nowhere are both.
    """
    for source in (pred, gt):
        if source.channels != 1 or source.dtype.kind not in "iu":
            raise DataError(
                f"{source.name} is no segmentation: it holds {source.channels} channels of {source.dtype}, not one of "
                "integer ids."
            )
    place = _place(pred, gt) if offset is None else tuple(int(n) for n in offset)
    lo = [max(0, p) for p in place]
    hi = [min(n, p + m) for n, p, m in zip(gt.shape, place, pred.shape, strict=True)]
    if any(l >= h for l, h in zip(lo, hi, strict=True)):
        raise DataError(
            f"{pred.name}, shape {pred.shape} from voxel {place} on, lies outside of {gt.name}, shape {gt.shape}."
        )
    section = (hi[1] - lo[1]) * (hi[2] - lo[2]) * (pred.dtype.itemsize + gt.dtype.itemsize)
    depth = max(1, PIECE_BYTES // section)
    parts = []
    for z in range(lo[0], hi[0], depth):
        box = (z, lo[1], lo[2]), (min(z + depth, hi[0]), hi[1], hi[2])
        true = gt.read(*box)[0]
        if len(ignore):
            true = np.where(np.isin(true, np.asarray(ignore)), 0, true).astype(true.dtype)
        begin, end = (np.subtract(at, place).tolist() for at in box)
        parts.append(contingency(pred.read(begin, end)[0], true))
    table = joined(parts)
    return Comparison(scores_of(table), _objects(table), (lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]))


def _place(pred: Source, gt: Source) -> tuple[int, ...]:
    size = gt.voxel_size or pred.voxel_size
    if pred.voxel_size and gt.voxel_size and not np.allclose(pred.voxel_size, gt.voxel_size, rtol=1e-3):
        raise DataError(
            f"{pred.name} has voxels of {pred.voxel_size} nm, {gt.name} of {gt.voxel_size} nm; they can't be compared "
            "voxel by voxel."
        )
    if size is not None and (pred.offset or gt.offset):
        first = np.subtract(pred.offset or (0.0,) * 3, gt.offset or (0.0,) * 3) / size
        if not np.allclose(first, np.rint(first), atol=0.01):
            raise DataError(
                f"{pred.name} begins at {pred.offset} nm, {gt.name} at {gt.offset} nm: they are "
                f"{first.round(3).tolist()} voxels apart, which are no whole ones; give an offset in voxels."
            )
        return tuple(int(n) for n in np.rint(first))
    if pred.shape == gt.shape:
        return (0, 0, 0)
    raise DataError(
        f"{pred.name} has the shape {pred.shape}, {gt.name} {gt.shape}, and no offset says how they lie; give the "
        "voxel (z, y, x) of the truth on which the segmentation begins."
    )


def _objects(table: Contingency) -> list[ObjectScore]:
    if not len(table.counts):
        return []
    pred_sizes, gt_sizes = table.pred_sizes, table.gt_sizes
    # Ordered by object, then by overlap: the last entry of an object is its best segment.
    order = np.lexsort((table.counts, table.gt))
    last = order[np.flatnonzero(np.diff(table.gt[order], append=-1))]
    best, overlap = table.pred[last], table.counts[last]
    iou = overlap / (gt_sizes + pred_sizes[best] - overlap)
    pieces = np.bincount(table.gt, table.counts >= LEAST_PIECE * gt_sizes[table.gt]).astype(int)
    sharing = np.bincount(best, minlength=len(pred_sizes))[best] - 1
    worst = np.argsort(-gt_sizes * (1 - iou), kind="stable")
    return [
        ObjectScore(
            int(table.gt_ids[k]),
            int(gt_sizes[k]),
            float(iou[k]),
            int(table.pred_ids[best[k]]),
            int(pieces[k]),
            int(sharing[k]),
        )
        for k in worst
    ]

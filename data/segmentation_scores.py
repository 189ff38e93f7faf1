"""How well a segmentation agrees with the true one: Rand index, adapted Rand error, variation of information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

__all__ = ["Contingency", "SegmentationScores", "contingency", "joined", "score_segmentation", "scores_of"]


@dataclass(frozen=True)
class Contingency:
    """In how many voxels each segment of a prediction meets each true one: a sparse table.

    Attributes
    ----------
    pred, gt : ndarray of int64
        Row and column of each entry: consecutive numbers from 0, in the order of the ids.
    counts : ndarray of int64
        Voxels of each entry, all above 0.
    pred_ids, gt_ids : ndarray
        The id of each row and column.
    """

    pred: npt.NDArray[np.int64]
    gt: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    pred_ids: npt.NDArray[np.integer]
    gt_ids: npt.NDArray[np.integer]

    @property
    def pred_sizes(self) -> npt.NDArray[np.float64]:
        """Voxels of each predicted segment."""
        return np.bincount(self.pred, self.counts).astype(np.float64)

    @property
    def gt_sizes(self) -> npt.NDArray[np.float64]:
        """Voxels of each true segment."""
        return np.bincount(self.gt, self.counts).astype(np.float64)


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of a segmentation.

    Attributes
    ----------
    rand_index : float
        Share of the pairs of voxels that are together in both or apart in both, 1 is best.
    precision : float
        Share of the pairs together in the prediction that belong together: wrong mergers lower it.
    recall : float
        Share of the pairs that belong together that are so in the prediction: wrong splits lower it.
    adapted_rand_error : float
        1 minus the harmonic mean of both, 0 is best (Arganda-Carreras et al., 2015).
    voi_split, voi_merge : float
        Conditional entropies H(pred | gt) and H(gt | pred) in bits, 0 is best (Meilă, 2003).
    voxels : int
        Voxels that count.
    """

    rand_index: float
    precision: float
    recall: float
    adapted_rand_error: float
    voi_split: float
    voi_merge: float
    voxels: int

    @property
    def voi(self) -> float:
        """Variation of information in bits: the sum of both parts."""
        return self.voi_split + self.voi_merge


def contingency(pred: npt.NDArray[np.integer], gt: npt.NDArray[np.integer]) -> Contingency:
    """Count the voxels in which each predicted segment meets each true one; voxels without a true id don't count.

    Parameters
    ----------
    pred
        Predicted ids of any shape; 0 is a segment of its own.
    gt
        True ids of the same shape; only those above 0 count.

    Raises
    ------
    DataError
        If shapes differ or ids are no integers.
    """
    pred, gt = np.asarray(pred), np.asarray(gt)
    if pred.shape != gt.shape:
        raise DataError(f"The prediction is of shape {pred.shape}, the true segmentation of {gt.shape}.")
    for name, ids in (("prediction", pred), ("true segmentation", gt)):
        if ids.dtype.kind not in "iub":
            raise DataError(f"The {name} must hold integer ids, not {ids.dtype}.")
    labelled = (gt > 0).ravel()
    p, t = pred.ravel(), gt.ravel()
    if not labelled.all():
        p, t = p[labelled], t[labelled]
    if not p.size:
        return _table(p, t, np.zeros(0, np.int64))
    # Neighbours mostly agree: what has to be sorted is runs of voxels, not voxels.
    changes = (p[1:] != p[:-1]) | (t[1:] != t[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return _table(p[starts], t[starts], np.diff(starts, append=p.size))


def joined(tables: Sequence[Contingency]) -> Contingency:
    """Return the table of several parts of one volume together."""
    pred = np.concatenate([table.pred_ids[table.pred] for table in tables])
    gt = np.concatenate([table.gt_ids[table.gt] for table in tables])
    return _table(pred, gt, np.concatenate([table.counts for table in tables]))


def _table(pred: npt.NDArray[Any], gt: npt.NDArray[Any], counts: npt.NDArray[Any]) -> Contingency:
    """Return the table of pairs of ids that may occur several times."""
    pred_ids, rows = np.unique(pred, return_inverse=True)
    gt_ids, columns = np.unique(gt, return_inverse=True)
    keys, entries = np.unique(rows.astype(np.int64) * max(len(gt_ids), 1) + columns, return_inverse=True)
    # Sums of whole numbers in float64 are exact below 2^53.
    sums = np.bincount(entries, counts, len(keys)).astype(np.int64)
    return Contingency(keys // max(len(gt_ids), 1), keys % max(len(gt_ids), 1), sums, pred_ids, gt_ids)


def score_segmentation(pred: npt.NDArray[np.integer], gt: npt.NDArray[np.integer]) -> SegmentationScores:
    """Compare a segmentation with the true one, over the voxels whose true id is above 0.

    Parameters
    ----------
    pred
        Predicted ids of any shape; 0 is a segment of its own.
    gt
        True ids of the same shape; 0 is unlabelled.

    Raises
    ------
    DataError
        If shapes differ or ids are no integers.

    Notes
    -----
    An object cut in two halves has precision 1 and recall 0.5; scikit-image names them the other way round. Without
    labelled voxels nothing is wrong.

    Examples
    --------
    >>> scores = score_segmentation(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))
    >>> scores.precision, round(scores.recall, 3), scores.voi_split, scores.voi_merge
    (1.0, 0.333, 1.0, 0.0)
    """
    return scores_of(contingency(pred, gt))


def scores_of(table: Contingency) -> SegmentationScores:
    """Return the scores that a table gives, see `score_segmentation`."""
    counts = table.counts.astype(np.float64)
    n, rows, columns = counts.sum(), table.pred_sizes, table.gt_sizes
    both, together, belong = (float((c * (c - 1)).sum()) / 2 for c in (counts, rows, columns))
    pairs = float(n * (n - 1)) / 2
    precision = both / together if together else 1.0
    recall = both / belong if belong else 1.0
    total = together + belong
    return SegmentationScores(
        rand_index=(pairs + 2 * both - total) / pairs if pairs else 1.0,
        precision=precision,
        recall=recall,
        adapted_rand_error=1 - 2 * both / total if total else 0.0,
        voi_split=_conditional_entropy(counts, columns[table.gt]),
        voi_merge=_conditional_entropy(counts, rows[table.pred]),
        voxels=int(n),
    )


def _conditional_entropy(counts: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> float:
    """Return the entropy in bits of entries of these sizes within segments of those."""
    if not counts.size:
        return 0.0
    return float(max((counts * np.log2(given / counts)).sum() / counts.sum(), 0.0))

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error, variation_of_information

from elektronn_tui.data.segmentation_scores import contingency, score_segmentation
from elektronn_tui.errors import DataError

ids = hnp.arrays(np.int64, st.shared(hnp.array_shapes(max_dims=3, max_side=5)), elements=st.integers(0, 4))


@given(pred=ids, gt=ids)
def test_scores_are_those_of_all_pairs(pred: np.ndarray, gt: np.ndarray) -> None:
    scores = score_segmentation(pred, gt)
    p, t = pred[gt > 0], gt[gt > 0]
    upper = np.triu_indices(len(p), 1)
    in_pred, in_gt = (p[:, None] == p)[upper], (t[:, None] == t)[upper]
    both = (in_pred & in_gt).sum()
    assert scores.voxels == len(p)
    assert scores.rand_index == pytest.approx((in_pred == in_gt).mean() if len(in_gt) else 1)
    assert scores.precision == pytest.approx(both / in_pred.sum() if in_pred.any() else 1)
    assert scores.recall == pytest.approx(both / in_gt.sum() if in_gt.any() else 1)
    wanted = 1 - 2 * both / (in_pred.sum() + in_gt.sum()) if (in_pred | in_gt).any() else 0
    assert scores.adapted_rand_error == pytest.approx(wanted)

    def entropy(of: np.ndarray, within: np.ndarray) -> float:
        total = 0.0
        for w in np.unique(within):
            _, n = np.unique(of[within == w], return_counts=True)
            total -= (n * np.log2(n / n.sum())).sum()
        return total / len(of) if len(of) else 0.0

    assert scores.voi_split == pytest.approx(entropy(p, t), abs=1e-12)
    assert scores.voi_merge == pytest.approx(entropy(t, p), abs=1e-12)


def test_splits_and_mergers_are_told_apart() -> None:
    whole, halves = np.ones((2, 3, 4), int), np.repeat([1, 2], 12).reshape(2, 3, 4)
    split = score_segmentation(halves, whole)
    assert split.precision == 1
    assert split.recall == pytest.approx(0.478, abs=1e-3)
    assert (split.voi_split, split.voi_merge, split.voi) == (1, 0, 1)
    merged = score_segmentation(whole, halves)
    assert (merged.recall, merged.precision) == (1, split.recall)
    assert (merged.voi_split, merged.voi_merge) == (0, 1)
    assert merged.adapted_rand_error == split.adapted_rand_error


def test_as_scikit_image_computes_them() -> None:
    rng = np.random.default_rng(0)
    gt = rng.integers(1, 30, (10, 12, 14)).astype(np.uint64) * 2**58
    pred = np.where(rng.random(gt.shape) < 0.6, gt, rng.integers(0, 9, gt.shape).astype(np.uint64))
    scores = score_segmentation(pred, gt)
    small_gt, small_pred = (np.unique(x, return_inverse=True)[1].reshape(gt.shape) + 1 for x in (gt, pred))
    error, recall, precision = adapted_rand_error(small_gt, small_pred)
    assert scores.adapted_rand_error == pytest.approx(error)
    assert (scores.precision, scores.recall) == (pytest.approx(precision), pytest.approx(recall))
    split, merge = variation_of_information(small_gt, small_pred)
    assert (scores.voi_split, scores.voi_merge) == (pytest.approx(split), pytest.approx(merge))


def test_contingency() -> None:
    table = contingency(np.array([5, 5, 0, 5, 9]), np.array([1, 2, 2, 1, 0]))
    assert sorted(zip(table.pred, table.gt, table.counts, strict=True)) == [(0, 1, 1), (1, 0, 2), (1, 1, 1)]


@pytest.mark.parametrize(
    ("file", "prediction", "expected"),
    [
        ("fib25/fib25_dev.h5", "supervoxels", (2.359, 0.317, 0.3141)),
        ("fib25/fib25_dev.h5", "ffn_pred", (0.812, 0.785, 0.1722)),
        ("gala/gala_train.h5", "supervoxels", (1.336, 0.121, 0.2496)),
    ],
)
def test_reference_scores(shared_data: Path, file: str, prediction: str, expected: tuple[float, float, float]) -> None:
    with h5py.File(shared_data / file) as volume:
        scores = score_segmentation(volume[prediction][...], volume["lab"][...])
    split, merge, error = expected
    assert scores.voi_split == pytest.approx(split, abs=6e-4)
    assert scores.voi_merge == pytest.approx(merge, abs=6e-4)
    assert scores.adapted_rand_error == pytest.approx(error, abs=6e-5)


def test_bad_input() -> None:
    with pytest.raises(DataError, match=r"shape \(2,\), the true segmentation of \(3,\)"):
        score_segmentation(np.ones(2, int), np.ones(3, int))
    with pytest.raises(DataError, match="integer ids, not float64"):
        score_segmentation(np.ones(2), np.ones(2, int))

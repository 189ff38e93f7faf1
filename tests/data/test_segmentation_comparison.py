"""Segmentations that are read piece by piece, and what became of each object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elektronn_tui.data import ArraySource, compare_segmentations, open_source, score_segmentation
from elektronn_tui.data import segmentation_comparison as comparison
from elektronn_tui.errors import DataError


def ids(seed: int, shape: tuple[int, int, int] = (9, 12, 10), dtype: str = "u8") -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 6, [-(-n // 3) for n in shape])
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)[tuple(slice(n) for n in shape)]
    return (fine * 1000 + (2**40 if dtype == "u8" else 0) * (fine > 0)).astype(dtype)


@pytest.mark.parametrize("sections", [1, 4, 100])
def test_pieces_give_the_scores_of_the_whole(monkeypatch: pytest.MonkeyPatch, sections: int) -> None:
    monkeypatch.setattr(comparison, "PIECE_BYTES", sections * 12 * 10 * 12)
    pred, gt = ids(0), ids(1, dtype="u4")
    found = compare_segmentations(ArraySource(pred), ArraySource(gt))
    assert found.scores == score_segmentation(pred, gt)
    assert [one.voxels for one in sorted(found.objects, key=lambda o: o.id)] == np.bincount(gt.ravel())[
        np.unique(gt[gt > 0])
    ].tolist()


def test_what_became_of_each_object() -> None:
    gt = np.zeros((1, 4, 40), np.uint32)
    gt[:, 0], gt[:, 1], gt[:, 2] = 10, 20, 30  # and a row without a label
    pred = np.zeros_like(gt)
    pred[:, 0, :30], pred[:, 0, 30:] = 1, 2  # split
    pred[:, 1], pred[:, 2] = 3, 3  # merged
    pred[:, 3] = 2
    found = {one.id: one for one in compare_segmentations(ArraySource(pred), ArraySource(gt)).objects}
    assert list(found) == [20, 30, 10]  # the worst first
    assert (found[10].best, found[10].iou, found[10].pieces, found[10].merged_with) == (1, 0.75, 2, 0)
    assert (found[20].best, found[20].iou, found[20].pieces, found[20].merged_with) == (3, 0.5, 1, 1)
    ignoring = compare_segmentations(ArraySource(pred), ArraySource(gt), ignore=[20])
    assert [one.id for one in ignoring.objects] == [10, 30]
    assert {one.merged_with for one in ignoring.objects} == {0}


def test_a_smaller_segmentation_lies_where_offsets_say() -> None:
    gt = ids(3, dtype="u4")
    part = gt[2:7, 3:12, 1:9]
    of_truth = ArraySource(gt, voxel_size=(40, 4, 4), offset=(400, 0, 8))
    lying = ArraySource(part, voxel_size=(40, 4, 4), offset=(400 + 80, 12, 8 + 4))
    found = compare_segmentations(lying, of_truth)
    assert (found.lo, found.hi) == ((2, 3, 1), (7, 12, 9))
    assert found.scores.adapted_rand_error == 0
    assert compare_segmentations(ArraySource(part), ArraySource(gt), offset=(2, 3, 1)) == found
    beyond = compare_segmentations(ArraySource(gt), ArraySource(gt), offset=(-4, 0, 0))
    assert (beyond.lo, beyond.hi) == ((0, 0, 0), (5, 12, 10))


def test_bad_input() -> None:
    gt = ArraySource(ids(0), name="truth")
    small = ArraySource(ids(1)[:4], name="small")
    for pred, options, message in (
        (small, {}, r"small has the shape \(4, 12, 10\), truth \(9, 12, 10\), and no offset says how they lie"),
        (small, {"offset": (9, 0, 0)}, "lies outside of truth"),
        (ArraySource(np.zeros((9, 12, 10), np.float32), name="probs"), {}, "probs is no segmentation: .* float32"),
        (
            ArraySource(np.zeros((2, 9, 12, 10), np.uint8), name="two"),
            {},
            "two is no segmentation: it holds 2 channels",
        ),
    ):
        with pytest.raises(DataError, match=message):
            compare_segmentations(pred, gt, **options)
    there = ArraySource(ids(0), voxel_size=(40, 4, 4), offset=(0, 2, 0), name="there")
    with pytest.raises(DataError, match="voxels apart, which are no whole ones"):
        compare_segmentations(there, gt)
    with pytest.raises(DataError, match="can't be compared voxel by voxel"):
        compare_segmentations(there, ArraySource(ids(0), voxel_size=(40, 8, 8)))
    nothing = compare_segmentations(ArraySource(ids(0)), ArraySource(np.zeros((9, 12, 10), np.uint8)))
    assert (nothing.objects, nothing.scores.voxels) == ([], 0)


def test_reference_scores(shared_data: Path) -> None:
    file = shared_data / "fib25" / "fib25_dev.h5"
    found = compare_segmentations(open_source(f"{file}:ffn_pred"), open_source(f"{file}:lab"))
    scores = found.scores
    rounded = [round(v, n) for v, n in ((scores.voi_split, 3), (scores.voi_merge, 3), (scores.adapted_rand_error, 4))]
    assert rounded == [0.812, 0.785, 0.1722]

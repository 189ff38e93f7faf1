from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from elektronn_tui.data import (
    NEAREST,
    affinities,
    boundaries,
    boundary_watershed,
    mutex_watershed,
    search_segmentation,
    threshold_segments,
)
from elektronn_tui.errors import DataError


def cells() -> np.ndarray:
    return np.arange(1, 28).reshape(3, 3, 3).repeat(10, 0).repeat(12, 1).repeat(12, 2)


def given_ids(_: np.ndarray, kind: str) -> np.ndarray:
    truth = cells()
    split = truth * 2 + (np.arange(36) % 2)
    return {"right": truth + 5, "merged": np.ones_like(truth), "split": split}[kind]


@pytest.mark.parametrize("by", ["voi", "adapted_rand_error", "rand_index"])
def test_the_right_segmentation_comes_first(by: str) -> None:
    for kinds in (["merged", "right", "split"], ["right", "split", "merged"]):
        search = search_segmentation(given_ids, np.zeros(0), cells(), {"kind": kinds}, by=by)
        assert search.best == {"kind": "right"}
        assert search.by == by


def test_splits_and_mergers_are_sorted_by_what_they_do_wrong() -> None:
    grid = {"kind": ["merged", "split"]}

    def first(by: str) -> str:
        return search_segmentation(given_ids, np.zeros(0), cells(), grid, by=by).best["kind"]

    assert first("voi_split") == first("recall") == "merged"
    assert first("voi_merge") == first("precision") == "split"


def test_a_grid_over_a_noisy_prediction() -> None:
    truth = cells()
    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.standard_normal(truth.shape), 1)
    walls = np.clip(gaussian_filter(boundaries(truth).astype(float), 0.7) + 0.15 * noise / noise.std(), 0, 1)
    seen = []
    search = search_segmentation(
        boundary_watershed,
        walls,
        truth,
        {"threshold": [0.2, 0.5, 0.9], "seed_distance": [0, 2.5, 9], "min_size": [1, 50]},
        progress=seen.append,
    )
    assert len(search.trials) == len(seen) == 18
    vois = [trial.scores.voi for trial in search.trials]
    assert vois == sorted(vois)
    assert vois[0] < 0.3 < vois[-1]
    assert search.trials[0].segments == 27
    rows = list(search.rows())
    assert list(rows[0])[:3] == ["threshold", "seed_distance", "min_size"]
    assert {"voi", "voi_split", "voi_merge", "adapted_rand_error", "segments"} <= set(rows[0])
    lines = str(search).splitlines()
    assert len(lines) == 19
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split()[0] == "threshold"


def test_affinities_are_searched_with_their_offsets() -> None:
    truth, offsets = cells(), [*NEAREST, (0, 0, -6), (0, -6, 0), (-5, 0, 0)]
    aff = np.where(affinities(truth, offsets) > 0, 0.9, 0.2).astype(np.float32)
    search = search_segmentation(
        partial(mutex_watershed, nhood=offsets), aff, truth, {"strides": [(1, 1, 1), (1, 2, 2)], "min_size": [1, 10**6]}
    )
    assert search.best["min_size"] == 1
    assert search.trials[0].scores.voi == pytest.approx(0, abs=1e-9)
    near = search_segmentation(
        partial(threshold_segments, nhood=NEAREST), aff[:3], truth, {"threshold": [0.1, 0.5]}, by="adapted_rand_error"
    )
    assert near.best == {"threshold": 0.5}


def test_bad_input() -> None:
    with pytest.raises(DataError, match=r"by='void'.*Did you mean 'voi'"):
        search_segmentation(given_ids, np.zeros(0), cells(), {"kind": ["right"]}, by="void")
    for grid in ({}, {"kind": []}):
        with pytest.raises(DataError, match="at least one value"):
            search_segmentation(given_ids, np.zeros(0), cells(), grid)
    with pytest.raises(DataError, match="the true segmentation of"):
        search_segmentation(given_ids, np.zeros(0), cells()[1:], {"kind": ["right"]})

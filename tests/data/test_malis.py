"""Affinity graphs, and MALIS counts against all pairs and their best paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import malis
from elektronn_tui.errors import DataError

FACES = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def edges_of(weights: np.ndarray, nhood: np.ndarray) -> list[tuple[float, int, int, int]]:
    """Weight, both voxels and flat index of every edge that stays in the volume."""
    shape = weights.shape[1:]
    voxels = np.indices(shape).reshape(3, -1).T
    found: list[tuple[float, int, int, int]] = []
    for e, offset in enumerate(nhood):
        ends = voxels + offset
        here = np.flatnonzero(((ends >= 0) & (ends < shape)).all(1))
        there = np.ravel_multi_index(tuple(ends[here].T), shape)
        columns = (weights[e].ravel()[here], here, there, e * len(voxels) + here)
        found += zip(*(column.tolist() for column in columns), strict=True)
    return found


def all_pairs(weights: np.ndarray, ids: np.ndarray, nhood: np.ndarray, same: bool) -> np.ndarray:
    """Counts from the best least affinity of every pair (Floyd and Warshall); weights must be unique."""
    n = ids.size
    edges = edges_of(weights, nhood)
    best = np.full((n, n), -np.inf)
    for weight, u, v, _ in edges:
        best[u, v] = best[v, u] = max(best[u, v], weight)
    for k in range(n):
        best = np.maximum(best, np.minimum(best[:, k : k + 1], best[k]))
    edge_of = {weight: index for weight, _, _, index in edges}
    counts = np.zeros(weights.size, np.uint64)
    flat = ids.ravel()
    counted = np.tril((flat[:, None] == flat) == same, -1) & (flat[:, None] != 0) & (flat != 0) & np.isfinite(best)
    for weight, number in zip(*np.unique(best[counted], return_counts=True), strict=True):
        counts[edge_of[weight]] = number
    return counts.reshape(weights.shape)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    nhood=st.sampled_from([FACES, [[0, 0, 1], [0, 2, 0]], malis.mknhood3d_aniso().tolist()]),
    n_ids=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_counts_are_those_of_all_pairs(
    shape: tuple[int, int, int], nhood: list[list[int]], n_ids: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.array(nhood)
    ids = rng.integers(0, n_ids + 1, shape)
    # Positive and negative ones: the order of floats by their bits turns round at 0.
    pred = (rng.permutation(len(nhood) * ids.size) - 5.0).reshape(len(nhood), *shape).astype(np.float32)
    ones = np.full(pred.shape, np.float32(1e6))
    pos, neg = malis.malis_weights(pred, ones, ids, offsets, unrestrict_neg=True)
    assert pos.dtype == neg.dtype == np.uint64
    assert np.array_equal(pos, all_pairs(pred, ids, offsets, True))
    assert np.array_equal(neg, all_pairs(pred, ids, offsets, False))


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)), seed=st.integers(0, 10**6))
def test_sums_and_restriction(shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, shape)
    gt = malis.seg_to_affgraph(ids, FACES)
    pred = 0.9 * rng.random(gt.shape).round(1)  # with ties
    pos, neg = malis.malis_weights(pred, gt, ids, FACES)
    _, free = malis.malis_weights(pred, gt, ids, FACES, unrestrict_neg=True)
    n = np.bincount(ids.ravel(), minlength=4).astype(int)[1:]
    assert pos.sum() == (n * (n - 1) // 2).sum()
    assert neg.sum() == free.sum() == (n.sum() ** 2 - (n**2).sum()) // 2
    assert not neg[gt == 1].any()


def test_the_known_slice() -> None:
    ids = np.array([[[1, 1, 2, 2, 0, 3]] * 4])
    nhood = np.array([[0, 1, 0], [0, 0, 1]])
    down = [[1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 0, 1], [0.9, 0.8, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1]]
    right = [[1, 0, 1, 0.3, 0.4, 0], [0.7, 0, 1, 0, 0, 0], [1, 0.2, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0]]
    pred = np.array([[down], [right]])
    gt = malis.seg_to_affgraph(ids, nhood)
    for unrestricted in (False, True):
        pos, neg = malis.malis_weights(pred, gt, ids, nhood, unrestricted)
        assert pos.sum() == 62
        assert pos[0, 0, 2, 0] == 12
        expected = np.zeros_like(neg)
        expected[1, 0, 0, 3], expected[1, 0, 2, 1] = 32, 96
        assert np.array_equal(neg, expected)


def test_many_ids_in_many_pieces() -> None:
    """Lists of ids grow, merge and are found again: 4000 ids, each in pieces, against plain dictionaries."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 4000, (6, 40, 50)) * 10**12
    pred = rng.random((3, *ids.shape)).astype(np.float32)
    pos, neg = malis.malis_weights(pred, np.ones_like(pred), ids, FACES, True)
    histograms = [{int(i): 1} if i else {} for i in ids.ravel()]
    cluster = list(range(ids.size))

    def find(i: int) -> int:
        while cluster[i] != i:
            cluster[i] = i = cluster[cluster[i]]
        return i

    expected = np.zeros((2, pred.size), np.uint64)
    for _, u, v, index in sorted(edges_of(pred, np.array(FACES)), key=lambda edge: (-edge[0], edge[3])):
        a, b = find(u), find(v)
        if a == b:
            continue
        if len(histograms[a]) < len(histograms[b]):
            a, b = b, a
        cluster[b] = a
        small, large = histograms[b], histograms[a]
        same = sum(n * large.get(i, 0) for i, n in small.items())
        expected[:, index] = same, sum(small.values()) * sum(large.values()) - same
        for i, n in small.items():
            large[i] = large.get(i, 0) + n
    assert np.array_equal(pos.ravel(), expected[0])
    assert np.array_equal(neg.ravel(), expected[1])


def test_neighbourhoods() -> None:
    assert malis.mknhood3d().tolist() == FACES
    assert malis.mknhood2d().tolist() == [[-1, 0], [0, -1]]
    assert len(malis.mknhood3d(np.sqrt(2))) == 9
    rows = malis.mknhood3d_aniso().tolist()
    assert rows[:3] == FACES
    assert len(rows) == 11
    assert all(row[0] == -1 for row in rows[3:])
    assert len({tuple(row) for row in rows}) == 11
    with pytest.raises(DataError, match="radius"):
        malis.mknhood3d(0)


def test_segments_and_affinities() -> None:
    rng = np.random.default_rng(2)
    seg = rng.integers(0, 3, (3, 4, 5))
    nhood = np.array([[0, 0, 1], [-1, 1, 0], [0, 9, 0]])
    aff = malis.seg_to_affgraph(seg, nhood)
    assert aff.dtype == np.int16
    for e, z, y, x in np.ndindex(aff.shape):
        q = tuple(np.array((z, y, x)) + nhood[e])
        inside = all(0 <= a < n for a, n in zip(q, seg.shape, strict=True))
        assert aff[e, z, y, x] == (inside and seg[z, y, x] == seg[q] != 0)
    blocks = np.array([[[5, 5, 0, 7], [5, 0, 7, 7], [0, 9, 0, 5]]])
    again, sizes = malis.affgraph_to_seg(malis.seg_to_affgraph(blocks, FACES), FACES)
    assert again.tolist() == [[[1, 1, 0, 2], [1, 0, 2, 2], [0, 0, 0, 0]]]
    assert sizes.tolist() == [3, 3]
    again, sizes = malis.affgraph_to_seg(malis.seg_to_affgraph(blocks, FACES), FACES, 0)
    assert len(sizes) == again.max() == 8
    full, sizes = malis.affgraph_to_seg(np.ones((3, 2, 2, 2)), FACES)
    assert full.tolist() == np.ones((2, 2, 2), int).tolist()
    assert sizes.tolist() == [8]


def test_boundary_maps() -> None:
    b = np.array([[[0, 0, 1], [0, 1, 0]]])
    aff = malis.bmap_to_affgraph(b, FACES)
    assert aff.dtype == np.int16
    assert aff[1].tolist() == [[[0, 0, 0], [1, 0, 0]]]
    assert aff[2].tolist() == [[[0, 1, 0], [0, 0, 0]]]
    p = np.array([[[0.25, 0.5]]])
    assert malis.bmap_to_affgraph(p, FACES)[2].tolist() == [[[0, 0.5]]]
    with pytest.raises(DataError, match="longer than 1"):
        malis.bmap_to_affgraph(b, [[0, 1, 1]])


def test_no_voxels_and_no_edges() -> None:
    for shape in ((3, 0, 4, 4), (3, 1, 1, 1)):
        weights = np.ones(shape, np.float32)
        for counts in malis.malis_weights(weights, weights, np.ones(shape[1:], int), FACES):
            assert counts.shape == shape
            assert not counts.any()


def test_bad_input() -> None:
    ids, aff = np.ones((2, 2, 2), int), np.ones((3, 2, 2, 2), np.float32)
    with pytest.raises(DataError, match=r"seg_gt covers \(3, 2, 2\)"):
        malis.malis_weights(aff, aff, np.ones((3, 2, 2), int), FACES)
    with pytest.raises(DataError, match="aff_gt covers"):
        malis.malis_weights(aff, aff[:, :1], ids, FACES)
    with pytest.raises(DataError, match="E = 3"):
        malis.malis_weights(aff[:2], aff, ids, FACES)
    with pytest.raises(DataError, match="NaN"):
        malis.malis_weights(aff * np.nan, aff, ids, FACES)
    with pytest.raises(DataError, match="integers"):
        malis.malis_weights(aff, aff, ids.astype(float), FACES)
    with pytest.raises(DataError, match=r"\(E, 3\)"):
        malis.malis_weights(aff, aff, ids, [[0, 1]])
    with pytest.raises(DataError, match="offset 0"):
        malis.malis_weights(aff, aff, ids, [[0, 0, 0], *FACES[1:]])

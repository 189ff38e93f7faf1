from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from elektronn_tui.data import (
    NEAREST,
    affinity_watershed,
    boundaries,
    boundary_watershed,
    mutex_watershed,
    relabel,
    remove_small_segments,
    score_segmentation,
    seg_to_affgraph,
    threshold_segments,
)
from elektronn_tui.data.segmentation import _maxima
from elektronn_tui.errors import DataError

FAR = [*NEAREST, (0, -3, 0), (0, 0, -3), (-2, 1, 2), (0, 4, -4)]


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(relabel(a), relabel(b))


def edges_by_weight(weights: np.ndarray, offsets: list, strides: list, mask: np.ndarray) -> list:
    """(edge, voxel, voxel) of weight above 0 within the mask, by descending weight and then in order."""
    found = []
    for e, offset in enumerate(offsets):
        for p in np.ndindex(*mask.shape):
            q = tuple(np.add(p, offset))
            inside = all(0 <= v < n for v, n in zip(q, mask.shape, strict=True))
            if inside and mask[p] and mask[q] and not np.mod(p, strides[e]).any() and weights[(e, *p)] > 0:
                found.append((weights[(e, *p)], e, p, q))
    return [edge[1:] for edge in sorted(found, key=lambda edge: -edge[0])]


def naive_mutex(aff: np.ndarray, offsets: list, strides: tuple, mask: np.ndarray) -> np.ndarray:
    near = [sum(v * v for v in offset) == 1 for offset in offsets]
    weights = np.where(np.array(near)[:, None, None, None], aff, np.float32(1) - aff)
    cluster = {p: p for p in np.ndindex(*mask.shape)}
    members = {p: [p] for p in cluster}
    apart: dict = {p: set() for p in cluster}
    for e, p, q in edges_by_weight(weights, offsets, [(1, 1, 1) if n else strides for n in near], mask):
        a, b = cluster[p], cluster[q]
        if a == b or b in apart[a]:
            continue
        if not near[e]:
            apart[a].add(b)
            apart[b].add(a)
            continue
        if len(members[a]) + len(apart[a]) < len(members[b]) + len(apart[b]):
            a, b = b, a
        for x in members[b]:
            cluster[x] = a
        members[a] += members.pop(b)
        for c in apart.pop(b):
            apart[c].remove(b)
            apart[c].add(a)
            apart[a].add(c)
    ids = np.zeros(mask.shape, int)
    for p in np.ndindex(*mask.shape):
        ids[p] = 1 + np.ravel_multi_index(cluster[p], mask.shape) if mask[p] else 0
    return ids


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
    strides=st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 1, 3)]),
    levels=st.sampled_from([2, 5, 1000]),
    masked=st.booleans(),
)
def test_mutex_watershed_is_the_naive_one(seed: int, shape: tuple, strides: tuple, levels: int, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    aff = (rng.integers(0, levels, (len(FAR), *shape)) / (levels - 1)).astype(np.float32)
    mask = rng.random(shape) < 0.8 if masked else np.ones(shape, bool)
    found = mutex_watershed(aff, FAR, strides=strides, mask=mask)
    assert np.array_equal(found, relabel(naive_mutex(aff, FAR, strides, mask)))


def test_many_mutexes() -> None:
    """More than the table of exclusions has room for at first."""
    aff = np.random.default_rng(5).random((len(FAR), 12, 40, 40), np.float32)
    mask = np.ones(aff.shape[1:], bool)
    found = mutex_watershed(aff, FAR)
    assert np.array_equal(found, relabel(naive_mutex(aff, FAR, (1, 1, 1), mask)))
    large = np.bincount(found.ravel()) >= 3
    assert np.array_equal(mutex_watershed(aff, FAR, min_size=3), relabel(np.where(large[found], found, 0)))


def blobs(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Connected segments of more than one voxel, some of them touching, with 0 between others."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    levels = np.digitize(noise, np.quantile(noise, [0.3, 0.5, 0.7, 0.85]))
    ids, last = np.zeros(shape, int), 0
    for level in range(1, 5):
        parts, n = label(levels == level)
        ids[parts > 0] = parts[parts > 0] + last
        last += n
    return remove_small_segments(ids, 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.tuples(*[st.integers(3, 12)] * 3))
def test_segments_come_back_from_their_affinities(seed: int, shape: tuple) -> None:
    ids = blobs(seed, shape)
    aff = seg_to_affgraph(ids, FAR)
    assert not aff[:, 0, 0, 0][[0, 1, 2]].any()
    near = aff[:3]
    assert np.array_equal(threshold_segments(near, nhood=NEAREST, min_size=2), relabel(ids))
    assert np.array_equal(mutex_watershed(aff.astype(np.float32), FAR, mask=ids > 0), relabel(ids))
    seeds = np.zeros_like(ids)
    first = np.unique(ids, return_index=True)
    seeds.ravel()[first[1]] = first[0]
    assert np.array_equal(affinity_watershed(near, seeds), ids)


def test_mutexes_keep_apart_what_a_threshold_merges() -> None:
    """Two halves with a leak between them: the far edges across it are sure that they are two."""
    ids = np.ones((1, 16, 32), int)
    ids[:, :, 16:] = 2
    offsets = [*NEAREST, (0, 0, -8)]
    aff = seg_to_affgraph(ids, offsets).astype(np.float32) * 0.9
    aff[2, 0, 5:9, 16] = 0.8
    assert threshold_segments(aff[:3], nhood=NEAREST).max() == 1
    assert np.array_equal(mutex_watershed(aff, offsets), ids)
    assert np.array_equal(mutex_watershed((aff * 255).astype(np.uint8), offsets), ids)
    assert np.array_equal(mutex_watershed(aff, offsets, attractive=3, strides=(1, 2, 2)), ids)
    assert mutex_watershed(aff, offsets, attractive=4).max() == 1


def naive_seeds(aff: np.ndarray, seeds: np.ndarray, offsets: list, threshold: float) -> np.ndarray:
    weights = np.where(aff > threshold, aff, 0)
    cluster = {p: {p} for p in np.ndindex(*seeds.shape)}
    ids = np.maximum(seeds, 0)
    for _, p, q in edges_by_weight(weights, offsets, [(1, 1, 1)] * len(offsets), seeds >= 0):
        a, b = cluster[p], cluster[q]
        if a is not b and not (ids[p] and ids[q]):
            a |= b
            for x in b:
                cluster[x] = a
            of = ids[p] or ids[q]
            for x in a:
                ids[x] = of
    return ids


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    threshold=st.sampled_from([0.0, 0.3]),
    levels=st.sampled_from([3, 1000]),
)
def test_affinity_watershed_is_the_maximum_spanning_forest(
    seed: int, shape: tuple, threshold: float, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    aff = (rng.integers(0, levels, (4, *shape)) / (levels - 1)).astype(np.float32)
    seeds = rng.choice([-1, 0, 7, 9], shape, p=[0.1, 0.7, 0.1, 0.1])
    offsets = [*NEAREST, (0, 2, 1)]
    found = affinity_watershed(aff, seeds, offsets, threshold=threshold)
    assert np.array_equal(found, naive_seeds(aff, seeds, offsets, threshold))


def two_balls(voxel_z: float = 1.0) -> np.ndarray:
    """A boundary map of two balls that overlap, in a box of wall."""
    z, y, x = np.ogrid[: round(24 / voxel_z), :24, :40]
    balls = [((z * voxel_z - 11.5) ** 2 + (y - 11.5) ** 2 + (x - c) ** 2) < 81 for c in (11.5, 26.5)]
    return (~(balls[0] | balls[1])).astype(np.float32)


@pytest.mark.parametrize(("voxel_z", "seeding"), [(1.0, {"seed_distance": 7}), (1.0, {"h": 1.5}), (4.0, {"h": 1.5})])
def test_touching_balls_come_apart(voxel_z: float, seeding: dict[str, float]) -> None:
    wall = two_balls(voxel_z)
    assert threshold_segments(wall).max() == 1
    segments = boundary_watershed(wall, voxel_size=(voxel_z, 1, 1), keep_boundaries=True, **seeding)
    assert segments.max() == 2
    assert np.array_equal(segments == 0, wall > 0)
    parts = np.bincount(segments.ravel())[1:]
    assert parts.min() > 0.45 * parts.sum()
    assert boundary_watershed(wall, voxel_size=(voxel_z, 1, 1), **seeding).min() == 1


def test_maxima_rise_by_h_above_the_pass_to_a_higher_one() -> None:
    heights = np.array([[[0, 3, 1, 2.5, 0.5, 2.5, 2.4, 2.6, 0]]])
    assert np.flatnonzero(_maxima(heights, 1.0)[0, 0]).tolist() == [1, 3, 5, 6, 7]
    assert np.flatnonzero(_maxima(heights, 1.8)[0, 0]).tolist() == [1, 5, 6, 7]


def test_sections_are_flooded_for_themselves_and_small_segments_given_away() -> None:
    wall = np.zeros((3, 9, 20), np.float32)
    wall[:, :, 9] = 1
    wall[1, :4, 9] = 0
    joined = boundary_watershed(wall, per_section=True)
    assert [len(np.unique(section)) for section in joined] == [2, 1, 2]
    assert len(np.unique(joined)) == 5
    assert boundary_watershed(wall).max() == 1
    wall[1, :, 9] = 1
    wall[:, 2, 10:] = 0.6
    assert boundary_watershed(wall, min_size=1).max() == 3
    few = boundary_watershed(wall, min_size=130)
    assert few.max() == 2
    assert (few > 0).all()
    assert np.array_equal(boundary_watershed((wall * 255).astype(np.uint8), 128), boundary_watershed(wall))


def test_predictions_without_objects_or_without_walls() -> None:
    empty, full = np.zeros((3, 4, 5), np.float32), np.ones((3, 4, 5), np.float32)
    assert (boundary_watershed(empty) == 1).all()
    assert not boundary_watershed(full).any()
    assert (threshold_segments(empty) == 1).all()
    assert not threshold_segments(full).any()
    assert not mutex_watershed(np.zeros((4, 0, 4, 4)), FAR[:4]).size
    assert not affinity_watershed(np.ones((3, 2, 2, 2)), np.zeros((2, 2, 2), int)).any()


def test_boundaries_of_cells_give_the_cells_back() -> None:
    ids = np.random.default_rng(0).permutation(np.arange(1, 61)).reshape(3, 4, 5).repeat(8, 0).repeat(9, 1).repeat(7, 2)
    segments = boundary_watershed(boundaries(ids))
    assert score_segmentation(segments, ids).voi < 0.02
    assert len(np.unique(segments)) == 60


@given(seed=st.integers(0, 10**6))
def test_ids_are_numbered_in_order(seed: int) -> None:
    ids = np.random.default_rng(seed).choice([0, 5, 2**60, 7, -3], (3, 4, 5))
    wanted: dict[int, int] = {0: 0}
    for value in ids.ravel().tolist():
        wanted.setdefault(value, len(wanted))
    assert relabel(ids).ravel().tolist() == [wanted[value] for value in ids.ravel().tolist()]
    sizes = dict(zip(*np.unique(ids, return_counts=True), strict=True))
    for min_size in (0, 10, 100):
        kept = np.vectorize(lambda value, least=min_size: value if sizes[value] >= least else 0)(ids)
        assert np.array_equal(remove_small_segments(ids, min_size), kept)


def test_bad_input() -> None:
    aff = np.ones((3, 2, 2, 2), np.float32)
    with pytest.raises(DataError, match="E = 4"):
        mutex_watershed(aff, FAR[:4])
    with pytest.raises(DataError, match="NaN"):
        mutex_watershed(aff * np.nan, NEAREST)
    with pytest.raises(DataError, match=r"from 0 to 1; they are 2\.0 to 2\.0"):
        mutex_watershed(2 * aff, NEAREST)
    with pytest.raises(DataError, match="attractive=5"):
        mutex_watershed(aff, NEAREST, attractive=5)
    with pytest.raises(DataError, match="strides"):
        mutex_watershed(aff, NEAREST, strides=(0, 1, 1))
    with pytest.raises(DataError, match="mask covers"):
        mutex_watershed(aff, NEAREST, mask=np.ones((1, 1, 1), bool))
    with pytest.raises(DataError, match="seeds must be integers"):
        affinity_watershed(aff, np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="threshold=-1"):
        affinity_watershed(aff, np.zeros((2, 2, 2), int), threshold=-1)
    with pytest.raises(DataError, match="boundary map"):
        boundary_watershed(aff)
    with pytest.raises(DataError, match="NaN"):
        threshold_segments(aff[0] * np.nan)
    with pytest.raises(DataError, match="voxel_size"):
        boundary_watershed(aff[0], voxel_size=(1, 1))
    with pytest.raises(DataError, match="seed_distance=-1"):
        boundary_watershed(aff[0], seed_distance=-1)
    with pytest.raises(DataError, match="ids are integers"):
        relabel(aff)

"""Growing point sets against brute force, in every order of growth and around every rebuild."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import GrowingPoints
from elektronn_tui.data import _point_kernels as kernels
from elektronn_tui.errors import DataError


def brute_force(points: np.ndarray, query: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices of all points, the nearest first, among equals the lower index."""
    squares = np.zeros(len(points))
    for axis in range(points.shape[1]):
        squares += ((points[:, axis] - query[axis]) * scale[axis]) ** 2
    order = np.lexsort((np.arange(len(points)), squares))
    return np.sqrt(squares[order]), order


def grown(kind: str, n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Points in an order that some structure would stumble over."""
    if kind == "line":
        return np.arange(n, 0, -1)[:, None] * np.linspace(0.5, 1, d)
    if kind == "same":
        return np.full((n, d), 7.25)
    if kind == "lattice":
        return rng.integers(0, 4, (n, d)).astype(float)
    if kind == "clusters":
        return rng.integers(0, 3, (n, 1)) * 1e6 + rng.standard_normal((n, d)) * 1e-3
    if kind == "outliers":
        return rng.standard_normal((n, d)) * np.where(rng.random((n, 1)) < 0.02, 1e60, 1)
    return rng.random((n, d))


KINDS = ["line", "same", "lattice", "clusters", "outliers", "uniform"]


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_every_size_answers_as_brute_force_does(kind: str, d: int) -> None:
    rng = np.random.default_rng(d)
    points = grown(kind, 3 * kernels.SMALL, d, rng)
    scale = rng.uniform(0.5, 10, d)
    grows = GrowingPoints(d, scale=scale)
    for i, point in enumerate(points):
        assert grows.append(point) == i
        query = points[rng.integers(0, len(points))] + rng.integers(-1, 2, d)
        distances, order = brute_force(points[: i + 1], query, scale)
        assert grows.nearest(query) == (distances[0], order[0])
        k = int(rng.integers(1, i + 2))
        found = grows.neighbours(query, k)
        np.testing.assert_array_equal(found[0], distances[:k])
        np.testing.assert_array_equal(found[1], order[:k])
        inside = distances <= distances[k - 1]
        found = grows.within(query, float(distances[k - 1]))
        np.testing.assert_array_equal(found[0], distances[inside])
        np.testing.assert_array_equal(found[1], order[inside])
    np.testing.assert_array_equal(grows.coordinates, points)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 150)), min_size=1, max_size=5),
    d=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_whatever_is_added_in_whatever_portions(kinds: list[tuple[str, int]], d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    portions = [grown(kind, n, d, rng) for kind, n in kinds]
    grows = GrowingPoints(portions[0])
    for portion in portions[1:]:
        size = len(grows)
        assert grows.extend(portion) == range(size, size + len(portion))
    points = np.concatenate(portions)
    queries = np.concatenate([points[:3], rng.random((3, d)) * 3])
    for k in {1, 2, len(points) // 2 + 1, len(points), len(points) + 5} - {0}:
        distances, indices = grows.neighbours(queries, k)
        assert distances.shape == indices.shape == (len(queries), min(k, len(points)))
        for row, query in enumerate(queries):
            expected = brute_force(points, query, np.ones(d))
            np.testing.assert_array_equal(distances[row], expected[0][:k])
            np.testing.assert_array_equal(indices[row], expected[1][:k])


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_stays_balanced(kind: str) -> None:
    points = grown(kind, 5000, 2, np.random.default_rng(0))
    grows = GrowingPoints(2)
    for point in points:
        grows.append(point)
    links = grows._tree.view(np.int64)

    def depth(node: int) -> int:
        left, right = links[node, kernels.LEFT], links[node, kernels.RIGHT]
        if left < 0:
            return 1
        assert links[node, kernels.COUNT] == links[left, kernels.COUNT] + links[right, kernels.COUNT]
        return 1 + max(depth(left), depth(right))

    leaves = len(points) / kernels.BUCKET
    assert depth(kernels.ROOT) <= math.log(leaves, 1 / kernels.LEANS) + 4


def test_copies_of_one_point_cost_no_search_through_all() -> None:
    # Half a million visits would take minutes; with the lowest index of each subtree they take milliseconds.
    same = GrowingPoints(np.zeros((200_000, 3)))
    distances, indices = same.nearest(np.zeros((20_000, 3)))
    assert not distances.any()
    assert not indices.any()


def test_distances_are_scaled_and_coordinates_are_not() -> None:
    grows = GrowingPoints([(0, 0, 0), (1, 0, 0), (0, 3, 0)], scale=(40, 4, 4))
    assert grows.nearest((0, 2, 0)) == (4, 2)
    assert grows.nearest((1, 1, 0)) == (4, 1)
    np.testing.assert_array_equal(grows.within((0, 0, 0), 12)[1], [0, 2])
    np.testing.assert_array_equal(grows.coordinates[2], [0, 3, 0])
    assert grows.scale == (40, 4, 4)
    with pytest.raises(ValueError, match="read-only"):
        grows.coordinates[0] = 1


def test_fewer_points_than_asked_for() -> None:
    grows = GrowingPoints(2)
    assert [a.shape for a in grows.neighbours((0, 0), 3)] == [(0,), (0,)]
    assert [a.shape for a in grows.neighbours(np.zeros((4, 2)), 3)] == [(4, 0), (4, 0)]
    assert [a.shape for a in grows.within((0, 0), 3)] == [(0,), (0,)]
    with pytest.raises(DataError, match="nearest of no points"):
        grows.nearest((0, 0))
    with pytest.raises(DataError, match="nearest of no points"):
        grows.nearest(np.zeros((2, 2)))
    grows.append((1, 0))
    np.testing.assert_array_equal(grows.neighbours((0, 0), 3)[1], [0])


@pytest.mark.parametrize("dtype", ["float32", "int16", ">f8", "uint8"])
def test_any_numbers_will_do(dtype: str) -> None:
    points = np.arange(30).reshape(10, 3).astype(dtype)
    grows = GrowingPoints(3)
    for point in points:
        grows.append(point)
    grows.extend(points[:, ::-1])
    assert grows.nearest(points[4]) == (0, 4)
    assert grows.nearest(tuple(points[4, ::-1])) == (0, 14)
    assert (
        grows.nearest(points.astype(float)[:, 2][:3])[0]
        == brute_force(grows.coordinates, np.array([2.0, 5, 8]), np.ones(3))[0][0]
    )


def test_refused_points_change_nothing() -> None:
    grows = GrowingPoints(np.random.default_rng(0).random((100, 3)), scale=(2, 1, 1))
    before = grows._tree.copy(), grows.coordinates.copy()
    for bad in (np.nan, np.inf, -np.inf, 6e149 * 1e2):
        with pytest.raises(DataError, match="must be finite"):
            grows.append((0, bad, 0))
        with pytest.raises(DataError, match="row 5,: coordinates must be finite"):
            grows.extend([(1, 2, 3)] * 5 + [(bad, 0, 0)] + [(1, 2, 3)] * 200)
        for ask in (grows.nearest, lambda q: grows.neighbours(q, 2), lambda q: grows.within(q, 1)):
            with pytest.raises(DataError, match="must be finite"):
                ask((0, 0, bad))
    for bad_shape in ((1, 2), (1, 2, 3, 4), 5.0, [[1, 2, 3]], "abc", None):
        with pytest.raises(DataError, match=r"3 (coordinates|dimensions)"):
            grows.append(bad_shape)  # type: ignore[arg-type]
    for bad_query in ((1, 2), 5.0, np.zeros((2, 2)), np.zeros((1, 2, 3))):
        with pytest.raises(DataError, match=r"3 (coordinates|dimensions)"):
            grows.nearest(bad_query)  # type: ignore[arg-type]
    assert len(grows) == 100
    np.testing.assert_array_equal(grows.coordinates, before[1])
    assert grows.append((0, 0, 0)) == 100


def test_sets_that_make_no_sense() -> None:
    for scale in ((1, 2), (1, 0, 1), (1, np.nan, 1), (1, np.inf, 1), 3.0):
        with pytest.raises(DataError, match="3 positive numbers"):
            GrowingPoints(3, scale=scale)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least one"):
        GrowingPoints(0)
    with pytest.raises(DataError, match="dimensions"):
        GrowingPoints([1.0, 2.0])
    grows = GrowingPoints(3)
    with pytest.raises(DataError, match="k=0"):
        grows.neighbours((0, 0, 0), 0)
    with pytest.raises(DataError, match="radius"):
        grows.within((0, 0, 0), -1)
    with pytest.raises(DataError, match="radius"):
        grows.within((0, 0, 0), math.nan)


def test_pickles_with_its_points() -> None:
    grows = GrowingPoints(np.random.default_rng(0).random((500, 3)), scale=(3, 1, 1))
    again = pickle.loads(pickle.dumps(grows))
    assert again.append((0.5, 0.5, 0.5)) == 500
    assert len(grows) == 500
    assert again.nearest((0.5, 0.5, 0.5)) == (0, 500)

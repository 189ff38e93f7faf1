"""Points that are added one by one, and their nearest neighbours at any time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from elektronn_tui.errors import DataError

from . import _point_kernels as kernels

__all__ = ["GrowingPoints"]

_FLOAT64 = np.dtype(np.float64)

Coordinates: TypeAlias = "Sequence[float] | Sequence[Sequence[float]] | np.ndarray"


class GrowingPoints:
    """A set of points that grows, and answers for its nearest neighbours between any two additions.

    A k-d tree with buckets: a new point goes to its leaf, and a subtree that leans is built anew (scapegoat tree:
    Galperin and Rivest 1993). Adding n points costs n log² n at most, in whatever order they come: along a line, in
    clusters, all at one place. Answers are exact. Points are known by their index, which counts from 0 in the order of
    addition and never changes; among equally distant points the lower index comes first.

    Anything that reads may be called from several threads, as long as none adds points meanwhile.

    Parameters
    ----------
    points
        The first points, (n, d), or the number of dimensions d of an empty set.
    scale
        What each axis is multiplied by before distances are measured, e.g. the voxel size (z, y, x) in nm: distances
        are in units of the scaled space then, radii as well. Coordinates are taken and returned unscaled. Default: 1.

    Raises
    ------
    DataError
        Coordinates that are not finite or beyond 1e150 when scaled, another number of dimensions, a scale that isn't
        positive.

    Examples
    --------
    >>> trace = GrowingPoints(3, scale=(40, 16, 16))
    >>> trace.append((0, 0, 0))
    0
    >>> trace.extend([(1, 0, 0), (0, 2, 0)])
    range(1, 3)
    >>> trace.nearest((0, 1.5, 0))
    (8.0, 2)
    >>> trace.neighbours((0, 0, 0), k=2)
    (array([ 0., 32.]), array([0, 2]))
    """

    def __init__(self, points: int | Coordinates, *, scale: Sequence[float] | None = None) -> None:
        first = None if isinstance(points, (int, np.integer)) else np.asarray(points, np.float64)
        if first is not None and first.ndim != 2:
            raise DataError(f"points of shape {first.shape}: (n, dimensions), or the number of dimensions is needed.")
        dimensions = int(points) if first is None else first.shape[1]  # type: ignore[arg-type]
        if dimensions < 1:
            raise DataError(f"points of {dimensions} dimensions: at least one is needed.")
        self._scale = np.ones(dimensions) if scale is None else np.array(scale, np.float64)
        if self._scale.shape != (dimensions,) or not ((self._scale > 0) & np.isfinite(self._scale)).all():
            raise DataError(f"scale={scale!r}: {dimensions} positive numbers are needed, one for each axis.")
        self._size = 0
        self._points = np.empty((64, dimensions))
        self._tree = kernels.new_tree(self._scale, len(self._points))
        if first is not None:
            self.extend(first)

    def __len__(self) -> int:
        return self._size

    @property
    def dimensions(self) -> int:
        """Number of axes."""
        return len(self._scale)

    @property
    def scale(self) -> tuple[float, ...]:
        """What each axis is multiplied by before distances are measured."""
        return tuple(self._scale.tolist())

    @property
    def coordinates(self) -> np.ndarray:
        """All points in the order of their indices, unscaled, (n, d) float64: a view, not to be written to."""
        view = self._points[: self._size]
        view.flags.writeable = False
        return view

    def append(self, point: Sequence[float] | np.ndarray) -> int:
        """Add one point (d,); return its index."""
        new = point
        # Told apart here, as numpy's conversion takes as long as half of the insertion.
        if type(point) is not np.ndarray or point.dtype is not _FLOAT64 or point.ndim != 1:
            new = self._converted(point)
            if new.ndim != 1:
                raise self._refusal(kernels.OTHER_LENGTH, f"point {point!r}")
        index = kernels.append(new, self._points, self._tree)
        if index < 0:
            if index != kernels.FULL:
                raise self._refusal(index, f"point {point!r}")
            self._reserve(2 * self._size)
            return self.append(new)
        self._size = index + 1
        return index

    def extend(self, points: Coordinates) -> range:
        """Add many points (n, d), all or, where one is refused, none; return their indices."""
        new = self._converted(points)
        if new.ndim != 2 or new.shape[1] != self.dimensions:
            raise DataError(f"points of shape {new.shape} for a set of {self.dimensions} dimensions: (n, d) is needed.")
        index, size = self._size, self._size + len(new)
        if size > len(self._points):
            self._reserve(max(size, 2 * index))
        self._points[index:size] = new
        refused = kernels.insert(index, size, self._points, self._tree)
        if refused >= 0:
            raise self._refusal(kernels.NOT_FINITE, f"point {new[refused - index].tolist()}, row {refused - index},")
        self._size = size
        return range(index, size)

    def nearest(self, query: Coordinates) -> tuple[Any, Any]:
        """Return distance and index of the nearest point.

        Parameters
        ----------
        query
            One place (d,), or many (q, d).

        Returns
        -------
        distance, index
            A float and an int; for many places arrays (q,) of float64 and int64.

        Raises
        ------
        DataError
            There are no points yet; a query that isn't finite or has another number of dimensions.
        """
        place: Any = query
        if type(query) is not np.ndarray or query.dtype is not _FLOAT64 or query.ndim != 1:
            place = self._converted(query)
        if place.ndim == 1:
            found: tuple[float, int] = kernels.nearest(place, self._tree)
            if found[1] < 0:
                raise self._refusal(found[1], f"query {query!r}")
            return found
        if not self._size:
            raise self._refusal(kernels.NO_POINTS, "query")
        distances, indices = self.neighbours(place, 1)
        return distances[:, 0], indices[:, 0]

    def neighbours(self, query: Coordinates, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and indices of the `k` nearest points, the nearest first.

        Parameters
        ----------
        query
            One place (d,), or many (q, d).
        k
            How many. Of fewer points all are returned: the last axis of the result has ``min(k, len(self))`` entries.

        Returns
        -------
        distances, indices
            float64 and int64, (min(k, n),); for many places (q, min(k, n)).

        Raises
        ------
        DataError
            `k` below 1; a query that isn't finite or has another number of dimensions.
        """
        if k < 1:
            raise DataError(f"k={k} neighbours: at least 1.")
        places = self._places(query)
        k = min(int(k), self._size)
        distances = np.empty((*places.shape[:-1], k))
        indices = np.empty((*places.shape[:-1], k), np.int64)
        if k > 0:
            flat = places.reshape(-1, self.dimensions)
            kernels.k_nearest(flat, self._tree, distances.reshape(-1, k), indices.reshape(-1, k))
        return np.sqrt(distances, out=distances), indices

    def within(self, query: Sequence[float] | np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and indices of all points at most `radius` away from one place (d,), the nearest first.

        Raises
        ------
        DataError
            A radius that is negative or NaN; a query that isn't finite or is no single place.
        """
        if not radius >= 0:
            raise DataError(f"radius={radius!r}: 0 or more.")
        place = self._places(query)
        if place.ndim != 1:
            raise DataError(f"query of shape {place.shape}: radius queries take one place ({self.dimensions},).")
        if not self._size:
            return np.empty(0), np.empty(0, np.int64)
        squares, indices = kernels.within(place, float(radius), self._tree)
        order = np.lexsort((indices, squares))
        return np.sqrt(squares[order]), indices[order]

    def _converted(self, place: Coordinates) -> np.ndarray:
        """Return one place or many as float64; what isn't numbers is refused."""
        try:
            return np.ascontiguousarray(place, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"{place!r} holds no coordinates in {self.dimensions} dimensions: {error}") from error

    def _places(self, query: Coordinates) -> np.ndarray:
        places = self._converted(query)
        if places.ndim not in (1, 2) or places.shape[-1] != self.dimensions:
            raise DataError(
                f"query of shape {places.shape} to a set of {self.dimensions} dimensions: (d,) or (q, d) is needed."
            )
        if not (np.abs(places) * self._scale <= kernels.FARTHEST).all():
            raise self._refusal(kernels.NOT_FINITE, f"query {query!r}")
        return places

    def _refusal(self, why: int, what: str) -> DataError:
        if why == kernels.NO_POINTS:
            return DataError("the nearest of no points was asked for; add some first.")
        if why == kernels.NOT_FINITE:
            return DataError(f"{what}: coordinates must be finite, at most {kernels.FARTHEST:g} when scaled.")
        return DataError(f"{what}: {self.dimensions} coordinates are needed.")

    def _reserve(self, capacity: int) -> None:
        points, tree = np.empty((capacity, self.dimensions)), kernels.new_tree(self._scale, capacity)
        points[: self._size] = self._points[: self._size]
        tree[: len(self._tree)] = self._tree
        self._points, self._tree = points, tree

    def __repr__(self) -> str:
        return f"GrowingPoints({self._size} points, {self.dimensions} dimensions, scale={self.scale})"

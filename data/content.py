"""What examples shall hold: classes in shares of one's choice, and not too much that doesn't count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .geometry import Geometry
from .pairs import Pair
from .sources import Vec3

__all__ = ["ContentMap", "Selection", "Selector", "counted_share"]

_BLOCK = (8, 32, 32)
_MAP_BYTES = 64 * 2**20
_PIECE_VOXELS = 2**24
# Labels that are looked through when training starts; of larger volumes every n-th layer of blocks.
_MOST_VOXELS = 2**32


@dataclass(frozen=True)
class Selection:
    """Which patches become examples.

    Parameters
    ----------
    balance
        Share of the examples, 0 to 1, that are placed around a voxel of a class that is drawn first; so rare classes
        are seen as often as others. The rest lies anywhere.
    class_shares
        How often each class is drawn, relative to others; of several channels of labels those of the first come first.
        None: all classes that occur, equally often.
    most_ignored
        Share of a patch's target voxels, 0 to 1, that may not count. Pairs with `absent` classes have no such limit:
        there is something to learn everywhere.

    Raises
    ------
    DataError
        A number is out of range, or `class_shares` are given but no `balance`.
    """

    balance: float = 0.0
    class_shares: Sequence[float] | None = None
    most_ignored: float = 1.0

    def __post_init__(self) -> None:
        for name in ("balance", "most_ignored"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value <= 1:
                raise DataError(f"{name}={value!r}; a number from 0 to 1 is needed.")
        if self.class_shares is None:
            return
        shares = np.asarray(self.class_shares, np.float64)
        if shares.ndim != 1 or not np.isfinite(shares).all() or (shares < 0).any() or not shares.any():
            raise DataError(f"class_shares={self.class_shares!r}; numbers ≥ 0, not all 0, are needed.")
        if not self.balance:
            raise DataError("class_shares are given, but balance is 0: no class would be drawn.")

    @property
    def limited(self) -> bool:
        """Whether there are patches that may not become examples."""
        return self.most_ignored < 1


class ContentMap:
    """Where in a pair's target each class occurs, as counts in blocks: a voxel of any class is found at once.

    Only voxels are counted that some patch can hold as its target, and that are masked by nothing. The map takes 64 MB
    at most, for which blocks are made larger.

    Parameters
    ----------
    pair
        Of raw volume and target.
    geometry
        Shapes of input and target.
    classes
        Number of classes of each channel. None: it is only told where the target counts at all.
    ignore
        Target values that don't count, apart from negative ones.

    Attributes
    ----------
    totals : ndarray of int64
        Voxels of each class, those of the first channel first; the last entry tells the voxels that count.

    Raises
    ------
    DataError
        The pair has no target, or no patch fits.
    """

    def __init__(self, pair: Pair, geometry: Geometry, classes: int | None = None, ignore: Sequence[int] = ()) -> None:
        if pair.target is None:
            raise DataError(f"pair {pair.name} has no target, so that examples can't be selected by what they hold.")
        self.pair = pair
        self.classes = classes or 0
        self.ignore = tuple(ignore)
        first, last = pair.placements(geometry)
        self._lo = np.add(first, geometry.offsets)
        self._hi = np.add(last, geometry.offsets) + geometry.span
        features = self.classes * pair.target.channels + 1
        self._edges, self._grid = _blocks((self._hi - self._lo).tolist(), features)
        counts = np.zeros((*self._grid, features), np.int64)
        for at, lo, hi in self._pieces():
            part = counts[at]
            values, counted = self._read(lo, hi)
            for channel, classes_there in enumerate(values if self.classes else ()):
                begin = channel * self.classes
                _count(classes_there, self._edges, part[..., begin : begin + self.classes])
            _count(counted.astype(np.int16) - np.int16(1), self._edges, part[..., -1:])
        # Block by block: the n-th voxel of a class is found by bisection.
        self._until = np.cumsum(counts.reshape(-1, features), axis=0)
        self.totals: npt.NDArray[np.int64] = self._until[-1].copy()

    def draw(self, rng: np.random.Generator, feature: int = -1) -> Vec3:
        """Return a raw voxel (z, y, x) on which a voxel of that class lies, each equally likely.

        Parameters
        ----------
        rng
            Random numbers; one is drawn.
        feature
            Number of the class; those of further channels follow. -1: any voxel that counts.

        Raises
        ------
        DataError
            There is none.
        """
        until = self._until[:, feature]
        if until[-1] == 0:
            raise DataError(f"pair {self.pair.name}: there is no voxel to draw.")
        n = int(rng.integers(until[-1]))
        block = int(np.searchsorted(until, n, side="right"))
        n -= int(until[block - 1]) if block else 0
        lo = self._lo + np.array(np.unravel_index(block, self._grid)) * self._edges
        hi = np.minimum(lo + self._edges, self._hi)
        values, counted = self._read(lo, hi)
        if feature == -1:
            found = np.flatnonzero(counted)
        else:
            channel, value = divmod(feature, self.classes)
            found = np.flatnonzero(values[channel] == value)
        if n >= len(found):
            raise DataError(f"pair {self.pair.name}: its target has changed since training began.")
        z, y, x = (int(v) for v in lo + np.array(np.unravel_index(found[n], values.shape[1:])))
        return z, y, x

    def _pieces(self) -> Iterator[tuple[tuple[slice, slice, slice], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Yield (blocks, lo, hi) of boxes of whole blocks that can be held in memory."""
        most = max(_PIECE_VOXELS // math.prod(self._edges), 1)
        nx = min(self._grid[2], most)
        ny = min(self._grid[1], max(most // nx, 1))
        layers = max(1, math.ceil(math.prod((self._hi - self._lo).tolist()) / _MOST_VOXELS))
        ranges = (range(0, self._grid[0], layers), range(0, self._grid[1], ny), range(0, self._grid[2], nx))
        for corner in itertools.product(*ranges):
            at = (slice(corner[0], corner[0] + 1), slice(corner[1], corner[1] + ny), slice(corner[2], corner[2] + nx))
            lo = self._lo + np.array(corner) * self._edges
            hi = np.minimum(lo + np.array((1, ny, nx)) * self._edges, self._hi)
            yield at, lo.astype(np.int64), hi.astype(np.int64)

    def _read(
        self, lo: npt.NDArray[np.int64], hi: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
        """Return the classes (channels, z, y, x), -1 where they don't count, and where (z, y, x) any channel counts."""
        pair = self.pair
        assert pair.target is not None
        voxels = pair.target.read((lo - pair.target_offset).tolist(), (hi - pair.target_offset).tolist())
        if voxels.dtype.kind == "f":
            counts = ~np.isnan(voxels)
        else:
            counts = voxels >= 0
            for value in self.ignore:
                counts &= voxels != value
        if pair.mask is not None:
            marks = pair.mask.read((lo - pair.mask_offset).tolist(), (hi - pair.mask_offset).tolist())
            counts &= marks != 0
        if self.classes and pair.labelled is not None:
            first = self.classes * np.arange(len(voxels)).reshape(-1, 1, 1, 1)
            counts &= np.isin(voxels.astype(np.int64) + first, pair.labelled)
        if self.classes:
            counts_as_class = counts & (voxels < self.classes)
            classes = np.where(counts_as_class, voxels, 0).astype(np.int16)
            classes[~counts_as_class] = -1  # only now: unsigned labels have no -1
        else:
            classes = np.where(counts, 0, -1).astype(np.int16)
        return classes, counts.any(0)


class Selector:
    """Draws the pair of an example, and the class that it shall hold.

    Parameters
    ----------
    pairs, geometry, classes, ignore
        As for `elektronn_tui.data.Patches`.
    selection
        What examples shall hold.
    weights
        How often each pair is drawn.

    Raises
    ------
    DataError
        A class that shall be drawn occurs nowhere, or nothing counts at all.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        geometry: Geometry,
        selection: Selection,
        weights: npt.NDArray[np.float64],
        classes: int | None,
        ignore: Sequence[int],
    ) -> None:
        self.selection = selection
        if selection.balance and not classes:
            raise DataError(
                f"balance={selection.balance}, but {pairs[0].name} has no classes to balance: it is for targets of "
                "class ids and networks that tell them apart."
            )
        self.maps = [ContentMap(pair, geometry, classes, ignore) for pair in pairs]
        totals = np.array([one.totals for one in self.maps])
        empty = [
            pair.name
            for pair, total, weight in zip(pairs, totals, weights, strict=True)
            if weight and not total[-1] and not pair.absent
        ]
        if empty and (selection.limited or len(empty) == np.count_nonzero(weights)):
            raise DataError(
                f"pair {empty[0]}: no target voxel that a patch can hold counts: all are ignored or masked. Use "
                "another mask, or a smaller patch."
            )
        # The pairs in which a class occurs, each as often as its weight says.
        self._pairs = np.cumsum(np.where(totals[:, :-1] > 0, weights[:, None], 0), axis=0)
        if selection.balance:
            self._classes = np.cumsum(self._shares(totals[:, :-1][weights > 0].sum(0), pairs[0]))

    def choose(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Return a pair and a class, see `ContentMap.draw`, that an example shall hold; None: it may be any."""
        if not rng.random() < self.selection.balance:
            return None
        feature = _pick(self._classes, rng.random())
        return _pick(self._pairs[:, feature], rng.random()), feature

    def _shares(self, totals: npt.NDArray[np.int64], pair: Pair) -> npt.NDArray[np.float64]:
        given = self.selection.class_shares
        if given is None:
            return (totals > 0).astype(np.float64)
        shares = np.asarray(given, np.float64)
        if len(shares) != len(totals):
            assert pair.target is not None
            of = f" for each of {pair.target.channels} channels" if pair.target.channels > 1 else ""
            raise DataError(
                f"class_shares={list(given)}: {len(shares)} numbers, but {pair.target.name} has "
                f"{self.maps[0].classes} classes{of}; give {len(totals)}."
            )
        missing = np.flatnonzero((shares > 0) & (totals == 0)).tolist()
        if missing:
            raise DataError(
                f"class_shares={list(given)}: there is no voxel of class {', '.join(map(str, missing))} that a patch "
                "can hold in any training volume; give 0 for it."
            )
        return shares


def _pick(until: npt.NDArray[np.float64], uniform: float) -> int:
    """Return the index in which a share of `until`, a running sum, falls."""
    index = int(np.searchsorted(until, uniform * until[-1], side="right"))
    return min(index, int(np.searchsorted(until, until[-1])))  # rounding must not end in a share of 0


def _blocks(extent: Sequence[int], features: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the edges of blocks and how many there are along each axis."""
    edges = [min(edge, size) for edge, size in zip(_BLOCK, extent, strict=True)]
    while True:
        z, y, x = (math.ceil(size / edge) for size, edge in zip(extent, edges, strict=True))
        if z * y * x * features * 8 <= _MAP_BYTES or z * y * x == 1:
            return (edges[0], edges[1], edges[2]), (z, y, x)
        edges = [min(2 * edge, size) for edge, size in zip(edges, extent, strict=True)]


def _count(classes: npt.NDArray[np.int16], edges: Vec3, counts: npt.NDArray[np.int64]) -> None:
    _kernel()(np.ascontiguousarray(classes), edges, counts)


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the compiled count (numba is imported when it is first needed)."""
    from ._content_kernels import count_blocks

    return count_blocks


def counted_share(target: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> float:
    """Return the share of the voxels of a target patch that count."""
    return float((target >= 0).mean() if mask is None else mask.mean())

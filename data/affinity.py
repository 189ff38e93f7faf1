"""Targets made of segment ids: affinities, which say whether two voxels belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .geometry import Geometry
from .memory import remember
from .sources import Source, SourceLike, Vec3, as_source, checked_box
from .warp import bounding_box, translated

__all__ = ["NEAREST", "AffinitySource", "Unlabelled", "affinities"]

Unlabelled: TypeAlias = Literal["object", "boundary", "ignore"]

_MODES: dict[str, int] = {name: i for i, name in enumerate(get_args(Unlabelled))}
NEAREST: tuple[Vec3, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""The edges to the neighbours below."""


def affinities(
    ids: np.ndarray, offsets: Sequence[Sequence[int]] = NEAREST, *, background: Unlabelled = "ignore"
) -> npt.NDArray[np.int8]:
    """Say for every voxel and offset whether the voxel has the same id as the one at that offset.

    Parameters
    ----------
    ids
        Integer ids (z, y, x), or (..., z, y, x) with leading axes of size 1. Negative ones are unlabelled.
    offsets
        (z, y, x) in voxels, one for each edge; any distance.
    background
        What id 0 is: ``"ignore"``: unlabelled, as negative ids are; ``"boundary"``: no object, not even with itself;
        ``"object"``: an id like any other.

    Returns
    -------
    ndarray of int8
        (edges, z, y, x): 1 the same id, 0 another one, -1 for edges that leave the volume or touch what is unlabelled.

    Raises
    ------
    DataError
        `ids` are no integers or no volume; `offsets` or `background` make no sense.

    Examples
    --------
    >>> affinities(np.array([[[7, 7, 9, 0]]]), [(0, 0, 1)])
    array([[[[ 1,  0, -1, -1]]]], dtype=int8)
    """
    edges, mode = _offsets(offsets), _mode(background)
    if ids.ndim < 3 or any(n != 1 for n in ids.shape[:-3]):
        raise DataError(f"affinities: ids of shape {ids.shape}; one volume (z, y, x) is needed.")
    volume = _whole_numbers(ids.reshape(ids.shape[-3:]))
    out = np.empty((len(edges), *volume.shape), np.int8)
    _kernel()(volume, edges, np.zeros(3, np.int64), np.ones(3, np.int64), mode, out)
    return out


class AffinitySource:
    """The affinities of a volume of ids, computed where they are needed.

    As a target of training patches they are computed of *warped ids*: ids are sampled (nearest voxel) on the grid of
    the patch with a margin for the offsets, and compared there. So an edge always joins voxels that lie `offsets`
    apart in the patch that the network sees, however that was turned and stretched. With strides, the grid is that of
    the input, and every n-th voxel is taken of the result.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    offsets, background
        As in `affinities`.
    with_ids
        Add the ids themselves as the last channel, for losses over whole segments such as MALIS; 0 for negative ones.
    in_memory
        Whether the ids are kept in memory, see `elektronn_tui.data.remember`.
    """

    def __init__(
        self,
        ids: SourceLike,
        offsets: Sequence[Sequence[int]] = NEAREST,
        *,
        background: Unlabelled = "ignore",
        with_ids: bool = False,
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        # Of the ids, not of what is made of them: that is as many times larger as there are edges.
        self.ids: Source = remember(as_source(ids), in_memory)
        self.edges = _offsets(offsets)
        self.background = background
        self.with_ids = with_ids
        self._mode = _mode(background)
        self._below = np.maximum(-self.edges.min(0), 0)
        self._above = np.maximum(self.edges.max(0), 0)

    @property
    def name(self) -> str:
        """The name of the ids."""
        return f"affinities of {self.ids.name}"

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x)."""
        return self.ids.shape

    @property
    def channels(self) -> int:
        """Number of edges, and one for the ids."""
        return len(self.edges) + self.with_ids

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype int8; int64 with ids."""
        return np.dtype(np.int64 if self.with_ids else np.int8)

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm."""
        return self.ids.voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm."""
        return self.ids.offset

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the affinities in the box as (channels, z, y, x), those of the whole volume."""
        low, high = checked_box(self, lo, hi)
        outer_lo = np.maximum(np.asarray(low) - self._below, 0)
        outer_hi = np.minimum(np.asarray(high) + self._above, self.shape)
        ids = _whole_numbers(self._read_ids(outer_lo.tolist(), outer_hi.tolist())[0], self.ids.name)
        out = np.empty((self.channels, *np.subtract(high, low)), self.dtype)
        self._mark(ids, np.subtract(low, outer_lo), np.ones(3, np.int64), out)
        return out

    def sample(
        self,
        matrix: npt.NDArray[np.float64],
        geometry: Geometry,
        origin: Sequence[int],
        limits: tuple[Sequence[int], Sequence[int]],
        out: npt.NDArray[np.int64],
        read: Callable[[Source, Sequence[int], Sequence[int]], np.ndarray] | None = None,
    ) -> None:
        """Fill the target of a warped patch.

        Parameters
        ----------
        matrix
            4×4: voxel of the patch to voxel of the raw volume.
        geometry
            Shapes of input and target.
        origin
            Raw voxel (z, y, x) on which the first of the ids lies.
        limits
            Box ``(lo, hi)`` in raw voxels; ids beyond it count as unlabelled.
        out
            (channels, z, y, x) int64.
        read
            Called as ``read(source, lo, hi)`` in place of the source's own method, to count what is read.
        """
        from .sampling import sample_labels  # numba, which pairs alone don't need

        lo = np.maximum(np.subtract(limits[0], origin), 0)
        hi = np.minimum(np.subtract(limits[1], origin), self.shape)
        below, above = self._below, self._above
        while True:
            grid = np.eye(4)
            grid[:3, 3] = np.asarray(geometry.offsets) - below
            through = translated(matrix @ grid, [-int(o) for o in origin])
            dense = np.asarray(geometry.span) + below + above
            try:
                low, high = bounding_box(through, dense.tolist())
                break
            except DataError:
                # A strong perspective ends before the longest edges do: what is beyond stays unknown.
                if not (below.any() or above.any()):
                    raise
                below, above = below // 2, above // 2
        begin = np.clip(np.floor(low), lo, hi - 1).astype(int)
        end = np.clip(np.ceil(high) + 1, begin + 1, hi).astype(int)
        box = _whole_numbers(self._read_ids(begin.tolist(), end.tolist(), read)[0], self.ids.name)
        # A rim of unlabelled voxels: what is sampled beyond a box gets the value of its rim.
        box = np.pad(box, 1, constant_values=-1)
        ids = np.empty((1, *dense), np.int64)
        sample_labels(box[None], translated(through, (1 - begin).tolist()), ids)
        self._mark(ids[0], below, np.asarray(geometry.strides), out)

    def warm_up(self) -> None:
        """Compile what `sample` needs, or load it from numba's cache."""
        out = np.empty((self.channels, 1, 1, 1), np.int64)
        self._mark(np.zeros((1, 1, 1), np.int64), np.zeros(3, np.int64), np.ones(3, np.int64), out)

    def close(self) -> None:
        """Close the source of the ids."""
        self.ids.close()

    def _read_ids(self, lo: Sequence[int], hi: Sequence[int], read: Any = None) -> np.ndarray:
        if self.ids.channels != 1:
            raise DataError(f"{self.ids.name} has {self.ids.channels} channels; ids have one.")
        return self.ids.read(lo, hi) if read is None else read(self.ids, lo, hi)

    def _mark(self, ids: npt.NDArray[np.int64], first: np.ndarray, strides: np.ndarray, out: np.ndarray) -> None:
        first, strides = np.asarray(first, np.int64), np.asarray(strides, np.int64)
        _kernel()(ids, self.edges, first, strides, self._mode, out[: len(self.edges)])
        if self.with_ids:
            at = tuple(slice(a, a + s * n, s) for a, s, n in zip(first, strides, out.shape[1:], strict=True))
            np.maximum(ids[at], 0, out=out[-1])

    def __repr__(self) -> str:
        return f"AffinitySource({self.ids!r}, {self.edges.tolist()}, background={self.background!r})"


def _offsets(offsets: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    edges = np.asarray(offsets)
    if edges.ndim != 2 or edges.shape[1:] != (3,) or len(edges) == 0 or edges.dtype.kind not in "iu":
        raise DataError(f"affinities: offsets={offsets!r}; a list of (z, y, x) in whole voxels is needed.")
    if not edges.any(1).all():
        raise DataError(f"affinities: offsets={offsets!r}; (0, 0, 0) joins a voxel with itself.")
    return edges.astype(np.int64)


def _mode(background: str) -> int:
    if background not in _MODES:
        hint = did_you_mean(str(background), _MODES)
        raise DataError(f"affinities: background={background!r}; use one of {', '.join(_MODES)}.{hint}")
    return _MODES[background]


def _whole_numbers(ids: np.ndarray, name: str = "affinities") -> npt.NDArray[np.int64]:
    """Return ids as a writable int64 array in C order."""
    if ids.dtype.kind not in "iub":
        raise DataError(f"{name}: ids are integers, not {ids.dtype}.")
    if ids.dtype == np.uint64 and ids.size and int(ids.max()) >= 2**63:
        raise DataError(f"{name}: an id is 2⁶³ or more; ids must fit int64.")
    return ids.astype(np.int64)


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the compiled pass (numba is imported when it is first needed)."""
    from ._label_kernels import mark_affinities

    return mark_affinities

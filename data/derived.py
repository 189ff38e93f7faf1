"""Volumes that are computed from segment ids where they are read, and targets that are computed of warped ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .deformation import Deformation
from .geometry import Geometry
from .memory import remember
from .sources import Source, SourceLike, Vec3, as_source, checked_box
from .warp import bounding_box, translated

__all__ = ["GridTarget", "IdsSource", "whole_numbers"]

Read: TypeAlias = Callable[[Source, Sequence[int], Sequence[int]], np.ndarray]


class IdsSource:
    """Base of what is computed from a volume of ids, box by box.

    Each box is read with a margin, so that it equals the box of what the whole volume gives. A subclass sets `channels`
    and `dtype`, and has `compute`.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    what
        What is made of them, for messages.
    below, above
        Voxels (z, y, x) that a result depends on, on the lower and on the higher side.
    """

    channels: int
    dtype: np.dtype[Any]

    def __init__(self, ids: SourceLike, what: str, below: Sequence[int], above: Sequence[int]) -> None:
        self.ids: Source = as_source(ids)
        self.below, self.above = np.array(below, np.int64), np.array(above, np.int64)
        self._what = what

    @property
    def name(self) -> str:
        """What it is, and the name of the ids."""
        return f"{self._what} of {self.ids.name}"

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x)."""
        return self.ids.shape

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm."""
        return self.ids.voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm."""
        return self.ids.offset

    def compute(self, ids: np.ndarray) -> np.ndarray:
        """Return the result for a box of ids (z, y, x), as (z, y, x) or (channels, z, y, x)."""
        raise NotImplementedError

    def fill(self, ids: np.ndarray, first: Sequence[int], strides: Sequence[int], out: np.ndarray) -> None:
        """Write the result at the voxels ``first + k * strides`` of a box of ids to `out` (channels, z, y, x)."""
        whole = self.compute(ids)
        at = tuple(slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(first, strides, out.shape[1:], strict=True))
        out[:] = whole.reshape(self.channels, *ids.shape)[(slice(None), *at)]

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the box as (channels, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        outer_lo = np.maximum(low - self.below, 0).tolist()
        outer_hi = np.minimum(high + self.above, self.shape).tolist()
        out = np.empty((self.channels, *np.subtract(high, low)), self.dtype)
        self.fill(self._read_ids(outer_lo, outer_hi)[0], np.subtract(low, outer_lo).tolist(), (1, 1, 1), out)
        return out

    def close(self) -> None:
        """Close the source of the ids."""
        self.ids.close()

    def _read_ids(self, lo: Sequence[int], hi: Sequence[int], read: Read | None = None) -> np.ndarray:
        if self.ids.channels != 1:
            raise DataError(f"{self.ids.name} has {self.ids.channels} channels; ids have one.")
        return self.ids.read(lo, hi) if read is None else read(self.ids, lo, hi)


class GridTarget(IdsSource):
    """Base of targets of patches that are computed of *warped ids*.

    Ids are sampled (nearest voxel) on the grid of the patch with a margin, and the target is computed there. So edges,
    distances and shapes are those of the patch that the network sees, however that was turned and stretched. With
    strides, the grid is that of the input, and every n-th voxel is taken of the result.

    Parameters
    ----------
    ids, what, below, above
        As in `IdsSource`.
    in_memory
        Whether the ids are kept in memory, see `elektronn_tui.data.remember`. Not what is made of them: that is many
        times larger.
    """

    def __init__(
        self,
        ids: SourceLike,
        what: str,
        below: Sequence[int],
        above: Sequence[int],
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        super().__init__(remember(as_source(ids), in_memory), what, below, above)

    def sample(
        self,
        matrix: npt.NDArray[np.float64],
        geometry: Geometry,
        origin: Sequence[int],
        limits: tuple[Sequence[int], Sequence[int]],
        out: npt.NDArray[Any],
        read: Read | None = None,
        deformation: Deformation | None = None,
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
            (channels, z, y, x), int64 or float32.
        read
            Called as ``read(source, lo, hi)`` in place of the source's own method, to count what is read.
        deformation
            Of the patch, before `matrix`; None: none.
        """
        from .sampling import sample_labels  # numba, which pairs alone don't need

        lo = np.maximum(np.subtract(limits[0], origin), 0)
        hi = np.minimum(np.subtract(limits[1], origin), self.shape)
        below, above = self.below, self.above
        while True:
            grid = np.eye(4)
            first = np.asarray(geometry.offsets) - below
            grid[:3, 3] = first
            through = translated(matrix @ grid, [-int(o) for o in origin])
            dense = np.asarray(geometry.span) + below + above
            try:
                moved = deformation.on(first, (1, 1, 1), int(dense[0])) if deformation else None
                low, high = bounding_box(through, dense.tolist(), moved)
                break
            except DataError:
                # A strong perspective ends before the longest edges do: what is beyond stays unknown.
                if not (below.any() or above.any()):
                    raise
                below, above = below // 2, above // 2
        begin = np.clip(np.floor(low), lo, hi - 1).astype(int)
        end = np.clip(np.ceil(high) + 1, begin + 1, hi).astype(int)
        box = whole_numbers(self._read_ids(begin.tolist(), end.tolist(), read)[0], self.ids.name)
        # A rim of unlabelled voxels: what is sampled beyond a box gets the value of its rim.
        box = np.pad(box, 1, constant_values=-1)
        ids = np.empty((1, *dense), np.int64)
        sample_labels(box[None], translated(through, (1 - begin).tolist()), ids, displacement=moved)
        self.fill(ids[0], below.tolist(), geometry.strides, out)

    def warm_up(self) -> None:
        """Compile what `sample` needs, or load it from numba's cache."""
        dtype = np.float32 if self.dtype.kind == "f" else np.int64
        out = np.empty((self.channels, 1, 1, 1), dtype)
        self.fill(np.ones((1, 1, 1), np.int64), (0, 0, 0), (1, 1, 1), out)


def whole_numbers(ids: np.ndarray, name: str) -> npt.NDArray[np.int64]:
    """Return ids as a writable int64 array in C order.

    Raises
    ------
    DataError
        They are no integers, or one is 2⁶³ or more.
    """
    if ids.dtype.kind not in "iub":
        raise DataError(f"{name}: ids are integers, not {ids.dtype}.")
    if ids.dtype == np.uint64 and ids.size and int(ids.max()) >= 2**63:
        raise DataError(f"{name}: an id is 2⁶³ or more; ids must fit int64.")
    if ids.dtype == np.int64 and ids.flags.c_contiguous and ids.flags.writeable:
        return ids
    return ids.astype(np.int64)

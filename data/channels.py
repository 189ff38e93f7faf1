"""Several volumes as the channels of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError

from .sources import Source, SourceLike, Vec3, as_source, checked_box

__all__ = ["ConcatChannels"]


class ConcatChannels:
    """Volumes of one shape and dtype as one: their channels follow each other.

    Parameters
    ----------
    sources
        Sources, arrays or addresses, one at least.

    Raises
    ------
    DataError
        At first use: shape or dtype differ, or voxel sizes or offsets that are known contradict each other.

    Examples
    --------
    >>> both = ConcatChannels([np.zeros((2, 3, 4)), np.ones((2, 2, 3, 4))])
    >>> both.read((0, 0, 0), (1, 1, 1)).ravel()
    array([0., 1., 1.])
    """

    def __init__(self, sources: Sequence[SourceLike]) -> None:
        self.sources: tuple[Source, ...] = tuple(as_source(source) for source in sources)
        if not self.sources:
            raise DataError("no volume to take channels of; give one at least.")
        self._checked = False

    @property
    def name(self) -> str:
        """The names of all sources."""
        return " + ".join(source.name for source in self.sources)

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) in voxels."""
        if not self._checked:
            self._check()
        return self.sources[0].shape

    @property
    def channels(self) -> int:
        """Sum of the channels of all sources."""
        return sum(source.channels for source in self.sources)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all sources."""
        return self.sources[0].dtype

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm, of the first source that knows it."""
        return next((s.voxel_size for s in self.sources if s.voxel_size is not None), None)

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm, of the first source that knows it."""
        return next((s.offset for s in self.sources if s.offset is not None), None)

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box ``lo <= index < hi`` as (channels, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        return np.concatenate([source.read(low, high) for source in self.sources])

    def close(self) -> None:
        """Close all sources."""
        for source in self.sources:
            source.close()

    def _check(self) -> None:
        first = self.sources[0]
        for other in self.sources[1:]:
            if (other.shape, other.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"channels of a volume need one shape and dtype: {first.name} has {first.shape} of {first.dtype}, "
                    f"{other.name} has {other.shape} of {other.dtype}."
                )
        for what in ("voxel_size", "offset"):
            known = [(s.name, getattr(s, what)) for s in self.sources if getattr(s, what) is not None]
            for name, value in known[1:]:
                if not np.allclose(value, known[0][1]):
                    raise DataError(
                        f"channels of one volume need one {what}: that of {known[0][0]} is {known[0][1]}, that of "
                        f"{name} is {value} nm."
                    )
        self._checked = True

    def __repr__(self) -> str:
        return f"ConcatChannels({list(self.sources)!r})"

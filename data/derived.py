"""Volumes that are computed from another one where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError

from .sources import Source, SourceLike, Vec3, as_source, checked_box

__all__ = ["IdsSource"]


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
    margin
        Voxels (z, y, x) that a result depends on, to either side.
    """

    channels: int
    dtype: np.dtype[Any]

    def __init__(self, ids: SourceLike, what: str, margin: Sequence[int]) -> None:
        self.ids: Source = as_source(ids)
        self.margin = (int(margin[0]), int(margin[1]), int(margin[2]))
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

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the box as (channels, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        if self.ids.channels != 1:
            raise DataError(f"{self.ids.name} has {self.ids.channels} channels; ids have one.")
        outer_lo = [max(l - m, 0) for l, m in zip(low, self.margin, strict=True)]
        outer_hi = [min(h + m, n) for h, m, n in zip(high, self.margin, self.shape, strict=True)]
        whole = self.compute(self.ids.read(outer_lo, outer_hi)[0])
        inner = tuple(slice(l - o, h - o) for l, h, o in zip(low, high, outer_lo, strict=True))
        return whole.reshape(self.channels, *whole.shape[-3:])[(slice(None), *inner)]

    def close(self) -> None:
        """Close the source of the ids."""
        self.ids.close()

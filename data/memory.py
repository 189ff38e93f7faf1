"""Volumes kept in memory, and how much of it they take."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from .sources import ArraySource, Box, Source, Vec3

__all__ = ["MemorySource", "nbytes", "remember", "slabs"]

_SLAB_BYTES = 64 * 2**20


def nbytes(source: Source) -> int:
    """Return the number of bytes of the whole volume in its native dtype."""
    return source.channels * int(np.prod(source.shape, dtype=np.int64)) * source.dtype.itemsize


def slabs(source: Source, most_bytes: int = _SLAB_BYTES) -> Iterator[Box]:
    """Yield the boxes of whole z sections that cover a volume, each of at most `most_bytes` or one section thick."""
    depth, height, width = source.shape
    thick = max(1, min(depth, most_bytes * depth // nbytes(source)))
    for z in range(0, depth, thick):
        yield (z, 0, 0), (min(z + thick, depth), height, width)


class MemorySource:
    """A source that is read once, whole, at its first use, and served from memory from then on.

    Threads that read HDF5 queue up at one global lock, and compressed chunks are decoded again and again; a
    copy in native dtype has neither trouble. A volume over its limit is read through, box by box.

    Parameters
    ----------
    source
        What to keep.
    limit
        Bytes it may take; None: half of the memory that is free at first use.
    """

    def __init__(self, source: Source, limit: int | None = None) -> None:
        self.source = source
        self.limit = limit
        self._lock = threading.Lock()
        self._held: Source | None = None

    @property
    def name(self) -> str:
        """The name of the source behind it."""
        return self.source.name

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x)."""
        return self.source.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.source.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native dtype."""
        return self.source.dtype

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm."""
        return self.source.voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm."""
        return self.source.offset

    @property
    def in_memory(self) -> bool:
        """Whether the volume fits, so that `read` costs no more than a view. Loads it."""
        return self._serve() is not self.source

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box as (channels, z, y, x); a view, not to be written to."""
        return self._serve().read(lo, hi)

    def close(self) -> None:
        """Free the copy and close the source behind it."""
        with self._lock:
            self._held = None
        self.source.close()

    def _serve(self) -> Source:
        held = self._held
        if held is not None:
            return held
        with self._lock:
            if self._held is None:
                if nbytes(self.source) <= (_free_memory() // 2 if self.limit is None else self.limit):
                    self._held = ArraySource(_whole(self.source), name=self.source.name)
                    self.source.close()
                else:
                    self._held = self.source
            return self._held

    def __reduce__(self) -> tuple[Any, ...]:
        return MemorySource, (self.source, self.limit)

    def __repr__(self) -> str:
        return f"MemorySource({self.source!r})"


def _whole(source: Source) -> np.ndarray:
    voxels = np.empty((source.channels, *source.shape), source.dtype)
    # In slabs: what a source computes (boundaries of 64-bit ids) may need many times what it delivers.
    for lo, hi in slabs(source):
        voxels[:, lo[0] : hi[0]] = source.read(lo, hi)
    return voxels


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def remember(source: Source, in_memory: bool | Literal["auto"] | int = "auto") -> Source:
    """Wrap a source so that it is served from memory.

    Parameters
    ----------
    source
        Any source. Arrays are returned as they are.
    in_memory
        ``"auto"``: if it takes at most half of the free memory at its first use; a number: if it takes at most
        so many bytes; True: always; False: never.
    """
    if in_memory is False or isinstance(source, (ArraySource, MemorySource)):
        return source
    if in_memory is True:
        return MemorySource(source, limit=nbytes(source))
    return MemorySource(source, limit=None if in_memory == "auto" else int(in_memory))

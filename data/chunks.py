"""Volumes in pieces: a cache of decoded chunks, files read by place, and how a box is put together of chunks."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

__all__ = ["CACHE_BYTES", "CacheStats", "ChunkCache", "ChunkedArray", "PlacedFile", "row_blocks"]

CACHE_BYTES = 256 * 2**20
"""What a source keeps of decoded chunks unless told otherwise."""

Place: TypeAlias = tuple[int, ...]

_BLOCK_BYTES = 128 * 2**10


@dataclass(frozen=True)
class CacheStats:
    """What a cache of chunks did so far.

    Attributes
    ----------
    hits, misses
        Chunks that were there, or in another thread's work; and chunks that had to be decoded.
    evicted
        Chunks that were dropped for others.
    bytes, limit
        What is held, and the most that may be.
    """

    hits: int
    misses: int
    evicted: int
    bytes: int
    limit: int


class ChunkCache:
    """Decoded chunks within a budget of bytes; what was used last is kept. For several threads.

    Parameters
    ----------
    limit
        Bytes that may be held. The chunk that was decoded last is held even if it alone is larger: it would be decoded
        anew for each read.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[Place, tuple[npt.NDArray[Any], int]] = OrderedDict()
        self._pending: dict[Place, Future[tuple[npt.NDArray[Any], int]]] = {}
        self._bytes = self._hits = self._misses = self._evicted = 0

    def get(
        self, places: Sequence[Place], load: Callable[[Place], npt.NDArray[Any]]
    ) -> list[tuple[npt.NDArray[Any], int]]:
        """Return chunks by their places, each with its address in memory.

        What is missing is decoded in the calling thread by `load`, which returns a contiguous array; what another
        thread is decoding is waited for. The error of a `load` goes to all that wait for its chunk; it is not kept.
        """
        held = self._held
        with self._lock:
            found = [held.get(place) for place in places]
            for place, entry in zip(places, found, strict=True):
                if entry is not None:
                    held.move_to_end(place)
                    self._hits += 1
        waiting = []
        for i, place in enumerate(places):
            if found[i] is None:
                entry = self._claim(place, load)
                if isinstance(entry, Future):
                    # Later: nobody who waits here holds up a chunk that another thread waits for.
                    waiting.append((i, entry))
                else:
                    found[i] = entry
        for i, future in waiting:
            found[i] = future.result()
        return found  # type: ignore[return-value]

    def stats(self) -> CacheStats:
        """Return what was counted so far."""
        with self._lock:
            return CacheStats(self._hits, self._misses, self._evicted, self._bytes, self.limit)

    def _claim(self, place: Place, load: Callable[[Place], npt.NDArray[Any]]) -> Any:
        """Return the entry, or the future of a thread that came before."""
        with self._lock:
            ready = self._held.get(place) or self._pending.get(place)
            if ready is not None:
                self._hits += 1
                return ready
            self._misses += 1
            future = self._pending[place] = Future()
        try:
            chunk = load(place)
            entry = chunk, int(chunk.__array_interface__["data"][0])
        except BaseException as error:
            with self._lock:
                del self._pending[place]
            future.set_exception(error)
            raise
        with self._lock:
            del self._pending[place]
            self._keep(place, entry)
        future.set_result(entry)
        return entry

    def _keep(self, place: Place, entry: tuple[npt.NDArray[Any], int]) -> None:
        self._held[place] = entry
        self._bytes += entry[0].nbytes
        while self._bytes > self.limit and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][0].nbytes
            self._evicted += 1


class ChunkedArray:
    """A stored array of up to four axes that is read chunk by chunk.

    Parameters
    ----------
    shape, chunks
        Of the array and of each of its chunks.
    dtype
        Of the decoded chunks.
    load
        Returns a chunk by its place in the grid of chunks: contiguous, of `dtype`, as long as a whole chunk. At the end
        of the array the first axis that is longer than 1 may be cut short.
    cache
        Keeps decoded chunks.
    """

    def __init__(
        self,
        shape: Sequence[int],
        chunks: Sequence[int],
        dtype: np.dtype[Any],
        load: Callable[[Place], npt.NDArray[Any]],
        cache: ChunkCache,
    ) -> None:
        from ._chunk_kernels import gather

        self.shape = tuple(int(n) for n in shape)
        self.chunks = tuple(int(n) for n in chunks)
        self.dtype = dtype
        self.cache = cache
        self._load = load
        self._gather = gather

    def __getitem__(self, cut: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the box of slices with start and stop, or of whole axes."""
        lo = [s.start or 0 for s in cut]
        hi = [n if s.stop is None else s.stop for s, n in zip(cut, self.shape, strict=True)]
        first = [l // c for l, c in zip(lo, self.chunks, strict=True)]
        behind = [-(-h // c) for h, c in zip(hi, self.chunks, strict=True)]
        found = self.cache.get(list(product(*map(range, first, behind))), self._load)
        out = np.empty([h - l for l, h in zip(lo, hi, strict=True)], self.dtype)
        missing = 4 - len(lo)
        zeros, ones = [0] * missing, [1] * missing
        box = np.array([zeros + lo, ones + hi, zeros + first, ones + behind, ones + list(self.chunks)], np.int64)
        # `found` keeps the chunks alive until they are copied, whatever other threads evict.
        addresses = np.array([address for _, address in found], np.int64)
        self._gather(addresses, box, self.dtype.itemsize, out.view(np.uint8).reshape(-1))
        return out


class PlacedFile:
    """A file that is read by offset, from several threads, and closed when the last of them has let go of it.

    Parameters
    ----------
    path
        For messages.
    descriptor
        Of the open file; it is closed by this object.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        # Not by an explicit close: a thread in the middle of a read would read from what opens that number next.
        weakref.finalize(self, os.close, descriptor)
        self._stamp = self._now()

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes; raise DataError where the file ends before."""
        found = os.pread(self._descriptor, size, offset)
        while len(found) < size:
            more = os.pread(self._descriptor, size - len(found), offset + len(found))
            if not more:
                raise DataError(f"{self.path} ends at byte {offset + len(found)} where {size - len(found)} more belong")
            found += more
        return found

    def check(self) -> None:
        """Raise DataError when somebody has written to the file since it was opened."""
        if self._now() != self._stamp:
            raise DataError(f"{self.path} was changed after it had been opened")

    def is_same(self, descriptor: int) -> bool:
        """Return whether an open descriptor is of the same file."""
        return os.path.sameopenfile(self._descriptor, descriptor)

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


def row_blocks(shape: Sequence[int], itemsize: int, most: int = _BLOCK_BYTES) -> tuple[int, ...]:
    """Return the shape of blocks of an array without chunks: a contiguous run of the file each, of about `most` bytes.

    Examples
    --------
    >>> row_blocks((100, 1250, 1250), 1)
    (1, 104, 1250)
    """
    blocks, room = [1] * len(shape), max(1, most // itemsize)
    for axis in reversed(range(len(shape))):
        blocks[axis] = max(1, min(shape[axis], room))
        if blocks[axis] < shape[axis]:
            break
        room //= shape[axis]
    return tuple(blocks)

"""The chunks of an HDF5 dataset, read from the file and decoded outside of h5py's global lock."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .chunks import ChunkCache, ChunkedArray, Place, PlacedFile, row_blocks

__all__ = ["HDF5Chunks"]

# Numbers of filters, from the HDF5 specification (III.D) and the HDF Group's registry.
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_OURS = {_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF}


class HDF5Chunks:
    """The chunks of a dataset.

    Deflate, shuffle, Fletcher checksums and LZF are decoded here, in the calling thread and without the GIL. Other
    filters, virtual and external datasets, and chunks that don't decode are left to h5py, in which threads take turns.
    A dataset without chunks is read in blocks of rows.

    Parameters
    ----------
    dataset
        Of h5py, open.
    file
        The same file.
    dtype
        To deliver, in the byte order of this machine.
    """

    def __init__(self, dataset: Any, file: PlacedFile, dtype: np.dtype[Any]) -> None:
        self._dataset = dataset
        self._file = file
        self._stored: np.dtype[Any] = dataset.dtype
        self._dtype = dtype
        self._lock = threading.Lock()
        self._index: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint32]] | None = None
        self.shape: tuple[int, ...] = dataset.shape
        self.chunks: tuple[int, ...] = dataset.chunks or row_blocks(self.shape, self._stored.itemsize)
        self._size = int(np.prod(self.chunks)) * self._stored.itemsize
        self._filters = _filters(dataset)

    def array(self, cache: ChunkCache) -> ChunkedArray:
        """Return the dataset as an array that is read through `cache`."""
        return ChunkedArray(self.shape, self.chunks, self._dtype, self._loader(), cache)

    def _loader(self) -> Callable[[Place], npt.NDArray[Any]]:
        """Return how to get at a chunk by its place."""
        import h5py

        plain = (
            self._dataset.id.get_type().equal(h5py.h5t.py_create(self._stored, logical=True))
            and not self._dataset.is_virtual
            and not self._dataset.file.userblock_size
        )
        if plain and self._dataset.chunks is not None and self._filters is not None:
            return self._load_chunk
        if plain and self._dataset.chunks is None and self._dataset.id.get_offset() is not None:
            return self._load_rows
        return self._load_by_h5py

    def _load_rows(self, place: Place) -> npt.NDArray[Any]:
        lo, hi = self._box(place)
        start = int(np.ravel_multi_index(lo, self.shape)) * self._stored.itemsize
        size = int(np.prod([h - l for l, h in zip(lo, hi, strict=True)])) * self._stored.itemsize
        return self._native(self._file.read(self._dataset.id.get_offset() + start, size))

    def _load_chunk(self, place: Place) -> npt.NDArray[Any]:
        offsets, sizes, masks = self._index or self._read_index()
        if offsets[place] < 0:
            return np.full(self.chunks, self._dataset.fillvalue, self._dtype)
        assert self._filters is not None
        stored = self._file.read(int(offsets[place]), int(sizes[place]))
        decoded = _decoded(stored, self._filters, int(masks[place]), self._stored.itemsize, self._size)
        # What does not decode may be a chunk at the edge that was stored without filters: h5py has the last word.
        return self._load_by_h5py(place) if decoded is None else self._native(decoded)

    def _load_by_h5py(self, place: Place) -> npt.NDArray[Any]:
        lo, hi = self._box(place)
        cut = self._dataset[tuple(map(slice, lo, hi))]
        chunk = np.zeros(self.chunks, self._dtype)
        chunk[tuple(map(slice, cut.shape))] = cut
        return chunk

    def _box(self, place: Place) -> tuple[list[int], list[int]]:
        lo = [p * c for p, c in zip(place, self.chunks, strict=True)]
        return lo, [min(l + c, n) for l, c, n in zip(lo, self.chunks, self.shape, strict=True)]

    def _native(self, data: bytes | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        return np.frombuffer(data, self._stored).astype(self._dtype, copy=False)

    def _read_index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """Return offset in the file (-1 where nothing was stored), size and filter mask of all chunks."""
        with self._lock:
            if self._index is None:
                chunks = self.chunks
                grid = tuple(-(-n // c) for n, c in zip(self.shape, chunks, strict=True))
                offsets = np.full(grid, -1, np.int64)
                sizes, masks = np.zeros(grid, np.int64), np.zeros(grid, np.uint32)

                def note(info: Any) -> None:
                    place = tuple(o // c for o, c in zip(info.chunk_offset, chunks, strict=True))
                    offsets[place], sizes[place], masks[place] = info.byte_offset, info.size, info.filter_mask

                # At once: HDF5 looks a single chunk up by walking through all of them.
                self._dataset.id.chunk_iter(note)
                self._index = offsets, sizes, masks
            return self._index


def _filters(dataset: Any) -> list[int] | None:
    """Return the numbers of the filters in the order in which they were applied, or None where one is not ours."""
    created = dataset.id.get_create_plist()
    numbers = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
    return numbers if _OURS.issuperset(numbers) else None


def _decoded(
    data: bytes | npt.NDArray[np.uint8], filters: list[int], mask: int, itemsize: int, size: int
) -> bytes | npt.NDArray[np.uint8] | None:
    """Undo `filters`, last one first; None where that fails. A bit of `mask` is set where one was left out."""
    from ._chunk_kernels import fletcher32, lzf, unshuffle

    for position in reversed(range(len(filters))):
        if mask >> position & 1:
            continue
        kind = filters[position]
        if kind == _DEFLATE:
            try:
                data = zlib.decompress(bytes(data), bufsize=size)
            except zlib.error:
                return None
            continue
        stored = np.frombuffer(data, np.uint8)
        if kind == _FLETCHER32:
            data = stored[:-4]
            if stored.size < 4 or fletcher32(data) != int.from_bytes(stored[-4:].tobytes(), "little"):
                return None
        elif kind == _SHUFFLE:
            if itemsize > 1:
                data = np.empty(stored.size, np.uint8)
                unshuffle(stored, itemsize, data)
        else:
            # A checksum below LZF may have added its four bytes.
            room = np.empty(size + 4, np.uint8)
            count = lzf(stored, room)
            if count < 0:
                return None
            data = room[:count]
    return data if len(data) == size else None

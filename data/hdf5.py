"""Datasets of HDF5 files, read chunk by chunk."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

from .sources import Axes, Vec3, checked_box, missing_file, native_dtype, triple

__all__ = ["HDF5Source"]

# Attribute names in use and the factor to nm; CREMI and gunpowder write `resolution`, ilastik and Fiji µm.
_VOXEL_SIZE = {"voxel_size_nm_zyx": 1.0, "resolution": 1.0, "voxel_size": 1.0, "element_size_um": 1000.0}
_OFFSET = {"offset_nm_zyx": 1.0, "offset": 1.0}
_CACHE_LIMIT = 256 * 2**20


@dataclass(frozen=True)
class _Opened:
    """An open dataset and what does not change while it is open."""

    file: Any
    dataset: Any
    process: int
    axes: Axes
    dtype: np.dtype[Any]
    voxel_size: tuple[float, float, float] | None
    offset: tuple[float, float, float] | None


class HDF5Source:
    """A dataset of an HDF5 file, opened at first use and read in its native dtype.

    Only the chunks that a box touches are read, whatever their compression. The cache of decoded chunks holds
    a few neighbourhoods of them. May be read from several threads (they take turns at h5py's global lock: see
    `MemorySource`). Pickles as its address.

    Parameters
    ----------
    path
        The file; ``~`` is the home folder.
    key
        The dataset, e.g. ``volumes/raw``. None: the only one in the file.
    axes
        Order of the stored axes; default ``zyx``, or ``czyx`` for four.
    voxel_size
        (z, y, x) in nm. Default: attribute ``voxel_size_nm_zyx``, ``resolution``, ``voxel_size`` (nm) or
        ``element_size_um`` of the dataset, its groups or the file.
    offset
        Position of voxel 0 (z, y, x) in nm. Default: attribute ``offset`` of the dataset (CREMI), if there.

    Raises
    ------
    DataError
        At first use: file missing, truncated or no HDF5; key absent or a group; wrong number of axes or dtype.
        At `read`: the box leaves the volume, or its chunks can't be decoded.
    """

    def __init__(
        self,
        path: str | Path,
        key: str | None = None,
        *,
        axes: str | None = None,
        voxel_size: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.key = key
        self._axes = axes
        self._voxel_size = triple(voxel_size, "voxel_size", self.name, positive=True)
        self._offset = triple(offset, "offset", self.name)
        self._lock = threading.Lock()
        self._state: _Opened | None = None

    @property
    def name(self) -> str:
        """``file:key``."""
        return f"{self.path}:{self.key}" if self.key else str(self.path)

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) in voxels."""
        return self._open().axes.shape

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a dataset of three axes."""
        return self._open().axes.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dataset's dtype in the byte order of this machine."""
        return self._open().dtype

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm, or None when neither given nor written in the file."""
        return self._voxel_size or self._open().voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm, or None."""
        return self._offset or self._open().offset

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box ``lo <= index < hi`` as (channels, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        state = self._open()
        try:
            cut = state.dataset[state.axes.slices(low, high)]
        except (OSError, RuntimeError, ValueError) as error:
            # A handle of a disk that was away stays broken: the next try opens the file anew.
            self.close()
            raise DataError(
                f"{self.name}: voxels {low} to {high} can't be read; the file is damaged, truncated or gone: {error}"
            ) from error
        return np.asarray(state.axes.order(cut).astype(state.dtype, copy=False))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            state, self._state = self._state, None
        if state is not None and state.process == os.getpid():
            state.file.close()

    def _open(self) -> _Opened:
        state = self._state
        # A handle must not be used across a fork: HDF5's file position and locks are shared with the parent.
        if state is not None and state.process == os.getpid():
            return state
        with self._lock:
            if self._state is not None and self._state.process != os.getpid():
                # First, or HDF5 would find the file open already and give the inherited handle again.
                self._state.file.close()
                self._state = None
            if self._state is None:
                self._state = self._opened()
            return self._state

    def _opened(self) -> _Opened:
        import h5py

        try:
            file = h5py.File(self.path, "r")
        except FileNotFoundError as error:
            raise DataError(missing_file(self.path)) from error
        except IsADirectoryError as error:
            raise DataError(f"{self.path} is a folder, not an HDF5 file.") from error
        except OSError as error:
            if isinstance(error, PermissionError):
                reason = "you may not read it"
            elif "truncated" in str(error):
                reason = "the file is truncated; perhaps its copy was cut short"
            elif not h5py.is_hdf5(self.path):
                reason = "it is no HDF5 file"
            else:
                reason = str(error)
            raise DataError(f"{self.path} can't be opened: {reason}.") from error
        try:
            found = self._find(file)
            # h5py gives the cache's size by file only at opening; per dataset it takes the low-level call.
            key, chunks = found.name, found.chunks
            shape, dtype, attributes = found.shape, found.dtype, _attributes(found)
            del found
            dataset = _with_cache(file, key, chunks, dtype.itemsize)
            return _Opened(
                file,
                dataset,
                os.getpid(),
                Axes(self._axes, shape, self.name),
                native_dtype(dtype, self.name),
                _vector(attributes, _VOXEL_SIZE, positive=True),
                _vector(attributes[:1], _OFFSET),
            )
        except BaseException:
            file.close()
            raise

    def _find(self, file: Any) -> Any:
        import h5py

        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
        listing = ", ".join(names) or "no dataset at all"
        if self.key is None:
            if len(names) != 1:
                raise DataError(f"{self.path}: which dataset? It holds {listing}; write '{self.path}:KEY'.")
            return file[names[0]]
        if self.key.strip("/") == "" or self.key not in file:
            hint = did_you_mean(self.key, names)
            raise DataError(f"{self.path} has no dataset {self.key!r}; it holds {listing}.{hint}")
        item = file[self.key]
        if not isinstance(item, h5py.Dataset):
            inside = [n for n in names if n.startswith(self.key.strip("/") + "/")]
            raise DataError(
                f"{self.path}: {self.key!r} is a group, not a dataset; it holds {', '.join(inside) or 'no dataset'}."
            )
        return item

    def __reduce__(self) -> tuple[Any, ...]:
        return _hdf5_source, (str(self.path), self.key, self._axes, self._voxel_size, self._offset)

    def __repr__(self) -> str:
        return f"HDF5Source({str(self.path)!r}, {self.key!r})"


def _hdf5_source(path: str, key: str | None, axes: str | None, voxel_size: Any, offset: Any) -> HDF5Source:
    return HDF5Source(path, key, axes=axes, voxel_size=voxel_size, offset=offset)


def _with_cache(file: Any, key: str, chunks: tuple[int, ...] | None, itemsize: int) -> Any:
    """Open a dataset with a chunk cache for two neighbourhoods of 3×3×3 chunks, within bounds."""
    import h5py

    if chunks is None:
        return file[key]
    chunk_bytes = int(np.prod(chunks, dtype=np.int64)) * itemsize
    # A chunk that is larger than its cache would be decoded anew for each read.
    cache = max(min(54 * chunk_bytes, _CACHE_LIMIT), chunk_bytes)
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    # 100 slots a chunk keep hash collisions (each evicts a chunk) rare; w0=0: plain LRU, chunks are re-read.
    access.set_chunk_cache(100 * max(1, cache // chunk_bytes) + 1, cache, 0.0)
    return h5py.Dataset(h5py.h5d.open(file.id, key.encode(), access))


def _attributes(item: Any) -> list[dict[str, Any]]:
    """Return the attributes of a dataset and of the groups that it lies in, innermost first."""
    found = [dict(item.attrs)]
    while item.name != "/":
        item = item.parent
        found.append(dict(item.attrs))
    return found


def _vector(
    attributes: list[dict[str, Any]], names: dict[str, float], *, positive: bool = False
) -> tuple[float, float, float] | None:
    for level in attributes:
        for name, factor in names.items():
            if name not in level:
                continue
            try:
                numbers = np.asarray(level[name], dtype=np.float64).ravel() * factor
            except (TypeError, ValueError):
                continue
            if numbers.size == 3 and np.isfinite(numbers).all() and not (positive and (numbers <= 0).any()):
                return float(numbers[0]), float(numbers[1]), float(numbers[2])
    return None

"""What sources of files have in common: opened at first use, anew after a fork or a failure, read through a cache."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError

from .chunks import CACHE_BYTES, CacheStats, ChunkedArray
from .sources import Axes, Vec3, checked_box, triple

__all__ = ["FileSource", "Opened"]


@dataclass(frozen=True)
class Opened:
    """An open file and what does not change while it is open.

    Attributes
    ----------
    array, axes
        The stored array, and the order of its axes.
    voxel_size, offset
        As far as the file tells them.
    check
        Raises DataError when the file was changed since.
    file
        To be closed; None where there is nothing to close.
    """

    array: ChunkedArray
    axes: Axes
    voxel_size: tuple[float, float, float] | None
    offset: tuple[float, float, float] | None
    check: Callable[[], None]
    file: Any = None
    process: int = field(default_factory=os.getpid)

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()


class FileSource(ABC):
    """A volume in a file. Subclasses say how to open it.

    Parameters
    ----------
    path, key
        The file, and which of its arrays.
    axes, voxel_size, offset
        What the file does not say, or not right.
    cache_bytes
        What may be kept of decoded chunks; one chunk is always kept.
    """

    def __init__(
        self,
        path: str | Path,
        key: str | None,
        *,
        axes: str | None,
        voxel_size: Sequence[float] | None,
        offset: Sequence[float] | None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = Path(path).expanduser()
        self.key = key
        self._axes = axes
        self._voxel_size = triple(voxel_size, "voxel_size", self.name, positive=True)
        self._offset = triple(offset, "offset", self.name)
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._state: Opened | None = None
        self._first: tuple[Any, ...] | None = None

    @property
    def name(self) -> str:
        """``file:key``, or the file."""
        return f"{self.path}:{self.key}" if self.key else str(self.path)

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) in voxels."""
        return self._open().axes.shape

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no axis of them."""
        return self._open().axes.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """The stored dtype in the byte order of this machine."""
        return self._open().array.dtype

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
            state.check()
            return state.axes.order(state.array[state.axes.slices(low, high)])
        except (OSError, RuntimeError, ValueError) as error:
            # A handle of a disk that was away stays broken: the next try opens the file anew.
            self.close()
            raise DataError(
                f"{self.name}: voxels {low} to {high} can't be read; the file is damaged, truncated or gone: {error}"
            ) from error

    def stats(self) -> CacheStats | None:
        """Return what the cache of chunks did since the file was opened; None while it is not open."""
        state = self._state
        return None if state is None else state.array.cache.stats()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            state, self._state = self._state, None
        if state is not None and state.process == os.getpid():
            state.close()

    @abstractmethod
    def _opened(self) -> Opened:
        """Open the file."""

    def _open(self) -> Opened:
        state = self._state
        # A handle must not be used across a fork: position and locks are shared with the parent.
        if state is not None and state.process == os.getpid():
            return state
        with self._lock:
            if self._state is not None and self._state.process != os.getpid():
                # First, or HDF5 would find the file open already and give the inherited handle again.
                self._state.close()
                self._state = None
            if self._state is None:
                state = self._opened()
                self._refuse_another(state)
                self._state = state
            return self._state

    def _refuse_another(self, state: Opened) -> None:
        """Raise DataError where another volume lies at the address than before: positions would be wrong."""
        now = state.axes.axes, state.array.shape, state.array.dtype
        if self._first is not None and now != self._first:
            state.close()
            raise DataError(
                f"{self.name} was replaced: its shape is {now[1]} of {now[2]} now and was {self._first[1]} of "
                f"{self._first[2]}. Bring the old file back, or start again with the new one."
            )
        self._first = now

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "axes": self._axes,
            "voxel_size": self._voxel_size,
            "offset": self._offset,
            "cache_bytes": self._cache_bytes,
        }
        address = (str(self.path),) if self.key is None else (str(self.path), self.key)
        return _reopened, (type(self), address, options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def _reopened(kind: type[FileSource], address: tuple[str, ...], options: dict[str, Any]) -> FileSource:
    return kind(*address, **options)

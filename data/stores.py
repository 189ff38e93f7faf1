"""Volumes in stores of chunks: Zarr and OME-Zarr, N5, Neuroglancer Precomputed; on disk or behind a URL."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from elektronn_tui.errors import DataError

from .chunks import CACHE_BYTES
from .sources import Axes, Vec3, checked_box, missing_file, native_dtype, triple
from .store_layouts import Folder, Layout, find_layout

__all__ = ["StoreSource", "is_store", "local_path"]

FORMATS = ("zarr", "n5", "precomputed")
_URLS = ("http://", "https://", "gs://", "s3://")
_FAILURES = (ValueError, OSError, RuntimeError, NotImplementedError)
# Seconds until a server that doesn't answer is an error; tensorstore tries again for up to half an hour by default.
_PATIENCE = {"max_retries": 5, "initial_delay": "200ms", "max_delay": "3s"}
# What tensorstore says of data that are wrong; all else may pass: a server that doesn't answer, a disk that is away.
_LASTING = ("FAILED_PRECONDITION", "INVALID_ARGUMENT", "DATA_LOSS", "OUT_OF_RANGE", "UNIMPLEMENTED")


def is_store(address: str) -> bool:
    """Whether an address is one of `StoreSource`: by its scheme, or by a folder named ``.zarr`` or ``.n5``."""
    schemes = (*(f"{name}://" for name in FORMATS), "file://", *_URLS)
    return address.startswith(schemes) or _suffix(address) is not None


def local_path(address: str) -> Path | None:
    """Return the path of a store on disk; None where the address is a URL."""
    _, where = _parts(address)
    return None if where.startswith(_URLS) else Path(where).expanduser()


def _suffix(address: str) -> re.Match[str] | None:
    return re.search(r"\.(zarr|n5)(?=[/:]|$)", address, re.IGNORECASE)


def _parts(address: str) -> tuple[str | None, str]:
    """Split an address into the format, where it names one, and a path or URL."""
    scheme, separator, rest = address.partition("://")
    wanted, where = (scheme, rest) if separator and scheme in FORMATS else (None, address)
    if where.startswith("file://"):
        where = unquote(where.removeprefix("file://"))
    found = _suffix(where)
    # FILE.zarr:KEY, as in HDF5 files, is FILE.zarr/KEY.
    if found is not None and where[found.end() : found.end() + 1] == ":":
        where = f"{where[: found.end()]}/{where[found.end() + 1 :].lstrip('/')}"
    return wanted, where


@dataclass(frozen=True)
class _Opened:
    """An open array, its axes in the order (c, z, y, x), and what does not change while it is open."""

    array: Any
    axes: Axes
    dtype: np.dtype[Any]
    layout: Layout


class StoreSource:
    """An array of a Zarr (v2, v3), OME-Zarr (up to 0.5), N5 or Neuroglancer Precomputed store, opened at first use.

    Reads only the chunks that a box touches, several at once, and keeps decoded ones up to a number of bytes. Chunks
    that were never written hold the fill value. May be read from several threads. Pickles as its address. Needs
    tensorstore (extra ``tensorstore``).

    Parameters
    ----------
    address
        A path or URL (``http``, ``https``, ``gs``, ``s3``, ``file``) of the array, or of a pyramid of resolutions:
        ``x.zarr``, ``x.zarr/labels/ids``, ``x.n5/volumes/raw/s1``, ``https://host/x.zarr``. The format is that of the
        metadata found there; ``zarr://``, ``n5://`` or ``precomputed://`` before the path or URL demands one. A level
        of Precomputed may be named by its key, ``precomputed://path/8_8_40``.
    level
        Which resolution of a pyramid, 0 the finest. Default 0.
    time
        Which time point of an array that has several.
    axes
        Order of the stored axes, letters of ``tczyx``. Default: what the metadata say (OME, names of dimensions);
        else ``zyx`` or ``czyx``; x first (``xyz``, ``xyzc``) in N5 and Precomputed, as their metadata list them.
    voxel_size, offset
        (z, y, x) in nm. Default: what the metadata say; numbers without a unit are taken as nm.
    cache_bytes
        Most bytes of decoded chunks kept.

    Raises
    ------
    DataError
        At first use: tensorstore isn't installed, nothing is there, metadata are missing, damaged or of an unknown
        kind or codec, the level doesn't exist, axes or dtype don't fit. At `read`: the box leaves the volume, a chunk
        is damaged, the store is gone.
    """

    def __init__(
        self,
        address: str | Path,
        *,
        level: int | None = None,
        time: int | None = None,
        axes: str | None = None,
        voxel_size: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.name = str(address)
        self._level, self._time, self._axes = level, time, axes
        self._voxel_size = triple(voxel_size, "voxel_size", self.name, positive=True)
        self._offset = triple(offset, "offset", self.name)
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._state: _Opened | None = None

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) in voxels."""
        return self._open().axes.shape

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._open().axes.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array in the byte order of this machine."""
        return self._open().dtype

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm, or None when neither given nor in the metadata."""
        return self._voxel_size or self._open().layout.voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm, or None."""
        return self._offset or self._open().layout.offset

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box ``lo <= index < hi`` as (channels, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        state = self._open()
        try:
            cut = state.array[state.axes.slices(low, high)].read(order="C").result()
        except _FAILURES as error:
            self.close()
            raise DataError(f"{self.name}: voxels {low} to {high} can't be read: {_reason(error)}") from _cause(error)
        # To tensorstore a chunk that isn't there was never written: a disk that vanished would read as zeros.
        marker = state.layout.marker
        if marker is not None and not os.path.exists(marker):
            self.close()
            gone = FileNotFoundError(marker)
            raise DataError(f"{self.name}: voxels {low} to {high} can't be read: {marker} is gone.") from gone
        return np.asarray(state.axes.order(cut).astype(state.dtype, copy=False))

    def close(self) -> None:
        """Let go of the array and its cache; the next use opens it again."""
        with self._lock:
            self._state = None

    def _open(self) -> _Opened:
        state = self._state
        if state is not None:
            return state
        with self._lock:
            if self._state is None:
                self._state = self._opened()
            return self._state

    def _opened(self) -> _Opened:
        try:
            import tensorstore
        except ImportError as error:
            raise DataError(
                f"{self.name}: Zarr, N5 and Precomputed need the package tensorstore: "
                "pip install 'elektronn-tui[tensorstore]'."
            ) from error
        wanted, where = _parts(self.name)
        path = local_path(self.name)
        if path is not None and not path.is_dir():
            # A level of Precomputed may have no folder: all of its chunks are empty.
            if path.exists():
                raise DataError(f"{path} is a file; a store of chunks is a folder.")
            if not path.parent.joinpath("info").is_file():
                raise DataError(missing_file(path)) from FileNotFoundError(str(path))
        context = tensorstore.Context(
            {"cache_pool": {"total_bytes_limit": self._cache_bytes}, "http_request_retries": _PATIENCE}
        )
        try:
            base = (
                tensorstore.KvStore.Spec({"driver": "file", "path": f"{path.resolve()}/"})
                if path is not None
                else tensorstore.KvStore.Spec(f"{where.rstrip('/')}/")
            )
            layout = find_layout(Folder(base, self.name, context), wanted, self._level)
            array = tensorstore.open(
                {**layout.spec, "recheck_cached_data": "open", "recheck_cached_metadata": "open"},
                read=True,
                context=context,
            ).result()
        except _FAILURES as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self.name} can't be opened: {_reason(error)}") from _cause(error)
        return self._arranged(array, layout)

    def _arranged(self, array: Any, layout: Layout) -> _Opened:
        """Bring the axes of an array into the order (c, z, y, x), each counted from 0, and take one time point."""
        import tensorstore

        array = array[tensorstore.d[:].translate_to[0]] if array.rank else array
        labels = "".join({"channel": "c", "time": "t"}.get(label, label) for label in array.domain.labels)
        axes = self._axes or layout.axes
        if axes is None and len(labels) == array.rank and set(labels) <= set("tczyx"):
            axes = labels
        if axes is None and layout.x_first:
            axes = "xyzct"[: array.rank]
        if axes is not None and "t" in axes and len(axes) == array.rank:
            t = axes.index("t")
            moments = array.shape[t]
            if self._time is None and moments > 1:
                raise DataError(f"{self.name} has {moments} time points; choose one of 0 to {moments - 1} by time=.")
            if not 0 <= (self._time or 0) < moments:
                raise DataError(f"{self.name} has no time point {self._time}; there are 0 to {moments - 1}.")
            array, axes = array[(*(slice(None),) * t, self._time or 0)], axes.replace("t", "", 1)
        elif self._time:
            raise DataError(f"{self.name} has no axis of time, shape {array.shape}; time={self._time} can't be chosen.")
        stored = Axes(axes, array.shape, self.name)
        dtype = native_dtype(array.dtype.numpy_dtype, self.name)
        # Its own read can transpose while it copies.
        ordered = [a for a in "czyx" if a in stored.axes]
        array = array.transpose([stored.axes.index(a) for a in ordered])
        return _Opened(array, Axes("".join(ordered), array.shape, self.name), dtype, layout)

    def __reduce__(self) -> tuple[Any, ...]:
        options = (self._level, self._time, self._axes, self._voxel_size, self._offset, self._cache_bytes)
        return _store_source, (self.name, *options)

    def __repr__(self) -> str:
        return f"StoreSource({self.name!r})"


def _store_source(
    address: str, level: int | None, time: int | None, axes: str | None, voxel_size: Any, offset: Any, cache_bytes: int
) -> StoreSource:
    return StoreSource(
        address, level=level, time=time, axes=axes, voxel_size=voxel_size, offset=offset, cache_bytes=cache_bytes
    )


def _reason(error: BaseException) -> str:
    """Return what tensorstore says, without the specification and source lines that it appends."""
    return re.sub(r"\s*\[(tensorstore_spec|source locations)=.*", "", str(error), flags=re.DOTALL)


def _cause(error: Exception) -> Exception:
    """Return the error as OSError where trying again may help: tensorstore has ValueError for all."""
    status = re.match(r"[A-Z_]+(?=:)", str(error))
    return error if status is None or status[0] in _LASTING else OSError(_reason(error))

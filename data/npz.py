"""Arrays in `.npz` archives."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .chunks import CACHE_BYTES, ChunkCache, ChunkedArray, Place
from .files import FileSource, Opened
from .sources import Axes, file_stamp, missing_file, native_dtype

__all__ = ["NpzSource"]


class NpzSource(FileSource):
    """An array of an ``.npz`` archive. It is read whole, at the first read: an archive has no chunks.

    Parameters
    ----------
    path
        The file; ``~`` is the home folder.
    key
        Name of the array. None: the only one in the file.
    axes, voxel_size, offset
        See `ArraySource`.
    cache_bytes
        The array is kept, however large.

    Raises
    ------
    DataError
        At first use: file missing, no archive, or truncated; key absent; not an array of numbers. At `read`: the box
        leaves the volume, the array can't be decoded, or the file was written to since it was opened.
    """

    def __init__(
        self,
        path: str | Path,
        key: str | None = None,
        *,
        axes: str | None = None,
        voxel_size: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(path, key, axes=axes, voxel_size=voxel_size, offset=offset, cache_bytes=cache_bytes)

    def _opened(self) -> Opened:
        path = self.path
        try:
            stamp = file_stamp(path) if path.exists() else ()
            with zipfile.ZipFile(path) as archive:
                member = self._find([name.removesuffix(".npy") for name in archive.namelist()]) + ".npy"
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    shape, _, stored = _HEADERS[version](file)
        except FileNotFoundError as error:
            raise DataError(missing_file(path)) from error
        except PermissionError as error:
            raise DataError(f"{path} can't be opened: you may not read it.") from error
        except DataError:
            raise
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} can't be read as .npz; it is no such file, or truncated: {error}") from error
        dtype = native_dtype(stored, self.name)
        axes = Axes(self._axes, shape, self.name)

        def load(place: Place) -> npt.NDArray[Any]:
            try:
                with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
            except (EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise DataError(str(error)) from error
            return np.ascontiguousarray(array, dtype)

        def check() -> None:
            if file_stamp(path) != stamp:
                raise DataError(f"{path} was changed after it had been opened")

        array = ChunkedArray(shape, shape, dtype, load, ChunkCache(self._cache_bytes))
        return Opened(array=array, axes=axes, voxel_size=None, offset=None, check=check)

    def _find(self, names: list[str]) -> str:
        listing = ", ".join(names) or "no array at all"
        if self.key is None:
            if len(names) != 1:
                raise DataError(f"{self.path}: which array? It holds {listing}; write '{self.path}:KEY'.")
            return names[0]
        if self.key not in names:
            raise DataError(
                f"{self.path} has no array {self.key!r}; it holds {listing}.{did_you_mean(self.key, names)}"
            )
        return self.key


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

"""Datasets of HDF5 files, read chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

from .chunks import CACHE_BYTES, ChunkCache, PlacedFile
from .files import FileSource, Opened
from .hdf5_chunks import HDF5Chunks
from .sources import Axes, missing_file, native_dtype

__all__ = ["HDF5Source"]

# Attribute names in use and the factor to nm; CREMI and gunpowder write `resolution`, ilastik and Fiji µm.
_VOXEL_SIZE = {"voxel_size_nm_zyx": 1.0, "resolution": 1.0, "voxel_size": 1.0, "element_size_um": 1000.0}
_OFFSET = {"offset_nm_zyx": 1.0, "offset": 1.0}


class HDF5Source(FileSource):
    """A dataset of an HDF5 file, opened at first use and read in its native dtype.

    Only the chunks that a box touches are read, whatever their compression, and decoded ones are kept within a budget
    of bytes. May be read from several threads: gzip, LZF, shuffle and checksums are decoded outside of h5py, whose
    global lock lets only one thread read at a time; other filters wait for it. Pickles as its address.

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
    cache_bytes
        What may be kept of decoded chunks; one chunk is always kept.

    Raises
    ------
    DataError
        At first use: file missing, truncated or no HDF5; key absent or a group; wrong number of axes or dtype.
        At `read`: the box leaves the volume, its chunks can't be decoded, or the file was written to since it was
        opened. The next `read` opens it anew.
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
            dtype = native_dtype(found.dtype, self.name)
            axes = Axes(self._axes, found.shape, self.name)
            attributes = _attributes(found)
            # Not a copy of HDF5's descriptor: that would hold HDF5's lock on the file for longer than HDF5 does.
            placed = PlacedFile(self.path, os.open(self.path, os.O_RDONLY))
            if not placed.is_same(file.id.get_vfd_handle()):
                raise DataError(f"{self.path} was replaced while it was opened.")
            return Opened(
                array=HDF5Chunks(found, placed, dtype).array(ChunkCache(self._cache_bytes)),
                axes=axes,
                voxel_size=_vector(attributes, _VOXEL_SIZE, positive=True),
                offset=_vector(attributes[:1], _OFFSET),
                check=placed.check,
                file=file,
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

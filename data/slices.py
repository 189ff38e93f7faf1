"""Volumes as folders of sections: one TIFF, PNG or JPEG file each."""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .chunks import CACHE_BYTES, ChunkCache, ChunkedArray, Place
from .files import FileSource, Opened
from .sources import Axes, file_stamp, native_dtype
from .tiff import open_tiff

__all__ = ["SlicesSource", "natural_order"]

_TIFF = (".tif", ".tiff")
_SUFFIXES = (*_TIFF, ".png", ".jpg", ".jpeg")
_MODES = {"1", "L", "P", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F"}


class SlicesSource(FileSource):
    """Sections that are a file each, read as they are needed; decoded ones are kept within a budget of bytes.

    Sections go by the natural order of their names (2 before 10). Samples of a pixel (RGB) are channels; of images with
    a palette the indices are taken. All sections need one shape and dtype: the first and the last are looked at when
    the volume is opened, others when they are read. Pickles as its address.

    Parameters
    ----------
    path
        A folder with sections of one kind, or a pattern for the names of files in a folder (``stack/raw_*.png``).
    axes
        Order of the axes of the stack of sections. Default ``zyx``, with channels ``zyxc``.
    voxel_size, offset
        (z, y, x) in nm.
    cache_bytes
        What may be kept of decoded sections; one is always kept.

    Raises
    ------
    DataError
        At first use: no such folder, no section or several kinds of files in it, one that can't be decoded.
        At `read`: the box leaves the volume; a section is gone, damaged, or not of the shape and dtype of the first.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        axes: str | None = None,
        voxel_size: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(path, None, axes=axes, voxel_size=voxel_size, offset=offset, cache_bytes=cache_bytes)

    def _opened(self) -> Opened:
        files = _sections(self.path)
        first = _decoded(files[0])
        if first.ndim not in (2, 3):
            raise DataError(f"{files[0]} has the shape {first.shape}; a section is (y, x), or (y, x, samples).")
        shape = (len(files), *first.shape)
        dtype = native_dtype(first.dtype, self.name)
        axes = Axes(self._axes or ("zyx" if first.ndim == 2 else "zyxc"), shape, self.name)
        kind = first.shape, first.dtype, files[0].name
        stamps: dict[Path, tuple[int, ...]] = {}

        def load(place: Place) -> npt.NDArray[Any]:
            file = files[place[0]]
            stamp = file_stamp(file)
            if stamps.setdefault(file, stamp) != stamp:
                raise DataError(f"{file} was changed after it had been read")
            return np.ascontiguousarray(_like(_decoded(file), kind, file), dtype)

        _like(_decoded(files[-1]), kind, files[-1])
        array = ChunkedArray(shape, (1, *first.shape), dtype, load, ChunkCache(self._cache_bytes))
        return Opened(array=array, axes=axes, voxel_size=None, offset=None, check=lambda: None)


def natural_order(name: str) -> list[Any]:
    """Return a key that sorts names with their numbers by value.

    Examples
    --------
    >>> sorted(["z10.png", "z9.png", "z010.png"], key=natural_order)
    ['z9.png', 'z010.png', 'z10.png']
    """
    parts: list[Any] = re.split(r"(\d+)", name.lower())
    parts[1::2] = map(int, parts[1::2])
    return [*parts, name]


def _sections(path: Path) -> list[Path]:
    """Return the files of a folder, or those that fit the pattern, in natural order."""
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    if not folder.is_dir():
        raise DataError(f"{folder} doesn't exist, or is no folder; it should hold the sections of a volume.")
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except PermissionError as error:
        raise DataError(f"{folder} can't be read: you may not list it.") from error
    fitting = [Path(name) for name in names if fnmatch(name, pattern) and name.lower().endswith(_SUFFIXES)]
    if not fitting:
        raise DataError(f"{path} has no section: {', '.join(_SUFFIXES)} files are read, of {len(names)} there none is.")
    kinds = Counter(".tif" if f.suffix.lower() in _TIFF else f.suffix.lower() for f in fitting)
    if len(kinds) > 1:
        listing = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        raise DataError(f"{path} mixes kinds of files: {listing}. Give a pattern, such as {folder / '*'}{max(kinds)}.")
    return [folder / f.name for f in sorted(fitting, key=lambda f: natural_order(f.name))]


def _decoded(path: Path) -> npt.NDArray[Any]:
    """Return the pixels of an image, (y, x) or (y, x, samples)."""
    if path.suffix.lower() in _TIFF:
        with open_tiff(path) as tiff:
            if len(tiff.pages) != 1:
                raise DataError(
                    f"{path} has {len(tiff.pages)} pages, a section has one; open it as a stack by its name."
                )
            try:
                pixels: npt.NDArray[Any] = tiff.pages[0].asarray()
            except (OSError, RuntimeError, ValueError, struct.error) as error:
                raise DataError(f"{path} can't be decoded: {error}") from error
            return np.moveaxis(pixels, 0, -1) if tiff.pages[0].axes == "SYX" else pixels
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            raw_mode = image.tile[0][3] if image.tile else image.mode
            if image.mode not in _MODES or (isinstance(raw_mode, str) and raw_mode.startswith(("RGB;16", "RGBA;16"))):
                raise DataError(f"{path} holds {raw_mode} pixels; store grey of 8 or 16 bits, RGB of 8, or a TIFF.")
            return np.asarray(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is no image.") from error
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path} can't be decoded: {error}") from error


def _like(pixels: npt.NDArray[Any], kind: tuple[tuple[int, ...], np.dtype[Any], str], path: Path) -> npt.NDArray[Any]:
    shape, dtype, first = kind
    if (pixels.shape, pixels.dtype) != (shape, dtype):
        raise DataError(
            f"{path} is {pixels.shape} of {pixels.dtype}, but {first} is {shape} of {dtype}; all sections of a volume "
            "need one shape and dtype."
        )
    return pixels

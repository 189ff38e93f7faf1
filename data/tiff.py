"""TIFF stacks: multi-page, BigTIFF, OME-TIFF and ImageJ's, read strip by strip or tile by tile."""

from __future__ import annotations

import os
import struct
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .chunks import CACHE_BYTES, ChunkCache, ChunkedArray, Place, PlacedFile, row_blocks
from .files import FileSource, Opened
from .sources import Axes, missing_file, native_dtype

__all__ = ["TiffSource", "open_tiff"]

_LZW = 5
_NM = {
    "nm": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00b5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "m": 1e9,
    "å": 0.1,
    "pm": 1e-3,
}


class TiffSource(FileSource):
    """A stack of images in a TIFF file, opened at first use and read in its native dtype.

    Uncompressed stacks are read row by row, others by strip or tile; decoded ones are kept within a budget of bytes.
    RGB samples are channels. May be read from several threads. Pickles as its address.

    Parameters
    ----------
    path
        The file; ``~`` is the home folder.
    axes
        Order of the stored axes. Default: as OME, ImageJ or tifffile wrote it; pages without a name are sections.
    voxel_size
        (z, y, x) in nm. Default: ``PhysicalSizeX`` to ``Z`` of OME, or resolution and spacing of ImageJ.
    offset
        Position of voxel 0 (z, y, x) in nm.
    cache_bytes
        What may be kept of decoded strips and tiles; one is always kept.

    Raises
    ------
    DataError
        At first use: file missing, truncated or no TIFF; its axes are not of a volume; a compression that needs the
        package imagecodecs. At `read`: the box leaves the volume, its data can't be decoded, or the file was written to
        since it was opened. The next `read` opens it anew.
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
        tiff = open_tiff(self.path)
        try:
            if not tiff.series:
                raise DataError(f"{self.path} holds no image.")
            series = tiff.series[0]
            rank = len(series.keyframe.shape)
            # Axes of length 1 are T, C and the like; of a page, y and x stay.
            kept = [i for i, n in enumerate(series.shape) if n > 1 or i >= len(series.shape) - rank]
            shape = tuple(series.shape[i] for i in kept)
            axes = self._axes or _axes("".join(series.axes[i] for i in kept), shape, self.name)
            if len(axes) == len(series.shape):
                shape = series.shape
            dtype = native_dtype(series.dtype, self.name)
            known = Axes(axes, shape, self.name)
            placed = PlacedFile(self.path, os.open(self.path, os.O_RDONLY))
            chunks, load = _loader(tiff, series, shape, dtype, placed, self.name)
            return Opened(
                array=ChunkedArray(shape, chunks, dtype, load, ChunkCache(self._cache_bytes)),
                axes=known,
                voxel_size=_voxel_size(tiff),
                offset=None,
                check=placed.check,
                file=tiff,
            )
        except BaseException:
            tiff.close()
            raise


def open_tiff(path: Path) -> Any:
    """Return a `tifffile.TiffFile`; raise DataError where it can't be opened."""
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except FileNotFoundError as error:
        raise DataError(missing_file(path)) from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder, not a TIFF file.") from error
    except PermissionError as error:
        raise DataError(f"{path} can't be opened: you may not read it.") from error
    except (OSError, ValueError, struct.error, IndexError, KeyError) as error:
        raise DataError(f"{path} can't be opened: it is no TIFF file, or truncated: {error}") from error


def _axes(stored: str, shape: tuple[int, ...], name: str) -> str:
    """Return the letters of czyx for what tifffile calls the axes."""
    letters = [{"Y": "y", "X": "x", "S": "c", "C": "c", "Z": "z"}.get(a) for a in stored]
    if "z" not in letters:
        letters = [letter or "z" for letter in letters]
    if None in letters or len(set(letters)) < len(letters):
        raise DataError(
            f"{name} has the axes {stored}, shape {shape}; a volume has z, y, x and channels at most. Say which is "
            "which with axes=, such as axes='zyxc', or store one volume a file."
        )
    return "".join(str(letter) for letter in letters)


def _loader(
    tiff: Any, series: Any, shape: tuple[int, ...], dtype: np.dtype[Any], placed: PlacedFile, name: str
) -> tuple[tuple[int, ...], Callable[[Place], npt.NDArray[Any]]]:
    """Return the shape of chunks, and how to read one by its place."""
    key = series.keyframe
    stored = key.dtype.newbyteorder(tiff.byteorder)
    if series.dataoffset is not None and stored.kind != "b":
        blocks = row_blocks(shape, stored.itemsize)
        if series.dataoffset + int(np.prod(shape)) * stored.itemsize > tiff.filehandle.size:
            raise DataError(f"{name} is truncated; perhaps its copy was cut short.")
        return blocks, _Rows(placed, series.dataoffset, shape, blocks, stored, dtype)
    ours = key.compression == _LZW and key.predictor in (1, 2) and key.bitspersample in (8, 16, 32)
    if not ours:
        _refuse_compression(key.compression, name)
    rank = len(key.shape)
    lead = shape[: len(shape) - rank]
    separate = key.planarconfig == 2 and key.samplesperpixel > 1
    if separate or key.imagedepth > 1 or series.is_multifile or (key.compression == _LZW and not ours):
        return (1,) * len(lead) + key.shape, _Pages(series, lead, key.shape, dtype)
    chunks = (*key.chunks[:2], *key.shape[2:])
    lzw = stored if ours else None
    return (1,) * len(lead) + chunks, _Segments(series, lead, chunks, dtype, placed, lzw)


def _refuse_compression(compression: Any, name: str) -> None:
    import tifffile

    try:
        tifffile.TIFF.DECOMPRESSORS[compression]
    except KeyError as error:
        raise DataError(
            f"{name}: its compression ({getattr(compression, 'name', compression)}) is read with the package "
            "imagecodecs, which is not installed. Install it, or store the stack with deflate, zstd or LZW."
        ) from error


class _Rows:
    """Blocks of rows of a stack that lies in the file as it is."""

    def __init__(self, placed: PlacedFile, start: int, shape: Any, blocks: Any, stored: Any, dtype: Any) -> None:
        self._placed, self._start, self._shape, self._blocks = placed, start, shape, blocks
        self._stored, self._dtype = stored, dtype

    def __call__(self, place: Place) -> npt.NDArray[Any]:
        lo = [p * b for p, b in zip(place, self._blocks, strict=True)]
        count = int(np.prod([min(b, n - l) for l, b, n in zip(lo, self._blocks, self._shape, strict=True)]))
        start = self._start + int(np.ravel_multi_index(lo, self._shape)) * self._stored.itemsize
        data = self._placed.read(start, count * self._stored.itemsize)
        return np.frombuffer(data, self._stored).astype(self._dtype, copy=False)


class _Pages:
    """Whole pages, decoded by tifffile one at a time."""

    def __init__(self, series: Any, lead: tuple[int, ...], shape: tuple[int, ...], dtype: Any) -> None:
        self._series, self._lead, self._shape, self._dtype = series, lead, shape, dtype
        self._lock = threading.Lock()

    def page(self, place: Place) -> Any:
        """Return the page that a chunk lies on; None where it was left out of the file. Call with the lock held."""
        number = int(np.ravel_multi_index(place[: len(self._lead)], self._lead)) if self._lead else 0
        return self._series.pages[number]

    def __call__(self, place: Place) -> npt.NDArray[Any]:
        with self._lock:
            page = self.page(place)
            pixels = np.zeros(self._shape) if page is None else page.asarray()
        return np.ascontiguousarray(pixels, self._dtype)


class _Segments(_Pages):
    """Strips or tiles, decoded in the calling thread. `lzw`: the stored dtype where we undo that compression."""

    def __init__(
        self, series: Any, lead: tuple[int, ...], shape: tuple[int, ...], dtype: Any, placed: PlacedFile, lzw: Any
    ) -> None:
        super().__init__(series, lead, shape, dtype)
        self._placed, self._lzw = placed, lzw
        self._decode = series.keyframe.decode
        self._tables: dict[int, tuple[Sequence[int], Sequence[int]]] = {}

    def __call__(self, place: Place) -> npt.NDArray[Any]:
        key = self._series.keyframe
        row, column = place[len(self._lead) : len(self._lead) + 2]
        index = row * -(-key.shape[1] // self._shape[1]) + column
        with self._lock:
            page = self.page(place)
            if page is None or not page.databytecounts[index]:
                return np.full(self._shape, key.nodata, self._dtype)
            offset, size = page.dataoffsets[index], page.databytecounts[index]
        data = self._placed.read(offset, size)
        rows = min(self._shape[0], key.shape[0] - row * self._shape[0]) if not key.is_tiled else self._shape[0]
        if self._lzw is not None:
            pixels = self._lzw_pixels(data, rows)
        else:
            try:
                pixels = self._decode(data, index)[0]
            except Exception as error:  # each codec has an error of its own
                raise DataError(f"strip or tile {index} at byte {offset}: {error}") from error
        pixels = pixels.reshape(-1, *pixels.shape[-2:]) if pixels.ndim == 4 else pixels
        if pixels.shape[1] != self._shape[1] or pixels.shape[0] < rows:
            raise DataError(f"strip or tile {index} at byte {offset} holds {pixels.shape[:2]} pixels")
        return np.ascontiguousarray(pixels, self._dtype)

    def _lzw_pixels(self, data: bytes, rows: int) -> npt.NDArray[Any]:
        from ._chunk_kernels import lzw

        shape = (rows, *self._shape[1:])
        out = np.empty(int(np.prod(shape)) * self._lzw.itemsize, np.uint8)
        if lzw(np.frombuffer(data, np.uint8), out) != out.size:
            raise DataError("its LZW data are cut short or damaged")
        pixels = out.view(self._lzw).reshape(shape).astype(self._dtype, copy=False)
        if self._series.keyframe.predictor == 2:
            np.cumsum(pixels, axis=1, dtype=self._dtype, out=pixels)
        return pixels.reshape(*shape[:2], -1)


def _voxel_size(tiff: Any) -> tuple[float, float, float] | None:
    """Return the size of a voxel (z, y, x) in nm as OME or ImageJ wrote it."""
    sizes: list[float] = []
    try:
        if tiff.ome_metadata:
            pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
            if pixels is not None:
                sizes = [
                    float(pixels.attrib[f"PhysicalSize{a}"])
                    * _NM[pixels.attrib.get(f"PhysicalSize{a}Unit", "µm").lower()]
                    for a in "ZYX"
                ]
        elif tiff.imagej_metadata:
            found, tags = tiff.imagej_metadata, tiff.pages[0].tags
            unit = _NM[str(found["unit"]).lower()]
            per_unit = [tags[name].value for name in ("YResolution", "XResolution")]
            sizes = [float(found["spacing"]) * unit, *(unit * n[1] / n[0] for n in per_unit)]
    except (KeyError, ValueError, TypeError, ZeroDivisionError, ElementTree.ParseError):
        return None
    if len(sizes) != 3 or not all(np.isfinite(s) and s > 0 for s in sizes):
        return None
    return sizes[0], sizes[1], sizes[2]

"""Cubes of KNOSSOS data sets as files: their names, encodings, and the threads that load several at once."""

from __future__ import annotations

import io
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .chunks import ChunkCache, Place
from .sources import Vec3

__all__ = ["ParallelCache", "cube_path", "decode_cube", "encode_cube", "read_raw", "snappy_cube"]


def cube_path(folder: Path, experiment: str, mag: int, place: Sequence[int], encoding: str) -> Path:
    """Return the file of the cube at `place` (z, y, x) in the grid of cubes."""
    z, y, x = place
    name = f"{experiment}_mag{mag}_x{x:04d}_y{y:04d}_z{z:04d}.{encoding}"
    return folder / f"x{x:04d}" / f"y{y:04d}" / f"z{z:04d}" / name


def read_raw(path: Path, shape: Vec3, dtype: np.dtype[Any], first: int, count: int) -> npt.NDArray[Any]:
    """Return `count` z sections from `first` on of a headless cube of `shape` (z, y, x).

    Raises
    ------
    FileNotFoundError
        There is no such cube.
    DataError
        The file is of another size.
    """
    section = shape[1] * shape[2] * dtype.itemsize
    out = np.empty((count, shape[1], shape[2]), dtype)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size != shape[0] * section:
            raise DataError(
                f"{path} has {size} bytes; a raw cube of {shape} voxels (z, y, x) of {dtype} has "
                f"{shape[0] * section}. Is it truncated, or are cube shape or dtype of the conf wrong?"
            )
        view, offset = out.data.cast("B"), first * section
        while view:
            done = os.preadv(descriptor, [view], offset)
            if not done:
                raise DataError(f"{path} was cut short while it was read.")
            view, offset = view[done:], offset + done
    finally:
        os.close(descriptor)
    return out


def decode_cube(path: Path, encoding: str, shape: Vec3, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return a cube (z, y, x) of a file of ``png``, ``jpg`` or ``seg.sz.zip``.

    Raises
    ------
    FileNotFoundError
        There is no such cube.
    DataError
        The file is damaged, or holds another number or type of voxels.
    """
    stored = path.read_bytes()
    if encoding != "seg.sz.zip":
        return _decode_image(path, stored, shape, dtype)
    try:
        with zipfile.ZipFile(io.BytesIO(stored)) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise DataError(f"{path} holds {len(names)} files; a segmentation cube is a zip of one, '*.seg.sz'.")
            packed = archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{path} is no zip that can be read; it is damaged or truncated: {error}") from error
    return snappy_cube(packed, shape, str(path))


def snappy_cube(packed: bytes, shape: Vec3, name: str) -> npt.NDArray[np.uint64]:
    """Return the segmentation cube (z, y, x) of a snappy block of uint64."""
    flat = np.empty(8 * int(np.prod(shape)), np.uint8)
    snappy = _snappy()
    try:
        size = snappy.decompress_raw_len(packed)
        if size == flat.size:
            # Into an array: a quarter of the time of `decompress_raw`, whose buffer grows.
            snappy.decompress_raw_into(packed, flat)
    except Exception as error:
        if type(error).__module__ != "cramjam":
            raise
        raise DataError(f"{name} can't be unpacked by snappy; it is damaged or truncated: {error}") from error
    if size != flat.size:
        raise DataError(
            f"{name} holds {size} bytes; a segmentation cube of {shape} voxels (z, y, x) has 8 a voxel, {flat.size}."
        )
    return flat.view("<u8").astype(np.uint64, copy=False).reshape(shape)


def encode_cube(cube: npt.NDArray[Any], encoding: str, name: str) -> bytes:
    """Return what a cube's file holds; `name` is that of the file."""
    if encoding == "raw":
        return cube.astype(cube.dtype.newbyteorder("<")).tobytes()
    packed = io.BytesIO()
    if encoding == "seg.sz.zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            block = _snappy().compress_raw(cube.astype("<u8").tobytes())
            archive.writestr(name.removesuffix(".zip"), bytes(block))
        return packed.getvalue()
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(cube).reshape(-1, cube.shape[2]))
    image.save(packed, "JPEG" if encoding == "jpg" else "PNG", **({"quality": 90} if encoding == "jpg" else {}))
    return packed.getvalue()


def _decode_image(path: Path, stored: bytes, shape: Vec3, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(stored)) as image:
            pixels = np.array(image.convert("L") if image.mode in ("RGB", "P") else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read; it is damaged or truncated: {error}") from error
    wide = shape[0] * shape[1], shape[2]
    if pixels.ndim != 2 or pixels.size != wide[0] * wide[1]:
        raise DataError(
            f"{path} is an image of {pixels.shape} pixels; a cube of {shape} voxels (z, y, x) is one of {wide} in grey."
        )
    if pixels.dtype != dtype and not np.can_cast(pixels.dtype, dtype):
        raise DataError(f"{path} holds {pixels.dtype}, the conf says {dtype}.")
    return np.ascontiguousarray(pixels.reshape(shape), dtype)


def _snappy() -> Any:
    try:
        import cramjam
    except ImportError as error:
        raise DataError(
            "Segmentations of KNOSSOS are packed by snappy, which takes the package cramjam: pip install "
            "'elektronn-tui[knossos]'."
        ) from error
    return cramjam.snappy


class ParallelCache(ChunkCache):
    """A cache of chunks whose missing ones are loaded by several threads, the calling one among them.

    Parameters
    ----------
    limit
        Bytes that may be held.
    threads
        How many load side by side, whoever asks.
    """

    def __init__(self, limit: int, threads: int) -> None:
        super().__init__(limit)
        self.threads = threads
        self._helpers: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def get(
        self, places: Sequence[Place], load: Callable[[Place], npt.NDArray[Any]]
    ) -> list[tuple[npt.NDArray[Any], int]]:
        """Return chunks by their places, as `ChunkCache.get` does."""
        missing = [place for place in places if place not in self._held] if self.threads > 1 else []
        if len(missing) < 2:
            return super().get(places, load)
        shares = [missing[i :: self.threads] for i in range(min(self.threads, len(missing)))]
        futures = [self.submit(share, load) for share in shares[1:]]
        found = dict(zip(shares[0], super().get(shares[0], load), strict=True))
        for share, future in zip(shares[1:], futures, strict=True):
            # A helper that has not begun, because all are busy, is not waited for.
            entries = super().get(share, load) if future.cancel() else future.result()
            found |= zip(share, entries, strict=True)
        rest = [place for place in places if place not in found]
        found |= zip(rest, super().get(rest, load), strict=True)
        return [found[place] for place in places]

    def submit(self, places: Sequence[Place], load: Callable[[Place], npt.NDArray[Any]]) -> Future[Any]:
        """Load chunks in another thread."""
        with self._starting:
            if self._helpers is None:
                self._helpers = ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="cubes")
            return self._helpers.submit(super().get, places, load)

    def close(self) -> None:
        """End the threads; loads that have not begun are dropped."""
        with self._starting:
            helpers, self._helpers = self._helpers, None
        if helpers is not None:
            helpers.shutdown(wait=False, cancel_futures=True)

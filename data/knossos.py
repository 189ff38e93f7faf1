"""KNOSSOS data sets: volumes in folders of cubes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .chunks import CACHE_BYTES, CacheStats, ChunkedArray, Place
from .knossos_conf import CONF_SUFFIXES, ENCODINGS, Layer, Level, find_conf, mag_of, read_layers
from .knossos_cubes import ParallelCache, cube_path, decode_cube, read_raw
from .sources import Box, Source, Vec3, checked_box, native_dtype, opened, triple

__all__ = ["KnossosSource", "is_knossos", "knossos_path", "open_knossos", "sliced"]

_SCHEME = "knossos://"
_SLAB_BYTES = 256 * 2**10


@dataclass(frozen=True)
class _Opened:
    layer: Layer
    mag: int
    level: Level
    encoding: str
    dtype: np.dtype[Any]
    array: ChunkedArray
    cache: ParallelCache


class KnossosSource:
    """An image or segmentation of a KNOSSOS data set, opened at first use and read cube by cube in its native dtype.

    Cubes are loaded by several threads, each once though several ask for it, and kept within a budget of bytes. Of raw
    cubes only the z sections around a box are loaded. May be read from several threads; pickles as its address. May be
    sliced as an array: ``source[z0:z1, y0:y1, x]``.

    Parameters
    ----------
    path
        ``knossos.conf``, ``*.k.conf``, ``*.pyk.conf`` or ``*.k.toml``; or the folder that holds one, or that holds a
        folder ``<prefix>mag1`` with one; or a folder of a mag. ``~`` is the home folder.
    mag
        Number in the name of the mag's folder: the factor of reduction with ``knossos.conf`` and ``*.k.conf``, which
        level of the pyramid it is (from 1) with the others. None: that of `path`, else the lowest.
    layer
        Name of a layer where the file knows of several; None: the first.
    encoding
        ``raw``, ``png``, ``jpg``, or ``seg.sz.zip`` for the segmentation (uint64). None: the first of those that the
        file names, or that are usual, of which there is a cube.
    missing
        What a cube without a file is: ``"fill"`` or ``"error"``.
    fill_value
        Of the voxels of such a cube.
    voxel_size, offset
        (z, y, x) in nm; default: what the file says for this mag, and 0.
    cache_bytes
        What may be kept of decoded cubes.
    threads
        How many load cubes side by side. None: 1 for raw cubes, which a local disk gives faster to one (measured), 4
        for the others. Give more for raw cubes on a network drive, where each file is waited for.

    Raises
    ------
    DataError
        At first use: no such file, mag, layer or encoding; unreadable file; cubes that lie on a server. At `read`: the
        box leaves the volume; a cube is damaged or of another size, or is missing where it must not be.

    References
    ----------
    .. [1] https://knossos.app; the formats are those of https://github.com/knossos-project/knossos_utils.
    """

    channels = 1

    def __init__(
        self,
        path: str | Path,
        *,
        mag: int | None = None,
        layer: str | None = None,
        encoding: str | None = None,
        missing: Literal["fill", "error"] = "fill",
        fill_value: float = 0,
        voxel_size: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        cache_bytes: int = CACHE_BYTES,
        threads: int | None = None,
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = ":".join([str(self.path), *([layer] if layer else []), *([f"mag{mag}"] if mag is not None else [])])
        if encoding is not None and encoding not in ENCODINGS:
            raise DataError(f"{self.name}: encoding={encoding!r}; use one of {', '.join(ENCODINGS)}.")
        if missing not in ("fill", "error"):
            raise DataError(f"{self.name}: missing={missing!r}; use 'fill' or 'error'.")
        if threads is not None and threads < 1:
            raise DataError(f"{self.name}: threads={threads}; at least one is needed.")
        self._options: dict[str, Any] = {
            "mag": mag,
            "layer": layer,
            "encoding": encoding,
            "missing": missing,
            "fill_value": fill_value,
            "voxel_size": triple(voxel_size, "voxel_size", self.name, positive=True),
            "offset": triple(offset, "offset", self.name),
            "cache_bytes": cache_bytes,
            "threads": threads,
        }
        self._lock = threading.Lock()
        self._state: _Opened | None = None

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) of this mag."""
        return self._open().level.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native dtype: that of the layer, uint64 for segmentations."""
        return self._open().dtype

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) of this mag in nm."""
        given: tuple[float, float, float] | None = self._options["voxel_size"]
        return given or self._open().level.voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm, where it was given."""
        given: tuple[float, float, float] | None = self._options["offset"]
        return given

    @property
    def mag(self) -> int:
        """Number of the mag that is read."""
        return self._open().mag

    @property
    def mags(self) -> tuple[int, ...]:
        """Numbers of the mags that are there."""
        return tuple(self._open().layer.levels)

    @property
    def cube_shape(self) -> Vec3:
        """Shape (z, y, x) of a cube in voxels."""
        return self._open().layer.cube_shape

    @property
    def encoding(self) -> str:
        """End of the names of the cubes that are read."""
        return self._open().encoding

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box ``lo <= index < hi`` as (1, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        return self._open().array[tuple(slice(l, h) for l, h in zip(low, high, strict=True))][None]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return what ``array[index]`` is of the volume (z, y, x): slices of any step, whole numbers, an ellipsis."""
        return sliced(self, index)

    def prefetch(self, boxes: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        """Begin to load the cubes of boxes (lo, hi) in other threads, as many as the cache can hold, and return.

        A cube that can't be loaded is told of by the `read` that needs it.
        """
        array = self._open().array
        room = array.cache.limit // (int(np.prod(array.chunks)) * array.dtype.itemsize)
        for lo, hi in boxes:
            box = checked_box(self, lo, hi)
            places = list(_places(box, array.chunks))
            if (room := room - len(places)) < 0:
                return
            for place in places:
                self._open().cache.submit([place], self._load)

    def stats(self) -> CacheStats | None:
        """Return what the cache of cubes did since the data set was opened; None while it is not open."""
        return None if self._state is None else self._state.cache.stats()

    def close(self) -> None:
        """Drop the cache and end its threads; the next use opens the data set again."""
        with self._lock:
            state, self._state = self._state, None
        if state is not None:
            state.cache.close()

    def _open(self) -> _Opened:
        state = self._state
        if state is None:
            with self._lock:
                state = self._state = self._state or self._opened()
        return state

    def _opened(self) -> _Opened:
        conf = find_conf(self.path)
        layer = self._find_layer(read_layers(conf), conf)
        mag = self._options["mag"]
        if mag is None:
            mag = mag_of(self.path) or min(layer.levels)
        if mag not in layer.levels:
            there = ", ".join(f"mag{m}" for m in layer.levels)
            raise DataError(f"{conf}: there is no mag {mag}; there are {there}.")
        level = layer.levels[mag]
        encoding = self._find_encoding(layer, level)
        dtype = np.dtype(np.uint64) if encoding == "seg.sz.zip" else native_dtype(layer.dtype, self.name)
        threads = self._options["threads"] or (1 if encoding == "raw" else 4)
        cache = ParallelCache(self._options["cache_bytes"], threads)
        chunks = _slabs(layer.cube_shape, dtype.itemsize) if encoding == "raw" else layer.cube_shape
        array = ChunkedArray(level.shape, chunks, dtype, self._load, cache)
        return _Opened(layer, mag, level, encoding, dtype, array, cache)

    def _find_layer(self, layers: list[Layer], conf: Path) -> Layer:
        wanted = self._options["layer"]
        for layer in layers:
            if wanted is None or layer.name == wanted:
                return layer
        names = [layer.name for layer in layers if layer.name]
        hint = (
            f"it has {', '.join(names)}.{did_you_mean(wanted, names)}" if names else "it names none; leave layer= out."
        )
        raise DataError(f"{conf} has no layer {wanted!r}; {hint}")

    def _find_encoding(self, layer: Layer, level: Level) -> str:
        """Return the encoding to read: a wrong one would make all cubes seem to be missing."""
        wanted = [self._options["encoding"]] if self._options["encoding"] else list(layer.encodings)
        try:
            for encoding in wanted:
                if _has_cube(level.folder, "." + encoding):
                    return str(encoding)
            others = [e for e in ENCODINGS if _has_cube(level.folder, "." + e)]
        except OSError as error:
            raise DataError(f"{level.folder} can't be looked into: {error.strerror or error}.") from error
        raise DataError(
            f"{level.folder} holds no cube '*.{' or *.'.join(wanted)}'; it holds {', '.join(others) or 'no cubes'} "
            f"(layer {layer.name or layer.experiment!r} of {layer.conf})."
        )

    def _load(self, place: Place) -> npt.NDArray[Any]:
        state = self._open()
        chunks = state.array.chunks
        cubes = state.layer.cube_shape
        slabs = cubes[0] // chunks[0]
        path = cube_path(
            state.level.folder, state.layer.experiment, state.mag, (place[0] // slabs, *place[1:]), state.encoding
        )
        try:
            if state.encoding == "raw":
                stored = state.layer.dtype.newbyteorder("<")
                cut = read_raw(path, cubes, stored, place[0] % slabs * chunks[0], chunks[0])
                return cut.astype(state.dtype, copy=False)
            return decode_cube(path, state.encoding, cubes, state.dtype)
        except FileNotFoundError as error:
            if not state.level.folder.is_dir():
                raise DataError(f"{state.level.folder} is gone; is the disk away?") from error
            if self._options["missing"] == "error":
                raise DataError(f"{path} doesn't exist; with missing='fill' such cubes are {self._fill!r}.") from error
        except OSError as error:
            raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
        return np.full(chunks, self._fill, state.dtype)

    @property
    def _fill(self) -> Any:
        return self._options["fill_value"]

    def __reduce__(self) -> tuple[Any, ...]:
        return _knossos_source, (str(self.path), self._options)

    def __repr__(self) -> str:
        return f"KnossosSource({self.name!r})"


def _knossos_source(path: str, options: dict[str, Any]) -> KnossosSource:
    return KnossosSource(path, **options)


def sliced(source: Source, index: Any) -> np.ndarray:
    """Return what numpy's basic indexing gives of (z, y, x) of a source of one channel; no more than its box is read.

    Parameters
    ----------
    source
        Of one channel.
    index
        A whole number, slice or ellipsis, or a tuple of such.

    Raises
    ------
    IndexError
        A number lies outside, or the index has another form.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if parts.count(Ellipsis) > 1:
        raise IndexError("an index can have a single ellipsis")
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts[at : at + 1] = [slice(None)] * (3 - len(parts) + (Ellipsis in parts))
    if len(parts) != 3:
        raise IndexError(f"{source.name} has three axes (z, y, x); {len(parts)} indices were given")
    lo, hi, shape = [], [], []
    cut: list[slice | int] = []
    for part, n in zip(parts, source.shape, strict=True):
        if isinstance(part, slice):
            chosen = range(n)[part]
            ends = (chosen[0], chosen[-1]) if chosen else (0, 0)
            lo.append(min(ends))
            hi.append(max(ends) + 1)
            cut.append(slice(None, None, chosen.step))
            shape.append(len(chosen))
        else:
            try:
                at = range(n)[part]
            except (IndexError, TypeError) as error:
                raise IndexError(f"index {part!r} doesn't fit an axis of {n} voxels of {source.name}") from error
            lo.append(at)
            hi.append(at + 1)
            cut.append(0)
    if 0 in shape:
        return np.empty(shape, source.dtype)
    return np.asarray(source.read(lo, hi)[0][tuple(cut)])


def names_knossos(address: str) -> bool:
    """Return whether an address is one of `open_knossos` by its scheme or the name of its file."""
    return address.startswith(_SCHEME) or _split(address)[0].endswith((*CONF_SUFFIXES, ".k.zip"))


def is_knossos(address: str) -> bool:
    """Return whether an address is one of `open_knossos`; looks at folders only where nothing else decides."""
    if names_knossos(address):
        return True
    path = _split(address)[0]
    try:
        folder = Path(path).expanduser()
        names = os.listdir(folder) if folder.is_dir() else []
        return any(n.endswith(CONF_SUFFIXES) for n in names) or any(
            re.fullmatch(r".*mag[0-9]+", n) and (folder / n / "knossos.conf").is_file() for n in names
        )
    except OSError:
        return False


def knossos_path(address: str) -> Path:
    """Return the file or folder of an address that `open_knossos` takes."""
    return Path(_split(address)[0]).expanduser()


def open_knossos(address: str, **options: Any) -> Source:
    """Open ``PATH[:LAYER][:magN][:ENCODING]``, with or without ``knossos://``.

    Parameters
    ----------
    address
        `PATH` as in `KnossosSource`, or a ``.k.zip`` annotation.
    **options
        Of `KnossosSource`, or of `KnossosAnnotation`.
    """
    path, parts = _split(address)
    if path.endswith(".k.zip"):
        from .knossos_annotation import KnossosAnnotation

        if parts:
            raise DataError(f"{address}: nothing can follow the file; use {path!r}, and mag= where it isn't mag 1.")
        return opened(KnossosAnnotation, path, **options)
    found: dict[str, Any] = {}
    for part in parts:
        if match := re.fullmatch(r"mag([0-9]+)", part):
            found["mag"] = int(match[1])
        else:
            found["encoding" if part in ENCODINGS else "layer"] = part
    if twice := set(found) & set(options):
        raise DataError(f"{address}: {', '.join(twice)} is given in the address and as an option; leave out one.")
    return opened(KnossosSource, path, **found, **options)


def _split(address: str) -> tuple[str, list[str]]:
    """Return the path and what follows it, behind colons; of paths that exist the longest."""
    parts = address.removeprefix(_SCHEME).split(":")
    for i in range(len(parts), 1, -1):
        if Path(":".join(parts[:i])).expanduser().exists():
            return ":".join(parts[:i]), parts[i:]
    return parts[0], parts[1:]


def _has_cube(folder: Path, end: str) -> bool:
    """Return whether any file in the tree has a name of this end."""
    return any(name.endswith(end) for _, _, names in os.walk(folder, onerror=_raise) for name in names)


def _raise(error: OSError) -> None:
    raise error


def _slabs(cube: Vec3, itemsize: int) -> Vec3:
    """Return the part of a raw cube that is read at once: whole sections, as many as fit evenly into `_SLAB_BYTES`."""
    most = max(1, _SLAB_BYTES // (cube[1] * cube[2] * itemsize))
    return next(n for n in range(min(most, cube[0]), 0, -1) if cube[0] % n == 0), cube[1], cube[2]


def _places(box: Box, chunks: Sequence[int]) -> Iterator[Place]:
    return product(*(range(l // c, -(-h // c)) for l, h, c in zip(*box, chunks, strict=True)))

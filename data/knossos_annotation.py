"""Annotations made in KNOSSOS: the painted segmentation of a ``.k.zip`` as a volume of labels."""

from __future__ import annotations

import re
import threading
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .chunks import CACHE_BYTES, CacheStats, ChunkCache, ChunkedArray, Place
from .knossos import sliced
from .knossos_cubes import snappy_cube
from .sources import Box, Vec3, checked_box, missing_file, triple

__all__ = ["KnossosAnnotation", "read_mergelist"]

_MEMBER = re.compile(r"(?:.*_)?mag([0-9]+)x([0-9]+)y([0-9]+)z([0-9]+)\.(?:seg\.sz|segmentation\.snappy)")


@dataclass(frozen=True)
class _Opened:
    experiment: str
    area: Box | None
    box: Box
    voxel_size: tuple[float, float, float] | None
    members: dict[Place, str]
    objects: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None
    array: ChunkedArray


class KnossosAnnotation:
    """The segmentation of a ``.k.zip`` annotation: ids (uint64) of objects in the box that was annotated.

    The box is the movement area; without one, or if that is the whole data set, the cubes that were painted into. Its
    place within the data set is `offset`, so that a `Pair` finds it by itself. Where there is a ``mergelist.txt``, ids
    of sub-objects become those of their objects, and ids that aren't listed become 0, the background.

    Parameters
    ----------
    path
        The file; ``~`` is the home folder.
    mag
        Of the cubes that are read.
    cube_shape
        (z, y, x) in voxels; what the data set uses.
    overlapping
        Which object a sub-object belongs to that several list: the ``"first"``, the ``"last"``, or ``"error"``.
    voxel_size
        (z, y, x) of this mag in nm; default: what the annotation says.
    cache_bytes
        What may be kept of decoded cubes.

    Attributes
    ----------
    channels
        1.

    Raises
    ------
    DataError
        At first use: no such file, no zip, no segmentation in it, a mergelist that can't be read or overlaps. At
        `read`: a cube is damaged or of another size.
    """

    channels = 1
    dtype = np.dtype(np.uint64)

    def __init__(
        self,
        path: str | Path,
        *,
        mag: int = 1,
        cube_shape: Sequence[int] = (128, 128, 128),
        overlapping: Literal["first", "last", "error"] = "error",
        voxel_size: Sequence[float] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = str(self.path)
        if overlapping not in ("first", "last", "error"):
            raise DataError(f"{self.name}: overlapping={overlapping!r}; use 'first', 'last' or 'error'.")
        z, y, x = (int(n) for n in cube_shape)
        self.cube_shape: Vec3 = (z, y, x)
        self.mag = mag
        self._overlapping = overlapping
        self._voxel_size = triple(voxel_size, "voxel_size", self.name, positive=True)
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._state: _Opened | None = None

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) of the annotated box."""
        lo, hi = self._open().box
        return hi[0] - lo[0], hi[1] - lo[1], hi[2] - lo[2]

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) of this mag in nm, or None when unknown."""
        return self._open().voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Where voxel (0, 0, 0) lies in the data set (z, y, x) in nm, or None without a voxel size."""
        state = self._open()
        if state.voxel_size is None:
            return None
        z, y, x = (n * v for n, v in zip(state.box[0], state.voxel_size, strict=True))
        return z, y, x

    @property
    def box(self) -> Box:
        """The annotated box (lo, hi), each (z, y, x), in voxels of the data set at this mag."""
        return self._open().box

    @property
    def movement_area(self) -> Box | None:
        """The movement area (lo, hi), each (z, y, x), in voxels of mag 1, or None where the annotation has none."""
        return self._open().area

    @property
    def experiment(self) -> str:
        """Name of the data set that was annotated; empty when unknown."""
        return self._open().experiment

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the ids of the box, counted from the corner of the annotated one, as (1, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        state = self._open()
        corner = state.box[0]
        return state.array[tuple(slice(l + c, h + c) for l, h, c in zip(low, high, corner, strict=True))][None]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return what ``array[index]`` is of the volume (z, y, x): slices of any step, whole numbers, an ellipsis."""
        return sliced(self, index)

    def stats(self) -> CacheStats | None:
        """Return what the cache of cubes did since the file was opened; None while it is not open."""
        return None if self._state is None else self._state.array.cache.stats()

    def close(self) -> None:
        """Drop the cache; the next use opens the file again."""
        with self._lock:
            self._state = None

    def _open(self) -> _Opened:
        state = self._state
        if state is None:
            with self._lock:
                state = self._state = self._state or self._opened()
        return state

    def _opened(self) -> _Opened:
        with self._archive() as archive:
            names = archive.namelist()
            xml = self._content(archive, "annotation.xml") if "annotation.xml" in names else b"<things/>"
            mergelist = self._content(archive, "mergelist.txt") if "mergelist.txt" in names else None
        members, mags = {}, set()
        for name in names:
            if match := _MEMBER.fullmatch(name):
                mag, x, y, z = (int(n) for n in match.groups())
                mags.add(mag)
                if mag == self.mag:
                    members[z, y, x] = name
        if not members:
            there = f"; it has one of mag {', '.join(map(str, sorted(mags)))}" if mags else ""
            raise DataError(
                f"{self.path} holds no segmentation of mag {self.mag} ('…_mag{self.mag}x0y0z0.seg.sz'){there}."
            )
        experiment, area, scale = self._parameters(xml)
        grid = np.array(list(members))
        painted = grid.min(0) * self.cube_shape, (grid.max(0) + 1) * self.cube_shape
        box = painted
        if area is not None:
            lo, hi = np.array(area[0]) // self.mag, -(-np.array(area[1]) // self.mag)
            # What was never confined has the whole data set for its area, most of which nobody looked at.
            box = (
                (lo, hi)
                if ((lo > 0) | (hi < painted[1])).any()
                else (np.maximum(lo, painted[0]), np.minimum(hi, painted[1]))
            )
        if (box[1] <= box[0]).any():
            raise DataError(f"{self.path}: its MovementArea {area} (z, y, x) is empty or holds no painted cube.")
        found = None if mergelist is None else read_mergelist(mergelist, str(self.path), self._overlapping)
        array = ChunkedArray(box[1], self.cube_shape, self.dtype, self._load, ChunkCache(self._cache_bytes))
        size = self._voxel_size or (
            None if scale is None else triple([s * self.mag for s in scale], "scale", self.name)
        )
        corners = tuple(tuple(int(n) for n in corner) for corner in box)
        return _Opened(experiment, area, corners, size, members, found, array)  # type: ignore[arg-type]

    def _load(self, place: Place) -> npt.NDArray[Any]:
        state = self._open()
        if place not in state.members:
            return np.zeros(self.cube_shape, self.dtype)
        with self._archive() as archive:
            packed = self._content(archive, state.members[place])
        ids = snappy_cube(packed, self.cube_shape, f"{self.path}:{state.members[place]}")
        return ids if state.objects is None else _mapped(ids, *state.objects)

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except FileNotFoundError as error:
            raise DataError(missing_file(self.path)) from error
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{self.path} is no .k.zip that can be read; it is damaged or truncated: {error}"
            ) from error
        except OSError as error:
            raise DataError(f"{self.path} can't be read: {error.strerror or error}.") from error

    def _content(self, archive: zipfile.ZipFile, name: str) -> bytes:
        try:
            return archive.read(name)
        except (
            KeyError,
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise DataError(f"{self.path}:{name} can't be read; the file is damaged or was changed: {error}") from error

    def _parameters(self, xml: bytes) -> tuple[str, Box | None, tuple[float, float, float] | None]:
        """Return experiment, movement area and voxel size of mag 1."""
        try:
            parameters = ElementTree.fromstring(xml).find("parameters")
        except ElementTree.ParseError as error:
            raise DataError(f"{self.path}:annotation.xml is no XML: {error}") from error
        if parameters is None:
            return "", None, None
        found = {e.tag: e.attrib for e in parameters}
        try:
            scale, area = found.get("scale"), found.get("MovementArea")
            size = (
                None if scale is None else triple([float(scale[a]) for a in "zyx"], "scale", self.name, positive=True)
            )
            if area is None:
                return found.get("experiment", {}).get("name", ""), None, size
            lo = [int(area[f"min.{a}"]) for a in "zyx"]
            sized = "size.x" in area
            end = [int(area[f"{'size' if sized else 'max'}.{a}"]) for a in "zyx"]
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{self.path}:annotation.xml: scale or MovementArea can't be read ({error}); whole numbers min.x, "
                "min.y, min.z and size.x, size.y, size.z (or max.) are needed."
            ) from error
        hi = [l + n for l, n in zip(lo, end, strict=True)] if sized else end
        low, high = (max(0, lo[0]), max(0, lo[1]), max(0, lo[2])), (hi[0], hi[1], hi[2])
        return found.get("experiment", {}).get("name", ""), (low, high), size

    def __reduce__(self) -> tuple[Any, ...]:
        options = {
            "mag": self.mag,
            "cube_shape": self.cube_shape,
            "overlapping": self._overlapping,
            "voxel_size": self._voxel_size,
            "cache_bytes": self._cache_bytes,
        }
        return _annotation, (str(self.path), options)

    def __repr__(self) -> str:
        return f"KnossosAnnotation({self.name!r})"


def _annotation(path: str, options: dict[str, Any]) -> KnossosAnnotation:
    return KnossosAnnotation(path, **options)


def read_mergelist(
    content: bytes, name: str, overlapping: Literal["first", "last", "error"] = "error"
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return ids of sub-objects, ascending, and the object of each.

    Parameters
    ----------
    content
        Four lines an object: its id, two flags and the ids of its sub-objects; coordinate (and colour); category;
        comment.
    name
        Of the file, for messages.
    overlapping
        As in `KnossosAnnotation`.

    Raises
    ------
    DataError
        A line has another form, or a sub-object is listed twice with ``"error"``.

    Examples
    --------
    >>> read_mergelist(b"7 0 0 3 4\\n1 2 3\\n\\n\\n", "m")
    (array([3, 4], dtype=uint64), array([7, 7], dtype=uint64))
    """
    found: dict[int, int] = {}
    lines = content.decode("utf-8", "replace").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    for i in range(0, len(lines), 4):
        try:
            thing, _, _, *parts = (int(part) for part in lines[i].split())
            ids = np.array([thing, *parts], np.uint64)
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"{name}: line {i + 1} of its mergelist is {lines[i]!r}; an object's id, two flags and the ids of its "
                "sub-objects are needed there, and four lines an object."
            ) from error
        for part in ids[1:].tolist():
            before = found.get(part, thing)
            if before != thing and overlapping == "error":
                raise DataError(
                    f"{name}: sub-object {part} belongs to the objects {before} and {thing}, and a voxel has one "
                    "label. Give overlapping='first' or 'last', or separate them in KNOSSOS."
                )
            found[part] = before if overlapping == "first" else thing
    parts = sorted(found)
    return np.array(parts, np.uint64), np.array([found[p] for p in parts], np.uint64)


def _mapped(
    ids: npt.NDArray[np.uint64], parts: npt.NDArray[np.uint64], objects: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """Return the object of each id, 0 where it isn't listed; id 0 is background, listed or not."""
    present, inverse = np.unique(ids, return_inverse=True)
    new = np.zeros_like(present)
    if parts.size:
        at = np.minimum(np.searchsorted(parts, present), parts.size - 1)
        new[:] = np.where((parts[at] == present) & (present != 0), objects[at], 0)
    return new[inverse].reshape(ids.shape)

"""Volumes to read boxes from: one small protocol, arrays, crops, and the door to files."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

__all__ = [
    "ArraySource",
    "Box",
    "CroppedSource",
    "Source",
    "SourceLike",
    "Vec3",
    "as_source",
    "open_source",
]

Vec3: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[Vec3, Vec3]

_HDF5 = (".h5", ".hdf5", ".hdf")
_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_SUFFIXES = (*_HDF5, *_TIFF, ".npy", ".npz")


@runtime_checkable
class Source(Protocol):
    """A volume that is read box by box, in its native dtype.

    Any object with these members will do. `read` may be called from several threads at once, and a source
    pickles as its address, not as its voxels (arrays in memory excepted).
    """

    @property
    def name(self) -> str:
        """What error messages call it: ``file:key``, a path, or ``array``."""

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x) in voxels."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that `read` returns, in the byte order of this machine."""

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm, or None when unknown."""

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Where voxel (0, 0, 0) lies (z, y, x) in nm, or None when unknown."""

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box ``lo <= index < hi`` as (channels, z, y, x)."""

    def close(self) -> None:
        """Let go of files. A later `read` opens them again."""


SourceLike: TypeAlias = "Source | str | Path | np.ndarray"


class Axes:
    """The order of the axes of a stored array, and how a box of (c, z, y, x) is cut from it.

    Parameters
    ----------
    axes
        Letters of ``czyx`` in the order of the stored axes; y and x are needed. None: ``zyx`` for three
        axes, ``czyx`` for four.
    shape
        The shape of the stored array.
    name
        Where the array comes from, for messages.
    """

    def __init__(self, axes: str | None, shape: Sequence[int], name: str) -> None:
        if axes is None:
            if len(shape) not in (3, 4):
                raise DataError(
                    f"{name} has {len(shape)} axes, shape {tuple(shape)}; a volume has three (z, y, x) or four "
                    "(channel, z, y, x). For other orders give axes=, for one image axes='yx'."
                )
            axes = "zyx" if len(shape) == 3 else "czyx"
            if len(shape) == 4 and shape[3] <= 4 < shape[0]:
                raise DataError(
                    f"{name}, shape {tuple(shape)}, seems to have its {shape[3]} channels last; they come first "
                    "(channel, z, y, x). Store it in that order, or give axes='zyxc'."
                )
        if set(axes) - set("czyx") or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
            raise DataError(f"axes={axes!r} of {name}: use each of c, z, y, x at most once, y and x always.")
        if len(axes) != len(shape):
            raise DataError(f"axes={axes!r} of {name}: the array has {len(shape)} axes, shape {tuple(shape)}.")
        size = dict(zip(axes, shape, strict=True))
        self.axes = axes
        self.channels: int = int(size.get("c", 1))
        self.shape: Vec3 = (int(size.get("z", 1)), int(size["y"]), int(size["x"]))
        if 0 in shape:
            raise DataError(f"{name} is empty, shape {tuple(shape)}.")

    def slices(self, lo: Vec3, hi: Vec3) -> tuple[slice, ...]:
        """Return the slices of the stored array that hold the box."""
        cut = {"c": slice(None)} | {a: slice(l, h) for a, l, h in zip("zyx", lo, hi, strict=True)}
        return tuple(cut[a] for a in self.axes)

    def order(self, cut: np.ndarray) -> np.ndarray:
        """Bring what `slices` has cut into the order (c, z, y, x)."""
        present = [a for a in "czyx" if a in self.axes]
        cut = cut.transpose([self.axes.index(a) for a in present])
        return cut[tuple(slice(None) if a in present else None for a in "czyx")]


def native_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the dtype that a source of stored `dtype` delivers: numbers in machine byte order, bool as uint8."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf":
        raise DataError(f"{name} holds {dtype}; a volume holds integers or floats.")
    return dtype.newbyteorder("=")


def checked_box(source: Source, lo: Sequence[int], hi: Sequence[int]) -> Box:
    """Return the box as plain integers; raise DataError where it is empty or leaves the volume."""
    low = (int(lo[0]), int(lo[1]), int(lo[2]))
    high = (int(hi[0]), int(hi[1]), int(hi[2]))
    if any(l < 0 or h > n or l >= h for l, h, n in zip(low, high, source.shape, strict=True)):
        raise DataError(f"box {low} to {high} is empty or leaves {source.name}, shape {source.shape} (z, y, x).")
    return low, high


class ArraySource:
    """A numpy array, or an ``.npy`` file that is mapped into memory.

    Parameters
    ----------
    array
        (z, y, x) or (channel, z, y, x), integers or floats; or the path of an ``.npy`` file with such an array.
    axes
        Order of the stored axes where it differs, e.g. ``"xyz"`` or ``"zyxc"``.
    voxel_size
        (z, y, x) in nm.
    offset
        Position of voxel 0 (z, y, x) in nm.
    name
        What messages call it; default the path, or ``array``.

    Raises
    ------
    DataError
        The file is missing or no ``.npy``, the dtype is not numeric, or the axes don't fit.

    Examples
    --------
    >>> source = ArraySource(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    >>> source.read((0, 0, 0), (1, 1, 3))
    array([[[[0, 1, 2]]]], dtype=uint8)
    """

    def __init__(
        self,
        array: np.ndarray | str | Path,
        *,
        axes: str | None = None,
        voxel_size: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
        name: str | None = None,
    ) -> None:
        self._path: Path | None = None
        if isinstance(array, (str, Path)):
            self._path = Path(array).expanduser()
            array = _map_npy(self._path)
            self._stamp = file_stamp(self._path)
        self.name = name or (str(self._path) if self._path else "array")
        self._array: np.ndarray = array
        self._axes = Axes(axes, array.shape, self.name)
        self.shape = self._axes.shape
        self.channels = self._axes.channels
        self.dtype = native_dtype(array.dtype, self.name)
        self.voxel_size = triple(voxel_size, "voxel_size", self.name, positive=True)
        self.offset = triple(offset, "offset", self.name)

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box as (channels, z, y, x): a view where dtype and order allow one."""
        low, high = checked_box(self, lo, hi)
        if self._path is not None:
            self._check_file(self._path)
        cut = self._axes.order(self._array[self._axes.slices(low, high)])
        return np.asarray(cut.astype(self.dtype, copy=False))

    def close(self) -> None:
        """Do nothing: memory is let go of with the last reference."""

    def _check_file(self, path: Path) -> None:
        """Raise DataError when the file was written to, and map it anew: reading behind its end would be fatal."""
        if (stamp := file_stamp(path)) == self._stamp:
            return
        array = _map_npy(path)
        if (array.shape, array.dtype) != (self._array.shape, self._array.dtype):
            raise DataError(
                f"{path} was replaced: its shape is {array.shape} of {array.dtype} now and was {self._array.shape} of "
                f"{self._array.dtype}. Bring the old file back, or start again with the new one."
            )
        self._array, self._stamp = array, stamp
        raise DataError(f"{path} was changed after it had been opened.")

    def __reduce__(self) -> tuple[Any, ...]:
        address = str(self._path) if self._path else self._array
        return _array_source, (address, self._axes.axes, self.voxel_size, self.offset, self.name)

    def __repr__(self) -> str:
        return f"ArraySource({self.name!r}, {self.channels}×{self.shape}, {self.dtype})"


def _array_source(array: Any, axes: str, voxel_size: Any, offset: Any, name: str) -> ArraySource:
    return ArraySource(array, axes=axes, voxel_size=voxel_size, offset=offset, name=name)


def file_stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to; raise DataError where there is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} is gone: {error.strerror}.") from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _map_npy(path: Path) -> np.ndarray:
    try:
        # Copy-on-write: to numba a read-only array is another type, for which it would compile all kernels again.
        return np.lib.format.open_memmap(path, mode="c")
    except FileNotFoundError as error:
        raise DataError(missing_file(path)) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as .npy: {error}") from error


def triple(
    values: Sequence[float] | None, what: str, name: str, *, positive: bool = False
) -> tuple[float, float, float] | None:
    """Return (z, y, x) floats; raise DataError where they are no three finite (positive) numbers."""
    if values is None:
        return None
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if numbers.size != 3 or not np.isfinite(numbers).all() or (positive and (numbers <= 0).any()):
        raise DataError(f"{what}={values!r} of {name}: three {'positive ' * positive}numbers (z, y, x) are needed.")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


class CroppedSource:
    """A box of another source, as a volume of its own.

    Parameters
    ----------
    source
        The whole volume.
    lo, hi
        The box ``lo <= index < hi`` (z, y, x) in voxels of `source`.
    """

    def __init__(self, source: Source, lo: Sequence[int], hi: Sequence[int]) -> None:
        self.source = source
        self.lo, self.hi = checked_box(source, lo, hi)
        self.shape: Vec3 = (self.hi[0] - self.lo[0], self.hi[1] - self.lo[1], self.hi[2] - self.lo[2])
        self.channels = source.channels
        self.dtype = source.dtype
        self.voxel_size = source.voxel_size
        self.name = source.name

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Where voxel (0, 0, 0) of the crop lies (z, y, x) in nm; unknown without a voxel size."""
        if self.voxel_size is None:
            return None
        z, y, x = (
            o + l * v for o, l, v in zip(self.source.offset or (0.0,) * 3, self.lo, self.voxel_size, strict=True)
        )
        return z, y, x

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the voxels of the box, counted from the corner of the crop."""
        low, high = checked_box(self, lo, hi)
        return self.source.read(
            [a + b for a, b in zip(low, self.lo, strict=True)], [a + b for a, b in zip(high, self.lo, strict=True)]
        )

    def close(self) -> None:
        """Close the source behind it."""
        self.source.close()

    def __repr__(self) -> str:
        return f"CroppedSource({self.source!r}, {self.lo}, {self.hi})"


def missing_file(path: Path) -> str:
    """Say that a file does not exist, and which neighbour is meant."""
    if not path.parent.is_dir():
        return f"{path} doesn't exist; nor does its folder {path.parent}."
    return f"{path} doesn't exist.{did_you_mean(path.name, (p.name for p in path.parent.iterdir()))}"


def split_address(address: str | Path) -> tuple[str, str]:
    """Return file and key of ``FILE:KEY``; the key is empty where there is none.

    A colon counts only behind the suffix of a file that may have keys, and the first one does: a key may hold more.
    """
    text = str(address)
    if Path(text).suffix.lower() not in _SUFFIXES:
        for i, character in enumerate(text):
            if character == ":" and Path(text[:i]).suffix.lower() in _SUFFIXES:
                return text[:i], text[i + 1 :]
    return text, ""


def names_file(address: str) -> bool:
    """Tell whether an address is that of a file that may hold volumes, by its suffix."""
    return Path(split_address(address)[0]).suffix.lower() in _SUFFIXES


def sections_folder(address: str | Path) -> Path | None:
    """Return the folder of an address that is one, or a pattern for the names of files in one; None for others."""
    path, key = split_address(address)
    found = Path(path).expanduser()
    if key or found.suffix.lower() in _HDF5:
        return None
    if found.is_dir():
        return found
    return found.parent if any(c in found.name for c in "*?[") and not found.exists() else None


def open_source(address: str | Path, **options: Any) -> Source:
    """Open a volume by its address.

    Parameters
    ----------
    address
        One of these; ``~`` is the home folder.

        * ``file.h5:key``: the key may have slashes, and can be left out where the file holds a single dataset;
        * ``file.npy``, or ``file.npz:key``, as above;
        * ``stack.tif``: a TIFF stack, BigTIFF and OME-TIFF included;
        * ``folder`` or ``folder/*.png``: a section a file, TIFF, PNG or JPEG, in natural order of their names;
        * Zarr, N5 and Precomputed: ``x.zarr/labels/ids``, ``x.n5/raw``, ``precomputed://path``,
          ``https://host/x.zarr``; see `StoreSource`;
        * KNOSSOS: a conf file or its folder, with layer and mag behind it where it isn't the first (``folder:mag2``,
          ``set.k.toml:em:mag2``), ``knossos://…``, or an annotation ``x.k.zip``; see `KnossosSource` and
          `KnossosAnnotation`.
    **options
        `axes`, `voxel_size`, `offset`, `cache_bytes` (but for ``.npy``), and what else `StoreSource` takes; of
        `KnossosSource` `mag`, `layer`, `encoding` and its others, but no `axes`. None stands for the default.

    Raises
    ------
    DataError
        The address names no format that is known, or an option is none of its format.
    """
    from .knossos import is_knossos, open_knossos
    from .stores import StoreSource, is_store

    if is_store(str(address)):
        return opened(StoreSource, str(address), **options)
    if is_knossos(str(address)):
        return open_knossos(str(address), **options)
    path, key = split_address(address)
    suffix = Path(path).suffix.lower()
    if sections_folder(address) is not None:
        from .slices import SlicesSource

        return opened(SlicesSource, path, **options)
    if suffix == ".npy" and not key:
        return opened(ArraySource, path, **options)
    if suffix == ".npz":
        from .npz import NpzSource

        return opened(NpzSource, path, key or None, **options)
    if suffix in _TIFF and not key:
        from .tiff import TiffSource

        return opened(TiffSource, path, **options)
    if suffix in _HDF5:
        from .hdf5 import HDF5Source

        return opened(HDF5Source, path, key or None, **options)
    raise DataError(
        f"{str(address)!r} is no address of a volume; use 'file.h5:key', 'file.npy', 'file.npz:key', 'stack.tif', "
        "'x.zarr/key', a KNOSSOS folder, or a folder of sections."
    )


def opened(kind: Callable[..., Source], *where: Any, **options: Any) -> Source:
    """Return a source of this kind, made with the options that are not None; raise DataError for those it hasn't."""
    given = {name: value for name, value in options.items() if value is not None}
    known = list(inspect.signature(kind).parameters)[len(where) :]
    if unknown := [name for name in given if name not in known]:
        raise DataError(f"{where[0]}: {', '.join(unknown)} can't be said of it; options are {', '.join(known)}.")
    return kind(*where, **given)


def as_source(what: SourceLike) -> Source:
    """Return `what` as a source: addresses are opened, arrays wrapped, sources passed on."""
    if isinstance(what, (str, Path)):
        return open_source(what)
    if isinstance(what, np.ndarray):
        return ArraySource(what)
    if not isinstance(what, Source):
        raise DataError(f"{what!r} is no volume; give a source, an array, or an address such as 'file.h5:key'.")
    return what

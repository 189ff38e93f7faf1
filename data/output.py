"""Write volumes block by block, as HDF5 or Zarr that `open_source` finds, in place on the volume they were made of."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .output_zarr import check_tensorstore, write_zarr
from .sources import Vec3, split_address

__all__ = ["check_complete", "check_output", "write_blocks"]

ZARR = ".zarr"
CHUNK = (32, 64, 64)
CACHE_BYTES = 256 * 2**20


def check_output(address: str | Path, *, key: str, force: bool = False) -> tuple[Path, str]:
    """Return path and key of an output ``FILE.h5:KEY`` or ``FOLDER.zarr:KEY``; a Zarr store needs no key.

    Raises
    ------
    DataError
        It is no HDF5 file or Zarr store by its name, its folder is missing, it is there already and `force` isn't said,
        or what writes Zarr isn't installed.
    """
    path, given = _parts(address)
    if path.suffix.lower() == ZARR:
        check_tensorstore(address)
        default = ""
    elif path.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        default = key
    else:
        raise DataError(
            f"{address}: an output is an HDF5 file or a Zarr store, such as {key}.h5, {key}.h5:{key} or {key}.zarr."
        )
    if not path.parent.is_dir():
        raise DataError(f"{path} can't be made: there is no folder {path.parent.absolute()}.")
    if path.exists() and not force:
        raise DataError(f"{path} exists already; give another output, or --force to replace it.")
    return path, given or default


def check_complete(address: str | Path) -> None:
    """Raise `DataError` if the volume of an address isn't there because what makes it is still to be finished."""
    path, _ = _parts(address)
    part = path.with_name(f"{path.name}.part")
    if not path.exists() and part.is_dir():
        raise DataError(
            f"{path} is not complete: {part} is what there is of it; the command that began it goes on with --resume."
        )


def _parts(address: str | Path) -> tuple[Path, str]:
    """Return file or store, and key, of the address of an output."""
    store = re.fullmatch(r"(.+\.zarr)(?:[:/](.*))?", str(address), re.IGNORECASE)
    name, key = (store[1], (store[2] or "").strip("/")) if store else split_address(address)
    return Path(name).expanduser(), key


def write_blocks(
    path: Path,
    key: str,
    shape: tuple[int, int, int, int],
    dtype: npt.DTypeLike,
    blocks: Iterable[tuple[Vec3, npt.NDArray[Any]]],
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    compression: str | None = "gzip",
) -> None:
    """Write an array (channels, z, y, x) as a new HDF5 file or Zarr store, which is there only when it is complete.

    Parameters
    ----------
    path, key
        Where to.
    shape, dtype
        Of the whole.
    blocks
        First voxel (z, y, x) and values (channels, z, y, x) of each.
    voxel_size, offset
        (z, y, x) in nm; kept as attributes ``resolution`` and ``offset``.
    attributes
        More of them.
    compression
        Of HDF5, see h5py; None for none. Zarr is compressed by zstd.

    Raises
    ------
    DataError
        It can't be written.
    """
    # Of one name, so that what a kill has left is written over: who writes here has locked the blocks of it.
    temporary = path.with_name(f".{path.name}.writing")
    place: dict[str, Any] = {
        "voxel_size": voxel_size,
        "offset": offset,
        "attributes": {**(attributes or {}), "complete": True},
    }
    try:
        if path.suffix.lower() == ZARR:
            shutil.rmtree(temporary, ignore_errors=True)
            write_zarr(temporary, key, shape, dtype, blocks, **place)
        else:
            _write_hdf5(temporary, key, shape, dtype, blocks, compression=compression, **place)
        _replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror or error}.") from error
    except ValueError as error:  # which is what tensorstore raises, of a full disk too
        if path.suffix.lower() != ZARR:
            raise
        raise DataError(f"{path} can't be written: {str(error).splitlines()[0][:300]}") from error
    finally:
        _remove(temporary)


def _write_hdf5(
    path: Path,
    key: str,
    shape: tuple[int, int, int, int],
    dtype: npt.DTypeLike,
    blocks: Iterable[tuple[Vec3, npt.NDArray[Any]]],
    *,
    voxel_size: Sequence[float] | None,
    offset: Sequence[float] | None,
    attributes: Mapping[str, Any],
    compression: str | None,
) -> None:
    import h5py

    # Blocks end within chunks, which wait in the cache for their other parts.
    with h5py.File(path, "w", rdcc_nbytes=CACHE_BYTES) as file:
        dataset = file.create_dataset(
            key,
            shape,
            np.dtype(dtype),
            chunks=(1, *(min(c, n) for c, n in zip(CHUNK, shape[1:], strict=True))),
            compression=compression,
            compression_opts=1 if compression == "gzip" else None,
            shuffle=compression is not None,
        )
        for at, block in blocks:
            place = tuple(slice(a, a + n) for a, n in zip(at, block.shape[1:], strict=True))
            dataset[(slice(None), *place)] = block
        for name, numbers in (("resolution", voxel_size), ("offset", offset)):
            if numbers is not None:
                dataset.attrs[name] = list(numbers)
        for name, value in attributes.items():
            dataset.attrs[name] = value
        file.flush()
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def _replace(temporary: Path, path: Path) -> None:
    """Put a file or folder in its place; a folder that is there gives way first."""
    if path.is_dir():
        old = path.with_name(f".{path.name}.old")
        _remove(old)
        os.replace(path, old)
        os.replace(temporary, path)
        shutil.rmtree(old)
    else:
        os.replace(temporary, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

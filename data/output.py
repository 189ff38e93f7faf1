"""Write volumes block by block as HDF5 datasets that `open_source` finds, in place on the volume they were made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .sources import Vec3, split_address

__all__ = ["check_output", "write_blocks"]

CHUNK = (32, 64, 64)
CACHE_BYTES = 256 * 2**20


def check_output(address: str | Path, *, key: str, force: bool = False) -> tuple[Path, str]:
    """Return file and key of an output ``FILE.h5:KEY``.

    Raises
    ------
    DataError
        It is no HDF5 file by its name, its folder is missing, or it is there already and `force` isn't said.
    """
    name, given = split_address(address)
    path = Path(name).expanduser()
    if path.suffix.lower() not in (".h5", ".hdf5", ".hdf"):
        raise DataError(f"{address}: an output is an HDF5 file, such as prediction.h5 or prediction.h5:{key}.")
    if not path.parent.is_dir():
        raise DataError(f"{path} can't be made: there is no folder {path.parent.absolute()}.")
    if path.exists() and not force:
        raise DataError(f"{path} exists already; give another output, or --force to replace it.")
    return path, given or key


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
    """Write a dataset (channels, z, y, x) as a new HDF5 file, which is there only when it is complete.

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
        Of h5py; None for none.

    Raises
    ------
    DataError
        It can't be written.
    """
    import h5py

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    chunks = (1, *(min(c, n) for c, n in zip(CHUNK, shape[1:], strict=True)))
    try:
        # Blocks end within chunks, which wait here for their other parts.
        with h5py.File(temporary, "w", rdcc_nbytes=CACHE_BYTES) as file:
            dataset = file.create_dataset(
                key,
                shape,
                np.dtype(dtype),
                chunks=chunks,
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
            for name, value in (attributes or {}).items():
                dataset.attrs[name] = value
            dataset.attrs["complete"] = True
            file.flush()
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)

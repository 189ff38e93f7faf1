"""Write volumes as OME-Zarr, which browsers of large images read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .sources import Vec3

__all__ = ["check_tensorstore", "write_zarr"]

CHUNK = 64
BATCH_BYTES = 128 * 2**20
LEVEL = "0"
"""Name of the array in its image: the finest of one level."""


def check_tensorstore(name: str | Path) -> None:
    """Raise `DataError` if the package that writes Zarr is missing."""
    try:
        import tensorstore  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"{name}: Zarr needs the package tensorstore: pip install 'elektronn-tui[tensorstore]'."
        ) from error


def write_zarr(
    folder: Path,
    key: str,
    shape: tuple[int, int, int, int],
    dtype: npt.DTypeLike,
    blocks: Iterable[tuple[Vec3, npt.NDArray[Any]]],
    *,
    voxel_size: Sequence[float] | None = None,
    offset: Sequence[float] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write an array (channels, z, y, x) as an image of OME-NGFF 0.4 in a new store of Zarr version 2.

    Parameters
    ----------
    folder
        Of the store; must not exist.
    key
        Group of the image in the store, or nothing for the store itself.
    shape, dtype, blocks, voxel_size, offset, attributes
        As of `elektronn_tui.data.output.write_blocks`.

    Raises
    ------
    OSError, ValueError
        It can't be written.
    """
    import tensorstore

    group = folder
    _put(group, ".zgroup", {"zarr_format": 2})
    for part in filter(None, key.split("/")):
        group /= part
        _put(group, ".zgroup", {"zarr_format": 2})
    _put(group, ".zattrs", {"multiscales": [_image(voxel_size, offset)], **(attributes or {})})
    array = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": f"{group / LEVEL}/"},
            "metadata": {
                "shape": list(shape),
                "chunks": [1, *(min(CHUNK, n) for n in shape[1:])],
                "dtype": np.dtype(dtype).str,
                "compressor": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1},
                "dimension_separator": "/",
                "fill_value": 0,
            },
            "context": {"cache_pool": {"total_bytes_limit": BATCH_BYTES}},
            "recheck_cached_data": False,
        },
        create=True,
    ).result()
    for at, block in blocks:
        place = tuple(slice(a, a + n) for a, n in zip(at, block.shape[1:], strict=True))
        array[(slice(None), *place)].write(np.ascontiguousarray(block)).result()


def _image(voxel_size: Sequence[float] | None, offset: Sequence[float] | None) -> dict[str, Any]:
    """Return what OME-NGFF says of an image of one level; without a voxel size it has no unit."""
    unit = {} if voxel_size is None else {"unit": "nanometer"}
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", **unit} for axis in "zyx")]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, *(float(n) for n in voxel_size or (1, 1, 1))]}]
    if voxel_size is not None and offset is not None:
        steps.append({"type": "translation", "translation": [0.0, *(float(n) for n in offset)]})
    return {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": LEVEL, "coordinateTransformations": steps}],
    }


def _put(folder: Path, name: str, document: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(document, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    """Return numpy's numbers and arrays as JSON has them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)

"""Sample volumes through a matrix: raw values linearly, labels by their nearest voxel, straight into the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from . import _warp_kernels as kernels
from .deformation import Deformation, Displacement
from .warp import corners_of

__all__ = ["Scratch", "sample_labels", "sample_raw", "warm_up"]

_QUADS: dict[np.dtype[Any], type] = {np.dtype(np.uint8): np.uint32, np.dtype(np.uint16): np.uint64}
_MOST_VOXELS = 2**31 - 1


class Scratch:
    """Working memory that `sample_raw` uses again, so that a thread does not fetch new pages for every patch.

    Each thread needs its own.
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def elements(self, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return `count` uninitialised elements, followed by 8 bytes; what was returned before is no longer valid."""
        needed = count * np.dtype(dtype).itemsize
        if needed + 8 > self._bytes.size:
            self._bytes = np.empty(needed + needed // 4 + 8, np.uint8)
        return self._bytes[:needed].view(dtype)


def sample_raw(
    box: npt.NDArray[Any],
    matrix: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
    *,
    scale: Sequence[float] | float = 1.0,
    shift: Sequence[float] | float = 0.0,
    scratch: Scratch | None = None,
    displacement: Displacement | None = None,
) -> None:
    """Interpolate linearly in `box` at the voxels that `matrix` gives for those of `out`.

    Parameters
    ----------
    box
        ``(channels, z, y, x)``, in its native dtype: what was read of the source. uint8 and uint16 are the fast ones.
    matrix
        4x4: voxel of the patch -> voxel of `box`. What it takes out of the box gets the value of the box's rim.
    out
        ``(channels, z, y, x)``, float32, C order: gets ``value * scale + shift``, per channel.
    scale, shift
        One for all channels or one each.
    scratch
        Memory to use again, the calling thread's own.
    displacement
        Where voxels of `out` are moved before `matrix` takes them to `box`; ``None``: they stay.

    Raises
    ------
    DataError
        If shapes or dtypes don't fit.
    """
    box = _native(box)
    _check(box, matrix, out)
    if out.dtype != np.float32:
        raise DataError(f"raw patches are float32, not {out.dtype}")
    factors = np.broadcast_to(np.asarray(scale, np.float32), len(box))
    terms = np.broadcast_to(np.asarray(shift, np.float32), len(box))
    scratch = scratch or Scratch()
    word = _QUADS.get(box.dtype)
    if word is None and box.dtype != np.float32:
        box = box.astype(np.float32)
    shape = box.shape[1:]
    spans, inside = _spans(matrix, shape, out.shape[1:], displacement)
    tables = None if displacement is None else displacement.tables(matrix, out.shape[1:])
    packed = scratch.elements(box[0].size, word or np.float32)
    for channel, patch, factor, term in zip(box, out, factors, terms, strict=True):
        source, strides = _flat(channel)
        if word is not None:
            kernels.pack_quads(source, strides, shape, spans, packed)
            kernels.sample_quads(packed, shape, matrix, factor, term, patch.reshape(-1), patch.shape, inside, tables)
        else:
            kernels.copy_spans(source, strides, shape, spans, packed)
            kernels.sample_linear(packed, shape, matrix, factor, term, patch.reshape(-1), patch.shape, tables)


def sample_labels(
    box: npt.NDArray[Any],
    matrix: npt.NDArray[np.float64],
    out: npt.NDArray[Any],
    *,
    scratch: Scratch | None = None,
    displacement: Displacement | None = None,
) -> None:
    """Copy to each voxel of `out` the voxel of `box` that is nearest to where `matrix` takes it.

    Ids pass through integers alone, so those beyond 2**24 survive.

    Parameters
    ----------
    box
        ``(channels, z, y, x)``, any integer or float dtype.
    matrix
        4x4: voxel of `out` -> voxel of `box`; see `elektronn_tui.data.warp.target_matrix`.
    out
        ``(channels, z, y, x)``, C order, of a dtype that holds the ids.
    scratch
        Memory to use again, the calling thread's own.
    displacement
        As in `sample_raw`.

    Raises
    ------
    DataError
        If shapes don't fit.
    """
    box = _native(box)
    _check(box, matrix, out)
    if box.dtype == np.bool_:
        box = box.view(np.uint8)
    elif box.dtype.kind not in "iuf":
        raise DataError(f"labels are integers, booleans or floats, not {box.dtype}")
    scratch = scratch or Scratch()
    shape = box.shape[1:]
    spans, _ = _spans(matrix, shape, out.shape[1:], displacement)
    tables = None if displacement is None else displacement.tables(matrix, out.shape[1:])
    packed = scratch.elements(box[0].size, box.dtype)
    for channel, patch in zip(box, out, strict=True):
        kernels.copy_spans(*_flat(channel), shape, spans, packed)
        kernels.sample_nearest(packed, shape, matrix, patch.reshape(-1), patch.shape, tables)


def warm_up(
    raw_dtypes: Iterable[npt.DTypeLike] = (np.uint8,),
    label_dtypes: Iterable[tuple[npt.DTypeLike, npt.DTypeLike]] = ((np.uint8, np.int64),),
) -> None:
    """Compile the kernels for these dtypes, or load them from numba's cache, so that no training step waits for it.

    Parameters
    ----------
    raw_dtypes
        Dtypes of the raw sources.
    label_dtypes
        Pairs: dtype of the source, dtype of the patches.
    """
    matrix = np.eye(4)
    for moved in (None, Deformation(2).of_raw()):
        for dtype in raw_dtypes:
            sample_raw(np.zeros((1, 2, 2, 2), dtype), matrix, np.empty((1, 2, 2, 2), np.float32), displacement=moved)
        for source, patch in label_dtypes:
            sample_labels(np.zeros((1, 2, 2, 2), source), matrix, np.empty((1, 2, 2, 2), patch), displacement=moved)


def _native(box: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return box if box.dtype.isnative else box.astype(box.dtype.newbyteorder("="))


def _flat(channel: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], tuple[int, int]]:
    """Return the memory of a volume as one flat array, and the strides of z and y in elements: no copy if possible."""
    strides = [stride // channel.itemsize for stride in channel.strides]
    reach = sum(stride * (extent - 1) for stride, extent in zip(strides, channel.shape, strict=True))
    usable = channel.strides[2] == channel.itemsize and min(strides) > 0 and reach < _MOST_VOXELS
    # Read-only arrays are another type to numba, and would be compiled for once more.
    if not usable or not channel.flags.writeable or not channel.flags.aligned:
        channel = np.array(channel, order="C", copy=True)
        strides = [channel.shape[1] * channel.shape[2], channel.shape[2], 1]
        reach = channel.size - 1
    flat = np.lib.stride_tricks.as_strided(channel, (reach + 1,), (channel.itemsize,))
    return flat, (strides[0], strides[1])


def _spans(
    matrix: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    patch_shape: tuple[int, ...],
    displacement: Displacement | None,
) -> tuple[npt.NDArray[np.int32], bool]:
    corners = corners_of(patch_shape, displacement) @ matrix.T
    # Points near or behind infinity count as outside of the source: float32 can't tell where they are.
    behind = ~(corners[:, 3:] > 0.05)
    corners = np.where(behind, -1.0, corners[:, :3] / np.where(behind, 1.0, corners[:, 3:]))
    spans = np.empty((shape[1], 2), np.int32)
    inside = kernels.row_spans(corners, shape, spans)
    return spans, inside


def _check(box: npt.NDArray[Any], matrix: npt.NDArray[np.float64], out: npt.NDArray[Any]) -> None:
    if box.ndim != 4 or out.ndim != 4 or len(box) != len(out):
        raise DataError(
            f"source box {box.shape} and patch {out.shape} must both be (channels, z, y, x) with as many channels"
        )
    if box.size == 0 or box[0].size > _MOST_VOXELS or out[0].size > _MOST_VOXELS:
        raise DataError(f"source box {box.shape} or patch {out.shape} is empty or has more than 2**31 - 1 voxels")
    if not out.flags.c_contiguous:
        raise DataError("the patch must be in C order")
    if matrix.shape != (4, 4) or matrix.dtype != np.float64:
        raise DataError(f"a warp's matrix is 4x4 float64, not {matrix.shape} {matrix.dtype}")

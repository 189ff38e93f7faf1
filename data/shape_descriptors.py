"""Targets made of segment ids: local shape descriptors (Sheridan et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .affinity import Unlabelled
from .derived import GridTarget, whole_numbers
from .segmentation import relabel
from .sources import SourceLike, as_source

__all__ = ["ShapeDescriptorSource", "local_shape_descriptors"]

_TRUNCATE = 3.0
"""Standard deviations up to which the neighbourhood reaches."""
_LEAST_VARIANCE = 1e-3
"""Of a coordinate, in squares of the unit of the voxel size: below it correlations are noise."""


def local_shape_descriptors(
    ids: np.ndarray,
    sigma: float | Sequence[float],
    *,
    voxel_size: Sequence[float] = (1, 1, 1),
    dims: Literal[2, 3] = 3,
    background: Unlabelled = "ignore",
) -> npt.NDArray[np.float32]:
    """Return where the rest of its segment lies around each voxel, and how it is spread.

    Of all voxels of its own segment, weighted by a Gaussian around the voxel, the statistics of their coordinates.

    Parameters
    ----------
    ids
        Integer ids (z, y, x), or (1, z, y, x). Negative ones are unknown.
    sigma
        Standard deviation of the Gaussian, in the unit of `voxel_size`, one number or (z, y, x). It ends at 3.
    voxel_size
        (z, y, x), such as in nm.
    dims
        3, or 2: each section for itself.
    background
        What id 0 is: ``"ignore"``, unknown as negative ids are; ``"boundary"``, no object, with descriptors of 0; or
        ``"object"``, an id like any other.

    Returns
    -------
    ndarray of float32, (10, z, y, x), or (6, z, y, x) in 2D
        From 0 to 1; NaN where unknown, which doesn't count in training.

        * 0-2 (0, 1): mean offset along z, y, x (y, x) in `sigma`, halved, plus 0.5;
        * 3-5 (2, 3): variance along each, in `sigma` squared;
        * 6-8 (4): correlation of zy, zx, yx (yx), halved, plus 0.5;
        * 9 (5): size, the share of the weights that is in the segment.

    Raises
    ------
    DataError
        `ids` are no volume of integers, or an argument makes no sense.

    Notes
    -----
    The channels and their scaling are those of https://github.com/funkelab/lsd without downsampling. Moments are sums
    of separable convolutions over the bounding box of each segment.

    References
    ----------
    Sheridan et al., Local shape descriptors for neuron segmentation, Nature Methods 20 (2023).
    """
    size, deviation = _checked(sigma, voxel_size, dims, background)
    if ids.ndim < 3 or any(n != 1 for n in ids.shape[:-3]):
        raise DataError(f"local_shape_descriptors: ids of shape {ids.shape}; one volume (z, y, x) is needed.")
    volume = whole_numbers(ids.reshape(ids.shape[-3:]), "local_shape_descriptors")
    from scipy.ndimage import find_objects

    axes = (1, 2) if dims == 2 else (0, 1, 2)
    channels = _channels(dims)
    out = np.full((channels, *volume.shape), np.nan, np.float32)
    if background == "boundary":
        out[:, volume == 0] = 0
    # Unknown and background have no descriptors: 0 stays out.
    shown = np.maximum(volume + 1 if background == "object" else volume, 0)
    taps = {axis: _taps(size[axis], deviation[axis]) for axis in axes}
    numbers = relabel(shown)
    for number, box in enumerate(find_objects(numbers), 1):
        mask = numbers[box] == number
        moments = _moments(mask, taps)
        descriptors = _descriptors(moments, axes, [_LEAST_VARIANCE / deviation[axis] ** 2 for axis in axes])
        np.copyto(out[(slice(None), *box)], descriptors, where=mask)
    return out


class ShapeDescriptorSource(GridTarget):
    """The local shape descriptors of a volume of ids, computed where they are needed; see `local_shape_descriptors`.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    sigma, dims, background
        As in `local_shape_descriptors`.
    voxel_size
        (z, y, x); None: that of the ids, in nm, or 1.
    in_memory
        Whether the ids are kept in memory, see `elektronn_tui.data.remember`.
    """

    def __init__(
        self,
        ids: SourceLike,
        sigma: float | Sequence[float],
        *,
        voxel_size: Sequence[float] | None = None,
        dims: Literal[2, 3] = 3,
        background: Unlabelled = "ignore",
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        source = as_source(ids)
        self._size, self.sigma = _checked(sigma, voxel_size or source.voxel_size or (1, 1, 1), dims, background)
        margin = [_reach(size, sigma) for size, sigma in zip(self._size, self.sigma, strict=True)]
        if dims == 2:
            margin[0] = 0
        super().__init__(source, "shape descriptors", margin, margin, in_memory)
        self.dims: Literal[2, 3] = dims
        self.background: Unlabelled = background
        self.channels = _channels(dims)
        self.dtype = np.dtype(np.float32)

    def compute(self, ids: np.ndarray) -> np.ndarray:
        """Return the descriptors in a box of ids."""
        return local_shape_descriptors(
            ids, self.sigma, voxel_size=self._size, dims=self.dims, background=self.background
        )

    def __repr__(self) -> str:
        return f"ShapeDescriptorSource({self.ids!r}, {self.sigma}, dims={self.dims}, background={self.background!r})"


def _channels(dims: int) -> int:
    return 6 if dims == 2 else 10


def _reach(size: float, sigma: float) -> int:
    return int(np.ceil(_TRUNCATE * sigma / size - 1e-6))


def _taps(size: float, sigma: float) -> list[npt.NDArray[np.float32]]:
    """Return a Gaussian of sum 1, and that times the first and second power of the offset in sigma."""
    reach = _reach(size, sigma)
    offset = np.arange(-reach, reach + 1) * (size / sigma)
    weight = np.exp(-(offset**2) / 2)
    weight /= weight.sum()
    return [(weight * offset**power).astype(np.float32) for power in range(3)]


def _moments(
    mask: npt.NDArray[np.bool_], taps: dict[int, list[npt.NDArray[np.float32]]]
) -> dict[tuple[int, ...], npt.NDArray[np.float32]]:
    """Return the weighted sums of products of offsets up to the second power, by the powers of each axis."""
    from ._moment_kernels import convolve_axis

    sums: dict[tuple[int, ...], npt.NDArray[np.float32]] = {(): np.ascontiguousarray(mask, np.float32)}
    for axis, kernels in taps.items():
        rows = (-1, mask.shape[axis], int(np.prod(mask.shape[axis + 1 :])))
        wider = {}
        for powers, values in sums.items():
            for power in range(3 - sum(powers)):
                out = np.empty(mask.shape, np.float32)
                convolve_axis(values.reshape(rows), kernels[power], out.reshape(rows))
                wider[(*powers, power)] = out
        sums = wider
    return sums


def _descriptors(
    moments: dict[tuple[int, ...], npt.NDArray[np.float32]], axes: tuple[int, ...], least: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Return the channels from the moments, with coordinates in sigma."""
    n = len(axes)

    def powers(*of: int) -> tuple[int, ...]:
        return tuple(of.count(i) for i in range(n))

    weight = moments[powers()]
    size = np.maximum(weight, np.finfo(np.float32).tiny)
    means = [moments[powers(i)] / size for i in range(n)]
    variances = [np.maximum(moments[powers(i, i)] / size - means[i] ** 2, np.float32(least[i])) for i in range(n)]
    correlations = [
        (moments[powers(i, j)] / size - means[i] * means[j]) / np.sqrt(variances[i] * variances[j])
        for i, j in combinations(range(n), 2)
    ]
    half = np.float32(0.5)
    channels = [m * half + half for m in means] + variances + [c * half + half for c in correlations] + [weight]
    return np.clip(np.stack(channels), 0, 1)


def _checked(
    sigma: float | Sequence[float], voxel_size: Sequence[float], dims: int, background: str
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return voxel size and sigma (z, y, x), or refuse what makes no sense."""
    if dims not in (2, 3):
        raise DataError(f"local_shape_descriptors: dims={dims!r}; 2 or 3.")
    if background not in (choices := get_args(Unlabelled)):
        hint = did_you_mean(str(background), choices)
        raise DataError(f"local_shape_descriptors: background={background!r}; use one of {', '.join(choices)}.{hint}")
    checked = []
    for name, value in (("voxel_size", voxel_size), ("sigma", sigma)):
        given = (value,) * 3 if isinstance(value, (int, float)) else tuple(value)
        if len(given) != 3 or not all(0 < float(v) < np.inf for v in given):
            raise DataError(f"local_shape_descriptors: {name}={value!r}; lengths above 0 for z, y, x are needed.")
        checked.append((float(given[0]), float(given[1]), float(given[2])))
    return checked[0], checked[1]

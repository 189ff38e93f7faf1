"""Random disturbances of raw values: blur, noise, and regions that are blurred, noisy or blank.

All work in place on scaled float32 patches (channels, z, y, x) and leave targets alone. What they do to values is
given in parts of the range from black to white: ``apply(raw, rng, scale=..., shift=..., limits=...)`` gets the stored
values of black and white, and how stored values were scaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _blur_kernels as kernels
from .ranges import (
    Range,
    black_and_span,
    check_choices,
    check_number,
    check_switch,
    drawn,
    drawn_count,
    set_counts,
    set_range,
)

__all__ = ["Blobs", "Blur", "Noise", "smooth", "warm_up"]

PerChannel = Sequence[float] | npt.NDArray[Any] | float

_NOISES = ("gaussian", "uniform", "poisson")
_FILLINGS = ("blur", "noise", "constant")
_MOST_SIGMA = 50.0


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of the whole patch.

    Parameters
    ----------
    sigma
        Range of the standard deviation in voxels along y and x.
    anisotropy
        Size of a voxel of the patch in z over its lateral size: along z sigma is as many times smaller.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    sigma: float | Range = (0.5, 1.5)
    anisotropy: float = 1.0

    def __post_init__(self) -> None:
        set_range(self, "sigma", 0.0, _MOST_SIGMA)
        check_number(self, "anisotropy", 0.01, 100.0)

    def apply(self, raw: npt.NDArray[np.float32], rng: np.random.Generator, **scaled: Any) -> None:
        """Draw one sigma for all channels and blur in place; the rim goes on beyond the patch."""
        sigma = drawn(rng, self.sigma)
        for channel in raw:
            smooth(channel, (sigma / self.anisotropy, sigma, sigma))


@dataclass(frozen=True)
class Noise:
    """Noise, each voxel and channel for itself.

    Parameters
    ----------
    level
        Range of its strength in parts of the range from black to white: the standard deviation of Gaussian noise, the
        whole width of uniform noise, the standard deviation at white of Poisson noise.
    kinds
        What it may be, equally often: ``"gaussian"``, ``"uniform"``, ``"poisson"`` (its variance grows in proportion
        to the distance from black, as that of counted electrons does; drawn as a normal number).
    clip
        Whether values stay within black and white.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    level: float | Range = (0.02, 0.1)
    kinds: str | tuple[str, ...] = _NOISES
    clip: bool = True

    def __post_init__(self) -> None:
        set_range(self, "level", 0.0, 1.0)
        check_choices(self, "kinds", _NOISES)
        check_switch(self, "clip")

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        rng: np.random.Generator,
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Draw one kind and level, and add such noise in place."""
        black, span = black_and_span(len(raw), scale, shift, limits)
        kind = self.kinds[rng.integers(len(self.kinds))]
        strength = np.float32(drawn(rng, self.level)) * span
        if kind == "uniform":
            noise = rng.random(raw.shape, np.float32) - np.float32(0.5)
        else:
            noise = rng.standard_normal(raw.shape, np.float32)
        if kind == "poisson":
            noise *= np.sqrt(np.clip((raw - black) / span, 0, 1))
        noise *= strength
        raw += noise
        if self.clip:
            np.clip(raw, black, black + span, out=raw)


@dataclass(frozen=True)
class Blobs:
    """Boxes whose content is lost: blurred, replaced by noise, or blank. They are the same ones in all channels.

    Parameters
    ----------
    number
        How many, (least, most); they may overlap.
    size
        Range of the edge along y and x in voxels, each box its own; along z it is `anisotropy` times smaller. A box as
        large as the patch or larger is 2 voxels smaller than it, along that axis.
    fillings
        What is done to them, equally often: ``"blur"``, ``"noise"`` (uniform from black to white), ``"constant"``.
    sigma
        Range of the blur in voxels along y and x.
    value
        Range of the constant in parts of the range from black to white.
    anisotropy
        Size of a voxel of the patch in z over its lateral size.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    number: int | tuple[int, int] = (5, 15)
    size: int | tuple[int, int] = (10, 32)
    fillings: str | tuple[str, ...] = _FILLINGS
    sigma: float | Range = (1.0, 6.0)
    value: float | Range = (0.0, 1.0)
    anisotropy: float = 1.0

    def __post_init__(self) -> None:
        set_counts(self, "number", 0, 1000)
        set_counts(self, "size", 1, 10_000)
        check_choices(self, "fillings", _FILLINGS)
        set_range(self, "sigma", 0.0, _MOST_SIGMA)
        set_range(self, "value", 0.0, 1.0)
        check_number(self, "anisotropy", 0.01, 100.0)

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        rng: np.random.Generator,
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Draw boxes that lie in the patch and change them in place, one after the other."""
        black, span = black_and_span(len(raw), scale, shift, limits)
        extent = np.asarray(raw.shape[1:])
        for _ in range(drawn_count(rng, self.number)):
            size = drawn_count(rng, self.size)
            edge = np.maximum(np.rint(size / np.array([self.anisotropy, 1.0, 1.0])).astype(int), 1)
            edge = np.where(edge < extent, edge, np.maximum(extent - 2, 1))
            first = rng.integers(0, extent - edge, endpoint=True)
            where = (slice(None), *(slice(a, a + n) for a, n in zip(first, edge, strict=True)))
            filling = self.fillings[rng.integers(len(self.fillings))]
            if filling == "constant":
                raw[where] = black + np.float32(drawn(rng, self.value)) * span
            elif filling == "noise":
                raw[where] = black + rng.random((len(raw), *edge), np.float32) * span
            else:
                sigma = drawn(rng, self.sigma)
                for channel in raw[where]:
                    box = np.ascontiguousarray(channel)
                    smooth(box, (sigma / self.anisotropy, sigma, sigma))
                    channel[...] = box


def smooth(values: npt.NDArray[np.float32], sigma: Sequence[float]) -> None:
    """Blur a volume (z, y, x), float32 in C order, in place by a Gaussian of `sigma` (z, y, x) in voxels.

    It is cut off at four sigmas; beyond the volume its rim goes on.
    """
    depth, height, width = values.shape
    source, target = values, np.empty_like(values)
    for axis, view in enumerate(((1, depth, height * width), (depth, height, width), (depth * height, width))):
        weights = _gaussian(sigma[axis])
        if len(weights) == 1 or values.shape[axis] == 1:
            continue
        correlate = kernels.correlate_rows if axis == 2 else kernels.correlate_columns
        correlate(source.reshape(view), target.reshape(view), weights)
        source, target = target, source
    if source is not values:
        values[...] = source


def warm_up() -> None:
    """Compile the kernels, or load them from numba's cache, so that no training step waits for it."""
    smooth(np.zeros((2, 2, 2), np.float32), (1.0, 1.0, 1.0))


def _gaussian(sigma: float) -> npt.NDArray[np.float32]:
    radius = math.floor(4 * sigma + 0.5)
    if radius == 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)

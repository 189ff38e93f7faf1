"""Random changes of grey values: contrast, brightness and gamma, for each channel its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from . import _grey_kernels as kernels

__all__ = ["Grey", "GreyChange", "value_range", "warm_up"]

Range = tuple[float, float]
PerChannel = Sequence[float] | npt.NDArray[Any] | float


@dataclass(frozen=True)
class Grey:
    """What a random change of grey values may do.

    On values from 0 to 1 it is ``clip(contrast * value + brightness, 0, 1) ** gamma``; other values are taken to that
    range and back.

    Parameters
    ----------
    contrast
        Range of the factor; one number `r` stands for ``(1 - r, 1 + r)``.
    brightness
        Range of the term, in parts of the values' range; one number `r` stands for ``(-r, r)``.
    gamma
        Range of the exponent, whose logarithm is uniform; one number `r` of at least 1 stands for ``(1 / r, r)``.
    channels
        Which channels are changed; ``None``: all.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    contrast: float | Range = (0.85, 1.15)
    brightness: float | Range = (-0.15, 0.15)
    gamma: float | Range = (0.5, 2.0)
    channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, minimum, maximum in (("contrast", 0.0, 10.0), ("brightness", -1.0, 1.0), ("gamma", 0.05, 20.0)):
            object.__setattr__(self, name, _checked_range(self, name, getattr(self, name), minimum, maximum))
        if self.channels is not None:
            try:
                channels = tuple(int(channel) for channel in self.channels)
            except (TypeError, ValueError):
                channels = (-1,)
            if min(channels, default=0) < 0:
                raise DataError(f"{_title(self)}: channels must be indices from 0 on, not {self.channels!r}")
            object.__setattr__(self, "channels", channels)

    def draw(self, rng: np.random.Generator, channels: int) -> GreyChange:
        """Return one random change for each of `channels`.

        Raises
        ------
        DataError
            If there are fewer channels than `Grey.channels` names.
        """
        uniform = rng.random((3, channels))
        (low, high), (dark, bright), (least, most) = _pair(self.contrast), _pair(self.brightness), _pair(self.gamma)
        contrast = low + (high - low) * uniform[0]
        brightness = dark + (bright - dark) * uniform[1]
        gamma = least * np.exp(math.log(most / least) * uniform[2])
        changed = np.ones(channels, bool)
        if self.channels is not None:
            if max(self.channels, default=-1) >= channels:
                raise DataError(
                    f"{_title(self)}: channels {self.channels} of a volume that has {channels} (0 to {channels - 1})"
                )
            changed[:] = False
            changed[list(self.channels)] = True
        return GreyChange(contrast, brightness, gamma, changed)

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        rng: np.random.Generator,
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Draw a change and apply it in place: see `GreyChange.apply`."""
        self.draw(rng, len(raw)).apply(raw, scale=scale, shift=shift, limits=limits)


@dataclass(frozen=True, eq=False)
class GreyChange:
    """A change that was drawn: contrast, brightness, gamma (float64) and whether it is made at all, per channel."""

    contrast: npt.NDArray[np.float64]
    brightness: npt.NDArray[np.float64]
    gamma: npt.NDArray[np.float64]
    changed: npt.NDArray[np.bool_]

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Change a patch in place, after it was scaled.

        Parameters
        ----------
        raw
            ``(channels, ...)``, float32, C order.
        scale, shift
            What made `raw` of the stored values: ``stored * scale + shift``; one for all channels or one each.
        limits
            Stored values that stand for black and white: `value_range` of the source's dtype.

        Raises
        ------
        DataError
            If shape, dtype or memory order don't fit.
        """
        if len(raw) != len(self.changed):
            raise DataError(f"grey: a change of {len(self.changed)} channels for a patch of {raw.shape}")
        if raw.dtype != np.float32 or not raw.flags.c_contiguous or not raw.flags.writeable:
            raise DataError("grey: the patch must be float32, writeable and in C order")
        scales, shifts = (np.broadcast_to(np.asarray(v, np.float64), len(raw)) for v in (scale, shift))
        low, span = limits[0], limits[1] - limits[0]
        for channel in np.flatnonzero(self.changed):
            contrast, factor, term = self.contrast[channel], scales[channel], shifts[channel]
            kernels.vary(
                raw[channel].reshape(-1),
                contrast / (factor * span),
                contrast * (-term / factor - low) / span + self.brightness[channel],
                self.gamma[channel],
                span * factor,
                low * factor + term,
            )

    def table(self, *, scale: PerChannel = 1.0, shift: PerChannel = 0.0) -> npt.NDArray[np.float32]:
        """Return what each stored uint8 value becomes, scaled: float32, ``(channels, 256)``.

        ``table[c][patch[c]]`` changes and scales a patch that is still uint8, by one look-up a voxel.
        """
        count = len(self.changed)
        columns = (
            self.contrast,
            self.brightness,
            self.gamma,
            np.broadcast_to(scale, count),
            np.broadcast_to(shift, count),
        )
        contrast, brightness, gamma, factor, term = (np.asarray(column, np.float64)[:, None] for column in columns)
        stored = np.arange(256)[None]
        varied = 255 * np.clip(contrast * stored / 255 + brightness, 0, 1) ** gamma
        return (np.where(self.changed[:, None], varied, stored) * factor + term).astype(np.float32)


def value_range(dtype: npt.DTypeLike) -> Range:
    """Return what stands for black and white in volumes of `dtype`: an integer's limits, 0 and 1 for floats."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        return float(np.iinfo(kind).min), float(np.iinfo(kind).max)
    return 0.0, 1.0


def warm_up() -> None:
    """Compile the kernel, or load it from numba's cache, so that no training step waits for it."""
    kernels.vary(np.zeros(1, np.float32), 1.0, 0.0, 1.0, 1.0, 0.0)


def _pair(value: float | Range) -> Range:
    assert isinstance(value, tuple)
    return value


def _checked_range(owner: Grey, name: str, value: Any, minimum: float, maximum: float) -> Range:
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        r = float(value)
        value = {"contrast": (1 - r, 1 + r), "brightness": (-r, r), "gamma": (1 / r if r > 0 else 0.0, r)}[name]
    try:
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        raise DataError(f"{_title(owner)}: {name} must be a number or a range (low, high), not {value!r}") from None
    if not minimum <= low <= high <= maximum:
        raise DataError(
            f"{_title(owner)}: {name} must be a range (low, high) within {minimum:g} and {maximum:g}, not ({low:g}, "
            f"{high:g})"
        )
    return low, high


def _title(owner: Grey) -> str:
    return type(owner).__name__.lower()

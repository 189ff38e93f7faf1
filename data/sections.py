"""Random defects of single sections, as serial-section and block-face microscopes make them.

Sections are the planes of a patch along z. All defects work in place on the raw values of scaled float32 patches
(channels, z, y, x), in all channels at once, and leave targets alone: what a network has to bridge. Values are given
in parts of the range from black to white, see `elektronn_tui.data.disturbances`. What moves sections is in
`elektronn_tui.data.deformation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .augment import Grey
from .disturbances import smooth
from .ranges import Range, black_and_span, drawn, set_counts, set_range, some_sections

__all__ = ["Defocus", "Faint", "Flicker", "Missing"]

PerChannel = Sequence[float] | npt.NDArray[Any] | float
_MOST_SECTIONS = 1000


@dataclass(frozen=True)
class Missing:
    """Sections that are blank.

    Parameters
    ----------
    number
        How many, (least, most), anywhere in the patch; at most all but one of its sections.
    value
        Range of what they hold instead, in parts of the range from black to white.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    number: int | tuple[int, int] = (1, 2)
    value: float | Range = (0.0, 0.0)

    def __post_init__(self) -> None:
        set_counts(self, "number", 1, _MOST_SECTIONS)
        set_range(self, "value", 0.0, 1.0)

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        rng: np.random.Generator,
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Draw sections and a value for each, and blank them in place."""
        black, span = black_and_span(len(raw), scale, shift, limits)
        for z in some_sections(rng, self.number, raw.shape[1]):
            raw[:, z] = (black + np.float32(drawn(rng, self.value)) * span)[..., 0]


@dataclass(frozen=True)
class Faint:
    """Sections of low contrast, darker or lighter than the others.

    A value becomes ``mean + contrast * (value - mean) + brightness``, with the section's mean, within black and white.

    Parameters
    ----------
    number
        How many, (least, most), anywhere in the patch; at most all but one of its sections.
    contrast
        Range of the factor, 0 to 1.
    brightness
        Range of the term in parts of the range from black to white; below 0 darkens.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    number: int | tuple[int, int] = (1, 2)
    contrast: float | Range = (0.1, 0.6)
    brightness: float | Range = (-0.3, 0.1)

    def __post_init__(self) -> None:
        set_counts(self, "number", 1, _MOST_SECTIONS)
        set_range(self, "contrast", 0.0, 1.0)
        set_range(self, "brightness", -1.0, 1.0)

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        rng: np.random.Generator,
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Draw sections, and contrast and brightness for each, and change them in place."""
        black, span = (values[..., 0] for values in black_and_span(len(raw), scale, shift, limits))
        for z in some_sections(rng, self.number, raw.shape[1]):
            contrast, brightness = np.float32(drawn(rng, self.contrast)), np.float32(drawn(rng, self.brightness))
            section = raw[:, z]
            mean = section.mean((1, 2), keepdims=True)
            section *= contrast
            section += (1 - contrast) * mean + brightness * span
            np.clip(section, black, black + span, out=section)


@dataclass(frozen=True)
class Defocus:
    """Sections that are blurred.

    Parameters
    ----------
    number
        How many, (least, most), anywhere in the patch; at most all but one of its sections.
    sigma
        Range of the Gaussian's standard deviation in voxels, within the section.

    Raises
    ------
    DataError
        If a value is out of its limits; the message names the field.
    """

    number: int | tuple[int, int] = (1, 2)
    sigma: float | Range = (1.0, 4.0)

    def __post_init__(self) -> None:
        set_counts(self, "number", 1, _MOST_SECTIONS)
        set_range(self, "sigma", 0.0, 50.0)

    def apply(self, raw: npt.NDArray[np.float32], rng: np.random.Generator, **scaled: Any) -> None:
        """Draw sections and a sigma for each, and blur them in place."""
        for z in some_sections(rng, self.number, raw.shape[1]):
            sigma = drawn(rng, self.sigma)
            for channel in raw:
                smooth(channel[z : z + 1], (0.0, sigma, sigma))


@dataclass(frozen=True)
class Flicker(Grey):
    """Grey values that change from section to section: each section and channel gets a `Grey` change of its own."""

    contrast: float | Range = (0.9, 1.1)
    brightness: float | Range = (-0.1, 0.1)
    gamma: float | Range = (1 / 1.2, 1.2)

    def apply(
        self,
        raw: npt.NDArray[np.float32],
        rng: np.random.Generator,
        *,
        scale: PerChannel = 1.0,
        shift: PerChannel = 0.0,
        limits: Range = (0.0, 1.0),
    ) -> None:
        """Draw a change of grey values for each section and make it in place."""
        for z in range(raw.shape[1]):
            section = np.ascontiguousarray(raw[:, z])
            super().apply(section, rng, scale=scale, shift=shift, limits=limits)
            raw[:, z] = section

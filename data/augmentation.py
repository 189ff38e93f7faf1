"""How examples are varied: what may happen to one, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .augment import Grey
from .disturbances import Blobs, Blur, Noise
from .ranges import check_probability
from .sections import Defocus, Faint, Flicker, Missing
from .warp import Warp

__all__ = ["DISTURBANCES", "AugmentSettings", "stream"]

DISTURBANCES = {
    "grey": Grey,
    "flicker": Flicker,
    "faint": Faint,
    "defocus": Defocus,
    "blur": Blur,
    "noise": Noise,
    "blobs": Blobs,
    "missing": Missing,
}
"""What changes raw values alone, in the order in which it happens to an example."""

# Numbers of random streams: a number given away stays, or all examples would change.
_STREAMS = {"flicker": 16, "faint": 17, "defocus": 18, "blur": 19, "noise": 20, "blobs": 21, "missing": 22}


@dataclass(frozen=True)
class AugmentSettings:
    """How examples are varied; each field may change between two steps of a training run.

    A word alone, such as `warp`, is a probability from 0 to 1, drawn for each example; with ``_args`` behind it, what
    may then happen. 0 costs nothing.

    Parameters
    ----------
    warp, warp_args
        Flips, swaps, rotations and more; the other examples are plain crops at random positions.
    grey, grey_args
        Contrast, brightness and gamma.
    flicker, flicker_args
        Grey values that change from section to section.
    faint, faint_args
        Sections of low contrast.
    defocus, defocus_args
        Blurred sections.
    blur, blur_args
        A Gaussian blur.
    noise, noise_args
        Gaussian, uniform or Poisson noise.
    blobs, blobs_args
        Regions that are blurred, noisy or blank.
    missing, missing_args
        Blank sections.

    Raises
    ------
    DataError
        A probability is none.
    """

    warp: float = 0.0
    warp_args: Warp = field(default_factory=Warp)
    grey: float = 0.0
    grey_args: Grey = field(default_factory=Grey)
    flicker: float = 0.0
    flicker_args: Flicker = field(default_factory=Flicker)
    faint: float = 0.0
    faint_args: Faint = field(default_factory=Faint)
    defocus: float = 0.0
    defocus_args: Defocus = field(default_factory=Defocus)
    blur: float = 0.0
    blur_args: Blur = field(default_factory=Blur)
    noise: float = 0.0
    noise_args: Noise = field(default_factory=Noise)
    blobs: float = 0.0
    blobs_args: Blobs = field(default_factory=Blobs)
    missing: float = 0.0
    missing_args: Missing = field(default_factory=Missing)

    def __post_init__(self) -> None:
        for name in ("warp", *DISTURBANCES):
            check_probability(self, name)

    def disturb(
        self,
        raw: npt.NDArray[np.float32],
        entropy: tuple[int, int],
        grey_stream: int,
        **scaled: Any,
    ) -> None:
        """Change the raw values of an example in place.

        Parameters
        ----------
        raw
            (channels, z, y, x), scaled.
        entropy
            Seed and number of the example.
        grey_stream
            Number of the stream of random numbers for `grey`.
        **scaled
            ``scale``, ``shift`` and ``limits``, see `Grey.apply`.
        """
        for name in DISTURBANCES:
            probability = getattr(self, name)
            if probability:
                rng = stream(entropy, _STREAMS.get(name, grey_stream))
                if rng.random() < probability:
                    getattr(self, f"{name}_args").apply(raw, rng, **scaled)


def stream(entropy: tuple[int, int], number: int) -> np.random.Generator:
    """Return the random numbers for one purpose: those of child `number` of ``SeedSequence(entropy)``."""
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(number,)))

"""How examples are varied: what may happen to one, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .augment import Grey
from .deformation import Deformation, Elastic, Misalignment, Slip
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
_STREAMS = {
    "elastic": 8,
    "slip": 9,
    "misalignment": 10,
    "flicker": 16,
    "faint": 17,
    "defocus": 18,
    "blur": 19,
    "noise": 20,
    "blobs": 21,
    "missing": 22,
}


@dataclass(frozen=True)
class AugmentSettings:
    """How examples are varied; each field may change between two steps of a training run.

    A word alone, such as `warp`, is a probability from 0 to 1, drawn for each example; with ``_args`` behind it, what
    may then happen. 0 costs nothing.

    Parameters
    ----------
    warp, warp_args
        Flips, swaps, rotations and more; the other examples are plain crops at random positions.
    elastic, elastic_args
        A smooth deformation.
    slip, slip_args
        Sections of the raw image that lie beside their target.
    misalignment, misalignment_args
        A step in the alignment of raw image and target.
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
    elastic: float = 0.0
    elastic_args: Elastic = field(default_factory=Elastic)
    slip: float = 0.0
    slip_args: Slip = field(default_factory=Slip)
    misalignment: float = 0.0
    misalignment_args: Misalignment = field(default_factory=Misalignment)
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
        for name in ("warp", "elastic", "slip", "misalignment", *DISTURBANCES):
            check_probability(self, name)

    def deform(self, entropy: tuple[int, int], patch_shape: Sequence[int]) -> Deformation | None:
        """Return how the patch (z, y, x) of an example is deformed; `entropy` is its seed and number."""
        elastic = self._happens("elastic", entropy)
        slip = self._happens("slip", entropy)
        offset = self._happens("misalignment", entropy)
        if elastic is None and slip is None and offset is None:
            return None
        depth = patch_shape[0]
        return Deformation(
            depth,
            None if elastic is None else self.elastic_args.draw(elastic, patch_shape),
            None if slip is None else self.slip_args.draw(slip, depth),
            None if offset is None else self.misalignment_args.draw(offset, depth),
        )

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
            rng = self._happens(name, entropy, grey_stream)
            if rng is not None:
                getattr(self, f"{name}_args").apply(raw, rng, **scaled)

    def _happens(self, name: str, entropy: tuple[int, int], grey_stream: int = 0) -> np.random.Generator | None:
        """Return the random numbers for what happens to an example, None where it does not."""
        probability = getattr(self, name)
        if not probability:
            return None
        rng = stream(entropy, _STREAMS.get(name, grey_stream))
        return rng if rng.random() < probability else None


def stream(entropy: tuple[int, int], number: int) -> np.random.Generator:
    """Return the random numbers for one purpose: those of child `number` of ``SeedSequence(entropy)``."""
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(number,)))

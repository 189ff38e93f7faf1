"""How examples are varied: what may happen to one, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from elektronn_tui.errors import DataError

from .augment import Grey
from .warp import Warp

__all__ = ["AugmentSettings"]


@dataclass(frozen=True)
class AugmentSettings:
    """How examples are varied; each field may change between two steps of a training run.

    Parameters
    ----------
    warp
        Probability, 0 to 1, that an example is warped, flips and swaps included. The others are plain crops at
        random positions.
    warp_args
        What a warp may do.
    grey
        Probability, 0 to 1, that the grey values of an example are varied.
    grey_args
        How far.

    Raises
    ------
    DataError
        A probability is none.
    """

    warp: float = 0.0
    warp_args: Warp = field(default_factory=Warp)
    grey: float = 0.0
    grey_args: Grey = field(default_factory=Grey)

    def __post_init__(self) -> None:
        for name in ("warp", "grey"):
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
                raise DataError(f"AugmentSettings: {name}={value!r}; a probability from 0 to 1 is needed.")

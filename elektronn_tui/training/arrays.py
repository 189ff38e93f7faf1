"""Examples in memory: images with a label, vectors, sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Arrays"]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Opened examples that lie in memory. A class of one's own may be an experiment's data if ``open()`` returns this.

    The first axis of each array counts examples; the others are those of the network's input (or target) without b,
    in the same order. Where the network has one feature the f axis may be left out: images (n, y, x) fit an input
    ``b,f,y,x`` and labels (n,) a target ``b,f``. Sequences (n, r, f) fit an input ``r,b,f``.

    Attributes
    ----------
    train : ndarray
        Inputs, integers or floats. What an input of floats is fed is scaled as `Experiment.scaling` says: by mean and
        deviation of each feature, or integers to 0 to 1 and floats not at all. An input of integers gets them as they
        are.
    train_target : ndarray or None
        Class ids for a target of integers (negative ones don't count), or values; None for networks without a target.
    valid, valid_target : ndarray or None
        The same for validation.
    shift : int
        Largest random displacement of training images in pixels, at start: the control ``shift``. Images larger than
        the network's input are cropped to it, around the middle.
    name : str
        What messages call them.
    """

    train: npt.NDArray[Any]
    train_target: npt.NDArray[Any] | None = None
    valid: npt.NDArray[Any] | None = None
    valid_target: npt.NDArray[Any] | None = None
    shift: int = 0
    name: str = "data"

    def __post_init__(self) -> None:
        for field in ("train", "train_target", "valid", "valid_target"):
            value = getattr(self, field)
            if value is not None or field == "train":
                object.__setattr__(self, field, np.asarray(value))

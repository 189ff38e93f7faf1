"""Measures of a segmentation, from a confusion matrix of classes. Targets that are no class are ignored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

__all__ = ["SCORES", "Confusion", "confusion", "count_pairs"]

SCORES: Mapping[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = MappingProxyType(
    {
        "iou": lambda found, true, predicted: (found, true + predicted - found),
        "dice": lambda found, true, predicted: (2 * found, true + predicted),
        "precision": lambda found, true, predicted: (found, predicted),
        "recall": lambda found, true, predicted: (found, true),
    }
)
"""Numerator and denominator of each score, from numbers of voxels: found rightly, of this class, predicted as it."""


def count_pairs(found: torch.Tensor, true: torch.Tensor, n_class: int) -> torch.Tensor:
    """Count (true, predicted) in every row.

    Parameters
    ----------
    found, true : Tensor
        Integer ids (..., positions); positions whose true id is no class are ignored.
    n_class : int

    Returns
    -------
    Tensor
        int64 (..., n_class, n_class).
    """
    rows = true.shape[:-1]
    first = torch.arange(math.prod(rows), device=true.device).reshape(*rows, 1) * n_class
    index = (first + true) * n_class + found
    valid = (true >= 0) & (true < n_class)
    size = math.prod(rows) * n_class**2
    return torch.bincount(index[valid], minlength=size).reshape(*rows, n_class, n_class)


def confusion(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Count how often each class was predicted for each.

    Parameters
    ----------
    prediction : Tensor
        (b, classes, ...) scores or probabilities.
    target : Tensor
        (b, 1, ...) class ids of any integer type; ids that are no class, as -1, are ignored.

    Returns
    -------
    counts : Tensor
        int64 (classes, classes), ``counts[true, predicted]``.
    """
    classes = prediction.shape[1]
    return count_pairs(prediction.argmax(dim=1).flatten(), target.flatten().long(), classes)


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix and what is computed from it; NaN where a class never occurs.

    Attributes
    ----------
    counts : ndarray of int64
        (classes, classes), ``counts[true, predicted]``.
    """

    counts: np.ndarray

    @property
    def total(self) -> int:
        """Voxels that count."""
        return int(self.counts.sum())

    @property
    def error(self) -> float:
        """Fraction of voxels that are wrong."""
        return float(1.0 - self._fraction(np.trace(self.counts), self.counts.sum()))

    @property
    def recall(self) -> np.ndarray:
        """Fraction of each class that was found, (classes,)."""
        return self.score("recall")

    @property
    def precision(self) -> np.ndarray:
        """Fraction right of what was predicted as each class, (classes,)."""
        return self.score("precision")

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, (classes,)."""
        return self.score("iou")

    @property
    def dice(self) -> np.ndarray:
        """Dice coefficient (F1 score) of each class, (classes,)."""
        return self.score("dice")

    def score(self, name: str) -> np.ndarray:
        """Return one of `SCORES` for each class, (classes,)."""
        part, whole = SCORES[name](np.diag(self.counts), self.counts.sum(axis=1), self.counts.sum(axis=0))
        return self._fraction(part, whole)

    @property
    def balanced_error(self) -> float:
        """Mean over the classes that occur of the fraction that was missed: 0.5 for guessing between two."""
        recall = self.recall
        return float(1.0 - np.nanmean(recall)) if np.isfinite(recall).any() else float("nan")

    def errors(self) -> dict[str, float]:
        """Return the error and, where every class occurs, the balanced error: what few voxels can tell."""
        every = (self.counts.sum(axis=1) > 0).all()
        return {"error": self.error} | ({"balanced_error": self.balanced_error} if every else {})

    def metrics(self, prefix: str = "valid_") -> dict[str, float]:
        """Return error, balanced error, and per class recall, precision and IoU; for two classes those of class 1.

        With two classes class 1 is what is looked for: ``valid_iou`` is then the boundary IoU.
        """
        values = {f"{prefix}error": self.error, f"{prefix}balanced_error": self.balanced_error}
        per_class = {"iou": self.iou, "recall": self.recall, "precision": self.precision}
        if len(self.counts) == 2:
            return values | {f"{prefix}{name}": float(array[1]) for name, array in per_class.items()}
        iou = self.iou
        values[f"{prefix}iou"] = float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
        for name, array in per_class.items():
            values |= {f"{prefix}{name}_{k}": float(value) for k, value in enumerate(array)}
        return values

    @staticmethod
    def _fraction(part: np.ndarray | np.integer, whole: np.ndarray | np.integer) -> np.ndarray:
        whole = np.asarray(whole, np.float64)
        return np.divide(np.asarray(part, np.float64), whole, out=np.full(whole.shape, np.nan), where=whole > 0)

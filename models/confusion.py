"""Measures of a segmentation, from a confusion matrix of classes. Targets below 0 are ignored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Confusion", "confusion"]


def confusion(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Count how often each class was predicted for each.

    Parameters
    ----------
    prediction : Tensor
        (b, classes, ...) scores or probabilities.
    target : Tensor
        (b, 1, ...) class ids of any integer type; ids below 0 are ignored.

    Returns
    -------
    counts : Tensor
        int64 (classes, classes), ``counts[true, predicted]``.
    """
    classes = prediction.shape[1]
    chosen = prediction.argmax(dim=1).flatten()
    true = target.flatten()
    valid = true >= 0
    index = true[valid].long() * classes + chosen[valid]
    return torch.bincount(index, minlength=classes * classes).reshape(classes, classes)


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
        return self._fraction(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """Fraction right of what was predicted as each class, (classes,)."""
        return self._fraction(np.diag(self.counts), self.counts.sum(axis=0))

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, (classes,)."""
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - np.diag(self.counts)
        return self._fraction(np.diag(self.counts), union)

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

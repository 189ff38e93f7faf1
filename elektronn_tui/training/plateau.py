"""Lower the learning rate where validation gets no better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["Plateau"]


class Plateau:
    """Counts validations without improvement.

    Attributes
    ----------
    best : float
        The lowest score so far.
    stale : int
        Validations since then, or since the learning rate was lowered.
    """

    def __init__(self) -> None:
        self.best = math.inf
        self.stale = 0

    def reached(self, score: float, patience: int) -> bool:
        """Take in the score of a validation; tell whether it was the last of `patience` without improvement.

        A patience of 0 is never over; a score that is NaN is no improvement.
        """
        if score < self.best:
            self.best, self.stale = score, 0
            return False
        self.stale += 1
        if not patience or self.stale < patience:
            return False
        self.stale = 0
        return True

    def state(self) -> dict[str, Any]:
        """Return best score and count for a checkpoint."""
        return {"best": self.best if math.isfinite(self.best) else None, "stale": self.stale}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state()`."""
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.stale = int(state["stale"])

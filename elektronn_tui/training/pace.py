"""How fast the loop goes."""

from __future__ import annotations

import math
import time

__all__ = ["Pace"]

MEMORY_SECONDS = 5.0
REPORT_SECONDS = 0.25


class Pace:
    """Steps and voxels a second, and the part of the time that the loop waits for data; smoothed over seconds.

    Attributes
    ----------
    rate, voxel_rate : float
        Steps and input voxels per second of stepping; validation and the like do not count.
    data_wait : float
        Fraction, 0 to 1.
    """

    def __init__(self) -> None:
        self._steps = self._voxels = self._seconds = self._waited = 0.0
        self._begin = self._wait_began = self._waiting = 0.0
        self._reported = 0.0

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self._steps / self._seconds if self._seconds else 0.0

    @property
    def voxel_rate(self) -> float:
        """Input voxels per second."""
        return self._voxels / self._seconds if self._seconds else 0.0

    @property
    def data_wait(self) -> float:
        """Fraction of the time that was spent waiting for data."""
        return self._waited / self._seconds if self._seconds else 0.0

    def begin(self) -> None:
        """Note that a step begins."""
        self._begin = time.perf_counter()
        self._waiting = 0.0

    def wants_data(self) -> None:
        """Note that the step can't go on without a batch."""
        self._wait_began = time.perf_counter()

    def has_data(self) -> None:
        """Note that the batch is there."""
        self._waiting += time.perf_counter() - self._wait_began

    def end(self, voxels: int) -> None:
        """Note that a step ended that used so many input voxels."""
        now = time.perf_counter()
        seconds = now - self._begin
        keep = math.exp(-seconds / MEMORY_SECONDS)
        self._steps = self._steps * keep + 1
        self._voxels = self._voxels * keep + voxels
        self._seconds = self._seconds * keep + seconds
        self._waited = self._waited * keep + self._waiting

    def due(self) -> bool:
        """Tell whether it is time for a report."""
        if self._begin - self._reported < REPORT_SECONDS:
            return False
        self._reported = self._begin
        return True

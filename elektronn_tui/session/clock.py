"""Training time: what passes while the loop trains."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """A stop-watch that the main thread starts and stops and every thread reads."""

    def __init__(self) -> None:
        self._state: tuple[float, float | None] = (0.0, None)  # seconds before, and since when; replaced as one

    def time(self) -> float:
        """Return the seconds that it ran."""
        before, since = self._state
        return before if since is None else before + time.perf_counter() - since

    def start(self) -> None:
        """Let it run."""
        if self._state[1] is None:
            self._state = (self._state[0], time.perf_counter())

    def stop(self) -> None:
        """Let it stand."""
        self._state = (self.time(), None)

    def set(self, seconds: float) -> None:
        """Put it at a time, for a run that goes on from a checkpoint."""
        self._state = (seconds, None if self._state[1] is None else time.perf_counter())

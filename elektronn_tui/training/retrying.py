"""Trying again what a disk or a network refused: it may be back in a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger
from typing import TypeVar

from elektronn_tui.errors import DataError

__all__ = ["PAUSES", "may_pass", "retried"]

PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each further try. The loop waits for that batch meanwhile, and so does who wants to stop it."""

T = TypeVar("T")


def may_pass(error: BaseException | None) -> bool:
    """Tell whether the reason of an error lies outside of the program: h5py says RuntimeError for some of them."""
    while error is not None:
        if isinstance(error, OSError | RuntimeError):
            return True
        error = error.__cause__
    return False


def retried(
    make: Callable[[int], T], logger: Logger, pause: Callable[[float], None] = time.sleep
) -> Callable[[int], T]:
    """Return `make`, which is called again after growing pauses where voxels can't be read.

    Examples are functions of their numbers, so that a batch that was made at the third try is the one that the first
    would have made. What is wrong with the data themselves, or with the program, is raised at once.
    """

    def tried(number: int) -> T:
        for seconds in PAUSES:
            try:
                return make(number)
            except DataError as error:
                if not may_pass(error):
                    raise
                logger.warning("%s; trying again in %g s", str(error).rstrip("."), seconds)
            pause(seconds)
        try:
            return make(number)
        except DataError as error:
            error.add_note(f"tried {len(PAUSES) + 1} times in {sum(PAUSES):.2g} s")
            raise

    return tried

"""Run an experiment in a session: what the worker calls once it has both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .experiment import Experiment

__all__ = ["run"]


def run(experiment: Experiment, session: Any) -> None:
    """Train `experiment` in `session`, on the calling thread, until it is done or told to stop."""
    raise NotImplementedError

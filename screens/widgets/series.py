"""What a plot shows, and how: plain immutable values, no arrays are touched here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Look", "Mark", "Series"]


@dataclass(frozen=True, eq=False)
class Series:
    """One curve, reduced to buckets; immutable and compared by identity.

    Parameters
    ----------
    name : str
        What the legend says.
    step : array-like, shape (n,)
        Step of each bucket, ascending.
    mean, low, high : array-like, shape (n,)
        Mean, minimum and maximum in each bucket; NaN makes a gap. Without `low` and `high` there is no band.
    time : array-like, shape (n,), optional
        Training time of each bucket in seconds, ascending.
    last : float, optional
        The current value for the legend (default: the last mean).
    """

    name: str
    step: ArrayLike
    mean: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    time: ArrayLike | None = None
    last: float | None = None


@dataclass(frozen=True)
class Mark:
    """A ▲ on the x axis: something happened at `step` (at `time` seconds of training)."""

    step: float
    time: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Look:
    """How curves are drawn.

    Parameters
    ----------
    log_y : bool
        Logarithmic y axis; values that are not positive become gaps.
    x_axis : {"step", "time"}
        What is along the x axis; series without times are left out of a time axis.
    band : bool
        Draw the range between minimum and maximum.
    smoothing : float
        0 (none) to below 1: weight of the past in an exponential moving average of the buckets.
    ascii : bool
        No character beyond ASCII.
    """

    log_y: bool = False
    x_axis: Literal["step", "time"] = "step"
    band: bool = True
    smoothing: float = 0.0
    ascii: bool = False

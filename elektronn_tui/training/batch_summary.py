"""What a batch holds, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.data.summaries import label_counts, label_summary

__all__ = ["ArraySummary", "BatchSummary"]


@dataclass(frozen=True)
class ArraySummary:
    """One array of a batch. `shares` are those of the labels that count, `ignored` is of all."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    mean: float
    missing: int
    shares: Mapping[int, float]
    ignored: float | None = None


@dataclass(frozen=True, repr=False)
class BatchSummary:
    """What the arrays of a batch hold; prints as a line each."""

    arrays: Sequence[ArraySummary]
    picture: str | None = None

    @classmethod
    def of(cls, batch: Mapping[str, npt.NDArray[Any]], picture: str | None = None) -> BatchSummary:
        """Sum up arrays by their names; class shares are those of arrays of integers that aren't the input."""
        return cls([_array_summary(name, array) for name, array in batch.items()], picture)

    def __repr__(self) -> str:
        lines = []
        for array in self.arrays:
            line = f"{array.name}  {'×'.join(map(str, array.shape))} {array.dtype}"
            line += f"  {array.low:.4g} to {array.high:.4g}, mean {array.mean:.4g}"
            line += f"; {array.missing} NaN or infinite" if array.missing else ""
            for label, share in array.shares.items():
                line += f"; {label}: {100 * share:.3g} %"
            line += f"; ignored {100 * array.ignored:.3g} %" if array.ignored else ""
            lines.append(line)
        if self.picture:
            lines.append(f"picture  {self.picture}")
        return "\n".join(lines)


def _array_summary(name: str, array: npt.NDArray[Any]) -> ArraySummary:
    finite = array[np.isfinite(array)]
    low, high, mean = (float(f(finite)) for f in (np.min, np.max, np.mean)) if finite.size else (np.nan,) * 3
    shares: dict[int, float] = {}
    ignored = None
    if array.dtype.kind in "iub" and name != "raw":
        found = label_summary(label_counts(array), 1.0)
        shares = {int(label): found.share(label) for label in sorted(found.counts)}
        ignored = found.ignored / max(found.voxels, 1)
    return ArraySummary(name, array.shape, str(array.dtype), low, high, mean, array.size - finite.size, shares, ignored)

"""What a volume holds, at a glance: values, classes, what is missing. Huge volumes are sampled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .sources import Box, Source

__all__ = [
    "LabelSummary",
    "ValueSummary",
    "label_counts",
    "label_summary",
    "summarise_labels",
    "summarise_values",
    "value_summary",
]

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
BINS = 48
MOST_IDS = 10
_MOST_VOXELS = 2**23  # of a sample, over all channels
_BLOCK = (8, 128, 128)


@dataclass(frozen=True)
class ValueSummary:
    """What one channel holds.

    Attributes
    ----------
    seen
        Share of the voxels that were looked at, 0 to 1.
    missing
        How many of them are NaN or infinite; they are in none of the others.
    mean, std
        In stored units; NaN where nothing is finite.
    percentiles
        Of `PERCENTILES`, the first and the last being the extremes.
    histogram
        Voxels in each of `BINS` bins of one width from the 0.1 to the 99.9 % value; the outer ones hold what is beyond.
    bins
        From where to where they reach.
    """

    seen: float
    missing: int
    mean: float
    std: float
    percentiles: tuple[float, ...]
    histogram: tuple[int, ...]
    bins: tuple[float, float]


@dataclass(frozen=True)
class LabelSummary:
    """What one channel of labels holds.

    Attributes
    ----------
    seen
        Share of the voxels that were looked at, 0 to 1.
    counts
        Voxels of each label that counts: of all classes where it is known how many there are, and of the most
        frequent other labels.
    distinct
        How many labels were seen.
    ignored
        Voxels that don't count: negative or named labels.
    voxels
        That were looked at.
    """

    seen: float
    counts: dict[int, int]
    distinct: int
    ignored: int
    voxels: int

    def share(self, label: int) -> float:
        """Return the part of the voxels that count which have a label; 0 where none counts."""
        return self.counts.get(label, 0) / max(self.voxels - self.ignored, 1)


def summarise_values(source: Source, box: Box | None = None, most_voxels: int = _MOST_VOXELS) -> list[ValueSummary]:
    """Return what each channel of a source holds.

    Parameters
    ----------
    source
        Of any numeric dtype.
    box
        ``(lo, hi)`` (z, y, x), half open; None: all of it.
    most_voxels
        How many are read at most, in blocks spread evenly over the box.
    """
    blocks, seen = _spread(source, box, most_voxels)
    parts = [source.read(lo, hi).reshape(source.channels, -1) for lo, hi in blocks]
    return [value_summary(np.concatenate(channel), seen) for channel in zip(*parts, strict=True)]


def value_summary(values: npt.NDArray[Any], seen: float = 1.0) -> ValueSummary:
    """Return what an array holds, of which `seen` is the share that was looked at."""
    flat = values.ravel()
    if flat.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
    missing = values.size - flat.size
    if not flat.size:
        nan = math.nan
        return ValueSummary(seen, missing, nan, nan, (nan,) * len(PERCENTILES), (0,) * BINS, (nan, nan))
    # Stored values, no interpolation: it would give fractions for integers and overflow at the largest.
    percentiles = np.percentile(flat, np.array([*PERCENTILES, 0.1, 99.9]), method="nearest").astype(np.float64)
    low, high = float(percentiles[-2]), float(percentiles[-1])
    span = high - low or 1.0
    where = np.clip((flat.astype(np.float64) - low) * (BINS / span), 0, BINS - 1).astype(np.int64)
    return ValueSummary(
        seen,
        missing,
        float(flat.mean(dtype=np.float64)),
        float(flat.std(dtype=np.float64)),
        tuple(percentiles[: len(PERCENTILES)].tolist()),
        tuple(np.bincount(where, minlength=BINS).tolist()),
        (low, high),
    )


def summarise_labels(
    source: Source,
    box: Box | None = None,
    *,
    classes: int | None = None,
    ignore: Sequence[int] = (),
    most_voxels: int = _MOST_VOXELS,
) -> list[LabelSummary]:
    """Return what each channel of labels holds.

    Parameters
    ----------
    source
        Of an integer dtype.
    box, most_voxels
        As for `summarise_values`.
    classes
        How many there are, where labels are class ids from 0: all are listed, those without a voxel too.
    ignore
        Labels that don't count, beside negative ones.
    """
    blocks, seen = _spread(source, box, most_voxels)
    found: list[dict[int, int]] = [{} for _ in range(source.channels)]
    for lo, hi in blocks:
        for counts, channel in zip(found, source.read(lo, hi), strict=True):
            for label, n in label_counts(channel).items():
                counts[label] = counts.get(label, 0) + n
    return [label_summary(counts, seen, classes, ignore) for counts in found]


def label_counts(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Return how often each label is in an array of integers."""
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def label_summary(
    found: dict[int, int], seen: float = 1.0, classes: int | None = None, ignore: Sequence[int] = ()
) -> LabelSummary:
    """Return the summary of counted labels, of which `seen` is the share that was looked at."""
    counting = {label: n for label, n in found.items() if label >= 0 and label not in ignore}
    voxels = sum(found.values())
    wanted = [label for label in range(classes or 0) if label not in ignore]
    others = sorted(set(counting).difference(wanted), key=lambda label: (-counting[label], label))
    others = sorted(others) if len(others) <= MOST_IDS else others[:MOST_IDS]
    counts = {label: counting.get(label, 0) for label in wanted + others}
    return LabelSummary(seen, counts, len(counting), voxels - sum(counting.values()), voxels)


def _spread(source: Source, box: Box | None, most_voxels: int) -> tuple[list[Box], float]:
    """Return blocks to read, the same ones each time, and which share of the box they are."""
    lo, hi = np.asarray(box if box is not None else ((0, 0, 0), source.shape))
    size = np.minimum(_BLOCK, hi - lo)
    whole = int(np.prod(hi - lo, dtype=np.int64))
    most = max(most_voxels // source.channels, int(np.prod(size)))
    if whole <= most:
        # Side by side, all of it.
        corners = [list(range(l, h, n)) for l, h, n in zip(lo.tolist(), hi.tolist(), size.tolist(), strict=True)]
    else:
        corners = [[]] * 3
        fits, wanted = (hi - lo) / size, most / float(np.prod(size))
        # As many places along an axis as it is longer than a block, so that they spread like the volume; short axes
        # first: what they can't use is left to the long ones.
        for left, axis in zip((3, 2, 1), np.argsort(fits).tolist(), strict=True):
            share = (wanted / np.prod(np.sort(fits)[3 - left :])) ** (1 / left)
            n = max(1, int(fits[axis] * min(share, 1.0)))
            wanted /= n
            free = int(hi[axis] - lo[axis] - size[axis])
            corners[axis] = [int(lo[axis]) + (2 * k + 1) * free // (2 * n) for k in range(n)]
    blocks = list(_boxes(corners, size, hi))
    read = sum(math.prod(b - a for a, b in zip(*block, strict=True)) for block in blocks)
    return blocks, min(read / whole, 1.0)


def _boxes(corners: Sequence[Sequence[int]], size: npt.NDArray[np.int64], hi: npt.NDArray[np.int64]) -> Iterator[Box]:
    for z, y, x in itertools.product(*corners):
        end = np.minimum(np.asarray((z, y, x)) + size, hi).tolist()
        yield (z, y, x), (end[0], end[1], end[2])

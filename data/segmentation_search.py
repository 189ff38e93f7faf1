"""Which settings of a segmentation agree best with the truth: a grid of them, scored and sorted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

from .segmentation_scores import SegmentationScores, score_segmentation

__all__ = ["SegmentationSearch", "Trial", "search_segmentation"]

_LARGER_IS_BETTER = {
    "voi": False,
    "voi_split": False,
    "voi_merge": False,
    "adapted_rand_error": False,
    "rand_index": True,
    "precision": True,
    "recall": True,
}


@dataclass(frozen=True)
class Trial:
    """One segmentation of a search.

    Attributes
    ----------
    settings : mapping
        What it was made with.
    scores : SegmentationScores
        How well it agrees with the truth.
    segments : int
        Segments among the voxels that count, background not.
    seconds : float
        CPU time of the segmentation in this thread.
    """

    settings: Mapping[str, Any]
    scores: SegmentationScores
    segments: int
    seconds: float

    def row(self) -> dict[str, Any]:
        """Return settings and figures as one row of a table."""
        scores = {name: getattr(self.scores, name) for name in _LARGER_IS_BETTER}
        return {**self.settings, **scores, "segments": self.segments, "seconds": self.seconds}


@dataclass(frozen=True)
class SegmentationSearch:
    """All segmentations of a search, the best first; its text is a table.

    Attributes
    ----------
    trials : sequence of Trial
        Sorted; of equal ones in the order of the grid.
    by : str
        The score they are sorted by.
    """

    trials: Sequence[Trial]
    by: str

    @property
    def best(self) -> Mapping[str, Any]:
        """The settings that agree best."""
        return self.trials[0].settings

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each trial as a row, such as for ``csv.DictWriter`` or a data frame."""
        return (trial.row() for trial in self.trials)

    def __str__(self) -> str:
        rows = list(self.rows())
        lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in lines)


def search_segmentation(
    segment: Callable[..., np.ndarray],
    prediction: np.ndarray,
    truth: np.ndarray,
    grid: Mapping[str, Sequence[Any]],
    *,
    by: str = "voi",
    progress: Callable[[Trial], object] | None = None,
) -> SegmentationSearch:
    """Segment a prediction with all settings of a grid, and score each against the truth.

    Parameters
    ----------
    segment
        Called as ``segment(prediction, **settings)``, returns ids; such as `elektronn_tui.data.boundary_watershed`, or
        ``functools.partial(mutex_watershed, nhood=offsets)``.
    prediction
        What it segments: a boundary map or affinities.
    truth
        True ids (z, y, x); only voxels above 0 count.
    grid
        Values to try of each setting, such as ``{"threshold": [0.3, 0.5], "seed_distance": [20, 40, 80]}``.
    by
        Score to sort by: voi, adapted_rand_error, voi_split, voi_merge (less is better), rand_index, precision or
        recall (more is better).
    progress
        Called with each trial when it is done.

    Raises
    ------
    DataError
        The grid is empty, `by` is no score, or segments and truth have different shapes.

    Examples
    --------
    >>> from elektronn_tui.data import boundaries, boundary_watershed
    >>> ids = np.arange(1, 9).reshape(2, 2, 2).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    >>> search = search_segmentation(boundary_watershed, boundaries(ids), ids, {"seed_distance": [0, 99]})
    >>> search.best
    {'seed_distance': 0}
    """
    if by not in _LARGER_IS_BETTER:
        hint = did_you_mean(str(by), _LARGER_IS_BETTER)
        raise DataError(f"search_segmentation: by={by!r}; use one of {', '.join(_LARGER_IS_BETTER)}.{hint}")
    if not grid or not all(len(values) for values in grid.values()):
        raise DataError(f"search_segmentation: grid={dict(grid)!r}; at least one value of one setting is needed.")
    trials = []
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        begin = time.thread_time()
        ids = segment(prediction, **settings)
        seconds = time.thread_time() - begin
        shown = ids[truth > 0] if ids.shape == truth.shape else ids
        trial = Trial(settings, score_segmentation(ids, truth), int(np.count_nonzero(np.unique(shown))), seconds)
        trials.append(trial)
        if progress is not None:
            progress(trial)
    sign = -1 if _LARGER_IS_BETTER[by] else 1
    return SegmentationSearch(tuple(sorted(trials, key=lambda trial: sign * getattr(trial.scores, by))), by)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

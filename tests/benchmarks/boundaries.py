"""Boundaries of a volume of ids: CPU time of one thread, against `skimage.segmentation.find_boundaries`.

The ids are convex cells in blocks of voxels, (64, 512, 512). Contenders take turns; the figures are medians over turns,
`ratio` how many times scikit-image's default takes as long as ours, the least over the dtypes. Smoothing stands beside
the same by scipy; growing by (1, 3, 3) voxels has no peer of the same meaning and stands with its time alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from benchmarking import emit, main, median, options, rounded, spread, verdict

GOAL = 10.0
SHAPE = (64, 512, 512)


def cells(rng: np.random.Generator) -> np.ndarray:
    """Return ids of the nearest of random points, in blocks of 2×4×4 voxels."""
    from scipy.spatial import KDTree

    points = rng.random((400, 3)) * SHAPE
    steps = (2, 4, 4)
    places = np.stack(np.meshgrid(*(np.arange(0, n, s) for n, s in zip(SHAPE, steps, strict=True)), indexing="ij"), -1)
    ids = KDTree(points).query(places)[1] + 1
    for axis, step in enumerate(steps):
        ids = ids.repeat(step, axis)
    return ids


def measure(contenders: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Let contenders take turns, print their lines, return median seconds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, run in contenders.items():
            begin = time.thread_time()
            run()
            times[name].append(time.thread_time() - begin)
    for name, values in times.items():
        emit(name, median(values), "s", **spread(values))
    return {name: median(values) for name, values in times.items()}


def benchmark() -> int:
    """Compare dtypes, and measure what else is made of ids."""
    from scipy.ndimage import convolve
    from skimage.segmentation import find_boundaries

    from elektronn_tui.data import boundaries, grow_segments

    args = options(__doc__, turns=9)
    turns = 3 if args.quick else args.turns
    ids = cells(np.random.default_rng(0))
    ratios = {}
    for dtype in (np.uint16, np.uint32, np.int64):
        volume = ids.astype(dtype)
        assert np.array_equal(boundaries(volume), find_boundaries(volume))  # compiles, too
        kind = np.dtype(dtype).name
        found = measure(
            {
                f"boundaries, {kind}": lambda volume=volume: boundaries(volume),  # type: ignore[misc]
                f"find_boundaries, {kind}": lambda volume=volume: find_boundaries(volume),  # type: ignore[misc]
            },
            turns,
        )
        ratios[kind] = rounded(found[f"find_boundaries, {kind}"] / found[f"boundaries, {kind}"])
    volume = ids.astype(np.uint16)
    walls = boundaries(volume)
    holes = np.where(walls > 0, 0, volume).astype(np.uint16)
    outer, middle = [[1, 2, 1], [2, 3, 2], [1, 2, 1]], [[3, 5, 3], [5, 10, 5], [3, 5, 3]]
    boundaries(volume, smoothen=True), grow_segments(holes)  # compiles
    found = measure(
        {
            "boundaries, smoothed": lambda: boundaries(volume, smoothen=True),
            "smoothing by scipy.ndimage.convolve": lambda: convolve(walls, [outer, middle, outer], mode="nearest") > 40,
            "grow_segments (1, 3, 3)": lambda: grow_segments(holes),
        },
        min(turns, 5),
    )
    worst = min(ratios.values())
    return verdict("boundaries", GOAL, met=worst >= GOAL, ratio=worst, ratios=ratios)


if __name__ == "__main__":
    main(benchmark)

"""MALIS weights, exact, both passes: CPU time of one thread, against `np.argsort` of the same affinities.

The affinities are of the three faces, float32: random ones, and smooth ones with smooth noise on the borders of convex
cells. Contenders take turns; the figure is the median over turns, `ratio` that over argsort's, the highest of all. From
one size to the next the voxels grow eightfold; `growth` is how the time per edge grows from the least to the largest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from benchmarking import emit, main, median, options, rounded, spread, verdict

GOAL = 4.0
Shape: TypeAlias = tuple[int, int, int]
SHAPES: list[Shape] = [(32, 128, 128), (64, 256, 256), (128, 512, 512)]
FACES = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]


def cells(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return ids of the nearest of random points, one in 20 000 voxels, 0 between them, in blocks of 2×2×2 voxels."""
    from scipy.spatial import KDTree

    points = rng.random((int(np.prod(shape)) // 20_000 + 2, 3)) * shape
    places = np.stack(np.meshgrid(*(np.arange(0.5, n, 2) for n in shape), indexing="ij"), -1)
    tree, ids = KDTree(points), np.zeros(places.shape[:3], np.int64)
    for plane, out in zip(places, ids, strict=True):
        distance, nearest = tree.query(plane, 2)
        out[:] = np.where(distance[..., 1] - distance[..., 0] < 2, 0, nearest[..., 0] + 1)
    return ids.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def smooth(gt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return affinities as a network gives them: blurred ones, and errors that reach over a few voxels."""
    from scipy.ndimage import gaussian_filter

    pred = np.empty(gt.shape, np.float32)
    for edges, out in zip(gt, pred, strict=True):
        noise = gaussian_filter(rng.standard_normal(edges.shape, np.float32), 1)
        logits = 6 * gaussian_filter(edges.astype(np.float32), 0.7) - 3 + 1.5 * noise / noise.std()
        out[:] = 1 / (1 + np.exp(-logits))
    return pred


def compare(shape: Shape, turns: int) -> dict[str, tuple[float, float]]:
    """Measure and print one size; return for each of ours nanoseconds per edge and the ratio."""
    from elektronn_tui.data.malis import malis_weights, seg_to_affgraph

    rng = np.random.default_rng(0)
    ids = cells(shape, rng)
    gt = seg_to_affgraph(ids, FACES)
    figures = {}
    for kind, pred in (("random", rng.random(gt.shape, np.float32)), ("smooth", smooth(gt, rng))):
        contenders: dict[str, Callable[[], object]] = {
            "argsort": lambda pred=pred: np.argsort(pred, axis=None),  # type: ignore[misc]
            "restricted": lambda pred=pred: malis_weights(pred, gt, ids, FACES),  # type: ignore[misc]
            "unrestricted": lambda pred=pred: malis_weights(pred, gt, ids, FACES, unrestrict_neg=True),  # type: ignore[misc]
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(turns):
            for name, run in contenders.items():
                begin = time.thread_time()
                run()
                times[name].append(1e9 * (time.thread_time() - begin) / pred.size)
        for name, values in times.items():
            ratio = median(values) / median(times["argsort"])
            more = {"affinities": kind, "edges": "x".join(map(str, gt.shape)), "ratio": rounded(ratio)}
            emit(name, median(values), "ns/edge", **more, **spread(values))
            if name != "argsort":
                figures[f"{name}, {kind}"] = median(values), ratio
    return figures


def benchmark() -> int:
    """Compare sizes, and print what growing cost."""
    from elektronn_tui.data.malis import malis_weights

    args = options(__doc__, turns=5)
    once = np.ones((3, 2, 2, 2), np.float32)
    malis_weights(once, once, np.ones((2, 2, 2), np.int64), FACES)  # compiles
    shapes, turns = (SHAPES[:2], 3) if args.quick else (SHAPES, args.turns)
    found = [compare(shape, turns if i == 0 else max(1, turns // 2)) for i, shape in enumerate(shapes)]
    ratios = {name: max(figures[name][1] for figures in found) for name in found[0]}
    growth = {name: rounded(found[-1][name][0] / found[0][name][0]) for name in found[0]}
    emit("growth", max(growth.values()), "×", of=growth, voxels=8 ** (len(shapes) - 1))
    worst = max(ratios.values())
    return verdict(
        "malis", GOAL, met=worst <= GOAL, ratio=worst, ratios={name: rounded(ratio) for name, ratio in ratios.items()}
    )


if __name__ == "__main__":
    main(benchmark)

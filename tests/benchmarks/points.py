"""Append + nearest query in a growing set of 100 000 points (3D), against a KD-tree that is rebuilt every 100 appends.

The plain way, ELEKTRONN2's: a KD-tree (scipy's) of the older points, brute force (numpy) over those since its last
build. Also measured: the same with the unbalanced trees that scipy builds faster, rebuilt when 5 √n points wait. One
step is one append and one query. Contenders take turns at blocks of 5000 steps, CPU time of the thread: at shorter
turns each would find its points swept from the caches by the others. With ``--quick`` blocks have 200 steps, of which
the slow ones make one in ten, from the points so far, and only those count. `ratio` is that of the whole growth,
uniform random points; the other orders show what an unbalanced tree or a grid would stumble over.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from benchmarking import emit, main, options, rounded, verdict

GOAL = 50.0
BLOCK, QUICK_BLOCK = 5000, 200


class Rebuilt:
    """A KD-tree of the older points, and brute force for the rest."""

    def __init__(self, points: np.ndarray, *, balanced: bool = True, every: int = 100, roots: float = 0) -> None:
        self.points, self.balanced, self.every, self.roots = points, balanced, every, roots
        self.size = self.built = 0
        self.tree: Any = None

    def start(self, size: int) -> None:
        self.size = size
        self.build()

    def build(self) -> None:
        from scipy.spatial import cKDTree

        old = self.points[: self.size].copy()
        self.tree = cKDTree(old, balanced_tree=self.balanced, compact_nodes=self.balanced) if self.size else None
        self.built = self.size

    def append(self, _: np.ndarray) -> None:
        self.size += 1
        if self.size - self.built >= max(self.every, self.roots * self.size**0.5):
            self.build()

    def nearest(self, query: np.ndarray) -> tuple[float, int]:
        distance, index = self.tree.query(query) if self.tree is not None else (np.inf, -1)
        if self.size > self.built:
            gap = self.points[self.built : self.size] - query
            squares = np.einsum("ij,ij->i", gap, gap)
            least = int(squares.argmin())
            if squares[least] < distance * distance:
                return float(squares[least]) ** 0.5, self.built + least
        return float(distance), int(index)


def block(contender: Any, points: np.ndarray, queries: np.ndarray) -> tuple[float, list[tuple[float, int]]]:
    """Return CPU seconds of so many steps, and what was found."""
    found = []
    steps = list(zip(points, queries, strict=True))
    begin = time.thread_time()
    for point, query in steps:
        contender.append(point)
        found.append(contender.nearest(query))
    return time.thread_time() - begin, found


def orders(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return points in several orders."""
    line = np.linspace(0, 1000, n)[:, None] * np.ones(3)
    walk = np.cumsum(rng.standard_normal((n, 3)), 0)
    return {"line": line, "random walk": walk, "100 clusters": walk[rng.integers(0, 100, n)] * 100 + rng.random((n, 3))}


def benchmark() -> int:
    """Grow all, and print steps per CPU second."""
    from elektronn_tui.data import GrowingPoints

    args = options(__doc__, n=100_000)
    rng = np.random.default_rng(0)
    points, queries = rng.uniform(0, 1000, (2, args.n, 3))
    warm = GrowingPoints(3)
    block(warm, points[:BLOCK], queries[:BLOCK])  # compiles
    steps_at_once = QUICK_BLOCK if args.quick else BLOCK
    ours = GrowingPoints(3)
    plain = Rebuilt(points)
    roots = Rebuilt(points, balanced=False, roots=5)
    slow = {"KD-tree rebuilt every 100": plain, "KD-tree unbalanced, rebuilt at 5 √n": roots}
    spent = dict.fromkeys([*slow, "GrowingPoints"], 0.0)
    steps = dict.fromkeys(spent, 0)
    for n, low in enumerate(range(0, args.n, steps_at_once)):
        chunk = slice(low, min(low + steps_at_once, args.n))
        seconds, found = block(ours, points[chunk], queries[chunk])
        compared = not args.quick or n % 10 == 5
        if not compared:
            continue
        spent["GrowingPoints"] += seconds
        steps["GrowingPoints"] += len(found)
        for name, contender in slow.items():
            if args.quick:
                contender.start(low)
            seconds, same = block(contender, points[chunk], queries[chunk])
            assert [i for _, i in same] == [i for _, i in found], name
            spent[name] += seconds
            steps[name] += len(same)
    rates = {name: steps[name] / seconds for name, seconds in spent.items()}
    for name, rate in rates.items():
        emit(name, rate, "steps/s", points="uniform", n=args.n)
    for kind, others in orders(args.n, rng).items():
        seconds, _ = block(GrowingPoints(3), others, others + rng.standard_normal(others.shape))
        emit("GrowingPoints", args.n / seconds, "steps/s", points=kind, n=args.n)
    ratio = rates["GrowingPoints"] / rates["KD-tree rebuilt every 100"]
    best = rates["GrowingPoints"] / rates["KD-tree unbalanced, rebuilt at 5 √n"]
    return verdict("points", GOAL, met=ratio >= GOAL, ratio=ratio, to_unbalanced_at_5_roots=rounded(best))


if __name__ == "__main__":
    main(benchmark)

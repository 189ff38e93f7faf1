"""Warped examples per second by one and by two data threads, as a training is fed: from memory and from HDF5.

Examples of uint8 raw (linear) and uint32 labels (nearest), 32×128×128, rotated by any angle, scaled, grey values
varied, are made and handed over by the pre-fetching threads of a training; from arrays in memory, and from a gzip
HDF5 file whose decoded chunks fill a warm cache. The volume is 64×384×384 voxels. One and two threads take turns:
`ratio` is the lower median of two over one of all pairs of turns. `copy` copies what an example consists of, its raw
box, label box and both patches, on one thread.

    python tests/benchmarks/patch_threads.py [--quick]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy and numba read it

import h5py  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, spread, verdict  # noqa: E402

from elektronn_tui.data import (  # noqa: E402
    AugmentSettings,
    Geometry,
    HDF5Source,
    Pair,
    Patches,
    Prefetcher,
    Warp,
)

GOAL = 1.6
PATCH = (32, 128, 128)
VOLUME = (64, 384, 384)
SETTINGS = AugmentSettings(warp=1.0, warp_args=Warp(rotation=180, scale=0.1), grey=1.0)


def make_file(path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, VOLUME, dtype=np.uint8)
    labels = np.repeat(np.repeat(rng.integers(0, 4, (64, 48, 48), dtype=np.uint32), 8, 1), 8, 2)
    with h5py.File(path, "w") as file:
        for name, array in (("raw", raw), ("labels", labels)):
            file.create_dataset(name, data=array, chunks=(16, 64, 64), compression="gzip", compression_opts=4)


def rate(patches: Patches, threads: int, count: int) -> float:
    """Return examples per second."""
    with Prefetcher(lambda step: patches.batch([step], SETTINGS), threads=threads, depth=8) as prefetcher:
        for step in range(8):  # threads are up, and the cache holds what they need
            prefetcher.get(step)
        begin = time.perf_counter()
        for step in range(8, 8 + count):
            prefetcher.get(step)
        return count / (time.perf_counter() - begin)


def copy_rate(raw: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Return how often a second one thread can copy what an example consists of."""
    box = tuple(slice(0, n) for n in (32, 180, 180))
    patch = tuple(slice(0, n) for n in PATCH)
    ids = labels.astype(np.int64)
    values = raw.astype(np.float32)
    begin = time.perf_counter()
    for _ in range(count):
        for array, part in ((raw, box), (labels, box), (values, patch), (ids, patch)):
            array[part].copy()
    return count / (time.perf_counter() - begin)


def benchmark() -> int:
    args = options(__doc__)
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="elektronn-bench-") as folder:
        file = Path(folder) / "volume.h5"
        make_file(file)
        with h5py.File(file) as opened:
            raw, labels = opened["raw"][:], opened["labels"][:]
        geometry = Geometry(PATCH, PATCH, (0, 0, 0), (1, 1, 1))
        sources: dict[str, Callable[[], Pair]] = {
            "memory": lambda: Pair(raw, labels),
            "HDF5, warm": lambda: Pair(HDF5Source(file, "raw"), HDF5Source(file, "labels")),
        }
        copies = [copy_rate(raw, labels, 50) for _ in range(5)]
        emit("copy", median(copies), "examples/s", **spread(copies))
        for name, make in sources.items():
            patches = Patches([make()], geometry, seed=0, classes=None)
            patches.warm_up()
            rate(patches, 2, 64)
            rates: dict[int, list[float]] = {1: [], 2: []}
            end = time.perf_counter() + (12 if args.quick else 60)
            while time.perf_counter() < end or len(rates[1]) < 3:
                for threads in (1, 2) if len(rates[1]) % 2 else (2, 1):
                    rates[threads].append(rate(patches, threads, 60))
            for threads, values in rates.items():
                of_copy = median(values) / median(copies)
                emit(name, median(values), "examples/s", threads=threads, of_copy=round(of_copy, 3), **spread(values))
            ratios[name] = median([two / one for one, two in zip(rates[1], rates[2], strict=True)])
    lowest = min(ratios.values())
    return verdict("patch_threads", GOAL, ratio=lowest, met=lowest >= GOAL, **ratios)


if __name__ == "__main__":
    main(benchmark)

"""Random boxes out of gzip-compressed HDF5 (chunks of 16×64×64): this package against plain h5py.

One volume of grey values (uint8) and one of ids (uint64, shuffled). Boxes are those of training patches, 23×185×185.
`cold`: nothing that was decoded is kept, by either; `warm`: this package keeps decoded chunks, which fit its budget
here. `ratio` is boxes/s against cold h5py, by CPU time. Contenders take turns; medians over turns.

`scaling` is boxes/s by wall clock of two threads over one. `free` says how many cores there are to be had: the same of
hashing, which needs neither a lock nor memory. `copy` is that of copying arrays of a box's size, which is what a warm
read does, and is limited by the memory of the machine; `of_copy` is a scaling as a part of that one's.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from benchmarking import emit, main, median, options, rounded, spread, verdict

GOAL = 1.6
"""Scaling of cold reads over two threads. Warm ones copy: `patch_threads` measures what a training has of them."""

PLAIN = ("free", "copy")
BOX = (23, 185, 185)
CHUNKS = (16, 64, 64)
Read = Callable[[list[int], list[int]], Any]


def run(read: Read, shape: tuple[int, ...], count: int, threads: int, seed: int) -> tuple[float, float]:
    """Return boxes/s by wall clock and by CPU time, `count` boxes a thread."""
    draws = [
        np.random.default_rng([seed, t]).integers(0, np.subtract(shape, BOX) + 1, (count, 3)) for t in range(threads)
    ]
    gate = threading.Barrier(threads + 1)

    def work(corners: np.ndarray) -> None:
        gate.wait()
        for lo in corners:
            read(lo.tolist(), (lo + BOX).tolist())

    workers = [threading.Thread(target=work, args=(corners,)) for corners in draws]
    for worker in workers:
        worker.start()
    gate.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.join()
    return count * threads / (time.perf_counter() - wall), count * threads / (time.process_time() - cpu)


def contenders(path: Path, key: str, shape: tuple[int, ...]) -> dict[str, tuple[Read, int]]:
    """Return how to read, and how many boxes make a turn of a fraction of a second."""
    import h5py

    from elektronn_tui.data import HDF5Source

    plain = h5py.File(path, "r", rdcc_nbytes=0)[key]
    cold, warm = HDF5Source(path, key, cache_bytes=0), HDF5Source(path, key)
    warm.read((0, 0, 0), shape)
    cold.read((0, 0, 0), (1, 1, 1))
    block, box = bytes(10**6), np.zeros(BOX, plain.dtype)
    few = max(4, 24 // plain.dtype.itemsize)
    return {
        "h5py, cold": (lambda lo, hi: plain[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]], few),
        "cold": (cold.read, few),
        "warm": (warm.read, 800 if plain.dtype.itemsize == 1 else 200),
        "free": (lambda lo, hi: hashlib.sha256(block), 150),
        "copy": (lambda lo, hi: box.copy(), 2400 if plain.dtype.itemsize == 1 else 250),
    }


def compare(path: Path, key: str, shape: tuple[int, ...], turns: int) -> dict[str, dict[str, float]]:
    """Measure and print one dataset."""
    found = contenders(path, key, shape)
    wall: dict[tuple[str, int], list[float]] = {(name, t): [] for name in found for t in (1, 2)}
    cpu: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(turns):
        for name, (read, count) in found.items():
            for threads in (1, 2):
                by_wall, by_cpu = run(read, shape, count, threads, turn)
                wall[name, threads].append(by_wall)
                if threads == 1:
                    cpu[name].append(by_cpu)
    figures: dict[str, dict[str, float]] = {}
    copy = [b / a for a, b in zip(wall["copy", 1], wall["copy", 2], strict=True)]
    for name in found:
        scaling = [b / a for a, b in zip(wall[name, 1], wall[name, 2], strict=True)]
        figures[name] = {
            "ratio": median(cpu[name]) / median(cpu["h5py, cold"]),
            "scaling": median(scaling),
            "of_copy": median([s / c for s, c in zip(scaling, copy, strict=True)]),
        }
        more = {what: rounded(value) for what, value in figures[name].items() if name not in PLAIN or what == "scaling"}
        emit(name, median(cpu[name]), "boxes/s of CPU", dataset=key, **more, **spread(cpu[name]))
    return figures


def benchmark() -> int:
    """Write the volumes, and compare."""
    import h5py

    from elektronn_tui.data import demo_volume

    args = options(__doc__, turns=9)
    shape = (48, 384, 384) if args.quick else (96, 512, 512)
    volume = demo_volume(shape, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=volume.raw, chunks=CHUNKS, compression="gzip")
            ids = volume.ids.astype(np.uint64)
            file.create_dataset("ids", data=ids, chunks=CHUNKS, compression="gzip", shuffle=True)
        found = {key: compare(path, key, shape, 5 if args.quick else args.turns) for key in ("raw", "ids")}
    cold, warm = (min(figures[name]["scaling"] for figures in found.values()) for name in ("cold", "warm"))
    ratios = {f"{key}, {name}": rounded(found[key][name]["ratio"]) for key in found for name in ("cold", "warm")}
    return verdict("read", GOAL, met=cold >= GOAL, ratio=cold, warm_scaling=warm, against_h5py=ratios)


if __name__ == "__main__":
    main(benchmark)

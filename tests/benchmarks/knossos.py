"""Random boxes of a KNOSSOS data set (raw cubes of 128³, uint8), against reading the same files with plain numpy.

Peers: `fromfile` reads the whole cubes that a box touches, as knossos_utils and ELEKTRONN2 do; `memmap` maps them and
copies the box. Ours with one and two loading threads. `cold`: the operating system was told to drop the files, and our
cache is empty; `uncached`: the files are in memory, our cache is empty; `warm`: boxes that were read before. Contenders
take turns; seconds are wall time, medians over turns; `ratio` is the time of the faster peer over ours in the least
favourable of the three, with the default of one thread. Boxes are checked against the volume.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
from benchmarking import emit, main, median, options, spread, verdict

GOAL = 1.0
EDGE = 128
PATCH = (23, 185, 185)


def plain(root: Path, open_cube: Callable[[Path], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that reads the box that begins at a place, from each cube what it holds of it."""

    def read(lo: np.ndarray) -> np.ndarray:
        out, hi = np.empty(PATCH, np.uint8), lo + PATCH
        for place in np.ndindex(*(-(-hi // EDGE) - lo // EDGE)):
            z, y, x = np.add(place, lo // EDGE)
            start = np.array([z, y, x]) * EDGE
            low, high = np.maximum(lo, start), np.minimum(hi, start + EDGE)
            cube = open_cube(root / f"mag1/x{x:04d}/y{y:04d}/z{z:04d}/bench_mag1_x{x:04d}_y{y:04d}_z{z:04d}.raw")
            part = cube[tuple(slice(*ends) for ends in zip(low - start, high - start, strict=True))]
            out[tuple(slice(*ends) for ends in zip(low - lo, high - lo, strict=True))] = part
        return out

    return read


def from_file(path: Path) -> np.ndarray:
    """Read a whole cube."""
    return np.fromfile(path, np.uint8).reshape(EDGE, EDGE, EDGE)


def mapped(path: Path) -> np.ndarray:
    """Map a cube."""
    return np.memmap(path, np.uint8, "r", shape=(EDGE, EDGE, EDGE))


def forget(root: Path) -> None:
    """Have the operating system drop the cubes from memory."""
    for path in root.rglob("*.raw"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def benchmark() -> int:
    """Measure and print."""
    from elektronn_tui.data import KnossosSource, write_knossos

    given = options(__doc__, boxes=24)
    shape, turns = ((256, 512, 512), 3) if given.quick else ((512, 1024, 1024), 5)
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, shape, np.uint8)
    corners = rng.integers(0, np.subtract(shape, PATCH), (given.boxes, 3))
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="elektronn-bench-") as folder:
        root = Path(folder)
        write_knossos(volume, root, experiment="bench")
        limit = 2 * volume.nbytes
        sources = {f"ours, {n} threads": KnossosSource(root, threads=n, cache_bytes=limit) for n in (1, 2)}
        contenders: dict[str, Callable[[np.ndarray], Any]] = {
            "fromfile": plain(root, from_file),
            "memmap": plain(root, mapped),
        } | {name: lambda lo, s=s: s.read(lo, lo + PATCH)[0] for name, s in sources.items()}  # type: ignore[misc]
        for name, read in contenders.items():
            for lo in corners[:3]:
                cut = tuple(slice(a, a + n) for a, n in zip(lo, PATCH, strict=True))
                assert (read(lo) == volume[cut]).all(), name
        del volume
        for _ in range(turns):
            for state in ("cold", "uncached", "warm"):
                for name, read in contenders.items():
                    if state == "cold":
                        forget(root)
                    if state != "warm" and name in sources:
                        sources[name].close()
                        _ = sources[name].shape
                    begin = time.perf_counter()
                    for lo in corners:
                        read(lo)
                    times.setdefault((state, name), []).append((time.perf_counter() - begin) / len(corners))
        for source in sources.values():
            source.close()
    for (state, name), taken in times.items():
        emit(f"{state}, {name}", 1e3 * median(taken), "ms/box", **spread([1e3 * t for t in taken]))
    typical = {key: median(taken) for key, taken in times.items()}
    ratios = {
        f"{state}_{n}": min(typical[state, "fromfile"], typical[state, "memmap"]) / typical[state, f"ours, {n} threads"]
        for state in ("cold", "uncached", "warm")
        for n in (1, 2)
    }
    worst = min(ratio for key, ratio in ratios.items() if key.endswith("_1"))
    return verdict("knossos", GOAL, ratio=worst, met=worst >= GOAL, **ratios)


if __name__ == "__main__":
    main(benchmark)

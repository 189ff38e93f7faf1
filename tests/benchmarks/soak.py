"""50,000 examples: memory, open files and threads stay what they were after the first ones.

A volume of 128×512×512 voxels uint8 with labels feeds patches of 16×64×64 through two data threads: from memory, from
chunked and compressed HDF5 that is not kept in memory, and from memory with every augmentation at each example. The
first 1000 examples (a tenth, of more) let caches fill and kernels be loaded. The figure of a contender is how much the
memory of the process (RSS) grew from there to the end, in percent, each the median of ten samples; `value` is the
largest of them. Open files and threads must be the same in number, and the caches of sources below their budgets.

    python tests/benchmarks/soak.py [--quick] [--examples N]
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, fields
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy and numba read it

import h5py  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from benchmarking import emit, main, options, verdict  # noqa: E402

from elektronn_tui.data import AugmentSettings, DataStats, Geometry, Pair, Patches, Prefetcher  # noqa: E402

GOAL = 2.0
GEOMETRY = Geometry((16, 64, 64), (12, 48, 48), (2, 8, 8))
SHAPE = (128, 512, 512)
BATCH = 10
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Record:
    """What the process held, again and again."""

    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self) -> None:
        """Add a sample."""
        self.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE)
        self.files.append(len(os.listdir("/proc/self/fd")))
        self.threads.append(len(os.listdir("/proc/self/task")))

    def growth(self) -> float:
        """Return how much the memory grew, in percent."""
        return 100 * (statistics.median(self.resident[-10:]) / statistics.median(self.resident[:10]) - 1)

    def flat(self) -> bool:
        """Tell whether files and threads stayed as many."""
        return len({*self.files}) == len({*self.threads}) == 1


def volumes(folder: Path) -> tuple[Pair, Pair]:
    """Return one volume in memory and as a file."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, SHAPE, dtype=np.uint8)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    labels = ((z // 20 + y // 30 + x // 30) % 2).astype(np.uint8)
    with h5py.File(folder / "volume.h5", "w") as file:
        for key, array in (("raw", raw), ("labels", labels)):
            file.create_dataset(key, data=array, chunks=(16, 64, 64), compression="gzip", compression_opts=1)
    stored = Pair(f"{folder / 'volume.h5'}:raw", f"{folder / 'volume.h5'}:labels", in_memory=False)
    return Pair(raw, labels), stored


def soak(pair: Pair, settings: AugmentSettings, examples: int) -> tuple[Record, DataStats]:
    """Make examples, and take a hundred samples."""
    patches = Patches([pair], GEOMETRY, seed=1, classes=2)
    patches.warm_up()
    record, batches, warm = Record(), examples // BATCH, max(1000, examples // 10) // BATCH
    with Prefetcher(lambda step: patches.batch(range(step * BATCH, (step + 1) * BATCH), settings), threads=2) as made:
        for step in range(warm + batches):
            made.get(step)
            if step >= warm and step % max(batches // 100, 1) == 0:
                record.take()
    return record, patches.stats()


def within_budget(stats: DataStats) -> bool:
    """Tell whether every cache that says so holds no more than its limit."""
    caches = [source.cache for source in stats.sources if source.cache]
    return all(cache["bytes"] <= cache["limit"] for cache in caches if {"bytes", "limit"} <= set(cache))


def benchmark() -> int:
    """Let every contender run in turn."""
    args = options(__doc__, examples=50_000)
    examples = 2500 if args.quick else args.examples
    everything = {f.name: 1.0 for f in fields(AugmentSettings) if isinstance(f.default, float)}
    with tempfile.TemporaryDirectory(prefix="elektronn-soak-") as folder:
        memory, stored = volumes(Path(folder))
        contenders = {
            "memory": (memory, AugmentSettings(warp=0.5)),
            "hdf5": (stored, AugmentSettings(warp=0.5)),
            "augmented": (memory, AugmentSettings(**everything)),
        }
        grown, steady = [], True
        for name, (pair, settings) in contenders.items():
            begin = time.process_time()
            record, stats = soak(pair, settings, examples)
            fine = record.flat() and within_budget(stats)
            emit(
                name,
                record.growth(),
                "% of RSS",
                examples=stats.examples,
                rss_mb=round(record.resident[-1] / 1e6),
                files=record.files[-1],
                threads=record.threads[-1],
                flat=fine,
                ms_an_example=round(1e3 * (time.process_time() - begin) / stats.examples, 3),
                cost=stats.summary,
            )
            grown.append(record.growth())
            steady = steady and fine
    return verdict("soak", GOAL, met=max(grown) < GOAL and steady, value=max(grown), files_threads_caches_flat=steady)


if __name__ == "__main__":
    main(benchmark)

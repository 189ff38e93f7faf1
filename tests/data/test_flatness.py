"""Thousands of examples leave nothing behind: counted in blocks of memory, open files and threads, not in seconds."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest

from elektronn_tui.data import AffinitySource, AugmentSettings, Geometry, Pair, Patches, Prefetcher

GEOMETRY = Geometry((6, 12, 12), (4, 8, 8), (1, 2, 2))
VARIED = AugmentSettings(**{f.name: 0.5 for f in fields(AugmentSettings) if isinstance(f.default, float)})
FILES = Path("/proc/self/fd")


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Pair]:
    rng = np.random.default_rng(0)
    raw, labels = rng.integers(0, 255, (2, 24, 48, 48), dtype=np.uint8)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("raw", data=raw, chunks=(8, 16, 16), compression="gzip")
        file.create_dataset("labels", data=labels, chunks=(8, 16, 16))
    return {
        "memory": Pair(raw, labels),
        "hdf5": Pair(f"{tmp_path}/v.h5:raw", f"{tmp_path}/v.h5:labels", in_memory=False),
        "affinities": Pair(raw, AffinitySource(labels)),
    }


def growth(work: Callable[[], object], times: int) -> int:
    """Return how many blocks of memory Python holds more after some calls than before: the least of four counts.

    Something may once become larger or be kept for later; what leaks does so all the time.
    """
    held = []
    for _ in range(5):
        for _ in range(times):
            work()
        gc.collect()
        held.append(sys.getallocatedblocks())
    return min(after - before for before, after in itertools.pairwise(held))


@pytest.mark.parametrize("kind", ["memory", "hdf5", "affinities"])
def test_examples_leave_nothing_behind(kind: str, pairs: dict[str, Pair]) -> None:
    patches = Patches([pairs[kind]], GEOMETRY, seed=1)
    patches.warm_up()
    numbers = itertools.count()
    assert growth(lambda: patches.batch([next(numbers)], VARIED), 100) < 50  # not one an example


@pytest.mark.skipif(not FILES.exists(), reason="open files are counted in /proc")
def test_files_and_threads_are_as_many_as_before(pairs: dict[str, Pair]) -> None:
    pair = pairs["hdf5"]
    patches = Patches([pair], GEOMETRY, seed=1)

    def used() -> tuple[int, int]:
        return len(os.listdir(FILES)), threading.active_count()

    def work(rounds: int) -> None:
        for step in range(rounds):
            with Prefetcher(lambda step: patches.batch([step], VARIED), threads=2) as prefetcher:
                prefetcher.get(step)
            pair.close()

    work(2)
    before = used()
    work(20)
    assert used() == before

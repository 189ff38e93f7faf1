from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from elektronn_tui.data import (
    AffinitySource,
    ArrayExamples,
    ArraySource,
    AugmentSettings,
    CroppedSource,
    DataStats,
    Geometry,
    HDF5Source,
    ImageSettings,
    Pair,
    Patches,
    SourceStats,
)
from elektronn_tui.data.counters import Counters, byte_size
from elektronn_tui.errors import DataError

GEOMETRY = Geometry((4, 8, 8), (2, 4, 4), (1, 2, 2))
PLAIN = AugmentSettings()


@pytest.fixture
def pair() -> Pair:
    rng = np.random.default_rng(0)
    raw = ArraySource(rng.integers(0, 255, (12, 24, 24), dtype=np.uint8), name="raw")
    return Pair(raw, ArraySource(rng.integers(0, 2, (12, 24, 24), dtype=np.uint8), name="labels"))


def test_examples_reads_and_bytes_are_those_that_were_made(pair: Pair) -> None:
    patches = Patches([pair], GEOMETRY, seed=1)
    assert patches.stats() == DataStats()
    assert repr(patches.stats()) == "no example was made"
    patches.batch(range(5), PLAIN)
    patches.example(9, PLAIN)
    stats = patches.stats()
    assert (stats.examples, stats.redraws) == (6, 0)
    raw, labels = stats.sources
    assert (raw.name, raw.reads, raw.bytes) == ("raw", 6, 6 * 4 * 8 * 8)
    assert (labels.name, labels.reads, labels.bytes) == ("labels", 6, 6 * 2 * 4 * 4)
    assert stats.reading == pytest.approx(raw.seconds + labels.seconds)
    assert min(stats.reading, stats.sampling) > 0


def test_varied_values_are_timed_apart(pair: Pair) -> None:
    plain, varied = (Patches([pair], GEOMETRY, seed=1) for _ in range(2))
    plain.batch(range(40), PLAIN)
    varied.batch(range(40), AugmentSettings(grey=1.0))
    assert varied.stats().augmenting > 5 * plain.stats().augmenting


def test_warps_that_find_no_room_are_counted(pair: Pair) -> None:
    roomy = Patches([pair], GEOMETRY, seed=1)
    tight = Patches([pair.part(pair.region, ((0, 0, 0), (12, 9, 9)))], GEOMETRY, seed=1)
    for patches in (roomy, tight):
        patches.batch(range(20), AugmentSettings(warp=1.0))
    assert roomy.stats().redraws < 20 < tight.stats().redraws
    assert f"{tight.stats().redraws} redraws" in tight.stats().summary


def test_every_thread_is_counted_once(pair: Pair) -> None:
    patches = Patches([pair], GEOMETRY, seed=1)
    threads = [threading.Thread(target=patches.batch, args=(range(50), PLAIN)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = patches.stats()
    assert stats.examples == 200
    assert [source.reads for source in stats.sources] == [200, 200]


def test_affinities_count_what_is_read_of_the_ids() -> None:
    ids = ArraySource(np.ones((12, 24, 24), np.int64), name="ids")
    patches = Patches([Pair(np.zeros((12, 24, 24), np.uint8), AffinitySource(ids))], GEOMETRY, seed=1)
    patches.batch(range(3), AugmentSettings(warp=1.0))
    assert {source.name: source.reads for source in patches.stats().sources} == {"array": 3, "ids": 3}


def test_sources_of_one_name_are_told_apart() -> None:
    counters = Counters()
    for value in (0, 1):
        source = ArraySource(np.full((2, 2, 2), value, np.uint8))
        counters.mine().read(source, (0, 0, 0), (1, 1, 1))
        del source
    assert [(source.name, source.reads) for source in counters.total().sources] == [("array", 1)] * 2


@dataclass(frozen=True)
class Hits:
    hits: int
    misses: int


class Cached(ArraySource):
    def stats(self) -> Hits:
        return Hits(3, 2)


def test_a_cache_behind_a_source_is_told_of() -> None:
    cached = Cached(np.zeros((4, 4, 4), np.uint8), name="far")
    counters = Counters()
    counters.mine().read(CroppedSource(cached, (0, 0, 0), (2, 2, 2)), (0, 0, 0), (1, 1, 1))
    (source,) = counters.total().sources
    assert source.cache == {"hits": 3, "misses": 2}
    assert "far: 1 reads, 1 bytes" in repr(counters.total())
    assert "cache: hits 3, misses 2" in repr(counters.total())


def test_a_cache_that_can_not_tell_does_not_spoil_the_rest() -> None:
    class Gone(ArraySource):
        @property
        def stats(self) -> Hits:
            raise DataError("the file is gone")

    counters = Counters()
    counters.mine().read(Gone(np.zeros((4, 4, 4), np.uint8)), (0, 0, 0), (1, 1, 1))
    assert [(source.reads, source.cache) for source in counters.total().sources] == [(1, None)]


def test_images_are_counted_too() -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 1, 8, 8), dtype=np.uint8)
    examples = ArrayExamples(images, np.zeros((20, 1), np.int64), patch_shape=(8, 8))
    examples.batch(range(7), ImageSettings(grey=1.0))
    stats = examples.stats()
    assert stats.examples == 7
    assert min(stats.sampling, stats.augmenting) > 0
    assert stats.summary.startswith("7 examples; reading 0 ms, sampling ")


def test_what_is_printed_stays_short() -> None:
    sources = tuple(SourceStats(f"volume-{k}", k, k * 10**6, float(k)) for k in range(1, 100))
    lines = repr(DataStats(examples=1, sources=sources)).splitlines()
    assert len(lines) == 14
    assert lines[1].startswith("  volume-99: 99 reads, 99 MB, 99 s")
    assert lines[-1] == "  and 87 sources more"


def test_a_read_that_fails_is_not_counted(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"] = np.zeros((4, 4, 4), np.uint8)
    source, counters = HDF5Source(tmp_path / "v.h5", "raw"), Counters()
    counters.mine().read(source, (0, 0, 0), (4, 4, 4))
    with pytest.raises(ValueError, match="leaves"):
        counters.mine().read(source, (0, 0, 0), (5, 4, 4))
    assert [(s.reads, s.bytes) for s in counters.total().sources] == [(1, 64)]


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e15, "2e+03 TB")])
def test_sizes(count: float, text: str) -> None:
    assert byte_size(count) == text

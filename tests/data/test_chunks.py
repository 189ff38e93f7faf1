from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data.chunks import ChunkCache, ChunkedArray, PlacedFile, row_blocks
from elektronn_tui.errors import DataError


def numbered(size: int = 10) -> Callable[[tuple[int, ...]], np.ndarray]:
    return lambda place: np.full(size, place[0], np.uint8)


def test_what_was_used_last_is_kept() -> None:
    cache = ChunkCache(30)
    for numbers in ([0, 1, 2], [0], [3], [0, 1]):
        assert [int(chunk[0]) for chunk, _ in cache.get([(number,) for number in numbers], numbered())] == numbers
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.evicted, stats.bytes) == (2, 5, 2, 30)


def test_more_chunks_than_fit_are_all_delivered() -> None:
    cache = ChunkCache(15)
    found = cache.get([(number,) for number in range(20)], numbered())
    assert [int(chunk.max()) for chunk, _ in found] == list(range(20))
    assert [chunk.ctypes.data for chunk, _ in found] == [address for _, address in found]
    assert cache.stats().bytes == 10


def test_two_threads_that_want_one_chunk_decode_it_once() -> None:
    cache, loads = ChunkCache(), []
    started, release = threading.Event(), threading.Event()

    def load(place: tuple[int, ...]) -> np.ndarray:
        loads.append(place[0])
        if place == (0,):
            started.set()
            assert release.wait(20)
        return np.full(3, place[0], np.uint8)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, [(0,)], load)
        assert started.wait(20)
        # What nobody has begun is decoded before it waits for what another thread is at.
        second = pool.submit(cache.get, [(0,), (1,)], lambda place: (release.set(), load(place))[1])
        assert [int(chunk[0]) for chunk, _ in second.result(20)] == [0, 1]
        assert first.result(20)[0][0].tolist() == [0, 0, 0]
    assert sorted(loads) == [0, 1]
    assert cache.stats().misses == 2


def test_errors_reach_all_that_wait_and_are_not_kept() -> None:
    cache = ChunkCache()
    started, release = threading.Event(), threading.Event()

    def fail(place: tuple[int, ...]) -> np.ndarray:
        started.set()
        assert release.wait(20)
        raise OSError("gone")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, [(0,)], fail)
        assert started.wait(20)
        second = pool.submit(cache.get, [(0,), (1,)], lambda place: (release.set(), numbered()(place))[1])
        for future in (first, second):
            with pytest.raises(OSError, match="gone"):
                future.result(20)
    assert cache.get([(0,)], numbered())[0][0][0] == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_box_of_any_chunks_is_the_numpy_slice(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(2, 4))
    shape = [data.draw(st.integers(1, 9)) for _ in range(ndim)]
    chunks = [data.draw(st.integers(1, n + 1)) for n in shape]
    stored = np.arange(np.prod(shape), dtype=data.draw(st.sampled_from(["u1", "u2", "f4", "u8"]))).reshape(shape)
    loaded = []

    def load(place: tuple[int, ...]) -> np.ndarray:
        loaded.append(place)
        lo = [p * c for p, c in zip(place, chunks, strict=True)]
        cut = stored[tuple(slice(l, l + c) for l, c in zip(lo, chunks, strict=True))]
        chunk = np.zeros(chunks, stored.dtype)
        chunk[tuple(map(slice, cut.shape))] = cut
        return chunk

    array = ChunkedArray(shape, chunks, stored.dtype, load, ChunkCache(0))
    lo = [data.draw(st.integers(0, n - 1)) for n in shape]
    hi = [data.draw(st.integers(l + 1, n)) for l, n in zip(lo, shape, strict=True)]
    cut = tuple(map(slice, lo, hi))
    np.testing.assert_array_equal(array[cut], stored[cut])
    touched = np.prod([-(-h // c) - l // c for l, h, c in zip(lo, hi, chunks, strict=True)])
    assert len(loaded) == len(set(loaded)) == touched
    np.testing.assert_array_equal(array[(slice(None), *cut[1:])], stored[(slice(None), *cut[1:])])


def test_placed_files(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(100)))
    file = PlacedFile(path, os.open(path, os.O_RDONLY))
    assert file.read(10, 5) == bytes(range(10, 15))
    with pytest.raises(DataError, match="ends at byte 100 where 7 more belong"):
        file.read(97, 10)
    file.check()
    with path.open("ab") as more:
        more.write(b"x")
    with pytest.raises(DataError, match="was changed"):
        file.check()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of descriptors here")
def test_descriptors_are_closed_with_the_last_reader(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1")
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    file = PlacedFile(tmp_path / "f", descriptor)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((100, 1250, 1250), (1, 104, 1250)),
        ((40, 7, 9), (40, 7, 9)),
        ((9, 300_000), (1, 131_072)),
        ((5, 10, 1, 99), (5, 10, 1, 99)),
    ],
)
def test_blocks_of_rows(shape: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    assert row_blocks(shape, 1) == blocks

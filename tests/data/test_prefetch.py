from __future__ import annotations

import threading
import traceback

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import Prefetcher
from elektronn_tui.errors import DataError

TIMEOUT = 20


def value(batch: object) -> int:
    return int(batch["raw"])  # type: ignore[index]


class Recipe:
    """What a batch depends on; changed by hand between steps like a control."""

    def __init__(self) -> None:
        self.setting = 0

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        return {"raw": np.asarray(step * 1000 + self.setting)}


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_batches_come_in_order(threads: int) -> None:
    with Prefetcher(Recipe(), threads=threads, depth=3) as prefetcher:
        assert [value(prefetcher.get(s)) for s in range(1, 200)] == [s * 1000 for s in range(1, 200)]
        assert prefetcher.stats.batches == 199
        assert prefetcher.stats.waited == pytest.approx(prefetcher.wait_time)


@settings(max_examples=150, deadline=None)
@given(
    threads=st.sampled_from([0, 1, 2, 4]),
    depth=st.integers(1, 6),
    edits=st.dictionaries(st.integers(1, 40), st.integers(1, 999), max_size=12),
    jumps=st.dictionaries(st.integers(2, 40), st.integers(1, 40), max_size=3),
)
def test_any_edits_and_jumps_give_what_a_serial_loop_gives(threads: int, depth: int, edits: dict, jumps: dict) -> None:
    recipe, expected, got, jumps = Recipe(), [], [], dict(jumps)
    with Prefetcher(recipe, threads=threads, depth=depth) as prefetcher:
        step = 1
        while step <= 40:
            if step in edits:
                recipe.setting = edits[step]
                prefetcher.invalidate(step)
            got.append(value(prefetcher.get(step)))
            expected.append(step * 1000 + recipe.setting)
            step += 1
            if step in jumps:
                # A jump back shows batches of the settings in force, like the loop that calls make_batch itself.
                step = jumps.pop(step)
                prefetcher.invalidate(step)
    assert got == expected


@pytest.mark.parametrize("threads", [1, 4])
def test_edits_while_threads_are_at_work(threads: int) -> None:
    recipe = Recipe()
    rng = np.random.default_rng(0)

    def make(step: int) -> dict[str, np.ndarray]:
        before = recipe.setting
        np.linalg.svd(np.full((12, 12), step, float))
        return {"raw": np.asarray(step * 1000 + before)}

    with Prefetcher(make, threads=threads, depth=5) as prefetcher:
        for step in range(1, 600):
            if rng.random() < 0.3:
                recipe.setting = int(rng.integers(1000))
                prefetcher.invalidate(step)
            assert value(prefetcher.get(step)) == step * 1000 + recipe.setting


def test_a_batch_begun_before_the_edit_is_not_handed_over() -> None:
    begun, go = threading.Event(), threading.Event()
    recipe = Recipe()

    def make(step: int) -> dict[str, np.ndarray]:
        batch = recipe(step)
        if not begun.is_set():
            begun.set()
            assert go.wait(TIMEOUT)
        return batch

    with Prefetcher(make, threads=1) as prefetcher:
        prefetcher.start(1)
        assert begun.wait(TIMEOUT)
        recipe.setting = 5
        prefetcher.invalidate(1)
        go.set()
        assert value(prefetcher.get(1)) == 1005


@pytest.mark.parametrize(("threads", "depth"), [(1, 1), (1, 4), (4, 4)])
def test_no_more_than_depth_is_made_ahead(threads: int, depth: int) -> None:
    last = 1 + max(depth, threads)
    made: list[int] = []
    all_made, too_many = threading.Event(), threading.Event()

    def make(step: int) -> dict[str, np.ndarray]:
        made.append(step)
        if set(made) >= set(range(1, last + 1)):
            all_made.set()
        if step > last:
            too_many.set()
        return {"raw": np.asarray(step)}

    with Prefetcher(make, threads=threads, depth=depth) as prefetcher:
        prefetcher.get(1)
        assert all_made.wait(TIMEOUT)
        assert not too_many.wait(0.1)
    assert sorted(made) == list(range(1, last + 1))


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_an_exception_surfaces_at_its_step_with_the_traceback_of_the_thread(threads: int) -> None:
    broken = {3}

    def read_volume(step: int) -> None:
        if step in broken:
            raise DataError(f"no voxels for step {step}")

    def make(step: int) -> dict[str, np.ndarray]:
        read_volume(step)
        return {"raw": np.asarray(step)}

    with Prefetcher(make, threads=threads) as prefetcher:
        assert [value(prefetcher.get(s)) for s in (1, 2)] == [1, 2]
        for _ in range(2):
            with pytest.raises(DataError, match="no voxels for step 3") as caught:
                prefetcher.get(3)
            assert "read_volume" in "".join(traceback.format_exception(caught.value))
        broken.clear()
        prefetcher.invalidate(3)
        assert [value(prefetcher.get(s)) for s in (3, 4, 5)] == [3, 4, 5]


def test_even_a_system_exit_does_not_leave_get_waiting() -> None:
    def make(step: int) -> dict[str, np.ndarray]:
        raise SystemExit(3)

    with Prefetcher(make, threads=1) as prefetcher, pytest.raises(SystemExit):
        prefetcher.get(1)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_close_ends_the_threads_and_a_waiting_get(threads: int) -> None:
    before = set(threading.enumerate())  # those of other tests may not be collected yet
    prefetcher = Prefetcher(Recipe(), threads=threads)
    prefetcher.get(1)
    prefetcher.close()
    prefetcher.close()
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("elektronn-data")]
    with pytest.raises(RuntimeError, match="closed"):
        prefetcher.get(2)


def test_close_frees_a_get_that_waits_in_another_thread() -> None:
    begun, go, errors = threading.Event(), threading.Event(), []

    def make(step: int) -> dict[str, np.ndarray]:
        begun.set()
        assert go.wait(TIMEOUT)
        return {"raw": np.asarray(step)}

    prefetcher = Prefetcher(make, threads=1)

    def wait() -> None:
        try:
            prefetcher.get(1)
        except RuntimeError as error:
            errors.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(TIMEOUT)
    prefetcher.close(timeout=0)
    waiter.join(TIMEOUT)
    go.set()
    prefetcher.close()
    assert errors == ["the prefetcher is closed"]


def test_waiting_is_counted() -> None:
    go = threading.Event()

    def make(step: int) -> dict[str, np.ndarray]:
        assert go.wait(TIMEOUT)
        return {"raw": np.asarray(step)}

    with Prefetcher(make, threads=1, depth=2) as prefetcher:
        assert prefetcher.stats == type(prefetcher.stats)(0, 0.0, 0.0, 0, 2)
        threading.Timer(0.05, go.set).start()
        prefetcher.get(1)
        assert prefetcher.wait_time > 0.02
        assert prefetcher.stats.last_wait == prefetcher.wait_time


@pytest.mark.parametrize("arguments", [{"threads": -1}, {"depth": 0}])
def test_wrong_arguments(arguments: dict) -> None:
    with pytest.raises(ValueError, match="threads ≥ 0 and depth ≥ 1"):
        Prefetcher(Recipe(), **arguments)

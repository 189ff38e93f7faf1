"""Batches made ahead of time by threads, handed over in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["Batch", "PrefetchStats", "Prefetcher"]

Batch: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PrefetchStats:
    """How well the threads keep up.

    Attributes
    ----------
    batches
        Batches handed over.
    waited
        Seconds that `Prefetcher.get` has waited for them, in all.
    last_wait
        Seconds that it waited for the last one.
    ready
        Batches that lie finished.
    depth
        Batches that may lie finished or be in work.
    """

    batches: int
    waited: float
    last_wait: float
    ready: int
    depth: int


class _Task:
    """One step's batch: in work, finished, or failed. A task that was dropped is no longer in the table."""

    __slots__ = ("batch", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.batch: Batch | None = None
        self.error: BaseException | None = None


class Prefetcher:
    """Makes the batches of coming steps in threads, and hands them over in order.

    What is handed over is what ``make_batch(step)`` returns, whatever the number of threads; an exception in it
    is raised by `get` for that step, with the traceback of the thread.

    Parameters
    ----------
    make_batch
        Makes the batch of a step. Called from the threads, for several steps at once.
    threads
        Number of threads; 0 makes each batch inside `get`.
    depth
        Steps, from the next one on, whose batches may be made ahead.

    Examples
    --------
    >>> with Prefetcher(lambda step: {"raw": np.full(2, step)}, threads=2) as prefetcher:
    ...     [int(prefetcher.get(step)["raw"][0]) for step in (1, 2, 3)]
    [1, 2, 3]
    """

    def __init__(self, make_batch: Callable[[int], Batch], *, threads: int = 1, depth: int = 4) -> None:
        if threads < 0 or depth < 1:
            raise ValueError(f"Prefetcher: threads={threads}, depth={depth}; threads ≥ 0 and depth ≥ 1 are needed.")
        self._make_batch = make_batch
        self._depth = max(depth, threads)
        self._changed = threading.Condition()
        self._tasks: dict[int, _Task] = {}
        # None until the first `get`: which step comes first is not known before.
        self._next: int | None = None
        self._closed = False
        self._batches = 0
        self._waited = 0.0
        self._last_wait = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"elektronn-data-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, step: int) -> None:
        """Begin to make batches from `step` on, before the first `get`."""
        with self._changed:
            self._go_to(step)

    def get(self, step: int) -> Batch:
        """Return the batch of `step`; wait for it if it is not finished.

        Steps are meant to be asked for in order; any other step starts the threads anew from there. After an
        exception, asking for the same step again makes its batch again.

        Raises
        ------
        Exception
            Whatever ``make_batch(step)`` raised.
        RuntimeError
            The prefetcher is closed.
        """
        begin = time.perf_counter()
        if not self._threads:
            if self._closed:
                raise RuntimeError("the prefetcher is closed")
            batch = self._make_batch(step)
            self._handed_over(begin)
            return batch
        with self._changed:
            self._go_to(step)
            while True:
                if self._closed:
                    raise RuntimeError("the prefetcher is closed")
                # Looked up anew each time: `invalidate` replaces the task.
                task = self._tasks.get(step)
                if task is not None and task.done:
                    break
                self._changed.wait()
            del self._tasks[step]
            if task.error is None:
                self._next = step + 1
            self._changed.notify_all()
        if task.error is not None:
            task.error.add_note(f"raised while a data thread made the batch of step {step}")
            raise task.error
        self._handed_over(begin)
        assert task.batch is not None
        return task.batch

    def invalidate(self, from_step: int) -> None:
        """Drop the batches of `from_step` and later, finished or in work; they are made again.

        Call it after a change of what `make_batch` depends on: no batch that is handed over for these steps was
        begun before this call.
        """
        with self._changed:
            for step in [s for s in self._tasks if s >= from_step]:
                del self._tasks[step]
            self._changed.notify_all()

    @property
    def stats(self) -> PrefetchStats:
        """Counts and waiting times so far."""
        with self._changed:
            ready = sum(task.done for task in self._tasks.values())
            return PrefetchStats(self._batches, self._waited, self._last_wait, ready, self._depth)

    @property
    def wait_time(self) -> float:
        """Seconds that `get` has waited, in all."""
        return self._waited

    def close(self, timeout: float = 30.0) -> None:
        """End the threads, each after the batch that it is at. Waiting `get` calls raise.

        Parameters
        ----------
        timeout
            Seconds to wait for them; a thread that hangs in `make_batch` is left behind (it is a daemon).
        """
        with self._changed:
            self._closed = True
            self._tasks.clear()
            self._changed.notify_all()
        end = time.monotonic() + timeout
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _go_to(self, step: int) -> None:
        if self._next != step:
            # What lies within the new window stays: example i does not depend on the way to it.
            for other in [s for s in self._tasks if not step <= s < step + self._depth]:
                del self._tasks[other]
            self._next = step
            self._changed.notify_all()

    def _handed_over(self, begin: float) -> None:
        self._last_wait = time.perf_counter() - begin
        self._waited += self._last_wait
        self._batches += 1

    def _claim(self) -> tuple[int, _Task] | None:
        """Take the first step of the window that nobody is at; wait for one. None: the end."""
        with self._changed:
            while not self._closed:
                if self._next is not None:
                    for step in range(self._next, self._next + self._depth):
                        if step not in self._tasks:
                            task = self._tasks[step] = _Task()
                            return step, task
                self._changed.wait()
        return None

    def _work(self) -> None:
        while (claim := self._claim()) is not None:
            step, task = claim
            batch: Batch | None = None
            failure: BaseException | None = None
            try:
                batch = self._make_batch(step)
            except BaseException as error:  # noqa: BLE001 (the thread's border: `get` raises it)
                failure = error
            with self._changed:
                task.batch, task.error, task.done = batch, failure, True
                if self._tasks.get(step) is task:
                    self._changed.notify_all()
            del claim, task, batch, failure

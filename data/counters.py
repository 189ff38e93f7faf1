"""What making examples costs: reads, bytes, seconds and caches, counted by each thread for itself."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError

from .sources import Source

__all__ = ["Counters", "DataStats", "SourceStats", "Tally"]

_SHOWN = 12
_BEHIND = ("source", "ids")


@dataclass(frozen=True)
class SourceStats:
    """What was read of one source.

    Attributes
    ----------
    name
        Of the source.
    reads
        Boxes.
    bytes
        Size of these boxes in the source's dtype; what came from a disk may be less, or nothing.
    seconds
        Spent in `read`, over all threads.
    cache
        What the source, or one behind it, tells of its cache: the fields of what its ``stats`` returns. None where it
        has no such method or property.
    """

    name: str
    reads: int
    bytes: int
    seconds: float
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, repr=False)
class DataStats:
    """What all examples so far cost; prints as a few lines.

    Attributes
    ----------
    examples
        Made, those that were dropped again after an edit of a control included.
    redraws
        Warps for which there was no room, so that weaker ones took their place.
    rejected
        Patches in whose place others were drawn, as too much of their target doesn't count.
    reading, sampling, augmenting
        Seconds, over all threads: in the sources; drawing, warping and scaling; varying values.
    waited
        Seconds that the training loop waited for batches; 0 where there is none.
    sources
        One entry for each source.
    """

    examples: int = 0
    redraws: int = 0
    rejected: int = 0
    reading: float = 0.0
    sampling: float = 0.0
    augmenting: float = 0.0
    waited: float = 0.0
    sources: Sequence[SourceStats] = ()

    @property
    def summary(self) -> str:
        """One line."""
        if not self.examples:
            return "no example was made"
        each = [
            f"{what} {1e3 * seconds / self.examples:.3g} ms"
            for what, seconds in (
                ("reading", self.reading),
                ("sampling", self.sampling),
                ("augmenting", self.augmenting),
            )
        ]
        reads, size = sum(s.reads for s in self.sources), sum(s.bytes for s in self.sources)
        read = [f"{reads} reads of {byte_size(size)}"] if reads else []
        redraws = [f"{self.redraws} redraws"] if self.redraws else []
        redraws += [f"{self.rejected} rejected"] if self.rejected else []
        waited = [f"the loop waited {self.waited:.3g} s"] if self.waited else []
        return f"{self.examples} examples; {'; '.join([', '.join([*read, *redraws, *each]) + ' an example', *waited])}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def __repr__(self) -> str:
        lines = [self.summary]
        for source in sorted(self.sources, key=lambda s: -s.seconds)[:_SHOWN]:
            line = f"  {source.name}: {source.reads} reads, {byte_size(source.bytes)}, {source.seconds:.3g} s"
            if source.cache:
                line += "; cache: " + ", ".join(f"{name} {value}" for name, value in source.cache.items())
            lines.append(line)
        if len(self.sources) > _SHOWN:
            lines.append(f"  and {len(self.sources) - _SHOWN} sources more")
        return "\n".join(lines)


class Tally:
    """What one thread counts. Nobody else writes to it, so that nothing has to be locked."""

    __slots__ = ("_sources", "augmenting", "examples", "redraws", "rejected", "seconds")

    def __init__(self) -> None:
        self.examples = 0
        self.redraws = 0
        self.rejected = 0
        self.seconds = 0.0
        self.augmenting = 0.0
        # By identity: two sources may have one name. The source is kept, so that its id stays its own.
        self._sources: dict[int, list[Any]] = {}

    def read(self, source: Source, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return ``source.read(lo, hi)``, counted."""
        begin = perf_counter()
        box = source.read(lo, hi)
        entry = self._sources.get(id(source))
        if entry is None:
            entry = self._sources[id(source)] = [source, 0, 0, 0.0]
        entry[1] += 1
        entry[2] += box.nbytes
        entry[3] += perf_counter() - begin
        return box

    def made(self, count: int, begin: float, read: float, end: float) -> None:
        """Count examples: begun, their voxels there, and ready, by `time.perf_counter`."""
        self.examples += count
        self.seconds += end - begin
        self.augmenting += end - read

    def sources(self) -> list[list[Any]]:
        """Return an entry (source, reads, bytes, seconds) for each source that was read."""
        return list(self._sources.values())


class Counters:
    """The tallies of all threads, and their sum.

    Examples
    --------
    >>> counters = Counters()
    >>> counters.mine().redraws += 1
    >>> counters.total().redraws
    1
    """

    def __init__(self) -> None:
        self._tallies: list[Tally] = []
        self._local = threading.local()

    def mine(self) -> Tally:
        """Return the calling thread's tally."""
        try:
            tally: Tally = self._local.tally
        except AttributeError:
            tally = self._local.tally = Tally()
            self._tallies.append(tally)
        return tally

    def total(self) -> DataStats:
        """Return the sum of all threads' tallies; an example that is in work may be counted in part."""
        tallies = list(self._tallies)
        found: dict[int, list[Any]] = {}
        for tally in tallies:
            for source, *counts in tally.sources():
                before = found.setdefault(id(source), [source, 0, 0, 0.0])
                before[1:] = [a + b for a, b in zip(before[1:], counts, strict=True)]
        sources = tuple(SourceStats(s.name, reads, size, took, _cache(s)) for s, reads, size, took in found.values())
        reading, augmenting = sum(s.seconds for s in sources), sum(t.augmenting for t in tallies)
        return DataStats(
            examples=sum(t.examples for t in tallies),
            redraws=sum(t.redraws for t in tallies),
            rejected=sum(t.rejected for t in tallies),
            reading=reading,
            sampling=max(sum(t.seconds for t in tallies) - reading - augmenting, 0.0),
            augmenting=augmenting,
            sources=sources,
        )


def byte_size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _cache(source: Any) -> Mapping[str, Any] | None:
    """Return what a source, or the one behind it, tells of its cache."""
    while source is not None:
        try:
            stats = getattr(source, "stats", None)
            stats = stats() if callable(stats) else stats
        except DataError:
            return None  # its file is gone: that is for the next read to say
        if dataclasses.is_dataclass(stats) and not isinstance(stats, type):
            return dataclasses.asdict(stats)
        source = next((getattr(source, name) for name in _BEHIND if hasattr(source, name)), None)
    return None

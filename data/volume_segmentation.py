"""Segmentation of predictions that are larger than memory: block by block, into one volume of ids."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .affinity import NEAREST
from .output import check_output, write_blocks
from .prediction_reading import PredictionChannels, prediction_channels
from .segmentation import boundary_watershed, mutex_watershed, threshold_segments
from .sources import Source, SourceLike, Vec3, as_source
from .spool import BlockProgress, Spool, sizes_begun_with
from .stitching import Links, Numbering, every_overlap, number_wholes, sure_overlaps

__all__ = ["SegmentMethod", "segment_volume"]

logger = logging.getLogger(__name__)

SegmentMethod = Literal["watershed", "mutex", "components"]

MEMORY = 2 * 2**30
HALO = 32
"""How far a block sees beyond itself, in voxels of the finest axis, where its segments depend on more than an edge."""
BYTES: Mapping[SegmentMethod, tuple[int, int]] = MappingProxyType(
    {"watershed": (110, 8), "mutex": (40, 32), "components": (40, 8)}
)
"""Of memory that a voxel takes, and each channel of it."""
SETTINGS: Mapping[SegmentMethod, tuple[str, ...]] = MappingProxyType(
    {
        "watershed": ("threshold", "seed_distance", "h", "per_section", "keep_boundaries"),
        "mutex": ("attractive", "strides", "threshold"),
        "components": ("threshold",),
    }
)
"""Of each method, beside the smallest size."""
NEAR = 4
"""Which part of the halo, on both sides of a face, segments are compared in."""
SURE, SEED_DISTANCE = 0.1, 10.0
"""Threshold and seed distance (nm, or one voxel where that is unknown) of the watershed: the best of a grid by VOI and
adapted Rand error, of a boundary network after ten minutes of training on FIB-25."""


def segment_volume(
    prediction: SourceLike,
    out: str | Path,
    *,
    method: SegmentMethod = "watershed",
    channel: int | None = None,
    offsets: Sequence[Sequence[int]] | None = None,
    min_size: int = 1,
    block: Sequence[int] | None = None,
    halo: Sequence[int] | None = None,
    memory: int = MEMORY,
    compression: str | None = "gzip",
    resume: bool = False,
    force: bool = False,
    progress: Callable[[BlockProgress], None] | None = None,
    **settings: Any,
) -> Path:
    """Segment boundaries or affinities into a file of ids, in bounded memory.

    Each block is segmented with a margin around it, and segments of neighbouring blocks that are the same one in the
    voxels that both have get one id. Connected components are exactly those of the whole; watersheds are so where one
    block holds the whole. Ids are 1, 2, ... in the order of first voxels. Blocks that are finished lie in ``OUT.part``
    until all are there, so a run that was killed can go on.

    Parameters
    ----------
    prediction : Source, array or address
        Boundaries or affinities, from 0 to 1 or as bytes; see `elektronn_tui.data.prediction_channels` for which of its
        channels are what.
    out : str or Path
        ``FILE.h5`` or ``FILE.h5:KEY`` (default: ``segments``), or ``FOLDER.zarr``.
    method : {'watershed', 'mutex', 'components'}
        `boundary_watershed` of boundaries, or of 1 less the mean of the nearest affinities; `mutex_watershed` of
        affinities; `threshold_segments` of either.
    channel, offsets
        Which channel is the boundary map, or that the channels are affinities of these offsets.
    min_size : int
        Segments of fewer voxels are given to those around them by the watershed, else become 0.
    block, halo : (z, y, x), optional
        Size of a block, and what it sees around it. Default: as large as the memory allows, and 32 voxels, or as many
        as edges are long for components.
    memory : int
        Bytes that a block may take, about.
    compression, resume, force
        As of `elektronn_tui.models.volume_prediction.predict_volume`.
    progress : callable, optional
        Called at the begin and after each block.
    **settings
        Of the function that the method calls, such as ``threshold`` and ``seed_distance``, which is in nm where the
        size of voxels is known. The watershed's are 0.1 and 10 nm by default, which a search may improve, see
        `search_segmentation`. The mutex watershed leaves out voxels whose nearest affinities are all below
        ``threshold`` (default 0: none).

    Returns
    -------
    Path
        The file or folder.

    Raises
    ------
    DataError
        The prediction can't be segmented so, the output not be written, or a run was begun there for something else.
    """
    if method not in get_args(SegmentMethod):
        raise DataError(f"method={method!r}; use one of {', '.join(SETTINGS)}.{did_you_mean(str(method), SETTINGS)}")
    if unknown := [name for name in settings if name not in SETTINGS[method]]:
        raise DataError(f"{unknown[0]} is no setting of {method}; it has {', '.join(SETTINGS[method])}.")
    if isinstance(min_size, bool) or not isinstance(min_size, int | np.integer) or min_size < 1:
        raise DataError(f"min_size={min_size!r}; a number of voxels from 1 on is needed.")
    source = as_source(prediction)
    path, key = check_output(out, key="segments", force=force)
    chosen = prediction_channels(source, channel=channel, offsets=offsets)
    if method == "watershed":
        settings = {"threshold": SURE, "seed_distance": SEED_DISTANCE if source.voxel_size else 1.0} | settings
    segmenter = _Segmenter(source, chosen, method, min_size, dict(settings))
    folder = path.with_name(f"{path.name}.part")
    if resume:
        block = block or sizes_begun_with(folder, "block")
        halo = halo or sizes_begun_with(folder, "halo")
    grid = _Grid.of(segmenter, block, halo, memory)
    identity = {
        "prediction": source.name,
        "shape": [source.channels, *source.shape],
        "method": method,
        "channels": list(chosen.channels),
        "offsets": None if chosen.offsets is None else [list(offset) for offset in chosen.offsets],
        "min_size": int(min_size),
        "block": list(grid.block),
        "halo": list(grid.halo),
        **{name: _plain(value) for name, value in settings.items()},
    }
    with Spool(folder, identity, resume=resume, force=force) as spool:
        voxels = _segment_blocks(segmenter, grid, spool, progress)
        numbering, bases = _whole(segmenter, grid, spool)
        logger.info("%s: %d segments in %d blocks", source.name, numbering.count, grid.count)
        dtype = np.uint32 if numbering.count < 2**32 else np.uint64
        write_blocks(
            path,
            key,
            (1, *grid.size),
            dtype,
            _named(grid, spool, numbering, bases, dtype),
            voxel_size=source.voxel_size,
            offset=source.offset,
            attributes={name: value for name, value in identity.items() if value is not None and name != "shape"}
            | {"segments": numbering.count},
            compression=compression,
        )
    if progress is not None:
        progress(BlockProgress(grid.count, grid.count, voxels, 1.0))
    return path


class _Segmenter:
    """Segments boxes of a prediction."""

    def __init__(
        self,
        source: Source,
        chosen: PredictionChannels,
        method: SegmentMethod,
        min_size: int,
        settings: dict[str, Any],
    ) -> None:
        self.source, self.chosen, self.method = source, chosen, method
        self.min_size, self.settings = min_size, settings
        threshold = settings.get("threshold", 0.5)
        if not isinstance(threshold, int | float) or isinstance(threshold, bool) or not 0 <= threshold <= 1:
            raise DataError(f"threshold={threshold!r}; a number from 0 to 1 is needed.")
        self._near = [k for k, o in enumerate(chosen.offsets or ()) if sum(n * n for n in o) == 1]
        if method == "mutex" and (chosen.offsets is None or len(self._near) == len(chosen.offsets)):
            raise DataError(
                f"{source.name}: the mutex watershed needs affinities: near ones that join, far ones that keep apart."
            )
        if chosen.offsets is not None and not self._near:
            raise DataError(f"{source.name}: none of the offsets {chosen.offsets} is that of a neighbour.")

    @property
    def exact(self) -> bool:
        """Whether blocks that see beyond themselves as far as edges reach have what the whole has."""
        return self.method == "components"

    @property
    def reach(self) -> Vec3:
        """How long edges are, for each axis."""
        far = np.abs(np.array(self.chosen.offsets or NEAREST)).max(0)
        return int(far[0]), int(far[1]), int(far[2])

    def segment(self, lo: Sequence[int], hi: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return the segments of a box, 1, 2, ...; 0 is none."""
        values = self.chosen.read(self.source, lo, hi)
        settings = self.settings
        if self.method == "components":
            threshold = settings.get("threshold", 0.5)
            if self.chosen.offsets is None:
                return threshold_segments(values, threshold)
            return threshold_segments(values[self._near], threshold, nhood=[self.chosen.offsets[k] for k in self._near])
        if self.method == "mutex":
            assert self.chosen.offsets is not None
            rest = {name: value for name, value in settings.items() if name != "threshold"}
            mask = values[self._near].max(0) >= settings.get("threshold", 0.0)
            return mutex_watershed(values, self.chosen.offsets, mask=mask, **rest)
        if self.chosen.offsets is not None:
            values = 1 - values[self._near].mean(0)
        size = self.source.voxel_size or (1.0, 1.0, 1.0)
        return boundary_watershed(values, min_size=self.min_size, voxel_size=size, **settings)

    def links(self, a: npt.NDArray[np.integer], b: npt.NDArray[np.integer]) -> Links:
        """Return which segments of two blocks are the same, by voxels that both have."""
        return every_overlap(a, b) if self.exact else sure_overlaps(a, b)


@dataclass(frozen=True)
class _Grid:
    """How blocks lie, all (z, y, x)."""

    size: Vec3
    block: Vec3
    halo: Vec3

    @classmethod
    def of(cls, segmenter: _Segmenter, block: Sequence[int] | None, halo: Sequence[int] | None, memory: int) -> _Grid:
        size = segmenter.source.shape
        if halo is not None:
            margin = _triple("halo", halo, 0)
            if any(m < r for m, r in zip(margin, segmenter.reach, strict=True)):
                raise DataError(f"halo={tuple(halo)}; at least {segmenter.reach} (z, y, x), as far as edges reach.")
        elif segmenter.exact:
            margin = segmenter.reach
        else:
            voxel = segmenter.source.voxel_size or (1.0, 1.0, 1.0)
            finest = [max(round(HALO * min(voxel) / v), 2) for v in voxel]
            margin = _triple("halo", [max(m, r) for m, r in zip(finest, segmenter.reach, strict=True)], 0)
        if block is not None:
            sizes = _triple("block", block, 1)
            return cls(size, _triple("block", [min(b, n) for b, n in zip(sizes, size, strict=True)], 1), margin)
        each, channel = BYTES[segmenter.method]
        voxel_bytes = each + channel * len(segmenter.chosen.channels)
        chosen = list(size)
        while math.prod(min(b + 2 * m, n) for b, m, n in zip(chosen, margin, size, strict=True)) * voxel_bytes > memory:
            # The axis is cut whose margins weigh least.
            axis = max(range(3), key=lambda k: chosen[k] / max(2 * margin[k], 1))
            if chosen[axis] <= max(margin[axis], 8):
                break
            parts = -(-size[axis] // chosen[axis]) + 1
            chosen[axis] = -(-size[axis] // parts)
        return cls(size, _triple("block", chosen, 1), margin)

    @property
    def counts(self) -> Vec3:
        z, y, x = (-(-n // b) for n, b in zip(self.size, self.block, strict=True))
        return z, y, x

    @property
    def count(self) -> int:
        return math.prod(self.counts)

    def core(self, number: int) -> tuple[Vec3, Vec3]:
        """Return begin and end of a block."""
        index = np.unravel_index(number, self.counts)
        lo = [int(i) * b for i, b in zip(index, self.block, strict=True)]
        hi = [min(l + b, n) for l, b, n in zip(lo, self.block, self.size, strict=True)]
        return (lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2])

    def region(self, number: int) -> tuple[Vec3, Vec3]:
        """Return begin and end of what a block sees."""
        lo, hi = self.core(number)
        low = [max(l - m, 0) for l, m in zip(lo, self.halo, strict=True)]
        high = [min(h + m, n) for h, m, n in zip(hi, self.halo, self.size, strict=True)]
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def pairs(self, exact: bool) -> Iterator[tuple[int, int, Vec3, Vec3]]:
        """Yield pairs of neighbouring blocks, and the box in which they are compared.

        Components are compared wherever two blocks see the same. Else it is near the face that two blocks share: what
        lies at a region's end depends on where it ends.
        """
        steps = [s for s in itertools.product((-1, 0, 1), repeat=3) if s > (0, 0, 0)]
        for number in range(self.count):
            index = np.unravel_index(number, self.counts)
            for step in steps:
                other = [int(i) + s for i, s in zip(index, step, strict=True)]
                if any(not 0 <= o < n for o, n in zip(other, self.counts, strict=True)):
                    continue
                if not exact and sum(map(abs, step)) != 1:
                    continue
                second = int(np.ravel_multi_index(other, self.counts))
                (a, b), (c, d) = self.region(number), self.region(second)
                lo = [max(i, j) for i, j in zip(a, c, strict=True)]
                hi = [min(i, j) for i, j in zip(b, d, strict=True)]
                if not exact:
                    axis = step.index(1)
                    face = self.core(second)[0][axis]
                    near = max(self.halo[axis] // NEAR, 1)
                    lo[axis], hi[axis] = max(lo[axis], face - near), min(hi[axis], face + near)
                if all(h > l for l, h in zip(lo, hi, strict=True)):
                    yield number, second, (lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2])


def _segment_blocks(
    segmenter: _Segmenter, grid: _Grid, spool: Spool, progress: Callable[[BlockProgress], None] | None
) -> int:
    """Segment the blocks that are missing; return the number of their voxels."""
    voxels = 0

    def tell() -> None:
        if progress is not None:
            done = len(spool.done)
            progress(BlockProgress(done, grid.count, voxels, 0.9 * done / grid.count))  # the rest is stitching

    tell()
    for number in range(grid.count):
        if number not in spool.done:
            lo, hi = grid.region(number)
            ids = segmenter.segment(lo, hi)
            spool.write(number, ids.astype(np.uint32 if ids.max(initial=0) < 2**32 else np.uint64))
            voxels += math.prod(h - l for l, h in zip(*grid.core(number), strict=True))
            tell()
    return voxels


def _whole(segmenter: _Segmenter, grid: _Grid, spool: Spool) -> tuple[Numbering, npt.NDArray[np.int64]]:
    """Return what the segments of all blocks are called, and where those of each block begin in that numbering."""
    bases = np.zeros(grid.count + 1, np.int64)
    sizes, first = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
    for number in range(grid.count):
        region = spool.read(number)
        most = int(region.max(initial=0))
        bases[number + 1] = bases[number] + most
        lo, hi = grid.core(number)
        core = _cut(region, grid.region(number)[0], lo, hi)
        ids, place, counts = np.unique(core, return_index=True, return_counts=True)
        size, begin = np.zeros(most + 1, np.int64), np.full(most + 1, np.iinfo(np.int64).max)
        size[ids] = counts
        at = np.unravel_index(place, core.shape)
        begin[ids] = np.ravel_multi_index([i + l for i, l in zip(at, lo, strict=True)], grid.size)
        sizes.append(size[1:])
        first.append(begin[1:])
    links = []
    for a, b, lo, hi in grid.pairs(segmenter.exact):
        one = _cut(spool.read(a), grid.region(a)[0], lo, hi)
        other = _cut(spool.read(b), grid.region(b)[0], lo, hi)
        links.append(segmenter.links(one, other) + bases[[a, b]])
    least = 1 if segmenter.method == "watershed" else segmenter.min_size
    return number_wholes(links, np.concatenate(sizes), np.concatenate(first), least), bases


def _named(
    grid: _Grid, spool: Spool, numbering: Numbering, bases: npt.NDArray[np.int64], dtype: type[np.unsignedinteger[Any]]
) -> Iterator[tuple[Vec3, npt.NDArray[Any]]]:
    """Yield the blocks with the ids of the whole, (1, z, y, x)."""
    for number in range(grid.count):
        lo, hi = grid.core(number)
        core = _cut(spool.read(number), grid.region(number)[0], lo, hi)
        names = np.concatenate([[0], numbering.ids[bases[number] + 1 : bases[number + 1] + 1]]).astype(dtype)
        yield lo, names[core][None]


def _cut(region: npt.NDArray[Any], begin: Vec3, lo: Vec3, hi: Vec3) -> npt.NDArray[Any]:
    """Return a box, in voxels of the whole, of a region that begins at `begin`."""
    return np.asarray(region[tuple(slice(l - b, h - b) for l, h, b in zip(lo, hi, begin, strict=True))])


def _triple(what: str, values: Sequence[int], least: int) -> Vec3:
    try:
        z, y, x = (int(n) for n in values)
    except (TypeError, ValueError):
        raise DataError(f"{what}={values!r}; three whole numbers (z, y, x) are needed.") from None
    if min(z, y, x) < least:
        raise DataError(f"{what}={(z, y, x)}; numbers from {least} on are needed.")
    return z, y, x


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

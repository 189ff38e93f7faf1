"""Pairs of raw and target volumes: how the one lies in the other, and what may be used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from elektronn_tui.errors import DataError

from .derived import GridTarget
from .geometry import Geometry
from .memory import nbytes, remember, slabs
from .sources import Box, Source, SourceLike, Vec3, as_source

__all__ = ["Pair"]

# What a check of values reads at most; larger volumes are sampled at load and checked again patch by patch.
_CHECKED_BYTES = 256 * 2**20
_CHECKED_SECTIONS = 16


class Pair:
    """A raw volume with the volumes that say what a network shall make of it.

    Parameters
    ----------
    raw
        The image: a source, an array, or an address such as ``file.h5:raw``.
    target
        Labels (integers: class ids, negative values are ignored voxels) or values (floats: NaN is ignored). None:
        an unlabelled volume, for previews and prediction.
    mask
        Where the target counts (non-zero), in the shape of the target or of the raw volume.
    name
        What messages call the pair; default the name of the raw source.
    target_offset
        Raw voxel (z, y, x) on which target voxel 0 lies. None: from the offsets in nm that the sources carry
        (CREMI), else the target is centred in the raw volume.
    weight
        How often patches are drawn from this pair, relative to others. None: its number of target voxels.
    region
        Box ``(lo, hi)`` in raw voxels that all target voxels of a patch must lie in. None: wherever there is a
        target.
    context
        Box ``(lo, hi)`` in raw voxels that may be read as input. None: the whole raw volume.
    vectors
        Triples of channels of a float target that hold the z, y, x components of vectors along the axes of the raw
        volume, in voxels. They turn with the patch.
    labelled
        Classes that were labelled in this volume; voxels of others don't count (lazy labels). None: all.
    absent
        Classes that are known not to occur in this volume.
    in_memory
        Whether volumes are kept in memory, see `elektronn_tui.data.remember`.

    Attributes
    ----------
    raw, target, mask : Source or None
    target_offset, mask_offset : (z, y, x)
    region, context : ((z, y, x), (z, y, x))
    weight : float
    vectors : tuple of (int, int, int)
    labelled : tuple of int, or None
    absent : tuple of int
    whole : Pair or None
        What this pair is one of several parts of, see `split_box`.

    Raises
    ------
    DataError
        A source can't be opened, or they don't fit: names both, with their shapes.

    Examples
    --------
    >>> raw, labels = np.zeros((20, 40, 40), np.uint8), np.zeros((10, 20, 20), np.int64)
    >>> Pair(raw, labels).target_offset
    (5, 10, 10)
    """

    def __init__(
        self,
        raw: SourceLike,
        target: SourceLike | None = None,
        mask: SourceLike | None = None,
        *,
        name: str = "",
        target_offset: Sequence[int] | None = None,
        weight: float | None = None,
        region: tuple[Sequence[int], Sequence[int]] | None = None,
        context: tuple[Sequence[int], Sequence[int]] | None = None,
        vectors: Sequence[Sequence[int]] = (),
        labelled: Sequence[int] | None = None,
        absent: Sequence[int] = (),
        in_memory: bool | Literal["auto"] | int = "auto",
    ) -> None:
        self.raw: Source = remember(as_source(raw), in_memory)
        self.target: Source | None = None if target is None else as_source(target)
        if self.target is not None and not isinstance(self.target, GridTarget):  # which remembers its ids
            self.target = remember(self.target, in_memory)
        self.mask: Source | None = None if mask is None else remember(as_source(mask), in_memory)
        self.name = name or self.raw.name
        self.target_offset = _target_offset(self.raw, self.target, target_offset)
        self.mask_offset = _mask_offset(self.raw, self.target, self.mask, self.target_offset)

        whole: Box = ((0, 0, 0), self.raw.shape)
        there = whole
        if self.target is not None:
            there = _meet(_shifted(self.target.shape, self.target_offset), whole)
            if target_offset is None and there != _shifted(self.target.shape, self.target_offset):
                raise DataError(
                    f"{self.target.name}, shape {self.target.shape}, reaches out of {self.raw.name}, shape "
                    f"{self.raw.shape}, when centred in it. Are raw and target swapped, or is target_offset= missing?"
                )
        self.region = _meet(_box(region, "region", self.name), there) if region is not None else there
        self.context = _meet(_box(context, "context", self.name), whole) if context is not None else whole
        for what, (lo, hi) in (("region", self.region), ("context", self.context)):
            if any(l >= h for l, h in zip(lo, hi, strict=True)):
                target_box = f"; its target spans {there[0]} to {there[1]}" if what == "region" else ""
                raise DataError(
                    f"pair {self.name}: its {what} holds no voxel; raw is {self.raw.shape}{target_box} (z, y, x)."
                )
        voxels = math.prod(h - l for l, h in zip(*self.region, strict=True))
        self.weight = float(voxels if weight is None else weight)
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise DataError(f"pair {self.name}: weight={weight!r}; a number ≥ 0 is needed.")
        self.vectors = _vectors(vectors, self.target, self.name)
        self.labelled = None if labelled is None else _classes(labelled, "labelled", self.name)
        self.absent = _classes(absent, "absent", self.name)
        self.whole: Pair | None = None
        self._check_values()

    def part(self, region: Box, context: Box | None = None, *, name: str = "") -> Pair:
        """Return the same volumes (shared, not read again) restricted to other boxes.

        Parameters
        ----------
        region, context
            Boxes in raw voxels; both are cut to those of this pair.
        name
            Name of the part.
        """
        part = object.__new__(Pair)
        part.__dict__.update(self.__dict__)
        part.name = name or self.name
        part.region = _meet(_box(region, "region", self.name), self.region)
        part.context = self.context if context is None else _meet(_box(context, "context", self.name), self.context)
        before = math.prod(h - l for l, h in zip(*self.region, strict=True))
        after = math.prod(max(h - l, 0) for l, h in zip(*part.region, strict=True))
        if after == 0:
            raise DataError(f"pair {self.name}: {region} holds no voxel of its region {self.region} (z, y, x).")
        part.weight = self.weight * after / before
        return part

    def placements(self, geometry: Geometry) -> Box:
        """Return the first and last position (z, y, x) of an un-warped patch, both included.

        Raises
        ------
        DataError
            No patch fits: names the volume, the axis, and the largest patch that would.
        """
        lows, highs = [], []
        for i, axis in enumerate("zyx"):
            patch, offset, span = geometry.patch_shape[i], geometry.offsets[i], geometry.span[i]
            (c_lo, c_hi), (r_lo, r_hi) = (
                (self.context[0][i], self.context[1][i]),
                (self.region[0][i], self.region[1][i]),
            )
            low, high = max(c_lo, r_lo - offset), min(c_hi - patch, r_hi - offset - span)
            if low > high:
                what = "raw" if c_hi - c_lo < patch else "target"
                source = self.raw if what == "raw" or self.target is None else self.target
                least = c_hi - c_lo if what == "raw" else min(c_hi - offset, r_hi) - max(c_lo + offset, r_lo)
                raise DataError(
                    f"pair {self.name}: axis {axis}: a patch of {geometry.patch_shape} with a target of "
                    f"{geometry.target_shape} (stride {geometry.strides}, offset {geometry.offsets}) doesn't fit into "
                    f"{source.name}, shape {source.shape}"
                    + self._limits(i)
                    + f". It needs {patch if what == 'raw' else span} {what} voxels along {axis}, there are "
                    f"{max(least, 0)}: use a smaller patch or a larger volume."
                )
            lows.append(low)
            highs.append(high)
        return (lows[0], lows[1], lows[2]), (highs[0], highs[1], highs[2])

    def _limits(self, i: int) -> str:
        """Say what of an axis is in use, where that is not all of it."""
        size = self.raw.shape[i]
        region, context = (self.region[0][i], self.region[1][i]), (self.context[0][i], self.context[1][i])
        said = [f"targets from {region[0]} to {region[1]}"] if region != (0, size) else []
        said += [f"raw from {context[0]} to {context[1]}"] if context != (0, size) else []
        return f" ({', '.join(said)} of {size} raw voxels in use)" if said else ""

    def close(self) -> None:
        """Close all sources; a later read opens them again."""
        for source in (self.raw, self.target, self.mask):
            if source is not None:
                source.close()

    def _check_values(self) -> None:
        if self.raw.dtype.kind == "f":
            for lo, voxels, _ in samples(self.raw):
                refuse_where(~np.isfinite(voxels), lo, self.raw, "is NaN or infinite; raw values must be finite")
        if self.target is not None and self.target.dtype.kind == "f" and not isinstance(self.target, GridTarget):
            for lo, voxels, _ in samples(self.target):
                refuse_where(np.isinf(voxels), lo, self.target, "is infinite; use NaN for voxels to ignore")
        if self.target is not None and self.target.dtype == np.uint64:
            for lo, voxels, _ in samples(self.target):
                refuse_where(voxels >> np.uint64(63) > 0, lo, self.target, "is 2⁶³ or more; labels must fit int64")
        if self.mask is not None:
            empty = True
            for _, voxels, whole in samples(self.mask):
                empty = empty and whole and not voxels.any()
            if empty:
                raise DataError(f"mask {self.mask.name} is zero everywhere: pair {self.name} has nothing to train on.")

    def __repr__(self) -> str:
        lo, hi = self.region
        return f"Pair({self.name!r}, raw {self.raw.channels}×{self.raw.shape}, targets {lo} to {hi})"


def _target_offset(raw: Source, target: Source | None, given: Sequence[int] | None) -> Vec3:
    if target is None:
        return (0, 0, 0)
    if raw.voxel_size and target.voxel_size and not np.allclose(raw.voxel_size, target.voxel_size, rtol=0.01):
        raise DataError(
            f"{raw.name} has voxels of {raw.voxel_size} nm, {target.name} of {target.voxel_size} nm (z, y, x); "
            "bring them to one resolution, or correct the sources with voxel_size=."
        )
    if given is not None:
        z, y, x = (int(v) for v in given)
        return z, y, x
    voxel_size = raw.voxel_size or target.voxel_size
    if target.offset is not None and voxel_size is not None:
        exact = (np.subtract(target.offset, raw.offset or (0.0,) * 3)) / voxel_size
        z, y, x = (int(v) for v in np.rint(exact))
        if np.abs(exact - (z, y, x)).max() > 0.1:
            raise DataError(
                f"{target.name} lies {tuple(exact)} voxels (z, y, x) from voxel 0 of {raw.name}, by the offsets in "
                "their attributes: no whole number. Resample it, or give target_offset=."
            )
        return z, y, x
    difference = np.subtract(raw.shape, target.shape)
    if (difference % 2).any():
        raise DataError(
            f"{target.name}, shape {target.shape}, can't be centred in {raw.name}, shape {raw.shape}: the difference "
            "is odd. Give target_offset=(z, y, x), the raw voxel on which its voxel 0 lies."
        )
    z, y, x = (int(v) for v in difference // 2)
    return z, y, x


def _mask_offset(raw: Source, target: Source | None, mask: Source | None, target_offset: Vec3) -> Vec3:
    if mask is None:
        return (0, 0, 0)
    if mask.channels != 1:
        raise DataError(f"mask {mask.name} has {mask.channels} channels; one is needed.")
    if target is not None and mask.shape == target.shape:
        return target_offset
    if mask.shape == raw.shape:
        return (0, 0, 0)
    fits = f"{raw.shape} like raw" + (f" or {target.shape} like the target" if target is not None else "")
    raise DataError(f"mask {mask.name} has shape {mask.shape}; it must have {fits} (z, y, x).")


def samples(source: Source) -> Iterator[tuple[Vec3, np.ndarray, bool]]:
    """Yield (corner, voxels, whether all are seen): the whole volume, or some sections of it if it is huge."""
    whole = nbytes(source) <= _CHECKED_BYTES
    depth, height, width = source.shape
    sections = np.unique(np.linspace(0, depth - 1, _CHECKED_SECTIONS).astype(int)).tolist()
    boxes = slabs(source) if whole else (((z, 0, 0), (z + 1, height, width)) for z in sections)
    for lo, hi in boxes:
        yield lo, source.read(lo, hi), whole


def refuse_where(bad: np.ndarray, lo: Vec3, source: Source, reason: str) -> None:
    if bad.any():
        _, z, y, x = (int(v) for v in np.argwhere(bad)[0])
        raise DataError(f"{source.name}: voxel {(lo[0] + z, lo[1] + y, lo[2] + x)} (z, y, x) {reason}.")


def _vectors(given: Sequence[Sequence[int]], target: Source | None, name: str) -> tuple[Vec3, ...]:
    if not len(given):
        return ()
    channels = 0 if target is None else target.channels
    triples = tuple(tuple(int(channel) for channel in triple) for triple in given)
    used = [channel for triple in triples for channel in triple]
    if target is None or target.dtype.kind != "f" or isinstance(target, GridTarget):
        what = "no target" if target is None else f"{target.name}, {target.dtype}"
        raise DataError(f"pair {name}: vectors={given!r}, but it has {what}; vectors are stored as floats.")
    if any(len(t) != 3 for t in triples) or len(set(used)) != len(used) or not set(used) <= set(range(channels)):
        raise DataError(
            f"pair {name}: vectors={given!r}; triples of channels below {channels}, each used once, are needed."
        )
    return triples  # type: ignore[return-value]


def _classes(given: Sequence[int], what: str, name: str) -> tuple[int, ...]:
    classes = tuple(int(one) for one in given)
    if any(one < 0 for one in classes) or len(set(classes)) != len(classes):
        raise DataError(f"pair {name}: {what}={given!r}; different classes from 0 are needed.")
    return classes


def _box(box: tuple[Sequence[int], Sequence[int]], what: str, name: str) -> Box:
    try:
        (a, b, c), (d, e, f) = box
        return (int(a), int(b), int(c)), (int(d), int(e), int(f))
    except (TypeError, ValueError) as error:
        raise DataError(f"pair {name}: {what}={box!r}; a box is ((z, y, x), (z, y, x)).") from error


def _shifted(shape: Vec3, offset: Vec3) -> Box:
    return offset, (offset[0] + shape[0], offset[1] + shape[1], offset[2] + shape[2])


def _meet(a: Box, b: Box) -> Box:
    lo, hi = np.maximum(a[0], b[0]).tolist(), np.minimum(a[1], b[1]).tolist()
    return (lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2])

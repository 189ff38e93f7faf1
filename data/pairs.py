"""Pairs of raw and target volumes: how the one lies in the other, what may be used, and what is held out."""

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

__all__ = ["Pair", "split_region"]

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
    in_memory
        Whether volumes are kept in memory, see `elektronn_tui.data.remember`.

    Attributes
    ----------
    raw, target, mask : Source or None
    target_offset, mask_offset : (z, y, x)
    region, context : ((z, y, x), (z, y, x))
    weight : float

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
        labelled = whole
        if self.target is not None:
            labelled = _meet(_shifted(self.target.shape, self.target_offset), whole)
            if target_offset is None and labelled != _shifted(self.target.shape, self.target_offset):
                raise DataError(
                    f"{self.target.name}, shape {self.target.shape}, reaches out of {self.raw.name}, shape "
                    f"{self.raw.shape}, when centred in it. Are raw and target swapped, or is target_offset= missing?"
                )
        self.region = _meet(_box(region, "region", self.name), labelled) if region is not None else labelled
        self.context = _meet(_box(context, "context", self.name), whole) if context is not None else whole
        for what, (lo, hi) in (("region", self.region), ("context", self.context)):
            if any(l >= h for l, h in zip(lo, hi, strict=True)):
                target_box = f"; its target spans {labelled[0]} to {labelled[1]}" if what == "region" else ""
                raise DataError(
                    f"pair {self.name}: its {what} holds no voxel; raw is {self.raw.shape}{target_box} (z, y, x)."
                )
        voxels = math.prod(h - l for l, h in zip(*self.region, strict=True))
        self.weight = float(voxels if weight is None else weight)
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise DataError(f"pair {self.name}: weight={weight!r}; a number ≥ 0 is needed.")
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


def split_region(
    pair: Pair, axis: str = "z", *, last: int | None = None, first: int | None = None
) -> tuple[Pair, Pair]:
    """Split a pair in two along one axis: what is trained on, and what is held out for validation.

    No training patch reads a voxel, raw or target, of the validation part. Validation patches may use the raw
    voxels on the other side of the border as context: that tells them nothing of the answer, and it lets
    targets right at the border be validated.

    Parameters
    ----------
    pair
        The pair to split.
    axis
        ``"z"``, ``"y"`` or ``"x"``.
    last, first
        Voxels held out at the end or the start of the pair's region; give one of them.

    Returns
    -------
    (train, valid)
        Two pairs that share their sources.

    Raises
    ------
    DataError
        The region is not thicker than what shall be held out.
    """
    if len(axis) != 1 or axis not in "zyx":
        raise DataError(f"split_region: axis={axis!r}; use 'z', 'y' or 'x'.")
    if (last is None) == (first is None):
        raise DataError("split_region: give either last= or first=, the number of voxels to hold out.")
    i = "zyx".index(axis)
    lo, hi = pair.region
    held_out = int(last if last is not None else first or 0)
    if not 0 < held_out < hi[i] - lo[i]:
        most = hi[i] - lo[i] - 1
        possible = {0: "it can't be split", 1: "1 is possible"}.get(most, f"1 to {most} are possible")
        raise DataError(
            f"pair {pair.name}: can't hold out {held_out} of {hi[i] - lo[i]} voxels along {axis}; {possible}."
        )
    c_lo, c_hi = pair.context
    if last is not None:
        cut = hi[i] - held_out
        train = pair.part((lo, _put(hi, i, cut)), (c_lo, _put(c_hi, i, min(c_hi[i], cut))), name=pair.name)
        valid = pair.part((_put(lo, i, cut), hi), name=f"{pair.name} [{axis} {cut}:{hi[i]}]")
    else:
        cut = lo[i] + held_out
        train = pair.part((_put(lo, i, cut), hi), (_put(c_lo, i, max(c_lo[i], cut)), c_hi), name=pair.name)
        valid = pair.part((lo, _put(hi, i, cut)), name=f"{pair.name} [{axis} {lo[i]}:{cut}]")
    return train, valid


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


def _put(vector: Vec3, i: int, value: int) -> Vec3:
    z, y, x = (value if k == i else v for k, v in enumerate(vector))
    return z, y, x

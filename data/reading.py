"""From a pair and a matrix to the arrays of one example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .augment import value_range
from .counters import Counters, Tally
from .deformation import Deformation, Displacement
from .derived import GridTarget
from .geometry import Geometry
from .pairs import Pair, refuse_where, samples
from .sampling import Scratch, sample_labels, sample_raw
from .scaling import Scaling
from .sources import Box, Source, Vec3
from .splits import fitting
from .warp import source_box, target_matrix, translated

__all__ = ["Reader"]


class Reader:
    """Reads the voxels of an example through its matrix, scaled and checked.

    Parameters
    ----------
    pairs
        Where examples come from; must go together.
    geometry
        Shapes of input and target.
    scaling, classes, ignore
        See `elektronn_tui.data.Patches`.

    Raises
    ------
    DataError
        The pairs don't go together, are smaller than a patch, or have labels out of range.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        geometry: Geometry,
        *,
        scaling: Scaling | None = None,
        classes: int | None = None,
        ignore: Sequence[int] = (),
    ) -> None:
        self.geometry = geometry
        self.classes = classes
        self.ignore = tuple(int(value) for value in ignore)
        if not pairs:
            raise DataError("no pair of volumes to make examples of.")
        self.pairs = tuple(fitting(pairs, geometry))
        _refuse_mixture("raw", [pair.raw for pair in self.pairs])
        targets = [pair.target for pair in self.pairs if pair.target is not None]
        if targets and len(targets) != len(self.pairs):
            names = ", ".join(pair.name for pair in self.pairs if pair.target is None)
            raise DataError(f"some pairs have a target, others have none: {names}.")
        if targets:
            _refuse_mixture("target", targets)
        first = self.pairs[0]
        self.channels = first.raw.channels
        self.target_channels = targets[0].channels if targets else 0
        self.target_dtype: np.dtype[Any] | None = None
        if targets:
            self.target_dtype = np.dtype(np.float32 if targets[0].dtype.kind == "f" else np.int64)
        self.has_mask = any(pair.mask is not None for pair in self.pairs) or self.target_dtype == np.float32
        self.scaling = scaling or Scaling.for_dtype(first.raw.dtype)
        scale, shift = self.scaling.factors(self.channels)
        self.counters = Counters()
        self._scale: list[float] = scale.tolist()
        self._shift: list[float] = shift.tolist()
        self._limits = [_grey_range(pair.raw) for pair in self.pairs]
        if classes is not None:
            for pair in self.pairs:
                if pair.target is not None:
                    self._check_classes(pair.target, may_be_empty=bool(pair.absent))
        self.class_masks = self._class_masks()

    def empty(self, n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any] | None, npt.NDArray[np.bool_] | None]:
        """Return arrays for `n` examples: raw, target or None, mask or None."""
        raw = np.empty((n, self.channels, *self.geometry.patch_shape), np.float32)
        if self.target_dtype is None:
            return raw, None, None
        shape = (n, self.target_channels, *self.geometry.target_shape)
        mask = np.empty(shape, np.bool_) if self.has_mask else None
        return raw, np.empty(shape, self.target_dtype), mask

    def _class_masks(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return (pairs, classes): 1 where a class was labelled, and 1 where it is known to be absent."""
        features = (self.classes or 0) * self.target_channels
        labelled, absent = np.ones((len(self.pairs), features)), np.zeros((len(self.pairs), features))
        for k, pair in enumerate(self.pairs):
            for what, given in (("labelled", pair.labelled), ("absent", pair.absent)):
                if self.classes is not None and given and max(given) >= features:
                    raise DataError(
                        f"pair {pair.name}: {what}={list(given)}, but there are {self.classes} classes in "
                        f"{self.target_channels} channels: 0 to {features - 1}."
                    )
            if self.classes is not None:
                if pair.labelled is not None:
                    labelled[k] = np.isin(np.arange(features), pair.labelled)
                absent[k] = np.isin(np.arange(features), pair.absent)
        masks = {"mask_class_labeled": labelled, "mask_class_not_present": absent}
        return {name: mask.astype(np.float32) for name, mask in masks.items()}

    def linear_dtypes(self) -> set[np.dtype[Any]]:
        """Return the dtypes that are interpolated."""
        sources = [pair.raw for pair in self.pairs]
        sources += [pair.target for pair in self.pairs if pair.target is not None and pair.target.dtype.kind == "f"]
        return {source.dtype for source in sources}

    def label_dtypes(self) -> set[tuple[np.dtype[Any], np.dtype[Any]]]:
        """Return the pairs (stored, delivered) of dtypes that are sampled by nearest voxel."""
        found = {
            (pair.target.dtype, np.dtype(np.int64))
            for pair in self.pairs
            if pair.target is not None and pair.target.dtype.kind != "f" and not isinstance(pair.target, GridTarget)
        }
        if any(isinstance(pair.target, GridTarget) for pair in self.pairs):
            found.add((np.dtype(np.int64), np.dtype(np.int64)))
        return found | {(pair.mask.dtype, pair.mask.dtype) for pair in self.pairs if pair.mask is not None}

    def read(
        self,
        pair: Pair,
        matrix: npt.NDArray[np.float64],
        raw: npt.NDArray[np.float32],
        target: npt.NDArray[Any] | None,
        mask: npt.NDArray[np.bool_] | None,
        scratch: Scratch | None = None,
        deformation: Deformation | None = None,
    ) -> None:
        """Fill the arrays of one example.

        Parameters
        ----------
        pair
            One of the pairs.
        matrix
            4×4: voxel of the patch to voxel of the raw volume.
        raw, target, mask
            One entry of what `empty` returned.
        scratch
            Working memory of the calling thread.
        deformation
            Of the patch, before `matrix`; None: none.
        """
        self.read_raw(pair, matrix, raw, scratch, deformation)
        if target is not None:
            self.read_target(pair, matrix, target, mask, scratch, deformation)

    def read_raw(
        self,
        pair: Pair,
        matrix: npt.NDArray[np.float64],
        raw: npt.NDArray[np.float32],
        scratch: Scratch | None = None,
        deformation: Deformation | None = None,
    ) -> None:
        """Fill the raw voxels of one example; arguments as of `read`."""
        moved = deformation.of_raw() if deformation else None
        lo, hi = _box(matrix, raw.shape[1:], pair.context, moved)
        box = self.counters.mine().read(pair.raw, lo, hi)
        if moved is None and box.shape == raw.shape and _is_crop(matrix):
            self.scaling.apply(box, raw)
        else:
            through = translated(matrix, [-v for v in lo])
            sample_raw(box, through, raw, scale=self._scale, shift=self._shift, scratch=scratch, displacement=moved)
        if box.dtype.kind == "f" and not np.isfinite(raw).all():
            raise DataError(f"{pair.raw.name}: NaN or infinite values in the box {lo} to {hi} (z, y, x).")

    def read_target(
        self,
        pair: Pair,
        matrix: npt.NDArray[np.float64],
        target: npt.NDArray[Any],
        mask: npt.NDArray[np.bool_] | None,
        scratch: Scratch | None = None,
        deformation: Deformation | None = None,
    ) -> None:
        """Fill target and mask of one example; arguments as of `read`."""
        tally = self.counters.mine()
        assert pair.target is not None
        through = target_matrix(matrix, self.geometry, pair.target_offset)
        moved = deformation.of_target(self.geometry) if deformation else None
        if isinstance(pair.target, GridTarget):
            pair.target.sample(matrix, self.geometry, pair.target_offset, pair.region, target, tally.read, deformation)
        elif target.dtype == np.float32:
            _sample_values(pair.target, through, target, scratch, tally, moved)
            if pair.vectors:
                _turn(target, pair, matrix, deformation)
        else:
            _sample_classes(pair.target, through, target, tally, moved)
            self._settle_classes(pair.target, target)
        counts: npt.NDArray[np.bool_] | bool = True
        if pair.mask is not None:
            marks = np.empty((1, *target.shape[1:]), pair.mask.dtype)
            _sample_classes(pair.mask, target_matrix(matrix, self.geometry, pair.mask_offset), marks, tally, moved)
            counts = marks != 0
        if target.dtype == np.float32:
            counts = counts & ~np.isnan(target)
            np.nan_to_num(target, copy=False, nan=0.0)
        elif pair.mask is not None:
            target[np.broadcast_to(~counts, target.shape)] = -1
        if mask is not None:
            np.copyto(mask, counts if target.dtype == np.float32 else target >= 0)

    def scaled(self, k: int) -> dict[str, Any]:
        """Return how patches of pair `k` were scaled, and black and white of it as stored: for `Grey.apply`."""
        return {"scale": self._scale, "shift": self._shift, "limits": self._limits[k]}

    def _settle_classes(self, source: Source, target: npt.NDArray[np.int64]) -> None:
        for value in self.ignore:
            target[target == value] = -1
        if source.dtype.kind == "i":
            np.maximum(target, -1, out=target)
        if self.classes is not None and target.size and (most := int(target.max())) >= self.classes:
            raise DataError(self._out_of_range(source, most))

    def _check_classes(self, source: Source, *, may_be_empty: bool) -> None:
        if source.dtype.kind == "f":
            raise DataError(f"{source.name} holds {source.dtype}; the target of a classification holds integers.")
        empty = not may_be_empty
        for lo, voxels, whole in samples(source):
            counted = (voxels >= 0) & ~np.isin(voxels, self.ignore)
            bad = counted & (voxels >= self.classes)
            if bad.any():
                refuse_where(bad, lo, source, f"is {voxels[bad][0]}: {self._allowed()}")
            empty = empty and whole and not counted.any()
        if empty:
            raise DataError(f"{source.name} has no label that counts: {self._allowed()}.")

    def _out_of_range(self, source: Source, value: int) -> str:
        return f"{source.name} holds the label {value}: {self._allowed()}."

    def _allowed(self) -> str:
        assert self.classes is not None
        return (
            f"with {self.classes} classes labels are 0 to {self.classes - 1}, negative ones and those in "
            f"ignore={self.ignore} don't count. Segment ids can become boundaries first"
        )


def _sample_classes(
    source: Source,
    matrix: npt.NDArray[np.float64],
    out: npt.NDArray[Any],
    tally: Tally,
    moved: Displacement | None,
) -> None:
    lo, hi = source_box(matrix, out.shape[1:], source.shape, moved)
    box = tally.read(source, lo, hi)
    steps = _steps(matrix)
    if steps is not None and moved is None:
        np.copyto(out, box[:, :: steps[0], :: steps[1], :: steps[2]], casting="unsafe")
    else:
        sample_labels(box, translated(matrix, [-v for v in lo]), out, displacement=moved)


def _sample_values(
    source: Source,
    matrix: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
    scratch: Scratch | None,
    tally: Tally,
    moved: Displacement | None,
) -> None:
    lo, hi = source_box(matrix, out.shape[1:], source.shape, moved)
    box = tally.read(source, lo, hi)
    steps = _steps(matrix)
    if steps is not None and moved is None:
        np.copyto(out, box[:, :: steps[0], :: steps[1], :: steps[2]], casting="same_kind")
    else:
        sample_raw(box, translated(matrix, [-v for v in lo]), out, scratch=scratch, displacement=moved)


def _turn(
    target: npt.NDArray[np.float32], pair: Pair, matrix: npt.NDArray[np.float64], deformation: Deformation | None
) -> None:
    """Give the vectors of a patch, which lie along the axes of the raw volume, along those of the patch."""
    if matrix[3, :3].any():
        raise DataError(
            f"pair {pair.name}: vectors can't follow a warp with perspective, which turns each voxel another way; use "
            "Warp(perspective=0)."
        )
    if deformation and deformation.field is not None:
        raise DataError(
            f"pair {pair.name}: vectors can't follow an elastic deformation, which turns each voxel another way; use "
            "elastic=0."
        )
    to_patch = np.linalg.inv(matrix[:3, :3])
    for triple in pair.vectors:
        target[list(triple)] = np.tensordot(to_patch, target[list(triple)], 1)


def _steps(matrix: npt.NDArray[np.float64]) -> Vec3 | None:
    """Return the strides of a matrix that only takes every n-th voxel, which a slice does faster and exactly."""
    z, y, x = (int(v) for v in np.diag(matrix)[:3])
    whole = np.array_equal(matrix[:, 3], np.rint(matrix[:, 3]))
    if whole and min(z, y, x) >= 1 and np.array_equal(matrix[:, :3], np.diag([z, y, x, 1])[:, :3]):
        return z, y, x
    return None


def _is_crop(matrix: npt.NDArray[np.float64]) -> bool:
    return _steps(matrix) == (1, 1, 1)


def _box(matrix: npt.NDArray[np.float64], shape: Sequence[int], context: Box, moved: Displacement | None) -> Box:
    """Return the raw box that a patch needs; it never leaves the pair's context, not even by rounding."""
    corner = context[0]
    size = [h - l for l, h in zip(*context, strict=True)]
    lo, hi = source_box(translated(matrix, [-v for v in corner]), shape, size, moved)
    return (
        (lo[0] + corner[0], lo[1] + corner[1], lo[2] + corner[2]),
        (hi[0] + corner[0], hi[1] + corner[1], hi[2] + corner[2]),
    )


def _grey_range(source: Source) -> tuple[float, float]:
    """Return the stored values that stand for black and white.

    8-bit volumes and floats from 0 to 1 use the range of their type. Others rarely do (12-bit cameras in uint16), and
    a brightness of 15 % of 65535 would drown them: theirs is what the volume holds.
    """
    by_type = value_range(source.dtype)
    if source.dtype.itemsize == 1:
        return by_type
    extremes = [(float(voxels.min()), float(voxels.max())) for _, voxels, _ in samples(source)]
    low, high = min(e[0] for e in extremes), max(e[1] for e in extremes)
    if low >= high or (source.dtype.kind == "f" and by_type[0] <= low and high <= by_type[1]):
        return by_type
    return low, high


def _refuse_mixture(what: str, sources: Sequence[Source]) -> None:
    """Raise DataError where volumes can't stand in one batch, or one scaling would mean two things."""
    first = sources[0]
    for other in sources[1:]:
        if other.channels != first.channels:
            raise DataError(
                f"{what} volumes need as many channels: {first.name} has {first.channels}, {other.name} has "
                f"{other.channels}."
            )
        integers = "iu" if what == "target" else ""
        alike = other.dtype == first.dtype or (other.dtype.kind == first.dtype.kind == "f")
        if not alike and not (other.dtype.kind in integers and first.dtype.kind in integers):
            raise DataError(
                f"{what} volumes need one dtype: {first.name} holds {first.dtype}, {other.name} holds {other.dtype}."
            )

"""A network that is prepared to be applied to every voxel of images of one size, tile by tile."""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from elektronn_tui.errors import ModelError

from .blending import Blend, corners, window, window_sum
from .engines import Engine, every_voxel
from .feeding import computing_tensor, in_evaluation, to_numpy, to_tensor
from .footprint import free_memory
from .node import Node
from .precision import Precision, autocast, resolved
from .tiling import Tiler, Tiling

__all__ = ["DenseOptions", "DensePredictor", "Scale", "scale_alone"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Scale = Callable[[Array], Array]
Position = tuple[int, ...]
Run = tuple[int, Position, Position]
"""Slice, first voxel of the tile, shift in the tile."""


@dataclass(frozen=True)
class DenseOptions:
    """How a network is applied to every voxel.

    Attributes
    ----------
    patch_shape : sequence of int, optional
        Input of one run, for each spatial axis. Default: as large as `memory` allows, of tiles that are about equal. A
        network that pads inside (``conv_mode='same'``), or looks everywhere at once (group normalisation), sees the
        whole image in one run if that fits into memory, or else gets overlapping tiles of the size that it was trained
        with, whose values are blended.
    batch_size : int
        Runs that are computed together.
    engine : {'auto', 'dilated', 'mfp', 'shifts'}
        How a strided network gives every voxel; see `elektronn_tui.models.engines.every_voxel`.
    overlap : float
        Share of a tile that the next one covers, too, of those networks that are blended; from 0 to less than 1.
    blend : {'gaussian', 'constant'}
        How the values of such tiles are weighted: by distance from the middle, or all alike.
    flips : str
        Axes along which inputs are flipped: the output is the mean over all flips of them, each flipped back. ``"yx"``
        makes four runs of one. Not for outputs with a direction, such as affinities.
    precision : {'fp32', 'bf16', 'auto'}
        ``bf16`` computes convolutions in bfloat16, by autocast; ``auto`` does where the hardware has it.
    memory : int, optional
        Bytes that one run may take; default: half of what is free.
    beside : int
        Bytes for each output voxel of a tile that are held beside a run, and counted.

    Raises
    ------
    ModelError
        A value is not allowed.
    """

    patch_shape: Sequence[int] | None = None
    batch_size: int = 1
    engine: Engine = "auto"
    overlap: float = 0.25
    blend: Blend = "gaussian"
    flips: str = ""
    precision: Precision | Literal["auto"] = "fp32"
    memory: int | None = None
    beside: int = 0

    def __post_init__(self) -> None:
        number = int | np.integer
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, number) or self.batch_size < 1:
            raise ModelError(f"batch_size must be a whole number from 1 on, not {self.batch_size!r}.")
        if not isinstance(self.overlap, float | int) or not 0 <= self.overlap < 1:
            raise ModelError(f"overlap must be a share from 0 to less than 1, not {self.overlap!r}.")
        if self.blend not in ("gaussian", "constant"):
            raise ModelError(f"blend must be gaussian or constant, not {self.blend!r}.")
        if self.precision not in ("fp32", "bf16", "auto"):
            raise ModelError(f"precision must be fp32, bf16 or auto, not {self.precision!r}.")
        if not isinstance(self.flips, str) or set(self.flips) - set("zyx") or len(set(self.flips)) < len(self.flips):
            raise ModelError(f"flips must be some of the axes z, y, x, such as 'yx', not {self.flips!r}.")
        if self.memory is not None and (not isinstance(self.memory, number) or self.memory < 1):
            raise ModelError(f"memory must be a number of bytes, not {self.memory!r}.")


class DensePredictor:
    """A node that is to be computed at every voxel of an image, box by box of its output.

    Parameters
    ----------
    node : Node
    size : tuple of int
        Of the image, for each spatial axis.
    pad_raw : bool
        The image is mirrored at its borders before it is given to `run`.
    scale, channels_last, options
        As of `predict_dense`.

    Attributes
    ----------
    engine, precision : str
        What ``auto`` has become.
    tiling : Tiling
    channels, features : int
        Of image and output.
    size : tuple of int
        Of the image with what is mirrored.
    out : tuple of int
        Of the output.
    first : tuple of int
        Where the first voxel of the output lies in the image, or with `pad_raw` the image in the mirrored one.
    """

    def __init__(
        self,
        node: Node,
        size: Sequence[int],
        *,
        pad_raw: bool = False,
        scale: Scale | None = None,
        channels_last: bool = False,
        options: DenseOptions | None = None,
    ) -> None:
        self.options = options = options or DenseOptions()
        self.node, self.engine = every_voxel(node, options.engine)
        self._scale, self._channels_last = scale or scale_alone, channels_last
        self._image, self._pad = tuple(int(n) for n in size), pad_raw
        self._like = computing_tensor(other.operation for other in self.node.all_parents.values())
        self.precision = resolved(options.precision, self._like.device)
        self._tiler = Tiler(
            self.node,
            patch_shape=options.patch_shape,
            overlap=options.overlap,
            memory=free_memory(self._like.device) // 2 if options.memory is None else options.memory,
            batch_size=options.batch_size,
            itemsize=2 if self.precision == "bf16" else self._like.element_size(),
            beside=options.beside,
        )
        self._plan, self._source = self._tiler.plan, self._tiler.source
        self.channels, self.features = self._source.shape["f"], int(self.node.shape["f"])
        tags = self.node.shape.spatial_tags
        if set(options.flips) - set(tags):
            raise ModelError(f"{node.title} has the axes {', '.join(tags)}; flips {options.flips!r} are of others.")
        if options.flips and any(name.startswith("affinity ") for name in node.feature_names or ()):
            raise ModelError(f"{node.title} gives affinities, which have a direction: flips would mix them up.")
        axes = [[(), (2 + tags.index(tag),)] for tag in options.flips]
        self._flips: list[list[int]] = [list(itertools.chain(*chosen)) for chosen in itertools.product(*axes)]
        self._place_tiles()
        if len(self._flips) > 1 and max(self.tiling.strides) * len(self.tiling.fragments) > 1:
            raise ModelError(f"{node.title}: flips need a network that gives every voxel in one run.")

    def _place_tiles(self) -> None:
        self.tiling = tiling = self._tiler.tiling(self._image, self._pad)
        lost = tiling.lost
        self.size = tuple(n + l for n, l in zip(self._image, lost, strict=True)) if self._pad else self._image
        self.out = tuple(n - l for n, l in zip(self.size, lost, strict=True))
        self.first = tuple(min(o, l) for o, l in zip(tiling.offset, lost, strict=True)) if self._pad else tiling.offset
        self._begins = [corners(*axis) for axis in zip(self.size, tiling.patch, tiling.step, strict=True)]
        self.blended = tiling.whole and max(map(len, self._begins)) > 1
        self._windows = [window(self.options.blend, n) for n in tiling.reach] if self.blended else []

    def box(self, lo: Position, hi: Position) -> tuple[Position, Position]:
        """Return begin and end of the part of the (mirrored) image that `run` needs for a box of the output."""
        if not self.blended:
            return lo, tuple(h + l for h, l in zip(hi, self.tiling.lost, strict=True))
        begins = self._begins_in(lo, hi)
        ends = zip(begins, self.tiling.patch, self.size, strict=True)
        return tuple(b[0] for b in begins), tuple(min(b[-1] + p, n) for b, p, n in ends)

    def run(
        self,
        raw: Array,
        lo: Position,
        hi: Position,
        *,
        as_uint8: bool = False,
        progress: Callable[[float], object] | None = None,
    ) -> Array:
        """Return a box of the output.

        Parameters
        ----------
        raw : ndarray, (f, slices, ...)
            What `box` says; slices are images by themselves.
        lo, hi : tuple of int
            Begin and end. `lo` must be a multiple of the tiles' period.
        as_uint8 : bool
        progress : callable, optional

        Returns
        -------
        ndarray of float32 or uint8, (f, slices, ...)

        Raises
        ------
        ModelError
            The smallest tile doesn't fit into memory.
        """
        with (
            torch.no_grad(),
            in_evaluation(n.operation for n in self._plan.nodes),
            autocast(self.precision, self._like.device),
        ):
            while True:
                try:
                    values = (self._blended if self.blended else self._exact)(raw, lo, hi, as_uint8, progress)
                except _OutOfMemoryError as error:
                    first = self.box(lo, hi)
                    self._shrink(error)
                    if self.box(lo, hi) != first:  # more is needed of the image than is here
                        raise ModelError(f"{self.node.title}: {error}; give a smaller patch_shape.") from error
                    continue
                return values

    def _shrink(self, error: _OutOfMemoryError) -> None:
        old, was_blended = self.tiling, self.blended
        self._tiler.shrink(old)
        if not was_blended:
            self._place_tiles()
        if was_blended or self.tiling.bytes >= old.bytes:
            text = "×".join(map(str, old.patch))
            raise ModelError(
                f"{self.node.title}: a tile of {text} doesn't fit into memory, it takes about "
                f"{old.bytes / 2**30:.3g} GiB ({error}); give a smaller patch_shape, or free some."
            ) from error
        logger.warning(
            "%s: a tile of %s doesn't fit into memory; tiles of %s%s are used instead.",
            self.node.title,
            *("×".join(map(str, tiling.patch)) for tiling in (old, self.tiling)),
            ", blended where they overlap," if self.blended else "",
        )

    def _exact(self, raw: Array, lo: Position, hi: Position, as_uint8: bool, progress: Any) -> Array:
        size = tuple(h - l for h, l in zip(hi, lo, strict=True))
        begins = [range(0, n, step) for n, step in zip(size, self.tiling.step, strict=True)]
        alone = raw.shape[1] * len(self.tiling.shifts) * len(self.tiling.fragments) * math.prod(map(len, begins)) == 1
        dtype = np.uint8 if as_uint8 else np.float32
        out: Array | None = None
        unusual = 0
        for batch, values in self._computed(raw, begins, progress):
            unusual += _count_unusual(values)
            if as_uint8:
                values = _as_uint8(values)
            if alone and self.tiling.out == size:
                # As it is: copies take a tenth of the time of a fast network.
                out = values[0, 0][:, None].astype(dtype, copy=False)
                continue
            if out is None:
                out = np.empty((self.features, raw.shape[1], *size), dtype)
            for run, fragments in zip(batch, values, strict=True):
                _place(out[:, run[0]], fragments, self.tiling, run)
        self._report(unusual)
        assert out is not None
        return out

    def _blended(self, raw: Array, lo: Position, hi: Position, as_uint8: bool, progress: Any) -> Array:
        inside = self._begins_in(lo, hi)
        corner = [b[0] for b in inside]
        shape = tuple(h - l for h, l in zip(hi, lo, strict=True))
        out = np.zeros((self.features, raw.shape[1], *shape), np.float32)
        weights = _outer(self._windows)
        local = [[b - c for b in axis] for axis, c in zip(inside, corner, strict=True)]
        for batch, values in self._computed(raw, local, progress):
            for (z, begin, _), (tile,) in zip(batch, values, strict=True):
                to, of = [], []
                for b, c, l, n, r in zip(begin, corner, lo, shape, self.tiling.reach, strict=True):
                    start = b + c - l  # of the tile in the box
                    first, last = max(start, 0), min(start + r, n)
                    to.append(slice(first, last))
                    of.append(slice(first - start, last - start))
                where: tuple[Any, ...] = (slice(None), z, *to)
                out[where] += tile[(slice(None), *of)] * weights[tuple(of)]
        sums = [window_sum(w, b, n) for w, b, n in zip(self._windows, self._begins, self.out, strict=True)]
        out /= _outer([s[l:h] for s, l, h in zip(sums, lo, hi, strict=True)])
        self._report(_count_unusual(out))
        return _as_uint8(out) if as_uint8 else out

    def _report(self, unusual: int) -> None:
        if unusual:
            logger.warning("%s: %d computed values are NaN or infinite.", self.node.title, unusual)

    def _begins_in(self, lo: Position, hi: Position) -> list[list[int]]:
        """Return where tiles begin that meet a box of the output, for each axis."""
        axes = zip(self._begins, self.tiling.reach, lo, hi, strict=True)
        return [[b for b in begins if b < h and b + n > l] for begins, n, l, h in axes]

    def _computed(
        self, raw: Array, begins: Sequence[Sequence[int]], progress: Callable[[float], object] | None
    ) -> Iterator[tuple[list[Run], Array]]:
        """Yield runs and their values (runs, fragments, f, ...); tiles begin at `begins` of `raw`."""
        shifts = self.tiling.shifts
        runs = itertools.product(range(raw.shape[1]), itertools.product(*begins), shifts)
        total, done = math.prod([raw.shape[1], len(shifts), *map(len, begins)]), 0
        while batch := list(itertools.islice(runs, self.options.batch_size)):
            yield batch, self._values(raw, batch)
            done += len(batch)
            if progress is not None:
                progress(done / total)

    def _values(self, raw: Array, batch: list[Run]) -> Array:
        try:
            tensor = to_tensor(self._source, self._inputs(raw, batch), self._like)
            if self._channels_last:
                tensor = tensor.to(memory_format=torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d)
            total: torch.Tensor | None = None
            for axes in self._flips:
                values = self._plan.run([tensor.flip(axes) if axes else tensor])[0]
                values = values.flip(axes) if axes else values
                total = values if total is None else total + values
            assert total is not None
            found = to_numpy(total if len(self._flips) == 1 else total / len(self._flips))
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if self._like.device.type == "cuda":
                torch.cuda.empty_cache()
            raise _OutOfMemoryError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
        fragments = found.reshape(len(self.tiling.fragments), len(tensor), *found.shape[1:])
        return fragments.swapaxes(0, 1)[: len(batch)]

    def _inputs(self, raw: Array, batch: list[Run]) -> Array:
        # What lies outside of the image is 0, and so are the runs that fill up a batch of fixed size.
        fixed = self._source.shape["b"] if getattr(self._source, "hardcoded_shape", False) else None
        count = max(len(batch), fixed or 0)
        inputs: Array | None = None
        for i, (z, tile, shift) in enumerate(batch):
            corner = [a + b for a, b in zip(tile, shift, strict=True)]
            region = tuple(slice(a, a + p) for a, p in zip(corner, self.tiling.patch, strict=True))
            part = raw[:, z][(slice(None), *region)]
            if count == 1 and part.shape[1:] == self.tiling.patch:
                scaled = self._scale(part)
                return (scaled.copy() if np.may_share_memory(scaled, raw) else scaled)[None]
            if inputs is None:
                inputs = np.zeros((count, raw.shape[0], *self.tiling.patch), np.float32)
            if part.size:
                inputs[i][tuple(slice(n) for n in part.shape)] = self._scale(part)
        assert inputs is not None
        return inputs


class _OutOfMemoryError(Exception):
    """A run didn't fit into memory."""


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "not enough memory" in text or "can't allocate memory" in text or "could not create a memory object" in text
    )


def _count_unusual(values: Array) -> int:
    """Return how many values are NaN or infinite; one sum tells that none is."""
    if math.isfinite(values.sum(dtype=np.float64)):
        return 0
    return values.size - int(np.isfinite(values).sum())


def scale_alone(raw: Array) -> Array:
    """Return integers divided by 255, and floats as they are."""
    return raw / np.float32(255) if raw.dtype.kind in "iu" else raw


def _as_uint8(values: Array) -> Array:
    return np.clip(np.nan_to_num(values) * 255, 0, 255).astype(np.uint8)


def _outer(vectors: Sequence[Array]) -> Array:
    """Return the product of vectors along the axes of an array."""
    product: Array = functools.reduce(np.multiply, np.ix_(*vectors))
    return product


def _place(out: Array, fragments: Array, tiling: Tiling, run: Run) -> None:
    """Write the fragments of one run to where they belong in the output (f, ...)."""
    _, tile, shift = run
    for place, values in zip(tiling.fragments, fragments, strict=True):
        to: list[slice] = [slice(None)]
        source: list[slice] = [slice(None)]
        for a, b, c, n, s, end in zip(tile, shift, place, tiling.out, tiling.strides, out.shape[1:], strict=True):
            first = a + b + c
            count = min(n, max(0, -((first - end) // s)))
            to.append(slice(first, first + count * s, s))
            source.append(slice(count))
        out[tuple(to)] = values[tuple(source)]

"""Which input sizes go through a chain of convolutions and poolings, or any network, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from elektronn_tui.errors import ModelError, ShapeError

from .patch_size import REACH, fitting_patch_size, output_size

if TYPE_CHECKING:
    from .model import Model

__all__ = ["AxisSizes", "ChainSizes", "SizeChoice", "chain_sizes", "model_sizes"]

LARGEST = 4999


@dataclass(frozen=True)
class AxisSizes:
    """Sizes along one axis of a chain of layers.

    Attributes
    ----------
    patch_size : int
        Of the input.
    valid_patch_sizes : tuple of int
        All that go through, up to 4999.
    out, pool_out : tuple of int
        Behind the filter and behind the pooling of each layer; with fragments, of each fragment.
    fields : tuple of int
        Field of view of the first 1, 2, ... layers.
    strides : tuple of int
        Input voxels between two outputs of each layer.
    pred_stride : int
        The same of the prediction, whose fragments are interleaved.
    offset : float
        Half of what the output is smaller than the input: with an odd field of view a whole number.
    overlap : int
        By how much fields of view of neighbouring outputs overlap.
    """

    patch_size: int
    valid_patch_sizes: tuple[int, ...]
    out: tuple[int, ...]
    pool_out: tuple[int, ...]
    fields: tuple[int, ...]
    strides: tuple[int, ...]
    pred_stride: int
    offset: float
    overlap: int

    @property
    def output_size(self) -> int:
        """Of the prediction, with all fragments interleaved."""
        return self.pool_out[-1] * self.strides[-1] // self.pred_stride


@dataclass(frozen=True)
class ChainSizes:
    """Sizes of a chain of layers, by axis; its text is a table."""

    axes: tuple[AxisSizes, ...]

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Of the input, for each axis."""
        return tuple(axis.patch_size for axis in self.axes)

    @property
    def output_size(self) -> tuple[int, ...]:
        """Of the prediction, for each axis."""
        return tuple(axis.output_size for axis in self.axes)

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each layer: its number, sizes behind filter and pooling, field of view and stride."""
        columns = ("out", "pool_out", "fields", "strides")
        return [
            (str(k + 1), *(",".join(str(getattr(axis, name)[k]) for axis in self.axes) for name in columns))
            for k in range(len(self.axes[0].out))
        ]

    def __str__(self) -> str:
        lines = [f"input {self.patch_size}", "layer  out  pooled  field of view  stride"]
        return "\n".join([*lines, *("  ".join(row) for row in self.rows())])


def chain_sizes(
    filters: Sequence[Any],
    poolings: Sequence[Any] | int = 1,
    desired_patch_size: Sequence[int] | int | None = None,
    *,
    mfp: Sequence[bool] | bool = False,
    force_center: bool = False,
    desired_output: Sequence[int] | int | None = None,
    ndim: int = 1,
) -> ChainSizes:
    """Work out the sizes of a chain of layers, each a convolution and a pooling, as `elektronn_tui.models.Conv`.

    Parameters
    ----------
    filters, poolings : sequence
        For each layer a number, or one for each axis; one number of poolings counts for all layers.
    desired_patch_size : int or sequence of int, optional
        The size is this one if it goes through, else the next smaller one that does, or the smallest; default: the
        largest up to 4999.
    mfp : bool or sequence of bool
        Which layers keep fragments.
    force_center : bool
        Refuse a field of view that is even, whose outputs lie between voxels.
    desired_output : int or sequence of int, optional
        Of the last layer (with fragments, of all of them interleaved); if no patch gives it, the largest that gives
        less counts.
    ndim : int
        Axes, where all that is given are numbers.

    Raises
    ------
    ModelError
        Lengths or values make no sense, or no size up to 4999 goes through.
    """
    layers = list(filters)
    if not layers:
        raise ModelError("At least one filter is needed.")
    pools = [poolings] * len(layers) if isinstance(poolings, int) else list(poolings)
    kept = [mfp] * len(layers) if isinstance(mfp, bool) else [bool(flag) for flag in mfp]
    if not len(layers) == len(pools) == len(kept):
        raise ModelError(f"{len(layers)} filters, {len(pools)} poolings, {len(kept)} mfp: as many of each are needed.")
    given = [*layers, *pools, desired_patch_size, desired_output]
    counts = {len(value) for value in given if isinstance(value, list | tuple)} or {ndim}
    if len(counts) > 1:
        raise ModelError(f"There are values for {' and for '.join(map(str, sorted(counts)))} axes.")
    (ndim,) = counts
    wanted, output = (_by_axis(value, ndim) for value in (desired_patch_size, desired_output))
    filters_of, pools_of = (list(zip(*(_by_axis(n, ndim) for n in those), strict=True)) for those in (layers, pools))
    axes = zip(filters_of, pools_of, wanted, output, strict=True)
    return ChainSizes(tuple(_axis(f, p, kept, size, n, force_center) for f, p, size, n in axes))


def _by_axis(value: Any, ndim: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * ndim


def _axis(
    filters: Sequence[int],
    pools: Sequence[int],
    mfp: Sequence[bool],
    wanted: int | None,
    output: int | None,
    force_center: bool,
) -> AxisSizes:
    for what, values in (("filter", filters), ("pooling", pools)):
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ModelError(f"A {what} must be a whole number from 1 on, not {value!r}.")
    sizes = np.arange(1, LARGEST + 1)
    valid, out = np.ones(LARGEST, bool), sizes
    for f, p, fragments in zip(filters, pools, mfp, strict=True):
        rest = p - 1 if fragments else 0  # each shift of the pooling gives as many outputs
        after = out - f + 1
        valid &= (after >= p + rest) & (after % p == rest)
        out = after // p
    dense = int(np.prod([p for p, fragments in zip(pools, mfp, strict=True) if fragments]))
    good, results = sizes[valid], out[valid] * dense
    if not len(good):
        raise ModelError(f"No size up to {LARGEST} goes through filters {tuple(filters)} and poolings {tuple(pools)}.")
    if output is not None:
        right, less = good[results == output], good[results < output]
        patch = int(right[0] if len(right) else less[-1] if len(less) else good[0])
    elif wanted is not None:
        smaller = good[good <= wanted]
        patch = int(smaller[-1] if len(smaller) else good[0])
    else:
        patch = int(good[-1])
    return _laid_out(patch, tuple(good.tolist()), filters, pools, mfp, force_center)


def _laid_out(
    patch: int,
    valid: tuple[int, ...],
    filters: Sequence[int],
    pools: Sequence[int],
    mfp: Sequence[bool],
    force_center: bool,
) -> AxisSizes:
    outs, pooled, fields, strides = [], [], [], []
    size, field, stride, coarse = patch, 1, 1, 1
    for f, p, fragments in zip(filters, pools, mfp, strict=True):
        size = size - f + 1
        outs.append(size)
        size //= p
        pooled.append(size)
        field += (f + p - 2) * stride
        stride *= p
        coarse *= 1 if fragments else p
        fields.append(field)
        strides.append(stride)
    if force_center and field % 2 == 0:
        raise ModelError(
            f"The field of view {field} is even, so outputs lie between voxels; with a pooling of 2 the first filter "
            "must be even."
        )
    return AxisSizes(
        *(patch, valid, tuple(outs), tuple(pooled), tuple(fields), tuple(strides), coarse),
        *((field - 1) / 2, field - coarse),
    )


@dataclass(frozen=True)
class SizeChoice:
    """An input size that goes through a network on one axis, and what comes out of it."""

    axis: str
    size: int
    output: int
    chosen: bool


def model_sizes(
    model: Model,
    wanted: Sequence[int] | None = None,
    *,
    output: Sequence[int] | None = None,
    mfp: bool = False,
    near: int = 3,
) -> list[SizeChoice]:
    """Return the input sizes near a wanted one that go through a network up to its prediction, axis by axis.

    Parameters
    ----------
    model : Model
    wanted : sequence of int, optional
        Default: what the input declares, or the smallest.
    output : sequence of int, optional
        Instead of it: the prediction is to be as large as this, or larger.
    mfp : bool
        With fragments in all poolings; outputs are those of one fragment.
    near : int
        How many smaller and larger sizes are listed with the chosen one, of each axis.

    Raises
    ------
    ModelError, ShapeError
        There is no such size, or the network has no spatial axes.
    """
    raw = model.input_node.shape
    tags = raw.spatial_tags
    if not tags:
        raise ModelError(f"Model {model.name!r} takes {raw.text}, which has no spatial axes.")
    for what, values in (("size", wanted), ("output", output)):
        if values is not None and len(values) != len(tags):
            raise ModelError(f"A {what} needs one number for each of {', '.join(tags)}, not {tuple(values)}.")
    start = tuple(wanted) if wanted is not None else tuple(n or 1 for n in raw.spatial_shape)
    chosen, _ = fitting_patch_size(model, start, mfp=mfp)
    found = []
    for axis, tag in enumerate(tags):
        choices = _valid_near(model, chosen, axis, mfp, near, None if output is None else int(output[axis]))
        found += [SizeChoice(tag, size, out, picked) for size, out, picked in choices]
    return found


def _valid_near(
    model: Model, chosen: tuple[int, ...], axis: int, mfp: bool, near: int, output: int | None
) -> list[tuple[int, int, bool]]:
    """Return sizes, outputs and whether it is the chosen one, of one axis."""

    def result(size: int) -> int | None:
        try:
            sizes = output_size(model, (*chosen[:axis], size, *chosen[axis + 1 :]), mfp=mfp)
        except ShapeError:
            return None
        return sizes[axis] if axis < len(sizes) else 1

    middle = chosen[axis] if output is None else _giving(result, chosen[axis], output)
    rows = [(middle, result(middle) or 0, True)]
    for step in (-1, 1):
        size, count = middle, 0
        while count < near and (size := size + step) >= 1 and abs(size - middle) <= REACH:
            if (out := result(size)) is not None:
                rows.append((size, out, False))
                count += 1
    return sorted(rows)


def _giving(result: Callable[[int], int | None], start: int, output: int) -> int:
    """Return the smallest size whose result is at least so large; results grow with sizes."""
    size, out = start, result(start) or 0
    while out < output and size < LARGEST:
        size += 1
        out = result(size) or out
    best, gap = size, 0
    while size > 1 and gap <= REACH:
        size -= 1
        found = result(size)
        if found is not None and found < output:
            break
        best, gap = (size, 0) if found is not None else (best, gap + 1)
    if out < output:
        raise ModelError(f"No size up to {LARGEST} gives an output of {output}.")
    return best

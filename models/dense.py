"""Dense prediction: one output for each voxel of an image, tile by tile, whatever the network's strides."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from elektronn_tui.errors import ModelError, ShapeError

from .declared import checked
from .engines import Engine, every_voxel
from .feeding import computing_tensor, in_evaluation, to_numpy, to_tensor
from .node import Node, misfit
from .plan import Plan, infer_shapes
from .shape import TaggedShape
from .spatial import spatial_tuple

__all__ = ["DenseGeometry", "dense_geometry", "predict_dense"]

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Scale = Callable[[Array], Array]
Position = tuple[int, ...]

REACH = 1024
"""How much larger than an image the input of a network that pads may become until its sizes fit."""


@dataclass(frozen=True)
class Tiling:
    """How tiles lie on an image; everything has one entry for each spatial axis.

    Attributes
    ----------
    patch : tuple of int
        Input of one run.
    out : tuple of int
        Output of one run, of each fragment.
    strides : tuple of int
    fragments : list of tuple of int
        Where each fragment's first voxel lies in the dense output of a tile.
    shifts : list of tuple of int
        Where in a tile the input of each run begins: with the fragments they give every voxel once.
    offset : tuple of int
        Where the first output voxel lies in the image.
    lost : tuple of int
        By how much the output is smaller than the image.
    step : tuple of int
        Distance between tiles.
    """

    patch: Position
    out: Position
    strides: Position
    fragments: list[Position]
    shifts: list[Position]
    offset: Position
    lost: Position
    step: Position


@dataclass(frozen=True)
class DenseGeometry:
    """How the dense output of a node lies on an image; an entry for each spatial axis.

    Attributes
    ----------
    offset : tuple of int
        Where its first voxel lies, without padding.
    lost : tuple of int
        By how much it is smaller than the image.
    step : tuple of int
        Boxes of the output that begin at multiples of it can be computed by themselves, from the input that they see.
    whole : bool
        That this is not so, because the network has to see the whole image.
    """

    offset: Position
    lost: Position
    step: Position
    whole: bool


def dense_geometry(node: Node, size: Sequence[int], patch_shape: Sequence[int] | None = None) -> DenseGeometry:
    """Return how `predict_dense` places the output of `node` on an image of `size`.

    Raises
    ------
    ModelError, ShapeError
        As `predict_dense`.
    """
    plan = Plan([node])
    tiling = _tiling(node, _source(node), plan, tuple(size), patch_shape)
    whole = any(other.needs_whole_image for other in plan.nodes)
    return DenseGeometry(tiling.offset, tiling.lost, tiling.step, whole)


@checked
def predict_dense(
    node: Node,
    raw_img: npt.ArrayLike,
    as_uint8: bool = False,
    pad_raw: bool = False,
    *,
    patch_shape: Sequence[int] | None = None,
    batch_size: int = 1,
    engine: Engine = "auto",
    scale: Scale | None = None,
    channels_last: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Array:
    """Return the output of `node` at every voxel of an image where its field of view fits in.

    The values don't depend on the tiles. A network whose output is strided is rewritten to give every voxel in one run,
    or else is run for every shift of its input. A network that pads inside (``conv_mode='same'``), or looks everywhere
    at once (group normalisation), sees the whole image in one run.

    Parameters
    ----------
    node : Node
        With two or three spatial axes and one source, of which it has the axes.
    raw_img : array_like, (f, z, y, x) or (f, y, x)
        For a network of two spatial axes (f, z, y, x) is done slice by slice.
    as_uint8 : bool
        Return the values times 255, cut to 0 to 255 and truncated, as uint8; NaN becomes 0.
    pad_raw : bool
        Mirror the image at its borders, so that the output covers all of it.
    patch_shape : sequence of int, optional
        Input of one run, for each spatial axis; default: the size that the source declares. Larger ones are faster.
    batch_size : int
        Runs that are computed together.
    engine : {'auto', 'dilated', 'mfp', 'shifts'}
        How a strided network gives every voxel; see `elektronn_tui.models.engines.every_voxel`.
    scale : callable, optional
        From stored values (f, ...) to what the network reads. Default: integers are divided by 255, floats are taken as
        they are.
    channels_last : bool
        Give the network its input in this memory format.
    progress : callable, optional
        Called after each run or batch of runs with the share of them that is done, up to 1.

    Returns
    -------
    ndarray of float32 or uint8, (f_out, ...)
        With as many axes as `raw_img`. Without `pad_raw` its first voxel lies at ``node.shape.offsets`` of the image.

    Raises
    ------
    ModelError
        If the node has several sources, or an argument is no good.
    ShapeError
        If the image or the patch doesn't fit the network, or the image is smaller than the field of view.
    """
    node, used = every_voxel(node, engine)
    source, shape = _source(node), node.shape
    image, ndim = np.asarray(raw_img), shape.ndim
    sliced = ndim == 2 and image.ndim == 4
    if image.ndim != ndim + 1 and not sliced:
        axes = ", ".join(shape.spatial_tags)
        raise misfit(node, f"takes images with the axes f, {axes}, not one of the shape {image.shape}.")
    channels = source.shape["f"]
    if image.shape[0] != channels:
        raise misfit(node, f"axis f of the image must be of size {channels}, not {image.shape[0]}.", "f")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ModelError(f"{node.title}: batch_size must be a whole number from 1 on, not {batch_size!r}.")
    if scale is None:
        scale = _scale_alone
    plan = Plan([node])
    size = image.shape[-ndim:]
    if used == "dilated" and patch_shape is None:
        patch_shape = _within(node, source, size, pad_raw)
    tiling = _tiling(node, source, plan, size, patch_shape)
    if pad_raw:
        widths = [(o, max(lost - o, 0)) for o, lost in zip(tiling.offset, tiling.lost, strict=True)]
        image = np.pad(image, [(0, 0)] * (image.ndim - ndim) + widths, mode="symmetric")
        size = image.shape[-ndim:]
        tiling = _tiling(node, source, plan, size, patch_shape)
    result = tuple(n - lost for n, lost in zip(size, tiling.lost, strict=True))
    for tag, n, lost in zip(shape.spatial_tags, size, tiling.lost, strict=True):
        if n <= lost:
            raise misfit(
                node,
                f"the image has size {n} on axis {tag}, which is smaller than the field of view; it must be "
                f"{lost + 1} at least, or pad_raw=True.",
                tag,
            )
    slices = image if sliced else image[:, None]
    out = np.empty((shape["f"], slices.shape[1], *result), np.uint8 if as_uint8 else np.float32)
    start = time.perf_counter()
    with torch.no_grad(), in_evaluation(other.operation for other in plan.nodes):
        corners = [range(0, n, step) for n, step in zip(result, tiling.step, strict=True)]
        runs = itertools.product(range(slices.shape[1]), itertools.product(*corners), tiling.shifts)
        total = math.prod([slices.shape[1], len(tiling.shifts), *map(len, corners)])
        count = unusual = 0
        for batch in _batches(runs, batch_size):
            values = _run(plan, source, slices, tiling, batch, scale, channels_last)
            unusual += values.size - int(np.isfinite(values).sum())
            if as_uint8:
                values = np.clip(np.nan_to_num(values) * 255, 0, 255)
            for run, fragments in zip(batch, values, strict=True):
                _place(out[:, run[0]], fragments, tiling, run)
            count += len(batch)
            if progress is not None:
                progress(count / total)
    seconds = time.perf_counter() - start
    logger.info(
        *("%s: %d runs (%s), %.3g MVoxel/s, %.1f s", node.title, count, used, out[0].size / 1e6 / seconds, seconds)
    )
    if unusual:
        logger.warning("%s: %d computed values are NaN or infinite.", node.title, unusual)
    return out if sliced else out[:, 0]


Run = tuple[int, Position, Position]
"""Slice, first voxel of the tile, shift in the tile."""


def _source(node: Node) -> Node:
    sources, shape = node.input_nodes, node.shape
    if len(sources) != 1:
        names = ", ".join(source.name for source in sources) or "none"
        raise ModelError(f"{node.title}: dense prediction needs a node with one source, but this has {names}.")
    tags = sources[0].shape.tags
    if shape.ndim not in (2, 3) or shape.tags[:2] != ("b", "f") or shape.tags != tags:
        raise misfit(
            node,
            f"dense prediction needs the axes b, f and two or three of z, y, x, the same as in the source; it has "
            f"{shape.text} of {sources[0].shape.text}.",
        )
    return sources[0]


def _within(node: Node, source: Node, size: Position, padded: bool) -> list[int]:
    """Return the declared patch, no larger than the image: a dilated network takes all sizes from its field of view."""
    declared = zip(source.shape.spatial_shape, size, node.shape.fov, strict=True)
    return [min(p or n, max(n + (fov - 1 if padded else 0), fov)) for p, n, fov in declared]


def _scale_alone(raw: Array) -> Array:
    return raw / np.float32(255) if raw.dtype.kind in "iu" else raw


def _tiling(node: Node, source: Node, plan: Plan, size: Position, patch_shape: Sequence[int] | None) -> Tiling:
    """Work out the tiles for an image of this size."""
    tags = node.shape.spatial_tags
    strides = node.shape.strides
    if any(s != int(s) for s in strides):
        raise misfit(node, f"dense prediction needs whole strides, not {strides}: it has more outputs than voxels.")
    if min(node.shape.offsets) < 0:
        raise misfit(
            node,
            f"its offsets {node.shape.offsets} are not known or negative, so it can't be placed in the image; "
            "make it the prediction_node of a model.",
        )
    steps = [int(s) for s in strides]
    places = [sorted({int(o) for o in column}) for column in node.shape.mfp_offsets.T]
    shifts = [_missing(own, s) for own, s in zip(places, steps, strict=True)]
    whole = any(other.needs_whole_image for other in plan.nodes)
    if whole:
        if patch_shape is not None:
            raise ModelError(
                f"{node.title}: the network pads inside or looks everywhere at once, so it must see the whole "
                "image; leave patch_shape out."
            )
        least = [max(n - max(own), 1) for n, own in zip(size, shifts, strict=True)]
        patch = tuple(_fitting(source, plan, tag, n) for tag, n in zip(tags, least, strict=True))
    elif patch_shape is None:
        if None in source.shape.spatial_shape:
            raise misfit(node, f"the source {source.shape.text} leaves sizes open, so patch_shape is needed.")
        patch = tuple(n for n in source.shape.spatial_shape if n is not None)
    else:
        patch = spatial_tuple(node, "patch_shape", patch_shape, node.shape.ndim)
    batch = source.shape["b"] or 1
    shapes = infer_shapes(plan.nodes, {source: source.fitted_shape((batch, source.shape["f"], *patch))})
    out = tuple(n or 1 for n in shapes[node].spatial_shape)
    reach = [n * s for n, s in zip(out, steps, strict=True)]
    if whole:
        tile_steps = reach
    else:
        periods = _periods(node, shapes)
        tile_steps = [_step(node, tag, n, m) for tag, n, m in zip(tags, reach, periods, strict=True)]
    return Tiling(
        patch,
        out,
        tuple(steps),
        [tuple(row) for row in node.shape.mfp_offsets.tolist()],
        list(itertools.product(*shifts)),
        node.shape.offsets,
        tuple(p + max(own) - n for p, own, n in zip(patch, shifts, reach, strict=True)),
        tuple(tile_steps),
    )


def _missing(places: list[int], stride: int) -> list[int]:
    """Return the shifts that, with fragments at `places`, give every voxel within a stride once."""
    shifts: list[int] = []
    covered: set[int] = set()
    for shift in range(stride):
        if shift not in covered:
            shifts.append(shift)
            covered |= {shift + place for place in places}
    return shifts


def _periods(node: Node, shapes: dict[Node, TaggedShape]) -> list[int]:
    """Return by how many voxels the input must be shifted on each axis until the output is shifted alike.

    That is 1 where each output voxel is computed by itself, and the coarsest stride inside of a U-Net.
    """
    periods = []
    for axis, tag in enumerate(node.shape.spatial_tags):
        own = _period(node.shape, axis)
        inner = [_period(s, s.spatial_tags.index(tag)) for s in shapes.values() if s.hastag(tag)]
        periods.append(1 if all(own % m == 0 for m in inner) else math.lcm(own, *inner))
    return periods


def _period(shape: TaggedShape, axis: int) -> int:
    return max(1, int(shape.strides[axis]) // len(set(shape.mfp_offsets[:, axis].tolist())))


def _step(node: Node, tag: str, reach: int, period: int) -> int:
    if reach < period:
        raise misfit(
            node,
            f"one run gives {reach} voxels on axis {tag}, but values repeat in steps of {period} only; a larger "
            "patch_shape is needed.",
            tag,
        )
    return reach // period * period


def _fitting(source: Node, plan: Plan, tag: str, least: int) -> int:
    """Return the smallest size on an axis, from `least` on, that goes through the network."""
    message = ""
    for size in range(least, least + REACH):
        try:
            infer_shapes(plan.nodes, {source: source.shape.updateshape(tag, size)})
        except ShapeError as error:
            message = str(error)
            continue
        return size
    raise misfit(source, f"no size on axis {tag} from {least} to {least + REACH} fits: {message}", tag)


def _batches(runs: Iterator[Run], size: int) -> Iterator[list[Run]]:
    while batch := list(itertools.islice(runs, size)):
        yield batch


def _run(
    plan: Plan, source: Node, slices: Array, tiling: Tiling, batch: list[Run], scale: Scale, channels_last: bool
) -> Array:
    """Return the outputs of some runs, (runs, fragments, f, *out)."""
    # What lies outside of the image is 0, and so are the runs that fill up a batch of fixed size.
    fixed = source.shape["b"] if getattr(source, "hardcoded_shape", False) else None
    count = max(len(batch), fixed or 0)
    inputs = np.zeros((count, slices.shape[0], *tiling.patch), np.float32)
    for i, (z, tile, shift) in enumerate(batch):
        corner = [a + b for a, b in zip(tile, shift, strict=True)]
        region = tuple(slice(a, a + p) for a, p in zip(corner, tiling.patch, strict=True))
        window = slices[:, z][(slice(None), *region)]
        if window.size:
            filled = tuple(slice(n) for n in window.shape)
            inputs[i][filled] = scale(window)
    tensor = to_tensor(source, inputs, computing_tensor(node.operation for node in plan.nodes))
    if channels_last:
        tensor = tensor.to(memory_format=torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d)
    values = to_numpy(plan.run([tensor])[0])
    fragments = values.reshape(len(tiling.fragments), count, *values.shape[1:])
    return fragments.swapaxes(0, 1)[: len(batch)]


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

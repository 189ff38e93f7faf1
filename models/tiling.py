"""Tiles: how runs of a network lie on an image, and how large they are, for speed within a limit of memory."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from elektronn_tui.errors import ModelError, ShapeError

from .footprint import peak_bytes
from .node import Node, misfit
from .plan import Plan, infer_shapes
from .shape import TaggedShape
from .spatial import spatial_tuple

__all__ = ["Tiler", "Tiling"]

logger = logging.getLogger(__name__)

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
    period : tuple of int
        Of what `step` is a multiple: by so many voxels the input is shifted until the output is shifted alike.
    grain : tuple of int
        By multiples of what a patch may be larger or smaller: all strides inside go into it.
    whole : bool
        That the network has to see the whole image, and that tiles that overlap stand in for it if it doesn't.
    bytes : int
        About how much memory a run takes.
    """

    patch: Position
    out: Position
    strides: Position
    fragments: list[Position]
    shifts: list[Position]
    offset: Position
    lost: Position
    step: Position
    period: Position
    grain: Position
    whole: bool
    bytes: int

    @property
    def reach(self) -> Position:
        """What a tile covers of the output."""
        return tuple(n * s for n, s in zip(self.out, self.strides, strict=True))


class Tiler:
    """Chooses tiles for images that a node is to be computed at every voxel of.

    Parameters
    ----------
    node : Node
    patch_shape : sequence of int, optional
        Input of one run; default: as large as `memory` allows, such that little is computed twice. A network that has
        to see the whole image does so if that fits into memory, or else gets the size that its source declares.
    overlap : float
        Share of a tile that the next one covers, too, where a network has to see the whole image but doesn't.
    memory : int
        Bytes that a run may take.
    batch_size : int
        Runs that are computed together.
    itemsize : int
        Bytes of a value.
    beside : int
        Bytes for each output voxel of a tile that are held beside a run.

    Raises
    ------
    ModelError
        The node can't be computed densely.
    """

    def __init__(
        self,
        node: Node,
        *,
        patch_shape: Sequence[int] | None,
        overlap: float,
        memory: int,
        batch_size: int,
        itemsize: int,
        beside: int,
    ) -> None:
        self.node, self.source, self.plan = node, _source(node), Plan([node])
        self.memory, self._overlap = memory, overlap
        self._batch, self._itemsize, self._beside, self._shrunk = batch_size, itemsize, beside, False
        if any(s != int(s) for s in node.shape.strides):
            raise misfit(
                node,
                f"dense prediction needs whole strides, not {node.shape.strides}: it has more outputs than voxels.",
            )
        if min(node.shape.offsets) < 0:
            raise misfit(
                node,
                f"its offsets {node.shape.offsets} are not known or negative, so it can't be placed in the image; "
                "make it the prediction_node of a model.",
            )
        self._strides = tuple(int(s) for s in node.shape.strides)
        places = [sorted({int(o) for o in column}) for column in node.shape.mfp_offsets.T]
        self._shifts = [_missing(own, s) for own, s in zip(places, self._strides, strict=True)]
        self._whole = any(other.needs_whole_image for other in self.plan.nodes)
        self.given = None if patch_shape is None else spatial_tuple(node, "patch_shape", patch_shape, node.shape.ndim)

    def tiling(self, size: Position, pad: bool) -> Tiling:
        """Return the tiles for an image of this size, which is mirrored at its borders with `pad`.

        Raises
        ------
        ShapeError
            The image or the given patch doesn't fit.
        """
        return self._overlapping(size, pad) if self._whole else self._exact(size, pad)

    def _exact(self, size: Position, pad: bool) -> Tiling:
        """Return tiles that give the values of the whole whatever their size."""
        base = self._of(self.given or self._declared())
        result = size if pad else tuple(n - lost for n, lost in zip(size, base.lost, strict=True))
        for tag, n, lost, m in zip(self.node.shape.spatial_tags, size, base.lost, result, strict=True):
            if m < 1:
                raise misfit(
                    self.node,
                    f"the image has size {n} on axis {tag}, which is smaller than the field of view; it must be "
                    f"{lost + 1} at least, or pad_raw=True.",
                    tag,
                )
        if getattr(self.source, "hardcoded_shape", False) or (self.given and not self._shrunk):
            return base
        if self.given:
            result = tuple(min(n, s) for n, s in zip(result, base.step, strict=True))
        return self._balanced(base, result)

    def shrink(self, tiling: Tiling) -> None:
        """Let tiles from now on take half of the memory of this one, which was too large, whatever was asked for."""
        self.memory, self._shrunk = tiling.bytes // 2, True

    def _balanced(self, base: Tiling, result: Position) -> Tiling:
        """Return tiles of about the same size that fit into memory, so split that little is computed twice."""

        def grown(steps: Sequence[int]) -> Position:
            """Return the patch whose tile covers `steps`; it leaves the same rest to poolings as that of the base."""
            axes = zip(steps, base.step, base.grain, base.patch, strict=True)
            return tuple(n + max(-(-(wish - s) // p), -((n - 1) // p)) * p for wish, s, p, n in axes)

        wanted = list(result)
        while True:
            tiling = self._fitting(grown(wanted), base.grain)
            if tiling.bytes <= self.memory:
                return tiling
            cheapest: tuple[int, int, int] | None = None
            for axis, (n, step, grain) in enumerate(zip(result, tiling.step, base.grain, strict=True)):
                if step <= grain:
                    continue
                count = -(-n // (step - grain))  # the next number of tiles that makes them smaller
                smaller = [*wanted[:axis], -(-n // count), *wanted[axis + 1 :]]
                tiles = math.prod(-(-m // w) for m, w in zip(result, smaller, strict=True))
                choice = (tiles * math.prod(grown(smaller)), axis, smaller[axis])
                cheapest = choice if cheapest is None else min(cheapest, choice)
            if cheapest is None:
                return tiling  # smaller ones are not possible
            _, axis, n = cheapest
            if n == wanted[axis]:
                return tiling
            wanted[axis] = n

    def _fitting(self, patch: Position, grain: Position) -> Tiling:
        """Return the tiling of a patch, or of the next one that goes through the network."""
        least = patch
        while True:
            try:
                return self._of(patch)
            except ShapeError as error:
                tags = self.node.shape.spatial_tags
                if error.axis not in tags:
                    raise
                axis = tags.index(error.axis)
                if patch[axis] > least[axis] + REACH:
                    raise
                patch = (*patch[:axis], patch[axis] + grain[axis], *patch[axis + 1 :])

    def _overlapping(self, size: Position, pad: bool) -> Tiling:
        """Return one tile as large as the image, or tiles that overlap if that is too large or others are asked for."""
        if self.given is None:
            one = self._seeing(size)
            if pad and any(one.lost):
                one = self._seeing(tuple(n + lost for n, lost in zip(size, one.lost, strict=True)))
            if one.bytes <= self.memory or self.source.shape.spatial_shape.count(None):
                return one
        patch = tuple(
            min(n, self._least_fitting(tag, m))
            for tag, n, m in zip(self.node.shape.spatial_tags, self.given or self._declared(), size, strict=True)
        )
        tiling = self._of(patch, period_from_step=False)
        if self.given is None and not self._shrunk:
            logger.warning(
                "%s would take about %.3g GiB to see all of %s at once; tiles of %s are blended instead.",
                *(self.node.title, one.bytes / 2**30, "×".join(map(str, size)), "×".join(map(str, patch))),
            )
        if len(tiling.shifts) * len(tiling.fragments) > 1:
            raise ModelError(
                f"{self.node.title}: the network pads inside or looks everywhere at once, and has strides, so it must "
                "see the whole image; leave patch_shape out, or give it more memory."
            )
        axes = zip(tiling.reach, tiling.period, tiling.patch, size, strict=True)
        shared = 1 - self._overlap
        return replace(tiling, step=tuple(r if n >= m else max(round(r * shared) // p * p, p) for r, p, n, m in axes))

    def _seeing(self, size: Position) -> Tiling:
        tags = self.node.shape.spatial_tags
        least = (max(n - max(own), 1) for n, own in zip(size, self._shifts, strict=True))
        patch = tuple(self._least_fitting(tag, n) for tag, n in zip(tags, least, strict=True))
        return self._of(patch, period_from_step=False)

    def _least_fitting(self, tag: str, least: int) -> int:
        """Return the smallest size on an axis, from `least` on, that goes through the network."""
        message = ""
        for size in range(least, least + REACH):
            try:
                infer_shapes(self.plan.nodes, {self.source: self.source.shape.updateshape(tag, size)})
            except ShapeError as error:
                message = str(error)
                continue
            return size
        raise misfit(self.source, f"no size on axis {tag} from {least} to {least + REACH} fits: {message}", tag)

    def _declared(self) -> Position:
        """Return the sizes that the source declares; one that is left open is the smallest that fits."""
        shape = self.source.shape
        if None in shape.spatial_shape and min(self.node.shape.fov) < 1:
            raise misfit(self.node, f"the source {shape.text} leaves sizes open, so patch_shape is needed.")
        axes = zip(shape.spatial_tags, shape.spatial_shape, self.node.shape.fov, strict=True)
        return tuple(self._least_fitting(tag, fov) if n is None else n for tag, n, fov in axes)

    def _of(self, patch: Position, *, period_from_step: bool = True) -> Tiling:
        """Return the tiling of a patch.

        Raises
        ------
        ShapeError
            The patch doesn't go through the network, or gives too little.
        """
        node, source = self.node, self.source
        batch = source.shape["b"] if getattr(source, "hardcoded_shape", False) else self._batch
        shapes = infer_shapes(self.plan.nodes, {source: source.fitted_shape((batch or 1, source.shape["f"], *patch))})
        out = tuple(n or 1 for n in shapes[node].spatial_shape)
        reach = tuple(n * s for n, s in zip(out, self._strides, strict=True))
        periods = tuple(_periods(node, shapes))
        step = reach
        if period_from_step:
            tags = node.shape.spatial_tags
            step = tuple(_step(node, tag, n, m) for tag, n, m in zip(tags, reach, periods, strict=True))
        return Tiling(
            patch,
            out,
            self._strides,
            [tuple(row) for row in node.shape.mfp_offsets.tolist()],
            list(itertools.product(*self._shifts)),
            node.shape.offsets,
            tuple(p + max(own) - n for p, own, n in zip(patch, self._shifts, reach, strict=True)),
            step,
            periods,
            tuple(_grain(tag, shapes) for tag in node.shape.spatial_tags),
            self._whole,
            peak_bytes(self.plan, shapes, self._itemsize) + self._beside * math.prod(reach),
        )


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


def _grain(tag: str, shapes: dict[Node, TaggedShape]) -> int:
    strides = (s.strides[s.spatial_tags.index(tag)] for s in shapes.values() if s.hastag(tag))
    return math.lcm(*(max(1, int(stride)) for stride in strides))


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

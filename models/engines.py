"""Ways to one output for each voxel from a network whose outputs lie further apart, on the network's own parameters.

``mfp``: every pooling keeps the results of all shifts of its grid as fragments on the batch axis, and the last step
interleaves them (Masci et al., 2013). ``dilated``: every pooling gives a value at each voxel, and whatever comes behind
it takes voxels that lie as far from each other as the pooling's outputs did (Giusti et al., 2013; Yu and Koltun, 2016).
Both compute what the network would give for each shift of its input, and share what shifts have in common.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from typing import Literal

from torch import nn

from elektronn_tui.errors import ModelError, ShapeError

from .conv import Conv
from .cropping import Crop
from .fragments import FragmentsToDense
from .merging import Add, Concat, MultMerge
from .node import Node, misfit
from .plan import walk
from .pooling import Pool
from .shape import TaggedShape
from .softmax import Softmax

__all__ = ["Engine", "Rewrite", "every_voxel", "rewritten"]

Rewrite = Literal["mfp", "dilated"]
Engine = Literal["auto", "dilated", "mfp", "shifts"]

logger = logging.getLogger(__name__)

REACH = 64
"""How much larger than declared the input of a network may become until fragments fit."""


def every_voxel(node: Node, engine: Engine = "auto") -> tuple[Node, str]:
    """Return a node that gives each voxel in one run where that is possible, and how: ``direct`` if it does by itself.

    ``auto`` takes ``dilated``, any patch size of which fits, then ``mfp``, then ``shifts``: the node as it is, run for
    each shift of its input. On one thread (AVX2, torch 2.13, float32 channels-last, neuro3d_lite) ``dilated`` gave
    31 500 voxels/s, ``mfp`` 30 400, ``shifts`` 8 200.

    Raises
    ------
    ModelError
        If the engine that is asked for can't be used: says why.
    """
    if engine not in ("auto", "dilated", "mfp", "shifts"):
        raise ModelError(f"{node.title}: engine must be auto, dilated, mfp or shifts, not {engine!r}.")
    if len(node.shape.mfp_offsets) > 1:
        return node, "mfp"
    if max(node.shape.strides, default=1) <= 1:
        return node, "direct"
    ways: tuple[Rewrite, ...] = ("dilated", "mfp") if engine == "auto" else () if engine == "shifts" else (engine,)
    for way in ways:
        try:
            return rewritten(node, way), way
        except ModelError as error:
            if engine != "auto":
                raise
            logger.info("%s", error)
    return node, "shifts"


def rewritten(node: Node, engine: Rewrite) -> Node:
    """Return a node that gives, with strides of 1, what `node` gives for all shifts of its input.

    It has the same source and computes with the same parameters, also when they change later.

    Parameters
    ----------
    node : Node
    engine : {'mfp', 'dilated'}

    Raises
    ------
    ModelError
        If a node on the way can't be rewritten: names it and says why.
    """
    sources = [n for n in walk([node]) if n.is_source]
    if len(sources) != 1 or getattr(sources[0], "hardcoded_shape", False):
        raise ModelError(f"{node.title} can't be rewritten: it needs one source, of any size.")
    try:
        return _fragmented(node) if engine == "mfp" else _dilated(node)
    except ShapeError as error:
        raise ModelError(f"{node.title} can't be computed at every voxel by {engine!r}: {error}") from error


def _fragmented(node: Node) -> Node:
    (source,) = (n for n in walk([node]) if n.is_source)
    size = source.shape
    while True:
        try:
            return _fragmented_from(node, source, size)
        except ShapeError as error:
            # Sizes that fit without fragments don't fit with them, but others near.
            axis = error.axis
            if axis is None or (size[axis] or 0) - (source.shape[axis] or 0) > REACH:
                raise
            size = size.updateshape(axis, 1, "add")


def _fragmented_from(node: Node, source: Node, size: TaggedShape) -> Node:
    last = node.parents[0] if isinstance(node, Softmax) else node  # its scores take fewer bytes
    twins: dict[Node, Node] = {source: copy.copy(source)}
    twins[source].__dict__ |= {"shape": size, "_declared": size, "_plan": None}
    for old in walk([last]):
        if old is source:
            continue
        _check_local(old)
        if isinstance(old, Pool) and old.stride != old.pool_shape:
            raise misfit(old, "fragments need a pooling in steps of its window.")
        if isinstance(old, Conv | Pool) and max(old.pool_shape) > 1:
            twin = _twin(old, twins, _changed(old.operation, mfp=True))
            twin.__dict__["mfp"] = True
        else:
            twin = _twin(old, twins, old.operation)
        twins[old] = _settled(twin)
    dense = twins[last]
    if max(dense.shape.strides) > 1:
        dense = FragmentsToDense(dense)
    return dense if last is node else _settled(_twin(node, {last: dense}, node.operation))


def _dilated(node: Node) -> Node:
    twins: dict[Node, Node] = {}
    for old in walk([node]):
        twins[old] = old if old.is_source else _dilated_twin(old, twins)
    return twins[node]


def _dilated_twin(old: Node, twins: Mapping[Node, Node]) -> Node:
    _check_local(old)
    shape = old.parents[0].shape
    gaps = tuple(int(s) for s in shape.strides)
    if isinstance(old, FragmentsToDense):
        return twins[old.parents[0]]
    if isinstance(old, Conv | Pool | Crop):
        if isinstance(old, Crop):
            lost = tuple(2 * c * g for c, g in zip(old.crop, gaps, strict=True))
            index = {axis: c * g for axis, c, g in zip(shape.spatial_axes, old.crop, gaps, strict=True)}
            operation: nn.Module = type(old.operation)(index)
        else:
            filters = old.filter_shape if isinstance(old, Conv) else (1,) * shape.ndim
            reach = zip(filters, old.pool_shape, gaps, strict=True)
            lost = tuple((f - 1 + p - 1) * g for f, p, g in reach)
            operation = _changed(old.operation, dilation=gaps)
        return _Dilated(old, twins[old.parents[0]], operation, lost)
    if isinstance(old, Add | Concat | MultMerge):
        return _settled(_twin(old, twins, old.operation))
    if len(old.parents) > 1 or not _is_pointwise(old):
        raise misfit(old, "it isn't known how it would work on voxels that lie apart.")
    return _Dilated(old, twins[old.parents[0]], old.operation, (0,) * shape.ndim)


def _check_local(node: Node) -> None:
    """Raise unless the values of a node depend on what it sees only, and it can be seen what that is."""
    if node.needs_whole_image:
        raise misfit(node, "it pads or looks everywhere, so its values depend on where the image ends.")
    if not node.parents:
        raise misfit(node, "it has values of a fixed size.")
    if node.several or node.shape.tags != node.parents[0].shape.tags or node.shape.tags[:2] != ("b", "f"):
        raise misfit(node, f"it turns {node.parents[0].shape.text} into {node.shape.text}, other axes.")
    if min(node.shape.fov, default=1) < 1:
        raise misfit(node, "its field of view differs from voxel to voxel, or isn't known.")


def _is_pointwise(node: Node) -> bool:
    """Return whether an output voxel is computed from the voxel in its place alone."""

    def geometry(shape: TaggedShape) -> tuple[object, ...]:
        return shape.spatial_shape, shape.strides, shape.fov, shape.centre

    return geometry(node.parents[0].shape) == geometry(node.shape)


def _twin(node: Node, twins: Mapping[Node, Node], operation: nn.Module) -> Node:
    """Return a node like this one on other parents; its shape is that of the old one until it is settled."""
    twin = copy.copy(node)
    twin.__dict__ |= {"parents": tuple(twins[p] for p in node.parents), "operation": operation, "_plan": None}
    return twin


def _settled(twin: Node) -> Node:
    twin.__dict__["shape"] = twin.infer_shape(*(parent.shape for parent in twin.parents))
    return twin


def _changed(operation: nn.Module, **attributes: object) -> nn.Module:
    """Return an operation that differs in attributes and holds the same parameters: the same dictionary of them."""
    changed = copy.copy(operation)
    for name, value in attributes.items():
        setattr(changed, name, value)
    return changed


class _Dilated(Node):
    """A node whose windows are stretched by the strides before it, and begin at every voxel."""

    def __init__(self, original: Node, parent: Node, operation: nn.Module, lost: tuple[int, ...]) -> None:
        super().__init__(parent, original.name)
        self.original, self.lost = original, lost
        self._build(operation)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the smaller shape."""
        (shape,) = parents
        like = self.original.shape
        sizes = [(n or 0) - lost for n, lost in zip(shape.spatial_shape, self.lost, strict=True)]
        for tag, n, lost in zip(shape.spatial_tags, sizes, self.lost, strict=True):
            if n < 1:
                raise misfit(self, f"axis {tag} of size {n + lost} is too small; {lost + 1} would fit.", tag)
        return TaggedShape((shape["b"], like["f"], *sizes), shape.tags, fov=like.fov, centre=like.centre)

    @property
    def computational_cost(self) -> int:
        """That of the original for each voxel, at all voxels."""
        original, batch = self.original, self.parents[0].shape["b"] or 1
        if not isinstance(original, Conv):
            each = original.computational_cost / ((original.shape["b"] or 1) * original.shape.spatial_size)
            return round(each * batch * self.shape.spatial_size)
        before = zip(self.shape.spatial_shape, original.pool_shape, original.parents[0].shape.strides, strict=True)
        positions = math.prod((n or 1) + (p - 1) * int(s) for n, p, s in before)
        return original.operation.w.numel() * positions * batch

    @property
    def detail(self) -> str:
        """That of the original."""
        return self.original.detail

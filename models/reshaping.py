"""The same numbers under other axes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError

from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["Reshape"]


class ReshapeOperation(nn.Module):
    """Reshape to fixed sizes, of which the batch follows that of the input and one more may be free."""

    def __init__(self, sizes: Sequence[int], batch: tuple[int, int, int, int] | None) -> None:
        super().__init__()
        self.sizes, self.batch = list(sizes), batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reshape."""
        sizes = list(self.sizes)
        if self.batch is not None:
            source, target, times, parts = self.batch
            sizes[target] = x.shape[source] * times // parts
        return x.reshape(sizes)


class Reshape(Node):
    """Give the parent's numbers, in their order, other axes.

    Parameters
    ----------
    parent : Node
    shape : sequence of int or None, or TaggedShape
        Sizes; one may be None (or -1): what remains. The batch follows the parent's, known or not, if both have one.
    tags : str or sequence of str
        Axes, as ``"b,f"``; not needed with a `TaggedShape`.
    strides, fov : sequence of int, optional
        Geometry, one entry for each spatial axis. Default: the parent's, if the spatial axes and their sizes stay
        the same, otherwise 1.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If the numbers of entries don't agree.
    ModelError
        If tags are missing.

    Examples
    --------
    >>> from elektronn_tui.models import Input, Reshape
    >>> raw = Input((None, 12), "b,f", name="raw")
    >>> Reshape(raw, (None, 3, 2, 2), "b,f,y,x").shape
    [(None,b), (3,f), (2,y), (2,x)]
    """

    def __init__(
        self,
        parent: Node,
        shape: Sequence[int | None] | TaggedShape,
        tags: str | Sequence[str] | None = None,
        strides: Sequence[int | float] | None = None,
        fov: Sequence[int] | None = None,
        name: str = "reshape",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        source = parent.shape
        if isinstance(shape, TaggedShape):
            if tags is not None or strides is not None or fov is not None:
                raise ModelError(
                    f"{self.title}: a TaggedShape already says tags, strides and fov; don't give them as well."
                )
            target = shape
        else:
            if tags is None:
                raise ModelError(f"{self.title}: tags are needed, for example 'b,f'.")
            try:
                sizes = [None if n == -1 else n for n in shape] if isinstance(shape, list | tuple) else shape
                target = TaggedShape(sizes, tags, strides, None, fov)
            except ShapeError as error:
                raise misfit(self, str(error)) from None
            same = (source.spatial_tags, source.spatial_shape) == (target.spatial_tags, target.spatial_shape)
            if strides is None and fov is None and same:
                offsets = source.mfp_offsets
                target = TaggedShape(
                    target.shape, target.tags, source.strides, offsets, source.fov, centre=source.centre
                )
        self.dtype = parent.dtype
        self._source, self._target = source, target
        self._times: Fraction | None = None
        if target.hastag("b") and source.hastag("b"):
            n, m = source["b"], target["b"]
            self._times = Fraction(1)
            if n is not None and (m is not None or source.stripbatch_prod != target.stripbatch_prod):
                m = m if m is not None else self._remainder(source, target)
                self._times = Fraction(m, n)
        self._build(self._operation())

    def _operation(self) -> ReshapeOperation:
        source, target = self._source, self._target
        sizes = [-1 if n is None else n for n in target.shape]
        if self._times is None:
            if sizes.count(-1) > 1:
                raise misfit(self, f"only one size of {target.text} may be unknown.")
            return ReshapeOperation(sizes, None)
        axis = target.tag2index("b")
        if sizes[:axis].count(-1) + sizes[axis + 1 :].count(-1) > 1:
            raise misfit(self, f"only one size of {target.text} beside the batch may be unknown.")
        times = self._times
        return ReshapeOperation(sizes, (source.tag2index("b"), axis, times.numerator, times.denominator))

    def _remainder(self, source: TaggedShape, target: TaggedShape) -> int:
        """Return what the one unknown size must be."""
        total, rest = source.stripnone_prod, target.stripnone_prod
        if not rest or total % rest:
            raise misfit(
                self,
                f"{source.text} has {total} entries, which don't divide into {target.text} of {rest} each.",
            )
        return total // rest

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the target shape, with the parent's batch."""
        (source,) = parents
        target = self._target
        if self._times is not None:
            batch = source["b"]
            if batch is not None and batch * self._times.numerator % self._times.denominator:
                raise misfit(
                    self, f"a batch of {batch} can't become {self._times} times as many examples of {target.text}.", "b"
                )
            target = target.updateshape("b", None if batch is None else int(batch * self._times))
            if batch is None:
                # Both batches are unknown: an example must keep its number of entries.
                source, target = source.updateshape("b", 1), target.updateshape("b", int(self._times))
        elif None in source.shape:
            if None in target.shape:
                return target
            raise misfit(self, f"{source.text} has an unknown size, so one of {target.text} must be None.")
        if None in source.shape:
            raise misfit(self, f"needs known sizes, but its parent has {source.text}.")
        if None in target.shape:
            target = target.updateshape(target.shape.index(None), self._remainder(source, target))
        if source.stripnone_prod != target.stripnone_prod:
            have, want = source.stripbatch_prod, target.stripbatch_prod
            if have == want:
                raise misfit(self, f"the batch of {source.text} must be that of {target.text}.", "b")
            example = " an example" if source.hastag("b") and target.hastag("b") else ""
            raise misfit(
                self, f"{source.text} has {have} entries{example}, but {target.text} has {want}; they must agree."
            )
        return target if parents[0].stripnone == parents[0].shape else target.updateshape("b", None)

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

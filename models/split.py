"""Pieces of a node along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .declared import checked
from .node import Node, misfit
from .shape import TaggedShape
from .softmax import class_groups

__all__ = ["FromTensor", "split"]


class PieceOperation(nn.Module):
    """A view of a range of one axis."""

    def __init__(self, axis: int, start: int, stop: int | None, strip: bool, parts: int | None) -> None:
        super().__init__()
        self.axis, self.start, self.stop, self.strip, self.parts = axis, start, stop, strip, parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cut."""
        size = x.shape[self.axis]
        start, stop = _range(size, self.start, self.stop, self.parts)
        return x.select(self.axis, start) if self.strip else x.narrow(self.axis, start, stop - start)


class FromTensor(Node):
    """A piece of a node: the entries from `start` up to `stop` of one axis. Usually made by `split`.

    A piece of a `Softmax` that holds whole groups of classes has the attributes ``n_class`` and ``n_indep`` of these
    groups, as a `Softmax` has; a piece that cuts through a group has neither, for it is no distribution any more. An
    activation function and the dtype are passed on.

    Parameters
    ----------
    parent : Node
    axis : str
        Tag.
    start : int
        First entry.
    stop : int, optional
        Entry behind the last; default: the end of the axis, whatever its size is.
    strip : bool
        Drop the axis, of which one entry must be left.
    parts : int, optional
        Count `start` and `stop` in parts of the axis, of which there are so many of equal size, instead of entries.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If the parent has no such axis or not these entries.
    ModelError
        If the range is empty or no range.
    """

    def __init__(
        self,
        parent: Node,
        axis: str = "f",
        start: int = 0,
        stop: int | None = None,
        strip: bool = False,
        parts: int | None = None,
        name: str = "from_tensor",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        title = self.title
        for what, value, least in (("start", start, 0), ("stop", stop, 1), ("parts", parts, 1)):
            if value is None and what != "start":
                continue
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ModelError(f"{title}: {what} must be a whole number from {least} on, not {value!r}.")
        if stop is not None and stop <= start:
            raise ModelError(f"{title}: stop must lie behind start, but {start} to {stop} holds nothing.")
        if parts is not None and (stop if stop is not None else start + 1) > parts:
            raise ModelError(f"{title}: there are {parts} parts, so {start} to {stop} is not among them.")
        self.axis, self.start, self.stop = axis, int(start), None if stop is None else int(stop)
        self.strip, self.parts = bool(strip), None if parts is None else int(parts)
        self.dtype = parent.dtype
        index = _axis(self, parent.shape, axis)
        self._pass_on(parent)
        self._build(PieceOperation(index, self.start, self.stop, self.strip, self.parts))

    def _pass_on(self, parent: Node) -> None:
        """Take over what losses ask of a prediction, as far as it holds for the piece."""
        if (activation := getattr(parent, "activation_func", None)) is not None:
            self.activation_func = activation
        if (groups := class_groups(parent)) is None:
            return
        n_class, n_indep = groups
        if self.axis == "f":
            start, stop = _range(n_class * n_indep, self.start, self.stop, self.parts)
            if self.strip or start % n_class or stop % n_class:
                return
            n_indep = (stop - start) // n_class
        self.n_class, self.n_indep = n_class, n_indep

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of the piece; cut on a spatial axis, it begins further on in the input."""
        (shape,) = parents
        axis = self.axis
        index = _axis(self, shape, axis)
        size = shape[index]
        if axis == "b" and len(shape.mfp_offsets) > 1:
            raise misfit(
                self, "can't cut a batch that holds fragments of one image; join them with FragmentsToDense.", axis
            )
        if self.parts is not None and size is not None and (size % self.parts or not size):
            raise misfit(self, f"axis {axis} of size {size} doesn't divide into {self.parts} equal parts.", axis)
        if size is None and self.parts is not None:
            start, length = 0 if self.start == 0 else None, None
        elif size is None:
            start, length = self.start, None if self.stop is None else self.stop - self.start
        else:
            start, stop = _range(size, self.start, self.stop, self.parts)
            length = stop - start
            if stop > size or length < 1:
                raise misfit(
                    self,
                    f"needs entries {self.start} to {'the end' if self.stop is None else self.stop} of axis {axis}, "
                    f"but it has {size}.",
                    axis,
                )
        if self.strip and length not in (1, None):
            raise misfit(self, f"axis {axis} can't be dropped: {length} entries are left, not 1.", axis)
        if self.strip:
            return shape.delaxis(index)
        result = shape.updateshape(index, length)
        if start and index in shape.spatial_axes:
            i = shape.spatial_axes.index(index)
            centre = list(shape.centre)
            centre[i] += start * shape.strides[i]
            result = result.updatecentre(centre)
        return result

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """Which entries."""
        unit = "" if self.parts is None else f" of {self.parts} parts"
        stop = "end" if self.stop is None else self.stop
        return f"{self.axis} from {self.start} to {stop}{unit}" + (", stripped" if self.strip else "")


@checked
def split(
    node: Node,
    axis: str = "f",
    index: int | Sequence[int] | None = None,
    n_out: int | None = None,
    strip_singleton_dims: bool = False,
    name: str | Sequence[str] = "split",
) -> tuple[FromTensor, ...]:
    """Cut a node into pieces along an axis.

    Parameters
    ----------
    node : Node
    axis : str
        Tag.
    index : int or sequence of int, optional
        Where to cut: ``[2, 5]`` gives the entries 0 and 1, 2 to 4, and all from 5 on.
    n_out : int, optional
        Cut into so many equal parts instead.
    strip_singleton_dims : bool
        Pieces of length 1 lose the axis.
    name : str or sequence of str
        One for all pieces, or one for each.

    Returns
    -------
    tuple of FromTensor

    Raises
    ------
    ShapeError
        If there is no such axis, `index` lies outside of it or `n_out` doesn't divide it.
    ModelError
        If not exactly one of `index` and `n_out` is given, `index` doesn't rise, or names are too few or many.

    Examples
    --------
    >>> from elektronn_tui.models import Input, split
    >>> sequence = Input((40, 10, 58), "r,b,f", name="sequence")
    >>> first, rest = split(sequence, "r", index=1, strip_singleton_dims=True)
    >>> first.shape, rest.shape
    ([(10,b), (58,f)], [(39,r), (10,b), (58,f)])
    """
    title = f"split of {node.name!r} {node.shape.text}"
    size = node.shape[node.shape.tag2index(axis)]
    if (index is None) == (n_out is None):
        raise ModelError(f"{title}: give either index, where to cut, or n_out, the number of equal parts.")
    ranges: list[tuple[int, int | None, int | None]]
    if n_out is not None:
        if isinstance(n_out, bool) or not isinstance(n_out, int | np.integer) or n_out < 1:
            raise ModelError(f"{title}: n_out must be a whole number from 1 on, not {n_out!r}.")
        ranges = [(i, i + 1, int(n_out)) for i in range(n_out)]
        lengths = [None if size is None or size % n_out else size // n_out] * n_out
    else:
        try:
            cuts = [int(i) for i in np.atleast_1d(np.asarray(index)).tolist() if int(i) == i]
        except (TypeError, ValueError, OverflowError):
            cuts = []
        edges = [0, *cuts]
        if len(edges) < 2 or any(b <= a for a, b in pairwise(edges)):
            raise ModelError(f"{title}: index must be whole numbers from 1 on that rise, not {index!r}.")
        ranges = [(start, stop, None) for start, stop in zip(edges, [*cuts, None], strict=True)]
        lengths = [None if (end := stop or size) is None else end - start for start, stop, _ in ranges]
    if not isinstance(name, str | list | tuple):
        raise ModelError(f"{title}: name must be a text or a list of them, not {name!r}.")
    names = [name] * len(ranges) if isinstance(name, str) else list(name)
    if len(names) != len(ranges):
        raise ModelError(f"{title}: {len(ranges)} pieces need as many names, not {len(names)}.")
    return tuple(
        FromTensor(node, axis, start, stop, strip_singleton_dims and length == 1, parts, name=piece)
        for (start, stop, parts), length, piece in zip(ranges, lengths, names, strict=True)
    )


def _range(size: int, start: int, stop: int | None, parts: int | None) -> tuple[int, int]:
    if parts is None:
        return start, size if stop is None else stop
    return size * start // parts, size if stop is None else size * stop // parts


def _axis(node: Node, shape: TaggedShape, axis: str) -> int:
    if not shape.hastag(axis):
        raise misfit(node, f"there is no axis {axis!r} in {shape.text}, only {', '.join(shape.tags)}.")
    return shape.tag2index(axis)

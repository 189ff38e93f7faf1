"""Recurrence: a single step that was built already, repeated in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .node import Node, misfit
from .plan import infer_shapes, walk
from .scan_operation import ScanOperation
from .shape import TaggedShape

__all__ = ["Scan", "ScanN", "ScanOutput", "scansplit"]

Nodes = Node | Sequence[Node] | None


class ManyShapes(TaggedShape):
    """Shapes of a node with several values; where one is asked for, it is the first."""

    __slots__ = ("parts",)

    parts: tuple[TaggedShape, ...]

    def __init__(self, parts: Sequence[TaggedShape]) -> None:
        first = parts[0]
        super().__init__(first.shape, first.tags, first.strides, first.mfp_offsets, first.fov, centre=first.centre)
        self.parts = tuple(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return ManyShapes, (self.parts,)


class ScanN(Node):
    """A recurrence whose values are taken by `ScanOutput` nodes; made by `Scan`, which describes the arguments.

    Attributes
    ----------
    step_result, in_memory, out_memory, in_iterate, in_iterate_0 : tuple of Node
    repeated : tuple of Node
        The nodes of the step that are computed again in each step after the first.
    outside : tuple of Node
        What these use that doesn't change in time.
    n_steps : int or None
        Number of steps; None if the sequences have no declared length.
    last_only : bool
    """

    operation: ScanOperation

    def __init__(
        self,
        step_result: Node | Sequence[Node],
        in_memory: Nodes,
        out_memory: Nodes = None,
        in_iterate: Nodes = None,
        in_iterate_0: Nodes = None,
        n_steps: int | None = None,
        unroll_scan: bool = True,
        last_only: bool = False,
        name: str = "scan",
        print_repr: bool = False,
    ) -> None:
        self._title = title = f"Scan {name!r}"
        self.step_result = _nodes(title, "step_result", step_result)
        self.in_memory = _nodes(title, "in_memory", in_memory)
        self.out_memory = self.step_result if out_memory is None else _nodes(title, "out_memory", out_memory)
        self.in_iterate = _nodes(title, "in_iterate", in_iterate)
        self.in_iterate_0 = _nodes(title, "in_iterate_0", in_iterate_0)
        self.last_only = bool(last_only)
        self._check_arguments(n_steps)
        self._find_step()
        parents = dict.fromkeys([*self.step_result, *self.in_memory, *self.in_iterate, *self.outside])
        super().__init__(parents, name, print_repr)
        self._fixed = None if n_steps is None else int(n_steps)
        self._declared = self._count({node: node.shape for node in self.parents})
        place = {node: i for i, node in enumerate(self.parents)}
        slots = [*self.outside, *self.in_memory, *self.in_iterate_0, *self.repeated]
        slot = {node: i for i, node in enumerate(dict.fromkeys(slots))}
        operation = ScanOperation(
            [(node.title, node.operation, tuple(slot[p] for p in node.parents)) for node in self.repeated],
            [place[node] for node in self.outside],
            [place[node] for node in self.step_result],
            [place[node] for node in self.in_iterate],
            [slot[node] for node in self.step_result],
            [self.step_result.index(node) for node in self.out_memory],
            None if self.in_iterate else self._fixed,
            self.last_only,
            not unroll_scan,
        )
        self._build(operation)

    def _check_arguments(self, n_steps: int | None) -> None:
        title = self._title
        if not self.step_result:
            raise ModelError(f"{title}: step_result needs one node at least.")
        if len(self.out_memory) != len(self.in_memory):
            raise ModelError(
                f"{title}: {len(self.in_memory)} nodes of in_memory ({_names(self.in_memory)}) need as many that are "
                f"fed back, not {len(self.out_memory)} ({_names(self.out_memory)}); name them in out_memory."
            )
        for node in self.out_memory:
            if node not in self.step_result:
                raise ModelError(
                    f"{title}: {node.name!r} is fed back, but it is no result of the step "
                    f"({_names(self.step_result)}); add it to step_result."
                )
        if len(self.in_iterate) != len(self.in_iterate_0):
            raise ModelError(
                f"{title}: each node of in_iterate ({_names(self.in_iterate) or 'none'}) needs the one of the step "
                f"that takes its first slice in in_iterate_0 ({_names(self.in_iterate_0) or 'none'}), in the same "
                "order."
            )
        if not self.in_iterate and n_steps is None:
            raise ModelError(f"{title}: give n_steps, or a sequence in in_iterate that says how many steps there are.")
        whole = isinstance(n_steps, int | np.integer) and not isinstance(n_steps, bool)
        if n_steps is not None and not (whole and n_steps >= 1):
            raise ModelError(f"{title}: n_steps must be a whole number from 1 on, not {n_steps!r}.")
        replaced = [*self.in_memory, *self.in_iterate_0]
        if twice := [node for node in dict.fromkeys(replaced) if replaced.count(node) > 1]:
            raise ModelError(f"{title}: {_names(twice)} can be replaced by one value only, not by two.")
        if not replaced:
            raise ModelError(f"{title}: in_memory or in_iterate is needed, else nothing changes in time.")

    def _find_step(self) -> None:
        """Find what has to be computed again: all between memory or slices and the results."""
        replaced = dict.fromkeys([*self.in_memory, *self.in_iterate_0])
        order = walk(self.step_result, given=replaced)
        for node in replaced:
            if node not in order:
                raise ModelError(
                    f"{self._title}: {node.title} is to be replaced in each step, but the step's results "
                    f"{_names(self.step_result)} don't use it."
                )
        for node in self.in_iterate:
            if cause := next((n for n in walk([node]) if n in replaced), None):
                raise ModelError(
                    f"{self._title}: the sequence {node.name!r} is made from {cause.name!r}, which changes in each "
                    "step: that is a cycle. A sequence must be complete before the first step."
                )
        changing = dict(replaced)
        repeated: dict[Node, None] = {}
        for node in order:
            if node not in replaced and any(parent in changing for parent in node.parents):
                changing[node] = repeated[node] = None
        self.repeated = tuple(repeated)
        used = [parent for node in self.repeated for parent in node.parents]
        self.outside = tuple(node for node in dict.fromkeys([*used, *self.step_result]) if node not in changing)

    @property
    def several(self) -> bool:
        """Whether there is more than one result, and the value a tuple."""
        return len(self.step_result) > 1

    @property
    def n_steps(self) -> int | None:
        """Number of steps at the declared sizes."""
        return self._declared

    def _count(self, shapes: dict[Node, TaggedShape]) -> int | None:
        lengths = {}
        for node in self.in_iterate:
            shape = shapes[node]
            if shape.tags[:1] != ("r",):
                raise misfit(self, f"the sequence {node.name!r} must have r as its first axis, not {shape.text}.", "r")
            if shape["r"] is not None:
                lengths[node.name] = shape["r"]
        if len(set(lengths.values())) > 1:
            parts = ", ".join(f"{name!r} has {n}" for name, n in lengths.items())
            raise misfit(self, f"all sequences must be equally long on axis r, but {parts}.", "r")
        length = next(iter(lengths.values()), None)
        if length == 0:
            raise misfit(self, "a sequence needs one entry at least on axis r.", "r")
        if self._fixed is not None and length not in (None, self._fixed):
            raise misfit(
                self,
                f"n_steps is {self._fixed}, but {_names(self.in_iterate)} has {length} entries on axis r; leave "
                "n_steps out to have as many steps as there are entries.",
                "r",
            )
        return self._fixed if length is None else length

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shapes after the last step, or with an axis r in front; fields of view may grow in time."""
        shapes = dict(zip(self.parents, parents, strict=True))
        n_steps = self._count(shapes)
        for old, new in zip(self.in_memory, self.out_memory, strict=True):
            a, b = shapes[old], shapes[new]
            fits = a.tags == b.tags and all(
                n in (m, 1, None) or m is None for n, m in zip(a.shape, b.shape, strict=True)
            )
            if not fits:
                raise misfit(
                    self,
                    f"{new.name!r} {b.text} is fed back to {old.name!r} {a.text}; both must have the same axes and "
                    "sizes.",
                )
        given = {node: shapes[node] for node in self.outside}
        for sequence, node in zip(self.in_iterate, self.in_iterate_0, strict=True):
            part = given[node] = shapes[sequence].delaxis("r")
            if part.tags != node.shape.tags:
                raise misfit(
                    self,
                    f"a slice of the sequence {sequence.name!r} is {part.text}, but {node.name!r}, which it replaces, "
                    f"has {node.shape.text}.",
                )
        first = current = [shapes[node] for node in self.step_result]
        for _ in range(1, 2 if n_steps is None else n_steps):
            before = current
            memory = {
                old: before[self.step_result.index(new)]
                for old, new in zip(self.in_memory, self.out_memory, strict=True)
            }
            known = {**given, **memory}
            inferred = infer_shapes([*known, *self.repeated], known)
            current = [inferred[node] for node in self.step_result]
            for node, a, b in zip(self.step_result, first, current, strict=True):
                if (a.tags, a.strides) != (b.tags, b.strides) or not _agree(a, b):
                    raise misfit(
                        self,
                        f"{node.name!r} has {a.text} after the first step, but would have {b.text} after the next; "
                        "a step must keep the sizes of what it is fed.",
                    )
            if current == before:
                break
        if not self.last_only:
            for node, shape in zip(self.step_result, current, strict=True):
                if shape.hastag("r"):
                    raise misfit(
                        self, f"{node.name!r} {shape.text} has an axis r already: take the last step only.", "r"
                    )
            current = [shape.addaxis(0, n_steps, "r") for shape in current]
        return ManyShapes(current)

    @property
    def computational_cost(self) -> int:
        """That of the steps after the first, which is counted at its own nodes."""
        return ((self.n_steps or 1) - 1) * sum(node.computational_cost for node in self.repeated)

    @property
    def detail(self) -> str:
        """Number of steps and what is fed back."""
        steps = "any number of" if self.n_steps is None else str(self.n_steps)
        pairs = [f"{new.name} → {old.name}" for old, new in zip(self.in_memory, self.out_memory, strict=True)]
        return ", ".join([f"{steps} steps", *(["last only"] if self.last_only else []), *pairs])


class ScanOutput(Node):
    """One of the values of a `ScanN`; made by `scansplit`.

    Parameters
    ----------
    scan : ScanN
    index : int
        Which of its ``step_result``.
    name : str
    print_repr : bool

    Raises
    ------
    ModelError
        If it is no `ScanN` or has not so many values.
    """

    picks = True

    def __init__(self, scan: ScanN, index: int = 0, name: str = "scan_out", print_repr: bool = False) -> None:
        super().__init__(scan, name, print_repr)
        if not isinstance(scan, ScanN):
            raise ModelError(f"ScanOutput {name!r} needs a ScanN, not {scan.title}.")
        n = len(scan.step_result)
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < n:
            raise ModelError(f"ScanOutput {name!r}: index must be a whole number from 0 to {n - 1}, not {index!r}.")
        self.index = int(index)
        self._build(PickOperation(self.index) if scan.several else nn.Identity())

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape of this value."""
        (shape,) = parents
        return shape.parts[self.index] if isinstance(shape, ManyShapes) else shape

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0


class PickOperation(nn.Module):
    """One of several values."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, values: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Pick."""
        return values[self.index]


def scansplit(scan: ScanN) -> tuple[ScanOutput, ...]:
    """Return one node for each of the results of a recurrence, named ``scan_out_<name of the result>``."""
    return tuple(ScanOutput(scan, i, name=f"scan_out_{node.name}") for i, node in enumerate(scan.step_result))


@overload
def Scan(
    step_result: Node,
    in_memory: Nodes,
    out_memory: Nodes = ...,
    in_iterate: Nodes = ...,
    in_iterate_0: Nodes = ...,
    n_steps: int | None = ...,
    unroll_scan: bool = ...,
    last_only: bool = ...,
    name: str = ...,
    print_repr: bool = ...,
) -> ScanOutput: ...


@overload
def Scan(
    step_result: Sequence[Node],
    in_memory: Nodes,
    out_memory: Nodes = ...,
    in_iterate: Nodes = ...,
    in_iterate_0: Nodes = ...,
    n_steps: int | None = ...,
    unroll_scan: bool = ...,
    last_only: bool = ...,
    name: str = ...,
    print_repr: bool = ...,
) -> ScanOutput | tuple[ScanOutput, ...]: ...


def Scan(
    step_result: Node | Sequence[Node],
    in_memory: Nodes,
    out_memory: Nodes = None,
    in_iterate: Nodes = None,
    in_iterate_0: Nodes = None,
    n_steps: int | None = None,
    unroll_scan: bool = True,
    last_only: bool = False,
    name: str = "scan",
    print_repr: bool = False,
) -> ScanOutput | tuple[ScanOutput, ...]:
    """Turn a single step, that was built already, into a recurrence.

    The first step is the graph as it is built. In each step that follows, the nodes `in_memory` have the values that
    `out_memory` had before, the nodes `in_iterate_0` those of the next slice of `in_iterate`, and all that depends on
    them up to `step_result` is computed again. The parameters are the same at all times; gradients go through all
    steps; dropout and batch normalisation act in each step by themselves. What doesn't depend on them is computed once.

    Parameters
    ----------
    step_result : Node or sequence of Node
        Results of the step.
    in_memory : Node or sequence of Node
        What is replaced by the step before. May be empty if there are sequences.
    out_memory : Node or sequence of Node, optional
        Those of `step_result` that are fed back, in the order of `in_memory`; default: all.
    in_iterate : Node or sequence of Node, optional
        Sequences: their first axis is r, and all are equally long.
    in_iterate_0 : Node or sequence of Node, optional
        The nodes of the step that take one slice of each; usually
        ``split(sequence, 'r', index=1, strip_singleton_dims=True)[0]``.
    n_steps : int, optional
        Default: as many as the sequences have entries, which may differ from the declared number when the network is
        used. Given together with sequences, it must be their length, then and always.
    unroll_scan : bool
        The values are the same in any case. False saves memory in training: only what is fed back is kept of each
        step, the rest is computed for a second time when gradients are (Chen et al., 2016). That takes about a third
        more time where a step is heavy, as a convolution is, and two to three times as long where it is light.
    last_only : bool
        Return the values after the last step, not those of all steps with a new first axis r.
    name : str
        Of the node that computes; each result is a node ``scan_out_<name of step_result>``.
    print_repr : bool

    Returns
    -------
    ScanOutput or tuple of ScanOutput
        One for each of `step_result`.

    Raises
    ------
    ModelError
        If roles are missing, don't belong to the step or would make a cycle.
    ShapeError
        If what is fed back has another shape than what it replaces, or sequences are no sequences or of unlike length.

    Examples
    --------
    >>> from elektronn_tui.models import GRU, Input, Scan, split
    >>> chords = Input((40, 10, 58), "r,b,f", name="chords")
    >>> start = Input((10, 32), "b,f", name="start")
    >>> first, _ = split(chords, "r", index=1, strip_singleton_dims=True)
    >>> Scan(GRU(first, start, 32), start, in_iterate=chords, in_iterate_0=first).shape
    [(40,r), (10,b), (32,f)]
    """
    scan = ScanN(
        step_result,
        in_memory,
        out_memory,
        in_iterate,
        in_iterate_0,
        n_steps,
        unroll_scan,
        last_only,
        name=name,
        print_repr=print_repr,
    )
    outputs = scansplit(scan)
    return outputs[0] if len(outputs) == 1 else outputs


def _nodes(title: str, what: str, given: Any) -> tuple[Node, ...]:
    nodes = () if given is None else (given,) if isinstance(given, Node) else given
    if not isinstance(nodes, list | tuple) or not all(isinstance(node, Node) for node in nodes):
        raise ModelError(f"{title}: {what} must be a node or a list of nodes, not {given!r}.")
    return tuple(nodes)


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(repr(node.name) for node in nodes)


def _agree(a: TaggedShape, b: TaggedShape) -> bool:
    return all(n == m or None in (n, m) for n, m in zip(a.shape, b.shape, strict=True))

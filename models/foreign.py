"""Nodes around other people's code: any function of tensors, any torch module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError

from .loss import sizes_agree
from .node import Node, misfit
from .probing import AxisGeometry, Probe, Refusal
from .shape import TaggedShape

__all__ = ["ApplyFunc", "Module"]

GLOBAL = (nn.GroupNorm, nn.modules.instancenorm._InstanceNorm, nn.MultiheadAttention)
"""Modules whose every output depends on all voxels of the image that they are given."""


class _Foreign(Node):
    """Base: the shape is found by running the code."""

    def _probe(
        self,
        operation: nn.Module,
        tags: str | Sequence[str] | None,
        shape: Sequence[int | None] | None,
        fov: Sequence[int] | None = None,
        strides: Sequence[float] | None = None,
    ) -> None:
        for parent in self.parents:
            sizes = zip(parent.shape.tags, parent.shape.shape, strict=True)
            if any(n is None and tag != "b" for tag, n in sizes):
                raise misfit(self, f"needs known sizes but for the batch, but {parent.name!r} has {parent.shape.text}.")
        try:
            self._prober = Probe(operation, [p.shape for p in self.parents], [p.dtype for p in self.parents])
        except Refusal as error:
            given = ", ".join(f"{p.name!r} {p.shape.text}" for p in self.parents)
            raise misfit(self, f"its code doesn't take {given}: {error}.{self._fitting(operation)}") from None
        except ModelError as error:
            raise ModelError(f"{self.title}: {error}.") from None
        self._tags = self._output_tags(tags)
        self._geometry: dict[str, AxisGeometry] = {}
        output = TaggedShape(self._prober.output, self._tags)
        for axis, tag in zip(output.spatial_axes, output.spatial_tags, strict=True):
            if any(p.shape.hastag(tag) for p in self.parents):
                self._geometry[tag] = self._prober.geometry(tag, axis)
        self._settle(output, shape, fov, strides)

    def _fitting(self, operation: nn.Module) -> str:
        """Return near spatial sizes that the code takes, as a sentence: often they must be multiples of a number."""
        first = self.parents[0].shape
        if len(self.parents) > 1 or None in first.spatial_shape or not first.ndim:
            return ""
        for multiple in (2, 4, 8, 16, 32, 64):
            sizes = [-(-(n or 1) // multiple) * multiple for n in first.spatial_shape]
            shape = first
            for axis, n in zip(first.spatial_axes, sizes, strict=True):
                shape = shape.updateshape(axis, n)
            try:
                Probe(operation, [shape], [self.parents[0].dtype])
            except Refusal:
                continue
            return f" It takes {' × '.join(map(str, sizes))} voxels."
        return ""

    def _output_tags(self, tags: str | Sequence[str] | None) -> tuple[str, ...]:
        size = self._prober.output
        gives = f"its code gives an array of shape {size}"
        if tags is None:
            shapes = [p.shape for p in self.parents]
            alike = next((s for s in shapes if len(s) == len(size)), None)
            batch = next(
                (n[s.tag2index("b")] for n, s in zip(self._prober.declared, shapes, strict=True) if "b" in s.tags), None
            )
            if not size:
                tags = ()
            elif alike is not None:
                tags = alike.tags
            elif batch is not None and size[0] == batch and len(size) < 3:
                tags = ("b", "f")[: len(size)]
            else:
                raise misfit(self, f"{gives}; say what its axes are, as tags='b,f'.")
        try:
            result = TaggedShape(size, tags)
        except ShapeError as error:
            raise misfit(self, f"{gives}: {error}") from None
        for n, parent in zip(self._prober.declared, self.parents, strict=True):
            if result.hastag("b") and parent.shape.hastag("b"):
                batch = n[parent.shape.tag2index("b")]
                if result["b"] != batch:
                    raise misfit(
                        self,
                        f"{gives}: of a batch of {batch} it makes {result['b']} on axis b; if that is another axis, "
                        "give its tags.",
                        "b",
                    )
        return result.tags

    def _settle(
        self,
        output: TaggedShape,
        shape: Sequence[int | None] | None,
        fov: Sequence[int] | None,
        strides: Sequence[float] | None,
    ) -> None:
        """Compare what was found with what was given; take that where nothing could be found."""
        gives = f"its code gives an array of shape {tuple(output.shape)}"
        try:
            stated = TaggedShape(output.shape if shape is None else shape, output.tags, strides, None, fov)
        except ShapeError as error:
            raise misfit(self, f"{gives}: {error}") from None
        if shape is not None:
            if not sizes_agree(stated.shape, output.shape):
                raise misfit(self, f"{gives}, not {stated.shape} as shape says.")
            # It has served: the call is made again when a model is rewritten for patches of another size.
            self.arguments.pop("shape", None)
        for i, tag in enumerate(output.spatial_tags):
            found = self._geometry.get(tag)
            if found is None:
                continue
            j, first = next((j, p.shape) for j, p in enumerate(self.parents) if p.shape.hastag(tag))
            parent_stride = Fraction(first.strides[first.spatial_tags.index(tag)]).limit_denominator()
            if strides is not None:
                given = Fraction(stated.strides[i]).limit_denominator()
                if found.stride is not None and given != found.stride / parent_stride:
                    has = float(found.stride / parent_stride)
                    raise misfit(
                        self, f"its code has the stride {has:g} on axis {tag}, not {stated.strides[i]:g}.", tag
                    )
                found = AxisGeometry(given * parent_stride, found.windows)
            if fov is not None and stated.fov[i] > 0:
                window = found.windows[j] if found.windows is not None else None
                if window is not None and window[0] != stated.fov[i]:
                    raise misfit(
                        self,
                        f"an output of its code sees {window[0]} voxels of {self.parents[j].name!r} on axis {tag}, "
                        f"not {stated.fov[i]} as fov says.",
                        tag,
                    )
                if window is None and found.stride is not None:
                    n, m = first[tag], output[tag]
                    middle = (n - 1) / 2 - float(found.stride / parent_stride) * (m - 1) / 2
                    windows = tuple((stated.fov[i], middle) if k == j else None for k in range(len(self.parents)))
                    found = AxisGeometry(found.stride, windows)
            self._geometry[tag] = found

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape for parents of these sizes; the code is run on sizes that it wasn't yet."""
        sizes = self._prober.known(parents)
        try:
            size = self._prober.size(sizes)
        except Refusal as error:
            given = ", ".join(f"{p.name!r} {s.text}" for p, s in zip(self.parents, parents, strict=True))
            raise misfit(self, f"its code doesn't take {given}: {error}.", self._changed_axis(parents)) from None
        if len(size) != len(self._tags):
            raise misfit(
                self, f"its code gives an array of shape {size} now, but of the axes {','.join(self._tags)} before."
            )
        result = TaggedShape(size, self._tags)
        strides, fov, centre = [], [], []
        for tag in result.spatial_tags:
            s, f, c = self._axis(tag, result[tag], parents)
            strides.append(s)
            fov.append(f)
            centre.append(c)
        if result.hastag("b") and any(p.hastag("b") and p["b"] is None for p in parents):
            result = result.updateshape("b", None)
        offsets = next((p.mfp_offsets for p in parents if p.spatial_tags == result.spatial_tags), None)
        return TaggedShape(result.shape, result.tags, strides, offsets, fov, centre=centre)

    def _axis(self, tag: str, n_out: int, parents: Sequence[TaggedShape]) -> tuple[float, int, float]:
        """Return stride, field of view and centre in input voxels of the network."""
        found = self._geometry.get(tag)
        if found is None:
            return 1, 1, 0.0
        places = []
        for j, shape in enumerate(parents):
            if not shape.hastag(tag):
                continue
            i = shape.spatial_tags.index(tag)
            n, s, f, c = shape[tag], shape.strides[i], shape.fov[i], shape.centre[i]
            window = (n, (n - 1) / 2) if found.stride is None and n_out == 1 else None
            if found.windows is not None:
                window = found.windows[j]
            places.append((n, s, f, c, window))
        n, s, _, c, _ = places[0]
        stride = float(found.stride) if found.stride is not None else n * s / n_out
        if all(window is None for *_, window in places):
            # It sees everything, or more than could be tried: then it lies in the middle.
            return stride, -1, c + s * (n - 1) / 2 - stride * (n_out - 1) / 2
        ends = []
        for _, s, f, c, window in places:
            if window is None:
                continue
            width, first = window
            if f < 0:
                return stride, -1, c + first * s
            reach = (f + (width - 1) * s - 1) / 2
            ends.append((c + first * s - reach, c + first * s + reach))
        low, high = min(a for a, _ in ends), max(b for _, b in ends)
        return stride, round(high - low) + 1, (low + high) / 2

    def _changed_axis(self, parents: Sequence[TaggedShape]) -> str | None:
        """Return the one axis on which these sizes differ from the declared ones."""
        pairs = [(p.shape, s) for p, s in zip(self.parents, parents, strict=True)]
        changed = {tag for a, b in pairs for tag, n, m in zip(a.tags, a.shape, b.shape, strict=True) if n != m}
        return changed.pop() if len(changed) == 1 else None

    @property
    def needs_whole_image(self) -> bool:
        """Whether an output's window begins before the first voxel, or a module within pads or looks at all voxels."""
        geometries = self.__dict__.get("_geometry", {}).values()
        windows = [window for found in geometries for window in found.windows or () if window is not None]
        if any(first < (width - 1) / 2 - 1e-6 for width, first in windows):
            return True
        return any(isinstance(module, GLOBAL) or _has_padding(module) for module in self.operation.modules())

    @property
    def computational_cost(self) -> int:
        """Multiplications of convolutions and linear layers; at least the size of the first parent."""
        prober = self.__dict__.get("_prober")
        size = self.parents[0].shape.stripnone_prod if self.parents else 0
        return max(size, prober.cost) if prober is not None else size


def _has_padding(module: nn.Module) -> bool:
    padding = getattr(module, "padding", 0)
    if isinstance(padding, str):
        return padding != "valid"
    return any(padding) if isinstance(padding, list | tuple) else bool(padding)


class FunctionOperation(nn.Module):
    """A function as a module."""

    def __init__(self, functor: Callable[..., torch.Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.functor, self.args, self.kwargs = functor, tuple(args), dict(kwargs)

    def forward(self, *inputs: Any) -> torch.Tensor:
        """Call it."""
        return self.functor(*inputs, *self.args, **self.kwargs)


class ApplyFunc(_Foreign):
    """Any function of tensors: ``functor(x, *args, **kwargs)``.

    The shape is found by running the function on random numbers of the declared sizes. It may keep the axes, of
    whatever sizes, or reduce to one number; of other results `tags` says what the axes are.

    Parameters
    ----------
    parent : Node or sequence of Node
        Of several, the tensors come first: ``functor(x, y, *args, **kwargs)``.
    functor : callable
        Without parameters or state of its own (those go into a `Module`), and differentiable if gradients shall pass.
    args : sequence
    kwargs : mapping
        More arguments. Plain values are stored in a model file; the function is not: give it to
        `load_model` as ``functions={"name of the node": functor}``.
    name : str
    print_repr : bool
    tags : str or sequence of str, optional
        Axes of the result, as ``"b,f"``, where they aren't the parent's.
    shape : sequence of int or None, optional
        Sizes of the result, which are compared with what is found. Needed, with `tags`, behind a `GenericInput`: a
        function of Python objects can't be tried.

    Raises
    ------
    ShapeError
        If the function doesn't take the parent's sizes, or its result's axes aren't known.
    ModelError
        If it isn't a function, or returns something else than one tensor.

    Examples
    --------
    >>> import torch
    >>> from elektronn_tui.models import ApplyFunc, Input
    >>> raw = Input((None, 3, 8), "b,f,x", name="raw")
    >>> ApplyFunc(raw, torch.mean).shape, ApplyFunc(raw, torch.clamp, kwargs={"min": 0}).shape
    ([], [(None,b), (3,f), (8,x)])
    """

    def __init__(
        self,
        parent: Node | Sequence[Node],
        functor: Callable[..., torch.Tensor],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str = "apply_func",
        print_repr: bool = False,
        *,
        tags: str | Sequence[str] | None = None,
        shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(parent, name, print_repr)
        if isinstance(functor, nn.Module):
            raise ModelError(f"{self.title}: a torch module has parameters of its own; use the node Module for it.")
        if not callable(functor):
            raise ModelError(f"{self.title}: functor must be a function, not {functor!r}.")
        if not self.parents:
            raise ModelError(f"{self.title} needs a parent at least.")
        if isinstance(args, str) or not isinstance(args, Sequence):
            raise ModelError(f"{self.title}: args must be a list, not {args!r}.")
        self.functor = functor
        operation = FunctionOperation(functor, args, kwargs or {})
        self._given: TaggedShape | None = None
        if any(p.dtype == "object" for p in self.parents):
            if tags is None or shape is None:
                raise misfit(self, "behind a GenericInput shape and tags are needed, as shape=(1, 3), tags='b,f'.")
            self._given = TaggedShape(shape, tags)
        else:
            self._probe(operation, tags, shape)
        self._build(operation)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape for parents of these sizes; the function is run on sizes that it wasn't yet."""
        return super().infer_shape(*parents) if self._given is None else self._given

    @property
    def detail(self) -> str:
        """Name of the function."""
        return str(getattr(self.functor, "__name__", type(self.functor).__name__))


class Module(_Foreign):
    """Any `torch.nn.Module` as a node, with its parameters.

    Shape, strides, field of view and position are found by running it in evaluation mode on random numbers of the
    declared and of other sizes, without a trace in its buffers or in the random generators.

    Parameters
    ----------
    parent : Node or sequence of Node
        One for each argument of the module's ``forward``.
    torch_module : Module
        Returns one tensor. It is used as it is, not copied.
    tags : str or sequence of str, optional
        Axes of the result, as ``"b,f"``, where it has another number of axes than a parent. Two axes of which the
        first is the batch are taken as b, f.
    shape : sequence of int or None, optional
        Sizes of the result.
    fov : sequence of int, optional
        Voxels of the first parent that an output sees, for each spatial axis.
    strides : sequence of float, optional
        Distance of neighbouring outputs in voxels of the first parent, for each spatial axis.
    name : str
    print_repr : bool

    Notes
    -----
    `shape`, `fov` and `strides` are compared with what is found, and count where nothing can be. The field of view
    is that of the output that sees most, where outputs differ, as behind an up-sampling; -1, unknown, where outputs
    see everything, as with group normalisation or attention, or more than 1024 voxels, or where one pass to find out
    takes more than 10^10 multiplications.

    Parameters are listed by their dotted names (``node.params["0.weight"]``); weight decay acts on those of two axes
    or more. A model file holds them, but not the module: give one to `load_model` as
    ``modules={"name of the node": module}``, and it gets the stored values.

    Raises
    ------
    ShapeError
        If the module doesn't take the parents' sizes, or what is found contradicts what is given.
    ModelError
        If it is no module or doesn't return one tensor.

    Examples
    --------
    >>> from torch import nn
    >>> from elektronn_tui.models import Input, Module
    >>> raw = Input((None, 1, 32, 32), "b,f,y,x", name="raw")
    >>> Module(raw, nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2))).shape.ext_repr.splitlines()
    ['[(None,b), (8,f), (14,y), (14,x)]', 'fov=(6, 6), offsets=(3, 3), strides=(2, 2), spatial shape=(14, 14)']
    """

    def __init__(
        self,
        parent: Node | Sequence[Node],
        torch_module: nn.Module,
        tags: str | Sequence[str] | None = None,
        shape: Sequence[int | None] | None = None,
        fov: Sequence[int] | None = None,
        strides: Sequence[float] | None = None,
        name: str = "module",
        print_repr: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        if not isinstance(torch_module, nn.Module):
            raise ModelError(
                f"{self.title}: torch_module must be a torch.nn.Module, not {torch_module!r}; a function goes into "
                "ApplyFunc."
            )
        if not self.parents or any(p.dtype == "object" for p in self.parents):
            raise ModelError(f"{self.title}: needs parents whose values are tensors.")
        if any(nn.parameter.is_lazy(p) for p in torch_module.parameters()):
            raise ModelError(f"{self.title}: it has parameters without a shape yet; run it once on data before.")
        self.torch_module = torch_module
        self._probe(torch_module, tags, shape, fov, strides)
        self._build(torch_module)

    def is_decayed(self, key: str) -> bool:
        """Return whether weight decay acts on a parameter: on those of two axes or more."""
        return self.torch_module.get_parameter(key).ndim > 1

    @property
    def detail(self) -> str:
        """Class of the module."""
        return type(self.torch_module).__name__

"""Sources: where data enter a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError, did_you_mean

from .declared import checked
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["GenericInput", "Input", "Input_like"]

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool")


class Input(Node):
    """A place where an array is fed in.

    Parameters
    ----------
    shape : sequence of int or None, or TaggedShape
        Size of each axis; None is free.
    tags : str or sequence of str
        Axes, as ``"b,f,z,y,x"``; not needed with a `TaggedShape`.
    strides, fov : sequence of int, optional
        Geometry if this input is not the raw image itself, one entry for each spatial axis.
    dtype : str
        Type of the numbers, as ``"float32"`` or ``"int64"``.
    hardcoded_shape : bool
        Accept exactly the declared sizes only; otherwise batch, time and spatial sizes are free as long as they fit.
    name : str
    print_repr : bool
        Log the description as INFO instead of DEBUG.
    centre : sequence of float, optional
        Input voxel in which the first voxel lies, see `TaggedShape`.

    Raises
    ------
    ShapeError
        If sizes and tags don't fit each other.
    ModelError
        If there is no such dtype.

    Examples
    --------
    >>> raw = Input((1, 1, 20, 68, 68), "b,f,z,y,x", name="raw")
    >>> raw.shape["z"]
    20
    """

    def __init__(
        self,
        shape: Sequence[int | None] | TaggedShape,
        tags: str | Sequence[str] | None = None,
        strides: Sequence[int | float] | None = None,
        fov: Sequence[int] | None = None,
        dtype: str = "float32",
        hardcoded_shape: bool = False,
        name: str = "input",
        print_repr: bool = False,
        *,
        centre: Sequence[float | None] | None = None,
    ) -> None:
        super().__init__(None, name, print_repr)
        if isinstance(shape, TaggedShape):
            tags = shape.tags if tags is None else tags
            strides = shape.strides if strides is None else strides
            if fov is None and centre is None:
                centre = shape.centre
            fov = shape.fov if fov is None else fov
            # Models are stored as these calls: only plain values go there.
            self.arguments |= {"shape": shape.shape, "tags": tags, "strides": strides, "fov": fov}
        if tags is None:
            raise ModelError(f"Input {name!r}: tags are needed, for example 'b,f,z,y,x'.")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ModelError(
                f"Input {name!r}: {dtype!r} is no dtype; there are {', '.join(DTYPES)}."
                f"{did_you_mean(str(dtype), DTYPES)}"
            )
        known: Any = centre
        if isinstance(centre, list | tuple):
            known = [math.nan if c is None else c for c in centre]
        self.dtype = dtype
        self.hardcoded_shape = hardcoded_shape
        try:
            self._declared = TaggedShape(shape, tags, strides, None, fov, centre=known)
        except ShapeError as error:
            raise misfit(self, str(error)) from None
        if centre is not None:
            self.arguments["centre"] = tuple(None if math.isnan(c) else c for c in self._declared.centre)
        self._build(nn.Identity())

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the declared shape."""
        return self._declared

    @property
    def is_source(self) -> bool:
        """True."""
        return True

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """The dtype, if it isn't the usual one."""
        return "" if self.dtype == "float32" else self.dtype

    def fitted_shape(self, size: Sequence[int]) -> TaggedShape:
        """Return the shape for an array of this size; see `Node.fitted_shape`."""
        declared = self.shape
        if len(size) != len(declared):
            raise misfit(self, f"takes arrays of {len(declared)} axes {declared.text}, not of shape {tuple(size)}.")
        shape = declared
        for i, (n, want, tag) in enumerate(zip(size, declared.shape, declared.tags, strict=True)):
            fixed = self.hardcoded_shape or tag in ("f", "s")
            if want is not None and n != want:
                if fixed:
                    raise misfit(self, f"axis {tag} has {want} entries, but the array's shape is {tuple(size)}.")
                shape = shape.updateshape(i, n)
            elif want is None:
                shape = shape.updateshape(i, n)
        return shape

    def random_array(self, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return random numbers of the declared shape: uniform from 0 to 1, or the integers 0 and 1."""
        size = [1 if n is None else n for n in self.shape.shape]
        dtype: torch.dtype = getattr(torch, self.dtype)
        if dtype.is_floating_point:
            return rng.random(size, dtype=np.float32)
        return rng.integers(0, 2, size)


class GenericInput(Node):
    """A place where any Python object is fed in, for functions of it: see `ApplyFunc`.

    The object is handed on as it is: it isn't converted, moved or checked. The node has no axes and the dtype
    ``"object"``.

    Parameters
    ----------
    name : str
    print_repr : bool
    """

    dtype = "object"

    def __init__(self, name: str = "generic_input", print_repr: bool = False) -> None:
        super().__init__(None, name, print_repr)
        self._build(nn.Identity())

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the shape without axes."""
        return TaggedShape((), ())

    @property
    def is_source(self) -> bool:
        """True."""
        return True

    def fitted_shape(self, size: Sequence[int]) -> TaggedShape:
        """Return the shape without axes: every object fits."""
        return self.shape

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    def random_array(self, rng: np.random.Generator) -> Any:
        """Raise: there are no random objects."""
        raise ModelError(f"{self.title} takes Python objects, of which there are no random ones to test with.")


@checked
def Input_like(
    ref: Node | TaggedShape,
    dtype: str | None = None,
    name: str = "input",
    print_repr: bool = False,
    override_f: int | bool | None = False,
    hardcoded_shape: bool = False,
) -> Input:
    """Return an `Input` with shape, tags, strides and field of view of something else.

    Parameters
    ----------
    ref : Node or TaggedShape
    dtype : str, optional
        Default: that of the node; needed for a `TaggedShape`.
    name : str
    print_repr : bool
    override_f : int, optional
        Number of features instead of those of `ref`; ``override_f=1`` for class ids.
    hardcoded_shape : bool

    Raises
    ------
    ModelError
        If `ref` is neither, or the dtype is missing.
    """
    if isinstance(ref, Node):
        shape, dtype = ref.shape, ref.dtype if dtype is None else dtype
    elif isinstance(ref, TaggedShape):
        shape = ref
        if dtype is None:
            raise ModelError("Input_like of a TaggedShape needs a dtype, for example dtype='float32'.")
    else:
        raise ModelError(f"Input_like needs a node or a TaggedShape, not {type(ref).__name__}.")
    if override_f not in (False, None):
        shape = shape.updateshape("f", override_f)
    return Input(
        shape.shape,
        shape.tags,
        shape.strides,
        shape.fov,
        dtype,
        hardcoded_shape,
        name,
        print_repr,
        centre=[None if math.isnan(c) else c for c in shape.centre],
    )

"""Nodes that output a parameter of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError, did_you_mean

from .feeding import to_numpy
from .initialisation import ParameterLike, initweights, make_parameter, register_tensor
from .inputs import DTYPES
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["InitialState_like", "ValueNode"]


class ValueOperation(nn.Module):
    """A parameter as an output."""

    value: torch.Tensor

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        register_tensor(self, "value", value)

    def forward(self) -> torch.Tensor:
        """Return the value."""
        return self.value


class ValueNode(Node):
    """A node without parents that outputs values of its own, trainable or constant. It takes no data.

    Parameters
    ----------
    shape : sequence of int or TaggedShape
        All sizes known.
    tags : str or sequence of str
        Axes, as ``"b,f"``; not needed with a `TaggedShape`.
    strides, fov : sequence of int, optional
        Geometry, one entry for each spatial axis.
    dtype : str
        As ``"float32"``; only floating-point values can be trained.
    apply_train : bool
        Whether the optimiser changes it; weight decay acts on it then.
    value : ParameterLike, optional
        First values: a number; an array of this shape or one that numpy would broadcast to it; one number for each
        feature; another node's parameter, to share it; ``[array, 'const']`` or ``[array, 'trainable']`` whatever
        `apply_train` says. Default: by `init_kwargs`, otherwise 0.
    init_kwargs : mapping, optional
        Arguments for `initweights`, as ``{"scale": 0.1, "mode": "fix-uni"}``, instead of `value`.
    name : str
    print_repr : bool

    Raises
    ------
    ShapeError
        If a size is unknown, or `value` doesn't fit.
    ModelError
        If both `value` and `init_kwargs` are given, or the dtype can't be trained.

    Examples
    --------
    >>> weights = ValueNode((1, 2), "b,f", value=[0.2, 1.8])
    >>> weights.get_value().tolist()
    [[0.20000000298023224, 1.7999999523162842]]
    """

    decayed = ("value",)
    operation: ValueOperation

    def __init__(
        self,
        shape: Sequence[int] | TaggedShape,
        tags: str | Sequence[str] | None = None,
        strides: Sequence[int | float] | None = None,
        fov: Sequence[int] | None = None,
        dtype: str = "float32",
        apply_train: bool = False,
        value: ParameterLike = None,
        init_kwargs: Mapping[str, Any] | None = None,
        name: str = "value_state",
        print_repr: bool = False,
    ) -> None:
        super().__init__(None, name, print_repr)
        title = self.title
        if not isinstance(shape, TaggedShape):
            if tags is None:
                raise ModelError(f"{title}: tags are needed, for example 'b,f'.")
            shape = TaggedShape(shape, tags, strides, None, fov)
        elif tags is not None or strides is not None or fov is not None:
            raise ModelError(f"{title}: a TaggedShape already says tags, strides and fov; don't give them as well.")
        if None in shape.shape:
            raise misfit(self, f"all sizes must be known, but its shape is {shape.text}.")
        self._declared = shape
        self.dtype, torch_dtype = _dtype(title, dtype)
        self.apply_train = bool(apply_train)
        size = [n for n in shape.shape if n is not None]
        trainable = self.apply_train
        if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[1], str):
            trainable = value[1] == "trainable"
            value = [_broadcast(self, value[0], shape), value[1]]
        elif value is not None and not isinstance(value, nn.Parameter):
            value = _broadcast(self, value, shape)
        if trainable and not torch_dtype.is_floating_point:
            raise ModelError(f"{title}: values of dtype {dtype!r} can't be trained; 'float32' can.")
        first = _first_values(title, size, value, init_kwargs)
        parameter = make_parameter(title, "value", value, size, first, trainable=trainable)
        if not torch_dtype.is_floating_point and value is not None:
            exact = value[0] if isinstance(value, list) else value  # single precision doesn't hold all integers
            parameter = torch.tensor(np.asarray(exact))
        self._build(ValueOperation(_as_dtype(parameter, torch_dtype)))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the declared shape."""
        return self._declared

    def get_value(self) -> npt.NDArray[Any]:
        """Return a copy of the values."""
        return to_numpy(self.operation.value).copy()

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """Whether it is trained, and the dtype if it isn't the usual one."""
        kind = "trainable" if self.operation.value.requires_grad else "constant"
        return kind if self.dtype == "float32" else f"{kind}, {self.dtype}"


class InitialStateOperation(nn.Module):
    """One number for each feature, at every position of another tensor."""

    value: torch.Tensor

    def __init__(self, value: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.axis = axis
        register_tensor(self, "value", value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the values, repeated to the size of `x` on all axes but f."""
        size = [*x.shape]
        size[self.axis] = self.value.shape[0]
        return self.value.reshape(-1, *(1,) * (len(size) - self.axis - 1)).expand(size)


class InitialState_like(Node):
    """The trainable state that a recurrent network starts from: one number a feature, the same everywhere.

    Parameters
    ----------
    parent : Node
        Gives the other axes; the batch that it really has counts.
    override_f : int
        Number of features.
    dtype : str, optional
        A floating-point one; default that of `parent` if it is one, else ``"float32"``.
    name : str
    print_repr : bool
    init_kwargs : mapping, optional
        Arguments for `initweights`, as ``{"scale": 0.1, "mode": "fix-uni"}``; default: all 0.
    value : ParameterLike, (override_f,)
        First values, see `ValueNode`. Weight decay acts on them.

    Raises
    ------
    ShapeError
        If `parent` has no f axis, or `value` doesn't fit.
    ModelError
        If an argument is no good.
    """

    decayed = ("value",)
    operation: InitialStateOperation

    def __init__(
        self,
        parent: Node,
        override_f: int,
        dtype: str | None = None,
        name: str = "initial_state",
        print_repr: bool = False,
        init_kwargs: Mapping[str, Any] | None = None,
        value: ParameterLike = None,
    ) -> None:
        super().__init__(parent, name, print_repr)
        title = self.title
        if isinstance(override_f, bool) or not isinstance(override_f, int | np.integer) or override_f < 1:
            raise ModelError(f"{title}: override_f must be a whole number from 1 on, not {override_f!r}.")
        self.n_f = int(override_f)
        if not parent.shape.hastag("f"):
            raise misfit(self, f"needs a parent with an axis f, but {parent.name!r} has {parent.shape.text}.")
        if dtype is None:
            floating = parent.dtype in DTYPES and getattr(torch, parent.dtype).is_floating_point
            dtype = parent.dtype if floating else "float32"
        self.dtype, torch_dtype = _dtype(title, dtype)
        if not torch_dtype.is_floating_point:
            raise ModelError(f"{title}: a state of dtype {dtype!r} can't be trained; 'float32' can.")
        first = _first_values(title, [self.n_f], value, init_kwargs)
        parameter = make_parameter(title, "value", value, (self.n_f,), first)
        self._build(InitialStateOperation(_as_dtype(parameter, torch_dtype), parent.shape.tag2index("f")))

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape with another number of features."""
        return parents[0].updateshape("f", self.n_f)

    def get_value(self) -> npt.NDArray[Any]:
        """Return a copy of the values, (override_f,)."""
        return to_numpy(self.operation.value).copy()

    @property
    def computational_cost(self) -> int:
        """Nothing is computed."""
        return 0

    @property
    def detail(self) -> str:
        """Number of features."""
        return f"{self.n_f} features"


def _dtype(title: str, dtype: str) -> tuple[str, torch.dtype]:
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelError(
            f"{title}: {dtype!r} is no dtype; there are {', '.join(DTYPES)}.{did_you_mean(str(dtype), DTYPES)}"
        )
    return dtype, getattr(torch, dtype)


def _as_dtype(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if value.dtype == dtype or (isinstance(value, nn.Parameter) and dtype == torch.float32):
        return value
    return nn.Parameter(value.detach().to(dtype)) if isinstance(value, nn.Parameter) else value.to(dtype)


def _first_values(title: str, size: Sequence[int], value: Any, init_kwargs: Mapping[str, Any] | None) -> Any:
    if init_kwargs is None:
        return lambda: torch.zeros(tuple(size))
    if value is not None:
        raise ModelError(f"{title}: give either value or init_kwargs, not both.")
    known = {"scale", "mode", "pool"}
    for key in init_kwargs:
        if key not in known:
            raise ModelError(
                f"{title}: init_kwargs has no {key!r}, only {', '.join(sorted(known))}.{did_you_mean(key, known)}"
            )

    def draw() -> torch.Tensor:
        try:
            return initweights(tuple(size), **init_kwargs)
        except ModelError as error:
            raise ModelError(f"{title}: {error}") from None

    return draw


def _broadcast(node: Node, value: Any, shape: TaggedShape) -> Any:
    """Return `value` repeated to the whole shape."""
    size = tuple(n or 0 for n in shape.shape)
    try:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"not {array.dtype}")
    except (TypeError, ValueError) as error:
        raise ModelError(f"{node.title}: value must be numbers, not {value!r} ({error}).") from None
    if array.ndim == 1 and len(size) > 1 and shape.hastag("f") and array.shape[0] == shape["f"]:
        array = array.reshape(-1, *(1,) * (len(size) - shape.tag2index("f") - 1))
    try:
        return np.broadcast_to(array, size)
    except ValueError:
        hint = f", or one number for each of the {shape['f']} features" if shape.hastag("f") else ""
        raise ShapeError(
            f"{node.title}: value has the shape {array.shape}, which doesn't fit {shape.text}; right would be {size}, "
            f"a single number{hint}."
        ) from None

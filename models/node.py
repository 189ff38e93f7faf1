"""The node: one operation of a network, its shape, its parameters, and a call on numpy arrays."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError

from .declared import check_declared
from .feeding import computing_tensor, in_evaluation, to_numpy, to_tensor
from .node_parameters import NodeParameters
from .plan import Plan, fitting_input_sizes, walk
from .shape import TaggedShape
from .timing import measure_exectimes
from .variables import Variable

__all__ = ["Node", "NodeDescription", "misfit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeDescription:
    """What a person wants to know of a node, as plain values.

    Attributes
    ----------
    name, kind : str
        Name in the model; class.
    parents : list of str
    shape : list of int or None
    tags : str
        As ``"b,f,z,y,x"``.
    fov, strides, offsets : list
        One entry for each spatial axis, in input voxels.
    params : int
        Trainable numbers.
    cost : int
        Multiplications, roughly.
    detail : str
        Kernel, pooling, activation and the like.
    """

    name: str
    kind: str
    parents: list[str]
    shape: list[int | None]
    tags: str
    fov: list[int]
    strides: list[int | float]
    offsets: list[int]
    params: int
    cost: int
    detail: str


def misfit(node: Node, message: str, axis: str | None = None) -> ShapeError:
    """Return the error that `node` doesn't fit its parents, on `axis` if it is about one."""
    error = ShapeError(f"{node.title}: {message}")
    error.axis = axis
    return error


class Node(NodeParameters):
    """Base of all nodes. A graph is what its nodes refer to: there is no registry.

    A subclass calls ``super().__init__(parents, name)``, sets what describes it, and ends with
    ``self._build(operation)``, an `torch.nn.Module` that maps the parents' tensors to this node's.

    Parameters
    ----------
    parents : Node or sequence of Node or None
    name : str
        Wanted name; a `Model` makes it unique (``conv, conv1, conv2, ...``).
    print_repr : bool
        Log the description as INFO instead of DEBUG.
    """

    dtype: str = "float32"
    decayed: ClassVar[tuple[str, ...]] = ("w",)
    """Names of the parameters on which weight decay acts."""
    picks: ClassVar[bool] = False
    """Whether it takes one of the values of a parent that has several."""

    parents: tuple[Node, ...]
    name: str
    shape: TaggedShape
    operation: nn.Module
    variables: dict[str, Variable]
    arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Node:
        """Record the constructor's call: models are stored as these calls."""
        self = super().__new__(cls)
        if args or kwargs:  # copying makes an empty node and fills it later
            try:
                bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
            except TypeError:
                return self  # the constructor itself says it better
            arguments = dict(list(bound.arguments.items())[1:])
            name = arguments.get("name", getattr(bound.signature.parameters.get("name"), "default", ""))
            check_declared(f"{cls.__name__} {name!r}", bound)
            for parameter in bound.signature.parameters.values():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    arguments |= arguments.pop(parameter.name, {})
            self.__dict__["arguments"] = arguments
        return self

    def __init__(self, parents: Node | Iterable[Node] | None, name: str, print_repr: bool = False) -> None:
        if parents is None:
            parents = ()
        elif isinstance(parents, Node) or not isinstance(parents, Iterable):
            parents = (parents,)
        self.__dict__.setdefault("arguments", {})
        self.variables = {}
        self.name = _valid_name(name)
        self.parents = tuple(parents)
        self._print_repr = print_repr
        self._plan: Plan | None = None
        for parent in self.parents:
            if not isinstance(parent, Node):
                raise ModelError(f"{self.title}: a parent must be a node, not {type(parent).__name__}.")
            if parent.several and not self.picks:
                raise ModelError(f"{self.title}: {parent.title} has several values; take one of its outputs.")

    def _build(self, operation: nn.Module) -> None:
        self.operation = operation
        try:
            self.shape = self.infer_shape(*(parent.shape for parent in self.parents))
        except ShapeError as error:
            axis = error.axis
            hint = fitting_input_sizes(self, axis) if axis else None
            if axis is None or hint is None or hint[0] in self.parents:
                raise
            source, sizes = hint
            raise ShapeError(
                f"{error} With {source.name!r} of {axis} = {' or '.join(map(str, sizes))} "
                f"(now {source.shape[axis]}) it fits."
            ) from None
        level = logging.INFO if self._print_repr else logging.DEBUG
        if logger.isEnabledFor(level):
            logger.log(level, "%r", self)

    def _add_variable(self, name: str, value: Any, **limits: Any) -> Variable:
        """Make a live value; see `Variable`."""
        try:
            self.variables[name] = Variable(value, **limits)
        except ModelError as error:
            raise ModelError(f"{self.title}: {name}: {error}") from None
        return self.variables[name]

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return this node's shape for parents of these shapes.

        Raises
        ------
        ShapeError
            If they don't fit: names node, axis and what would fit.
        """
        return parents[0]

    @property
    def is_source(self) -> bool:
        """Whether data have to be given for it."""
        return False

    @property
    def several(self) -> bool:
        """Whether its value is not one tensor but a tuple of them."""
        return False

    @property
    def needs_whole_image(self) -> bool:
        """Whether its values depend on where an image is cut: it pads, or each output sees all that there is."""
        return False

    def fitted_shape(self, size: Sequence[int]) -> TaggedShape:
        """Return the shape of a source when an array of this size is given for it.

        Raises
        ------
        ShapeError
            If the array has other axes or another number of features.
        """
        raise ModelError(f"{self.title} takes no data.")

    @property
    def computational_cost(self) -> int:
        """Multiplications of one forward pass, roughly; a batch of unknown size counts as 1."""
        return self.parents[0].shape.stripnone_prod if self.parents else 0

    @property
    def detail(self) -> str:
        """What sets this node apart from others of its class, in a few words."""
        return ""

    @property
    def title(self) -> str:
        """Class and name for messages; once the arguments are checked and the operation is made, also the detail."""
        detail = self.detail if "operation" in self.__dict__ else ""
        return f"{type(self).__name__} {self.name!r}" + (f" ({detail})" if detail else "")

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the entries on the f axis, as those of classes; None if nobody has set them.

        Raises
        ------
        ModelError
            On setting, if there is no f axis or their number isn't its size.
        """
        return self.__dict__.get("_feature_names")

    @feature_names.setter
    def feature_names(self, names: Sequence[str] | None) -> None:
        if names is not None:
            size = self.shape["f"] if self.shape.hastag("f") else None
            if size is None:
                raise ModelError(f"{self.title} can't have feature names: {self.shape.text} has no f axis.")
            texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
            if not texts or len(names) != size:
                raise ModelError(f"{self.title} needs {size} feature names, one for each feature, not {names!r}.")
            names = tuple(names)
        self.__dict__["_feature_names"] = names

    def is_decayed(self, key: str) -> bool:
        """Return whether weight decay acts on the parameter `key`."""
        return key.rpartition(".")[2] in self.decayed

    @property
    def all_parents(self) -> dict[str, Node]:
        """All ancestors and the node itself, by name, parents first."""
        return {node.name: node for node in walk([self])}

    @property
    def input_nodes(self) -> list[Node]:
        """The sources that the node needs: the order of a call's arguments."""
        return [node for node in walk([self]) if node.is_source]

    @property
    def all_computational_cost(self) -> int:
        """Multiplications, roughly, of the node and all ancestors."""
        return sum(node.computational_cost for node in walk([self]))

    @torch.no_grad()
    def __call__(self, *arrays: npt.ArrayLike) -> npt.NDArray[Any]:
        """Compute the node's output in evaluation mode.

        Parameters
        ----------
        *arrays : array_like
            One for each of `input_nodes`, in that order. Batch and spatial sizes are free as long as they fit.

        Returns
        -------
        ndarray

        Raises
        ------
        ModelError
            If the number of arrays is wrong.
        ShapeError
            If sizes don't fit.
        """
        if self.several:
            raise ModelError(f"{self.title} has several values; call one of its outputs.")
        if self._plan is None:
            self._plan = Plan([self])
        plan = self._plan
        if len(arrays) != len(plan.inputs):
            names = ", ".join(node.name for node in plan.inputs) or "none"
            raise ModelError(f"{self.title} needs {len(plan.inputs)} arrays ({names}), but got {len(arrays)}.")
        operations = [node.operation for node in plan.nodes]
        like = computing_tensor(operations)
        tensors = [to_tensor(node, array, like) for node, array in zip(plan.inputs, arrays, strict=True)]
        with in_evaluation(operations):
            return to_numpy(plan.run(tensors)[0])

    def predict_dense(
        self, raw_img: npt.ArrayLike, as_uint8: bool = False, pad_raw: bool = False, **options: Any
    ) -> npt.NDArray[Any]:
        """Return the output at every voxel of an image; see `elektronn_tui.models.dense.predict_dense`.

        A node knows no scaling of raw values: integers are divided by 255, floats are taken as they are.
        `Model.predict_dense` scales as in training.
        """
        from .dense import predict_dense

        return predict_dense(self, raw_img, as_uint8, pad_raw, **options)

    def test_run(self) -> npt.NDArray[Any]:
        """Send random numbers of the declared shapes through and return the output.

        Raises
        ------
        ShapeError
            If the output's shape is not the declared one.
        """
        rng = np.random.default_rng(0)
        output = self(*(node.random_array(rng) for node in self.input_nodes))
        declared = tuple(1 if n is None else n for n in self.shape.shape)
        if output.shape != declared:
            raise ShapeError(f"{self.title} declares the shape {declared}, but computes {output.shape}.")
        return output

    def measure_exectime(
        self, n_samples: int = 5, n_warmup: int = 4, print_info: bool = False, local: bool = True
    ) -> float:
        """Return the median time of this node's operation in ms, or with `local` off that of all ancestors as well.

        Random numbers of the declared shapes are computed, an unknown size is 1. With `print_info` it is logged.
        """
        times = measure_exectimes([self], n_samples, n_warmup)
        result = times.get(self.name, 0.0) if local else sum(times.values())
        if print_info:
            logger.info("%s takes %.3f ms", self.title, result)
        return result

    @torch.no_grad()
    def get_debug_outputs(self, *arrays: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
        """Return named intermediate values of the operation, in evaluation mode.

        An operation lists them by a method ``intermediate``, which takes what ``forward`` takes.

        Parameters
        ----------
        *arrays : array_like
            As of a call.
        """
        intermediate = getattr(self.operation, "intermediate", None)
        if intermediate is None:
            logger.warning("%s has no debug outputs", self.title)
            return {}
        sources = self.input_nodes
        if len(arrays) != len(sources):
            raise ModelError(f"{self.title} needs {len(sources)} arrays, but got {len(arrays)}.")
        given = dict(zip(sources, arrays, strict=True))
        like = computing_tensor([self.operation])
        values = [
            to_tensor(parent, parent(*(given[source] for source in parent.input_nodes)), like)
            for parent in self.parents
        ]
        with in_evaluation([self.operation]):
            return {k: to_numpy(v) for k, v in intermediate(*values).items()}

    def describe(self) -> NodeDescription:
        """Return what there is to know of the node."""
        shape = self.shape
        return NodeDescription(
            name=self.name,
            kind=type(self).__name__,
            parents=[parent.name for parent in self.parents],
            shape=list(shape.shape),
            tags=",".join(shape.tags),
            fov=list(shape.fov),
            strides=list(shape.strides),
            offsets=list(shape.offsets),
            params=self.param_count,
            cost=self.computational_cost,
            detail=self.detail,
        )

    def __getattr__(self, name: str) -> Any:
        """Give parameters and live values by name, as ``node.w`` and ``node.dropout_rate``."""
        if not name.startswith("_"):
            variables = self.__dict__.get("variables", {})
            if name in variables:
                return variables[name].value
            operation = self.__dict__.get("operation")
            if operation is not None:
                for tensors in (operation._parameters, operation._buffers):
                    if name in tensors:
                        return tensors[name]
        raise AttributeError(f"{type(self).__name__!r} node has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("variables", {}):
            self.variables[name].value = value
            return
        operation = self.__dict__.get("operation")
        if operation is not None and (name in operation._parameters or name in operation._buffers):
            self.set_param_values({name: value})
            return
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        lines = [f"<{type(self).__name__}-Node> {self.__dict__.get('name')!r}"]
        if "shape" not in self.__dict__:  # seen in the traceback of a constructor
            return lines[0] + " (not finished)"
        if self.param_count:
            lines.append(f"#Params={self.param_count:,}")
        lines.append(f"Comp.Cost={_ops(self.computational_cost)}, Out:{self.shape.text}")
        if len(self.input_nodes) > 1:
            lines.append("Order of sources=[" + ", ".join(node.name for node in self.input_nodes) + "]")
        if self.detail:
            lines.append(self.detail)
        return "\n  ".join(lines)


def _valid_name(name: str) -> str:
    # The name becomes an attribute of the module and a part of the keys of its state.
    if not isinstance(name, str) or not name or "." in name:
        raise ModelError(f"A node's name must be a text without a dot, not {name!r}.")
    if hasattr(nn.Module, name) or name == "training":
        raise ModelError(f"A node can't be called {name!r}: torch modules use that name themselves.")
    return name


def _ops(cost: int) -> str:
    if cost < 1000:
        return f"{cost} Ops"
    power = min(int(math.log10(cost) // 3), 4)
    return f"{cost / 1000**power:.1f} {('', 'kilo', 'Mega', 'Giga', 'Tera')[power]} Ops"

"""Cells of recurrent networks: one step in time. `Scan` makes a recurrence of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from elektronn_tui.errors import ModelError

from .activations import get_activation
from .initialisation import ParameterLike, initbias, initweights, make_parameter, register_tensor
from .merging import widest
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["GRU", "LSTM"]


class CellOperation(nn.Module, ABC):
    """What both cells share: parameters, and memory and input joined on the last axis."""

    w: torch.Tensor
    b: torch.Tensor

    def __init__(
        self,
        parameters: dict[str, torch.Tensor],
        n_f: int,
        activation_func: str,
        axis: int,
        missing: tuple[int, ...],
    ) -> None:
        super().__init__()
        for name, value in parameters.items():
            register_tensor(self, name, value)
        self.n_f, self.axis, self.missing = n_f, axis, missing
        self.activate: Any = get_activation("", activation_func)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Map input (..., n_in, ...) and memory to the next memory."""
        return self.step(*self._features_last(x, memory)).movedim(-1, self.axis)

    def _features_last(self, x: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for axis in self.missing:
            memory = memory.unsqueeze(axis)
        x, memory = x.movedim(self.axis, -1), memory.movedim(self.axis, -1)
        return x, memory.expand(*x.shape[:-1], memory.shape[-1])

    @abstractmethod
    def step(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Return the next memory; features are last."""


def _linear(h: torch.Tensor, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return [h, x] w + b over the last axis."""
    dtype = torch.promote_types(h.dtype, x.dtype)
    joined = torch.cat((h.to(dtype), x.to(dtype)), -1)
    # Not F.linear, whose weights are transposed: their gradients then come transposed as well, and joining those of
    # the gates took two thirds of a training step.
    return torch.addmm(b, joined.reshape(-1, joined.shape[-1]), w).reshape(*joined.shape[:-1], w.shape[1])


class GRUOperation(CellOperation):
    """One step of a gated recurrent unit."""

    def step(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Return the next memory (..., n_f)."""
        return self._states(x, memory)[0]

    def intermediate(self, x: torch.Tensor, memory: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return memory, next memory and the gates z (how much is new) and r (how much of the memory is seen)."""
        x, memory = self._features_last(x, memory)
        out, update, reset = self._states(x, memory)
        values = {"memory": memory, "out": out, "z": update, "r": reset}
        return {name: value.movedim(-1, self.axis) for name, value in values.items()}

    def _states(self, x: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        n = self.n_f
        # Split, not indexed: its gradient is one concatenation instead of two matrices full of zeros.
        w_gates, w_candidate = self.w.split((2 * n, n), 1)
        b_gates, b_candidate = self.b.split((2 * n, n))
        gates = _linear(memory, x, w_gates, b_gates).sigmoid()
        update, reset = gates.split(n, -1)
        candidate = self.activate(_linear(reset * memory, x, w_candidate, b_candidate))
        return (1 - update) * memory + update * candidate, update, reset


class LSTMOperation(CellOperation):
    """One step of a long short-term memory."""

    def step(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Return the next output and cell, (..., 2 n_f)."""
        n = self.n_f
        h, cell = memory.split(n, -1)
        gates, candidate = _linear(h, x, self.w, self.b).split((3 * n, n), -1)
        forget, write, read = gates.sigmoid().split(n, -1)
        cell = forget * cell + write * self.activate(candidate.clone())
        return torch.cat((read * self.activate(cell.clone()), cell), -1)  # activations may work in place


class Cell(Node):
    """Base of `GRU` and `LSTM`: checks and makes what they have in common."""

    gates: ClassVar[int]
    states: ClassVar[int]
    operation_class: ClassVar[type[CellOperation]]

    def __init__(
        self,
        parent: Node,
        memory: Node,
        n_f: int,
        activation_func: str,
        name: str,
        print_repr: bool,
        w: ParameterLike,
        b: ParameterLike,
        **of_other_layers: Any,
    ) -> None:
        super().__init__((parent, memory), name, print_repr)
        title = self.title
        if isinstance(n_f, bool) or not isinstance(n_f, int | np.integer) or n_f < 1:
            raise ModelError(f"{title}: n_f must be a whole number from 1 on, not {n_f!r}.")
        self.n_f = int(n_f)
        if get_activation(title, activation_func) is None:
            raise ModelError(
                f"{title}: {activation_func!r} has parameters or changes the number of features, which the memory "
                "doesn't allow; use 'tanh'."
            )
        self.activation_func = activation_func
        self._refuse(**of_other_layers)
        self.infer_shape(parent.shape, memory.shape)
        n_in = parent.shape["f"]
        shape = (self.n_f + n_in, self.gates * self.n_f)
        parameters = {
            "w": make_parameter(title, "w", w, shape, lambda: initweights(shape, mode="ortho")),
            "b": make_parameter(title, "b", b, shape[1:], lambda: initbias(shape[1], activation_func, 1)),
        }
        missing = tuple(i for i, tag in enumerate(parent.shape.tags) if not memory.shape.hastag(tag))
        axis = parent.shape.tag2index("f")
        self._build(self.operation_class(parameters, self.n_f, activation_func, axis, missing))

    def _refuse(
        self, flatten: bool, batch_normalisation: Any, dropout_rate: float, gradnet_mode: Any, **statistics: Any
    ) -> None:
        """Raise for what layers can do and a step in time can't."""
        if flatten:
            raise ModelError(
                f"{self.title}: flatten would change the axes of what is fed back; flatten the input before."
            )
        if batch_normalisation or any(value is not None for value in statistics.values()):
            raise ModelError(
                f"{self.title}: batch normalisation would need statistics of each time step; normalise the input "
                "before, as Perceptron(..., batch_normalisation='train') does."
            )
        if dropout_rate:
            raise ModelError(
                f"{self.title}: dropout would wipe the memory from step to step; drop out inputs or outputs, as "
                "Perceptron(..., dropout_rate=0.5) does."
            )
        if gradnet_mode:
            raise ModelError(f"{self.title}: gradnet_mode is not available; leave it out.")

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape with the memory's features."""
        shape, memory = parents
        names = [parent.name for parent in self.parents]
        if shape.hastag("r"):
            raise misfit(
                self,
                f"is one step in time, but {names[0]!r} has an axis r, {shape.text}; give it one slice, "
                "split(..., 'r', index=1, strip_singleton_dims=True)[0], and Scan over the rest.",
                "r",
            )
        if not shape.hastag("f") or shape["f"] is None:
            raise misfit(self, f"needs an f axis of known size, but {names[0]!r} has {shape.text}.")
        n_f = self.states * self.n_f
        if not memory.hastag("f") or memory["f"] != n_f:
            what = "n_f" if self.states == 1 else "2 * n_f, output and cell,"
            raise misfit(
                self,
                f"the memory {names[1]!r} {memory.text} must have {n_f} features ({what} of n_f = {self.n_f}).",
                "f",
            )
        if memory.tags != tuple(tag for tag in shape.tags if memory.hastag(tag)):
            raise misfit(
                self,
                f"the memory {names[1]!r} {memory.text} must have axes of the input {names[0]!r} {shape.text}, in "
                "their order.",
            )
        for tag in memory.tags:
            n, m = shape[tag], memory[tag]
            if tag != "f" and m not in (1, n) and None not in (m, n):
                raise misfit(
                    self,
                    f"axis {tag} of the memory {names[1]!r} has {m} entries; it needs {n}, as {names[0]!r}, or 1.",
                    tag,
                )
        result = shape.updateshape("f", n_f)
        if memory.spatial_tags != shape.spatial_tags or memory.strides != shape.strides:
            return result
        return widest((result, memory))

    @property
    def computational_cost(self) -> int:
        """Size of the parent times the number of features, for each gate."""
        return self.gates * self.parents[0].shape.stripnone_prod * self.n_f

    @property
    def detail(self) -> str:
        """Features and activation."""
        return f"{self.n_f} features, {self.activation_func}"


class GRU(Cell):
    r"""One step of a gated recurrent unit (Cho et al., 2014).

    With x the parent, h the memory and [h, x] both joined on the f axis::

        z = sig([h, x] Wz + bz)
        r = sig([h, x] Wr + br)
        c = act([r h, x] Wh + bh)
        out = (1 - z) h + z c

    Parameters
    ----------
    parent : Node
        Any axes but r, with f; every position is a unit of its own.
    memory_state : Node
        With n_f features. Axes that it lacks or in which it has one entry are repeated as the parent has them.
    n_f : int
        Number of features.
    activation_func : str
        One without parameters; see `elektronn_tui.models.activations`.
    flatten, batch_normalisation, dropout_rate
        Not available: False or 0.
    name : str
    print_repr : bool
    w : ParameterLike, (n_f + n_in, 3 n_f)
        Columns in the order z, r, h; rows: memory, then input. Orthogonal by default.
    b : ParameterLike, (3 n_f,)
    gamma, mean, std, gradnet_mode : None
        Not available.

    Raises
    ------
    ShapeError
        If the memory doesn't fit or the parent has an axis r.
    ModelError
        If an argument is no good.
    """

    gates = 3
    states = 1
    operation_class = GRUOperation

    def __init__(
        self,
        parent: Node,
        memory_state: Node,
        n_f: int,
        activation_func: str = "tanh",
        flatten: bool = False,
        batch_normalisation: Literal[False] = False,
        dropout_rate: float = 0,
        name: str = "gru",
        print_repr: bool = False,
        w: ParameterLike = None,
        b: ParameterLike = None,
        gamma: None = None,
        mean: None = None,
        std: None = None,
        gradnet_mode: None = None,
    ) -> None:
        super().__init__(
            parent, memory_state, n_f, activation_func, name, print_repr, w, b,
            flatten=flatten, batch_normalisation=batch_normalisation, dropout_rate=dropout_rate,
            gamma=gamma, mean=mean, std=std, gradnet_mode=gradnet_mode,
        )  # fmt: skip


class LSTM(Cell):
    r"""One step of a long short-term memory without peepholes (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).

    With x the parent, and h and C the two halves of the memory::

        f, i, o = sig([h, x] W + b)
        g = act([h, x] Wc + bc)
        C' = f C + i g
        h' = o act(C')
        out = [h', C']

    Parameters
    ----------
    parent : Node
        Any axes but r, with f; every position is a unit of its own.
    memory_states : Node
        With 2 n_f features: the output that was fed back, then the cell.
    n_f : int
        Number of features of the output and of the cell; the node has 2 n_f.
    activation_func, flatten, batch_normalisation, dropout_rate, name, print_repr
        See `GRU`.
    w : ParameterLike, (n_f + n_in, 4 n_f)
        Columns in the order f, i, o, c; rows: output, then input. Orthogonal by default.
    b : ParameterLike, (4 n_f,)
        About 0 at the start, the forget gate's too.
    gamma, mean, std, gradnet_mode : None
        Not available.

    Raises
    ------
    ShapeError
        If the memory doesn't fit or the parent has an axis r.
    ModelError
        If an argument is no good.
    """

    gates = 4
    states = 2
    operation_class = LSTMOperation

    def __init__(
        self,
        parent: Node,
        memory_states: Node,
        n_f: int,
        activation_func: str = "tanh",
        flatten: bool = False,
        batch_normalisation: Literal[False] = False,
        dropout_rate: float = 0,
        name: str = "lstm",
        print_repr: bool = False,
        w: ParameterLike = None,
        b: ParameterLike = None,
        gamma: None = None,
        mean: None = None,
        std: None = None,
        gradnet_mode: None = None,
    ) -> None:
        super().__init__(
            parent, memory_states, n_f, activation_func, name, print_repr, w, b,
            flatten=flatten, batch_normalisation=batch_normalisation, dropout_rate=dropout_rate,
            gamma=gamma, mean=mean, std=std, gradnet_mode=gradnet_mode,
        )  # fmt: skip

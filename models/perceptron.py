"""The perceptron: a matrix product over the features, at every position."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from elektronn_tui.errors import ModelError

from .declared import checked
from .initialisation import ParameterLike, initweights
from .layer import Layer, LayerOperation, Normalisation
from .node import Node, misfit
from .shape import TaggedShape

__all__ = ["Dot", "Perceptron"]


class PerceptronOperation(LayerOperation):
    """Matrix product over one axis."""

    axis: int
    flatten: bool
    transpose_w: bool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., n_in, ...) to (..., n_f, ...)."""
        if self.flatten:
            x = x.flatten(1)
        x = x.movedim(self.axis, -1)
        bias = self.linear_bias()
        y = F.linear(x.reshape(-1, x.shape[-1]), self.w if self.transpose_w else self.w.T, bias)
        y = self.finish(y)
        return y.reshape(*x.shape[:-1], y.shape[1]).movedim(-1, self.axis)


class Perceptron(Layer):
    """Matrix product over the f axis of an array of any axes, with activation.

    Parameters
    ----------
    parent : Node
    n_f : int
        Number of features; with ``maxout r`` before the maximum, so ``n_f / r`` come out.
    activation_func : str
        See `elektronn_tui.models.activations`.
    flatten : bool
        Take everything but the batch as features; the output has the axes b, f.
    batch_normalisation : {False, 'train', 'predict', 'fadeout'}
        See `Conv`.
    dropout_rate : float
        Share of outputs set to 0 in training, drawn for each example and position by itself; live as
        ``node.dropout_rate`` unless it is 0 here.
    name : str
    print_repr : bool
    w : ParameterLike, (n_in, n_f)
    b : ParameterLike, (n_f,)
        For prelu (n_f, 2), with the slopes in column 1.
    gamma, mean, std : ParameterLike, (n_f,)
    gradnet_mode : bool or str, optional
        See `Conv`.
    transpose_w : bool
        `w` is given as (n_f, n_in), as the weights of the layer that this one undoes; see `make_dual`.

    Raises
    ------
    ShapeError
        If the parent has no f axis, or not where `flatten` needs it.
    ModelError
        If an argument is no good.
    """

    operation: PerceptronOperation

    def __init__(
        self,
        parent: Node,
        n_f: int,
        activation_func: str = "relu",
        flatten: bool = False,
        batch_normalisation: Normalisation = False,
        dropout_rate: float = 0,
        name: str = "dot",
        print_repr: bool = False,
        w: ParameterLike = None,
        b: ParameterLike = None,
        gamma: ParameterLike = None,
        mean: ParameterLike = None,
        std: ParameterLike = None,
        gradnet_mode: bool | str | None = None,
        *,
        transpose_w: bool = False,
    ) -> None:
        super().__init__(parent, name, print_repr)
        self.flatten = bool(flatten)
        self._set_common(n_f, activation_func, batch_normalisation, dropout_rate, gradnet_mode)
        shape = parent.shape
        self.infer_shape(shape)
        n_in = shape.stripbatch_prod if flatten else shape["f"]
        self.transpose_w = bool(transpose_w)
        w_shape = (self.n_f, n_in) if transpose_w else (n_in, self.n_f)
        given = (w, b, gamma, mean, std)
        operation = self._make_operation(PerceptronOperation, given, w_shape, 1, lambda: initweights(w_shape))
        operation.transpose_w = self.transpose_w
        operation.flatten = self.flatten
        operation.axis = 1 if flatten else shape.tag2index("f")
        self._n_in = n_in
        self._build(operation)

    def infer_shape(self, *parents: TaggedShape) -> TaggedShape:
        """Return the parent's shape with n_f features, or (b, f) when flattened."""
        (shape,) = parents
        if not shape.hastag("f"):
            raise misfit(self, f"needs an f axis, but its parent has {shape.text}.")
        if not self.flatten:
            return shape.updateshape("f", self._n_out)
        if shape.tags[:2] != ("b", "f"):
            raise misfit(self, f"flatten needs the axes b, f first, but its parent has {shape.text}.")
        if None in shape.shape[1:]:
            raise misfit(self, f"flatten needs known sizes, but its parent has {shape.text}.")
        if shape.stripbatch_prod != self.__dict__.get("_n_in", shape.stripbatch_prod):
            raise misfit(
                self, f"was made for {self._n_in} values an example, but {shape.text} has {shape.stripbatch_prod}."
            )
        return TaggedShape((shape[0], self._n_out), "b,f")

    @checked
    def make_dual(self, parent: Node, share_w: bool = False, **kwargs: Any) -> Perceptron:
        """Return the perceptron that maps `parent` back to this one's input features.

        Parameters
        ----------
        parent : Node
            With as many features as this layer has.
        share_w : bool
            Use this layer's weights, transposed, instead of new ones.
        **kwargs
            Arguments of `Perceptron` that differ from this layer's; the name is ``<name>_T`` by default.

        Raises
        ------
        ModelError
            If this layer flattens its input: that can't be undone.
        ShapeError
            If the features don't match.
        """
        if self.flatten:
            raise ModelError(f"{self.title} has no dual, because flatten=True can't be undone.")
        return Perceptron(parent, **self._dual_arguments(parent, self._n_in, share_w, kwargs))

    @property
    def output_axis(self) -> int:
        """Axis of `w` on which its output features are."""
        return int(not self.transpose_w)

    @property
    def computational_cost(self) -> int:
        """Size of the parent times the number of features."""
        return self.parents[0].shape.stripnone_prod * self.n_f

    @property
    def detail(self) -> str:
        """Features and activation."""
        return f"{self.n_f} features, " + ("flatten, " if self.flatten else "") + self.common_detail


Dot = Perceptron

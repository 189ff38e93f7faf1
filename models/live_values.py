"""What can be looked up and set on a model while it trains: rates, mixing weights, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch

from elektronn_tui.errors import ModelError, did_you_mean

from .aggregate import AggregateLoss
from .declared import checked
from .layer import Layer
from .node import Node

__all__ = ["LiveValues"]


class LiveValues:
    """The part of `Model` that gets and sets values of nodes."""

    nodes: dict[str, Node]
    loss_node: Node | None
    prediction_node: Node
    debug_outputs: list[Node]

    @property
    def variables(self) -> dict[str, Any]:
        """All live values, keyed ``<node>.<variable>``; see `Variable`."""
        return {f"{node.name}.{k}": v for node in self.nodes.values() for k, v in node.variables.items()}

    @property
    def dropout_rates(self) -> list[float]:
        """Dropout rates of the nodes that have one, in their order; set one number for all, or a list."""
        return self._rates("dropout_rate")

    @dropout_rates.setter
    def dropout_rates(self, value: float | Sequence[float]) -> None:
        self._set_rates("dropout_rate", value)

    @property
    def gradnet_rates(self) -> list[float]:
        """GradNet rates of the nodes that have one, in their order; set one number for all, or a list."""
        return self._rates("gradnet_rate")

    @gradnet_rates.setter
    def gradnet_rates(self, value: float | Sequence[float]) -> None:
        self._set_rates("gradnet_rate", value)

    @property
    def mixing(self) -> list[float]:
        """Mixing weights of the loss, or of the first `AggregateLoss` that there is.

        Raises
        ------
        ModelError
            If there is none.
        """
        return list(self._mixer.mixing_weights)

    @mixing.setter
    def mixing(self, value: Sequence[float]) -> None:
        self._mixer.mixing_weights = value

    @property
    def _mixer(self) -> Node:
        for node in (self.loss_node, *self.nodes.values()):
            if isinstance(node, AggregateLoss):
                return node
        raise ModelError("This model has no AggregateLoss, so it mixes nothing.")

    @property
    def batch_normalisation_active(self) -> bool:
        """Whether a node normalises by the statistics of the batch in training."""
        return any(isinstance(node, Layer) and node.measures_statistics for node in self.nodes.values())

    @property
    def debug_output_names(self) -> list[str]:
        """Names of the debug outputs."""
        return [node.name for node in self.debug_outputs]

    @property
    def prediction_feature_names(self) -> tuple[str, ...] | None:
        """Names of the prediction's features, as classes, if somebody has given them."""
        return self.prediction_node.feature_names

    def get_param_values(self, skip_const: bool = False) -> dict[str, dict[str, npt.NDArray[Any]]]:
        """Return copies of all parameters by node and name; with `skip_const` only of those that are trained."""
        values = {name: node.get_param_values(skip_const) for name, node in self.nodes.items()}
        return {name: own for name, own in values.items() if own}

    @checked
    def set_param_values(
        self, values: Mapping[str, Mapping[str, npt.ArrayLike | torch.Tensor]], skip_const: bool = False
    ) -> None:
        """Set parameters by node and name; all or, if something doesn't fit, none.

        Parameters
        ----------
        values : mapping
            As of `get_param_values`.
        skip_const : bool
            Leave alone what isn't trained.

        Raises
        ------
        ModelError
            If a node or parameter is unknown or a shape differs.
        """
        for name in values:
            if name not in self.nodes:
                raise ModelError(f"There is no node {name!r} in this model.{did_you_mean(name, self.nodes)}")
        before = {name: self.nodes[name].get_param_values() for name in values}
        try:
            for name, own in values.items():
                self.nodes[name].set_param_values(own, skip_const)
        except ModelError:
            for name, own in before.items():
                self.nodes[name].set_param_values(own)
            raise

    def _having(self, variable: str) -> list[Node]:
        return [node for node in self.nodes.values() if variable in node.variables]

    def _rates(self, variable: str) -> list[float]:
        return [node.variables[variable].value for node in self._having(variable)]  # type: ignore[misc]

    def _set_rates(self, variable: str, value: float | Sequence[float]) -> None:
        nodes = self._having(variable)
        if isinstance(value, str) or not isinstance(value, int | float | Sequence):
            raise ModelError(
                f"{variable} must be one number for all nodes, or a list with one for each, not {value!r}."
            )
        values = [value] * len(nodes) if isinstance(value, int | float) else list(value)
        if len(values) != len(nodes):
            names = ", ".join(node.name for node in nodes) or "none"
            raise ModelError(f"{len(nodes)} nodes have a {variable} ({names}), but {len(values)} values were given.")
        old = self._rates(variable)
        try:
            for node, new in zip(nodes, values, strict=True):
                node.variables[variable].value = new
        except ModelError:
            for node, previous in zip(nodes, old, strict=True):
                node.variables[variable].value = previous
            raise

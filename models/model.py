"""The model: a network whose nodes have names and roles."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from elektronn_tui.errors import ModelError, NodeNotFound, ShapeError, did_you_mean

from .description import description_of
from .evaluation import Evaluation
from .inputs import Input
from .live_values import LiveValues
from .network import Network
from .node import Node, NodeDescription
from .patch_size import centred_geometry
from .plan import Plan, walk
from .roles import find_node, node_list, of_kind, unique_names
from .storage import save_model

__all__ = ["Model"]

logger = logging.getLogger(__name__)


class Model(Evaluation, LiveValues):
    """A network with named nodes and the roles that training and prediction need.

    Nodes get unique names: a wanted name that is taken is counted up (``conv, conv1, conv2, ...``); names that
    were given by hand go first.

    Parameters
    ----------
    input_node : Input
        Where raw images come in. All roles take nodes, or names of nodes that others of the given nodes need.
    target_node : Input, optional
        Where targets come in.
    loss_node : Node, optional
        One number, as of `AggregateLoss`.
    prediction_node : Node, optional
        What the network is for; default: the loss or the first of `prediction_ext`.
    prediction_ext : sequence of Node, optional
        What is computed together in validation: usually loss, errors, prediction.
    error_node : Node, optional
    debug_outputs : sequence of Node, optional
        What is computed in every training step as well.
    name : str
    scaling : dict, optional
        How raw values were scaled for training, as plain values; travels with the model.

    Raises
    ------
    ModelError
        If a role is taken by the wrong kind of node, or names can't be made unique.
    ShapeError
        If the loss is not one number, or the output is not centred in the input.

    Examples
    --------
    >>> from elektronn_tui.models import Conv, Input, Model, Softmax
    >>> raw = Input((1, 1, 22, 22), "b,f,y,x", name="raw")
    >>> out = Conv(Conv(raw, 8, (3, 3), (2, 2)), 2, (1, 1), activation_func="lin")
    >>> model = Model(input_node=raw, prediction_node=Softmax(out))
    >>> list(model.nodes), model.param_count
    (['raw', 'conv', 'conv1', 'softmax'], 98)
    """

    def __init__(
        self,
        input_node: Node | str,
        target_node: Node | str | None = None,
        loss_node: Node | str | None = None,
        prediction_node: Node | str | None = None,
        prediction_ext: Sequence[Node | str] | None = None,
        error_node: Node | str | None = None,
        debug_outputs: Sequence[Node | str] | None = None,
        name: str = "model",
        scaling: dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise ModelError(f"A model's name must be a text, not {name!r}.")
        if not isinstance(scaling, dict | None):
            raise ModelError(f"scaling must be a dict of plain values or None, not {scaling!r}.")
        self.name = name
        self.scaling = scaling
        self.extra: dict[str, str] = {}
        singles: dict[str, Any] = {
            "input_node": input_node,
            "target_node": target_node,
            "loss_node": loss_node,
            "prediction_node": prediction_node,
            "error_node": error_node,
        }
        lists: dict[str, Any] = {"prediction_ext": prediction_ext, "debug_outputs": debug_outputs}
        given = [value for value in singles.values() if isinstance(value, Node)]
        for values in lists.values():
            given += [value for value in values if isinstance(value, Node)] if isinstance(values, list | tuple) else []
        input_node, target_node, loss_node, prediction_node, error_node = (
            find_node(role, value, given) for role, value in singles.items()
        )
        prediction_ext, debug_outputs = (
            [find_node(role, value, given) for value in values] if isinstance(values, list | tuple) else values
            for role, values in lists.items()
        )
        self.prediction_ext = node_list("prediction_ext", prediction_ext)
        self.debug_outputs = node_list("debug_outputs", debug_outputs)
        self.input_node = of_kind("input_node", input_node, Input)
        self.target_node = None if target_node is None else of_kind("target_node", target_node, Input)
        self.loss_node = None if loss_node is None else of_kind("loss_node", loss_node, Node)
        self.error_node = None if error_node is None else of_kind("error_node", error_node, Node)
        if prediction_node is None:
            prediction_node = loss_node or next(iter(self.prediction_ext), None)
        if prediction_node is None:
            raise ModelError("A model needs a prediction_node or a loss_node.")
        self.prediction_node = of_kind("prediction_node", prediction_node, Node)
        roles = [self.input_node, self.prediction_node, self.target_node, self.loss_node, self.error_node]
        nodes = walk([n for n in (*roles, *self.prediction_ext, *self.debug_outputs) if n is not None])
        self._check_roles()
        self.nodes: dict[str, Node] = unique_names(nodes)
        self._designate_prediction()
        plan = Plan([self.prediction_node])
        self.module = Network(
            {node.name: node.operation for node in nodes if not node.is_source},
            {n.name: [p.name for p in n.parents] for n in plan.nodes if not n.is_source},
            [node.name for node in plan.inputs],
            self.prediction_node.name,
        )
        self._plans: dict[tuple[Node, ...], Plan] = {}
        self._memory_format: torch.memory_format | None = None

    def _check_roles(self) -> None:
        if self.input_node not in walk([self.prediction_node]):
            raise ModelError(
                f"The prediction {self.prediction_node.title} doesn't depend on the input {self.input_node.title}."
            )
        loss = self.loss_node
        if loss is None:
            return
        if loss.shape.stripnone_prod != 1 or None in loss.shape.shape:
            raise ShapeError(
                f"The loss must be one number, but {loss.title} has the shape {loss.shape.text}: "
                "put it into an AggregateLoss."
            )
        if self.target_node is not None and self.target_node not in walk([loss]):
            raise ModelError(f"The loss {loss.title} doesn't depend on the target {self.target_node.title}.")

    def _designate_prediction(self) -> None:
        """After an up-convolution the field of view is unknown: it is then what the output leaves of the input."""
        shape, raw = self.prediction_node.shape, self.input_node.shape
        if shape.ndim == 0 or shape.spatial_tags != raw.spatial_tags:
            return
        if min(shape.fov) > 0:
            if not shape.fov_all_centered:
                logger.warning(
                    "The field of view %s of %r is even: its outputs lie between input voxels.",
                    shape.fov,
                    self.prediction_node.name,
                )
            return
        fov, centre = centred_geometry(self.prediction_node.name, shape, raw)
        for node in (self.prediction_node, self.target_node):
            if node is not None and node.shape.spatial_tags == shape.spatial_tags:
                for i, f in enumerate(fov):
                    node.shape = node.shape.updatefov(i, f)
                node.shape = node.shape.updatecentre(centre)

    @property
    def param_count(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.module.parameters() if p.requires_grad)

    def __getitem__(self, key: str | int) -> Node:
        """Return a node by name or by its place in the order of computation.

        Raises
        ------
        NodeNotFound
            If none has that name.
        IndexError
            If there are not so many.
        """
        if isinstance(key, int):
            return list(self.nodes.values())[key]
        if not isinstance(key, str) or key not in self.nodes:
            raise NodeNotFound(f"There is no node {key!r} in this model.{did_you_mean(str(key), self.nodes)}")
        return self.nodes[key]

    def children(self, node: Node | str) -> dict[str, Node]:
        """Return the nodes of this model that take a node's values, by name. Nodes themselves know parents only."""
        wanted = node if isinstance(node, Node) else self[node]
        return {name: other for name, other in self.nodes.items() if wanted in other.parents}

    def all_children(self, node: Node | str) -> dict[str, Node]:
        """Return all descendants of a node in this model and the node itself, by name, parents first."""
        wanted = node if isinstance(node, Node) else self[node]
        return {name: other for name, other in self.nodes.items() if wanted in walk([other])}

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def compute(self, nodes: Sequence[Node], feeds: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Compute nodes in the present mode (`train` or `eval`), with gradients unless torch's are switched off.

        Parameters
        ----------
        nodes : sequence of Node
        feeds : mapping of str to Tensor
            Keyed by the names of input nodes; others are ignored. Batch and spatial sizes are free as long as
            they fit.

        Returns
        -------
        list of Tensor
            One for each of `nodes`.

        Raises
        ------
        ModelError
            If an input is missing.
        ShapeError
            If sizes don't fit.
        """
        key = tuple(nodes)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(key)
        inputs = plan.collect(feeds)
        return plan.run([self.formatted(x) for x in inputs])

    def formatted(self, value: Any) -> Any:
        """Return a tensor in the memory format of the model; anything else as it is."""
        if self._memory_format is None or not isinstance(value, torch.Tensor):
            return value
        return _as_format(value, self._memory_format)

    def train(self, mode: bool = True) -> Model:
        """Switch to training: dropout acts and batches are normalised by their own statistics."""
        self.module.train(mode)
        return self

    def eval(self) -> Model:
        """Switch to evaluation."""
        return self.train(False)

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
    ) -> Model:
        """Move the parameters.

        Parameters
        ----------
        device : torch.device or str, optional
        dtype : torch.dtype, optional
        memory_format : torch.memory_format, optional
            ``torch.channels_last`` or ``torch.channels_last_3d``: weights and inputs of 2D and of 3D
            convolutions then each get the one of their number of axes.
        """
        try:
            self.module.to(device=device, dtype=dtype)
        except (RuntimeError, TypeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"Model {self.name!r} can't be moved to {device or ''} {dtype or ''}: {reason}") from error
        if memory_format is not None:
            channels_last = memory_format in (torch.channels_last, torch.channels_last_3d)
            self._memory_format = memory_format if channels_last else None
            for parameter in self.module.parameters():
                parameter.data = _as_format(parameter.data, memory_format)
                if parameter.grad is not None:
                    parameter.grad.data = _as_format(parameter.grad.data, memory_format)
        return self

    def parameter_groups(self, *, frozen: bool = False) -> list[dict[str, Any]]:
        """Return groups for torch's optimisers: ``decay`` (weights) and ``no_decay`` (biases, normalisation).

        Each has ``name``, ``params`` and ``weight_decay_scale``: what to multiply weight decay with. With `frozen`
        those are in it, too, that are not trained now: an optimiser leaves them alone until they are.
        """
        groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
        seen: set[nn.Parameter] = set()
        for node in self.nodes.values():
            for key, parameter in node.operation.named_parameters():
                if parameter in seen or not (frozen or parameter.requires_grad):
                    continue
                seen.add(parameter)
                groups["decay" if node.is_decayed(key) else "no_decay"].append(parameter)
        scale = {"decay": 1.0, "no_decay": 0.0}
        return [
            {"name": name, "params": params, "weight_decay_scale": scale[name]}
            for name, params in groups.items()
            if params
        ]

    def describe(self) -> list[NodeDescription]:
        """Describe all nodes, parents before children."""
        return [node.describe() for node in self.nodes.values()]

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        scaling: dict[str, Any] | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        """Write the model to one file; see `elektronn_tui.models.storage.save_model`.

        Parameters
        ----------
        path : path
            Replaced at once when the new file is complete.
        scaling : dict, optional
            Of plain values; default ``model.scaling``.
        extra : dict of str, optional
            More text to keep, found again as ``model.extra``.
        """
        save_model(self, path, scaling=scaling, extra=extra)

    @property
    def description(self) -> str:
        """A table of all nodes with the totals and roles; also what ``print(model)`` shows."""
        return description_of(self)

    def __str__(self) -> str:
        return self.description if "module" in self.__dict__ else repr(self)

    def __repr__(self) -> str:
        if "module" not in self.__dict__:  # seen in the traceback of the constructor
            return "<Model (not finished)>"
        return f"<Model {self.name!r}: {len(self.nodes)} nodes, {self.param_count:,} parameters>"


def _as_format(x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    # Not `contiguous`: that leaves the strides of tensors with one channel or 1×1×1 filters, which fit both formats,
    # and convolutions then take the slow way (a fifth of a training step).
    if memory_format in (torch.channels_last, torch.channels_last_3d):
        if x.ndim == 4:
            return x.to(memory_format=torch.channels_last)
        return x.to(memory_format=torch.channels_last_3d) if x.ndim == 5 else x
    return x.to(memory_format=memory_format)

"""The model: a network whose nodes have names and roles."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.errors import ModelError, ShapeError, did_you_mean

from .fitting import centred_geometry
from .inputs import Input
from .network import Network
from .node import Node, NodeDescription, to_numpy
from .plan import Plan, walk

__all__ = ["Model"]

logger = logging.getLogger(__name__)


class Model:
    """A network with named nodes and the roles that training and prediction need.

    Nodes get unique names: a wanted name that is taken is counted up (``conv, conv1, conv2, ...``); names that
    were given by hand go first.

    Parameters
    ----------
    input_node : Input
        Where raw images come in.
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
        input_node: Node,
        target_node: Node | None = None,
        loss_node: Node | None = None,
        prediction_node: Node | None = None,
        prediction_ext: Sequence[Node] | None = None,
        error_node: Node | None = None,
        debug_outputs: Sequence[Node] | None = None,
        name: str = "model",
        scaling: dict[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.scaling = scaling
        self.extra: dict[str, str] = {}
        self.prediction_ext = _node_list("prediction_ext", prediction_ext)
        self.debug_outputs = _node_list("debug_outputs", debug_outputs)
        self.input_node = _of_kind("input_node", input_node, Input)
        self.target_node = None if target_node is None else _of_kind("target_node", target_node, Input)
        self.loss_node = None if loss_node is None else _of_kind("loss_node", loss_node, Node)
        self.error_node = None if error_node is None else _of_kind("error_node", error_node, Node)
        if prediction_node is None:
            prediction_node = loss_node or next(iter(self.prediction_ext), None)
        if prediction_node is None:
            raise ModelError("A model needs a prediction_node or a loss_node.")
        self.prediction_node = _of_kind("prediction_node", prediction_node, Node)
        roles = [self.input_node, self.prediction_node, self.target_node, self.loss_node, self.error_node]
        nodes = walk([n for n in (*roles, *self.prediction_ext, *self.debug_outputs) if n is not None])
        self._check_roles()
        self.nodes: dict[str, Node] = _named(nodes)
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

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.module.parameters(), torch.empty(0)).device

    @property
    def variables(self) -> dict[str, Any]:
        """All live values, keyed ``<node>.<variable>``; see `Variable`."""
        return {f"{node.name}.{k}": v for node in self.nodes.values() for k, v in node.variables.items()}

    def __getitem__(self, key: str | int) -> Node:
        """Return a node by name or by its place in the order of computation."""
        if isinstance(key, int):
            return list(self.nodes.values())[key]
        if key not in self.nodes:
            raise KeyError(f"There is no node {key!r} in this model.{did_you_mean(key, self.nodes)}")
        return self.nodes[key]

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
        if self._memory_format is not None:
            inputs = [_as_format(x, self._memory_format) for x in inputs]
        return plan.run(inputs)

    def predict(self, *arrays: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the prediction for arrays of its inputs, in evaluation mode."""
        return self.prediction_node(*arrays)

    def predict_dense(
        self,
        raw_img: npt.ArrayLike,
        as_uint8: bool = False,
        pad_raw: bool = False,
        *,
        patch_shape: Sequence[int] | None = None,
        batch_size: int = 1,
    ) -> npt.NDArray[Any]:
        """Return the prediction at every voxel of an image; see `elektronn_tui.models.dense.predict_dense`.

        Raw values, in the units in which they are stored, are scaled by ``model.scaling`` if the model has one, as they
        were in training.
        """
        from elektronn_tui.data.scaling import Scaling

        from .dense import predict_dense

        return predict_dense(
            self.prediction_node,
            raw_img,
            as_uint8,
            pad_raw,
            patch_shape=patch_shape,
            batch_size=batch_size,
            scale=None if self.scaling is None else Scaling.from_dict(self.scaling).apply,
            channels_last=self._memory_format is not None,
        )

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
        self.module.to(device=device, dtype=dtype)
        if memory_format is not None:
            channels_last = memory_format in (torch.channels_last, torch.channels_last_3d)
            self._memory_format = memory_format if channels_last else None
            for parameter in self.module.parameters():
                parameter.data = _as_format(parameter.data, memory_format)
                if parameter.grad is not None:
                    parameter.grad.data = _as_format(parameter.grad.data, memory_format)
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups for torch's optimisers: ``decay`` (weights) and ``no_decay`` (biases, normalisation).

        Each has ``name``, ``params`` and ``weight_decay_scale``: what to multiply weight decay with.
        """
        groups: dict[str, list[nn.Parameter]] = {"decay": [], "no_decay": []}
        seen: set[nn.Parameter] = set()
        for node in self.nodes.values():
            for key, parameter in node.operation.named_parameters():
                if parameter in seen or not parameter.requires_grad:
                    continue
                seen.add(parameter)
                groups["decay" if key.rpartition(".")[2] in node.decayed else "no_decay"].append(parameter)
        scale = {"decay": 1.0, "no_decay": 0.0}
        return [
            {"name": name, "params": params, "weight_decay_scale": scale[name]}
            for name, params in groups.items()
            if params
        ]

    def describe(self) -> list[NodeDescription]:
        """Describe all nodes, parents before children."""
        return [node.describe() for node in self.nodes.values()]

    def test_run(self) -> dict[str, npt.NDArray[Any]]:
        """Send random numbers through all nodes, in evaluation mode, and return the values of all by name.

        A node with several values is left out: those who pick one of them are there.

        Raises
        ------
        ShapeError
            If a node's values have another shape than it declares.
        """
        rng = np.random.default_rng(0)
        nodes = list(self.nodes.values())
        feeds = {n.name: torch.from_numpy(n.random_array(rng)) for n in nodes if isinstance(n, Input)}
        floating = next((p.dtype for p in self.module.parameters()), torch.float32)
        feeds = {k: x.to(self.device, floating if x.is_floating_point() else None) for k, x in feeds.items()}
        values: dict[Node, torch.Tensor] = {}
        training = self.module.training
        self.eval()
        try:
            with torch.no_grad():
                for node in nodes:
                    value = feeds[node.name] if node.is_source else node.operation(*(values[p] for p in node.parents))
                    values[node] = value
                    if node.several:
                        continue  # those who pick one of them are checked
                    declared = tuple(1 if n is None else n for n in node.shape.shape)
                    if tuple(value.shape) != declared:
                        raise ShapeError(
                            f"{node.title} declares the shape {declared}, but computes {tuple(value.shape)}."
                        )
        finally:
            self.train(training)
        return {node.name: to_numpy(value) for node, value in values.items() if not node.several}

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
        from .storage import save_model

        save_model(self, path, scaling=scaling, extra=extra)

    def __repr__(self) -> str:
        if "module" not in self.__dict__:  # seen in the traceback of the constructor
            return "<Model (not finished)>"
        return f"<Model {self.name!r}: {len(self.nodes)} nodes, {self.param_count:,} parameters>"


def _node_list(role: str, nodes: Sequence[Node] | None) -> list[Node]:
    if nodes is None:
        return []
    if isinstance(nodes, Node) or not all(isinstance(node, Node) for node in nodes):
        raise ModelError(f"{role} must be a list of nodes.")
    return [_of_kind(role, node, Node) for node in nodes]


def _of_kind(role: str, node: Any, kind: type[Node]) -> Node:
    if not isinstance(node, kind):
        what = node.title if isinstance(node, Node) else repr(node)
        raise ModelError(f"{role} must be one {'Input' if kind is Input else 'node'}, not {what}.")
    if node.several:
        raise ModelError(f"{role} must have one value, but {node.title} has several; take one of its outputs.")
    return node


def _named(nodes: Sequence[Node]) -> dict[str, Node]:
    """Give unique names: first to nodes that another model has named, then to those named by hand, then to the rest."""
    taken: set[str] = set()
    for node in nodes:
        if node.__dict__.get("_final_name"):
            if node.name in taken:
                raise ModelError(f"Two models have each a node {node.name!r}: join their networks before naming.")
            taken.add(node.name)
    for explicit in (True, False):
        for node in nodes:
            if node.__dict__.get("_final_name") or ("name" in node.arguments) is not explicit:
                continue
            node.name = _free_name(node.name, taken)
            taken.add(node.name)
    for node in nodes:
        node._final_name = True
    return {node.name: node for node in nodes}


def _free_name(wanted: str, taken: set[str]) -> str:
    if wanted not in taken:
        return wanted
    match = re.fullmatch(r"(.*?)(\d*)", wanted, re.DOTALL)
    assert match is not None
    stem, number = match[1], int(match[2] or 0)
    while f"{stem}{number + 1}" in taken:
        number += 1
    return f"{stem}{number + 1}"


def _as_format(x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    # Not `contiguous`: that leaves the strides of tensors with one channel or 1×1×1 filters, which fit both formats,
    # and convolutions then take the slow way (a fifth of a training step).
    if memory_format in (torch.channels_last, torch.channels_last_3d):
        if x.ndim == 4:
            return x.to(memory_format=torch.channels_last)
        return x.to(memory_format=torch.channels_last_3d) if x.ndim == 5 else x
    return x.to(memory_format=memory_format)

"""What a model computes: predictions, loss, gradients, activations, their statistics and times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elektronn_tui.data.scaling import Scaling
from elektronn_tui.errors import ModelError, ShapeError

from .dense import predict_dense
from .feeding import computing_tensor, in_evaluation, to_numpy, to_tensor
from .node import Node
from .plan import Plan
from .predictor import scale_alone
from .shape import TaggedShape
from .statistics import Table
from .timing import measure_exectimes

if TYPE_CHECKING:
    from elektronn_tui.data import Source

__all__ = ["Evaluation"]

logger = logging.getLogger(__name__)


class Evaluation:
    """The part of `Model` that evaluates. A batch is one array for each source of the loss, in their order."""

    nodes: dict[str, Node]
    module: nn.Module
    input_node: Node
    loss_node: Node | None
    prediction_node: Node
    prediction_ext: list[Node]
    scaling: dict[str, Any] | None
    compute: Callable[..., list[torch.Tensor]]
    _memory_format: torch.memory_format | None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return computing_tensor([self.module]).device

    def predict(self, *arrays: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the prediction for arrays of its inputs, in evaluation mode."""
        return self.prediction_node(*arrays)

    @overload
    def predict_dense(
        self, raw_img: npt.ArrayLike, as_uint8: bool = ..., pad_raw: bool = ..., **options: Any
    ) -> npt.NDArray[Any]: ...

    @overload
    def predict_dense(
        self, raw_img: Source | str | Path, out: str | Path, as_uint8: bool = ..., pad_raw: bool = ..., **options: Any
    ) -> Path: ...

    def predict_dense(self, raw_img: Any, *arguments: Any, out: str | Path | None = None, **options: Any) -> Any:
        """Return the prediction at every voxel of an image, or write that of a volume to a file.

        Raw values, in the units in which they are stored, are scaled by ``model.scaling`` if the model has one, as they
        were in training.

        Parameters
        ----------
        raw_img : array_like, Source, str or Path
            An image in memory, see `elektronn_tui.models.dense.predict_dense` for it and the options; or, with `out`, a
            volume of any size or its address, see `elektronn_tui.models.volume_prediction.predict_volume`.
        out : str or Path, optional
            ``FILE.h5`` or ``FILE.h5:KEY``, or ``FOLDER.zarr``; behind a volume it may also be the second argument.

        Returns
        -------
        ndarray or Path
            The prediction, or the file with it.
        """
        of_volume = isinstance(raw_img, (str, Path)) or hasattr(raw_img, "read")
        if of_volume and out is None and arguments:
            out, arguments = arguments[0], arguments[1:]
        if of_volume and not isinstance(out, (str, Path)):
            raise ModelError(f"{self.prediction_node.title}: a volume needs a file for its prediction, not {out!r}.")
        if out is not None:
            from elektronn_tui.data import as_source

            from .volume_prediction import predict_volume

            named = dict(zip(("as_uint8", "pad_raw"), arguments, strict=False))
            return predict_volume(self, as_source(raw_img), out, **named, **options)  # type: ignore[arg-type]
        return predict_dense(
            self.prediction_node, raw_img, *arguments, scale=self.scale_raw, channels_last=self.channels_last, **options
        )

    @property
    def channels_last(self) -> bool:
        """Whether weights and inputs are in a channels-last memory format."""
        return self._memory_format is not None

    def scale_raw(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return stored values (f, ...) as the network reads them: scaled as in training.

        A model without scaling reads integers divided by 255, and floats as they are.
        """
        return scale_alone(raw) if self.scaling is None else Scaling.from_dict(self.scaling).apply(raw)

    def predict_ext(self, *arrays: npt.ArrayLike) -> list[npt.NDArray[Any]]:
        """Return the values of `prediction_ext` for arrays of all sources that they need, in evaluation mode."""
        if not self.prediction_ext:
            raise ModelError("This model has no prediction_ext.")
        return [to_numpy(value) for value in self._evaluated(self.prediction_ext, arrays)]

    def loss(self, *batch: npt.ArrayLike) -> float:
        """Return the loss of a batch, in evaluation mode."""
        return float(self._loss_node(*batch).item())

    def gradients(self, *batch: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
        """Return the gradient of the loss by each trainable parameter, ``<node>.<parameter>``, in the present mode.

        Nothing is changed by it: neither ``grad`` of the parameters, nor running statistics, nor random numbers.
        """
        return {name: to_numpy(value) for name, value in self._gradients(batch).items()}

    def activations(self, *batch: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
        """Return the values of all nodes that the loss or the prediction needs, by name, in evaluation mode."""
        return {name: to_numpy(value) for name, value in self._activations(batch).items()}

    def paramstats(self) -> Table:
        """Return mean, std and median of absolute values of every parameter."""
        return Table(self.module.named_parameters())

    def gradstats(self, *batch: npt.ArrayLike) -> Table:
        """Return the same of the gradients of a batch, or without one of those that the parameters hold."""
        if not batch:
            return Table((name, parameter.grad) for name, parameter in self.module.named_parameters())
        return Table(self._gradients(batch).items())

    def actstats(self, *batch: npt.ArrayLike) -> Table:
        """Return the same of the values of all nodes on a batch, by name, in evaluation mode."""
        return Table(self._activations(batch).items())

    @property
    def loss_input_shapes(self) -> list[TaggedShape]:
        """Shapes of the sources of the loss, in the order of a batch."""
        return [node.shape for node in self._loss_node.input_nodes]

    def measure_exectimes(
        self, n_samples: int = 5, n_warmup: int = 4, print_info: bool = False, *, backward: bool = False
    ) -> dict[str, float]:
        """Return the time of each node's operation in ms; see `elektronn_tui.models.timing.measure_exectimes`.

        With `print_info` they are logged.
        """
        times = measure_exectimes(list(self.nodes.values()), n_samples, n_warmup, backward=backward)
        if print_info:
            for name, milliseconds in times.items():
                logger.info("%-20s %8.3f ms", name, milliseconds)
        return times

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
        like = computing_tensor([self.module])
        values: dict[Node, Any] = {n: to_tensor(n, n.random_array(rng), like) for n in nodes if n.is_source}
        with torch.no_grad(), in_evaluation([self.module]):
            for node in nodes:
                if not node.is_source:
                    values[node] = node.operation(*(values[parent] for parent in node.parents))
                if node.several:
                    continue  # those who pick one of them are checked
                declared, computed = tuple(1 if n is None else n for n in node.shape.shape), tuple(values[node].shape)
                if computed != declared:
                    raise ShapeError(f"{node.title} declares the shape {declared}, but computes {computed}.")
        return {node.name: to_numpy(values[node]) for node in nodes if not node.several}

    def test_run_prediction(self) -> npt.NDArray[Any]:
        """Send random numbers through to the prediction and return it; see `Node.test_run`."""
        return self.prediction_node.test_run()

    @property
    def _loss_node(self) -> Node:
        if self.loss_node is None:
            raise ModelError("This model has no loss_node.")
        return self.loss_node

    def _feeds(self, nodes: Sequence[Node], arrays: Sequence[npt.ArrayLike]) -> dict[str, torch.Tensor]:
        inputs = Plan(nodes).inputs
        if len(arrays) != len(inputs):
            raise ModelError(
                f"A batch of this has {len(inputs)} arrays ({', '.join(n.name for n in inputs)}), not {len(arrays)}."
            )
        like = computing_tensor([self.module])
        return {node.name: to_tensor(node, array, like) for node, array in zip(inputs, arrays, strict=True)}

    def _evaluated(self, nodes: Sequence[Node], arrays: Sequence[npt.ArrayLike]) -> list[torch.Tensor]:
        feeds = self._feeds(nodes, arrays)
        with torch.no_grad(), in_evaluation([self.module]):
            return self.compute(nodes, feeds)

    def _activations(self, batch: Sequence[npt.ArrayLike]) -> dict[str, torch.Tensor]:
        top = self.loss_node or self.prediction_node
        nodes = [n for n in top.all_parents.values() if not n.is_source and not n.several]
        return dict(zip([n.name for n in nodes], self._evaluated(nodes, batch), strict=True))

    def _gradients(self, batch: Sequence[npt.ArrayLike]) -> dict[str, torch.Tensor]:
        loss = self._loss_node
        feeds = self._feeds([loss], batch)
        named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not named:
            raise ModelError("This model has no trainable parameters.")
        statistics = {buffer: buffer.clone() for buffer in self.module.buffers()}
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices), torch.enable_grad():
                (value,) = self.compute([loss], feeds)
                found = torch.autograd.grad(value.sum(), list(named.values()), allow_unused=True)
        finally:
            with torch.no_grad():
                for buffer, old in statistics.items():
                    buffer.copy_(old)
        return {name: value for name, value in zip(named, found, strict=True) if value is not None}

"""Which examples a step uses, varied how, and how they reach the device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elektronn_tui.errors import ExperimentError
from elektronn_tui.models.feeding import in_evaluation

from .augmentations import AUGMENTATIONS
from .control import Control
from .controls import Controls, ScheduleState

if TYPE_CHECKING:
    from elektronn_tui.data import ArrayExamples, AugmentSettings, Patches
    from elektronn_tui.models import Model

__all__ = ["DATA_CONTROLS", "DataPlan", "Feeder", "batch_maker", "evaluating", "stacked"]

DATA_CONTROLS = ("batch_size", "accumulate", "shift", *AUGMENTATIONS)
"""Controls on which examples depend, where the data have them."""


@dataclass(frozen=True)
class DataPlan:
    """What the steps after `step` are fed with: immutable, so that data threads may read it.

    Attributes
    ----------
    step, example, batch : int
        Steps done, the first example of the next one, and batches used; a step uses as many as ``accumulate`` says.
    values : dict
        The data controls: a value, or the state of the schedule that gives it for each step.
    controls : dict
        Their limits.
    """

    step: int
    example: int
    batch: int
    values: Mapping[str, Any]
    controls: Mapping[str, Control]

    @classmethod
    def of(cls, controls: Controls, step: int, example: int, batch: int) -> DataPlan:
        """Return the plan that the controls make now."""
        values: dict[str, Any] = {}
        for name in DATA_CONTROLS:
            if name in controls:
                values[name] = controls.schedule_state(name) if controls.driven(name) else controls[name].get()
        return cls(step, example, batch, values, {name: controls[name] for name in values})

    def value(self, name: str, step: int) -> Any:
        """Return a data control as step `step` will find it."""
        value = self.values[name]
        if isinstance(value, ScheduleState):
            assert value.schedule is not None
            return self.controls[name].fitted(value.schedule.value(step, value.base))
        return value

    def examples(self, batch: int) -> tuple[int, range]:
        """Return the step that a batch still to come is for, and its examples."""
        step, first, ahead = self.step + 1, self.example, batch - self.batch - 1
        while True:
            size, batches = self.value("batch_size", step), self.value("accumulate", step)
            if ahead < batches:
                return step, range(first + ahead * size, first + (ahead + 1) * size)
            step, first, ahead = step + 1, first + batches * size, ahead - batches

    def after(self, step: int, example: int, batch: int) -> DataPlan:
        """Return the same plan, `step` steps done."""
        return replace(self, step=step, example=example, batch=batch)


class Feeder:
    """Turns batches of arrays into the tensors that a model takes.

    Parameters
    ----------
    model : Model
    device : torch.device

    Attributes
    ----------
    negative_is_unknown : bool
        Whether integer targets below 0 don't count, as those of volumes: a node of floats then gets NaN.

    Raises
    ------
    ExperimentError
        The model has no loss to be trained with, or an input of it has no batch axis.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        if model.loss_node is None:
            raise ExperimentError("model: it needs a loss_node to be trained")
        for node in filter(None, (model.input_node, model.target_node)):
            if "b" not in node.shape.tags:
                raise ExperimentError(f"model: {node.name} {node.shape.text} has no axis b for the examples of a batch")
        self._nodes = {"raw": model.input_node}
        if model.target_node is not None:
            self._nodes["target"] = model.target_node
        self._device = device
        self.negative_is_unknown = False

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Return tensors on the device, keyed by the names of the input nodes.

        Parameters
        ----------
        batch : mapping
            ``raw``, ``target`` and perhaps more, such as ``mask``: the first axis is that of the batch, the others
            are those of the node in its order. Volumes (b, f, z, y, x) of z extent 1 fit a node of images, those of
            one voxel a node (b, f). What neither is the input nor the target is for the node of its name. What a
            mask leaves out of a float target becomes NaN, which no loss counts.
        """
        tensors = {}
        target = batch.get("target")
        if "mask" in batch and target is not None and target.dtype.kind == "f":
            batch = {**batch, "target": np.where(batch["mask"], target, target.dtype.type(np.nan))}
        for key, array in batch.items():
            node = self._nodes.get(key)
            like = node or self._nodes["raw"]
            if array.ndim == 5 and len(like.shape.spatial_shape) == 2:
                array = array[:, :, 0]
            elif array.ndim == 5 and len(like.shape.spatial_shape) == 0:
                array = array[:, :, 0, 0, 0]
            if node is not None:
                array = np.moveaxis(array, 0, node.shape.tag2index("b"))
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if node is not None and "float" in str(node.dtype) and tensor.dtype != torch.float32:
                unknown = tensor < 0 if key == "target" and self.negative_is_unknown else None
                tensor = tensor.float() if unknown is None else tensor.float().masked_fill(unknown, torch.nan)
            tensors[node.name if node is not None else key] = tensor.to(self._device, non_blocking=True)
        return tensors


@contextlib.contextmanager
def evaluating(model: Model, autocast: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Let a model compute what it would in use, and leave no trace of that in its training.

    Nodes that draw random numbers in evaluation draw the same each time, and none that training would miss.
    """
    device = model.device
    randomness = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with in_evaluation([model.module]), torch.no_grad(), randomness, autocast():
        torch.manual_seed(0)
        yield


def batch_maker(
    supply: Patches | ArrayExamples, plan: Callable[[], DataPlan], augmentation: AugmentSettings
) -> Callable[[int], dict[str, np.ndarray]]:
    """Return what makes a batch, for a `Prefetcher`: a function of its number and the plan alone."""

    def make(batch: int) -> dict[str, np.ndarray]:
        now = plan()
        step, examples = now.examples(batch)
        varied = {name: now.value(name, step) for name in now.values if name not in ("batch_size", "accumulate")}
        return supply.batch(examples, replace(augmentation, **varied))

    return make


def stacked(examples: Sequence[Any], size: int, more: Sequence[str] = ()) -> list[dict[str, np.ndarray]]:
    """Join examples to batches of `size`: their raw, target and mask, and what else is named."""
    batches = []
    for first in range(0, len(examples), size):
        part = examples[first : first + size]
        batch = {"raw": np.stack([example.raw for example in part])}
        for key in ("target", "mask", *more):
            if getattr(part[0], key) is not None:
                batch[key] = np.stack([getattr(example, key) for example in part])
        batches.append(batch)
    return batches

"""Which examples a step uses, varied how, and how they reach the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elektronn_tui.errors import ExperimentError

from .controls import Control, Controls, ScheduleState, fitted

if TYPE_CHECKING:
    from elektronn_tui.data import AugmentSettings, Patches
    from elektronn_tui.models import Model

__all__ = ["DATA_CONTROLS", "DataPlan", "Feeder"]

DATA_CONTROLS = ("batch_size", "warp", "grey")
"""Controls on which examples depend."""


@dataclass(frozen=True)
class DataPlan:
    """What the steps after `step` are fed with: immutable, so that data threads may read it.

    Attributes
    ----------
    step, example : int
        Steps done, and the first example of the next one.
    values : dict
        The data controls: a value, or the state of the schedule that gives it for each step.
    controls : dict
        Their limits.
    """

    step: int
    example: int
    values: Mapping[str, Any]
    controls: Mapping[str, Control]

    @classmethod
    def of(cls, controls: Controls, step: int, example: int) -> DataPlan:
        """Return the plan that the controls make now."""
        values: dict[str, Any] = {}
        for name in DATA_CONTROLS:
            values[name] = controls.schedule_state(name) if controls.driven(name) else controls[name].get()
        return cls(step, example, values, {name: controls[name] for name in DATA_CONTROLS})

    def value(self, name: str, step: int) -> Any:
        """Return a data control as step `step` will find it."""
        value = self.values[name]
        if isinstance(value, ScheduleState):
            assert value.schedule is not None
            return fitted(self.controls[name], value.schedule.value(step, value.base))
        return value

    def examples(self, step: int) -> range:
        """Return the examples of a step that is still to come."""
        first = self.example
        for earlier in range(self.step + 1, step):
            first += self.value("batch_size", earlier)
        return range(first, first + self.value("batch_size", step))

    def after(self, step: int, example: int) -> DataPlan:
        """Return the same plan, `step` steps done."""
        return replace(self, step=step, example=example)


class Feeder:
    """Turns batches of arrays into the tensors that a model takes.

    Parameters
    ----------
    model : Model
    device : torch.device

    Raises
    ------
    ExperimentError
        The model has no target or no loss to be trained with.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        if model.loss_node is None or model.target_node is None:
            raise ExperimentError("model: it needs a loss_node and a target_node to be trained")
        self._raw = model.input_node
        self._target = model.target_node
        self._device = device
        self.flat = len(model.input_node.shape.spatial_shape) == 2  # images: the data's z extent of 1 is dropped

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Return tensors on the device, keyed by the names of the input nodes.

        Parameters
        ----------
        batch : mapping
            ``raw`` (b, f, z, y, x), ``target`` and perhaps ``mask``.
        """
        names = {"raw": self._raw.name, "target": self._target.name}
        tensors = {}
        for key, array in batch.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array[:, :, 0] if self.flat else array))
            if key == "target" and "float" in str(self._target.dtype):
                tensor = tensor.float()
            tensors[names.get(key, key)] = tensor.to(self._device, non_blocking=True)
        return tensors


def batch_maker(
    patches: Patches, plan: Callable[[], DataPlan], augmentation: AugmentSettings
) -> Callable[[int], dict[str, np.ndarray]]:
    """Return what makes the batch of a step, for a `Prefetcher`: a function of the step and the plan alone."""

    def make(step: int) -> dict[str, np.ndarray]:
        now = plan()
        settings = replace(augmentation, warp=now.value("warp", step), grey=now.value("grey", step))
        return patches.batch(now.examples(step), settings)

    return make


def stacked(examples: Sequence[Any]) -> dict[str, np.ndarray]:
    """Join examples to a batch."""
    batch = {"raw": np.stack([example.raw for example in examples])}
    for key in ("target", "mask"):
        if getattr(examples[0], key) is not None:
            batch[key] = np.stack([getattr(example, key) for example in examples])
    return batch

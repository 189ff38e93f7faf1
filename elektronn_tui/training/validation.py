"""How good a network is on a fixed set of examples that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from elektronn_tui.models.confusion import Confusion, confusion

from .batches import Feeder, stacked

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["Validation", "is_classifier"]


def is_classifier(model: Model) -> bool:
    """Tell whether a model's prediction are scores of classes for an integer target of the same extent."""
    prediction, target = model.prediction_node.shape, model.target_node.shape if model.target_node else None
    if target is None or model.target_node is None or "int" not in str(model.target_node.dtype):
        return False
    return prediction["f"] > 1 and tuple(prediction.spatial_shape) == tuple(target.spatial_shape)


class Validation:
    """A fixed, un-augmented set of examples and what is measured on it.

    Parameters
    ----------
    model : Model
    feeder : Feeder
    examples : sequence of Example
    batch_size : int
        Examples at a time; fixed for a session, as it may change roundings.
    autocast : callable
        Returns the context in which the network computes.
    """

    def __init__(
        self,
        model: Model,
        feeder: Feeder,
        examples: Sequence[Any],
        batch_size: int,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._model = model
        self._feeder = feeder
        self._autocast = autocast
        self._classifier = is_classifier(model)
        self._batches = [stacked(examples[first : first + batch_size]) for first in range(0, len(examples), batch_size)]

    def __call__(self) -> dict[str, float]:
        """Return ``valid_loss`` and, for classes, ``valid_error``, ``valid_balanced_error``, ``valid_iou`` and more."""
        model = self._model
        assert model.loss_node is not None
        assert model.target_node is not None
        nodes = [model.loss_node, model.prediction_node] if self._classifier else [model.loss_node]
        loss_sum, count = 0.0, 0
        counts: torch.Tensor | None = None
        training = model.module.training
        model.eval()
        try:
            with torch.no_grad():
                for batch in self._batches:
                    feeds = self._feeder(batch)
                    with self._autocast():
                        loss, *prediction = model.compute(nodes, feeds)
                    examples = len(batch["raw"])
                    loss_sum += float(loss) * examples
                    count += examples
                    if prediction:
                        found = confusion(prediction[0], feeds[model.target_node.name])
                        counts = found if counts is None else counts + found
        finally:
            model.train(training)
        metrics = {"valid_loss": loss_sum / count}
        if counts is not None:
            metrics |= Confusion(counts.cpu().numpy()).metrics()
        return metrics

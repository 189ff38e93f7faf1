"""How good a network is on a fixed set of examples that it is not trained on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elektronn_tui.models.confusion import Confusion

from .batches import Feeder, evaluating
from .classes import Classes

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["Validation", "without_classes"]


class Validation:
    """A fixed, un-augmented set of examples and what is measured on it.

    Parameters
    ----------
    model : Model
    feeder : Feeder
    batches : sequence of mapping
        The examples, in batches of a size that is fixed for a session, as it may change roundings.
    autocast : callable
        Returns the context in which the network computes.
    """

    def __init__(
        self,
        model: Model,
        feeder: Feeder,
        batches: Sequence[Mapping[str, np.ndarray]],
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._model = model
        self._feeder = feeder
        self._autocast = autocast
        self._classes = Classes.of(model)
        self._batches = batches
        # What else the model names as one number, such as an error, where classes can't be counted.
        self._numbers = [
            node
            for node in model.prediction_ext
            if self._classes is None and node is not model.loss_node and node.shape.stripnone_prod == 1
        ]

    def __call__(self) -> dict[str, float]:
        """Return ``valid_loss`` and, for classes, ``valid_error``, ``valid_balanced_error``, ``valid_iou`` and more.

        Without classes there is ``valid_NAME`` for every single number in the model's `prediction_ext`.
        """
        model, classes = self._model, self._classes
        assert model.loss_node is not None
        nodes = [model.loss_node, *self._numbers, *([model.prediction_node] if classes else [])]
        names = ["valid_loss", *(f"valid_{node.name}" for node in self._numbers)]
        sums, count = dict.fromkeys(names, 0.0), 0
        counts: torch.Tensor | None = None
        with evaluating(model, self._autocast):
            for batch in self._batches:
                feeds = self._feeder(batch)
                outputs = model.compute(nodes, feeds)
                examples = len(batch["raw"])
                for name, output in zip(names, outputs, strict=False):
                    sums[name] += float(output) * examples
                count += examples
                if classes is not None:
                    assert model.target_node is not None
                    found = classes.count(outputs[-1], feeds[model.target_node.name])
                    counts = found if counts is None else counts + found
        metrics = {name: total / count for name, total in sums.items()}
        if counts is not None:
            metrics |= Confusion(counts.cpu().numpy()).metrics()
        return metrics


def without_classes(metrics: Mapping[str, float]) -> list[str]:
    """Return the names of measures that are not of one class of many (``iou_3``): what fits into a line."""
    return [name for name in metrics if not re.fullmatch(r"valid_(iou|recall|precision)_\d+", name)]

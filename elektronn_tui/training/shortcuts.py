"""Functions for the console: what ELEKTRONN2's shell had as shortcuts."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elektronn_tui.errors import ControlError, ElektronnError
from elektronn_tui.models.statistics import Table

from .batch_summary import BatchSummary
from .batches import evaluating
from .checkpoints import MODEL_FILE, load_weights
from .hyperparameters import USES
from .pictures import draw_batch, write_picture
from .prediction_jobs import console_predict

if TYPE_CHECKING:
    from elektronn_tui.data import DataStats

    from .trainer import Trainer

__all__ = ["console_namespace"]


def console_namespace(trainer: Trainer) -> dict[str, Any]:
    """Return the names that the console of a training starts with, beside those of its session."""
    functions: dict[str, Callable[..., Any]] = {}

    def shortcut(function: Callable[..., Any]) -> Callable[..., Any]:
        functions[function.__name__] = function
        return function

    def set_one(name: str, value: Any) -> None:
        trainer.controls.set(name, value)
        if trainer.controls.driven(name):
            trainer.controls.continue_schedule(name, trainer.step + 1)

    @shortcut
    def setlr(lr: float) -> None:
        """Set the learning rate; a schedule goes on from there."""
        set_one("lr", lr)

    @shortcut
    def setmom(momentum: float) -> None:
        """Set the momentum: of optimisers with betas, the first of them."""
        if "betas" in USES[trainer.controls["optimiser"].get()]:
            set_one("betas", (momentum, *trainer.controls["betas"].get()[1:]))
        else:
            set_one("momentum", momentum)

    @shortcut
    def setwd(weight_decay: float) -> None:
        """Set the weight decay."""
        set_one("weight_decay", weight_decay)

    @shortcut
    def setall(pattern: str, value: Any) -> list[str]:
        """Set all controls that a pattern such as '*.dropout_rate' means, all or none, and return their names."""
        names = [name for name in trainer.controls.names() if fnmatchcase(name, pattern)]
        if not names:
            raise ControlError(f"no control is called like {pattern!r}")
        for name in names:
            trainer.controls.parse(name, value)
        for name in names:
            set_one(name, value)
        return names

    @shortcut
    def dropout(rate: float) -> list[str]:
        """Set all dropout rates."""
        return setall("*.dropout_rate", rate)

    @shortcut
    def paramstats() -> Table:
        """Mean, std and median of absolute values of every parameter."""
        return trainer.model.paramstats()

    @shortcut
    def gradstats() -> Table:
        """Return the same of the gradients of the last step."""
        return trainer.model.gradstats()

    @shortcut
    def actstats() -> Table:
        """Return the same of the outputs of all nodes on the last batch."""
        nodes = [node for node in trainer.model.nodes.values() if not (node.is_source or node.several)]
        with evaluating(trainer.model, trainer.autocast):
            outputs = trainer.model.compute(nodes, trainer.feed(_batch(trainer)))
        return Table((node.name, output) for node, output in zip(nodes, outputs, strict=True))

    @shortcut
    def preview() -> None:
        """Predict the preview region now."""
        if trainer.session.on_preview is None:
            raise ElektronnError(f"this session makes no previews: {trainer.no_preview}")
        trainer.preview()

    @shortcut
    def debugbatch(file: str | None = None) -> BatchSummary:
        """Shape, dtype, range and class shares of the last batch; with a file name a picture of it, too."""
        batch = _batch(trainer)
        if file is None:
            return BatchSummary.of(batch)
        path = Path(file).expanduser().absolute()
        path = path if path.suffix else path.with_suffix(".png")
        try:
            picture = draw_batch(batch, getattr(trainer.supply, "geometry", None))
        except ValueError as error:
            raise ElektronnError(str(error)) from error
        write_picture(path, picture)
        return BatchSummary.of(batch, str(path))

    @shortcut
    def datastats() -> DataStats:
        """Return what the examples so far cost: reads, bytes and seconds of each source, caches, waiting."""
        return trainer.data_stats()

    @shortcut
    def load(file: str) -> None:
        """Load the parameters of a model file, or of a checkpoint's folder, into the network."""
        path = Path(file).expanduser()
        path = path / MODEL_FILE if path.is_dir() else path
        load_weights(trainer.model, path)
        trainer.session.logger.info("the parameters are those of %s", path)
        trainer.updater.averaging.reset()  # it was of other weights

    @shortcut
    def export(file: str) -> str:
        """Write the network as a model file: with the averaged weights where weights are averaged."""
        path = Path(file).expanduser()
        with trainer.updater.averaging.applied():
            trainer.model.save(path)
        return str(path)

    @shortcut
    def adopt_average() -> None:
        """Go on training from the averaged weights."""
        if not trainer.updater.averaging.count:
            raise ElektronnError("there is no average of the weights; averaging=ema or swa makes one")
        trainer.updater.averaging.adopt()

    return {
        "trainer": trainer,
        "model": trainer.model,
        "optimiser": trainer.optimiser,
        "data": trainer.supply,
        "batch": trainer.batch,
        "np": np,
        "torch": torch,
        "predict": console_predict(trainer),
        **functions,
    }


def _batch(trainer: Trainer) -> dict[str, np.ndarray]:
    if not trainer.batch:
        raise ElektronnError("there is no batch yet: no step was made")
    return dict(trainer.batch)

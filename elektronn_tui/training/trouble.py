"""What follows a loss or a gradient that is not finite: pause, roll back, or stop. No update was made with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elektronn_tui.errors import CheckpointError, ElektronnError

from .checkpoints import load_weights

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["BadLossError", "lower_rate", "on_bad_loss"]

MAX_ROLLBACKS = 5
"""In a row, without a checkpoint between; then the session pauses."""
KEPT_BATCHES = 5


class BadLossError(ElektronnError):
    """The loss became NaN or infinite and the policy is to stop."""


def on_bad_loss(trainer: Trainer, value: float, step: int, what: str = "loss") -> None:
    """Keep the batch for inspection and follow the policy of the control ``on_nan``.

    The batch is left out: the step is made with the next one. `what` says what was not finite.

    Raises
    ------
    BadLossError
        The policy is to stop.
    """
    session, policy = trainer.session, trainer.settings["on_nan"]
    kept = _keep_batch(trainer, step)
    reason = f"the {what} is {value} at step {step}; " + (
        f"the batch is in {kept}" if kept else "no more batches are kept"
    )
    session.logger.warning("%s", reason)
    session.mark("nan", f"{what} {value}", step)
    if policy == "stop":
        if trainer.settings["on_error"] == "stop" or not hasattr(session, "stop"):
            raise BadLossError(reason)
        session.stop(reason)
    elif policy == "rollback" and trainer.rollbacks < MAX_ROLLBACKS and _roll_back(trainer, step):
        trainer.rollbacks += 1
    else:
        session.pause(reason)


def _keep_batch(trainer: Trainer, step: int) -> Path | None:
    folder = Path(trainer.session.run_dir) / "bad-batches"
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:09d}-example-{trainer.example - len(trainer.batch['raw']):09d}.npz"
    if len(list(folder.iterdir())) >= KEPT_BATCHES:
        return None
    arrays: dict[str, Any] = {key: np.asarray(array) for key, array in trainer.batch.items()}
    np.savez_compressed(path, **arrays)
    return path


def _roll_back(trainer: Trainer, step: int) -> bool:
    """Bring back weights and optimiser of the latest checkpoint, with a lower learning rate; steps go on counting."""
    session = trainer.session
    try:
        checkpoint = trainer.checkpoints.load("latest")
        load_weights(trainer.model, checkpoint.model_file)
        trainer.updater.restore(checkpoint)
    except CheckpointError as error:
        session.logger.warning("can't roll back: %s", error)
        return False
    data = {"checkpoint": checkpoint.path.name, "example": trainer.example}
    text = f"rolled back to the weights of step {checkpoint.step}"
    lower_rate(trainer, trainer.experiment.rollback_factor, text, data, step=step)
    return True


def lower_rate(
    trainer: Trainer, factor: float, reason: str, data: dict[str, Any] | None = None, *, step: int | None = None
) -> None:
    """Multiply the learning rate, from step `step` on (the next one by default), and write down why."""
    session, controls = trainer.session, trainer.controls
    if not controls["lr"].get() * factor:  # a schedule has led to 0 already, which can't be chosen
        return
    old, new = controls.set("lr", controls["lr"].get() * factor)
    if controls.driven("lr"):
        controls.continue_schedule("lr", trainer.step + 1 if step is None else step)
    text = f"{reason}, lr {old:g} → {new:g}"
    session.logger.warning("%s", text)
    record = getattr(session, "record", None)
    if record is not None:
        record("policy", text, {**(data or {}), "lr": new})

"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elektronn_tui.data import Prefetcher
from elektronn_tui.errors import CheckpointError, ElektronnError, ExperimentError
from elektronn_tui.models.confusion import Confusion

from .arrays import Arrays
from .batches import DataPlan, Feeder, batch_maker
from .checkpoints import Checkpoint, Checkpoints, load_weights, restore_rng
from .classes import Classes
from .datasets import Volumes
from .experiment import Experiment
from .live import add_controls
from .pace import Pace
from .plateau import Plateau
from .previews import preview_info, write_png
from .resources import Resources
from .retrying import retried
from .supply import Opening, data_controls, open_supply
from .trouble import lower_rate, on_bad_loss
from .updating import MORE, Updater
from .validation import Validation, without_classes

if TYPE_CHECKING:
    from elektronn_tui.data import DataStats
    from elektronn_tui.models import Model

__all__ = ["Trainer"]

MEASURE_EVERY = 10
"""Steps between two measurements of the error on the training batch: a percent of a step's time otherwise."""


class Trainer:
    """Train a model on volumes or arrays, in a session.

    Parameters
    ----------
    experiment : Experiment
    model : Model
    data : Volumes or Arrays
    session : Session
        Whatever has the interface of `elektronn_tui.session.session.Session` for loops.
    resources : Resources

    Attributes
    ----------
    step : int
        Steps done.
    example : int
        The first example that no step has used.
    batches : int
        Batches that were used, in this process.
    settings : dict
        What the controls of the trainer itself set: steps, batch_size, warp, grey, ...
    batch : dict
        The last batch, as arrays.
    supply : Patches or ArrayExamples
        Makes examples by their numbers.
    augmentation : AugmentSettings
        How far examples are varied; how often is for the controls ``warp`` and ``grey`` to say.
    """

    def __init__(
        self, experiment: Experiment, model: Model, data: Volumes | Arrays, session: Any, resources: Resources
    ) -> None:
        if not isinstance(data, Volumes | Arrays):
            raise ExperimentError(f"data: open() returned {type(data).__name__}; it must return Volumes or Arrays")
        self.experiment = experiment
        self.session = session
        self.resources = resources
        self.device = torch.device(resources.device)
        contiguous = resources.memory_format == "contiguous"
        self.model = model.to(
            self.device, memory_format=torch.contiguous_format if contiguous else torch.channels_last_3d
        ).train()
        self.updater = Updater(
            model,
            experiment.optimiser,
            experiment.lr_scales,
            experiment.decay_scales,
            **{name: getattr(experiment, name) for name in MORE},
        )
        self.checkpoints = Checkpoints(Path(session.run_dir) / "checkpoints", keep=experiment.keep)
        self.step = 0
        self.example = 0
        self.batches = 0
        self.best = math.inf
        self.plateau = Plateau()
        self.batch: Mapping[str, np.ndarray] = {}
        self.rollbacks = 0
        self.settings: dict[str, Any] = {}
        self.controls = session.controls
        add_controls(self, data_controls(data, model, experiment))
        self._controls_seen = -1
        self._remake = False
        self._plan = DataPlan.of(self.controls, 0, 0, 0)
        self._pace = Pace()
        self._validated = self._previewed = self._saved = -1
        self._classes = Classes.of(model)
        self.feed = Feeder(model, self.device)
        self._loss: Any = model.loss_node
        self._target: Any = model.target_node
        supply = open_supply(data, Opening(experiment, model, self.feed, self.autocast, session.logger))
        self.supply, self.augmentation, self._preview = supply.examples, supply.augmentation, supply.preview
        self.no_preview = supply.no_preview
        make = retried(batch_maker(self.supply, lambda: self._plan, self.augmentation), session.logger)
        self.prefetcher = Prefetcher(make, threads=experiment.data_threads, depth=4)
        self.validation = Validation(model, self.feed, supply.validation, self.autocast) if supply.validation else None
        session.on_save = self.save
        session.on_preview = None if supply.no_preview else self.preview
        if supply.no_preview:
            session.set_status(no_preview=supply.no_preview)
            session.logger.info("there will be no previews: %s", supply.no_preview)

    # --- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until all steps are made, the time is over, or the session says stop."""
        self.session.set_status(steps=self.settings["steps"], phase="")
        if self.settings["on_nan"] == "rollback" and self.step == 0:
            self._write_checkpoint()  # something to go back to
        with contextlib.closing(self.prefetcher), self._cost_of_data_logged():
            while True:
                try:
                    if self.step >= self.settings["steps"] or self._out_of_time():
                        return self._finish()
                    if not self.session.safe_point(self.step):
                        return None
                    if self._previewed < 0 and self.settings["preview_every"]:
                        self.preview()  # before the first step: what the data look like can be seen at once
                    if self.make_step():
                        self.after_step()
                except Exception as error:
                    if self.controls["on_error"].get() == "stop" or not self._halt(error):
                        raise

    def make_step(self) -> bool:
        """Make one optimiser update; False where the loss or a gradient was not finite and none was made."""
        step = self.step + 1
        if self._remake:
            self.prefetcher.invalidate(self.batches + 1)
            self._remake = False
        self.controls.apply_schedules(step)
        self._follow_data_controls()
        self._pace.begin()
        if self.updater.begin():
            self.session.namespace["optimiser"] = self.optimiser
            self.session.logger.info("step %d: the optimiser is %s; its state begins anew", step, self.updater.kind)

        measure = step % MEASURE_EVERY == 0
        metrics: dict[str, float] = {}
        errors: dict[str, float] = {}
        batches, examples, voxels = self.settings["accumulate"], 0, 0
        for number in range(1, batches + 1):
            self._pace.wants_data()
            self.batch = self.session.namespace["batch"] = self.prefetcher.get(self.batches + number)
            self._pace.has_data()
            examples, voxels = examples + len(self.batch["raw"]), voxels + self.batch["raw"].size
            loss, values, errors = self._forward(measure=measure and number == batches)
            if not math.isfinite(values["loss"]):
                self._skip(examples, number)
                on_bad_loss(self, values["loss"], step)
                return False
            (loss / batches).backward()
            metrics = {name: metrics.get(name, 0.0) + value / batches for name, value in values.items()}
        metrics |= errors
        norm = self.updater.step(step, measure=measure)
        if norm is not None:
            metrics["grad_norm"] = norm
            if not math.isfinite(norm):
                self._skip(examples, batches)
                on_bad_loss(self, norm, step, "norm of the gradients")
                return False

        self.step = step
        self._advance(examples, batches)
        if measure or step == 1:
            metrics["lr"] = self.updater.get("lr")
        self.session.publish(step, metrics)
        self._pace.end(voxels)
        if self._pace.due():
            self._report()
        return True

    def _forward(self, *, measure: bool) -> tuple[torch.Tensor, dict[str, float], dict[str, float]]:
        """Return the loss of the batch, it and the debug outputs as numbers, and errors where they are measured."""
        feeds = self.feed(self.batch)
        measure = measure and self._classes is not None
        nodes = [self._loss, *self.model.debug_outputs]
        with self.autocast():
            loss, *outputs = self.model.compute(nodes + [self.model.prediction_node] * measure, feeds)
        values = {"loss": float(loss.detach())}
        for node, output in zip(self.model.debug_outputs, outputs, strict=False):
            values[node.name] = float(output.detach().float().mean())
        if not measure or self._classes is None:
            return loss, values, {}
        counts = self._classes.count(outputs[-1].detach(), feeds[self._target.name])
        return loss, values, Confusion(counts.cpu().numpy()).errors()

    def after_step(self) -> None:
        """Validate, save and predict where it is time for it."""
        settings, step = self.settings, self.step
        better = False
        if self.validation is not None and _due(step, settings["validate_every"]):
            better = self.validate()
        if better or _due(step, settings["checkpoint_every"]):
            try:
                self._write_checkpoint(best=better)
                self.rollbacks = 0
            except CheckpointError as error:
                self.session.logger.error("%s; training goes on without it", error)
                self.session.mark("error", "no checkpoint could be written")
        if _due(step, settings["preview_every"]):
            self.preview()

    def _finish(self) -> None:
        better = False
        if self.validation is not None and self.settings["validate_every"] and self._validated != self.step:
            better = self.validate()
        if better or self._saved != self.step:
            self._write_checkpoint(best=better)
        if self.settings["preview_every"] and self._previewed != self.step:
            self.preview()
        self._report()
        self.session.logger.info("finished after %d steps", self.step)

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """The optimiser in use."""
        return self.updater.optimiser

    # --- what happens beside steps ----------------------------------------------------------------

    def validate(self) -> bool:
        """Measure the fixed validation set, publish the result, and tell whether it is the best so far.

        Where weights are averaged, the average is measured.
        """
        assert self.validation is not None
        begin = time.perf_counter()
        with self._phase("validating"), self.updater.averaging.applied():
            metrics = self.validation()
        self._validated = self.step
        self.session.publish(self.step, metrics)
        text = ", ".join(f"{name.removeprefix('valid_')} {metrics[name]:.4g}" for name in without_classes(metrics))
        averaged = " of the averaged weights" if self.updater.averaging.count else ""
        self.session.logger.info("validation%s: %s (%.1f s)", averaged, text, time.perf_counter() - begin)
        score = metrics.get("valid_balanced_error", metrics["valid_loss"])
        better = score < self.best  # False for NaN
        if better:
            self.best = score
        if self.plateau.reached(score, self.settings["plateau_patience"]):
            lower_rate(self, self.settings["plateau_factor"], "validation gets no better")
        return better

    def save(self, name: str | None = None) -> str:
        """Write a checkpoint and return where."""
        return str(self._write_checkpoint(name=name))

    def preview(self) -> None:
        """Predict the preview region and show it; a failure is logged and never stops the training."""
        self._previewed = self.step
        if self._preview is None:
            return
        try:
            with self._phase("predicting the preview"), self.updater.averaging.applied():
                volumes, along = self._preview(), self._preview.along
                self.session.add_preview(preview_info(self.step, volumes, along), volumes)
                write_png(Path(self.session.run_dir) / "previews" / f"step-{self.step:09d}.png", volumes, along)
        except (ElektronnError, RuntimeError, ValueError, OSError) as error:
            self.session.logger.error("the preview failed: %s", error, exc_info=error)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the session's precision for a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.resources.precision == "bf16")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint: weights, optimiser, controls, schedules, random generators and counters."""
        load_weights(self.model, checkpoint.model_file)
        self.updater.restore(checkpoint)
        self.controls.load_state(checkpoint.state["controls"])
        restore_rng(checkpoint.rng)
        self.step, self.best = checkpoint.step, float(checkpoint.state["best"] or math.inf)
        self.plateau.load_state(checkpoint.state["plateau"])
        self.example = int(checkpoint.state["next_example"])
        self._plan = DataPlan.of(self.controls, self.step, self.example, self.batches)
        self.prefetcher.invalidate(self.batches + 1)

    def _write_checkpoint(self, *, name: str | None = None, best: bool = False) -> Path:
        journal = getattr(self.session, "journal", None)
        state = {
            "step": self.step,
            "next_example": self.example,
            "training_time": self.session.training_time,
            "best": self.best if math.isfinite(self.best) else None,
            "plateau": self.plateau.state(),
            "controls": self.controls.state(),
            "journal": len(journal) if journal is not None else 0,
            "resources": self.resources.to_dict(),
        }
        with self._phase("saving"):
            path = self.checkpoints.save(
                self.model, self.updater, state, name=name, best=best, scaling=self.model.scaling
            )
        self._saved = self.step
        self.session.logger.info("checkpoint %s saved%s", path.name, ", the best so far" if best else "")
        return path

    def _follow_data_controls(self) -> None:
        """Drop what was made ahead when a control changed that examples depend on."""
        if self.controls.version == self._controls_seen:
            return
        self._controls_seen = self.controls.version
        self.session.set_status(steps=self.settings["steps"])
        plan = DataPlan.of(self.controls, self.step, self.example, self.batches)
        if plan.values != self._plan.values:
            self._plan = plan
            self.prefetcher.invalidate(self.batches + 1)

    def _advance(self, examples: int, batches: int) -> None:
        self.example += examples
        self.batches += batches
        self._plan = self._plan.after(self.step, self.example, self.batches)

    def _skip(self, examples: int, batches: int) -> None:
        self._advance(examples, batches)
        self.prefetcher.invalidate(self.batches + 1)

    def _halt(self, error: Exception) -> bool:
        self._remake = True  # at the next step: what a person still has to mend must not fail here
        return self.session.halt(error) is not False

    def _out_of_time(self) -> bool:
        limit = self.experiment.max_runtime
        return limit is not None and self.session.training_time >= limit

    def _report(self) -> None:
        rate = self._pace.rate
        self.session.set_status(
            rate=rate,
            voxel_rate=self._pace.voxel_rate,
            data_wait=self._pace.data_wait,
            eta=(self.settings["steps"] - self.step) / rate if rate else None,
        )

    def data_stats(self) -> DataStats:
        """Return what the examples of this process cost, and how long the loop waited for them."""
        return replace(self.supply.stats(), waited=self.prefetcher.wait_time)

    @contextlib.contextmanager
    def _cost_of_data_logged(self) -> Any:
        supply, prefetcher = self.supply, self.prefetcher  # those of now: a statement may break the trainer
        try:
            yield
        finally:
            self.session.logger.info("data: %s", replace(supply.stats(), waited=prefetcher.wait_time).summary)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Any:
        self.session.set_status(phase=name)
        try:
            yield
        finally:
            self.session.set_status(phase="")


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0

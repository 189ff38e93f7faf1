"""The fastest settings of a network within memory: patch size, batch size, precision, memory format."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from elektronn_tui.errors import ModelError, ShapeError

from .feeding import computing_tensor, to_tensor
from .patch_size import fitting_patch_size
from .plan import Plan
from .precision import Precision, autocast, has_fast_bf16
from .predictor import DenseOptions, DensePredictor
from .profiling import training_bytes
from .rewriting import rebuild_model

if TYPE_CHECKING:
    from .model import Model

__all__ = ["MemoryFormat", "Purpose", "Setting", "Trial", "search_settings"]

Purpose = Literal["prediction", "training"]
MemoryFormat = Literal["channels_last", "contiguous"]

Run = Callable[[], object]

SCALES = (0.5, 0.7, 1.4, 2.0, 2.8, 4.0)
"""Of the declared patch on each axis."""
BATCHES = (2, 4, 8, 16)
RUNS = 5
TOO_LARGE = "too large"
SLACK = 1.3
"""How much longer a run may take than multiplications say."""
FIRST_SHARE = 0.1
"""Of the time, for each precision and memory format with the first patch."""


@dataclass(frozen=True)
class Setting:
    """How a network is run.

    Attributes
    ----------
    patch : tuple of int
        Input of a run, for each spatial axis.
    batch : int
    precision : {'fp32', 'bf16'}
    memory_format : {'channels_last', 'contiguous'}
    """

    patch: tuple[int, ...]
    batch: int
    precision: Precision
    memory_format: MemoryFormat


@dataclass(frozen=True)
class Trial:
    """A setting that was tried, or why not.

    Attributes
    ----------
    purpose : {'prediction', 'training'}
    setting : Setting
    seconds : float
        Of a run, or a step; NaN where it was not made.
    rate : float
        Output voxels per second (examples per second where outputs have no voxels); 0 where it was not made.
    bytes : int
        About how much memory it takes; on a GPU what it took.
    skipped : str
        Why it was not made; empty if it was.
    """

    purpose: Purpose
    setting: Setting
    seconds: float
    rate: float
    bytes: int
    skipped: str = ""


def search_settings(
    model: Model,
    purpose: Purpose,
    *,
    memory: int,
    seconds: float = 20.0,
    progress: Callable[[Trial], object] | None = None,
) -> list[Trial]:
    """Try settings, one kind after the other, and return all trials, the fastest first.

    First precision and memory format with the declared patch, or a smaller one where that takes too long, then other
    patches with the best of them, then batches. What can't fit into `memory` by its shapes is not tried, nor what would
    take longer than what is left of the time.

    Parameters
    ----------
    model : Model
        Is left as it is: copies are tried.
    purpose : {'prediction', 'training'}
        Every output voxel of a tile (see `elektronn_tui.models.predictor`), or loss and gradients.
    memory : int
        Bytes.
    seconds : float
        The first setting is always tried.
    progress : callable, optional
        Called with each trial.

    Raises
    ------
    ModelError
        The network has no loss to train, can't predict densely, or no setting fits into memory.
    """
    if purpose == "training" and model.loss_node is None:
        raise ModelError(f"Model {model.name!r} has no loss_node to train.")
    search = _Search(model, purpose, memory, seconds, progress)
    search.try_all()
    done = [trial for trial in search.trials if not trial.skipped]
    if not done:
        if refused := [trial.skipped for trial in search.trials if trial.skipped != TOO_LARGE]:
            raise ModelError(refused[-1])
        least = min(trial.bytes for trial in search.trials)
        raise ModelError(
            f"No setting of {model.name!r} for {purpose} fits into {memory / 2**30:.3g} GiB; the smallest that was "
            f"looked at takes about {least / 2**30:.3g} GiB."
        )
    return sorted(search.trials, key=lambda trial: -trial.rate)


class _Search:
    """Tries settings until the time is over."""

    def __init__(
        self,
        model: Model,
        purpose: Purpose,
        memory: int,
        seconds: float,
        progress: Callable[[Trial], object] | None,
    ) -> None:
        self.model, self.purpose, self.memory, self.seconds = model, purpose, memory, seconds
        self.deadline = time.perf_counter() + seconds
        self.trials: list[Trial] = []
        self._progress = progress
        self._device = computing_tensor([model.module]).device
        self._declared = tuple(n or 1 for n in model.input_node.shape.spatial_shape)
        self._cost_rate = 0.0  # multiplications per second of the fastest run so far

    def try_all(self) -> None:
        """Try precisions and formats, then patches, then batches."""
        precisions: tuple[Precision, ...] = ("bf16", "fp32") if has_fast_bf16(self._device.type) else ("fp32",)
        formats: tuple[MemoryFormat, ...] = ("channels_last", "contiguous")
        patches = self._patches()
        for first in patches:
            self._try(Setting(first, 1, precisions[0], formats[0]))
            if self._best() is not None:  # which tells how fast it is here
                break
        for patch in patches[patches.index(first) : patches.index(self._declared) + 1]:
            if self._expected(Setting(patch, 1, precisions[0], formats[0])) < self.seconds * FIRST_SHARE:
                first = patch
        for precision, memory_format in itertools.product(precisions, formats):
            self._try(Setting(first, 1, precision, memory_format))
        best = self._best()
        if best is None:
            return
        for patch in patches:
            self._try(replace(best, patch=patch))
        best = self._best() or best
        for batch in BATCHES:
            before = self._best()
            self._try(replace(best, batch=batch))
            if self._best() == before:  # larger ones won't be faster either
                break

    def _expected(self, setting: Setting) -> float:
        """Return about how many seconds a trial takes; infinite where it can't be made."""
        try:
            _, _, needed, cost = self._prepared(setting)
        except (ModelError, RuntimeError, MemoryError):
            return float("inf")
        return SLACK * cost / self._cost_rate if self._cost_rate and needed <= self.memory else float("inf")

    def _best(self) -> Setting | None:
        done = [trial for trial in self.trials if not trial.skipped]
        return max(done, key=lambda trial: trial.rate).setting if done else None

    def _patches(self) -> list[tuple[int, ...]]:
        """Return patches that go through the network, the smallest first."""
        found = {self._declared}
        for scale in SCALES if self._declared else ():
            try:
                found.add(fitting_patch_size(self.model, [max(round(n * scale), 1) for n in self._declared])[0])
            except ShapeError:
                continue
        return sorted(found, key=lambda patch: int(np.prod(patch)))

    def _try(self, setting: Setting) -> None:
        if any(trial.setting == setting for trial in self.trials):
            return
        run: Run | None = None
        trial = Trial(self.purpose, setting, float("nan"), 0.0, 0)
        try:
            make, voxels, needed, cost = self._prepared(setting)
            trial = replace(trial, bytes=needed)
            left = self.deadline - time.perf_counter()
            expected = SLACK * cost / self._cost_rate if self._cost_rate else 0.0
            if needed > self.memory:
                trial = replace(trial, skipped=TOO_LARGE)
            elif any(not t.skipped for t in self.trials) and expected > left:
                trial = replace(trial, skipped="no time left")
            else:
                run = make()
                seconds = self._measured(run, left)
                self._cost_rate = max(self._cost_rate, cost / seconds)
                if self._device.type == "cuda":
                    trial = replace(trial, bytes=torch.cuda.max_memory_allocated(self._device))
                trial = replace(trial, seconds=seconds, rate=voxels / seconds)
        except (ModelError, RuntimeError, MemoryError) as error:
            trial = replace(trial, skipped=str(error).splitlines()[0] if str(error) else type(error).__name__)
        run = None
        gc.collect()
        self.trials.append(trial)
        if self._progress is not None:
            self._progress(trial)

    def _measured(self, run: Run, left: float) -> float:
        """Return the median seconds of some runs; the first one, which makes plans, counts only by itself."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        taken: list[float] = []
        begin = time.perf_counter()
        while not taken or (len(taken) <= RUNS and time.perf_counter() - begin + taken[-1] < min(left, 3.0)):
            start = time.perf_counter()
            run()
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:] or taken)

    def _copy(self, setting: Setting) -> Model:
        changes: dict[str, Any] = {}
        if setting.patch and setting.patch != self._declared:
            changes["imposed_patch_size"] = setting.patch
        if setting.batch != (self.model.input_node.shape["b"] if self.model.input_node.shape.hastag("b") else 1):
            changes["imposed_batch_size"] = setting.batch
        model = rebuild_model(self.model, **changes).to(self._device)
        last = {2: torch.channels_last, 3: torch.channels_last_3d}.get(len(setting.patch), torch.channels_last)
        return model.to(memory_format=last if setting.memory_format == "channels_last" else torch.contiguous_format)

    def _prepared(self, setting: Setting) -> tuple[Callable[[], Run], int, int, float]:
        """Return what makes the inputs of runs, output voxels, bytes and multiplications."""
        return self._prediction(setting) if self.purpose == "prediction" else self._training(setting)

    def _prediction(self, setting: Setting) -> tuple[Callable[[], Run], int, int, float]:
        model = self._copy(replace(setting, batch=1))
        size = setting.patch
        predictor = DensePredictor(
            model.prediction_node,
            size,
            scale=lambda raw: raw,
            channels_last=model.channels_last,
            options=DenseOptions(precision=setting.precision, memory=2**62, batch_size=setting.batch),
        )
        zero = (0,) * len(size)

        def make() -> Run:
            raw = np.zeros((predictor.channels, setting.batch, *size), np.float32)
            return lambda: predictor.run(raw, zero, predictor.out)

        voxels = setting.batch * int(np.prod(predictor.out))
        cost = float(predictor.node.all_computational_cost) * setting.batch * int(np.prod(size))
        cost /= int(np.prod([n or 1 for n in predictor.node.input_nodes[0].shape.spatial_shape]))
        return make, voxels, predictor.tiling.bytes, cost

    def _training(self, setting: Setting) -> tuple[Callable[[], Run], int, int, float]:
        model = self._copy(setting)
        assert model.loss_node is not None
        loss = model.loss_node

        def make() -> Run:
            like, rng = computing_tensor([model.module]), np.random.default_rng(0)
            feeds = {node.name: to_tensor(node, node.random_array(rng), like) for node in Plan([loss]).inputs}

            def step() -> None:
                with autocast(setting.precision, self._device):
                    value = model.compute([loss], feeds)[0]
                value.sum().backward()
                model.module.zero_grad(set_to_none=True)

            return step

        shape = model.prediction_node.shape
        voxels = setting.batch * (shape.spatial_size if shape.ndim else 1)
        needed = training_bytes(model)
        if setting.precision == "bf16":
            needed = round(0.7 * needed)  # halves are kept of what is computed in them
        return make, voxels, needed, 3.0 * loss.all_computational_cost

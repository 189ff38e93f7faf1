"""Dense prediction as a job of a session: a snapshot of the weights, and the command that predicts with it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from elektronn_tui.cli.prediction_job import add_snapshot_options, flags_of
from elektronn_tui.errors import ExperimentError
from elektronn_tui.models.storage import snapshot_model
from elektronn_tui.session.jobs import Job, Offer, Work
from elektronn_tui.session.protocol import JobOption

from .datasets import VolumeData
from .resources import Resources, usable_cores

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["KIND", "console_predict", "free_threads", "prediction_offer"]

KIND = "predict"
"""Of the jobs, and the verb of the command that they run."""


def prediction_offer(trainer: Trainer) -> Offer:
    """Return how a session predicts volumes with the network that `trainer` trains.

    The arguments are those of ``elektronn predict`` behind the model: INPUT, OUTPUT and flags.
    """

    def options() -> tuple[JobOption, ...]:
        output = Path(trainer.session.run_dir) / f"prediction-{trainer.step}.h5"
        found = [
            JobOption(name="input", type="text", default=_training_volume(trainer), help="volume, FILE:KEY"),
            JobOption(name="output", type="text", default=f"{output}", help="file to make, FILE:KEY"),
        ]
        if trainer.updater.averaging.count:
            choices = ("averaged", "current")
            what = "the average of the weights, or the weights as they are"
            found.append(
                JobOption(
                    name="weights", type="choice", flag="--weights", choices=choices, default=choices[0], help=what
                )
            )
        found += [
            JobOption(name="bytes", type="bool", flag="--uint8", default=True, help="values times 255, a byte each"),
            JobOption(name="replace", type="bool", flag="--force", default=False, help="the output, if it exists"),
            JobOption(
                name="go on", type="bool", flag="--resume", default=False, help="with what an earlier job began there"
            ),
        ]
        return tuple(found)

    def make(directory: Path, arguments: Sequence[str]) -> Work:
        own, rest = _split(arguments)
        given = _parsed(rest)
        averaging = trainer.updater.averaging
        if own.weights == "averaged" and not averaging.count:
            raise ExperimentError("there is no average of the weights; averaging=ema or swa makes one")
        averaged = own.weights != "current" and averaging.count > 0
        extra = {
            "session": trainer.session.name,
            "step": str(trainer.step),
            "weights": "averaged" if averaged else "current",
        }
        with averaging.applied() if averaged else contextlib.nullcontext():
            snapshot = snapshot_model(trainer.model, extra={**trainer.model.extra, **extra})
        file = directory / "model.safetensors"
        return Work(
            text=f"{given.input} → {given.output}",
            command=(sys.executable, "-P", "-m", "elektronn_tui", KIND, str(file), *rest, "--json"),
            prepare=lambda: snapshot.write(file),
            environment={"OMP_NUM_THREADS": str(free_threads(trainer.resources))},
        )

    def check(arguments: Sequence[str]) -> None:
        _parsed(_split(arguments)[1])

    return Offer(help="predict a volume with a snapshot of the weights", options=options, check=check, make=make)


def free_threads(resources: Resources) -> int:
    """Return how many torch threads a job beside the training gets: the cores that this leaves, one at least.

    Two threads beside a busy one wait for each other: they are slower than one.
    """
    taken = resources.torch_threads if resources.device == "cpu" else 1 + resources.data_threads
    return max(usable_cores() - taken, 1)


def console_predict(trainer: Trainer) -> Callable[..., Job]:
    """Return the console's function that starts a job."""

    def predict(input: str | os.PathLike[str], output: str | os.PathLike[str], **options: Any) -> Job:
        """Predict a volume with a snapshot of the weights, in a process of its own; return a handle on it.

        Options are those of ``elektronn predict``, as ``force=True`` for ``--force``.
        """
        job: Job = trainer.session.jobs.start(KIND, [os.fspath(input), os.fspath(output), *flags_of(options)])
        return job

    return predict


def _training_volume(trainer: Trainer) -> str:
    data = trainer.experiment.data
    if not isinstance(data, VolumeData):
        return ""
    if data.path is not None:
        return data.path if data.raw_key is None else f"{data.path}:{data.raw_key}"
    return str(data.volumes[0][0]) if data.volumes else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ExperimentError(f"{KIND}: {message}")


def _split(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what concerns the snapshot, and the arguments of the command."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_snapshot_options(parser)
    return parser.parse_known_args(arguments)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    from elektronn_tui.cli import predict

    parser = _Parser(add_help=False)
    predict.configure(parser)
    return parser.parse_args(["MODEL", *arguments])

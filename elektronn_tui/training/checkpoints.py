"""Checkpoints: directories that hold all that a run needs to go on, written so that no kill can break the latest.

``model.safetensors`` is a model file by itself: the weights that training goes on from. Where weights are averaged,
``averaged.safetensors`` beside it is the same network with the average, which is what was validated.
``optimiser.safetensors`` has the tensors of the optimiser and of the random generators; ``state.json`` the rest. No
file is a pickle.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from elektronn_tui.errors import CheckpointError

if TYPE_CHECKING:
    from elektronn_tui.models import Model

    from .updating import Updater

__all__ = ["AVERAGED_FILE", "MODEL_FILE", "Checkpoint", "Checkpoints", "checkpoint_path", "load_weights", "restore_rng"]

FORMAT = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_STEP = re.compile(r"step-(\d{9})(-\d+)?")
_LINKS = ("latest", "best")
_TEMPORARY = ".writing-"
MODEL_FILE, AVERAGED_FILE = "model.safetensors", "averaged.safetensors"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes
    ----------
    path : Path
    state : dict
        As given to `Checkpoints.save`, with ``step``.
    optimiser : dict
        As of `Updater.state`.
    rng : dict of str to Tensor
        States of the random generators.
    """

    path: Path
    state: dict[str, Any]
    optimiser: dict[str, Any]
    rng: dict[str, torch.Tensor]

    @property
    def step(self) -> int:
        """Steps that were done."""
        return int(self.state["step"])

    @property
    def model_file(self) -> Path:
        """The model file inside."""
        return self.path / MODEL_FILE

    @property
    def averaged_file(self) -> Path:
        """The model file with the averaged weights; there only where weights were averaged."""
        return self.path / AVERAGED_FILE


class Checkpoints:
    """The checkpoints of a run.

    Parameters
    ----------
    directory : Path
        Made if missing; what a kill left half-written is removed.
    keep : int
        How many numbered ones stay, beside ``latest``, ``best`` and named ones.
    """

    def __init__(self, directory: Path, *, keep: int = 3) -> None:
        self.directory = directory
        self.keep = keep
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)

    def save(
        self,
        model: Model,
        updater: Updater,
        state: Mapping[str, Any],
        *,
        name: str | None = None,
        best: bool = False,
        scaling: dict[str, Any] | None = None,
    ) -> Path:
        """Write a checkpoint, make it the latest, and prune.

        Parameters
        ----------
        state : mapping
            Plain values, with ``step``.
        name : str, optional
            A named one is never pruned.
        best : bool
            Also make it the best.
        scaling : dict, optional
            Of raw values; travels with the model.

        Raises
        ------
        CheckpointError
            The name can't be used or is taken, or the disk refuses.
        """
        step = int(state["step"])
        target = self._target(step, name)
        temporary = self.directory / f"{_TEMPORARY}{os.getpid()}-{target.name}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            model.save(temporary / MODEL_FILE, scaling=scaling)
            if updater.averaging.count:
                with updater.averaging.applied():
                    model.save(temporary / AVERAGED_FILE, scaling=scaling)
            tensors, rest = _flattened(updater.state())
            tensors |= {f"rng.{key}": tensor for key, tensor in _rng_states().items()}
            _write(temporary / "optimiser.safetensors", save(tensors))
            document = {"format": FORMAT, **state, "optimiser": rest}
            _write(temporary / "state.json", json.dumps(document, indent=1).encode())
            _sync(temporary)
            temporary.rename(target)
            _sync(self.directory)
            self._link("latest", target)
            if best:
                self._link("best", target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(f"{target}: the checkpoint can't be written ({error})") from error
        self.prune()
        return target

    def path(self, which: str = "latest") -> Path:
        """Return the directory of a checkpoint by name, or of ``latest`` or ``best``.

        Raises
        ------
        CheckpointError
            There is none.
        """
        return checkpoint_path(self.directory, which)

    def load(self, which: str | Path = "latest") -> Checkpoint:
        """Read a checkpoint.

        Raises
        ------
        CheckpointError
            There is none of that name, or it is damaged.
        """
        path = which if isinstance(which, Path) else self.path(which)
        try:
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            tensors = load_file(path / "optimiser.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{path}: the checkpoint is damaged ({error})") from error
        if state.get("format") != FORMAT:
            raise CheckpointError(f"{path}: format {state.get('format')} is not known; known is {FORMAT}")
        rest = state.pop("optimiser")
        rng = {key.removeprefix("rng."): value for key, value in tensors.items() if key.startswith("rng.")}
        return Checkpoint(path, state, _unflattened(tensors, rest), rng)

    def prune(self) -> None:
        """Remove numbered checkpoints beyond `keep`, but for the latest and the best."""
        linked = {(self.directory / link).resolve() for link in _LINKS}
        numbered = sorted((path for path in _all(self.directory) if _STEP.fullmatch(path.name)), key=_order)
        for path in numbered[: max(len(numbered) - self.keep, 0)]:
            if path.resolve() not in linked:
                shutil.rmtree(path, ignore_errors=True)

    def _target(self, step: int, name: str | None) -> Path:
        if name is not None:
            if not _NAME.fullmatch(name) or name in _LINKS or _STEP.fullmatch(name):
                raise CheckpointError(
                    f"{name!r} can't name a checkpoint: use letters, digits, '.', '_' and '-', not latest or best"
                )
            if (self.directory / name).exists():
                raise CheckpointError(f"there is a checkpoint {name!r} already; choose another name")
            return self.directory / name
        target = self.directory / f"step-{step:09d}"
        number = 1
        while target.exists():
            number += 1
            target = self.directory / f"step-{step:09d}-{number}"
        return target

    def _link(self, link: str, target: Path) -> None:
        temporary = self.directory / f".{link}-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.name, target_is_directory=True)
        os.replace(temporary, self.directory / link)
        _sync(self.directory)


def checkpoint_path(directory: Path, which: str = "latest") -> Path:
    """Return the directory of a checkpoint by name, or of ``latest`` or ``best``; nothing is changed by it.

    Raises
    ------
    CheckpointError
        There is none.
    """
    path = directory / which
    if not (path / "state.json").is_file():
        known = ", ".join(sorted(entry.name for entry in _all(directory))) or "none"
        raise CheckpointError(f"there is no checkpoint {which!r} in {directory}; known: {known}")
    return path.resolve()


def _all(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield path


def load_weights(model: Model, path: Path) -> None:
    """Load the parameters and running statistics of a model file into a model of the same architecture.

    Raises
    ------
    CheckpointError
        The file is damaged, or its parameters are not those of the model.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: the model can't be read ({error})") from error
    own = model.module.state_dict()
    stored = {tensor.data_ptr() for key, tensor in own.items() if key in tensors}
    missing = [key for key, tensor in own.items() if key not in tensors and tensor.data_ptr() not in stored]
    unexpected = [key for key in tensors if key not in own]
    differing = [key for key in tensors if key in own and tensors[key].shape != own[key].shape]
    if missing or unexpected or differing:
        problems = {"missing": missing, "unknown": unexpected, "of another shape": differing}
        text = "; ".join(f"{what}: {', '.join(keys[:5])}" for what, keys in problems.items() if keys)
        raise CheckpointError(f"{path}: these are not the parameters of this model ({text})")
    model.module.load_state_dict(tensors, strict=False)  # a parameter that two nodes share is stored once


def restore_rng(states: Mapping[str, torch.Tensor]) -> None:
    """Bring back the random generators of torch, numpy and Python."""
    torch.set_rng_state(states["torch"])
    numpy_state = states["numpy"].numpy()
    position, has_gauss, gauss = states["numpy_rest"].tolist()
    np.random.set_state(("MT19937", numpy_state.astype(np.uint32), int(position), int(has_gauss), gauss))
    words = states["python"].tolist()
    random.setstate((3, tuple(words), None))
    cuda = [states[key] for key in sorted(states) if key.startswith("cuda.")]
    if cuda and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)


def _rng_states() -> dict[str, torch.Tensor]:
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    assert kind == "MT19937"
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
        "python": torch.tensor(random.getstate()[1], dtype=torch.int64),
    }
    if torch.cuda.is_available():
        states |= {f"cuda.{i:03d}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _flattened(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, entries in state["parameters"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"state.{name}.{key}"] = value.detach().cpu().contiguous().clone()
            else:
                numbers[f"state.{name}.{key}"] = value
    return tensors, {**state, "parameters": numbers}


def _unflattened(tensors: Mapping[str, torch.Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    parameters: dict[str, dict[str, Any]] = {}
    for name, value in {**tensors, **rest["parameters"]}.items():
        if name.startswith("state."):
            parameter, _, key = name.removeprefix("state.").rpartition(".")
            parameters.setdefault(parameter, {})[key] = value
    return {**rest, "parameters": parameters}


def _order(path: Path) -> tuple[int, int]:
    match = _STEP.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int((match[2] or "-1")[1:])


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""What is chosen once, when a session starts, because it changes bits or speed: written down and used again."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from elektronn_tui.errors import ExperimentError
from elektronn_tui.models.precision import has_fast_bf16

from .experiment import Experiment

__all__ = ["Resources", "choose", "environment"]


@dataclass(frozen=True)
class Resources:
    """Choices of a session.

    Attributes
    ----------
    device : str
    precision : {"fp32", "bf16"}
    memory_format : {"contiguous", "channels_last"}
    torch_threads, data_threads : int
    reasons : dict
        Why, for people.
    """

    device: str
    precision: str
    memory_format: str
    torch_threads: int
    data_threads: int
    reasons: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the choices as plain values."""
        return asdict(self)


def choose(experiment: Experiment) -> Resources:
    """Choose device, precision, memory format and threads by rule, never by timing.

    Raises
    ------
    ExperimentError
        The device is not there.
    """
    reasons = {}
    device = experiment.device.lower()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        reasons["device"] = "a GPU is there" if device == "cuda" else "no GPU is there"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ExperimentError(f"device: {experiment.device} is not allowed; it must be auto, cpu or cuda:N") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ExperimentError(f"device: {experiment.device} is not there; torch finds no CUDA on this machine")
    precision = experiment.precision
    if precision == "auto":
        fast = has_fast_bf16(kind)
        precision = "bf16" if fast else "fp32"
        reasons["precision"] = f"the {kind} {'has' if fast else 'has no'} fast bf16"
    memory_format = experiment.memory_format
    if memory_format == "auto":
        memory_format = "channels_last"
        reasons["memory_format"] = "as fast or faster for convolutions on every device measured"
    data_threads, torch_threads = experiment.data_threads, experiment.torch_threads
    if torch_threads is None:
        cores = usable_cores()
        # One data thread makes more examples than two cores can train on, so it waits most of the time and takes no
        # core of its own; several are asked for where data is the bottleneck: those get theirs.
        torch_threads = max(cores - data_threads, 1) if data_threads > 1 and kind == "cpu" else cores
        reasons["torch_threads"] = (
            f"{cores} usable cores, {data_threads} for data" if data_threads > 1 else "all cores" + _limited()
        )
    return Resources(device, precision, memory_format, torch_threads, data_threads, reasons)


def usable_cores() -> int:
    """Return how many cores this process may use: affinity and a Slurm job's share are honoured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, *_limits().values(), cores)


def _limits() -> dict[str, int]:
    """Return the variable that limits the number of threads, if there is one, and its value."""
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        value = os.environ.get(name, "")
        if value:
            return {name: int(value)} if value.isdigit() and int(value) > 0 else {}
    return {}


def _limited() -> str:
    return "".join(f" that {name}={value} allows" for name, value in _limits().items())


def environment() -> dict[str, Any]:
    """Return what else decides over bits: versions, CPU class, platform."""
    packages = {}
    for name in ("torch", "numpy", "numba", "h5py", "scipy", "scikit-image", "safetensors"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "packages": packages,
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()

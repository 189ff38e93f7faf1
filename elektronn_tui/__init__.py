"""Train networks on microscopy volumes in a live, writable session of the terminal.

An experiment file says ``from elektronn_tui import Experiment, ...``; networks come from `elektronn_tui.models`,
volumes and patches from `elektronn_tui.data`.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ElektronnError as ElektronnError
    from .training.arrays import Arrays as Arrays
    from .training.arrays import ImageData as ImageData
    from .training.datasets import DemoData as DemoData
    from .training.datasets import VolumeData as VolumeData
    from .training.datasets import Volumes as Volumes
    from .training.experiment import Experiment as Experiment
    from .training.experiment import Optimiser as Optimiser
    from .training.experiment import load_experiment as load_experiment
    from .training.schedules import Alternate as Alternate
    from .training.schedules import Cosine as Cosine
    from .training.schedules import Linear as Linear
    from .training.schedules import OneCycle as OneCycle
    from .training.schedules import Polynomial as Polynomial
    from .training.schedules import StepDecay as StepDecay
    from .training.schedules import Values as Values
    from .training.schedules import WarmUp as WarmUp
    from .training.sequences import SequenceData as SequenceData

__version__ = "0.1.0"

_here = _Path(__file__).resolve().parent
if not (_here / "models").is_dir() and (_here.parent / "models" / "__init__.py").is_file():
    __path__.append(str(_here.parent))  # a checkout whose links were lost

_PUBLIC = {
    "Alternate": "training.schedules",
    "Arrays": "training.arrays",
    "Cosine": "training.schedules",
    "DemoData": "training.datasets",
    "ElektronnError": "errors",
    "Experiment": "training.experiment",
    "ImageData": "training.arrays",
    "Linear": "training.schedules",
    "OneCycle": "training.schedules",
    "Optimiser": "training.experiment",
    "Polynomial": "training.schedules",
    "SequenceData": "training.sequences",
    "StepDecay": "training.schedules",
    "Values": "training.schedules",
    "VolumeData": "training.datasets",
    "Volumes": "training.datasets",
    "WarmUp": "training.schedules",
    "load_experiment": "training.experiment",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing this package imports nothing else."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])

"""What is trained, on what, and how: an `Experiment`, made by a plain Python file."""

from __future__ import annotations

import dataclasses
import math
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ElektronnError, ExperimentError, did_you_mean

from .augmentations import AUGMENTATIONS
from .datasets import DemoData, VolumeData
from .examples import experiment_file
from .hyperparameters import Optimiser
from .schedules import Schedule
from .schedules.elektronn2 import as_schedule
from .settings import from_text, plain, replaced, setting, settings

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["DemoData", "Experiment", "Optimiser", "VolumeData", "build_model", "load_experiment"]


def _model(value: Any) -> str | None:
    return None if callable(value) or hasattr(value, "loss_node") else "a function () -> Model, or a Model"


def _data(value: Any) -> str | None:
    return None if hasattr(value, "open") and not isinstance(value, type) else "DemoData(...) or VolumeData(...)"


def _optimiser(value: Any) -> str | None:
    return None if isinstance(value, Optimiser) else "Optimiser(...)"


def _schedules(value: Any) -> str | None:
    good = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    return None if good else "a dictionary such as {'lr': StepDecay(0.995)}"


def _scales(value: Any) -> str | None:
    good = isinstance(value, Mapping) and all(
        isinstance(name, str)
        and isinstance(scale, (int, float))
        and not isinstance(scale, bool)
        and 0 <= scale < math.inf
        for name, scale in value.items()
    )
    return None if good else "a dictionary of multipliers ≥ 0, such as {'conv1': 0.1, 'logits.w': 2.0}"


def _probability(default: float, of: str) -> Any:
    return setting(default=default, type="float", minimum=0, maximum=1, help=f"probability that {of}")


def _arguments(kind: str, help: str) -> Any:
    def check(value: Any) -> str | None:
        return None if value is None or type(value).__name__ == kind else f"{kind}(...)"

    return setting(default=None, type="object", check=check, help=f"{kind}(...), {help}")


@settings(kw_only=True)
class Experiment:
    """All that a session needs to know before it starts; only `model` and `data` have to be given."""

    model: Callable[[], Model] | Model = setting(type="object", check=_model, help="a function () -> Model, or a Model")
    data: Any = setting(
        type="object", check=_data, help="DemoData(...), VolumeData(...), or what has an open() -> Volumes or Arrays"
    )
    name: str = setting(default="", type="text", help="what sessions are called; the file's name where it is empty")
    optimiser: Optimiser = setting(default=Optimiser(), type="object", check=_optimiser, help="Optimiser(...)")
    schedules: Mapping[str, Schedule] = setting(
        default_factory=dict, type="object", check=_schedules, help="which controls change by themselves"
    )
    lr_scales: Mapping[str, float] = setting(
        default_factory=dict,
        type="object",
        check=_scales,
        help="learning rates of nodes ('conv1', 'up*') or parameters ('conv1.w', '*.b') as multiples of lr; 0 freezes; "
        "where several fit, the last one counts",
    )
    decay_scales: Mapping[str, float] = setting(
        default_factory=dict, type="object", check=_scales, help="the same for weight decay"
    )
    steps: int = setting(default=100_000, type="int", minimum=1, help="optimiser updates in all")
    batch_size: int = setting(default=1, type="int", minimum=1, maximum=65536, help="examples at a time")
    accumulate: int = setting(
        default=1,
        type="int",
        minimum=1,
        maximum=65536,
        help="batches a step: their gradients are averaged, in the memory of one",
    )
    clip_norm: float | None = setting(
        default=None,
        type="float",
        minimum=0,
        optional=True,
        help="the norm that the gradients together may have at most; none or 0 for any",
    )
    clip_value: float | None = setting(
        default=None,
        type="float",
        minimum=0,
        optional=True,
        help="what each number of a gradient may be at most; none or 0 for any",
    )
    averaging: str = setting(
        default="none",
        type="choice",
        choices=("none", "ema", "swa"),
        help="of weights: the average is what is validated and predicted with",
    )
    ema_decay: float = setting(
        default=0.999, type="float", minimum=0, maximum=0.9999999, help="how much of the average a step keeps, in ema"
    )
    swa_from: int = setting(default=0, type="int", minimum=0, unit="steps", help="first step that goes into swa")
    swa_every: int = setting(default=100, type="int", minimum=1, unit="steps", help="steps between two that go into it")
    max_runtime: float | None = setting(
        default=None,
        type="float",
        minimum=0,
        exclusive_minimum=True,
        optional=True,
        unit="s",
        help="seconds of training time",
    )
    seed: int = setting(default=0, type="int", minimum=0, help="of weights, dropout and examples")

    warp: float = _probability(0.5, "an image or volume is warped")
    warp_args: Any = _arguments("Warp", "how far")
    grey: float = _probability(0.5, "grey values of one are varied")
    grey_args: Any = _arguments("Grey", "how far")
    elastic: float = _probability(0.0, "one is deformed elastically")
    elastic_args: Any = _arguments("Elastic", "how far, how smoothly")
    blur: float = _probability(0.0, "one is blurred")
    blur_args: Any = _arguments("Blur", "how far")
    noise: float = _probability(0.0, "noise is added to one")
    noise_args: Any = _arguments("Noise", "how much, of which kinds")
    blobs: float = _probability(0.0, "regions of one are blurred, noisy or blank")
    blobs_args: Any = _arguments("Blobs", "how many, how large")
    flicker: float = _probability(0.0, "grey values of each section are varied")
    flicker_args: Any = _arguments("Flicker", "how far")
    faint: float = _probability(0.0, "some sections have low contrast")
    faint_args: Any = _arguments("Faint", "how many, how low")
    defocus: float = _probability(0.0, "some sections are blurred")
    defocus_args: Any = _arguments("Defocus", "how many, how far")
    missing: float = _probability(0.0, "some sections are blank")
    missing_args: Any = _arguments("Missing", "how many")
    slip: float = _probability(0.0, "some sections lie beside their target")
    slip_args: Any = _arguments("Slip", "how many, how far")
    misalignment: float = _probability(0.0, "from some section on raw image and target lie beside the ones before")
    misalignment_args: Any = _arguments("Misalignment", "how far")
    scaling: str = setting(
        default="measured",
        type="choice",
        choices=("measured", "dtype"),
        help="of raw values, unless the model brings its own: by their mean and deviation, or 0 to 1 by their dtype",
    )
    class_weights: tuple[float, ...] | None = setting(
        default=None, type="floats", minimum=0, optional=True, help="how much each class counts in the loss"
    )

    validate_every: int = setting(
        default=500, type="int", minimum=0, unit="steps", help="steps between validations; 0 for never"
    )
    validate_patches: int = setting(default=16, type="int", minimum=1, help="how many fixed patches")
    plateau_patience: int = setting(
        default=0,
        type="int",
        minimum=0,
        unit="validations",
        help="without improvement, after which the learning rate is lowered; 0 for never",
    )
    plateau_factor: float = setting(
        default=0.5,
        type="float",
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
        help="of the learning rate when it is lowered so",
    )
    checkpoint_every: int = setting(
        default=1000, type="int", minimum=0, unit="steps", help="steps between checkpoints; 0 for the last alone"
    )
    keep: int = setting(
        default=3, type="int", minimum=1, help="periodic checkpoints that are kept, beside best and named ones"
    )
    preview_every: int = setting(
        default=500, type="int", minimum=0, unit="steps", help="steps between previews; 0 for never"
    )
    preview_shape: tuple[int, ...] = setting(
        default=(8, 128, 128),
        type="ints",
        length=3,
        minimum=1,
        help="raw voxels (z, y, x) that a preview shows at most",
    )
    preview_position: tuple[int, ...] | None = setting(
        default=None,
        type="ints",
        length=3,
        optional=True,
        help="its first raw voxel (z, y, x); the middle where it is none",
    )

    precision: str = setting(default="auto", type="choice", choices=("auto", "fp32", "bf16"), help="of arithmetic")
    memory_format: str = setting(
        default="auto",
        type="choice",
        choices=("auto", "contiguous", "channels_last"),
        help="order of features in memory",
    )
    device: str = setting(default="auto", type="text", help="auto, cpu, cuda or cuda:N")
    data_threads: int = setting(default=1, type="int", minimum=0, maximum=64, help="that make examples; 0 for none")
    torch_threads: int | None = setting(
        default=None,
        type="int",
        minimum=1,
        maximum=1024,
        optional=True,
        help="none for the rule: all cores but those for data",
    )
    on_nan: str = setting(
        default="auto",
        type="choice",
        choices=("auto", "pause", "rollback", "stop"),
        help="what follows a loss that is not finite; auto: stop in the foreground, else pause",
    )
    rollback_factor: float = setting(
        default=0.5,
        type="float",
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
        help="of the learning rate after a roll-back",
    )
    on_error: str = setting(
        default="auto",
        type="choice",
        choices=("auto", "halt", "stop"),
        help="what follows an exception; auto: stop in the foreground, else halt",
    )

    control_values: Mapping[str, Any] = setting(
        default_factory=dict, type="object", help="values of controls that the network brings, at start"
    )
    file: str | None = setting(default=None, type="path", optional=True, help="where it was read from")

    def check_together(self) -> None:
        """Read schedules that are written as ELEKTRONN2 did."""
        made = {name: as_schedule(name, schedule) for name, schedule in self.schedules.items()}
        object.__setattr__(self, "schedules", {name: one for name, one in made.items() if one is not None})

    def describe(self) -> str:
        """Build the network, send random numbers through all of it, and return its description.

        What ``python FILE.py`` prints of an experiment: to try a network without training it.

        Raises
        ------
        ModelError, ShapeError
            The network can't be built, or computes other shapes than it declares.
        """
        model = self.model() if callable(self.model) else self.model
        model.test_run()
        return f"{model.description}\nA test run went through all nodes."

    def to_dict(self) -> dict[str, Any]:
        """Return all settings with their defaults, as values that JSON carries."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


_SHORT = {field.name for field in dataclasses.fields(Optimiser)} - {"name"}
_SCALES = {"lr_scale": "lr_scales", "decay_scale": "decay_scales"}


def load_experiment(source: str | Path, overrides: Iterable[str] = (), *, check_data: bool = True) -> Experiment:
    """Run an experiment file and return its `experiment`, with settings overridden.

    Parameters
    ----------
    source : path-like
        A Python file, or a name in the zoo.
    overrides : iterable of str
        As ``"steps=100"``, ``"data.path=volume.h5"``, ``"optimiser.lr=1e-4"``, ``"lr=1e-4"``; ``NODE.CONTROL=value``
        is kept for the network's controls in `Experiment.control_values`.
    check_data : bool
        Refuse an experiment whose volumes are not there.

    Raises
    ------
    ExperimentError
        The file is missing, raises, or defines no experiment; a value is refused: says where and what is allowed.
    """
    path = experiment_file(source)
    experiment = _executed(path)
    experiment = dataclasses.replace(experiment, name=experiment.name or path.stem, file=str(path))
    for override in overrides:
        try:
            experiment = _overridden(experiment, override)
        except ExperimentError as error:
            raise ExperimentError(f"{path.name}, with {override}: {error}") from error
    try:
        check = getattr(experiment.data, "check_files", None)
        if check is not None and check_data:
            check()
    except ExperimentError as error:
        raise ExperimentError(f"{path.name}: {error}") from error
    return experiment


def build_model(experiment: Experiment) -> Model:
    """Call the experiment's function for its network, or take the network that it gives.

    Raises
    ------
    ExperimentError
        The function raises, or returns something else: says in which line.
    """
    from elektronn_tui.models import Model

    if isinstance(experiment.model, Model):
        return experiment.model
    try:
        model = experiment.model()
    except Exception as error:
        if experiment.file is None:
            raise
        raise blamed(error, experiment.file) from error
    if not isinstance(model, Model):
        raise ExperimentError(f"model: the function returned {type(model).__name__}; it must return a Model")
    return model


def _executed(path: Path) -> Experiment:
    try:
        text = path.read_text(encoding="utf-8")
        code = compile(text, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ExperimentError(f"{path}, line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path}: it can't be read ({error})") from error
    # A module of its own: one namespace for helpers and comprehensions, and dataclasses find what their strings mean.
    module = types.ModuleType("elektronn_experiment")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last: modules beside the file must not hide installed ones
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        raise blamed(error, path) from error
    experiment = module.__dict__.get("experiment")
    if experiment is None:
        near = did_you_mean("experiment", [name for name in module.__dict__ if not name.startswith("_")])
        raise ExperimentError(f"{path}: it defines no 'experiment'; it must say experiment = Experiment(...).{near}")
    if not isinstance(experiment, Experiment):
        kind = type(experiment).__name__
        raise ExperimentError(f"{path}: 'experiment' is of type {kind}; it must be an Experiment(...)")
    return experiment


def blamed(error: BaseException, path: str | Path) -> ExperimentError:
    """Return an error of code in an experiment file as one line that names the file and its line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    text = " ".join(str(error).split("\n"))
    if not isinstance(error, ElektronnError):
        text = f"{type(error).__name__}: {text}"
        if frames and frames[-1].filename != str(path):
            text += f" (raised in {frames[-1].filename}, line {frames[-1].lineno})"
    return ExperimentError(f"{path}, line {lines[-1] or '?' if lines else '?'}: {text}")


def _overridden(experiment: Experiment, override: str) -> Experiment:
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise ExperimentError(f"{override!r} is not allowed; it must be NAME=VALUE")
    names = [field.name for field in dataclasses.fields(experiment) if field.name not in ("file", "control_values")]
    first, dot, rest = key.partition(".")
    if not dot and key in _SHORT:
        first, dot, rest = "optimiser", ".", key
    if not dot:
        if key not in names:
            known = did_you_mean(key, [*names, *_SHORT])
            raise ExperimentError(f"{key}: there is no such setting.{known or ' Known: ' + ', '.join(names) + '.'}")
        return replaced(experiment, key, from_text(experiment, key, text))
    if first in _SCALES:
        try:
            scales = {**getattr(experiment, _SCALES[first]), rest: float(text)}
        except ValueError:
            raise ExperimentError(f"{key}: {text} is not allowed; it must be ≥ 0") from None
        return replaced(experiment, _SCALES[first], scales)
    part = getattr(experiment, first, None) if first in names else None
    kind = AUGMENTATIONS.get(first.removesuffix("_args"))
    if first in names and kind and part is None:
        from elektronn_tui import data

        part = getattr(data, kind)()
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        changed = replaced(part, rest, from_text(part, rest, text))
        return replaced(experiment, first, changed)
    if first in names:
        raise ExperimentError(f"{key}: {first} has no settings that can be given as text")
    # What the network calls its nodes is not known here; a name that fits no control is refused when it is built.
    return dataclasses.replace(experiment, control_values={**experiment.control_values, key: text})

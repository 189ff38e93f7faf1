"""The controls of a training: of the trainer, its optimiser, and the network's live values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ControlError, ElektronnError, ExperimentError, did_you_mean

from .arrays import ImageData
from .augmentations import AUGMENTATIONS
from .control import Control
from .controls import Controls
from .experiment import Experiment
from .hyperparameters import USES, Optimiser
from .schedules import Schedule, Values, elektronn2
from .settings import live_control

if TYPE_CHECKING:
    from elektronn_tui.models import Model

    from .trainer import Trainer

__all__ = ["add_controls"]

_SHORT = {"mixing_weights": "mixing"}


def add_controls(trainer: Trainer, of_data: Mapping[str, Any]) -> None:
    """Register all controls, give them their start values and bind schedules.

    Parameters
    ----------
    trainer : Trainer
    of_data : mapping
        The controls that say how the data are varied, with values at start.

    Raises
    ------
    ExperimentError
        A start value or a schedule is not for a control that exists, or not allowed for it.
    """
    experiment, controls = trainer.experiment, trainer.controls
    # What is used most comes first: the screen shows them in this order.
    _add_of_updater(controls, trainer, ("lr", "weight_decay"))
    _add_own(controls, trainer.settings, experiment, ("batch_size",))
    _add_of_data(controls, trainer.settings, of_data)
    _add_variables(controls, trainer.model, experiment)
    scales = tuple(name for name in trainer.updater.values if name.startswith(("lr_scale.", "decay_scale.")))
    _add_of_updater(controls, trainer, ("optimiser", "momentum", "betas", *scales, "clip_norm", "clip_value"))
    _add_own(controls, trainer.settings, experiment, ("accumulate",))
    _add_of_updater(controls, trainer, ("averaging", "ema_decay", "swa_from", "swa_every"))
    _add_own(controls, trainer.settings, experiment, ("steps", "validate_every", "checkpoint_every", "preview_every"))
    _add_own(controls, trainer.settings, experiment, ("plateau_patience", "plateau_factor"))
    _add_policies(controls, trainer.settings, experiment, foreground=trainer.session.foreground)
    _add_of_updater(controls, trainer, ("nesterov", "rho", "alpha", "eps"))
    for name, value in experiment.control_values.items():
        _start_with(controls, name, value)
    for name, schedule in experiment.schedules.items():
        try:
            _schedule(controls, name, schedule)
        except (ControlError, ExperimentError) as error:
            raise ExperimentError(f"schedules: {error}") from error


def _schedule(controls: Controls, wanted: str, schedule: Schedule) -> None:
    """Let a schedule drive a control, or all that a pattern such as ``*.dropout_rate`` means."""
    if wanted == "mom" and "momentum" not in USES[controls["optimiser"].get()]:
        raise ExperimentError(
            f"mom: {controls['optimiser'].get()} has no momentum; drive 'betas' with values such as "
            "Values([(1000, (0.9, 0.999))])"
        )
    pattern = elektronn2.CONTROLS.get(wanted, wanted)
    if "*" not in pattern or pattern in controls:
        return controls.set_schedule(pattern, schedule)
    names = [name for name in controls.names() if fnmatchcase(name, pattern)]
    if not names:
        raise ExperimentError(f"{wanted}: no control is called like {pattern}. Known: {', '.join(controls.names())}")
    for k, name in enumerate(names):
        controls.set_schedule(name, _for_one(schedule, k, len(names)) if controls[name].type == "float" else schedule)


def _for_one(schedule: Schedule, k: int, n: int) -> Schedule:
    """Return the schedule of the k-th of `n` controls: values are listed for each, or one for all."""
    if not isinstance(schedule, Values) or not any(isinstance(value, Sequence) for _, value in schedule.values):
        return schedule
    for step, value in schedule.values:
        if isinstance(value, Sequence) and len(value) != n:
            raise ExperimentError(f"step {step}: there are {len(value)} values; it must be {n}, one for each control")
    values = [(step, value[k] if isinstance(value, Sequence) else value) for step, value in schedule.values]
    return dataclasses.replace(schedule, values=values)


def _start_with(controls: Controls, name: str, value: Any) -> None:
    if name not in controls:
        known = ["data", "optimiser", *(f"{augmentation}_args" for augmentation in AUGMENTATIONS)]
        group, _, rest = name.partition(".")
        near = did_you_mean(name, [known for known in controls.names() if ("." in known) == ("." in name)])
        if not near and did_you_mean(group, known):
            near = did_you_mean(name, [f"{word}.{rest}" for word in known])
        near = near or f" Controls of this network: {', '.join(n for n in controls.names() if '.' in n) or 'none'}."
        raise ExperimentError(f"{name}: there is no such setting or control.{near}")
    try:
        controls.start_with(name, value)
    except ControlError as error:
        raise ExperimentError(str(error)) from error


def _add_variables(controls: Controls, model: Model, experiment: Experiment) -> None:
    weighted = False
    for node in model.nodes.values():
        for key, variable in node.variables.items():
            if key == "class_weights" and experiment.class_weights is not None:
                weighted = True
                try:
                    variable.value = list(experiment.class_weights)
                except ElektronnError as error:
                    raise ExperimentError(f"class_weights, for {node.name}: {error}") from error
            of = [parent.name for parent in node.parents] if key == "mixing_weights" else []
            help = f"{variable.help}: {', '.join(of)}" if len(of) > 1 else variable.help
            controls.add(_control_of(f"{node.name}.{_SHORT.get(key, key)}", variable, help))
    if experiment.class_weights is not None and not weighted:
        raise ExperimentError("class_weights: the model has no loss that takes them")


def _control_of(name: str, variable: Any, help: str) -> Control:
    def get() -> Any:
        value = variable.value
        return tuple(value) if isinstance(value, (list, tuple)) else value

    def write(value: Any) -> None:
        variable.value = list(value) if isinstance(value, tuple) else value

    def refused(value: Any) -> str | None:
        numbers = value if isinstance(value, tuple) else (value,)
        if variable.not_all_zero and not any(number is None or number for number in numbers):
            return "more than 0 for one of them at least"
        return None

    return Control(
        name=name,
        type="floats" if variable.length is not None else "float",
        get=get,
        set=write,
        minimum=variable.minimum,
        maximum=variable.maximum,
        exclusive_maximum=variable.exclusive_maximum,
        length=variable.length,
        optional=variable.optional,
        help=help,
        check=refused,
    )


def _add_of_updater(controls: Controls, trainer: Trainer, names: tuple[str, ...]) -> None:
    """Add what the update of the weights depends on; what other optimisers use is kept for a change to them."""
    updater = trainer.updater
    of_optimiser = {field.name for field in dataclasses.fields(Optimiser)}
    for name in names:
        read, write = functools.partial(updater.get, name), functools.partial(updater.set, name)
        kind, _, pattern = name.partition(".")
        if pattern:
            what = "learning rate" if kind == "lr_scale" else "weight decay"
            help = f"multiplies the {what} of {pattern}" + ("; 0 freezes" if kind == "lr_scale" else "")
            controls.add(Control(name=name, type="float", get=read, set=write, minimum=0, help=help))
        elif name == "optimiser":
            controls.add(live_control(Optimiser, "name", read, write, name=name))
        else:
            controls.add(live_control(Optimiser if name in of_optimiser else Experiment, name, read, write))


def _add_own(controls: Controls, settings: dict[str, Any], experiment: Experiment, names: tuple[str, ...]) -> None:
    """Add what the loop itself reads."""
    for name in names:
        settings[name] = getattr(experiment, name)
        controls.add(live_control(Experiment, name, *_entry(settings, name)))


def _entry(values: dict[str, Any], name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """Return what reads and what writes one of `values`."""
    return functools.partial(values.__getitem__, name), functools.partial(values.__setitem__, name)


def _add_of_data(controls: Controls, settings: dict[str, Any], of_data: Mapping[str, Any]) -> None:
    """Add how examples are varied."""
    settings.update(of_data)
    for name in of_data:
        controls.add(live_control(ImageData if name == "shift" else Experiment, name, *_entry(settings, name)))


def _add_policies(controls: Controls, settings: dict[str, Any], experiment: Experiment, *, foreground: bool) -> None:
    choices = {"on_nan": ("pause", "rollback", "stop"), "on_error": ("halt", "stop")}
    helps = {"on_nan": "what follows a loss that is not finite", "on_error": "what follows an exception in the loop"}
    for name, policies in choices.items():
        wanted = getattr(experiment, name)
        settings[name] = ("stop" if foreground else policies[0]) if wanted == "auto" else wanted
        read, write = _entry(settings, name)
        controls.add(Control(name=name, type="choice", get=read, set=write, choices=policies, help=helps[name]))

"""The controls of a training: of the trainer, its optimiser, and the network's live values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ControlError, ElektronnError, ExperimentError, did_you_mean

from . import optimisers
from .controls import Control, Controls
from .experiment import Experiment

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
        The controls that examples of the data depend on, with values at start; None for that of the experiment.

    Raises
    ------
    ExperimentError
        A start value or a schedule is not for a control that exists, or not allowed for it.
    """
    experiment, controls = trainer.experiment, trainer.controls
    optimisers.add_controls(controls, experiment.optimiser, trainer.optimiser)
    _add_variables(controls, trainer.model, experiment)
    _add_own(controls, trainer.settings, experiment, of_data, foreground=trainer.session.foreground)
    for name, value in experiment.control_values.items():
        _start_with(controls, name, value)
    for name, schedule in experiment.schedules.items():
        try:
            controls.set_schedule(name, schedule)
        except ControlError as error:
            raise ExperimentError(f"schedules: {error}") from error


def _start_with(controls: Controls, name: str, value: Any) -> None:
    if name not in controls:
        known = ["data", "optimiser", "warp_args", "grey_args"]
        group, _, rest = name.partition(".")
        near = did_you_mean(name, controls.names())
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
            controls.add(_control_of(f"{node.name}.{_SHORT.get(key, key)}", variable))
    if experiment.class_weights is not None and not weighted:
        raise ExperimentError("class_weights: the model has no loss that takes them")


def _control_of(name: str, variable: Any) -> Control:
    def get() -> Any:
        value = variable.value
        return tuple(value) if isinstance(value, (list, tuple)) else value

    def write(value: Any) -> None:
        variable.value = list(value) if isinstance(value, tuple) else value

    def refused(value: Any) -> str | None:
        numbers = value if isinstance(value, tuple) else (value,)
        if variable.exclusive_maximum and any(number is not None and number >= variable.maximum for number in numbers):
            return f"≥ {variable.minimum or 0:g} and < {variable.maximum:g}"
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
        length=variable.length,
        optional=variable.optional,
        help=variable.help,
        check=refused,
    )


def _add_own(
    controls: Controls,
    settings: dict[str, Any],
    experiment: Experiment,
    of_data: Mapping[str, Any],
    *,
    foreground: bool,
) -> None:
    def add(name: str, type: str, value: Any, **more: Any) -> None:
        settings[name] = value

        def write(new: Any) -> None:
            settings[name] = new

        controls.add(Control(name=name, type=type, get=lambda: settings[name], set=write, **more))

    add("batch_size", "int", experiment.batch_size, minimum=1, maximum=65536, help="examples a step")
    if "warp" in of_data:
        add("warp", "float", experiment.warp, minimum=0, maximum=1, help="probability that an example is warped")
    if "grey" in of_data:
        add("grey", "float", experiment.grey, minimum=0, maximum=1, help="probability that grey values are varied")
    if "shift" in of_data:
        add("shift", "int", of_data["shift"], minimum=0, maximum=4096, help="pixels that images are displaced at most")
    add("steps", "int", experiment.steps, minimum=1, help="optimiser updates in all")
    every: dict[str, Any] = {"type": "int", "minimum": 0, "unit": "steps"}
    add("validate_every", value=experiment.validate_every, help="steps between validations; 0 for never", **every)
    add("checkpoint_every", value=experiment.checkpoint_every, help="steps between checkpoints; 0 for none", **every)
    add("preview_every", value=experiment.preview_every, help="steps between previews; 0 for never", **every)
    on_nan, on_error = experiment.on_nan, experiment.on_error
    on_nan = ("stop" if foreground else "pause") if on_nan == "auto" else on_nan
    on_error = ("stop" if foreground else "halt") if on_error == "auto" else on_error
    policies = ("pause", "rollback", "stop")
    add("on_nan", "choice", on_nan, choices=policies, help="what follows a loss that is not finite")
    add("on_error", "choice", on_error, choices=("halt", "stop"), help="what follows an exception in the loop")

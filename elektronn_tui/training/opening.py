"""A network by whatever it is called on the command line: a model file, a checkpoint, a run, an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from elektronn_tui.errors import CodeMissing, ModelError, SessionNotFound, did_you_mean

from .checkpoints import AVERAGED_FILE, MODEL_FILE, checkpoint_path
from .examples import examples
from .experiment import build_model, load_experiment

if TYPE_CHECKING:
    from elektronn_tui.models import Model

__all__ = ["Weights", "open_model"]

Weights = Literal["averaged", "current"]
UNNAMED = "model"
"""What a model is called that nobody has named."""


def open_model(text: str | Path, *, trained: bool = False, weights: Weights | None = None) -> Model:
    """Return the network that goes by a path or a name.

    Parameters
    ----------
    text : str or Path
        A model file, the folder of a checkpoint or of a run, an experiment (file, or name in the zoo), or a run by its
        name, an unambiguous begin of it, or its id. ``RUN@NAME`` is that run's checkpoint of a name, of ``latest`` or
        ``best``, or of a step; without it the latest.
    trained : bool
        Refuse an experiment, whose weights would be random.
    weights : {'averaged', 'current'}, optional
        Of a checkpoint that has both; default: the averaged ones where there are any.

    Raises
    ------
    ModelError
        There is no such network, or its file is no good.
    CheckpointError
        The run has no such checkpoint.
    ExperimentError
        The experiment can't be used.
    """
    path = Path(text).expanduser()
    if path.is_file() and path.suffix != ".py":
        return _of_file(path, weights)
    if path.is_dir():
        return _of_folder(path, weights)
    if path.is_file() or str(text) in examples():
        if trained:
            raise ModelError(f"{text} is an experiment, whose weights are random; name a model file or a run of it.")
        return _of_experiment(text)
    return _of_run(str(text), weights)


def _of_experiment(text: str | Path) -> Model:
    experiment = load_experiment(text, check_data=False)
    model = build_model(experiment)
    if model.name == UNNAMED:
        model.name = experiment.name
    return model


def _of_file(path: Path, weights: Weights | None) -> Model:
    if weights is not None:
        raise ModelError(f"{path} is one model file; choose between weights of a checkpoint or run only.")
    return _loaded(path)


def _loaded(path: Path) -> Model:
    """Read a model file; of a run it has the name, and code that it lacks is that of its experiment."""
    run = _run_with(path)
    model = _read(path, run)
    if run is not None and model.name == UNNAMED:
        model.name = run.name
    return model


def _read(path: Path, run: Path | None) -> Model:
    from elektronn_tui.models import load_model

    try:
        return load_model(path)
    except CodeMissing:
        if run is None:
            raise
        model = build_model(load_experiment(run / "experiment.py", check_data=False))
        nodes = model.nodes.values()
        functions, modules = (
            {node.name: node.arguments[key] for node in nodes if key in node.arguments}
            for key in ("functor", "torch_module")
        )
        return load_model(path, functions=functions, modules=modules)


def _run_with(path: Path) -> Path | None:
    """Return the run of ours that a file lies in, whose experiment may be executed."""
    from elektronn_tui.session.registry import runs_directory

    runs = runs_directory().resolve()
    found = next((folder for folder in path.resolve().parents if folder.parent == runs), None)
    return found if found is not None and (found / "experiment.py").is_file() else None


def _of_folder(path: Path, weights: Weights | None) -> Model:
    if (path / "checkpoints").is_dir():
        return _of_checkpoint(_checkpoint(path, "latest"), weights)
    if (path / MODEL_FILE).is_file():
        return _of_checkpoint(path, weights)
    raise ModelError(f"{path} is neither the folder of a checkpoint nor of a run: there is no {MODEL_FILE} in it.")


def _of_checkpoint(path: Path, weights: Weights | None) -> Model:
    averaged = (path / AVERAGED_FILE).is_file()
    if weights == "averaged" and not averaged:
        raise ModelError(f"{path} has no average of the weights; averaging=ema or swa makes one.")
    return _loaded(path / (AVERAGED_FILE if averaged and weights != "current" else MODEL_FILE))


def _of_run(text: str, weights: Weights | None) -> Model:
    from elektronn_tui.session.registry import find

    name, _, which = text.partition("@")
    looks_like_a_path = "/" in text or text.endswith((".safetensors", ".py"))
    try:
        if looks_like_a_path:
            raise SessionNotFound
        run = Path(find(name).run_dir)
    except SessionNotFound as error:
        near = did_you_mean(text, examples()) or ("" if looks_like_a_path else f" Also {error}")
        raise ModelError(f"There is no model file, checkpoint, run or experiment {text}.{near}") from None
    return _of_checkpoint(_checkpoint(run, which or "latest"), weights)


def _checkpoint(run: Path, which: str) -> Path:
    folder = run / "checkpoints"
    if not folder.is_dir():
        raise ModelError(f"{run} has no checkpoints yet; elektronn save {run.name} makes one.")
    return checkpoint_path(folder, f"step-{int(which):09d}" if which.isdecimal() else which)

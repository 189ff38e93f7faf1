"""Networks by what they are called."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest
import tiny_experiment
import torch

from elektronn_tui.errors import CheckpointError, CodeMissing, ExperimentError, ModelError
from elektronn_tui.models import Model
from elektronn_tui.session.registry import SessionFile, create_run
from elektronn_tui.training.checkpoints import AVERAGED_FILE, MODEL_FILE
from elektronn_tui.training.opening import open_model


def biased(bias: float) -> Model:
    """Return the network of the zoo, with a bias to tell it by."""
    model = open_model("membranes")
    with torch.no_grad():
        next(iter(node for node in model.nodes.values() if "b" in node.operation._parameters)).b.fill_(bias)
    return model


def bias_of(model: Model) -> float:
    return float(next(iter(n for n in model.nodes.values() if "b" in n.operation._parameters)).b[0].detach())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that ended, with two numbered checkpoints, of which the later one has averaged weights."""
    monkeypatch.setenv("ELEKTRONN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ELEKTRONN_RUNTIME", str(tmp_path / "run"))
    folder = create_run("membranes", "past")
    file = SessionFile(
        id="0123456789abcdef", name="past", state="finished", host=socket.gethostname(), pid=os.getpid(), started=0.0
    )
    (folder / "session.json").write_bytes(msgspec.json.encode(file))
    for step, names in ((10, {MODEL_FILE: 1.0}), (20, {MODEL_FILE: 2.0, AVERAGED_FILE: 3.0})):
        checkpoint = folder / "checkpoints" / f"step-{step:09d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.json").write_text("{}")
        for name, bias in names.items():
            biased(bias).save(checkpoint / name)
    (folder / "checkpoints" / "latest").symlink_to("step-000000020")
    return folder


def test_a_run_is_its_latest_checkpoint_with_averaged_weights(run: Path) -> None:
    for text in ("past", "pas", "0123456789abcdef", str(run), str(run / "checkpoints" / "latest"), "past@20"):
        assert bias_of(open_model(text, trained=True)) == 3, text
    assert bias_of(open_model("past", weights="current")) == 2
    assert open_model("past").name == "membranes"  # as it was saved
    assert bias_of(open_model("past@10")) == 1
    assert bias_of(open_model(run / "checkpoints" / "latest" / MODEL_FILE)) == 2


def test_nothing_in_a_run_is_changed_by_looking(run: Path) -> None:
    half = run / "checkpoints" / ".writing-1-step-000000030"
    half.mkdir()  # a session is writing it now
    open_model("past")
    assert half.is_dir()


def test_an_experiment_is_its_network_without_its_volumes(tmp_path: Path) -> None:
    file = tiny_experiment.write(tmp_path)
    assert list(open_model(file).nodes)[:2] == ["raw", "conv"]
    assert open_model(file).name == "tiny"
    assert open_model("neuro3d_lite").param_count == 885_132
    with pytest.raises(ModelError, match="whose weights are random"):
        open_model("neuro3d_lite", trained=True)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("past@best", CheckpointError, "there is no checkpoint 'best' .*step-000000010, step-000000020"),
        ("membrane", ModelError, "Did you mean 'membranes'"),
        ("pats", ModelError, "no model file, checkpoint, run or experiment pats.*Did you mean 'past'"),
        (
            "./nowhere.safetensors",
            ModelError,
            r"run or experiment \./nowhere.safetensors\.$",
        ),
        ("{run}/previews", ModelError, "neither the folder of a checkpoint nor of a run"),
        ("{run}/session.json", ModelError, "no safetensors file"),
        ("{run}/broken.py", ExperimentError, r"broken.py, line 1"),
    ],
)
def test_what_is_no_network_is_refused_with_its_reason(
    run: Path, text: str, error: type[Exception], message: str
) -> None:
    (run / "broken.py").write_text("1/0\n")
    (run / "previews").mkdir(exist_ok=True)
    with pytest.raises(error, match=message):
        open_model(text.format(run=run))


def test_weights_are_chosen_only_where_there_is_a_choice(run: Path) -> None:
    with pytest.raises(ModelError, match="no average of the weights"):
        open_model("past@10", weights="averaged")
    with pytest.raises(ModelError, match="one model file"):
        open_model(run / "checkpoints" / "latest" / MODEL_FILE, weights="averaged")


def test_a_run_without_checkpoints_says_so(run: Path) -> None:
    (run / "checkpoints").rename(run / "gone")
    with pytest.raises(ModelError, match="has no checkpoints yet"):
        open_model("past")


OWN = """
import torch
from elektronn_tui import Experiment, DemoData


def create_model():
    from elektronn_tui.models import Conv, Input, Model, Module

    raw = Input((1, 1, 4, 9, 9), "b,f,z,y,x", name="raw")
    own = Module(raw, torch.nn.Conv3d(1, 2, 3), name="own")
    return Model(raw, prediction_node=Conv(own, 2, (1, 1, 1)))


experiment = Experiment(model=create_model, data=DemoData())
"""


def test_code_that_a_model_file_lacks_is_that_of_its_run_alone(run: Path, tmp_path: Path) -> None:
    (run / "experiment.py").write_text(OWN)
    model = open_model(run / "experiment.py")
    model.name = "model"
    with torch.no_grad():
        model["own"].operation.bias.fill_(7)
    checkpoint = run / "checkpoints" / "latest"
    for file in (checkpoint / MODEL_FILE, checkpoint / AVERAGED_FILE, tmp_path / "elsewhere.safetensors"):
        model.save(file)
    again = open_model("past", trained=True)
    assert again.name == "past"  # nobody has named it
    assert (again["own"].operation.bias == 7).all()
    (tmp_path / "experiment.py").write_text("raise SystemExit('this is not to be executed')")
    with pytest.raises(CodeMissing, match="model files hold no code"):
        open_model(tmp_path / "elsewhere.safetensors")

"""An experiment that does not come up: the application leaves, and the terminal says why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sessions import ELEKTRONN
from terminals import PtyTerminal

HEAD = "from elektronn_tui.training.experiment import DemoData, Experiment, Optimiser\n\n"
REFUSED = HEAD + "experiment = Experiment(model=print, data=DemoData(), bach_size=3)\n"
CRASHES = (
    HEAD
    + """
class Data:
    def open(self):
        return open("/nowhere/volume")

def model():
    from elektronn_tui.models import AggregateLoss, Conv, Input, Input_like, Model, MultinoulliNLL, Softmax

    raw = Input((1, 1, 3, 15, 15), "b,f,z,y,x", name="raw")
    probs = Softmax(Conv(raw, 2, (1, 4, 4), (1, 2, 2), activation_func="lin"))
    target = Input_like(probs, override_f=1, dtype="int64", name="target")
    loss = AggregateLoss([MultinoulliNLL(probs, target, target_is_sparse=True)], name="loss")
    return Model(input_node=raw, target_node=target, loss_node=loss, prediction_node=probs)

experiment = Experiment(model=model, data=Data())
"""
)
DIES = HEAD + "import os\nos.write(2, b'last words\\n')\nos._exit(7)\n"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("f")
    for name, variable in (("home", "ELEKTRONN_HOME"), ("run", "ELEKTRONN_RUNTIME")):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(folder / name))
    return folder / "home"


def left(text: str, tmp_path: Path) -> tuple[int, str]:
    """Open the application on an experiment that fails; return the exit code, and what the terminal shows then."""
    file = tmp_path / "mine.py"
    file.write_text(text)
    with PtyTerminal([ELEKTRONN, "tui", str(file)]) as terminal:
        code = terminal.wait(60.0)
        deadline = time.monotonic() + 10
        # The emulator has one screen: what is written after the alternate one was left comes last.
        while "elektronn: " not in terminal.written()[-4000:] and time.monotonic() < deadline:
            time.sleep(0.02)
        _, _, after = terminal.written().rpartition("\x1b[?1049l")
    return code, after


def test_a_refused_experiment_is_one_line_and_exit_code_1(tmp_path: Path, home: Path) -> None:
    code, text = left(REFUSED, tmp_path)
    assert code == 1
    assert "bach_size" in text
    assert "Did you mean 'batch_size'" in text
    assert "Traceback" not in text
    assert text.count("elektronn: ") == 1
    assert not list((home / "runs").iterdir())


def test_an_experiment_that_crashes_shows_its_traceback_and_is_exit_code_4(tmp_path: Path, home: Path) -> None:
    code, text = left(CRASHES, tmp_path)
    assert code == 4
    assert "Traceback (most recent call last)" in text
    assert 'open("/nowhere/volume")' in text
    assert "elektronn: FileNotFoundError" in text


def test_a_worker_that_dies_without_a_word_is_said_to_have_died(tmp_path: Path) -> None:
    code, text = left(DIES, tmp_path)
    assert code == 4
    assert "the worker died before it was up (exit code 7)" in text
    assert "last words" in text

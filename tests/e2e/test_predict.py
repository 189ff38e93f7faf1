"""Prediction beside a training that goes on: the command, the console, and what is left."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_experiment
from sessions import ELEKTRONN, end, status, wait_until

from elektronn_tui.models import load_model
from elektronn_tui.session.blocking import ask
from elektronn_tui.session.launch import Order, start_worker
from elektronn_tui.session.protocol import Execute, GetJobs, JobInfo, Pause, Resume
from elektronn_tui.session.registry import Entry


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the volume is, and commands are given."""
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[Entry]:
    """A session of a tiny network that averages its weights."""
    runtime = tempfile.mkdtemp(prefix="el-")
    tiny_experiment.volume(folder / "volume.h5")
    file = tiny_experiment.write(folder, "validate_patches=2,", 'validate_patches=2,\n    averaging="ema",')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELEKTRONN_HOME", str(folder / "home"))
        patch.setenv("ELEKTRONN_RUNTIME", runtime)
        entry = start_worker(Order(experiment=str(file), name="tiny"))
        yield entry
        end(entry)
    shutil.rmtree(runtime, ignore_errors=True)


def raw(folder: Path) -> np.ndarray:
    with h5py.File(folder / "volume.h5") as file:
        return file["raw"][()][None]


def jobs_of(session: Entry) -> tuple[JobInfo, ...]:
    return ask(session.socket, GetJobs())[0].jobs


def elektronn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ELEKTRONN, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_a_running_session_predicts_a_volume_and_trains_on(session: Entry, folder: Path) -> None:
    command = ("predict", "tiny", "volume.h5:raw", "out.h5:probs", "--uint8", "--weights", "current")
    step = status(session).status.step
    done = elektronn(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "job 1 finished: volume.h5:raw → out.h5:probs\n"  # the first test of this module
    (listed,) = json.loads(elektronn("jobs", "tiny", "--json", cwd=folder).stdout)
    assert listed["state"] == "finished"
    assert step < listed["step"] < status(session).status.step
    with h5py.File(folder / "out.h5") as file:  # relative to where the command was given
        predicted = file["probs"][()]
    model = load_model(Path(listed["directory"]) / "model.safetensors")
    np.testing.assert_allclose(predicted, model.predict_dense(raw(folder), as_uint8=True), atol=8)  # in bf16
    assert model.extra["weights"] == "current"


def test_the_console_predicts_with_the_average_of_the_step_where_it_is(session: Entry, folder: Path) -> None:
    code = (
        f"weights = {{'current': float(model['conv'].w.abs().sum())}}\n"
        "with trainer.updater.averaging.applied():\n"
        "    weights['averaged'] = float(model['conv'].w.abs().sum())\n"
        f"job = predict({str(folder / 'volume.h5:raw')!r}, {str(folder / 'averaged.h5')!r}); job.wait()\n"
        "weights, job.state"
    )
    _, run, _ = ask(session.socket, Pause(), Execute(code=code), Resume())
    weights, state = ast.literal_eval(run.output)
    assert state == "finished", run.error
    job = jobs_of(session)[-1]
    model = load_model(Path(job.directory) / "model.safetensors")
    assert (model.extra["weights"], model.extra["step"]) == ("averaged", str(job.step))
    assert float(model["conv"].w.detach().abs().sum()) == pytest.approx(weights["averaged"])
    assert weights["averaged"] != pytest.approx(weights["current"], rel=1e-7)
    with h5py.File(folder / "averaged.h5") as file:
        np.testing.assert_allclose(file["prediction"], model.predict_dense(raw(folder)), atol=0.03)  # in bf16


def test_wrong_arguments_are_refused_before_anything_is_made(session: Entry, folder: Path) -> None:
    before = sorted((Path(session.run_dir) / "jobs").glob("*"))
    for code, words in (
        ("predict('a.h5', 'b.h5', unit8=True)", "unrecognized arguments: --unit8"),
        ("predict('a.h5', 'b.h5', weights='best')", "invalid choice: 'best'"),
    ):
        (run,) = ask(session.socket, Execute(code=code))
        assert words in run.error
    assert sorted((Path(session.run_dir) / "jobs").glob("*")) == before
    (failed,) = ask(session.socket, Execute(code="job = predict('not/there.h5', 'b.h5'); job.wait(); job"))
    assert "failed: " in failed.output
    assert "there.h5" in failed.output


def test_ctrl_c_leaves_the_job_and_says_how_to_cancel_it(session: Entry, folder: Path) -> None:
    number = len(jobs_of(session)) + 1
    os.mkfifo(folder / "never.h5")  # opening it waits for ever
    command = [ELEKTRONN, "predict", "tiny", "never.h5", "never-made.h5"]
    waiting = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)

    def running() -> bool:
        return [job.state for job in jobs_of(session)[number - 1 :]] == ["running"]

    wait_until(running, "the job runs")
    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert f"elektronn jobs tiny --cancel {number}" in stderr
    assert running()
    assert elektronn("jobs", "tiny", "--cancel", str(number), cwd=folder).stdout == f"job {number} is cancelled\n"
    wait_until(lambda: not running(), "it ends")
    listed = elektronn("jobs", "tiny", cwd=folder).stdout.splitlines()
    assert listed[-1].split()[:3] == [str(number), "predict", "cancelled"]


def test_what_only_a_session_can_do_is_refused_for_a_file(session: Entry, folder: Path) -> None:
    done = elektronn("predict", "model.safetensors", "in.h5", "out.h5", "--detach", cwd=folder)
    assert (done.returncode, "--detach is for those alone" in done.stderr) == (1, True)

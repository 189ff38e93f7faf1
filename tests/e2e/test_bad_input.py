"""Bad input with real workers: one clear line, nothing left behind; and sessions that train on whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import tiny_experiment
from sessions import ELEKTRONN, end, status, wait_for_state, wait_until

from elektronn_tui.session.registry import SessionInfo, find

CONSOLE_GOES_ON = [
    ("1 / 0", 1, "ZeroDivisionError"),
    ("raise BaseException('odd')", 1, "odd"),
    ("raise KeyboardInterrupt", 1, "interrupted"),
    ("import sys; sys.exit(3)", 0, "ends the session; exit() does neither"),
    ("input()", 1, "EOFError"),
    ("def f(): return f()\nf()", 1, "RecursionError"),
    ("class A:\n  def __repr__(self): raise ValueError('no repr')\nA()", 0, "no repr"),
    ("model = None", 0, ""),
    ("optimiser = trainer.batch = None; del np", 0, ""),
]


def run(*arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ELEKTRONN, *arguments], capture_output=True, text=True, check=False, timeout=timeout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experiments and the volumes that they are about."""
    folder = tmp_path_factory.mktemp("bad")
    write = tiny_experiment.volume
    labels = np.zeros(tiny_experiment.SHAPE, np.int64)
    labels[4:] = 1
    raw = np.full(tiny_experiment.SHAPE, 7, np.uint8)
    write(folder / "volume.h5")
    write(folder / "large-labels.h5", raw=raw[:, :40, :40])
    write(folder / "odd-labels.h5", labels=labels[:, :41, :40])
    write(folder / "small.h5", raw=raw[:, :8, :8], labels=labels[:, :8, :8])
    write(folder / "small-labels.h5", labels=labels[:, :4, :4])
    write(folder / "ids.h5", labels=labels * 5)
    write(folder / "channels.h5", raw=np.stack([raw] * 3))
    write(folder / "channels-last.h5", raw=np.stack([raw] * 3, -1))
    write(folder / "flat.h5", raw=raw[0], labels=labels[0])
    nan = raw.astype(np.float32)
    nan[3, 4, 5] = np.nan
    write(folder / "nan.h5", raw=nan)
    (folder / "text.h5").write_text("not HDF5 at all\n" * 100)
    whole = (folder / "volume.h5").read_bytes()
    (folder / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    tiny_experiment.write(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def refused(home: Path, *arguments: str) -> str:
    """Train what can't be trained; return the one line that says why, after a look at what was left."""
    done = run("train", *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("elektronn: ")
    for place in (home / "runs", home / "registry", home.parent / "run"):
        assert not place.exists() or list(place.iterdir()) == []
    return line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps=1_000_000", "stepz=30", "broken.py, line 15: Experiment has no setting 'stepz'. Did you mean 'steps'?"),
        ("steps=1_000_000", "steps='many'", "steps: the text 'many' is not allowed; it must be a whole number ≥ 1"),
        ("steps=1_000_000", "steps=0", "steps: 0 is not allowed; it must be a whole number ≥ 1"),
        ("steps=1_000_000", "optimiser=Optimiser('Adm')", "optimiser.name: Adm is not allowed; it must be one of SGD"),
        ("target=", "traget=", "VolumeData has no setting 'traget'. Did you mean 'target'?"),
        ("steps=1_000_000,", "steps=1 2", "broken.py, line 18: invalid syntax. Perhaps you forgot a comma?"),
        ("experiment = ", "1 / 0\nexperiment = ", "broken.py, line 15: ZeroDivisionError: division by zero"),
        ("experiment = ", "experimant = ", "it defines no 'experiment'"),
        ("experiment = Experiment(", "experiment = dict(", "'experiment' is of type dict; it must be an Experiment"),
        (
            "4, (1, 3, 3)",
            "4, (1, 13, 3)",
            "broken.py, line 8: Conv 'conv' (4 features, kernel 1,13,3, relu): axis y of size 12 is too small for "
            "filter 13; 13 would fit.",
        ),
        ("4, (1, 3, 3)", "4, (1, 3, 3), n_ff=3", "broken.py, line 8: TypeError: Conv.__init__() got an unexpected"),
        ("    return Model", "    Model", "broken.py: model: the function returned NoneType; it must return a Model"),
        ("steps=1_000_000", "schedules={'lrr': StepDecay(0.5)}", "broken.py: schedules: no control is called 'lrr'"),
        ("steps=1_000_000", "class_weights=(0, 0)", "class_weights, for nll: [0.0, 0.0] is 0 everywhere"),
        ("out, 2, ", "out, 1, ", "line 11: MultinoulliNLL 'nll' needs 2 classes at least"),
    ],
)
def test_a_broken_experiment_is_refused_in_one_line(home: Path, folder: Path, old: str, new: str, said: str):
    file = tiny_experiment.write(folder, old, new, "broken.py")
    assert said in refused(home, str(file))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("stepps=1", "tiny.py, with stepps=1: stepps: there is no such setting. Did you mean 'steps'?"),
        ("data.pat=x", "data.pat: VolumeData has no such setting. Did you mean 'path'?"),
        ("lr=-1", "optimiser.lr: -1 is not allowed; it must be a number > 0"),
        ("conv.dropout_rate=0.5", "no such setting or control. Controls of this network: nll.class_weights"),
        ("nll.class_weight=1,2", "Did you mean 'nll.class_weights'?"),
        ("nll.class_weights=1,2,3", "nll.class_weights: 1,2,3 is not allowed; it must be 2 numbers, each ≥ 0"),
        ("data.raw_key=image", "volume.h5 has no dataset 'image'; it holds labels, raw."),
        ("data.valid_slices=16", "data.valid_slices: pair"),
        ("data.valid_slices=1", "validation (data.valid_slices=1): "),
        ("data.valid_slices=14", "training (data.valid_slices=14): "),
        ("data.ignore=0,1", "has no label that counts"),
        ("device=cuda:99", "device: cuda:99 is not there"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_in_one_line(home: Path, folder: Path, setting: str, said: str):
    assert said in refused(home, str(folder / "tiny.py"), "--set", setting)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("missing.h5", "tiny.py: data.path: there is no file "),
        ("", "is a folder; it must be a file"),
        ("text.h5", "text.h5 can't be opened: it is no HDF5 file."),
        ("truncated.h5", "truncated.h5 can't be opened: the file is truncated"),
        ("large-labels.h5", "shape (16, 48, 48), reaches out of "),
        ("odd-labels.h5", "the difference is odd"),
        ("small.h5", "needs 12 raw voxels along y, there are 8: use a smaller patch or a larger volume."),
        ("small-labels.h5", "needs 8 target voxels along y, there are 4"),
        ("ids.h5", "labels: voxel (4, 0, 0) (z, y, x) is 5: with 2 classes labels are 0 to 1"),
        ("channels.h5", "Input((1, 3, ...), ...) would fit"),
        ("channels-last.h5", "seems to have its 3 channels last"),
        ("flat.h5", "has 2 axes, shape (48, 48); a volume has three"),
        ("nan.h5", "voxel (3, 4, 5) (z, y, x) is NaN or infinite"),
    ],
)
def test_volumes_that_do_not_fit_are_refused_in_one_line(home: Path, folder: Path, file: str, said: str):
    line = refused(home, str(folder / "tiny.py"), "--set", f"data.path={folder / file}")
    assert said in line
    assert file in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "stepps=1"), "Did you mean 'steps'?"),
        (("--set", "data.raw_key=image"), "it holds labels, raw."),
        (("--set", "nll.class_weight=1,2"), "Did you mean 'nll.class_weights'?"),
        (("--name", "a/b"), "'a/b' can't be a session's name"),
    ],
)
def test_in_the_background_it_is_the_same(home: Path, folder: Path, arguments: tuple[str, ...], said: str):
    assert said in refused(home, str(folder / "tiny.py"), "--detach", *arguments)


@pytest.mark.parametrize("arguments", [("--set", "steps"), ("--set", "=3"), ("--steps", "0"), ("--on-nan", "x")])
def test_what_can_not_be_meant_is_a_matter_of_usage(home: Path, folder: Path, arguments: tuple[str, ...]):
    done = run("train", str(folder / "tiny.py"), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert not (home / "runs").exists()


def start(folder: Path, *settings: str, name: str = "live") -> SessionInfo:
    chosen = [word for setting in settings for word in ("--set", setting)]
    started = run("train", str(folder / "tiny.py"), "--detach", "--name", name, *chosen)
    assert started.returncode == 0, started.stderr
    return find(name)


@pytest.fixture
def live(home: Path, folder: Path) -> Iterator[SessionInfo]:
    entry = start(folder)
    try:
        yield entry
    finally:
        end(entry)


def logged(text: str) -> str:
    log = run("log", "live").stdout
    return log if text in log else ""


def goes_on(entry: SessionInfo) -> None:
    step = status(entry).status.step
    wait_until(lambda: status(entry).status.step > step + 5, "training going on")


def state(entry: SessionInfo) -> str:
    return status(entry).status.state


def test_nothing_that_a_statement_does_stops_the_training(live: SessionInfo):
    for code, exit_code, said in CONSOLE_GOES_ON:
        done = run("exec", "live", code)
        assert done.returncode == exit_code, (code, done)
        assert said in done.stdout + done.stderr, code
        goes_on(live)
    done = run("exec", "live", "print('x' * 10_000_000)")
    assert 100_000 < len(done.stdout) < 101_000
    assert done.stdout.endswith("characters more\n")
    for value in ("fast", "-1", "nan", "1e999", ""):
        done = run("set", "live", f"lr={value}")
        assert done.returncode == 1, value
        assert done.stderr.startswith(f"elektronn: lr: {value}"), done.stderr
    goes_on(live)


def test_a_trainer_that_a_statement_broke_halts_and_goes_on_mended(live: SessionInfo):
    for broken, mended in (
        ("kept = trainer.prefetcher; del trainer.prefetcher", "trainer.prefetcher = kept"),
        ("kept = trainer.model; trainer.model = None", "trainer.model = kept"),
        ("kept = trainer.settings; trainer.settings = None", "trainer.settings = kept"),
    ):
        assert run("exec", "live", broken).returncode == 0
        wait_until(lambda: state(live) == "halted", f"{broken} halting")
        assert "Error" in status(live).status.reason
        assert "Traceback" in run("log", "live").stdout
        assert run("resume", "live").returncode == 0  # nothing was mended
        wait_until(lambda: state(live) == "halted", f"{broken} halting again")
        assert run("exec", "live", mended).returncode == 0
        assert run("resume", "live").returncode == 0
        goes_on(live)


def gone(file: Path) -> None:
    file.unlink()


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:3000])


def replaced(file: Path) -> None:
    h5py.File(file.parent / "other.h5", "w").close()
    (file.parent / "other.h5").replace(file)


def locked(file: Path) -> None:
    file.chmod(0)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (gone, "volume.h5 doesn't exist"),
        (truncated, "volume.h5 can't be opened: the file is truncated"),
        (replaced, "volume.h5 has no dataset '"),
        pytest.param(
            locked,
            "you may not read it",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read all files"),
        ),
    ],
)
def test_data_that_go_away_halt_the_training_until_they_are_back(
    home: Path, tmp_path: Path, harm: Callable[[Path], None], said: str
):
    file = tiny_experiment.volume(tmp_path / "volume.h5")
    tiny_experiment.write(tmp_path)
    shutil.copy(file, tmp_path / "copy.h5")
    entry = start(tmp_path, "data.in_memory=false", "checkpoint_every=1")
    try:
        assert run("pause", "live").returncode == 0
        harm(file)
        code = "[p.raw.close() or p.target.close() for p in trainer.supply.pairs]; trainer.prefetcher.invalidate(0)"
        closed = run("exec", "live", code)
        assert closed.returncode == 0, closed.stderr
        step = status(entry).status.step
        assert run("resume", "live").returncode == 0
        wait_until(lambda: state(entry) == "halted", "halting")
        assert said in status(entry).status.reason
        assert status(entry).status.step <= step + 4  # what was made already
        log = logged("Traceback")
        assert "raised while a data thread made the batch" in log
        assert ("trying again in 0.1 s" in log) == (harm is not replaced)  # which no waiting mends
        shutil.copy(tmp_path / "copy.h5", tmp_path / "back.h5")
        (tmp_path / "back.h5").replace(file)
        step = status(entry).status.step
        assert run("resume", "live").returncode == 0
        goes_on(entry)

        def steps() -> list[int]:
            return json.loads(run_json("history", "live", "loss"))["loss"]["step"]

        wait_until(lambda: len(steps()) > step, "what is on disk of the history")
        found = steps()
        assert found == list(range(1, len(found) + 1))
    finally:
        end(entry)


def test_a_bug_in_a_data_thread_halts_the_training_at_once(live: SessionInfo):
    broken = (
        "kept = trainer.supply.batch\n"
        "def broken_batch(*_): return {}['raw']\n"
        "trainer.supply.batch = broken_batch; trainer.prefetcher.invalidate(0)"
    )
    assert run("exec", "live", broken).returncode == 0
    wait_until(lambda: state(live) == "halted", "halting")
    assert "KeyError: 'raw'" in status(live).status.reason
    log = logged("Traceback")
    assert "broken_batch" in log
    assert "raised while a data thread made the batch" in log
    assert "trying again" not in log
    assert run("exec", "live", "trainer.supply.batch = kept").returncode == 0
    assert run("resume", "live").returncode == 0
    goes_on(live)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="a small file system needs root to mount it")
def test_a_full_disk_costs_checkpoints_and_not_the_training(home: Path, folder: Path):
    entry = start(folder, "checkpoint_every=20", "keep=1")
    checkpoints = Path(entry.run_dir) / "checkpoints"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(checkpoints)], check=False)
    try:
        if mounted.returncode:
            pytest.skip("no small file system can be mounted here")
        (checkpoints / "ballast").write_bytes(bytes(60_000))
        log = wait_until(lambda: logged("training goes on without it"), "a word of it")
        assert "No space left on device" in log
        goes_on(entry)
        refusal = run("stop", "live")
        assert refusal.returncode == 1
        assert "stop --now ends it without a checkpoint" in refusal.stderr
        (checkpoints / "ballast").unlink()
        goes_on(entry)
        assert run("save", "live", "mine").returncode == 0
    finally:
        end(entry)
        if not mounted.returncode:
            subprocess.run(["umount", "-l", str(checkpoints)], check=True)


@pytest.mark.parametrize(("policy", "then"), [("pause", "paused"), ("rollback", "running"), ("stop", "stopped")])
def test_a_loss_that_is_not_finite_follows_the_policy(home: Path, folder: Path, policy: str, then: str):
    entry = start(folder, f"on_nan={policy}", "checkpoint_every=10")
    try:
        wait_until(lambda: status(entry).status.step > 20, "a checkpoint to go back to")
        broken = "import torch\nwith torch.no_grad(): next(model.module.parameters()).fill_(float('nan'))"
        assert run("exec", "live", broken).returncode == 0
        if policy == "stop":
            assert wait_for_state(entry.run_dir, "stopped", "failed") == then
        else:
            log = wait_until(lambda: logged("the loss is nan"), "a word of it")
            wait_until(lambda: state(entry) == then, then)
            if policy == "rollback":
                assert "rolled back to the weights of step" in log
                goes_on(entry)
        assert list((Path(entry.run_dir) / "bad-batches").glob("*.npz"))
    finally:
        end(entry)


def test_sigterm_saves_and_kill_leaves_checkpoints_that_load(home: Path, folder: Path):
    gentle, hard = start(folder, name="gentle"), start(folder, "checkpoint_every=10", name="hard")
    try:
        wait_until(lambda: status(hard).status.step > 20, "a checkpoint")
        os.kill(hard.pid, signal.SIGKILL)
        os.kill(gentle.pid, signal.SIGTERM)
        assert wait_for_state(gentle.run_dir, "stopped", "failed") == "stopped"
        states = {run["name"]: run["state"] for run in json.loads(run_json("ls", "--all"))}
        assert states == {"gentle": "stopped", "hard": "lost"}
        for entry in (gentle, hard):
            files = sorted((Path(entry.run_dir) / "checkpoints").glob("step-*/*.safetensors"))
            assert files
            from elektronn_tui.models import load_model

            models = [file for file in files if "model" in file.name]
            assert load_model(models[-1]).param_count > 0
    finally:
        end(gentle)
        end(hard)


def run_json(*arguments: str) -> str:
    return run(*arguments, "--json").stdout


def foreground(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [ELEKTRONN, "train", str(folder / "tiny.py"), "--name", "front", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_of_a_foreground_training_saves_and_is_no_failure(home: Path, folder: Path):
    process = foreground(folder, "--json")
    wait_for_state(home / "runs" / "front", "running")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    document = json.loads(stdout)
    assert (document["name"], document["state"], document["reason"]) == ("front", "stopped", "interrupted (Ctrl-C)")
    assert (home / "runs" / "front" / "checkpoints").exists()
    assert not set(stderr) & set(map(chr, range(32))) - {"\n"}
    assert len(stderr.splitlines()) < 20


def test_an_error_of_a_foreground_training_is_a_failure(home: Path, folder: Path):
    process = foreground(folder)
    wait_for_state(home / "runs" / "front", "running")
    assert run("exec", "front", "trainer.model = None").returncode == 0
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "AttributeError" in stderr
    assert run("ls").stdout.count("front") == 0


def test_a_metric_that_is_not_there_is_refused(live: SessionInfo):
    done = run("history", "live", "valid_loss")
    assert done.returncode == 1
    assert "no metric" in done.stderr

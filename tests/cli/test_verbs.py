"""Every verb as a person or a script uses it: the installed command, a real session, real exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import ELEKTRONN, end, running, status, wait_for_state, wait_until

from elektronn_tui.session.registry import Entry


def run(*arguments: str, stdin: str | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ELEKTRONN, *arguments], capture_output=True, text=True, input=stdin, check=False, timeout=timeout
    )


def documents(*arguments: str) -> object:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def session(home: Path) -> Iterator[Entry]:
    with running("idle", name="walk") as entry:
        yield entry


def test_set_get_undo_redo_answer_with_receipts(session: Entry):
    said = run("set", "walk", "lr=1e-4", "momentum=0.5")
    assert said.returncode == 0
    first, second = said.stdout.splitlines()
    assert first.startswith("lr 0.001 → 0.0001, applied at step ")
    assert second.startswith("momentum 0.9 → 0.5, applied at step ")
    assert documents("get", "walk", "lr")["lr"]["value"] == 1e-4
    receipts = documents("undo", "walk")
    assert {r["control"]: (r["old"], r["new"]) for r in receipts} == {"lr": (1e-4, 1e-3), "momentum": (0.5, 0.9)}
    assert documents("get", "walk", "lr")["lr"]["value"] == 1e-3
    redone = documents("redo", "walk")
    assert {r["control"]: r["new"] for r in redone} == {"lr": 1e-4, "momentum": 0.5}
    assert all(r["step"] > 0 for r in redone)
    kinds = [entry["kind"] for entry in documents("journal", "walk")]
    assert kinds == ["set", "undo", "redo"]


def test_a_scheduled_control_goes_on_from_the_value_or_is_pinned(session: Entry):
    assert run("set", "walk", "noise=0.5").stdout.rstrip().endswith("schedule continues")
    assert run("set", "walk", "noise=0.25", "lr=0.5", "--pin").stdout.count("schedule pinned") == 1
    noise = documents("get", "walk", "noise")["noise"]
    assert (noise["value"], noise["pinned"], noise["edits"]) == (0.25, True, 2)
    assert run("set", "walk", "noise=schedule").returncode == 0
    assert documents("get", "walk", "noise")["noise"]["pinned"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("set", "walk", "lr=fast"), 1, "lr: fast is not allowed; it must be"),
        (("set", "walk", "lr=-1"), 1, "lr: -1"),
        (("set", "walk", "lr=nan"), 1, "lr: nan"),
        (("set", "walk", "learning_rate=1"), 1, "no control is called 'learning_rate'"),
        (("set", "walk", "l=1"), 1, "Did you mean 'lr'?"),
        (("set", "walk", "lr"), 2, "'lr' is not CONTROL=VALUE"),
        (("set", "nobody", "lr=1"), 3, "no session goes by 'nobody'. Running: walk"),
        (("exec", "walk", "1 / 0"), 1, "ZeroDivisionError"),
        (("exec", "walk", "x ="), 1, "SyntaxError"),
        (("save", "walk"), 1, "has not said how it is saved"),
        (("undo", "walk"), 1, "nothing"),
        (("stop", "wlak"), 3, "Did you mean 'walk'?"),
        (("gett", "walk"), 2, "Did you mean 'get'?"),
    ],
)
def test_refusals_say_why_and_training_goes_on(session: Entry, arguments: tuple[str, ...], code: int, said: str):
    done = run(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert documents("ls")[0]["state"] == "running"


def test_nothing_of_several_controls_is_set_when_one_is_refused(session: Entry):
    assert run("set", "walk", "momentum=0.1", "lr=-3").returncode == 1
    assert documents("get", "walk", "momentum")["momentum"]["value"] == 0.9


def test_pause_and_resume(session: Entry):
    assert run("pause", "walk").returncode == 0
    (paused,) = documents("ls")
    assert paused["state"] == "paused"
    assert documents("ls")[0]["step"] == paused["step"]
    assert documents("set", "walk", "lr=0.5")[0]["step"] == paused["step"] + 1
    assert run("resume", "walk").returncode == 0
    deadline = time.monotonic() + 20
    while documents("ls")[0]["step"] <= paused["step"]:
        assert time.monotonic() < deadline


def test_exec_reads_and_writes_what_lasts_between_commands(session: Entry):
    assert run("exec", "walk", "-", stdin="x = 20\nfor i in range(3):\n    x += i\n").returncode == 0
    assert run("exec", "walk", "x * 2").stdout == "46\n"
    assert documents("exec", "walk", "print('a'); x")["output"] == "a\n23\n"


def test_interrupting_a_statement_that_never_ends_leaves_the_training_alone(session: Entry):
    process = subprocess.Popen([ELEKTRONN, "exec", "walk", "while True: pass"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: status(session).status.running_statement, "the statement running")
    held = json.loads(run("ls", "--json").stdout)[0]["step"]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "interrupted; training goes on" in process.stderr.read()
    wait_until(lambda: status(session).status.step > held, "training going on")


def test_a_statement_whose_client_is_killed_does_not_hold_the_training_for_ever(session: Entry):
    process = subprocess.Popen([ELEKTRONN, "exec", "walk", "while True: pass"])
    wait_until(lambda: status(session).status.running_statement, "the statement running")
    step = status(session).status.step
    process.kill()
    process.wait(20)
    wait_until(lambda: status(session).status.step > step, "training going on")
    assert [entry["kind"] for entry in documents("journal", "walk")] == ["statement", "interrupt"]


def test_history_as_numbers_csv_and_plot(session: Entry):
    deadline = time.monotonic() + 20
    while len(documents("history", "walk").get("loss", {}).get("step", ())) < 60:
        assert time.monotonic() < deadline
    series = documents("history", "walk", "loss", "valid_loss")
    assert series["loss"]["step"][:3] == [1, 2, 3]
    assert len(series["loss"]["step"]) == len(series["loss"]["value"])
    lines = run("history", "walk", "valid_loss", "--csv").stdout.splitlines()
    assert lines[0] == "metric,step,time,value"
    assert lines[1].startswith("valid_loss,50,")
    assert "loss" in run("history", "walk", "loss", "--plot").stdout
    assert run("history", "walk", "los").returncode == 1


def test_a_followed_log_ends_with_its_session(session: Entry):
    process = subprocess.Popen([ELEKTRONN, "log", "walk", "-f", "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["index"] == 0
    assert run("stop", "walk").returncode == 0
    rest = [json.loads(line) for line in process.stdout]
    assert process.wait(20) == 0
    assert "stopped" in rest[-1]["text"]
    assert [line["index"] for line in rest] == list(range(1, len(rest) + 1))


def test_a_session_that_ended_can_be_looked_at_and_not_changed(session: Entry):
    assert run("stop", "walk").returncode == 0
    wait_for_state(session.run_dir, "stopped")
    assert documents("ls") == []
    (past,) = documents("ls", "--all")
    assert (past["name"], past["state"]) == ("walk", "stopped")
    refused = run("set", "walk", "lr=1")
    assert refused.returncode == 1
    assert "does not run any more (stopped" in refused.stderr
    resumed = run("resume", "walk")
    assert resumed.returncode == 1
    assert "can't be resumed" in resumed.stderr
    assert run("log", "walk").returncode == 0
    assert run("history", "walk").returncode == 0


def test_a_killed_session_is_lost_and_its_socket_stale(session: Entry):
    os.kill(session.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while documents("ls"):
        assert time.monotonic() < deadline
    assert documents("ls", "--all")[0]["state"] == "lost"
    assert run("get", "walk").returncode == 1
    assert not Path(session.socket).exists()
    end(session)


def test_a_socket_that_nobody_answers_is_no_connection(session: Entry):
    os.kill(session.pid, signal.SIGSTOP)
    try:
        done = run("get", "walk")
        assert done.returncode == 5
        assert "does not answer" in done.stderr
        assert documents("ls")[0]["name"] == "walk"
    finally:
        os.kill(session.pid, signal.SIGCONT)


def test_prefixes_and_ids_name_a_session(session: Entry):
    assert run("get", "wa").returncode == 0
    assert run("get", session.id).returncode == 0
    with running("idle", name="wander"):
        ambiguous = run("get", "wa")
        assert ambiguous.returncode == 3
        assert "walk, wander" in ambiguous.stderr


def test_the_application_needs_a_terminal(session: Entry):
    done = run("attach", "walk")
    assert done.returncode == 1
    assert "needs a terminal" in done.stderr


def test_new_lists_and_copies_without_overwriting(tmp_path: Path):
    names = [example["name"] for example in documents("new")]
    assert {"fib25", "gru", "lstm", "membranes", "piano"} <= set(names)
    target = tmp_path / "mine.py"
    assert run("new", "membranes", str(target)).returncode == 0
    assert "experiment = Experiment(" in target.read_text()
    again = run("new", "membranes", str(target))
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert "Did you mean 'membranes'?" in run("new", "membrane").stderr


def test_doctor_finds_nothing_bad_in_a_fresh_home():
    findings = documents("doctor")
    assert {"packages", "home", "sockets", "sessions"} <= {finding["check"] for finding in findings}
    assert [finding for finding in findings if finding["verdict"] == "bad"] == []


def test_doctor_names_a_socket_directory_that_others_can_enter(home: Path):
    os.chmod(os.environ["ELEKTRONN_RUNTIME"], 0o755)
    done = run("doctor")
    assert done.returncode == 1
    assert "chmod 700" in done.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("set", "--help"), ("train", "--help"), ("--version",)])
def test_help_is_there(arguments: tuple[str, ...]):
    done = run(*arguments)
    assert done.returncode == 0
    assert "elektronn" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "membrans"), 1, "Did you mean 'membranes'?"),
        (("train", "no/such/file.py"), 1, "there is no experiment file"),
        (("train", "membranes", "--set", "lr"), 2, "is not KEY=VALUE"),
        (("train", "membranes", "--steps", "0"), 2, "must be 1 or more"),
    ],
)
def test_an_experiment_that_can_not_be_meant_starts_nothing(
    home: Path, arguments: tuple[str, ...], code: int, said: str
):
    done = run(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert documents("ls", "--all") == []

"""Real workers: how they come up, what ends them, and how."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_loop import PLAIN_LOOPS, wait_until

from elektronn_tui.errors import SessionError
from elektronn_tui.session import registry
from elektronn_tui.session.blocking import BlockingClient, ask
from elektronn_tui.session.errors import LaunchError
from elektronn_tui.session.launch import Order, follow_start, prepared, start_worker, worker_environment
from elektronn_tui.session.protocol import (
    Ended,
    Execute,
    GetLog,
    GetStatus,
    Interrupt,
    Pause,
    Ping,
    Resume,
    SetControls,
    Stop,
    Subscribe,
    encode,
)
from elektronn_tui.session.registry import Entry, SessionFile

Start = Callable[..., Entry]


def order(loop: str = "train", **more: Any) -> Order:
    return Order(experiment=str(PLAIN_LOOPS), entry=f"{PLAIN_LOOPS}:{loop}", **more)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start workers, and end what is left of them."""
    entries: list[Entry] = []

    def starter(loop: str = "train", **more: Any) -> Entry:
        entries.append(start_worker(order(loop, **more), timeout=60))
        return entries[-1]

    yield starter
    for entry in entries:
        with contextlib.suppress(ProcessLookupError):
            os.kill(entry.pid, signal.SIGKILL)


def gone(entry: Entry) -> bool:
    return registry.liveness(entry) == "dead"


def file_of(entry: Entry) -> SessionFile:
    file = registry.read_session_file(Path(entry.run_dir))
    assert file is not None
    return file


def ended(entry: Entry) -> SessionFile:
    wait_until(lambda: gone(entry))
    return file_of(entry)


def step_of(entry: Entry) -> int:
    return int(ask(entry.socket, GetStatus())[0].status.step)


def test_it_comes_up_trains_and_finishes_after_exactly_its_steps(start: Start) -> None:
    entry = start(steps=50, name="mine")
    assert entry.name == "mine"
    file = ended(entry)
    assert (file.state, file.step, file.steps, file.reason) == ("finished", 50, 50, "")
    run_dir = Path(entry.run_dir)
    assert {"experiment.py", "session.json", "session.log", "journal.jsonl", "environment.txt", "history.sqlite"} <= {
        path.name for path in run_dir.iterdir()
    }
    assert (run_dir / "experiment.py").read_text() == PLAIN_LOOPS.read_text()
    assert not Path(entry.socket).exists()
    assert registry.sessions() == []
    (info,) = registry.sessions(past=True)
    assert (info.name, info.state, info.liveness) == ("mine", "finished", "dead")
    assert "numpy" in file.versions


def test_it_has_a_session_of_its_own_and_no_terminal(start: Start) -> None:
    entry = start()
    assert os.getsid(entry.pid) == entry.pid
    assert os.readlink(f"/proc/{entry.pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{entry.pid}/fd/2") == str(Path(entry.run_dir) / "stderr.log")


def test_its_environment_is_set_before_it_starts(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_THREAD_LIMIT", "4")
    entry = start()
    variables = Path(f"/proc/{entry.pid}/environ").read_bytes().split(b"\0")
    assert b"OMP_WAIT_POLICY=passive" in variables
    assert b"MALLOC_MMAP_THRESHOLD_=2147483647" in variables
    assert b"MALLOC_TRIM_THRESHOLD_=2147483647" in variables
    assert not any(variable.startswith(b"OMP_THREAD_LIMIT") for variable in variables)


def test_malloc_is_left_alone_when_told_so() -> None:
    assert "MALLOC_MMAP_THRESHOLD_" not in worker_environment({"ELEKTRONN_MALLOC": "default"})
    assert worker_environment({"OMP_WAIT_POLICY": "active"})["OMP_WAIT_POLICY"] == "active"
    assert "OMP_DYNAMIC" not in worker_environment({"OMP_DYNAMIC": "true"})


def test_an_experiment_that_is_refused_says_why_and_leaves_nothing(start: Start, home: Path) -> None:
    with pytest.raises(LaunchError, match=r"line 3: lr=-1 is not allowed") as caught:
        start("refuse")
    assert (caught.value.traceback, caught.value.refused) == ("", True)
    assert not list(registry.runs_directory().iterdir())
    assert registry.sessions(past=True) == []


def test_a_crash_before_the_first_step_shows_its_traceback(start: Start) -> None:
    with pytest.raises(LaunchError, match="RuntimeError: broken") as caught:
        start("crash")
    assert 'raise RuntimeError("broken")' in caught.value.traceback
    assert not caught.value.refused


def test_a_worker_that_dies_without_a_word_shows_its_last_ones(start: Start) -> None:
    with pytest.raises(LaunchError, match="exit code 7") as caught:
        start("die")
    assert "last words" in caught.value.traceback


@pytest.mark.parametrize(
    ("loop", "refused", "message", "traceback"),
    [
        ("refuse", True, "lr=-1 is not allowed", ""),
        ("crash", False, "RuntimeError: broken", 'raise RuntimeError("broken")'),
        ("die", False, "exit code 7", "last words"),
    ],
)
def test_a_start_that_is_followed_tells_how_it_failed(
    home: Path, loop: str, refused: bool, message: str, traceback: str
) -> None:
    start = follow_start(order(loop), timeout=60)
    told: list[LaunchError] = []
    start.when_failed(told.append)
    assert start.settled.wait(60)
    wait_until(lambda: told)
    assert told == [start.failure]
    start.when_failed(told.append)  # who asks late is told, too
    assert len(told) == 2
    assert message in str(told[0])
    assert traceback in told[0].traceback
    assert told[0].refused == refused


def test_a_start_that_is_followed_and_succeeds_tells_nothing(home: Path) -> None:
    start = follow_start(order("train"), timeout=60)
    told: list[LaunchError] = []
    start.when_failed(told.append)
    try:
        assert start.settled.wait(60)
        wait_until(lambda: step_of(start.entry) > 0)
        assert start.failure is None
    finally:
        os.kill(start.entry.pid, signal.SIGKILL)
    assert not told


def test_clients_hear_why_a_session_never_ran(home: Path) -> None:
    entry = start_worker(order("crash_when_told"), until="bound")
    with BlockingClient(entry.socket) as client:
        client.request(Subscribe())
        (Path(entry.run_dir) / "go").touch()
        ended = next(event for event in client.events() if isinstance(event, Ended))
    assert (ended.state, ended.never_ran, ended.refused) == ("failed", True, False)
    assert 'raise RuntimeError("broken")' in ended.traceback
    wait_until(lambda: not Path(entry.run_dir).exists())


def test_a_worker_that_does_not_begin_in_time_is_ended(home: Path) -> None:
    with pytest.raises(LaunchError, match="nothing for 3 s"):
        start_worker(order("hang"), timeout=3.0)
    wait_until(lambda: not registry.sessions())
    (info,) = registry.sessions(past=True)
    assert info.state == "stopped"
    assert "before the first step" in info.reason


def test_a_loop_that_is_not_there_is_refused(start: Start) -> None:
    with pytest.raises(LaunchError, match="no loop"):
        start("nothing")


def test_a_name_that_is_taken_is_refused(start: Start) -> None:
    start(name="one", steps=1)
    with pytest.raises(SessionError, match="exists already"):
        start(name="one")


def test_killed_it_is_lost_and_its_socket_is_swept(start: Start) -> None:
    entry = start()
    ask(entry.socket, SetControls(values={"lr": 0.5}))
    os.kill(entry.pid, signal.SIGKILL)
    wait_until(lambda: gone(entry))
    (info,) = registry.sessions(past=True)
    assert (info.state, info.socket) == ("lost", "")
    assert not Path(entry.socket).exists()
    journal = (Path(entry.run_dir) / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["data"]["values"] == {"lr": 0.5}


def test_terminated_it_saves_and_is_stopped(start: Start) -> None:
    entry = start()
    wait_until(lambda: step_of(entry) > 5)
    with BlockingClient(entry.socket) as client:
        client.request(Subscribe())
        os.kill(entry.pid, signal.SIGTERM)
        last = list(client.events(timeout=10))[-1]
    assert isinstance(last, Ended)
    assert (last.state, last.reason) == ("stopped", "terminated (SIGTERM)")
    file = ended(entry)
    assert file.state == "stopped"
    saved = (Path(entry.run_dir) / "latest.txt").read_text()
    assert saved.startswith(f"{file.step} ")


def test_hung_up_it_trains_on(start: Start) -> None:
    entry = start()
    os.kill(entry.pid, signal.SIGHUP)
    step = step_of(entry)
    wait_until(lambda: step_of(entry) > step + 10)


def test_stopped_now_it_saves_nothing(start: Start) -> None:
    entry = start()
    ask(entry.socket, Stop(now=True))
    assert ended(entry).state == "stopped"
    assert not (Path(entry.run_dir) / "latest.txt").exists()


def test_stopped_while_paused_it_ends_at_once(start: Start) -> None:
    entry = start()
    ask(entry.socket, Pause(), Stop())
    assert ended(entry).state == "stopped"


def test_an_error_halts_and_resumes_or_stops_by_policy(start: Start) -> None:
    entry = start(settings={"fail_at": "5"}, on_error="halt")
    wait_until(lambda: ask(entry.socket, GetStatus())[0].status.state == "halted")
    wait_until(lambda: file_of(entry).state == "halted")
    assert "kept" in ask(entry.socket, Execute(code="frame.precious"))[0].output
    ask(entry.socket, Resume())
    wait_until(lambda: step_of(entry) > 10)

    entry = start(settings={"fail_at": "200"}, on_error="stop")
    file = ended(entry)
    assert (file.state, file.step) == ("failed", 199)
    assert "step 200 failed" in file.reason
    assert (Path(entry.run_dir) / "latest.txt").exists()
    assert "ZeroDivisionError" in (Path(entry.run_dir) / "session.log").read_text()


def test_a_statement_that_never_ends_is_interrupted_and_training_goes_on(start: Start) -> None:
    entry = start()
    for code in ("while True: pass", "import time; time.sleep(1000)", "import threading; threading.Event().wait()"):
        with BlockingClient(entry.socket) as client, BlockingClient(entry.socket) as other:
            answers: list[Any] = []
            asker = threading.Thread(
                target=lambda client=client, code=code, answers=answers: answers.append(
                    client.request(Execute(code=code))
                )
            )
            asker.start()
            number = wait_until(lambda other=other: other.request(GetStatus()).status.running_statement)
            step = other.request(GetStatus()).status.step
            other.request(Interrupt(statement=number))
            asker.join(20)
            (executed,) = answers
            assert executed.interrupted
            assert not executed.ok
            wait_until(lambda step=step: step_of(entry) > step)


def test_terminated_in_a_statement_that_never_ends_it_still_stops(start: Start) -> None:
    entry = start()
    with BlockingClient(entry.socket) as client, BlockingClient(entry.socket) as other:
        client._socket.sendall(encode(Execute(code="while True: pass"), 1))
        wait_until(lambda: other.request(GetStatus()).status.running_statement)
        os.kill(entry.pid, signal.SIGTERM)
        assert ended(entry).state == "stopped"


def test_statements_print_to_clients_and_the_loop_to_its_file(start: Start) -> None:
    entry = start()
    (executed,) = ask(entry.socket, Execute(code="print('seen')\nimport sys\nprint('too', file=sys.stderr)"))
    assert executed.output == "seen\ntoo\n"
    aside = "import threading as t\na = t.Thread(target=lambda: print('aside', flush=True))\na.start(); a.join()"
    assert ask(entry.socket, Execute(code=aside))[0].output == ""
    assert "aside" in (Path(entry.run_dir) / "stdout.log").read_text()


def test_it_says_bound_before_it_is_ready(home: Path) -> None:
    entry = start_worker(order("train"), until="bound")
    try:
        assert ask(entry.socket, Ping())
        wait_until(lambda: step_of(entry) > 0)
    finally:
        os.kill(entry.pid, signal.SIGKILL)


def foreground(terminal: bool, loop: str = "train", **more: Any) -> tuple[subprocess.Popen[bytes], int, Order]:
    """Start a worker as `elektronn train` does; return it, what it writes to, and its order."""
    ready = prepared(order(loop, foreground=True, **more))
    code = (
        "import sys, msgspec; from elektronn_tui.session.launch import Order, become_worker;"
        "become_worker(msgspec.json.decode(sys.argv[1], type=Order))"
    )
    command = [sys.executable, "-c", code, msgspec.json.encode(ready).decode()]
    ours, its = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(command, stdin=its if terminal else None, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    return process, ours, ready


def read_all(descriptor: int, timeout: float = 20.0) -> str:
    """Return what comes until the other side closes."""
    end = time.monotonic() + timeout
    content = b""
    while time.monotonic() < end and select.select([descriptor], [], [], end - time.monotonic())[0]:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # a terminal whose other side closed
            break
        if not part:
            break
        content += part
    os.close(descriptor)
    return content.decode(errors="replace")


def running(ready: Order) -> Callable[[], bool]:
    def check() -> bool:
        file = registry.read_session_file(Path(ready.run_dir))
        return file is not None and file.state == "running"

    return check


def test_in_the_foreground_lines_are_printed_and_the_exit_code_is_0(home: Path) -> None:
    process, output, _ = foreground(terminal=False, steps=250)
    text = read_all(output)
    assert process.wait(20) == 0
    assert "INFO" in text
    assert "at step 200" in text
    assert "step 250/250" in text
    assert "\x1b" not in text


def test_in_the_foreground_a_terminal_gets_a_bar(home: Path) -> None:
    process, output, ready = foreground(terminal=True, steps=600)
    text = read_all(output)
    assert process.wait(20) == 0
    assert "━" in text
    assert "step 600/600" in text
    assert Path(ready.run_dir).name in text


def test_ctrl_c_stops_cleanly_with_a_checkpoint(home: Path) -> None:
    process, output, ready = foreground(terminal=False)
    wait_until(running(ready))
    os.kill(process.pid, signal.SIGINT)
    read_all(output)
    assert process.wait(20) == 0
    file = registry.read_session_file(Path(ready.run_dir))
    assert file is not None
    assert (file.state, file.reason) == ("stopped", "interrupted (Ctrl-C)")
    assert (Path(ready.run_dir) / "latest.txt").exists()


def test_a_second_ctrl_c_stops_at_once(home: Path) -> None:
    process, output, ready = foreground(terminal=False, loop="deaf")
    wait_until(running(ready))
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: "heard" in (Path(ready.run_dir) / "deaf.txt").read_text())
    os.kill(process.pid, signal.SIGINT)
    read_all(output)
    assert process.wait(20) == 130
    file = registry.read_session_file(Path(ready.run_dir))
    assert file is not None
    assert file.state == "stopped"
    assert registry.sessions() == []


def test_in_the_foreground_a_refused_experiment_is_one_line_and_exit_code_1(home: Path) -> None:
    process, output, ready = foreground(terminal=False, loop="refuse")
    text = read_all(output)
    assert process.wait(20) == 1
    assert "elektronn: experiment.py, line 3: lr=-1 is not allowed; it must be > 0\n" in text
    assert "Traceback" not in text
    assert not Path(ready.run_dir).exists()


def test_in_the_foreground_an_error_ends_with_exit_code_4(home: Path) -> None:
    process, output, ready = foreground(terminal=False, settings={"fail_at": "20"}, on_error="stop")
    text = read_all(output)
    assert process.wait(20) == 4
    assert "ZeroDivisionError: step 20 failed" in text
    assert Path(ready.run_dir).exists()


def test_a_terminal_that_goes_away_does_not_end_the_training(home: Path) -> None:
    process, output, ready = foreground(terminal=True)
    wait_until(running(ready))
    os.close(output)  # the terminal's window is closed: its processes get SIGHUP
    os.kill(process.pid, signal.SIGHUP)
    (info,) = registry.sessions()
    try:
        step = int(ask(info.socket, GetStatus())[0].status.step)
        wait_until(lambda: ask(info.socket, GetStatus())[0].status.step > step + 200)
        (executed,) = ask(info.socket, Execute(code="import os; os.write(1, b'into the file\\n'), os.write(2, b'x')"))
        assert executed.ok
        assert "into the file" in (Path(ready.run_dir) / "stdout.log").read_text()
        assert ask(info.socket, GetLog())[0].total
    finally:
        process.kill()
        process.wait()

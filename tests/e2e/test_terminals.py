"""Sessions in real terminals: started, left, killed from under, and come back to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sessions import ELEKTRONN, running, status, wait_for_state, wait_until
from terminals import PtyTerminal, Tmux

from elektronn_tui.session.registry import Entry

needs_tmux = pytest.mark.skipif(bool(Tmux.missing()), reason=Tmux.missing() or "tmux is there")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ELEKTRONN, *arguments], capture_output=True, text=True, check=False, timeout=60)


pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def session(home: Path) -> Iterator[Entry]:
    with running("idle", name="walk") as entry:
        yield entry


@needs_tmux
@pytest.mark.parametrize(("columns", "rows"), [(120, 40), (80, 24)])
def test_a_session_is_watched_changed_left_and_come_back_to(session: Entry, columns: int, rows: int):
    with Tmux(columns=columns, rows=rows) as tmux:
        tmux.type(f"{ELEKTRONN} attach walk", enter=True)
        tmux.wait_for(lambda text: "● running" in text and "⠀" <= max(text, key=lambda c: "⠀" <= c <= "⣿") <= "⣿")
        assert run("set", "walk", "lr=1e-4").stdout.startswith("lr 0.001 → 0.0001, applied at step ")
        tmux.wait_for("▲")
        tmux.wait_for(lambda text: "lr 0.001 → 0.0001" in text or "lr 1.0e-3 → 1.0e-4" in text)
        tmux.press("p")
        tmux.wait_for(lambda text: "paused" in text and "● running" not in text)
        assert status(session).status.state == "paused"
        tmux.press("p")
        wait_until(lambda: status(session).status.state == "running", "the session going on")
        tmux.press("q")
        tmux.wait_for("detached from walk; it goes on")
        assert status(session).status.state == "running"
        tmux.type(f"{ELEKTRONN} attach walk", enter=True)
        tmux.wait_for("● running")


@pytest.mark.parametrize("how", ["hang up", "SIGHUP", "SIGKILL"])
def test_a_terminal_that_is_killed_takes_nothing_along(session: Entry, how: str):
    with PtyTerminal([ELEKTRONN, "attach", "walk"]) as terminal:
        terminal.wait_for("running")
        before = status(session).status
        assert before.clients == 2  # the application, and who asks
        match how:
            case "hang up":
                terminal.hang_up()
            case "SIGHUP":
                os.kill(terminal.pid, signal.SIGHUP)
            case "SIGKILL":
                os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait()
    wait_until(lambda: status(session).status.clients == 1, "the lost client being forgotten")
    wait_until(lambda: status(session).status.step > before.step + 20, "training going on")
    with PtyTerminal([ELEKTRONN, "attach", "walk"]) as terminal:
        terminal.wait_for("● running")


def test_a_session_outlives_the_terminal_that_started_it(home: Path, tmp_path: Path):
    script = tmp_path / "start.py"
    support = Path(__file__).resolve().parents[1] / "support"
    script.write_text(
        f"import sys, time; sys.path.insert(0, {str(support)!r})\n"
        "import loops\nfrom elektronn_tui.session.launch import Order, start_worker\n"
        "start_worker(Order(experiment=str(loops.HERE), name='walk', entry=loops.entry('idle')))\n"
        "print('it runs now', flush=True); time.sleep(600)\n"
    )
    with PtyTerminal([sys.executable, str(script)], environment=dict(os.environ)) as terminal:
        terminal.wait_for("it runs now")
        (found,) = json.loads(run("ls", "--json").stdout)
        worker = psutil.Process(found["pid"])
        assert worker.terminal() is None
        assert os.getsid(worker.pid) == worker.pid
        terminal.hang_up()
        terminal.wait()
    step = json.loads(run("ls", "--json").stdout)[0]["step"]
    wait_until(lambda: json.loads(run("ls", "--json").stdout)[0]["step"] > step, "training going on")
    assert run("stop", "walk").returncode == 0


def test_two_clients_see_the_same_and_a_watcher_changes_nothing(session: Entry):
    with (
        PtyTerminal([ELEKTRONN, "attach", "walk"]) as first,
        PtyTerminal([ELEKTRONN, "attach", "walk", "--read-only"], columns=100, rows=30) as second,
    ):
        first.wait_for("2 clients")
        second.wait_for("running")
        second.send("p")
        second.wait_for("read-only")
        assert status(session).status.state == "running"
        first.send("p")
        first.wait_for("paused")
        second.wait_for("paused")


def test_a_frozen_client_costs_the_session_nothing(session: Entry):
    with PtyTerminal([ELEKTRONN, "attach", "walk", "--rate", "10"]) as terminal:
        terminal.wait_for("running")
        os.kill(terminal.pid, signal.SIGSTOP)
        try:
            step = status(session).status.step
            wait_until(lambda: status(session).status.step > step + 200, "200 steps beside a frozen client")
        finally:
            os.kill(terminal.pid, signal.SIGCONT)
        terminal.wait_for(lambda text: "running" in text and "lost" not in text)


def test_garbage_on_the_socket_closes_that_connection_alone(session: Entry):
    with PtyTerminal([ELEKTRONN, "attach", "walk"]) as terminal:
        terminal.wait_for("running")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\0\0\0\x05hello", b"\0\0\0\x01\xc1"):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(20)
                stranger.connect(session.socket)
                stranger.sendall(garbage)
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(4096):
                    pass
        step = status(session).status.step
        wait_until(lambda: status(session).status.step > step, "training going on")
        assert "running" in terminal.text()


def test_a_lost_worker_is_said_to_be_lost(session: Entry):
    with PtyTerminal([ELEKTRONN, "attach", "walk"]) as terminal:
        terminal.wait_for("running")
        os.kill(session.pid, signal.SIGKILL)
        terminal.wait_for("lost")
        terminal.send("q")
        assert terminal.wait() == 0


def test_sighup_and_sigterm_of_the_worker(session: Entry):
    os.kill(session.pid, signal.SIGHUP)
    step = status(session).status.step
    wait_until(lambda: status(session).status.step > step + 10, "training going on after SIGHUP")
    os.kill(session.pid, signal.SIGTERM)
    assert wait_for_state(session.run_dir, "stopped", "failed") == "stopped"


def test_a_console_that_never_ends_is_interrupted_from_the_application(session: Entry):
    with PtyTerminal([ELEKTRONN, "attach", "walk"]) as terminal:
        terminal.wait_for("running")
        terminal.send(":")
        terminal.wait_for(lambda text: "[observe] >>>" in text and ": writes" not in text)
        terminal.send("while True: pass\r\r")
        wait_until(lambda: status(session).status.running_statement, "the statement running")
        terminal.send("\x03")
        terminal.wait_for("KeyboardInterrupt")
        step = status(session).status.step
        wait_until(lambda: status(session).status.step > step, "training going on")


def test_an_error_in_the_loop_halts_the_session_with_its_frame_in_reach(home: Path):
    with running("stubborn", name="mule") as entry, PtyTerminal([ELEKTRONN, "attach", "mule"]) as terminal:
        assert wait_for_state(entry.run_dir, "halted") == "halted"
        terminal.wait_for("halted")
        terminal.wait_for("step 5 went wrong")
        assert run("exec", "mule", "frame['step'] if isinstance(frame, dict) else frame.step").stdout == "5\n"
        assert run("stop", "mule").returncode == 0

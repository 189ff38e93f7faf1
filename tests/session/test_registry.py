"""Names, directories, and who is alive."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from elektronn_tui.errors import SessionError, SessionNotFound
from elektronn_tui.session import registry
from elektronn_tui.session.files import write_atomically
from elektronn_tui.session.launch import Order, prepared
from elektronn_tui.session.processes import process_start
from elektronn_tui.session.registry import Entry, SessionFile


def entry_of(name: str, **changes: Any) -> Entry:
    """Register this process as a session."""
    run_dir = registry.create_run("x", name)
    entry = registry.own_entry(session_id=registry.new_id(), run_dir=run_dir, experiment="x")
    entry = msgspec.structs.replace(entry, **changes)
    registry.register(entry)
    write_state(entry)
    return entry


def write_state(entry: Entry, state: Any = "running", **more: Any) -> None:
    file = SessionFile(
        id=entry.id,
        name=entry.name,
        state=state,
        host=entry.host,
        pid=entry.pid,
        started=entry.started,
        boot_id=entry.boot_id,
        process_start=entry.process_start,
        pid_namespace=entry.pid_namespace,
        **more,
    )
    write_atomically(Path(entry.run_dir) / "session.json", msgspec.json.encode(file))


def dead_process() -> tuple[int, int]:
    """Return pid and start time of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        start = process_start(process.pid)
        assert start is not None
        process.kill()
    return process.pid, start


def test_a_session_is_found_by_name_prefix_and_id(home: Path) -> None:
    entry = entry_of("membranes-1")
    other = entry_of("fib25-1")
    for text in (entry.name, "mem", entry.id):
        assert registry.find(text).id == entry.id
    assert registry.find("fib").socket == other.socket
    assert [info.name for info in registry.sessions()] == ["membranes-1", "fib25-1"]


def test_a_name_that_is_a_prefix_of_another_means_itself(home: Path) -> None:
    entry_of("run-10")
    short = entry_of("run-1")
    assert registry.find("run-1").id == short.id


def test_what_is_not_unique_lists_the_candidates(home: Path) -> None:
    entry_of("run-1")
    entry_of("run-2")
    with pytest.raises(SessionNotFound, match=r"run-1, run-2"):
        registry.find("run")


def test_a_prefix_means_the_one_that_runs(home: Path) -> None:
    pid, start = dead_process()
    entry_of("run-1", pid=pid, process_start=start)
    alive = entry_of("run-2")
    assert registry.find("run").id == alive.id


def test_what_is_not_there_has_a_suggestion(home: Path) -> None:
    entry_of("membranes-20260101-101010")
    with pytest.raises(SessionNotFound, match=r"Did you mean 'membranes-20260101-101010'"):
        registry.find("membrans")
    with pytest.raises(SessionNotFound, match="Running: membranes"):
        registry.find("zebra")
    with pytest.raises(SessionNotFound, match="no session goes by"):
        registry.find("")


def test_exact_takes_no_prefix(home: Path) -> None:
    entry_of("run-1")
    with pytest.raises(SessionNotFound):
        registry.find("run", exact=True)


def test_a_dead_session_is_lost_and_swept_with_its_socket(home: Path) -> None:
    pid, start = dead_process()
    entry = entry_of("gone", pid=pid, process_start=start)
    Path(entry.socket).touch()
    assert registry.sessions() == []
    assert not (registry.registry_directory() / f"{entry.id}.json").exists()
    assert not Path(entry.socket).exists()
    (info,) = registry.sessions(past=True)
    assert (info.state, info.liveness, info.socket) == ("lost", "dead", "")


def test_a_pid_that_another_process_has_now_is_a_dead_session(home: Path) -> None:
    start = process_start(os.getpid())
    assert start is not None
    entry_of("reused", pid=os.getpid(), process_start=start - 1)
    assert registry.sessions() == []
    assert registry.sessions(past=True)[0].state == "lost"


def test_a_pid_of_an_earlier_boot_is_a_dead_session(home: Path) -> None:
    entry_of("rebooted", boot_id="another-boot")
    assert registry.sessions() == []


def test_sessions_of_other_hosts_are_left_alone(home: Path) -> None:
    pid, start = dead_process()
    entry = entry_of("far", host="elsewhere", pid=pid, process_start=start)
    (info,) = registry.sessions()
    assert (info.host, info.liveness, info.state, info.socket) == ("elsewhere", "elsewhere", "running", "")
    assert (registry.registry_directory() / f"{entry.id}.json").exists()
    registry.unregister(entry)
    assert registry.sessions(past=True)[0].state == "running"


def test_a_zombie_is_not_alive(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_start(process.pid) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) is None
    process.communicate()


def test_a_past_run_keeps_how_it_ended(home: Path) -> None:
    entry = entry_of("done")
    write_state(entry, "finished", step=100, steps=100)
    registry.unregister(entry)
    (info,) = registry.sessions(past=True)
    assert (info.state, info.step, info.steps, info.liveness) == ("finished", 100, 100, "dead")
    assert registry.sessions() == []


def test_damaged_files_hide_nothing_else(home: Path) -> None:
    entry = entry_of("good")
    (registry.registry_directory() / "bad.json").write_text("{")
    (registry.runs_directory() / "bad").mkdir()
    (registry.runs_directory() / "bad" / "session.json").write_bytes(b"\xff")
    (registry.runs_directory() / "empty").mkdir()
    assert [info.id for info in registry.sessions(past=True)] == [entry.id]


def test_a_run_is_never_overwritten(home: Path) -> None:
    first, second = registry.create_run("exp"), registry.create_run("exp")
    assert first != second
    assert re.fullmatch(r"exp-\d{8}-\d{6}", first.name)
    registry.create_run("exp", "mine")
    with pytest.raises(SessionError, match="exists already"):
        registry.create_run("exp", "mine")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "host:name", ".hidden", "-x", "a b", "x" * 101])
def test_names_that_could_be_something_else_are_refused(home: Path, name: str) -> None:
    with pytest.raises(SessionError, match="can't be a session's name"):
        registry.create_run("exp", name)


def test_an_experiment_of_any_name_gives_a_usable_one(home: Path) -> None:
    assert registry.create_run("my exp: (2)/ü").name.startswith("my-exp-2")
    assert registry.create_run("???").name.startswith("session-")


def test_directories_are_private(home: Path) -> None:
    for directory in (registry.home(), registry.runs_directory(), registry.registry_directory(), registry.runtime()):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_runtime_directory_that_others_can_enter_is_refused(home: Path) -> None:
    os.chmod(os.environ["ELEKTRONN_RUNTIME"], 0o750)
    with pytest.raises(SessionError, match=r"0750.*chmod 700"):
        registry.socket_path("x")


def test_a_start_that_is_refused_takes_no_name(home: Path) -> None:
    os.chmod(os.environ["ELEKTRONN_RUNTIME"], 0o755)
    with pytest.raises(SessionError, match="chmod 700"):
        prepared(Order(experiment="mine.py", name="mine"))
    os.chmod(os.environ["ELEKTRONN_RUNTIME"], 0o700)
    assert Path(prepared(Order(experiment="mine.py", name="mine")).run_dir).name == "mine"


def test_a_runtime_directory_behind_a_link_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(os.environ["ELEKTRONN_RUNTIME"])
    monkeypatch.setenv("ELEKTRONN_RUNTIME", str(tmp_path / "link"))
    with pytest.raises(SessionError, match="not a directory"):
        registry.runtime()


def test_a_socket_path_that_is_too_long_says_what_to_do(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEKTRONN_RUNTIME", str(tmp_path / ("x" * 90)))
    with pytest.raises(SessionError, match="ELEKTRONN_RUNTIME"):
        registry.socket_path("0123abcd")


def test_looking_for_sessions_imports_nothing_slow() -> None:
    code = (
        "import sys; import elektronn_tui.session.blocking, elektronn_tui.session.registry,"
        " elektronn_tui.session.launch; print([m for m in sys.modules if m.partition('.')[0] in"
        " ('asyncio', 'torch', 'numpy', 'numba', 'h5py', 'skimage', 'jedi', 'textual', 'rich')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

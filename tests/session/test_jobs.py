"""Jobs: processes beside the loop, which never waits for them and is never hurt by them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_loop import PLAIN_LOOPS, FakeLoop, wait_until
from gated_jobs import let_pass, offered_by

from elektronn_tui.session import registry
from elektronn_tui.session.blocking import BlockingClient, ask
from elektronn_tui.session.errors import RequestRefused
from elektronn_tui.session.job_files import JobRecord, Sayings, cancel_job, read_jobs, write_record
from elektronn_tui.session.launch import Order, start_worker
from elektronn_tui.session.protocol import (
    ACTIVE_JOBS,
    CancelJob,
    Delta,
    Execute,
    GetJobs,
    GetJournal,
    JobInfo,
    StartJob,
    Stop,
    Subscribe,
)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A gate that jobs wait at."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def started(tmp_path: Path, gate: Path) -> Iterator[Callable[..., JobInfo]]:
    """Start gated jobs through a client, and end what is left of them."""
    infos: list[JobInfo] = []

    def start(client: BlockingClient, output: str = "out", how: str = "pass", at: Path = gate) -> JobInfo:
        message = StartJob(kind="gated", arguments=(str(at), output, how), cwd=str(tmp_path))
        infos.append(client.request(message).job)
        return infos[-1]

    yield start
    for info in infos:
        record = json.loads((Path(info.directory) / "job.json").read_text())["info"]
        if record.get("pid") and record.get("state") in (None, *ACTIVE_JOBS):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(record["pid"], signal.SIGKILL)


def job_of(client: BlockingClient, number: int) -> JobInfo:
    return next(job for job in client.request(GetJobs()).jobs if job.number == number)


def in_state(client: BlockingClient, number: int, *states: str) -> JobInfo:
    def found() -> JobInfo | None:
        job = job_of(client, number)
        return job if job.state in states else None

    return wait_until(found)


def at_the_gate(client: BlockingClient, number: int) -> JobInfo:
    wait_until(lambda: job_of(client, number).detail)
    return in_state(client, number, "running")


def journal(loop: FakeLoop) -> list[str]:
    return [entry.text for entry in loop.session.journal.read(0, 100)[0] if entry.kind == "job"]


def test_it_runs_beside_the_loop_in_a_process_of_its_own(loop, started, gate: Path, tmp_path: Path) -> None:
    offered_by(loop.session)
    with loop.client() as client:
        job = started(client)
        assert (job.number, job.kind, job.text) == (1, "gated", "to out")
        running = at_the_gate(client, 1)
        assert (running.progress, running.detail, running.ended) == (0.25, "waits at the gate", 0.0)
        step = loop.session.step
        wait_until(lambda: loop.session.step > step + 5)
        let_pass(gate)
        done = in_state(client, 1, "finished")
    assert (done.progress, done.detail, done.reason) == (1.0, "written", "")
    assert done.ended > done.started
    assert (Path(done.directory) / "snapshot").read_text() == str(done.step)
    found = json.loads((tmp_path / "out").read_text())
    assert found == {
        "nice": os.nice(0) + 10,
        "autogroup": "10" if Path("/proc/self/autogroup").exists() else None,
        "gives_way": "900",
        "group": True,
        "session": True,
        "variable": "1",
        "descriptors": 3,
    }
    wait_until(lambda: len(journal(loop)) == 2)
    assert journal(loop) == ["job 1: gated to out", "job 1 finished"]
    assert [info.state for info in read_jobs(loop.session.run_dir)] == ["finished"]


def test_clients_hear_of_it_in_deltas_and_in_a_snapshot(loop, started, gate: Path) -> None:
    offered_by(loop.session)
    with loop.client() as client, loop.client() as watcher:
        watcher.request(Subscribe(rate=20))
        started(client)
        seen: list[JobInfo] = []
        for event in watcher.events(timeout=20):
            seen += getattr(event, "jobs", None) or () if isinstance(event, Delta) else ()
            if seen and seen[-1].detail and gate.exists():
                let_pass(gate)
                gate.unlink()
            if seen and seen[-1].state == "finished":
                break
        states = [info.state for info in seen]
        assert states.index("running") < states.index("finished")
        assert 0.25 in [info.progress for info in seen]
        assert [info.state for info in client.request(Subscribe()).jobs] == ["finished"]


def test_a_failure_is_a_state_with_its_reason_and_the_loop_goes_on(loop, started, gate: Path) -> None:
    offered_by(loop.session)
    with loop.client() as client:
        started(client, how="fail")
        let_pass(gate)
        job = in_state(client, 1, "failed")
        assert job.reason == "there is no room for it"
        step = loop.session.step
        wait_until(lambda: loop.session.step > step + 5)
    wait_until(lambda: len(journal(loop)) == 2)
    assert journal(loop)[-1] == "job 1 failed: there is no room for it"
    assert "there is no room" in loop.session.jobs.all()[0].log


def test_killed_it_has_failed(loop, started) -> None:
    offered_by(loop.session)
    with loop.client() as client:
        started(client)
        os.kill(at_the_gate(client, 1).pid, signal.SIGKILL)
        assert in_state(client, 1, "failed").reason.startswith("killed by SIGKILL")


def test_a_snapshot_that_the_disk_refuses_fails_the_job_alone(loop, started) -> None:
    offered_by(loop.session, broken=OSError(errno.ENOSPC, "No space left on device"))
    with loop.client() as client:
        started(client)
        assert "No space left" in in_state(client, 1, "failed").reason
        step = loop.session.step
        wait_until(lambda: loop.session.step > step + 5)


def test_where_no_directory_can_be_made_it_is_refused(loop, started) -> None:
    offered_by(loop.session)
    (loop.session.run_dir / "jobs").write_text("in the way")
    with loop.client() as client, pytest.raises(RequestRefused, match="can't be made"):
        started(client)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (StartJob(kind="gatet"), "Did you mean 'gated'"),
        (StartJob(kind="gated", arguments=("one",)), "it must be GATE OUTPUT HOW"),
        (StartJob(kind="gated", arguments=("a", "b", "c"), cwd="/not/there"), "no directory /not/there"),
        (CancelJob(number=7), "there is no job 7; there are: none"),
    ],
)
def test_what_can_not_be_is_refused_and_leaves_nothing(loop, message: Any, words: str) -> None:
    offered_by(loop.session)
    with loop.client() as client, pytest.raises(RequestRefused, match=words):
        client.request(message)
    assert not (loop.session.run_dir / "jobs").exists()
    assert loop.session.jobs.all() == []


def test_a_loop_that_offers_none_says_so(loop) -> None:
    with loop.client() as client:
        assert client.request(GetJobs()).offers == ()
        with pytest.raises(RequestRefused, match="offers no job 'predict'"):
            client.request(StartJob(kind="predict"))


def test_read_only_clients_may_look_and_no_more(loop, started) -> None:
    offered_by(loop.session)
    with loop.client() as client, loop.client(read_only=True) as watcher:
        started(client)
        at_the_gate(client, 1)
        for message in (StartJob(kind="gated"), CancelJob(number=1)):
            with pytest.raises(RequestRefused, match="read-only"):
                watcher.request(message)
        listed = watcher.request(GetJobs())
        assert [job.state for job in listed.jobs] == ["running"]
        assert [option.name for option in listed.offers[0].options] == ["gate", "output"]
        client.request(CancelJob(number=1))
        in_state(client, 1, "cancelled")


def test_cancelled_it_ends_and_its_process_with_it(loop, started) -> None:
    offered_by(loop.session)
    with loop.client() as client:
        started(client)
        pid = at_the_gate(client, 1).pid
        client.request(CancelJob(number=1))
        in_state(client, 1, "cancelled")
        assert not Path(f"/proc/{pid}").exists()  # no zombie either
        with pytest.raises(RequestRefused, match="job 1 is over: it was cancelled"):
            client.request(CancelJob(number=1))
    wait_until(lambda: len(journal(loop)) == 3)
    assert journal(loop)[1:] == ["cancel job 1", "job 1 was cancelled"]


def test_one_runs_at_a_time_in_the_order_of_asking(loop, started, gate: Path, tmp_path: Path) -> None:
    offered_by(loop.session)
    gates = [gate, tmp_path / "second", tmp_path / "third"]
    for path in gates[1:]:
        os.mkfifo(path)
    with loop.client() as client:
        for number, path in enumerate(gates, start=1):
            started(client, output=f"out{number}", at=path)
        at_the_gate(client, 1)
        in_state(client, 2, "queued")
        in_state(client, 3, "queued")
        client.request(CancelJob(number=2))  # the third must not take this for its turn
        in_state(client, 2, "cancelled")
        with pytest.raises(OSError, match="No such device"):
            os.open(gates[2], os.O_WRONLY | os.O_NONBLOCK)
        assert job_of(client, 3).state == "queued"
        let_pass(gates[0])
        in_state(client, 1, "finished")
        at_the_gate(client, 3)
        let_pass(gates[2])
        in_state(client, 3, "finished")
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out1", "out3"]


def test_the_end_of_a_session_waits_for_a_snapshot_that_is_being_written(loop, started, gate: Path) -> None:
    written = threading.Event()
    offered_by(loop.session, slow=written)
    with loop.client() as client:
        started(client)
        ending = threading.Thread(target=loop.session.jobs.let_go)
        ending.start()
        ending.join(0.2)
        assert ending.is_alive()
        assert job_of(client, 1).state == "starting"
        written.set()
        ending.join(20)
        assert not ending.is_alive()
        assert job_of(client, 1).pid
        at_the_gate(client, 1)
        let_pass(gate)
        in_state(client, 1, "finished")


def test_cancelled_before_it_has_a_process_it_gets_none(loop, started) -> None:
    written = threading.Event()
    offered_by(loop.session, slow=written)
    with loop.client() as client:
        started(client)
        client.request(CancelJob(number=1))
        written.set()
        assert in_state(client, 1, "cancelled").pid == 0


def test_too_many_are_refused(loop, started, monkeypatch) -> None:
    monkeypatch.setattr("elektronn_tui.session.jobs.MOST_ACTIVE", 2)
    offered_by(loop.session)
    with loop.client() as client:
        started(client)
        started(client)
        with pytest.raises(RequestRefused, match="2 jobs wait or run already"):
            started(client)
        in_state(client, 2, "queued")  # both have a process, which the test ends


# --- real workers ---------------------------------------------------------------------------------


@pytest.fixture
def worker(home: Path) -> Iterator[registry.Entry]:
    """A worker whose loop offers gated jobs."""
    entry = start_worker(Order(experiment=str(PLAIN_LOOPS), entry=f"{PLAIN_LOOPS}:train_with_jobs"), timeout=60)
    yield entry
    with contextlib.suppress(ProcessLookupError):
        os.kill(entry.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_it_outlives_its_session_and_so_does_the_queue(worker, started, gate: Path, tmp_path: Path, how: str) -> None:
    second = tmp_path / "second"
    os.mkfifo(second)
    run_dir = Path(worker.run_dir)
    with BlockingClient(worker.socket) as client:
        started(client, output="out1")
        started(client, output="out2", at=second)
        at_the_gate(client, 1)
        in_state(client, 2, "queued")
        if how == "stopped":
            client.request(Stop())
        else:
            os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: registry.liveness(worker) == "dead")
    assert [job.state for job in read_jobs(run_dir)] == ["running", "queued"]
    if how == "stopped":
        assert "job 2 goes on as process" in (run_dir / "journal.jsonl").read_text()
    let_pass(gate)
    let_pass(second)
    wait_until(lambda: [job.state for job in read_jobs(run_dir)] == ["finished", "finished"])
    assert {path.name for path in tmp_path.glob("out*")} == {"out1", "out2"}


def test_it_can_be_cancelled_when_its_session_is_over(worker, started, tmp_path: Path) -> None:
    run_dir = Path(worker.run_dir)
    with BlockingClient(worker.socket) as client:
        started(client)
        at_the_gate(client, 1)
        client.request(Stop(now=True))
    wait_until(lambda: registry.liveness(worker) == "dead")
    info = cancel_job(run_dir, 1)
    assert info.state == "cancelled"
    wait_until(lambda: not Path(f"/proc/{info.pid}").exists() or _is_zombie(info.pid))
    assert [job.state for job in read_jobs(run_dir)] == ["cancelled"]


def test_the_console_lists_waits_and_cancels(worker, started, gate: Path) -> None:
    with BlockingClient(worker.socket) as client:
        started(client)
        at_the_gate(client, 1)
        (shown,) = ask(worker.socket, Execute(code="jobs()"))
        assert "<job 1: gated to out, running: 25 %, waits at the gate>" in shown.output
        (waited,) = ask(worker.socket, Execute(code="jobs()[0].wait(0)"))
        assert waited.output == "False\n"
        (ended,) = ask(worker.socket, Execute(code="job = jobs()[0]; job.cancel(); job.wait(); job.state"))
        assert ended.output == "'cancelled'\n"
        entries = client.request(GetJournal()).entries
    assert [entry.kind for entry in entries if entry.kind == "job"]


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


# --- files ----------------------------------------------------------------------------------------


def test_sayings_take_what_they_know_and_no_more(tmp_path: Path) -> None:
    said = Sayings(tmp_path)
    assert not said.read()
    path = tmp_path / "progress.jsonl"
    path.write_text('nonsense\n[1]\n{"progress": 7}\n{"progress": "x", "text": "half"}\n{"event": "do')
    assert said.read()
    assert (said.progress, said.text, said.done) == (1.0, "half", False)
    with path.open("a") as file:
        file.write('ne"}\n')
    assert said.read()
    assert said.done


def test_a_job_whose_process_is_gone_without_a_word_is_lost(tmp_path: Path) -> None:
    directory = tmp_path / "jobs" / "01"
    directory.mkdir(parents=True)
    info = JobInfo(number=1, kind="gated", state="running", pid=os.getpid(), directory=str(directory))
    write_record(JobRecord(info=info, command=("x",), cwd="/", process_start=1))
    (job,) = read_jobs(tmp_path)
    assert (job.state, job.reason) == ("lost", "its process is gone")

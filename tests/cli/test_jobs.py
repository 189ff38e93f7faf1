"""``elektronn jobs``, and what waits for a job."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fake_loop import PLAIN_LOOPS, wait_until
from gated_jobs import let_pass

from elektronn_tui.cli import main
from elektronn_tui.cli.prediction_job import Shown, flags_of, line_of, waited_for
from elektronn_tui.session import registry
from elektronn_tui.session.blocking import BlockingClient
from elektronn_tui.session.job_files import read_jobs
from elektronn_tui.session.launch import Order, start_worker
from elektronn_tui.session.protocol import GetJobs, JobInfo, StartJob, Stop


@pytest.fixture
def worker(home: Path) -> Iterator[registry.Entry]:
    """A worker whose loop offers gated jobs; it and they end with the test."""
    order = Order(experiment=str(PLAIN_LOOPS), entry=f"{PLAIN_LOOPS}:train_with_jobs", name="gated")
    entry = start_worker(order, timeout=60)
    yield entry
    with contextlib.suppress(ProcessLookupError):
        os.kill(entry.pid, signal.SIGKILL)
    for job in read_jobs(Path(entry.run_dir)):
        if job.state in ("queued", "running"):
            os.killpg(job.pid, signal.SIGKILL)


def start(client: BlockingClient, folder: Path) -> JobInfo:
    gate = folder / "gate"
    if not gate.exists():
        os.mkfifo(gate)
    job = client.request(StartJob(kind="gated", arguments=(str(gate), "out", "pass"), cwd=str(folder))).job
    wait_until(lambda: client.request(GetJobs()).jobs[-1].state in ("queued", "running"))
    return job


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["jobs", "gated", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_lists_and_cancels_while_the_session_runs_and_when_it_is_over(worker, tmp_path: Path, capsys) -> None:
    with BlockingClient(worker.socket) as client:
        start(client, tmp_path)
        start(client, tmp_path)
        wait_until(lambda: listed(capsys)[0]["state"] == "running")
        assert main(["jobs", "gated", "--cancel", "2"]) == 0
        assert capsys.readouterr().out == "job 2 is cancelled\n"
        wait_until(lambda: [job["state"] for job in listed(capsys)] == ["running", "cancelled"])
        assert main(["jobs", "gated", "--cancel", "2"]) == 1
        assert "job 2 is over: it was cancelled" in capsys.readouterr().err
        client.request(Stop())
    wait_until(lambda: registry.liveness(worker) == "dead")
    assert [job["state"] for job in listed(capsys)] == ["running", "cancelled"]
    assert main(["jobs", "gated", "--cancel", "1"]) == 0
    wait_until(lambda: [job["state"] for job in listed(capsys)] == ["cancelled", "cancelled"])
    assert main(["jobs", "gated", "--cancel", "3"]) == 1
    capsys.readouterr()
    assert main(["jobs", "gated"]) == 0
    head, first, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["job", "kind", "state", "weights", "of", "took"]
    assert first.split()[:3] == ["1", "gated", "cancelled"]


def test_who_waits_for_a_job_waits_on_when_its_session_ends(worker, tmp_path: Path) -> None:
    seen: list[JobInfo] = []
    with BlockingClient(worker.socket) as client:
        job = start(client, tmp_path)
        info = registry.find("gated")

        def show(job: JobInfo) -> None:
            seen.append(job)

        ended: list[JobInfo] = []
        waiting = threading.Thread(target=lambda: ended.append(waited_for(client, info, job, show)))
        waiting.start()
        wait_until(lambda: seen and seen[-1].state == "running")
        with BlockingClient(worker.socket) as other:
            other.request(Stop(now=True))
        wait_until(lambda: registry.liveness(worker) == "dead")
        let_pass(tmp_path / "gate")
        waiting.join(30)
    assert [job.state for job in ended] == ["finished"]


def test_no_terminal_gets_a_line_for_each_state_alone(monkeypatch) -> None:
    stream = io.StringIO()
    shown = Shown(stream)
    job = JobInfo(number=2, kind="predict", text="a → b", state="queued")
    for state, progress in (("queued", 0.0), ("queued", 0.0), ("running", 0.1), ("running", 0.2)):
        shown.show(msgspec.structs.replace(job, state=state, progress=progress))
    monkeypatch.setattr("elektronn_tui.cli.prediction_job.LINE_EVERY", 0.0)
    shown.show(msgspec.structs.replace(job, state="running", progress=0.3))
    shown.clear()
    assert stream.getvalue().splitlines() == [
        "job 2  queued  a → b",
        "job 2  10 %  a → b",
        "job 2  30 %  a → b",
    ]


def test_words_and_flags() -> None:
    job = JobInfo(number=2, kind="predict", text="a → b", state="running", progress=0.5, detail="block 1 of 2")
    assert line_of(job) == "job 2  50 %  block 1 of 2"
    options = {"force": True, "pad": False, "dtype": None, "patch_shape": (1, 2, 3), "weights": "current"}
    assert flags_of(options) == ["--force", "--patch-shape=1,2,3", "--weights=current"]

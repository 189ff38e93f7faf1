"""Jobs on the screen: what one is to do, how far it is, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
from fake_session import START, FakeSession

from elektronn_tui.screens.chrome import KeyLine, StatusLine
from elektronn_tui.screens.jobs import JobForm, JobList, Toggle, job_pieces, job_rows
from elektronn_tui.session.job_files import JobRecord, write_record
from elektronn_tui.session.processes import process_start
from elektronn_tui.session.protocol import CancelJob, GetJobs, JobInfo, JobOption, StartJob


def sent(fake: FakeSession, kind: type) -> list:
    return [request for request in fake.requests if isinstance(request, kind)]


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_a_volume_is_predicted_by_a_key_and_a_form(fake, shown, until, size) -> None:
    async with shown(size) as pilot:
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, JobForm))
        await pilot.pause()
        await pilot.press("enter")  # the output is missing, and was given the focus
        await pilot.press(*"p/q.h5")
        await pilot.press("down", "space", "down", "space")
        await pilot.press("enter")
        await until(pilot, lambda: sent(fake, StartJob))
        (message,) = sent(fake, StartJob)
        assert message.arguments == ("/data/fib25.h5:raw", "p/q.h5", "--weights", "current")
        assert (message.kind, message.cwd) == ("predict", os.getcwd())
        screen = pilot.app.screen
        await until(pilot, lambda: "job 1: predict" in screen.query_one(KeyLine).message)


async def test_a_form_that_is_left_starts_nothing(fake, shown, until) -> None:
    async with shown() as pilot:
        await pilot.press("d")
        await until(pilot, lambda: isinstance(pilot.app.screen, JobForm))
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, JobForm)
        assert not sent(fake, StartJob)


async def test_who_only_looks_is_not_asked(fake, shown, until) -> None:
    async with shown(read_only=True) as pilot:
        await pilot.press("d")
        await until(pilot, lambda: "read-only" in pilot.app.screen.query_one(KeyLine).message)
        assert not sent(fake, GetJobs)


async def test_a_loop_without_offers_says_so(fake, shown, until) -> None:
    fake.offers = ()
    async with shown() as pilot:
        await pilot.press("d")
        await until(pilot, lambda: "predicts no volumes" in pilot.app.screen.query_one(KeyLine).message)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_its_progress_is_in_the_status_line_and_its_end_is_said(fake, shown, until, size) -> None:
    async with shown(size) as pilot:
        line, keys = pilot.app.screen.query_one(StatusLine), pilot.app.screen.query_one(KeyLine)
        fake.set_job(1, text="a → b", progress=0.43)
        await until(pilot, lambda: "predict 43 %" in line.text)
        fake.set_job(2, text="a → c", state="queued")
        await until(pilot, lambda: "predict 43 % +1" in line.text)
        fake.set_job(1, state="failed", reason="there is no room", ended=START + 5)
        await until(pilot, lambda: keys.message == " ✗ job 1 failed: there is no room")
        await until(pilot, lambda: "predict queued" in line.text)


async def test_the_list_follows_and_cancels_the_selected_one(fake, shown, until) -> None:
    fake.set_job(1, text="a → b", state="finished", ended=START + 5)
    fake.set_job(2, text="a → c", progress=0.5)
    async with shown() as pilot:
        await pilot.press("J")
        await until(pilot, lambda: isinstance(pilot.app.screen, JobList))
        rows = pilot.app.screen.query_one("RowsView")
        fake.set_job(2, progress=0.75)
        await until(pilot, lambda: any("75 %" in str(row.cells) for row in rows.rows))
        await pilot.press("down", "c")  # that one is over: nothing to cancel
        await pilot.press("up", "c")
        await until(pilot, lambda: sent(fake, CancelJob))
        assert [message.number for message in sent(fake, CancelJob)] == [2]


async def test_what_outlives_its_session_is_listed_and_cancelled_by_its_files(fake, shown, until) -> None:
    fake.set_job(1, text="a → b", progress=0.43)
    directory = Path(fake.info.run_dir) / "jobs" / "01"
    directory.mkdir(parents=True)
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    info = msgspec.structs.replace(fake.jobs[1], pid=left.pid, directory=str(directory))
    write_record(JobRecord(info=info, command=("sleep",), cwd="/", process_start=process_start(left.pid)))
    (directory / "progress.jsonl").write_text('{"progress": 0.8}\n')
    try:
        async with shown() as pilot:
            line = pilot.app.screen.query_one(StatusLine)
            await until(pilot, lambda: "predict 43 %" in line.text)
            fake.end("stopped", "asked to")
            await until(pilot, lambda: "stopped" in line.text)
            assert "predict" not in line.text  # nobody tells any more how far it is
            await pilot.press("J")
            await until(pilot, lambda: isinstance(pilot.app.screen, JobList))
            await until(pilot, lambda: "80 %" in str(pilot.app.screen.query_one("RowsView").rows))
            await pilot.press("c")
            await until(pilot, lambda: "job 1 cancelled" in pilot.app.screen.query_one(KeyLine).message)
        assert left.wait(20) == -signal.SIGTERM
    finally:
        left.kill()
        left.wait()


def test_status_and_rows_tell_what_matters() -> None:
    job = JobInfo(number=3, kind="predict", text="a → b", state="running", progress=0.5, detail="block 1 of 2")
    over = msgspec.structs.replace(job, number=1, state="failed", reason="no room", started=1.0, ended=62.0)
    assert job_pieces([over]) == ()
    assert "".join(text for text, _ in job_pieces([over, job])) == "predict 50 %"
    newest, oldest = job_rows([over, job])
    assert newest.cells[2:] == ((("50 %", "accent"),), "", (("block 1 of 2", "dim"),))
    assert oldest.cells[2:] == ((("failed", "bad"),), "1 m 1 s", (("no room", "dim"),))


def test_options_become_arguments() -> None:
    assert JobOption(name="a", type="text").arguments("x y") == ("x y",)
    assert JobOption(name="a", type="bool", flag="--a").arguments(True) == ("--a",)
    assert JobOption(name="a", type="bool", flag="--a").arguments(False) == ()
    assert JobOption(name="a", type="choice", flag="--a").arguments("b") == ("--a", "b")
    assert JobOption(name="a", type="text", flag="--a").arguments("") == ()
    toggle = Toggle((("a", "A"), ("b", "B")), "b")
    assert toggle.value == "b"

"""What the session screen does about jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from elektronn_tui.errors import ElektronnError
from elektronn_tui.session.job_files import cancel_job, read_jobs
from elektronn_tui.session.protocol import ACTIVE_JOBS, CancelJob, GetJobs, JobInfo, StartJob

from .jobs import JobForm, JobList

if TYPE_CHECKING:
    from .session import SessionScreen

__all__ = ["ask_what_to_predict", "list_jobs", "show_jobs"]


def show_jobs(screen: SessionScreen, before: Mapping[int, JobInfo], jobs: Mapping[int, JobInfo]) -> None:
    """Bring an open list up to date, and say which job has ended."""
    for shown in screen.app.screen_stack:
        if isinstance(shown, JobList):
            shown.take(tuple(jobs.values()))
    for number, job in jobs.items():
        if number in before and before[number].state in ACTIVE_JOBS and job.state not in ACTIVE_JOBS:
            role = {"finished": "good", "cancelled": "warn"}.get(job.state, "bad")
            screen.say(f"job {number} {job.state}: {job.reason or job.text}", role)


def ask_what_to_predict(screen: SessionScreen) -> None:
    """Ask what is to be predicted, and start it."""

    async def ask() -> None:
        answer = await screen.ask(GetJobs())
        offers = [offer for offer in getattr(answer, "offers", ()) if offer.kind == "predict"]
        if offers:
            screen.app.push_screen(JobForm(offers[0]), answered)
        elif answer is not None:
            screen.say("this session's loop predicts no volumes", "warn")

    def answered(arguments: tuple[str, ...] | None) -> None:
        if arguments is not None:
            screen.send(StartJob(kind="predict", arguments=arguments, cwd=os.getcwd()))

    if screen.may_write():
        screen.work(ask)


async def list_jobs(screen: SessionScreen) -> None:
    """Show the jobs, and cancel one; they may outlive the session, and are then known by their files."""
    over, run_dir = screen.state.link == "ended", Path(screen.info.run_dir)

    def answered(number: int | None) -> None:
        if number is not None and over:
            screen.work(partial(_cancel_left_job, screen, run_dir, number))
        elif number is not None:
            screen.send(CancelJob(number=number))

    jobs = await asyncio.to_thread(read_jobs, run_dir) if over else tuple(screen.state.jobs.values())
    screen.app.push_screen(JobList(jobs, f"{run_dir}/jobs"), answered)


async def _cancel_left_job(screen: SessionScreen, run_dir: Path, number: int) -> None:
    try:
        job = await asyncio.to_thread(cancel_job, run_dir, number)
        screen.say(f"job {number} {job.state}", "warn")
    except ElektronnError as error:
        screen.say(str(error), "bad")

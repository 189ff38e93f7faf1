"""``elektronn jobs SESSION [--cancel N]``: list what a session does beside training, or end one of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import DONE
from .output import add_json, format_seconds, print_json, print_line, print_table
from .session import add_session, connect, find_session


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("--cancel", type=int, metavar="N", help="end job N")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List the jobs of a session, running or past, or cancel one."""
    from elektronn_tui.session.job_files import cancel_job, read_jobs
    from elektronn_tui.session.protocol import CancelJob, GetJobs

    info = find_session(args.session)
    run_dir = Path(info.run_dir)
    if args.cancel is not None:
        if info.socket:
            with connect(info.id) as client:
                client.request(CancelJob(number=args.cancel))
        else:
            cancel_job(run_dir, args.cancel)
        print_json({"cancelled": args.cancel}) if args.json else print_line(f"job {args.cancel} is cancelled")
        return DONE
    if info.socket:
        with connect(info.id, read_only=True) as client:
            jobs = client.request(GetJobs()).jobs
    else:
        jobs = read_jobs(run_dir)
    if args.json:
        print_json(jobs)
    elif jobs:
        rows = [
            [
                str(job.number),
                job.kind,
                f"{job.state} {100 * job.progress:.0f} %" if job.state == "running" else job.state,
                f"step {job.step}",
                format_seconds(job.ended - job.started) if job.ended else "-",
                job.reason or job.text,
            ]
            for job in jobs
        ]
        print_table(rows, ("job", "kind", "state", "weights of", "took", ""))
    return DONE

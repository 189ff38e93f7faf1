"""What a job's process is before it is the job: ``python -m elektronn_tui.session.job_process``.

It lowers its priority, gives way where memory runs out, waits for the processes of the jobs before it, and then becomes
the command. So the queue needs nobody to keep it: it goes on when the session's worker has ended or was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .processes import process_start

__all__ = ["NICENESS", "command_of", "give_way", "lower_priority", "main"]

NICENESS = 10
LOOK_EVERY = 1.0
"""Seconds between two looks at a process where the system can't tell of its end."""


def command_of(command: Sequence[str], after: Sequence[tuple[int, int]]) -> list[str]:
    """Return the command line that runs a command when some processes have ended.

    Parameters
    ----------
    command
        What to become.
    after : sequence of (pid, start)
        Processes as `processes.process_start` knows them.
    """
    waits = [f"--after={pid}:{start}" for pid, start in after]
    return [sys.executable, "-P", "-m", __name__, *waits, "--", *command]


def main(argv: Sequence[str] | None = None) -> None:
    """Wait, and become the command."""
    parser = argparse.ArgumentParser(prog="elektronn-job")
    parser.add_argument("--after", action="append", default=[], metavar="PID:START")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args(argv)
    lower_priority()
    give_way()
    for text in arguments.after:
        pid, _, start = text.partition(":")
        _wait_for(int(pid), int(start))
    sys.stdout.write('{"event": "begin"}\n')
    sys.stdout.flush()
    os.execv(arguments.command[0], arguments.command)


def lower_priority() -> None:
    """Lower the priority of this process, and of its session where Linux shares the cores out between sessions.

    There (``sched_autogroup``) niceness counts within a session alone: a job in one of its own would get as much as the
    training in its.
    """
    os.nice(NICENESS)
    for _ in range(10):
        try:
            Path("/proc/self/autogroup").write_text(str(NICENESS), encoding="ascii")
        except BlockingIOError:  # the system allows one such change in a tenth of a second
            time.sleep(0.1)
        except OSError:
            return
        else:
            return


def give_way() -> None:
    """Let the system end this process, not the training, where memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")


def _wait_for(pid: int, start: int) -> None:
    if not hasattr(os, "pidfd_open"):
        while process_start(pid) == start:
            time.sleep(LOOK_EVERY)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if process_start(pid) == start:
            select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()

"""Jobs that say how far they are and wait at a gate until a test lets them pass; run as a script, one of them.

``gated_jobs.py GATE OUTPUT HOW`` writes into OUTPUT what its process is like, or fails when HOW is ``fail``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def offered_by(session: Any, *, broken: OSError | None = None, slow: threading.Event | None = None) -> None:
    """Let a session offer the kind ``gated``; its snapshot can't be written (`broken`), or is when an event comes."""
    from elektronn_tui.errors import SessionError
    from elektronn_tui.session.jobs import Offer, Work
    from elektronn_tui.session.protocol import JobOption

    def check(arguments: Sequence[str]) -> None:
        if len(arguments) != 3:
            raise SessionError(f"{len(arguments)} arguments; it must be GATE OUTPUT HOW")

    def make(directory: Path, arguments: Sequence[str]) -> Work:
        def prepare() -> None:
            if slow is not None:
                slow.wait()
            if broken is not None:
                raise broken
            (directory / "snapshot").write_text(str(step))

        step = session.step
        command = (sys.executable, str(Path(__file__).resolve()), *arguments)
        return Work(text=f"to {arguments[1]}", command=command, prepare=prepare, environment={"JOB_VARIABLE": "1"})

    options = (JobOption(name="gate", type="text"), JobOption(name="output", type="text", default="out"))
    session.jobs.offer("gated", Offer("wait at a gate", lambda: options, check, make))


def let_pass(gate: Path) -> None:
    """Let the job that waits at a gate pass, once it does."""
    from fake_loop import wait_until

    def opened() -> int:
        try:
            return os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody waits there yet
            return 0

    os.close(wait_until(opened))


def _main(gate: str, output: str, how: str) -> None:
    print(json.dumps({"progress": 0.25, "text": "waits at the gate"}), flush=True)
    with open(gate, encoding="ascii") as fifo:
        fifo.read()
    if how == "fail":
        sys.exit("elektronn: there is no room for it")
    autogroup = Path("/proc/self/autogroup")
    found = {
        "nice": os.nice(0),
        "group": os.getpgid(0) == os.getpid(),
        "session": os.getsid(0) == os.getpid(),
        "variable": os.environ["JOB_VARIABLE"],
        "autogroup": autogroup.read_text().split()[-1] if autogroup.exists() else None,
        "gives_way": Path("/proc/self/oom_score_adj").read_text().strip(),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
    }
    Path(output).write_text(json.dumps(found), encoding="ascii")
    print("this is no JSON", flush=True)
    print(json.dumps({"event": "done", "text": "written"}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])

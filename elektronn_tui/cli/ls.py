"""``elektronn ls [--all]``: list sessions."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from . import DONE
from .output import add_json, format_seconds, print_json, print_line, print_table

if TYPE_CHECKING:
    from elektronn_tui.session.registry import SessionInfo

ANSWER_TIMEOUT = 1.0  # seconds; a session that is slower is shown as it last wrote of itself


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-a", "--all", action="store_true", help="past runs, too")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List sessions, oldest first."""
    from elektronn_tui.session.registry import sessions

    rows = [_describe(info) for info in sessions(past=args.all)]
    if args.json:
        print_json(rows)
    elif rows:
        print_table([_cells(row) for row in rows], ("NAME", "ID", "STATE", "STEP", "IT/S", "AGE", "HOST"))
    else:
        print_line("no session is running" + ("" if args.all else "; --all lists past runs"))
    return DONE


def _describe(info: SessionInfo) -> dict[str, Any]:
    from elektronn_tui.errors import SessionError
    from elektronn_tui.session.blocking import ask
    from elektronn_tui.session.protocol import GetStatus

    row = {
        "name": info.name,
        "id": info.id,
        "state": info.state,
        "reason": info.reason,
        "step": info.step,
        "steps": info.steps,
        "rate": None,
        "run_dir": info.run_dir,
        "pid": info.pid,
        "host": info.host,
        "started": info.started,
    }
    if info.socket:
        try:
            status = ask(info.socket, GetStatus(), timeout=ANSWER_TIMEOUT)[0].status
        except SessionError:
            return row  # it ends just now, or is too busy: what it wrote of itself stands
        row |= {"state": status.state, "reason": status.reason, "step": status.step, "steps": status.steps}
        row["rate"] = status.rate
    return row


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    steps = f"{row['step']} / {row['steps']}" if row["steps"] else str(row["step"])
    rate = f"{row['rate']:.1f}" if row["rate"] is not None else "-"
    age = format_seconds(time.time() - row["started"])
    return (row["name"], row["id"], row["state"], steps, rate, age, row["host"])

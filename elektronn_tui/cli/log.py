"""``elektronn log SESSION [-f] [-n N]``: show a session's log."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .paging import add_paging, show, stamp

if TYPE_CHECKING:
    from elektronn_tui.session.blocking import BlockingClient
    from elektronn_tui.session.protocol import LogLine


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_paging(parser, "lines", 50)


def run(args: argparse.Namespace) -> int:
    """Show the log."""
    return show(args, fetch, read, lambda line: f"{stamp(line.time)} {line.level:<7} step {line.step}  {line.text}")


def fetch(client: BlockingClient, first: int) -> tuple[Sequence[LogLine], int]:
    """Ask a session for its lines from `first` on."""
    from elektronn_tui.session.protocol import GetLog

    answer = client.request(GetLog(first=first, count=max(-first, 1000)))
    return answer.lines, answer.total


def read(run_dir: Path) -> Sequence[LogLine]:
    """Read the log of a run that is over."""
    from elektronn_tui.session.log import read_log

    return read_log(run_dir / "session.log")

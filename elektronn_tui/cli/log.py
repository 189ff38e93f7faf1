"""``elektronn log SESSION [-f] [-n N]``: show a session's log."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import DONE
from .output import add_json, print_json, print_json_line, print_line
from .paging import records
from .session import add_session

if TYPE_CHECKING:
    from elektronn_tui.session.blocking import BlockingClient
    from elektronn_tui.session.protocol import LogLine


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the session ends")
    parser.add_argument(
        "-n", dest="count", type=int, default=50, metavar="N", help="how many of the newest lines (default: 50)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show the log."""
    lines = records(args.session, fetch, read, count=max(args.count, 1), follow=args.follow)
    if args.json and not args.follow:
        print_json(list(lines))
        return DONE
    for line in lines:
        if args.json:
            print_json_line(line)
        else:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.time))
            print_line(f"{stamp} {line.level:<7} step {line.step}  {line.text}")
            if args.follow:
                sys.stdout.flush()
    return DONE


def fetch(client: BlockingClient, first: int) -> tuple[Sequence[LogLine], int]:
    """Ask a session for its lines from `first` on."""
    from elektronn_tui.session.protocol import GetLog

    answer = client.request(GetLog(first=first, count=max(-first, 1000)))
    return answer.lines, answer.total


def read(run_dir: Path) -> Sequence[LogLine]:
    """Read the log of a run that is over."""
    from elektronn_tui.session.log import read_log

    return read_log(run_dir / "session.log")

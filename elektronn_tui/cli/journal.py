"""``elektronn journal SESSION [-f]``: show what changed a session from outside."""

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
    from elektronn_tui.session.protocol import JournalEntry


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the session ends")
    parser.add_argument("-n", dest="count", type=int, default=1000, metavar="N", help="newest entries (default: 1000)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show the journal."""
    entries = records(args.session, fetch, read, count=max(args.count, 1), follow=args.follow)
    if args.json and not args.follow:
        print_json(list(entries))
        return DONE
    for entry in entries:
        if args.json:
            print_json_line(entry)
        else:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
            print_line(f"{entry.id:>4}  {stamp}  step {entry.step:<8} {entry.kind:<9} {entry.client:<12} {entry.text}")
            if args.follow:
                sys.stdout.flush()
    return DONE


def fetch(client: BlockingClient, first: int) -> tuple[Sequence[JournalEntry], int]:
    """Ask a session for its entries from `first` on."""
    from elektronn_tui.session.protocol import GetJournal

    answer = client.request(GetJournal(first=first, count=max(-first, 1000)))
    return answer.entries, answer.total


def read(run_dir: Path) -> Sequence[JournalEntry]:
    """Read the journal of a run that is over."""
    from elektronn_tui.session.journal import read_journal

    return read_journal(run_dir / "journal.jsonl")

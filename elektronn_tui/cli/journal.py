"""``elektronn journal SESSION [-f]``: show what changed a session from outside."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .paging import add_paging, show, stamp

if TYPE_CHECKING:
    from elektronn_tui.session.blocking import BlockingClient
    from elektronn_tui.session.protocol import JournalEntry


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_paging(parser, "entries", 1000)


def run(args: argparse.Namespace) -> int:
    """Show the journal."""
    return show(args, fetch, read, text)


def text(entry: JournalEntry) -> str:
    """Return an entry as a line."""
    who = f"{entry.kind:<9} {entry.client:<12}"
    return f"{entry.id:>4}  {stamp(entry.time)}  step {entry.step:<8} {who} {entry.text}"


def fetch(client: BlockingClient, first: int) -> tuple[Sequence[JournalEntry], int]:
    """Ask a session for its entries from `first` on."""
    from elektronn_tui.session.protocol import GetJournal

    answer = client.request(GetJournal(first=first, count=max(-first, 1000)))
    return answer.entries, answer.total


def read(run_dir: Path) -> Sequence[JournalEntry]:
    """Read the journal of a run that is over."""
    from elektronn_tui.session.journal import read_journal

    return read_journal(run_dir / "journal.jsonl")

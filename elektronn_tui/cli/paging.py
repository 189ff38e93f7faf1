"""Records of a session, running or past: the newest of them, and those that come."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from . import DONE
from .output import add_json, print_json, print_json_line, print_line
from .session import add_session, connect, find_session

if TYPE_CHECKING:
    from elektronn_tui.session.blocking import BlockingClient

T = TypeVar("T")

INTERVAL = 0.5  # seconds between two looks at a session that is followed

Fetch = Callable[["BlockingClient", int], tuple[Sequence[T], int]]
Read = Callable[[Path], Sequence[T]]


def records(session: str, fetch: Fetch[T], read: Read[T], *, count: int, follow: bool) -> Iterator[T]:
    """Yield the newest `count` records of a session and, with `follow`, those that come until it ends.

    Parameters
    ----------
    session
        As the user named it.
    fetch
        Ask a running session for the records from an index on (negative: from the end), and for how many there are.
    read
        Read all records of a run directory.
    """
    from elektronn_tui.session.errors import ConnectionLost

    info = find_session(session)
    if not info.socket:
        yield from read(Path(info.run_dir))[-count:]
        return
    with connect(session, read_only=True) as client:
        page, total = fetch(client, -count)
        yield from page
        try:
            while follow:
                time.sleep(INTERVAL)
                page, _ = fetch(client, total)
                total += len(page)
                yield from page
        except ConnectionLost:  # the session ended: what it wrote last is on disk
            yield from read(Path(info.run_dir))[total:]


def add_paging(parser: argparse.ArgumentParser, what: str, count: int) -> None:
    """Declare which records are shown."""
    add_session(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the session ends")
    parser.add_argument(
        "-n",
        dest="count",
        type=int,
        default=count,
        metavar="N",
        help=f"how many of the newest {what} (default: {count})",
    )
    add_json(parser)


def show(args: argparse.Namespace, fetch: Fetch[T], read: Read[T], text: Callable[[T], str]) -> int:
    """Print records as text, as one JSON document, or as JSON lines while they come."""
    found = records(args.session, fetch, read, count=max(args.count, 1), follow=args.follow)
    if args.json and not args.follow:
        print_json(list(found))
        return DONE
    for record in found:
        if args.json:
            print_json_line(record)
        else:
            print_line(text(record))
            if args.follow:
                sys.stdout.flush()
    return DONE


def stamp(moment: float) -> str:
    """Return a Unix time as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))

"""``elektronn set SESSION CONTROL=VALUE...``: set controls of a session."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import DONE, USAGE
from .output import add_json, print_json, print_line, warn
from .session import add_session, connect

if TYPE_CHECKING:
    from elektronn_tui.session.protocol import Receipt


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument(
        "values",
        nargs="+",
        metavar="CONTROL=VALUE",
        help="all of them are set together, or none; CONTROL=schedule gives a pinned one back to its schedule",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--pin", action="store_true", help="a scheduled control keeps the value")
    ways.add_argument(
        "--continue", dest="go_on", action="store_true", help="its schedule goes on from the value (the default)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Set controls and print the receipt of each."""
    from elektronn_tui.session.protocol import SetControls, Unpin

    values = {}
    for text in args.values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            warn(f"{text!r} is not CONTROL=VALUE")
            return USAGE
        values[name.strip()] = value.strip()
    with connect(args.session) as client:
        unpinned = [name for name, value in values.items() if value == "schedule"]
        receipts = [r for name in unpinned for r in client.request(Unpin(control=name), timeout=None).receipts]
        rest = {name: value for name, value in values.items() if name not in unpinned}
        if rest:
            # A script can't be asked as a person is: what ELEKTRONN2's shell did, which loses neither value nor plan.
            wish = SetControls(values=rest, schedule="pin" if args.pin else "continue")
            receipts += client.request(wish, timeout=None).receipts
    print_receipts(receipts, as_json=args.json)
    return DONE


def print_receipts(receipts: Iterable[Receipt], *, as_json: bool) -> None:
    """Print what was changed, from which step on."""
    if as_json:
        print_json([{"control": r.control, "old": r.old, "new": r.new, "step": r.step} for r in receipts])
        return
    from elektronn_tui.session.journal import shown

    for r in receipts:
        schedule = f", schedule {r.schedule}" if r.schedule else ""
        print_line(f"{r.control} {shown(r.old)} → {shown(r.new)}, applied at step {r.step}{schedule}")

"""``elektronn redo SESSION``: bring back what was undone."""

from __future__ import annotations

import argparse

from . import DONE
from .output import add_json
from .session import add_session, connect
from .set import print_receipts


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("-n", dest="count", type=int, default=1, metavar="N", help="how many edits (default: 1)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Bring back what was undone."""
    from elektronn_tui.session.protocol import Redo

    with connect(args.session) as client:
        receipts = client.request(Redo(count=args.count), timeout=None).receipts
    print_receipts(receipts, as_json=args.json)
    return DONE

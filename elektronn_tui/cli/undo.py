"""``elektronn undo SESSION``: take the last edits of a session back, newest first."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import DONE
from .output import add_json
from .session import add_session, connect
from .set import print_receipts

if TYPE_CHECKING:
    from elektronn_tui.session.protocol import Request


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments, of undo and redo alike."""
    add_session(parser)
    parser.add_argument("-n", dest="count", type=int, default=1, metavar="N", help="how many edits (default: 1)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Take the last edits back."""
    from elektronn_tui.session.protocol import Undo

    return repeat(args, Undo(count=args.count))


def repeat(args: argparse.Namespace, request: Request) -> int:
    """Undo or redo, and print the receipts."""
    with connect(args.session) as client:
        receipts = client.request(request, timeout=None).receipts
    print_receipts(receipts, as_json=args.json)
    return DONE

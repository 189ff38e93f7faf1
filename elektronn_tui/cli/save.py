"""``elektronn save SESSION [NAME]``: let a session write a checkpoint."""

from __future__ import annotations

import argparse

from . import DONE
from .output import add_json, print_done
from .session import add_session, connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("name", nargs="?", default="", metavar="NAME", help="named checkpoints are never pruned")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write a checkpoint and print where it is."""
    from elektronn_tui.session.protocol import Save

    with connect(args.session) as client:
        print_done(client.request(Save(name=args.name), timeout=None), as_json=args.json)
    return DONE

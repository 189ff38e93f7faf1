"""``elektronn stop SESSION [--now]``: end a session."""

from __future__ import annotations

import argparse

from . import DONE
from .output import add_json, print_done
from .session import add_session, connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("--now", action="store_true", help="without a checkpoint")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """End a session at its next step boundary."""
    from elektronn_tui.session.protocol import Stop

    with connect(args.session) as client:
        print_done(client.request(Stop(now=args.now), timeout=None), as_json=args.json)
    return DONE

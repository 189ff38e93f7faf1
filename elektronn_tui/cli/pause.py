"""``elektronn pause SESSION``: let a session wait at its next step boundary."""

from __future__ import annotations

import argparse

from . import DONE
from .output import add_json, print_done
from .session import add_session, connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Let a session wait at its next step boundary."""
    from elektronn_tui.session.protocol import Pause

    with connect(args.session) as client:
        print_done(client.request(Pause(), timeout=None), as_json=args.json)
    return DONE

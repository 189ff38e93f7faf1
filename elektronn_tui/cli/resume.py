"""``elektronn resume SESSION``: let a paused session go on."""

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
    """Let a paused session go on."""
    from elektronn_tui.session.protocol import Resume

    with connect(args.session) as client:
        print_done(client.request(Resume(), timeout=None), as_json=args.json)
    return DONE

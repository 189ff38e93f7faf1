"""``elektronn attach SESSION [--read-only]``: the application on a running session."""

from __future__ import annotations

import argparse

from .session import add_session, find_session
from .tui import add_view_options, open_app, require_terminal


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    add_view_options(parser)


def run(args: argparse.Namespace) -> int:
    """Open the application on a session; one that ended opens read-only, from its files."""
    info = find_session(args.session)
    require_terminal()
    return open_app(info, args)

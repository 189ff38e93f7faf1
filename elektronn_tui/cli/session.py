"""The session that a verb is about: its argument, and the connection to it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from elektronn_tui.errors import SessionError

if TYPE_CHECKING:
    from elektronn_tui.session.blocking import BlockingClient
    from elektronn_tui.session.registry import SessionInfo


def add_session(parser: argparse.ArgumentParser) -> None:
    """Declare the SESSION argument."""
    parser.add_argument("session", metavar="SESSION", help="name, unique prefix of a name, or id")


def find_session(text: str) -> SessionInfo:
    """Return the session that was named, running or past."""
    from elektronn_tui.session.registry import find

    return find(text)


def connect(text: str, *, read_only: bool = False) -> BlockingClient:
    """Connect to a running session.

    Raises
    ------
    SessionNotFound
        Nothing goes by that name.
    SessionError
        It does not run any more: says how it ended and where its files are.
    ConnectError
        It runs and can't be reached.
    """
    from elektronn_tui.session.blocking import BlockingClient
    from elektronn_tui.session.errors import ConnectError

    info = find_session(text)
    if info.liveness == "elsewhere":
        raise ConnectError(f"session {info.name} runs on {info.host}; use elektronn there", "refused")
    if not info.socket:
        how = f"{info.state}{f': {info.reason}' if info.reason else ''}"
        raise SessionError(f"session {info.name} does not run any more ({how}); its files are in {info.run_dir}")
    return BlockingClient(info.socket, name="cli", read_only=read_only)

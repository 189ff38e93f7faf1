"""``elektronn resume SESSION``: let a paused session go on."""

from __future__ import annotations

import argparse

from elektronn_tui.errors import SessionError

from . import DONE
from .output import add_json, print_done
from .session import add_session, connect, find_session


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Let a paused session go on; a run that is over is refused."""
    from elektronn_tui.session.protocol import Resume

    info = find_session(args.session)
    if info.liveness == "dead":
        raise SessionError(
            f"session {info.name} is {info.state} and can't be resumed: this version resumes paused sessions only. "
            f"Its checkpoints are in {info.run_dir}/checkpoints"
        )
    with connect(args.session) as client:
        print_done(client.request(Resume(), timeout=None), as_json=args.json)
    return DONE

"""``elektronn tui [EXPERIMENT or SESSION]``: the application."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from elektronn_tui.errors import ElektronnError, ExperimentError, SessionNotFound

from . import USAGE
from .train import add_start_options, order_from

if TYPE_CHECKING:
    from elektronn_tui.session.launch import Start
    from elektronn_tui.session.registry import SessionInfo


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "experiment",
        nargs="?",
        metavar="EXPERIMENT or SESSION",
        help="an experiment's file or zoo name: start it and open it; a session's full name or id: open it; "
        "none: the home screen",
    )
    add_start_options(parser)
    add_view_options(parser)


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Declare how the application shows a session."""
    parser.add_argument("--rate", type=float, metavar="HZ", help="updates a second (default: 1, or as in the settings)")
    parser.add_argument("--read-only", action="store_true", help="watch without the right to change anything")


def run(args: argparse.Namespace) -> int:
    """Open the application."""
    require_terminal()
    if args.experiment is None:
        return open_app(None, args)
    from elektronn_tui.session.launch import follow_start
    from elektronn_tui.session.registry import find
    from elektronn_tui.training.examples import experiment_file

    try:
        experiment_file(args.experiment)
    except ExperimentError as no_experiment:
        try:
            return open_app(find(args.experiment, exact=True), args)
        except SessionNotFound:
            raise SessionNotFound(f"{no_experiment} Nor is there a session of that name or id.") from None
    order = order_from(args, foreground=False)
    if order is None:
        return USAGE
    # Clients can connect before torch is imported: the application shows how the session starts.
    start = follow_start(order)
    try:
        target = find(start.entry.id, exact=True)
    except SessionNotFound:
        start.settled.wait()
        if start.failure is None:
            raise
        raise start.failure from None
    return open_app(target, args, start)


def open_app(target: SessionInfo | None, args: argparse.Namespace, start: Start | None = None) -> int:
    """Show the application until the person leaves it."""
    from elektronn_tui.app import run_app

    if args.rate is not None and not 0.1 <= args.rate <= 20:
        raise ElektronnError(f"--rate {args.rate:g} is not allowed; it must be from 0.1 to 20 updates a second")
    return run_app(target, read_only=args.read_only, rate=args.rate, start=start)


def require_terminal() -> None:
    """Refuse to draw where nobody would see it.

    Raises
    ------
    ElektronnError
        Standard input or output is no terminal, or a dumb one.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise ElektronnError("the application needs a terminal; `elektronn train`, `ls`, `log`, `set` ... do without")

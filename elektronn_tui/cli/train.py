"""``elektronn train EXPERIMENT``: train in the foreground, or with ``--detach`` in the background."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import DONE, USAGE
from .output import add_json, print_json, print_line, warn

if TYPE_CHECKING:
    from elektronn_tui.session.launch import Order


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a file, or a name of the zoo (elektronn new)")
    add_start_options(parser)
    parser.add_argument("--detach", action="store_true", help="in the background; prints the session's name")
    add_json(parser)


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Declare how a session is started."""
    parser.add_argument("--name", metavar="N", help="name of the session (default: the experiment's and a time stamp)")
    add_settings(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="make exactly N steps")
    parser.add_argument("--on-error", choices=("halt", "stop"), help="what an exception in the loop does")
    parser.add_argument("--on-nan", choices=("pause", "rollback", "stop"), help="what a NaN or infinite loss does")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Declare ``--set``."""
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of the experiment (data.path, optimiser.lr, ...) or control; may be given several times",
    )


def run(args: argparse.Namespace) -> int:
    """Train."""
    from msgspec import structs

    from elektronn_tui.session.launch import become_worker, start_worker

    order = order_from(args, foreground=not args.detach)
    if order is None:
        return USAGE
    if not args.detach:
        become_worker(structs.replace(order, as_json=args.json))
    entry = start_worker(order)
    if args.json:
        print_json({"name": entry.name, "id": entry.id, "pid": entry.pid, "run_dir": entry.run_dir})
    else:
        print_line(entry.name)
    return DONE


def order_from(args: argparse.Namespace, *, foreground: bool) -> Order | None:
    """Return what the worker is to do; None, after a word on stderr, when the arguments can't be meant."""
    from elektronn_tui.session.launch import Order
    from elektronn_tui.training.examples import experiment_file

    settings = {}
    for text in args.settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            warn(f"--set {text!r} is not KEY=VALUE")
            return None
        settings[key.strip()] = value.strip()
    if args.steps is not None and args.steps < 1:
        warn(f"--steps {args.steps} is not allowed; it must be 1 or more")
        return None
    return Order(
        experiment=str(experiment_file(args.experiment)),
        name=args.name or "",
        settings=settings,
        steps=args.steps,
        on_error=args.on_error or "",
        on_nan=args.on_nan or "",
        foreground=foreground,
    )

"""``elektronn exec SESSION CODE``: run Python in a session, between two steps."""

from __future__ import annotations

import argparse
import sys

from . import DONE, REFUSED
from .output import add_json, print_json, warn
from .session import add_session, connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("code", metavar="CODE", help="statements; - reads them from standard input")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run code and print what it printed; Ctrl-C interrupts the code, not the training."""
    from elektronn_tui.session.protocol import Execute

    code = sys.stdin.read() if args.code == "-" else args.code
    with connect(args.session) as client:
        try:
            done = client.request(Execute(code=code), timeout=None)
        except KeyboardInterrupt:
            interrupt(args.session)
            return 130
    if args.json:
        document = {"ok": done.ok, "output": done.output, "error": done.error or None, "step": done.step}
        print_json(document | {"seconds": done.seconds})
    else:
        sys.stdout.write(done.output)
        if done.error:
            sys.stderr.write(done.error if done.error.endswith("\n") else done.error + "\n")
    return DONE if done.ok else REFUSED


def interrupt(session: str) -> None:
    """Interrupt the statement that runs now."""
    from elektronn_tui.session.protocol import Interrupt

    with connect(session) as client:
        client.request(Interrupt(), timeout=5.0)
    warn("interrupted; training goes on")

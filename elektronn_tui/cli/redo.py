"""``elektronn redo SESSION``: bring back what was undone."""

from __future__ import annotations

import argparse

from .undo import configure, repeat

__all__ = ["configure", "run"]


def run(args: argparse.Namespace) -> int:
    """Bring back what was undone."""
    from elektronn_tui.session.protocol import Redo

    return repeat(args, Redo(count=args.count))

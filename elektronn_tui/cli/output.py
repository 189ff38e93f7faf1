"""What verbs print: one JSON document, JSON lines, or text in aligned columns."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def add_json(parser: argparse._ActionsContainer) -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document (JSON lines with -f)")


def print_json(document: Any) -> None:
    """Print a document as JSON, NaN and infinities as null."""
    import msgspec

    print_line(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def print_json_line(document: Any) -> None:
    """Print a document as one line of JSON, and flush it for whoever follows."""
    import msgspec

    print_line(msgspec.json.encode(document).decode())
    sys.stdout.flush()


def print_line(text: str = "") -> None:
    """Print a line of text."""
    sys.stdout.write(text + "\n")


def warn(text: str) -> None:
    """Print a message for the person, not for the pipe."""
    sys.stderr.write(f"elektronn: {text}\n")


def print_table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print rows in aligned columns; the last column is not padded."""
    table = [list(row) for row in ([header] if header else [])] + [list(row) for row in rows]
    if not table:
        return
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        print_line("  ".join([*cells, row[-1]]).rstrip())


def format_seconds(seconds: float | None) -> str:
    """Return a duration in the two units that matter."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{rest} s"


def print_done(done: Any, *, as_json: bool) -> None:
    """Print a session's answer `Done`: at which step it did what."""
    if as_json:
        print_json({"step": done.step, "text": done.text})
    else:
        print_line(done.text or f"done at step {done.step}")

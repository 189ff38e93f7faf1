"""``elektronn get SESSION [CONTROL...]``: show a session's controls."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import DONE
from .output import add_json, print_json, print_table
from .session import add_session, connect

if TYPE_CHECKING:
    from elektronn_tui.session.protocol import ControlInfo

FEW = 6
"""Numbers of a value that are shown where all controls are listed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_session(parser)
    parser.add_argument("controls", nargs="*", metavar="CONTROL", help="which ones (default: all)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show controls."""
    from elektronn_tui.session.protocol import GetControls

    with connect(args.session, read_only=True) as client:
        controls = client.request(GetControls(names=tuple(args.controls))).controls
    if args.json:
        print_json({info.name: _document(info) for info in controls})
    else:
        print_table([_cells(info, in_short=not args.controls) for info in controls])
    return DONE


def _document(info: ControlInfo) -> dict[str, object]:
    return {
        "value": info.value,
        "type": info.type,
        "default": info.default,
        "minimum": info.minimum,
        "maximum": info.maximum,
        "choices": list(info.choices) or None,
        "unit": info.unit,
        "schedule": info.schedule or None,
        "pinned": info.pinned,
        "edits": info.edits,
        "help": info.help,
    }


def _cells(info: ControlInfo, *, in_short: bool) -> tuple[str, ...]:
    from elektronn_tui.session.journal import shown

    value = info.value
    if in_short and isinstance(value, (list, tuple)) and len(value) > FEW:
        text = f"{shown(value[:FEW])}, … ({len(value)} numbers)"
    else:
        text = shown(value)
    notes = [f"{info.schedule}{' (pinned)' if info.pinned else ''}"] if info.schedule else []
    if info.edits:
        notes.append(f"✎ {info.edits} {'edit' if info.edits == 1 else 'edits'}")
    return (info.name, f"{text}{f' {info.unit}' if info.unit else ''}", "  ".join(notes), info.help)

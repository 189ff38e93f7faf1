"""``elektronn new [EXAMPLE [FILE]]``: list the zoo, or copy an experiment from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from elektronn_tui.errors import ElektronnError

from . import DONE
from .output import add_json, print_json, print_line, print_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("example", nargs="?", metavar="EXAMPLE", help="an experiment of the zoo; none: list them")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to write it (default: EXAMPLE.py)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List the zoo or copy from it."""
    from elektronn_tui.training.examples import examples, find_example

    if args.example is None:
        known = examples().values()
        if args.json:
            print_json([{"name": e.name, "summary": e.summary, "path": str(e.path)} for e in known])
        else:
            print_table([(e.name, e.summary) for e in known])
        return DONE
    example = find_example(args.example)
    target = args.file or Path(f"{example.name}.py")
    if target.is_dir():
        target /= f"{example.name}.py"
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(example.path.read_text(encoding="utf-8"))
    except FileExistsError:
        raise ElektronnError(f"{target} exists; name another file") from None
    except OSError as error:
        raise ElektronnError(f"can't write {target}: {error.strerror}") from None
    if args.json:
        print_json({"name": example.name, "file": str(target.resolve())})
    else:
        print_line(f"wrote {target}; edit it, then:  elektronn tui {target}")
    return DONE

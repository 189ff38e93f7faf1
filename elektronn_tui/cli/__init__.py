"""The `elektronn` command: one module a verb, imported when it is used.

A verb's module has ``configure(parser)`` and ``run(args) -> int``. Exit codes: 0 done or detached, 1 refused (one
line on stderr says why), 2 usage, 3 no such session, 4 the session failed, 5 could not connect or connection lost.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

VERBS = {
    "tui": "open the application: the home screen, a new session, or one that exists",
    "train": "train an experiment, in the foreground or with --detach in the background",
    "attach": "open the application on a running session",
    "ls": "list sessions",
    "get": "show a session's controls",
    "set": "set controls of a session",
    "undo": "take the last edit of a session back",
    "redo": "bring back what was undone",
    "exec": "run Python in a session, between two steps",
    "log": "show a session's log",
    "history": "show a session's metrics, as numbers, CSV or a plot",
    "journal": "show what changed a session from outside",
    "pause": "let a session wait at its next step boundary",
    "resume": "let a paused session go on",
    "save": "let a session write a checkpoint",
    "stop": "end a session, with a checkpoint",
    "jobs": "list the predictions that a session makes beside training, or cancel one",
    "new": "list the zoo, or copy an experiment from it to edit",
    "score": "compare a segmentation with the true one: VOI, adapted Rand error, and each object",
    "predict": "predict a volume with a model file, or beside a running session",
    "segment": "turn a prediction of boundaries or affinities into segments, block by block",
    "graph": "draw a network: in the terminal, as a picture, or as a page to look at each node",
    "sizes": "tell which patch sizes go through a network, or through layers that are still to be written",
    "profile": "measure a network node by node, and find its fastest patch, batch, precision and memory format",
    "data": "show what an experiment's data are, and an example as training would make it",
    "doctor": "check what sessions need of this machine",
}
"""Every verb and its line of help."""

DONE, REFUSED, USAGE, NOT_FOUND, FAILED, NO_CONNECTION = range(6)


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command; with `only`, just that verb's module is imported."""
    from elektronn_tui import __version__

    parser = argparse.ArgumentParser(
        prog="elektronn",
        description="Train networks on microscopy volumes in a live, writable session of the terminal.",
        epilog="elektronn VERB --help tells more. SESSION is a name, a unique prefix of one, or an id.",
    )
    parser.add_argument("--version", action="version", version=f"elektronn {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, line in VERBS.items():
        verb_parser = verbs.add_parser(verb, help=line, description=f"{line[0].upper()}{line[1:]}.")
        if only in (None, verb):
            importlib.import_module(f".{verb}", __name__).configure(verb_parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    verb = next((word for word in argv if not word.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        from elektronn_tui.errors import did_you_mean

        hint = did_you_mean(verb, VERBS) or " elektronn --help lists them."
        print(f"elektronn: there is no verb {verb!r}.{hint}", file=sys.stderr)  # noqa: T201
        return USAGE
    if not argv:
        build_parser(only="").print_help()
        return USAGE
    args = build_parser(only=verb or "").parse_args(argv)
    return _guarded(args)


def _guarded(args: argparse.Namespace) -> int:
    """Run a verb and turn what it raises into one line and an exit code."""
    from elektronn_tui.errors import ElektronnError, SessionNotFound

    try:
        code = importlib.import_module(f".{args.verb}", __name__).run(args)
        sys.stdout.flush()
        return int(code)
    except SessionNotFound as error:
        return _complain(error, NOT_FOUND)
    except ElektronnError as error:
        from elektronn_tui.session.errors import ConnectError, ConnectionLost, LaunchError

        if isinstance(error, LaunchError) and error.traceback:
            sys.stderr.write(error.traceback.rstrip() + "\n")
        lost = isinstance(error, ConnectError | ConnectionLost)
        failed = isinstance(error, LaunchError) and not error.refused
        return _complain(error, NO_CONNECTION if lost else FAILED if failed else REFUSED)
    except BrokenPipeError:
        # The reader of a pipe went away (`elektronn log ... | head`); Python must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # a file that may not be read, a disk that is full: the message names it
        return _complain(error, REFUSED)
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception, code: int) -> int:
    print(f"elektronn: {error}", file=sys.stderr)  # noqa: T201
    return code

"""jedi in a process beside the worker: ``python -m elektronn_tui.session.completer``.

In the worker it would take up to 84 % of a training loop's steps. It gets source text and import paths over its
standard input, never objects, and ends when that closes, as it does when the worker is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
from typing import Any

import msgspec

from .protocol import HEADER_SIZE, MAX_FRAME, Completion, Completions, frame_length

__all__ = ["Question", "main", "serve"]

MAX_ITEMS = 200
LONGEST_DOCUMENTATION = 4000
_PR_SET_PDEATHSIG = 1


class Question(msgspec.Struct, frozen=True):
    """What the worker asks."""

    number: int
    prelude: str  # source that gives the console's names their types
    code: str
    line: int  # 0-based
    column: int  # 0-based
    path: list[str] = []  # the worker's sys.path


class Reply(msgspec.Struct, frozen=True):
    """What it is answered."""

    number: int
    completions: Completions


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return `count` bytes.

    Raises
    ------
    EOFError
        The other side closed.
    """
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def serve(connection: socket.socket) -> None:
    """Answer questions until the other side closes."""
    decoder = msgspec.msgpack.Decoder(Question)
    while True:
        try:
            length = frame_length(read_exactly(connection, HEADER_SIZE), MAX_FRAME)
            question = decoder.decode(read_exactly(connection, length))
        except EOFError:
            return
        try:
            found = answered(question)
        except Exception as error:  # noqa: BLE001 - jedi fails on odd code, and then there is nothing to propose
            sys.stderr.write(f"completion failed: {type(error).__name__}: {error}\n")
            found = Completions(start=question.column)
        body = msgspec.msgpack.encode(Reply(question.number, found))
        connection.sendall(len(body).to_bytes(HEADER_SIZE, "big") + body)


def answered(question: Question) -> Completions:
    """Return jedi's answer, a second time without what its cache held when that was damaged.

    parso writes its cache in place and reads it without checks, and other sessions write the same files.
    """
    try:
        return answer(question)
    except (EOFError, pickle.UnpicklingError, OSError):
        from jedi import settings
        from parso.cache import parser_cache

        parser_cache.clear()
        settings.cache_directory = tempfile.mkdtemp(prefix="elektronn-completion-")
        atexit.register(shutil.rmtree, settings.cache_directory, ignore_errors=True)
        return answer(question)


def answer(question: Question) -> Completions:
    """Return jedi's proposals, the signature of the call around the cursor, and the first proposal's documentation."""
    import jedi

    prelude = question.prelude.rstrip("\n") + "\n" if question.prelude else ""
    script = jedi.Script(
        prelude + question.code,
        environment=jedi.InterpreterEnvironment(),  # else it would start a process of its own
        project=jedi.Project(os.getcwd(), sys_path=question.path or None, smart_sys_path=False),
    )
    line = question.line + prelude.count("\n") + 1
    found = script.complete(line, question.column)[:MAX_ITEMS]
    signatures = script.get_signatures(line, question.column)
    length = found[0].get_completion_prefix_length() if found else 0
    explained = signatures if signatures and not length else found  # in a call's brackets, the call
    documentation = explained[0].docstring()[:LONGEST_DOCUMENTATION] if explained else ""
    return Completions(
        start=question.column - length,
        items=tuple(Completion(name=item.name, kind=item.type) for item in found),
        signature=signatures[0].to_string() if signatures else "",
        documentation=documentation,
    )


def main() -> None:
    """Serve the socket that is this process's standard input."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        prctl: Any = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # even while jedi is busy and does not read
    with socket.socket(fileno=0) as connection, contextlib.suppress(OSError):
        serve(connection)


if __name__ == "__main__":
    main()

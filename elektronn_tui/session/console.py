"""Python statements of clients, run on the training thread between two steps."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import itertools
import linecache
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, TextIO

import numpy as np
from rich.pretty import pretty_repr

from elektronn_tui.errors import ElektronnError

from .gate import Gate
from .protocol import ConsoleOutput, Executed
from .records import Ring

__all__ = ["Console", "Statement"]

Stream = Literal["code", "stdout", "stderr", "result", "error", "note"]

LONGEST_VALUE = 20_000
"""Characters of a value's text that are shown."""
LONGEST_ANSWER = 100_000
"""Characters of output that the answer to a statement carries."""
LONGEST_STATEMENT_OUTPUT = 1_000_000
"""Characters that a statement may send to clients; what it prints beyond is counted and dropped."""
LONGEST_PIECE = 16_000
_OURS = f"{Path(__file__).parents[1]}{os.sep}"
EXIT_NOTE = "q detaches, `stop` ends the session; exit() does neither"


@dataclass
class Statement:
    """A statement of a client."""

    number: int
    code: str
    client: str
    owner: int = 0  # number of that client's connection
    cancelled: bool = False


class _Exit:
    """Stands for `exit` and `quit`, which would end an interpreter."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __repr__(self) -> str:
        return EXIT_NOTE

    def __call__(self, code: object = None) -> None:
        self._console.note(EXIT_NOTE)


@dataclass
class _Running:
    statement: Statement
    answer: list[str] = field(default_factory=list)
    length: int = 0
    dropped: int = 0
    error: str = ""
    interrupted: bool = False


class Console:
    """The namespace and transcript that all clients of a session share.

    Parameters
    ----------
    namespace
        Where statements run; the last result is its ``_``.
    notify
        Called when the transcript grew; from any thread, must return at once.
    """

    def __init__(self, namespace: dict[str, Any], notify: Callable[[], None]) -> None:
        self.namespace = namespace
        namespace.setdefault("__builtins__", builtins)
        namespace["exit"] = namespace["quit"] = _Exit(self)
        self.gate = Gate()
        self.transcript: Ring[ConsoleOutput] = Ring(200)
        self.source: deque[str] = deque(maxlen=200)  # of statements that ran, for completion
        self._notify = notify
        self._numbers = itertools.count(1)
        self._pending: deque[ConsoleOutput] = deque()
        self._gathering = threading.Lock()
        self._running: _Running | None = None
        self._thread = 0  # that runs statements

    # --- any thread -------------------------------------------------------------------------------

    def statement(self, code: str, client: str) -> Statement:
        """Return a numbered statement that can be run.

        Raises
        ------
        SyntaxError, ValueError
            The code is no Python.
        """
        number = next(self._numbers)
        compile(code, f"<console {number}>", "exec")
        return Statement(number, code, client)

    @property
    def running(self) -> int:
        """Number of the statement that runs now, 0 for none."""
        running = self._running
        return running.statement.number if running is not None else 0

    def interrupt(self, number: int = 0) -> bool:
        """Interrupt a statement (0: whichever runs); return whether it runs."""
        running = self.running
        if not running or number not in (0, running):
            return False
        self.gate.interrupt(running)
        return True

    def gather(self) -> None:
        """Move what was written into the transcript, pieces of one stream joined."""
        with self._gathering:
            parts: list[ConsoleOutput] = []
            with contextlib.suppress(IndexError):
                while True:
                    parts.append(self._pending.popleft())
            for key, group in itertools.groupby(parts, lambda part: (part.statement, part.stream, part.client)):
                text = "".join(part.text for part in group)
                for start in range(0, max(len(text), 1), LONGEST_PIECE):
                    piece = text[start : start + LONGEST_PIECE]
                    self.transcript.append(ConsoleOutput(statement=key[0], stream=key[1], text=piece, client=key[2]))

    # --- the main thread --------------------------------------------------------------------------

    def write(self, stream: Stream, text: str) -> None:
        """Take what a statement wrote; text of no statement is not the console's."""
        running = self._running
        if running is None or not text:
            return
        room = LONGEST_STATEMENT_OUTPUT - running.length
        if len(text) > room:
            running.dropped += len(text) - max(room, 0)
            text = text[: max(room, 0)]
        if text:
            if running.length < LONGEST_ANSWER:
                running.answer.append(text[: LONGEST_ANSWER - running.length])
            running.length += len(text)
            self._emit(running.statement.number, stream, text)

    def note(self, text: str) -> None:
        """Tell all clients something about the console."""
        running = self._running
        if running is not None:
            self.write("note", text + "\n")
        else:
            self._emit(0, "note", text + "\n")

    def error(self, text: str) -> None:
        """Show all clients a traceback that no statement caused."""
        self._emit(0, "error", text)

    def run(self, statement: Statement, step: int) -> Executed:
        """Run a statement; whatever it raises becomes its answer."""
        start = time.monotonic()
        self._thread = threading.get_ident()
        running = self._running = _Running(statement)
        self._emit(statement.number, "code", statement.code, statement.client)
        filename = f"<console {statement.number}>"
        lines = statement.code.splitlines(keepends=True)
        linecache.cache[filename] = (len(statement.code), None, lines, filename)
        linecache.cache.pop(f"<console {statement.number - 100}>", None)
        try:
            if not self.gate.run(statement.number, lambda: self._execute(statement.code, filename, running)):
                running.interrupted = True
                running.error = "KeyboardInterrupt: the statement was interrupted\n"
            if running.error:
                self._emit(statement.number, "error", running.error)
            if running.dropped:
                self._emit(statement.number, "note", f"… {running.dropped} characters more were not kept\n")
        finally:
            self._running = None
        if not running.error:
            self.source.append(statement.code)
        self.gather()
        output = "".join(running.answer)
        cut = running.length + running.dropped - len(output)
        return Executed(
            statement=statement.number,
            ok=not running.error,
            interrupted=running.interrupted,
            output=output + (f"\n… {cut} characters more\n" if cut else ""),
            error=running.error,
            step=step,
            seconds=time.monotonic() - start,
        )

    @contextlib.contextmanager
    def captured_output(self) -> Iterator[None]:
        """Show what statements print to clients, too; and keep them from reading the terminal."""
        before = sys.stdout, sys.stderr, sys.stdin
        sys.stdout = _Tee(before[0], self, "stdout")
        sys.stderr = _Tee(before[1], self, "stderr")
        sys.stdin = io.StringIO()
        try:
            # A batch is an array of five axes: numpy's own three items at each end of each would fill screens.
            with np.printoptions(edgeitems=2, threshold=200):
                yield
        finally:
            sys.stdout, sys.stderr, sys.stdin = before

    def show_failure(self, error: BaseException) -> str:
        """Bring an error of the loop into the console's reach, as ``error`` and ``frame``; return its traceback."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        self.namespace["error"] = error
        self.namespace["frame"] = SimpleNamespace(**trace.tb_frame.f_locals) if trace is not None else None
        text = "".join(traceback.format_exception(error))
        self.error(text + "The names of the failing frame are in `frame`, the exception is `error`.\n")
        self.gather()
        return text

    def _emit(self, number: int, stream: Stream, text: str, client: str = "") -> None:
        self._pending.append(ConsoleOutput(statement=number, stream=stream, text=text, client=client))
        self._notify()

    def _execute(self, code: str, filename: str, running: _Running) -> None:
        try:
            tree = ast.parse(code, filename)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, filename, "exec"), self.namespace)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), filename, "eval"), self.namespace)
                if value is not None:
                    self.namespace["_"] = value
                    self.write("result", shown_value(value) + "\n")
        except KeyboardInterrupt:
            raise
        except SystemExit:
            self.note(EXIT_NOTE)
        except BaseException as error:  # noqa: BLE001 - whatever a statement raises is its answer
            running.error = clean_traceback(error, filename)

    def is_running_here(self) -> bool:
        """Tell whether the calling thread runs a statement now."""
        return self._running is not None and threading.get_ident() == self._thread


class _Tee(io.TextIOBase):
    """Writes where it did before, and to the console while a statement runs on this thread."""

    def __init__(self, stream: TextIO, console: Console, kind: Literal["stdout", "stderr"]) -> None:
        self._stream = stream
        self._console = console
        self._kind: Literal["stdout", "stderr"] = kind

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream below."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write text."""
        if self._console.is_running_here():
            self._console.write(self._kind, text)
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream below."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether the stream below is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True


def shown_value(value: Any) -> str:
    """Return a value's text: long containers cut, long texts cut, never more than `LONGEST_VALUE` characters."""
    if isinstance(value, (str, bytes)) and len(value) > LONGEST_VALUE:
        text = repr(value[:LONGEST_VALUE])
        return f"{text[:-1]}…{text[-1]} ({len(value)} long)"
    text = pretty_repr(value, max_width=100, max_length=100, max_string=LONGEST_VALUE)
    if len(text) > LONGEST_VALUE:
        return f"{text[:LONGEST_VALUE]}… ({len(text) - LONGEST_VALUE} characters more)"
    return text


def clean_traceback(error: BaseException, filename: str) -> str:
    """Return a traceback that begins in the statement, frames of the console itself cut."""
    if isinstance(error, SyntaxError) and error.filename == filename:
        return "".join(traceback.format_exception_only(error))
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    if isinstance(error, ElektronnError) and trace is not None:
        return _refused(error, trace)
    lines = traceback.format_exception(type(error), error, trace or error.__traceback__, limit=-40)
    text = "".join(lines)
    return text if len(text) <= LONGEST_VALUE else text[:2000] + "\n…\n" + text[2000 - LONGEST_VALUE :]


def _refused(error: ElektronnError, trace: TracebackType) -> str:
    """Return why, below the person's own lines that led there; ours are of no use, and a single one is in sight."""
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if not frame.filename.startswith(_OURS) and "site-packages" not in frame.filename]
    in_sight = len(own) == 1 and len(linecache.getlines(own[0].filename)) == 1
    return f"{'' if in_sight else ''.join(traceback.format_list(own))}{type(error).__name__}: {error}\n"

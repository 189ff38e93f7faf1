"""The process of a session: ``python -m elektronn_tui.session.worker``, started by `elektronn_tui.session.launch`.

The main thread trains; the server, the history and the state file have threads of their own. It never forks.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import importlib.util
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from elektronn_tui.errors import ElektronnError, SessionError

from .errors import LaunchError
from .launch import Order, Word
from .progress import Progress
from .protocol import State
from .registry import Entry, own_entry, register, unregister
from .rundir import StateFile, git_version, write_environment, write_order
from .server import Server
from .session import Session

__all__ = ["main", "train_experiment"]

Loop = Callable[[Session, Order], object]
DONE, REFUSED, FAILED, INTERRUPTED = 0, 1, 4, 130


def train_experiment(session: Session, order: Order) -> None:
    """Train an experiment file with our own trainer."""
    from elektronn_tui.training.experiment import load_experiment
    from elektronn_tui.training.runner import run

    overrides = [f"{key}={value}" for key, value in order.settings.items()]
    overrides += [f"{key}={value}" for key in ("on_nan", "on_error") if (value := getattr(order, key))]
    if order.steps is not None:
        overrides.append(f"steps={order.steps}")
    run(load_experiment(order.experiment, overrides), session)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a session and return the exit code: 0 done or stopped, 1 refused at the start, 4 failed, 130 cut off."""
    parser = argparse.ArgumentParser(prog="elektronn-worker")
    parser.add_argument("--order", required=True, help="what to do, as JSON")
    parser.add_argument("--ready-fd", type=int, default=-1, help="descriptor to say on that the session is up")
    arguments = parser.parse_args(argv)
    order = msgspec.json.decode(arguments.order, type=Order)
    faulthandler.enable()
    return Worker(order, _Launcher(arguments.ready_fd)).run()


class _Launcher:
    """Who started this worker, and waits for a word."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)

    def say(self, word: Word, *, last: bool = False) -> None:
        """Say something, unless it went away."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            os.write(self._descriptor, msgspec.json.encode(word) + b"\n")
        if last:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


class Worker:
    """One session's process, from its first file to its last."""

    def __init__(self, order: Order, launcher: _Launcher) -> None:
        self._order = order
        self._launcher = launcher
        self._run_dir = Path(order.run_dir)
        self._entry: Entry = own_entry(
            session_id=order.session_id, run_dir=self._run_dir, experiment=Path(order.experiment).stem
        )
        self._session = Session(
            self._run_dir, name=self._run_dir.name, session_id=order.session_id, foreground=order.foreground
        )
        self._server = Server(self._session, self._entry)
        self._progress = Progress(self._session) if order.foreground else None
        self._state_file: StateFile | None = None
        self._ran = False
        self._never_ran: LaunchError | None = None
        self._interrupts = 0

    def run(self) -> int:
        """Train, and return the exit code."""
        session = self._session
        session.log.install()
        try:
            self._come_up()
        except (ElektronnError, OSError) as error:
            return self._fail_at_start(error)
        state, reason, code = self._trained()
        if not self._ran and code != DONE:
            session.finish(state, reason)
            self._go_down(state, reason)
            shutil.rmtree(self._run_dir, ignore_errors=True)  # it holds nothing: no step was made
            return code
        session.finish(state, reason)
        self._go_down(state, reason)
        return code

    def _come_up(self) -> None:
        order, session = self._order, self._session
        write_order(order, self._run_dir)
        self._state_file = StateFile(session, self._entry, git_version(Path(order.experiment).absolute().parent))
        tell_state_file = session.on_state

        def on_state() -> None:
            if tell_state_file is not None:
                tell_state_file()
            if session.state == "running" and not self._ran:
                self._ran = True
                self._launcher.say(Word(event="ready", entry=self._entry), last=True)

        session.on_state = on_state
        session.console.gate.install()
        for number, handler in (
            (signal.SIGINT, self._on_interrupt),
            (signal.SIGTERM, self._on_terminate),
            (signal.SIGHUP, self._on_hang_up),
        ):
            signal.signal(number, handler)
        self._server.start()
        register(self._entry)
        self._launcher.say(Word(event="bound", entry=self._entry))
        write_environment(self._run_dir)
        if self._progress is not None:
            self._progress.start()

    def _trained(self) -> tuple[State, str, int]:
        session, order = self._session, self._order
        try:
            loop = load_loop(order.entry)
            with session.console.captured_output():
                loop(session, order)
        except KeyboardInterrupt:
            return "stopped", "interrupted, not saved", INTERRUPTED
        except _Ended as ended:
            return "stopped", str(ended), DONE
        except Exception as error:  # noqa: BLE001 - the process's border: shown to everybody, and told in the exit code
            return self._failed(error)
        if session.stopping:
            return "stopped", session.stopping, DONE
        return "finished", "", DONE

    def _failed(self, error: Exception) -> tuple[State, str, int]:
        session = self._session
        reason = str(error) if isinstance(error, ElektronnError) else f"{type(error).__name__}: {error}"
        text = "".join(traceback.format_exception(error))
        if not self._ran:
            ours = isinstance(error, ElektronnError)
            if self._progress is not None:
                self._progress.stop(discard=True)
                self._progress = None
                sys.stderr.write(f"elektronn: {reason}\n" if ours else text)
            self._never_ran = LaunchError(reason, "" if ours else text, refused=ours)
            word = Word(event="error", message=reason, traceback=self._never_ran.traceback, refused=ours)
            self._launcher.say(word, last=True)
            return "failed", reason, REFUSED if ours else FAILED
        if self._halts() and not session.stopping:
            session.halt(error)
        else:
            session.logger.error("%s", text)
            if session.on_save is not None and not session.stopping:
                try:
                    session.on_save(None)
                except Exception as second:  # noqa: BLE001 - it failed already; this is said beside it
                    session.logger.error("saving failed, too: %s", second)
        return "failed", reason, FAILED

    def _halts(self) -> bool:
        """Whether an error that left the loop waits for a person; a loop with a control for it decided already.

        A person at a live session can look and mend, a batch job can't: hence the two defaults.
        """
        if "on_error" in self._session.controls.names():
            return False
        return (self._order.on_error or ("stop" if self._order.foreground else "halt")) == "halt"

    def _fail_at_start(self, error: Exception) -> int:
        self._launcher.say(Word(event="error", message=str(error), refused=True), last=True)
        sys.stderr.write(f"elektronn: {error}\n")
        if self._state_file is not None:
            self._state_file.close()
        unregister(self._entry)
        shutil.rmtree(self._run_dir, ignore_errors=True)
        return REFUSED

    def _go_down(self, state: State, reason: str) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._session.jobs.let_go()
        self._server.close(state, reason, never_ran=self._never_ran)
        self._session.close()
        if self._state_file is not None:
            try:
                self._state_file.close()
            except OSError as error:
                sys.stderr.write(f"elektronn: session.json can't be written: {error}\n")
        unregister(self._entry)
        if self._progress is not None:
            self._progress.stop()
        if self._order.as_json and self._never_ran is None:
            sys.stdout.write(self._ending(state, reason) + "\n")
        word = f"the session is {state}{f': {reason}' if reason else ''}"
        self._launcher.say(Word(event="error", message=word), last=True)

    def _ending(self, state: State, reason: str) -> str:
        entry = self._entry
        document: dict[str, object] = {"name": entry.name, "id": entry.id, "run_dir": entry.run_dir}
        document |= {"state": state, "reason": reason, "step": self._session.step}
        return msgspec.json.format(msgspec.json.encode(document)).decode()

    # --- signals; all run on the main thread, between two bytecodes -------------------------------

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self._stop("interrupted (Ctrl-C)")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._stop("terminated (SIGTERM)")

    def _on_hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._progress is not None:
            self._progress.let_go()
            self._progress = None
        let_go_of_terminal(self._run_dir)

    def _stop(self, reason: str) -> None:
        if self._session.state == "starting":
            raise _Ended(f"{reason} before the first step")
        self._session.stop(reason)
        self._session.console.interrupt()


class _Ended(BaseException):
    """The session was told to end before it began; not to be caught by anything that builds the experiment."""


def let_go_of_terminal(run_dir: Path) -> None:
    """Point the standard descriptors, where they are a terminal, to files of the run."""
    for descriptor, name in ((0, os.devnull), (1, str(run_dir / "stdout.log")), (2, str(run_dir / "stderr.log"))):
        if os.isatty(descriptor) or _is_broken(descriptor):
            opened = os.open(name, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(opened, descriptor)
            os.close(opened)


def _is_broken(descriptor: int) -> bool:
    """Tell whether a descriptor is a terminal that hung up: it is none any more, and answers with an error."""
    try:
        os.fstat(descriptor)
        return os.path.realpath(f"/proc/self/fd/{descriptor}").startswith(("/dev/pts/", "/dev/tty"))
    except OSError:
        return True


def load_loop(text: str) -> Loop:
    """Return the function of ``"module:function"`` or ``"file.py:function"``.

    Raises
    ------
    SessionError
        There is none.
    """
    place, _, name = text.rpartition(":")
    try:
        module: Any
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            if spec is None or spec.loader is None:
                raise SessionError(f"{place} is no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        loop: Loop = getattr(module, name)
    except (ImportError, AttributeError, FileNotFoundError, ValueError) as error:
        raise SessionError(f"there is no loop {text!r}: {error}") from error
    return loop


if __name__ == "__main__":
    code = main()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # whatever thread an experiment left behind must not keep a session that has ended

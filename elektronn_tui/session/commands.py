"""What each request that changes a session does, between two steps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ControlError, ElektronnError, SessionError

from .console import Statement
from .edits import Edit, text
from .protocol import (
    Answer,
    Done,
    Execute,
    Executed,
    JobStarted,
    MakePreview,
    Pause,
    Receipts,
    Redo,
    Refused,
    Request,
    Resume,
    Save,
    SetConsoleMode,
    SetControls,
    StartJob,
    Stop,
    Undo,
    Unpin,
)

if TYPE_CHECKING:
    from .session import Client, Session

__all__ = ["Commands"]

_CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
LONGEST_CODE = 1_000_000


class Commands:
    """Carries out requests; one a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queued: dict[int, Statement] = {}

    # --- any thread -------------------------------------------------------------------------------

    def prepare(self, request: Request, client: Client) -> Any:
        """Check a request as far as can be without the main thread, and return what was parsed.

        Raises
        ------
        ElektronnError, SyntaxError, ValueError
            It is refused.
        """
        session = self._session
        match request:
            case SetControls(values=values, schedule=schedule):
                return session.edits.check(values, schedule)
            case Unpin(control=name):
                session.controls.info(name)
            case Execute(code=code):
                if len(code) > LONGEST_CODE:
                    raise SessionError(f"a statement of {len(code)} characters; at most {LONGEST_CODE} are run")
                statement = session.console.statement(code, client.name)
                statement.owner = client.number
                self._queued[statement.number] = statement
                return statement
            case Save(name=name):
                if name and not _CHECKPOINT_NAME.fullmatch(name):
                    raise SessionError(
                        f"{name!r} can't be a checkpoint's name: begin with a letter or digit, then also . _ + -"
                    )
                if session.on_save is None:
                    raise SessionError("this session's loop has not said how it is saved")
            case MakePreview():
                if session.on_preview is None:
                    why = session.status().no_preview
                    raise SessionError(f"this session makes no previews{f': {why}' if why else ''}")
            case StartJob(kind=kind, arguments=arguments, cwd=cwd):
                session.jobs.check(kind, arguments, cwd)
            case Undo(count=count) | Redo(count=count):
                if not 1 <= count <= 1000:
                    raise SessionError(f"count={count} is not allowed; it must be from 1 to 1000")
        return None

    def cancel(self, number: int) -> bool:
        """Drop a statement that has not begun (0: the next one, if none runs); return whether there was one."""
        if not number and not self._session.console.running:
            number = next(iter(list(self._queued)), 0)
        statement = self._queued.get(number)
        if statement is None or number == self._session.console.running:
            return False
        statement.cancelled = True
        return True

    def abandon(self, client: Client) -> None:
        """Interrupt what a client runs that has gone: nobody waits for it, and the training does."""
        for statement in list(self._queued.values()):
            if statement.owner == client.number and self._session.interrupt(statement.number):
                self._session.logger.warning(
                    "statement %d is interrupted: %s, who ran it, has gone", statement.number, client.name
                )

    @staticmethod
    def refusal(request: Request, error: BaseException) -> Answer:
        """Return the refusal that an error stands for."""
        if isinstance(error, SyntaxError):
            line = f" (line {error.lineno})" if error.lineno else ""
            return Refused(reason=f"{type(error).__name__}: {error.msg}{line}", field="code")
        fields = {SetControls: "values", Execute: "code", Save: "name", Unpin: "control"}
        field = fields.get(type(request), "") if isinstance(error, (ControlError, SessionError, ValueError)) else ""
        return Refused(reason=str(error), field=field)

    # --- the main thread --------------------------------------------------------------------------

    def carry_out(self, request: Request, client: Client, parsed: Any) -> Answer:
        """Do what is asked for and journal it; return the answer."""
        session = self._session
        match request:
            case SetControls(schedule=schedule):
                return self._edit("set", client, lambda r: session.edits.set(parsed, schedule, session.step + 1, r))
            case Unpin(control=name):
                return self._edit("unpin", client, lambda r: session.edits.unpin(name, r))
            case Undo(count=count):
                return self._repeated("undo", client, session.edits.undo, count)
            case Redo(count=count):
                return self._repeated("redo", client, session.edits.redo, count)
            case Execute(mode=mode):
                return self._execute(parsed, client, hold=mode == "hold")
            case SetConsoleMode(mode=mode):
                return self._hold(client) if mode == "hold" else self._release(client)
            case Pause():
                return self._pause(client)
            case Resume():
                return self._resume(client)
            case Save(name=name):
                return self._save(name, client)
            case MakePreview():
                assert session.on_preview is not None  # `prepare` refused it otherwise
                session.on_preview()
                return Done(step=session.step)
            case StartJob(kind=kind, arguments=arguments, cwd=cwd):
                return JobStarted(job=session.jobs.start(kind, arguments, cwd=cwd, client=client.name).info)
            case Stop(now=now):
                return self._stop(client, now=now)
        raise SessionError(f"a session can't carry out {request.type_name}")

    def _edit(self, kind: str, client: Client, edit: Any) -> Receipts:
        session = self._session
        entries = []

        def record(made: Edit) -> None:
            data = {
                "values": {change.control: change.new for change in made},
                "schedules": {change.control: change.schedule() for change in made if change.schedule()},
            }
            entries.append(
                session.journal.append(kind, step=session.step + 1, client=client.name, text=text(made), data=data)
            )

        made: Edit = edit(record)
        session.mark("edit" if kind in ("set", "unpin") else kind, text(made), step=session.step + 1)
        session.logger.info("%s: %s", kind, text(made))
        return Receipts(receipts=tuple(change.receipt(session.step + 1, entries[0].id) for change in made))

    def _repeated(self, kind: str, client: Client, move: Any, count: int) -> Receipts:
        receipts = list(self._edit(kind, client, move).receipts)
        for _ in range(count - 1):
            try:
                receipts += self._edit(kind, client, move).receipts
            except ControlError:  # fewer were there than asked for
                break
        return Receipts(receipts=tuple(receipts))

    def _execute(self, statement: Statement, client: Client, *, hold: bool) -> Executed:
        session = self._session
        try:
            if statement.cancelled:
                return Executed(statement=statement.number, ok=False, interrupted=True, step=session.step)
            if hold:
                self._hold(client)
            session.record("statement", statement.code, {"statement": statement.number}, client=client.name)
            executed = session.console.run(statement, session.step)
        finally:
            self._queued.pop(statement.number, None)
        if executed.interrupted:  # or a replay would run to its end what never did
            session.record("interrupt", f"statement {statement.number}", {"statement": statement.number})
        session.controls.refresh()
        return executed

    def _hold(self, client: Client) -> Done:
        session = self._session
        if client.number not in session.waiting.holders:
            session.waiting.holders[client.number] = client.name
            session.record("hold", f"held by the console of {client.name}", client=client.name)
            session.update_state()
        return Done(step=session.step)

    def _release(self, client: Client) -> Done:
        session = self._session
        if session.waiting.holders.pop(client.number, None) is not None:
            session.record("release", f"released by the console of {client.name}", client=client.name)
        return Done(step=session.step)

    def _pause(self, client: Client) -> Done:
        session = self._session
        waiting = session.waiting
        if waiting.paused or waiting.halted:
            return Done(step=session.step, text=f"it waits already: {waiting.reason}")
        session.record("pause", f"paused by {client.name}", client=client.name)
        waiting.paused, waiting.reason = True, f"paused by {client.name}"
        return Done(step=session.step, text="paused")

    def _resume(self, client: Client) -> Done:
        session = self._session
        waiting = session.waiting
        if not waiting:
            return Done(step=session.step, text="it runs already")
        session.record("resume", f"resumed by {client.name}", client=client.name)
        waiting.paused = waiting.halted = False
        waiting.reason = ""
        waiting.holders.clear()
        return Done(step=session.step, text="resumed")

    def _save(self, name: str, client: Client) -> Done:
        session = self._session
        assert session.on_save is not None  # `prepare` refused it otherwise
        written = session.on_save(name or None)
        session.record("save", f"saved {written}", {"name": name}, client=client.name)
        return Done(step=session.step, text=written)

    def _stop(self, client: Client, *, now: bool) -> Done:
        session = self._session
        session.record("stop", f"stopped by {client.name}", {"now": now}, client=client.name)
        written = ""
        if not now and session.on_save is not None:
            try:
                written = session.on_save(None)
            except ElektronnError as error:
                raise SessionError(f"not stopped: {error}; stop --now ends it without a checkpoint") from error
        session.stop(f"stopped by {client.name}", save=False)
        return Done(step=session.step, text=f"stopped{f', saved {written}' if written else ''}")

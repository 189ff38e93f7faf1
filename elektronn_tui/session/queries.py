"""What each request of a client is answered with; what changes the session is handed to its main thread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from elektronn_tui.errors import ElektronnError
from elektronn_tui.training.history import HistoryReader

from .completion import Completer
from .connection import Connection
from .feed import Feed
from .protocol import (
    PROTOCOL,
    Answer,
    CancelJob,
    Complete,
    ControlList,
    CurrentStatus,
    Curves,
    Done,
    Execute,
    GetControls,
    GetCurves,
    GetJobs,
    GetJournal,
    GetLog,
    GetPreview,
    GetStatus,
    Hello,
    Interrupt,
    JobList,
    JournalEntries,
    LogLines,
    Message,
    Ping,
    Refused,
    Request,
    SetConsoleMode,
    Subscribe,
    Unsubscribe,
    Unsupported,
)
from .session import Session

if TYPE_CHECKING:
    from .server import Server

__all__ = ["Queries"]

SLOWEST, FASTEST = 0.05, 20.0  # deltas a second
MAX_CURVES, MAX_WIDTH, MAX_PAGE = 200, 10_000, 5000


class Queries:
    """Answers requests in the server's thread."""

    def __init__(self, session: Session, feed: Feed, completer: Completer) -> None:
        self._session = session
        self._feed = feed
        self._completer = completer
        self._reader: HistoryReader | None = None

    def answer(
        self, connection: Connection, name: str, request_id: int, message: Message | None, server: Server
    ) -> None:
        """Answer a message now, or see to it that it is answered."""
        if not isinstance(message, Request):
            connection.answer(Unsupported(request=name, protocol=f"{PROTOCOL[0]}.{PROTOCOL[1]}"), request_id)
            return
        if message.writes and connection.read_only:
            connection.answer(Refused(reason=f"this client is read-only: it can't {name}"), request_id)
            return
        try:
            answer = self._answer(connection, request_id, message, server)
        except ElektronnError as error:
            answer = Refused(reason=str(error))
        if answer is not None:
            connection.answer(answer, request_id)

    def client_gone(self, connection: Connection) -> None:
        """Answer a client no more."""
        self._completer.forget(connection)

    def close(self) -> None:
        """Close the history."""
        if self._reader is not None:
            self._reader.close()

    def _answer(self, connection: Connection, request_id: int, message: Request, server: Server) -> Answer | None:
        session = self._session
        match message:
            case Subscribe(rate=rate):
                if not rate > 0 or not math.isfinite(rate):
                    return Refused(reason=f"rate={rate} is not allowed; it must be > 0 deltas a second", field="rate")
                group = server.subscribe(connection, round(min(max(rate, SLOWEST), FASTEST), 2))
                return self._feed.snapshot(group.cursor)
            case Unsubscribe():
                server.unsubscribe(connection)
                return Done(step=session.step)
            case Ping():
                return Done(step=session.step)
            case GetStatus():
                return CurrentStatus(status=self._feed.status(), metrics=session.history.metrics())
            case GetControls(names=names):
                return ControlList(controls=tuple(session.controls.info(n) for n in names or session.controls.names()))
            case GetCurves(queries=queries):
                if len(queries) > MAX_CURVES:
                    return Refused(reason=f"{len(queries)} curves at once; at most {MAX_CURVES}", field="queries")
                return Curves(
                    curves=tuple(
                        self._history().curve(q.metric, q.first, q.last, min(max(q.width, 1), MAX_WIDTH)).message()
                        for q in queries
                    )
                )
            case GetLog(first=first, count=count):
                lines, total = session.log.read(first, min(count, MAX_PAGE))
                return LogLines(total=total, lines=lines)
            case GetJournal(first=first, count=count):
                entries, total = session.journal.read(first, min(count, MAX_PAGE))
                return JournalEntries(total=total, entries=entries)
            case GetPreview():
                return session.previews.slice(message)
            case Interrupt(statement=number):
                if session.interrupt(number):
                    return Done(step=session.step)
                return Refused(reason="no statement runs" if not number else f"statement {number} does not run")
            case GetJobs():
                return JobList(jobs=session.jobs.infos(), offers=session.jobs.offers())
            case CancelJob(number=number):  # at once: a job is not the training's, which may be busy for long
                session.jobs.cancel(number, client=connection.client.name)
                return Done(step=session.step, text=f"job {number} is cancelled")
            case Complete():
                self._completer.complete(message, connection, connection.answer_later(request_id))
                return None
            case Hello():
                return Refused(reason="this connection has said hello already")
        if isinstance(message, Execute | SetConsoleMode):
            self._completer.warm_up()
        session.submit(message, connection.client, connection.answer_later(request_id))
        return None

    def _history(self) -> HistoryReader:
        if self._reader is None:
            self._reader = self._session.history.reader()
        return self._reader

"""Serve one session on its socket: a thread with an event loop, which the training thread never waits for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import elektronn_tui
from elektronn_tui.errors import ProtocolError, SessionError

from .completion import Completer
from .connection import Connection, Group
from .errors import LaunchError
from .feed import Feed
from .files import private_directory
from .protocol import (
    HEADER_SIZE,
    MAX_REQUEST,
    PROTOCOL,
    Ended,
    Hello,
    Message,
    Rejected,
    State,
    Welcome,
    decode,
    encode,
    frame_length,
)
from .queries import Queries
from .registry import Entry
from .session import Client, Session

__all__ = ["Server", "Timeouts"]

CAPABILITIES = ("controls", "console", "complete", "curves", "log", "journal", "previews", "jobs")
MAX_CLIENTS = 500
URGENT_DELAY = 0.05
"""Seconds for which what is urgent is gathered before it is sent."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timeouts:
    """Seconds."""

    hello: float = 5.0  # for a client to say who it is
    stalled: float = 30.0  # for a client to read what waits for it
    watch: float = 2.0  # between two looks at the socket
    goodbye: float = 2.0  # for clients to read that the session ended


class Server:
    """The socket of a session.

    Parameters
    ----------
    session
        What is served.
    entry
        Who it is, and where its socket lies.
    timeouts
        When patience ends.
    """

    def __init__(self, session: Session, entry: Entry, timeouts: Timeouts | None = None) -> None:
        self._session = session
        self._entry = entry
        self._timeouts = timeouts or Timeouts()
        self._path = Path(entry.socket)
        self._feed = Feed(session)
        self._completer = Completer(session.console)
        self._queries = Queries(session, self._feed, self._completer)
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._groups: dict[float, Group] = {}
        self._flushing = False
        self._inode: tuple[int, int] | None = None
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._up = threading.Event()
        self._error: Exception | None = None
        self._last_word = Ended(state="finished")
        self._thread = threading.Thread(target=self._run, name="session-server", daemon=True)

    # --- other threads ----------------------------------------------------------------------------

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises
        ------
        SessionError
            The socket can't be bound.
        """
        self._thread.start()
        self._up.wait()
        if self._error is not None:
            raise SessionError(f"socket {self._path} can't be bound: {self._error}") from self._error
        self._session.on_change = self.notify

    def notify(self) -> None:
        """Let clients hear soon what changed; returns at once."""
        loop = self._loop
        if self._flushing or not self._groups or loop is None:
            return
        self._flushing = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: the session ended
            loop.call_soon_threadsafe(loop.call_later, URGENT_DELAY, self._flush)

    def close(self, state: State, reason: str = "", *, never_ran: LaunchError | None = None) -> None:
        """Tell clients that the session ended, and why it never ran if it did not; listen no more."""
        self._last_word = Ended(state=state, reason=reason)
        if never_ran is not None:
            self._last_word = Ended(
                state=state,
                reason=reason,
                never_ran=True,
                refused=never_ran.refused,
                traceback=never_ran.traceback,
            )
        self._session.on_change = None
        if self._loop is not None and self._closing is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(self._timeouts.goodbye + 5.0)

    # --- the event loop ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self._error = error
            if self._up.is_set():
                logger.exception("the session's server ended; clients can't connect any more")
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        await self._bind()
        self._up.set()
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._timeouts.watch)
            await self._watch()
        await self._say_goodbye()

    async def _bind(self) -> None:
        private_directory(self._path.parent, strict=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self._path.exists() and await self._abandoned():
                self._path.unlink(missing_ok=True)
            listening.bind(str(self._path))
            os.chmod(self._path, 0o600)  # until here, the directory alone kept others out
            listening.listen(128)
            listening.setblocking(False)
            found = os.stat(self._path)
        except BaseException:
            listening.close()
            raise
        old, self._inode = self._listener, (found.st_dev, found.st_ino)
        self._listener = await asyncio.start_unix_server(self._accept, sock=listening, limit=1 << 18)
        if old is not None:
            old.close()

    async def _abandoned(self) -> bool:
        """Tell whether nobody listens on the file that lies where our socket belongs."""
        try:
            _, writer = await asyncio.open_unix_connection(str(self._path))
        except OSError:
            return True
        writer.close()
        return False

    async def _watch(self) -> None:
        """Bind a socket again that was deleted, cut off clients that do not read, measure the speed."""
        self._feed.measure()
        self._session.console.gather()
        for connection in list(self._connections):
            if connection.stalled(self._timeouts.stalled):
                logger.warning(
                    "client %s did not read for %g s and was cut off", connection.client.name, self._timeouts.stalled
                )
                connection.abort()
        try:
            found = os.stat(self._path)
            lost = (found.st_dev, found.st_ino) != self._inode
        except OSError:
            lost = True
        if lost and self._closing is not None and not self._closing.is_set():
            try:
                await self._bind()
                logger.warning("socket %s was gone and has been bound again", self._path)
            except (OSError, SessionError) as error:
                logger.debug("socket %s can't be bound again: %s", self._path, error)

    async def _say_goodbye(self) -> None:
        if self._listener is not None:
            self._listener.close()
        with contextlib.suppress(OSError):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) == self._inode:  # not another session's that was bound there since
                self._path.unlink()
        self._flush()
        for connection in list(self._connections):
            connection.say_goodbye(self._last_word)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeouts.goodbye)
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        self._completer.close()
        self._queries.close()

    # --- clients ----------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._attend(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # it went away, or we end
        except Exception:
            logger.exception("a client's connection failed")
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() > 1 << 16 else writer.close()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await self._greeted(reader, writer)
        except (ProtocolError, TimeoutError) as error:
            reason = str(error) or f"no hello came within {self._timeouts.hello:g} s"
            cause = getattr(error, "cause", "silence" if isinstance(error, TimeoutError) else "garbage")
            writer.write(encode(Rejected(reason=reason, cause=cause)))
            return
        client = Client(next(self._numbers), hello.client[:100])
        connection = Connection(client, writer, read_only=hello.read_only)
        writer.write(encode(self._welcome(read_only=hello.read_only)))
        self._connections.add(connection)
        self._feed.clients = len(self._connections)
        self.notify()
        try:
            await self._converse(connection, reader)
        except ProtocolError as error:
            logger.warning("client %s sent what is no message and was closed: %s", client.name, error)
            writer.write(encode(Rejected(reason=str(error), cause="garbage")))
        finally:
            self._connections.discard(connection)
            self._leave_group(connection)
            self._feed.clients = len(self._connections)
            self._session.client_gone(client)
            self._queries.client_gone(connection)
            self.notify()

    async def _greeted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Hello:
        uid = _peer_uid(writer)
        if uid not in (None, os.getuid()):
            raise _Unwelcome(f"this session belongs to user {os.getuid()}, not to you ({uid})", "access")
        if len(self._connections) >= MAX_CLIENTS:
            raise _Unwelcome(f"this session has {MAX_CLIENTS} clients already", "access")
        async with asyncio.timeout(self._timeouts.hello):
            _, _, hello = await _read_request(reader)
        if not isinstance(hello, Hello):
            raise ProtocolError("the first message must be a hello")
        if hello.protocol.partition(".")[0] != str(PROTOCOL[0]):
            raise _Unwelcome(
                f"session {self._session.name} speaks protocol {PROTOCOL[0]}.{PROTOCOL[1]} (elektronn "
                f"{elektronn_tui.__version__}), this client {hello.protocol} (elektronn {hello.package}); "
                f"use the elektronn of {sys.executable}",
                "version",
            )
        return hello

    async def _converse(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        while not connection.leaving:
            await connection.ready()  # a client that does not read its answers gets no new ones
            name, request_id, message = await _read_request(reader)
            self._queries.answer(connection, name, request_id, message, self)

    def subscribe(self, connection: Connection, rate: float) -> Group:
        """Put a client into the group of those that want deltas at its rate; the others get what is due first."""
        self._leave_group(connection)
        group = self._groups.get(rate)
        if group is None:
            group = self._groups[rate] = Group(rate)
            self._feed.delta(group.cursor)
            self._schedule(group)
        else:
            self._send(group)
        group.members.add(connection)
        connection.group = group
        return group

    def unsubscribe(self, connection: Connection) -> None:
        """Send a client no more deltas."""
        self._leave_group(connection)

    def _leave_group(self, connection: Connection) -> None:
        group, connection.group = connection.group, None
        if group is not None:
            group.members.discard(connection)
            if not group.members and self._groups.get(group.rate) is group:
                del self._groups[group.rate]
                group.close()

    def _schedule(self, group: Group) -> None:
        loop = asyncio.get_running_loop()

        def tick() -> None:
            self._feed.measure()
            self._send(group)
            group.timer = loop.call_later(1 / group.rate, tick)

        group.timer = loop.call_later(1 / group.rate, tick)

    def _flush(self) -> None:
        self._flushing = False
        for group in list(self._groups.values()):
            self._send(group, urgent=True)

    def _send(self, group: Group, *, urgent: bool = False) -> None:
        delta = self._feed.delta(group.cursor, urgent=urgent)
        frame = encode(delta) if delta is not None else b""
        group.send(frame, lambda: self._feed.snapshot(group.cursor))

    def _welcome(self, *, read_only: bool) -> Welcome:
        entry = self._entry
        return Welcome(
            protocol=f"{PROTOCOL[0]}.{PROTOCOL[1]}",
            package=elektronn_tui.__version__,
            python=sys.executable,
            session_id=self._session.id,
            name=self._session.name,
            run_dir=str(self._session.run_dir),
            host=entry.host,
            pid=entry.pid,
            started=entry.started,
            capabilities=CAPABILITIES,
            read_only=read_only,
        )


class _Unwelcome(ProtocolError):
    """A client that is sent away for another reason than what it sent."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, int, Message | None]:
    length = frame_length(await reader.readexactly(HEADER_SIZE), MAX_REQUEST)
    return decode(await reader.readexactly(length))


def _peer_uid(writer: asyncio.StreamWriter) -> int | None:
    """Return the user behind a connection; None where the system can't say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    content = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", content)
    return int(uid)

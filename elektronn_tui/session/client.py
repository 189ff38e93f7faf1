"""An asyncio client of a session; it knows nothing of what is drawn with what it brings.

Commands that only ask and go use `elektronn_tui.session.blocking`, which imports no event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from elektronn_tui.errors import ProtocolError

from .blocking import ask, checked_welcome, connect_error, hello, unwrapped
from .errors import ConnectError, ConnectionLost, RequestRefused, RequestUnsupported
from .protocol import (
    HEADER_SIZE,
    MAX_FRAME,
    Answer,
    Ended,
    Event,
    Message,
    Rejected,
    Request,
    Snapshot,
    Subscribe,
    Welcome,
    decode,
    encode,
    frame_length,
)

__all__ = [
    "ConnectError",
    "ConnectionLost",
    "RequestRefused",
    "RequestUnsupported",
    "SessionClient",
    "ask",
]

UNREAD_LIMIT = 10_000
"""Events that may wait to be read before a client gives itself up for one that does not read."""


class SessionClient:
    """A connection to a session; made by `connect`.

    Attributes
    ----------
    welcome
        Who the session is.
    ended
        What the session said when it ended; None while it runs and after a lost connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        self.welcome = welcome
        self.ended: Ended | None = None
        self._reader = reader
        self._writer = writer
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._events: asyncio.Queue[Event | Snapshot | None] = asyncio.Queue()
        self._listeners: list[Callable[[Event | Snapshot], None]] = []
        self._lost = ""
        self._closing = False
        self._task = asyncio.get_running_loop().create_task(self._receive_all())

    @classmethod
    async def connect(
        cls, path: str | Path, *, read_only: bool = False, name: str = "client", timeout: float = 5.0
    ) -> SessionClient:
        """Connect to the session that listens on a socket.

        Parameters
        ----------
        path
            The session's socket.
        read_only
            Let the session refuse whatever would change it.
        name
            Who asks, as the journal shows it.
        timeout
            Seconds to wait for the welcome.

        Raises
        ------
        ConnectError
            With `cause` ``"missing"``, ``"stale socket"``, ``"refused"``, ``"version"`` or ``"time-out"``.
        """
        writer = None
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
                writer.write(encode(hello(name, read_only=read_only), 0))
                _, _, message = await _read_message(reader)
            return cls(reader, writer, checked_welcome(path, message))
        except BaseException as error:
            if writer is not None:
                writer.close()
            if isinstance(error, asyncio.IncompleteReadError | ProtocolError):
                raise ConnectError(
                    f"what answers on {path} closed the connection or is no session", "refused"
                ) from error
            if isinstance(error, OSError):
                raise connect_error(path, error) from error
            raise

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return not self._task.done()

    async def request(self, message: Request, *, timeout: float | None = 60.0) -> Any:
        """Send a request and return its answer, a message of type ``message.answer``.

        Parameters
        ----------
        timeout
            Seconds to wait; None waits for as long as the session lives.

        Raises
        ------
        RequestRefused, RequestUnsupported
            As the session answered.
        ConnectionLost
            The connection ended before the answer, or none came in time.
        """
        if not self.connected:
            raise ConnectionLost(self._lost or "the connection is closed")
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            self._writer.write(encode(message, request_id))
            async with asyncio.timeout(timeout):
                return unwrapped(await future)
        except TimeoutError as error:
            raise ConnectionLost(f"no answer to {message.type_name} within {timeout:g} s") from error
        finally:
            self._waiting.pop(request_id, None)

    async def subscribe(self, rate: float = 1.0) -> Snapshot:
        """Return the session's whole state, and let `events` bring what changes, at most `rate` times a second."""
        snapshot: Snapshot = await self.request(Subscribe(rate=rate))
        return snapshot

    async def events(self) -> AsyncIterator[Event | Snapshot]:
        """Yield what the session sends unasked; ends after `Ended`, and when this client closes.

        Raises
        ------
        ConnectionLost
            The connection ended without a word.
        """
        while True:
            event = await self._events.get()
            if event is None:
                self._events.put_nowait(None)  # for another reader
                if self._closing or self.ended is not None:
                    return
                raise ConnectionLost(self._lost)
            yield event

    def on_event(self, listener: Callable[[Event | Snapshot], None]) -> None:
        """Call `listener` with each event, in the event loop, instead of collecting them for `events`."""
        self._listeners.append(listener)

    async def wait_closed(self) -> str:
        """Wait for the connection to end; return why, empty when this client closed it."""
        await asyncio.wait([self._task])
        return "" if self._closing else self._lost

    async def close(self) -> None:
        """Close the connection. The session goes on."""
        self._closing = True
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _receive_all(self) -> None:
        try:
            while True:
                _, request_id, message = await _read_message(self._reader)
                if isinstance(message, Rejected):
                    raise ConnectionLost(f"the session closed the connection: {message.reason}")
                if isinstance(message, Event) or (isinstance(message, Snapshot) and request_id == 0):
                    self._deliver(message)
                elif isinstance(message, Answer):
                    future = self._waiting.get(request_id)
                    if future is not None and not future.done():
                        future.set_result(message)
        except asyncio.IncompleteReadError:
            self._lost = "the session ended" if self.ended else "connection lost: the session closed it without a word"
        except (OSError, ProtocolError, ConnectionLost) as error:
            self._lost = f"connection lost: {error}"
        except asyncio.CancelledError:
            self._lost = "the connection was closed"
        finally:
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionLost(self._lost))
            self._events.put_nowait(None)

    def _deliver(self, event: Event | Snapshot) -> None:
        if isinstance(event, Ended):
            self.ended = event
        if self._listeners:
            for listener in self._listeners:
                listener(event)
            return
        if self._events.qsize() >= UNREAD_LIMIT:
            raise ConnectionLost(f"{UNREAD_LIMIT} events were not read")
        self._events.put_nowait(event)


async def _read_message(reader: asyncio.StreamReader) -> tuple[str, int, Message | None]:
    header = await reader.readexactly(HEADER_SIZE)
    return decode(await reader.readexactly(frame_length(header, MAX_FRAME)))

"""A client for commands: a plain blocking socket, no event loop, nothing slow to import."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from elektronn_tui.errors import ProtocolError

from .errors import ConnectError, ConnectionLost, RequestRefused, RequestUnsupported
from .protocol import (
    HEADER_SIZE,
    MAX_FRAME,
    PROTOCOL,
    Answer,
    Ended,
    Event,
    Hello,
    Message,
    Refused,
    Rejected,
    Request,
    Snapshot,
    Unsupported,
    Welcome,
    decode,
    encode,
    frame_length,
)

__all__ = ["BlockingClient", "ask", "checked_welcome", "connect_error", "hello", "unwrapped"]


def hello(name: str, *, read_only: bool) -> Hello:
    """Return the first message of a client called `name`."""
    from elektronn_tui import __version__

    return Hello(
        protocol=f"{PROTOCOL[0]}.{PROTOCOL[1]}",
        package=__version__,
        client=f"{name}:{os.getpid()}",
        read_only=read_only,
    )


def connect_error(path: str | Path, error: OSError) -> ConnectError:
    """Return what a failed connect means for the session behind the socket."""
    if isinstance(error, FileNotFoundError):
        return ConnectError(f"there is no socket {path}: the session ended, or runs on another host", "missing")
    if isinstance(error, ConnectionRefusedError):
        return ConnectError(f"nobody listens on {path}: its session died (stale socket)", "stale socket")
    if isinstance(error, PermissionError):
        return ConnectError(f"socket {path} is not yours to open: {error.strerror}", "refused")
    if isinstance(error, TimeoutError):
        return ConnectError(f"the session behind {path} does not answer", "time-out")
    return ConnectError(f"socket {path} can't be connected: {error.strerror or error}", "refused")


def checked_welcome(path: str | Path, message: Message | None) -> Welcome:
    """Return the answer to a hello.

    Raises
    ------
    ConnectError
        The session refused this client, or speaks another major version.
    """
    if isinstance(message, Rejected):
        raise ConnectError(message.reason, "version" if message.cause == "version" else "refused")
    if not isinstance(message, Welcome):
        raise ConnectError(f"what answers on {path} is no session of ours", "refused")
    if message.protocol.partition(".")[0] != str(PROTOCOL[0]):
        ours = f"{PROTOCOL[0]}.{PROTOCOL[1]}"
        raise ConnectError(
            f"session {message.name} speaks protocol {message.protocol} (elektronn {message.package}, "
            f"{message.python}), this client {ours}; use the elektronn that it was started with",
            "version",
        )
    return message


def unwrapped(message: Message | None) -> Any:
    """Return an answer, or raise what it stands for."""
    if isinstance(message, Refused):
        raise RequestRefused(message.reason, message.field)
    if isinstance(message, Unsupported):
        raise RequestUnsupported(message.request, message.protocol)
    if isinstance(message, Rejected):
        raise ConnectionLost(f"the session closed the connection: {message.reason}")
    return message


class BlockingClient:
    """A connection to a session, used from one thread, as a context manager.

    Parameters
    ----------
    path
        The session's socket.
    name
        Who asks, as the journal shows it.
    read_only
        Let the session refuse whatever would change it.
    timeout
        Seconds to wait for the connection and the welcome.

    Raises
    ------
    ConnectError
        The session can't be reached.
    """

    def __init__(self, path: str | Path, *, name: str = "cli", read_only: bool = False, timeout: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._events: deque[Event | Snapshot] = deque()
        self._last_id = 0
        try:
            self._socket.connect(str(path))
            self._socket.sendall(encode(hello(name, read_only=read_only), 0))
            self.welcome = checked_welcome(path, self._receive(time.monotonic() + timeout)[1])
        except OSError as error:
            self.close()
            raise connect_error(path, error) from error
        except (ConnectionLost, ProtocolError) as error:
            self.close()
            raise ConnectError(f"session behind {path}: {error}", "refused") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BlockingClient:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def request(self, message: Request, *, timeout: float | None = 60.0) -> Any:
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
            The connection ended, or no answer came in time.
        """
        self._last_id += 1
        end = None if timeout is None else time.monotonic() + timeout
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(encode(message, self._last_id))
            while True:
                request_id, answer = self._receive(end)
                if isinstance(answer, Answer) and request_id == self._last_id:
                    return unwrapped(answer)
                self._keep(answer)
        except TimeoutError as error:
            raise ConnectionLost(f"no answer to {message.type_name} within {timeout:g} s") from error
        except (OSError, ProtocolError) as error:
            raise ConnectionLost(f"connection lost: {error}") from error

    def events(self, *, timeout: float | None = None) -> Iterator[Event | Snapshot]:
        """Yield what the session sends unasked, until `Ended` was yielded or nothing came for `timeout` seconds.

        Raises
        ------
        ConnectionLost
            The connection ended without a word.
        """
        while True:
            while self._events:
                event = self._events.popleft()
                yield event
                if isinstance(event, Ended):
                    return
            try:
                self._keep(self._receive(None if timeout is None else time.monotonic() + timeout)[1])
            except TimeoutError:
                return
            except (OSError, ProtocolError) as error:
                raise ConnectionLost(f"connection lost: {error}") from error

    def _keep(self, message: Message | None) -> None:
        if isinstance(message, Rejected):
            unwrapped(message)
        if isinstance(message, Event | Snapshot):
            self._events.append(message)

    def _receive(self, end: float | None) -> tuple[int, Message | None]:
        body = self._read(frame_length(self._read(HEADER_SIZE, end), MAX_FRAME), end)
        _, request_id, message = decode(body)
        return request_id, message

    def _read(self, count: int, end: float | None) -> bytes:
        parts = []
        while count:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
            else:
                self._socket.settimeout(None)
            part = self._socket.recv(min(count, 1 << 20))
            if not part:
                raise ConnectionLost("the session closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def ask(path: str | Path, *requests: Request, name: str = "cli", timeout: float | None = 60.0) -> list[Any]:
    """Connect, send requests one after the other, and return their answers.

    Raises
    ------
    ConnectError, ConnectionLost
        The session can't be reached, or went away.
    RequestRefused, RequestUnsupported
        As the session answered; requests after a refused one are not sent.
    """
    with BlockingClient(path, name=name) as client:
        return [client.request(request, timeout=timeout) for request in requests]

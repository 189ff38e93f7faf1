"""A client as its session's server sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .feed import Cursor
from .protocol import Answer, Ended, Gap, Snapshot, encode

if TYPE_CHECKING:
    from .session import Client

__all__ = ["Connection", "Group"]

FULL = 64 * 1024
"""Bytes that may wait in a client's write buffer before deltas are kept from it."""
DRAINED = 8 * 1024
MAX_OPEN_REQUESTS = 64


class Connection:
    """A client's connection; used in the event loop alone, but for `answer_later`."""

    def __init__(self, client: Client, writer: asyncio.StreamWriter, *, read_only: bool) -> None:
        self.client = client
        self.read_only = read_only
        self.group: Group | None = None
        self.skipped = 0  # deltas since it stopped reading
        self.leaving = False
        self.open_requests = 0
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._full_since: float | None = None
        self._room = asyncio.Event()
        writer.transport.set_write_buffer_limits(high=FULL, low=DRAINED)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the client to read."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, frame: bytes) -> None:
        """Write a frame."""
        if not self._writer.transport.is_closing():
            self._writer.write(frame)

    def answer(self, message: Answer, request_id: int) -> None:
        """Write an answer."""
        self.send(encode(message, request_id))

    def answer_later(self, request_id: int) -> Callable[[Answer], None]:
        """Return what sends the answer to a request, from any thread."""
        self.open_requests += 1

        def finish(message: Answer) -> None:
            self.open_requests -= 1
            self._room.set()
            self.answer(message, request_id)

        def reply(message: Answer) -> None:
            try:
                self._loop.call_soon_threadsafe(finish, message)
            except RuntimeError:
                return  # the server has closed: nobody is left to be told

        return reply

    async def ready(self) -> None:
        """Wait until the client has read what was sent, and not too many of its requests are open."""
        await self._writer.drain()
        while self.open_requests >= MAX_OPEN_REQUESTS:
            self._room.clear()
            await self._room.wait()

    def stalled(self, seconds: float) -> bool:
        """Tell whether the client has not read for that long."""
        if self.waiting_bytes <= FULL:
            self._full_since = None
            return False
        now = time.monotonic()
        self._full_since = self._full_since or now
        return now - self._full_since >= seconds

    def say_goodbye(self, ended: Ended) -> None:
        """Send the last word, and close when it was read."""
        self.leaving = True
        self.send(encode(ended))
        self._writer.close()

    def abort(self) -> None:
        """Close at once."""
        self.leaving = True
        self._writer.transport.abort()


class Group:
    """The clients that want deltas at one rate: each delta is made and encoded once for all of them."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.cursor = Cursor()
        self.members: set[Connection] = set()
        self.timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Tick no more."""
        if self.timer is not None:
            self.timer.cancel()

    def send(self, frame: bytes, snapshot: Callable[[], Snapshot]) -> None:
        """Send a delta (empty: none) to those that read, and a new snapshot to those that do again."""
        whole = b""
        for member in self.members:
            if member.skipped and member.waiting_bytes <= DRAINED:
                whole = whole or encode(snapshot())  # as of the cursor, so that this delta is in it
                member.send(encode(Gap(skipped=member.skipped)))
                member.send(whole)
                member.skipped = 0
            elif frame and (member.skipped or member.waiting_bytes > FULL):
                member.skipped += 1
            elif frame:
                member.send(frame)

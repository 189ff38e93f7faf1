"""Keep a screen's state of a session fresh: connect, subscribe, follow, and come back after a lost connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from elektronn_tui.errors import SessionError, SessionNotFound
from elektronn_tui.session import registry
from elektronn_tui.session.client import SessionClient
from elektronn_tui.session.errors import ConnectError, ConnectionLost, LaunchError
from elektronn_tui.session.launch import stderr_tail
from elektronn_tui.session.protocol import (
    LIVE_STATES,
    Answer,
    Delta,
    Ended,
    Gap,
    Ping,
    Rejected,
    Request,
    Snapshot,
    Welcome,
)
from elektronn_tui.session.registry import SessionInfo

from .state import ALL_PARTS, Part, SessionState, after_delta, after_snapshot, with_link

__all__ = ["Link", "SessionLink"]

OnChange = Callable[[SessionState, frozenset[Part]], None]
_LINK: frozenset[Part] = frozenset(("link",))
FIRST_WAIT = 0.25  # seconds before the first new attempt; doubled up to LONGEST_WAIT
LONGEST_WAIT = 5.0
ANSWER_SECONDS = 60.0
PING_SECONDS = 10.0  # between two looks whether the session answers, and how long it may take

A = TypeVar("A", bound=Answer)


class Link(Protocol):
    """What a session screen needs: a state that is kept, and somebody who answers requests."""

    info: SessionInfo
    state: SessionState
    welcome: Welcome | None
    read_only: bool

    async def run(self) -> None:
        """Keep the state until the session is over or this is cancelled."""

    async def request(self, message: Request) -> Answer:
        """Ask, and return the answer or raise a `SessionError`."""

    def retry(self) -> None:
        """Do now what would be tried later."""


class SessionLink:
    """A connection to a running session that heals itself.

    Parameters
    ----------
    info : SessionInfo
        Whom to connect to.
    on_change : callable
        Called with the new state and the parts that changed, in the loop that runs `run`.
    read_only : bool
        Connect without the right to change anything; the session enforces it.
    rate : float
        Deltas a second that are asked for.
    name : str
        How this client is called in the journal and by ``held_by``.

    Attributes
    ----------
    never_ran : LaunchError or None
        Why the session failed while it started, if it did.
    """

    def __init__(
        self, info: SessionInfo, on_change: OnChange, *, read_only: bool = False, rate: float = 1.0, name: str = "tui"
    ) -> None:
        self.info = info
        self.read_only = read_only
        self.state = SessionState()
        self.welcome: Welcome | None = None
        self.never_ran: LaunchError | None = None
        self._has_run = False
        self._on_change = on_change
        self._rate = rate
        self._name = name
        self._client: SessionClient | None = None
        self._retry = asyncio.Event()

    async def run(self) -> None:
        """Follow the session until it ends; an error of the connection is a state, never raised."""
        wait = FIRST_WAIT
        while self.state.link != "ended":
            try:
                await self._follow()
                wait = FIRST_WAIT
            except ConnectError as error:
                if await self._is_over():
                    return
                self._say(with_link(self.state, "lost", str(error)), _LINK)
            except (SessionError, OSError) as error:
                wait = FIRST_WAIT
                self._say(with_link(self.state, "lost", str(error)), _LINK)
            if self.state.link == "ended":
                return
            self._retry.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._retry.wait(), wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def retry(self) -> None:
        """Try to reconnect now."""
        self._retry.set()

    async def request(self, message: Request) -> Answer:
        """Send a request and return its answer.

        Raises
        ------
        SessionError
            It was refused, is not known, or the connection is lost.
        """
        client = self._client
        if client is None:
            raise ConnectionLost("no connection to the session; it is tried again")
        # What is applied at a step boundary takes as long as a step, a validation or a person's statement takes.
        timeout = None if message.writes else ANSWER_SECONDS
        answer: Answer = await client.request(message, timeout=timeout)
        return answer

    async def refresh(self) -> None:
        """Ask for a whole new snapshot."""
        client = self._client
        if client is not None:
            self._take(await client.subscribe(rate=self._rate))

    async def _follow(self) -> None:
        client = await SessionClient.connect(Path(self.info.socket), read_only=self.read_only, name=self._name)
        watch = asyncio.create_task(self._watch(client))
        try:
            self._client = client
            self.welcome = client.welcome
            self._take(await client.subscribe(rate=self._rate))
            async for event in client.events():
                if isinstance(event, Delta):
                    state, parts = after_delta(self.state, event)
                    self._say(state, parts)
                elif isinstance(event, Snapshot):
                    self._take(event)
                elif isinstance(event, Gap):
                    self._say(with_link(self.state, "live", gap=self.state.gap + event.skipped), _LINK)
                elif isinstance(event, Ended):
                    if event.never_ran:
                        self.never_ran = LaunchError(event.reason, event.traceback, refused=event.refused)
                    self._end(event.state, event.reason)
                    return
                elif isinstance(event, Rejected):
                    raise ConnectionLost(f"the session closed the connection: {event.reason}")
            raise ConnectionLost("the connection was closed")
        finally:
            self._client = None
            watch.cancel()
            await client.close()

    async def _watch(self, client: SessionClient) -> None:
        """Notice a session that hangs with its connection open: a stopped process, a host that swaps."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            try:
                await client.request(Ping(), timeout=PING_SECONDS)
            except ConnectionLost:
                if not client.connected:
                    return
                self._say(with_link(self.state, "live", "the session does not answer"), _LINK)
            else:
                if self.state.link_text:
                    self._say(with_link(self.state, "live"), _LINK)

    async def _is_over(self) -> bool:
        """Look in the registry whether nobody is left to connect to."""
        try:
            info = await asyncio.to_thread(registry.find, self.info.id, exact=True)
        except SessionNotFound:
            run_dir = Path(self.info.run_dir)
            file = await asyncio.to_thread(registry.read_session_file, run_dir)
            if file is None and not self._has_run and not run_dir.exists():
                # Only a session that never ran takes its run directory away.
                self.never_ran = LaunchError(f"{self.info.name} failed while it started, and left nothing")
                self._end("failed", "it failed while it started")
                return True
            if file is None or file.id != self.info.id or file.state in LIVE_STATES:
                return False
            self._end(file.state, file.reason)
            return True
        if info.socket:
            self.info = msgspec.structs.replace(self.info, socket=info.socket)
        if info.state in LIVE_STATES:
            return False
        if info.state == "lost" and not self._has_run and not info.step:
            tail = await asyncio.to_thread(stderr_tail, Path(info.run_dir))
            self.never_ran = LaunchError(f"the worker of {info.name} died while it started", tail)
        self._end(info.state, info.reason)
        return True

    def _take(self, snapshot: Snapshot) -> None:
        self._say(after_snapshot(self.state, snapshot), ALL_PARTS)

    def _end(self, state: str, reason: str) -> None:
        status = msgspec.structs.replace(self.state.status, state=state, reason=reason)
        ended = with_link(replace(self.state, status=status), "ended", reason)
        self._say(ended, frozenset(("link", "status")))

    def _say(self, state: SessionState, parts: frozenset[Part]) -> None:
        self.state = state
        self._has_run = self._has_run or state.status.state not in ("starting", "failed", "lost")
        if parts:
            self._on_change(state, parts)

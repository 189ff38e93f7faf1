"""What can go wrong between a client and a session."""

from __future__ import annotations

from typing import Literal

from elektronn_tui.errors import SessionError

__all__ = ["ConnectCause", "ConnectError", "ConnectionLost", "LaunchError", "RequestRefused", "RequestUnsupported"]

ConnectCause = Literal["missing", "stale socket", "refused", "version", "time-out"]


class ConnectError(SessionError):
    """A session can't be reached; `cause` says why in one of a few words."""

    def __init__(self, message: str, cause: ConnectCause) -> None:
        super().__init__(message)
        self.cause: ConnectCause = cause


class ConnectionLost(SessionError):
    """The connection ended before the answer came; the session may well go on."""


class RequestRefused(SessionError):
    """The session understood the request and did not carry it out."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class RequestUnsupported(SessionError):
    """The session is of another version and does not know the request."""

    def __init__(self, request: str, protocol: str) -> None:
        super().__init__(f"the session speaks protocol {protocol} and does not know the request {request!r}")
        self.request = request
        self.protocol = protocol


class LaunchError(SessionError):
    """A worker did not come up.

    Attributes
    ----------
    traceback : str
        Its own, or the end of what it wrote on stderr.
    refused : bool
        It did not fail: what it was asked to do can't be done, and the message says why.
    """

    def __init__(self, message: str, traceback: str = "", *, refused: bool = False) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.refused = refused

"""Interrupt what runs on the main thread, and only that.

Python runs signal handlers on the main thread, between two bytecodes: nothing can come between the handler's look at
the gate and its raise, so a signal that is late or stale finds the gate closed or another token, and is dropped. Not
SIGINT: that means "stop cleanly", and signals of one kind coalesce.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

__all__ = ["Gate"]

SIGNAL = signal.SIGRTMIN + 3 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2


class Gate:
    """Runs functions on the main thread so that other threads can raise KeyboardInterrupt in them.

    Attributes
    ----------
    token
        Number of the function that runs, or ran last.
    """

    AGAIN = 0.25
    """Seconds after which a function that goes on in spite of an interrupt can be interrupted again."""

    KNOCK = 0.02
    """Seconds between two signals for one interrupt, until the handler ran."""

    def __init__(self) -> None:
        self.token = 0
        self._wanted = 0
        self._open = False
        self._last = float("-inf")
        self._handled = 0

    def install(self) -> None:
        """Take over the signal; called on the main thread."""
        signal.signal(SIGNAL, self._handle)

    def interrupt(self, token: int) -> None:
        """Raise KeyboardInterrupt in the function that runs under `token`, if it still does; from any thread."""
        handled = self._handled
        self._wanted = token
        self._knock()

        def insist() -> None:
            # A signal that comes just before the thread blocks in the system does not wake it: knock again.
            while True:
                time.sleep(self.KNOCK)
                if self._handled != handled or not self._open or self.token != token:
                    return
                self._knock()

        threading.Thread(target=insist, name="interrupt", daemon=True).start()

    @staticmethod
    def _knock() -> None:
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, SIGNAL)

    def run(self, token: int, function: Callable[[], None]) -> bool:
        """Run a function; return False when it was interrupted. What else it raises passes through."""
        self.token = token
        self._last = float("-inf")
        try:
            try:
                self._open = True
                if self._wanted == token:  # it came before there was anything to interrupt
                    raise KeyboardInterrupt
                function()
            finally:
                self._open = False  # a signal on the way in here is caught by the outer except
            return True
        except KeyboardInterrupt:
            self._open = False
            return False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._handled += 1
        now = time.monotonic()
        if self._open and self._wanted == self.token and now - self._last > self.AGAIN:
            self._last = now  # one in flight: a second would hit the clean-up that the first began
            raise KeyboardInterrupt

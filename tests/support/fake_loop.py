"""A session, its server, and a loop of quick steps in a thread of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elektronn_tui.session.blocking import BlockingClient
from elektronn_tui.session.registry import Entry
from elektronn_tui.session.server import Server, Timeouts
from elektronn_tui.session.session import Session
from elektronn_tui.training.control import Control
from elektronn_tui.training.schedules import StepDecay

PLAIN_LOOPS = Path(__file__).parent.parent / "session" / "loops" / "plain.py"


def wait_until(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Return the condition's first true value; fail when none comes in time."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"never came true within {timeout:g} s")


class Values:
    """What the controls of the loop write."""

    def __init__(self) -> None:
        self.lr = 0.1
        self.momentum = 0.9
        self.decay = 1.0


class FakeLoop:
    """A session, its server, and a loop of quick steps in a thread."""

    def __init__(self, run_dir: Path, runtime: Path, timeouts: Timeouts, pace: float = 0.001) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.session = Session(run_dir, name="fake-run", session_id="cafe0001")
        self.session.log.install()
        self.values = Values()
        for name in ("lr", "momentum", "decay"):
            self.session.controls.add(
                Control(
                    name=name,
                    type="float",
                    get=lambda name=name: getattr(self.values, name),
                    set=lambda value, name=name: setattr(self.values, name, value),
                    minimum=0.0,
                    maximum=10.0,
                )
            )
        self.session.controls.set_schedule("decay", StepDecay(0.5, every=1_000_000))
        self.socket = runtime / "cafe0001.sock"
        self.entry = Entry(
            id="cafe0001",
            name="fake-run",
            host="here",
            boot_id="",
            pid=1,
            process_start=0,
            run_dir=str(run_dir),
            socket=str(self.socket),
            started=0.0,
        )
        self.server = Server(self.session, self.entry, timeouts)
        self.server.start()
        self.pace = pace
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        step = 0
        while self.session.safe_point(step):
            step += 1
            self.session.controls.apply_schedules(step)
            self.session.publish(step, {"loss": 1.0 / step})
            time.sleep(self.pace)
        self.session.finish("stopped", self.session.stopping)

    def client(self, **options: Any) -> BlockingClient:
        return BlockingClient(self.socket, **options)

    def close(self) -> None:
        self.session.stop("the test is over")
        self.thread.join(20)
        self.server.close("stopped", "the test is over")
        self.session.close()

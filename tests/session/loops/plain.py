"""Loops without torch, for tests of real workers."""

from __future__ import annotations

import math
import time
from typing import Any

from elektronn_tui.errors import ExperimentError
from elektronn_tui.training.control import Control


class Values:
    lr = 0.1
    momentum = 0.9


def train(session: Any, order: Any) -> None:
    """Make steps of a millisecond, as many as ``--steps`` says."""
    values = Values()
    for name in ("lr", "momentum"):
        session.controls.add(
            Control(
                name=name,
                type="float",
                get=lambda name=name: getattr(values, name),
                set=lambda value, name=name: setattr(values, name, value),
                minimum=0,
                exclusive_minimum=name == "lr",
            )
        )
    session.namespace["values"] = values

    def save(name: str | None) -> str:
        path = session.run_dir / f"{name or 'latest'}.txt"
        path.write_text(f"{session.step} {values.lr}")
        return path.name

    session.on_save = save
    session.set_status(steps=order.steps)
    fail_at = int(order.settings.get("fail_at", 0))
    step = 0
    while session.safe_point(step):
        if order.steps is not None and step >= order.steps:
            break
        try:
            if step + 1 == fail_at:
                precious = "kept"
                raise ZeroDivisionError(f"step {fail_at} failed, {precious}")
            time.sleep(0.001)
        except ZeroDivisionError as error:
            if order.on_error == "stop":
                raise
            fail_at = 0
            if not session.halt(error):
                break
            continue
        step += 1
        session.publish(step, {"loss": math.exp(-step / 1000), "lr": values.lr})
        if step % 100 == 0:
            session.logger.info("at step %d", step)


def refuse(session: Any, order: Any) -> None:
    """Never begin."""
    raise ExperimentError("experiment.py, line 3: lr=-1 is not allowed; it must be > 0")


def crash(session: Any, order: Any) -> None:
    """Break before the first step."""
    raise RuntimeError("broken")


def crash_when_told(session: Any, order: Any) -> None:
    """Break before the first step, once there is a file ``go``."""
    while not (session.run_dir / "go").exists():
        time.sleep(0.01)
    raise RuntimeError("broken")


def die(session: Any, order: Any) -> None:
    """Go without a word."""
    import os

    os.write(2, b"last words\n")
    os._exit(7)


def deaf(session: Any, order: Any) -> None:
    """Make one step that never ends, and say when somebody wants the session to stop."""
    heard = session.run_dir / "deaf.txt"
    heard.write_text("")
    session.safe_point(0)
    while True:
        time.sleep(0.01)
        if session.stopping:
            heard.write_text("heard")


def hang(session: Any, order: Any) -> None:
    """Take for ever to begin."""
    time.sleep(1000)


def train_with_jobs(session: Any, order: Any) -> None:
    """Train, and offer jobs."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
    from gated_jobs import offered_by

    offered_by(session)
    train(session, order)

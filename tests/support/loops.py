"""Loops that a worker can run instead of the trainer: for tests and benchmarks of what lies around training.

Named in an `Order` as ``"<path of this file>:<function>"``, called with the session and the order.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

from elektronn_tui.session.protocol import NodeInfo
from elektronn_tui.training.control import Control
from elektronn_tui.training.schedules import StepDecay

HERE = Path(__file__).resolve()


def entry(function: str) -> str:
    """Return how an order names a loop of this file."""
    return f"{HERE}:{function}"


def add_learning_rate(session: Any) -> dict[str, float]:
    """Register a learning rate, a momentum and a scheduled noise, and return the dictionary that holds them."""
    values = {"lr": 0.001, "momentum": 0.9, "noise": 1.0}
    for name, maximum in (("lr", 10.0), ("momentum", 1.0), ("noise", 1.0)):
        session.controls.add(
            Control(
                name=name,
                type="float",
                get=lambda name=name: values[name],
                set=lambda value, name=name: values.__setitem__(name, value),
                minimum=0.0,
                maximum=maximum,
                help="of the loop",
            )
        )
    session.controls.set_schedule("noise", StepDecay(0.5, every=1000))
    return values


def curve(step: int) -> dict[str, float]:
    """Return metrics that look like training."""
    wave = math.sin(step * 12.9898) * 43758.5453
    noise = wave - math.floor(wave)
    metrics = {"loss": math.exp(-step / 3000) + 0.1 + 0.05 * noise}
    if step % 50 == 0:
        metrics["valid_loss"] = math.exp(-step / 3000) + 0.15
        metrics["valid_balanced_error"] = 0.5 * math.exp(-step / 4000) + 0.02
        metrics["valid_error"] = 0.3 * math.exp(-step / 4000) + 0.01
    return metrics


def idle(session: Any, order: Any) -> None:
    """Make a hundred steps a second that cost nothing; ``--set history=N`` begins with a history of N steps."""
    add_learning_rate(session)
    step = fill_history(session, int(order.settings.get("history", "0")))
    while (order.steps is None or step < order.steps) and session.safe_point(step):
        time.sleep(0.01)
        step += 1
        session.publish(step, curve(step))
        session.set_status(rate=100.0, steps=order.steps)
        if step % 100 == 0:
            session.logger.info("step %d loss %.4f", step, curve(step)["loss"])


def convolutions(session: Any, order: Any) -> None:
    """Train a small 3D network on noise, on one thread, and write down how many steps were made by when.

    ``--set history=N`` begins with a history of N steps, ``--set duration=SECONDS`` ends by itself.
    """
    import torch
    from torch import nn

    torch.set_num_threads(1)
    add_learning_rate(session)
    net = nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Conv3d(8, 8, 3), nn.ReLU(), nn.Conv3d(8, 2, 1))
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
    raw, target = torch.rand(1, 1, 12, 36, 36), torch.randint(0, 2, (1, 8, 32, 32))
    session.set_graph([NodeInfo(name=name, kind=type(layer).__name__) for name, layer in net.named_children()])
    step = fill_history(session, int(order.settings.get("history", "0")))
    last = time.perf_counter()
    while session.safe_point(step):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(raw), target)
        loss.backward()
        optimiser.step()
        step += 1
        session.publish(step, {**curve(step), "loss": loss.item()})
        now = time.perf_counter()
        if now - last > 0.1:
            last = now
            with open(session.run_dir / "ticks", "a", encoding="ascii") as ticks:
                ticks.write(f"{time.monotonic()} {step} {time.thread_time()}\n")
            session.set_status(rate=1.0)
        if step % 200 == 0:
            session.logger.info("step %d loss %.4f", step, loss.item())


def fill_history(session: Any, steps: int) -> int:
    """Publish steps of an invented past, and wait until they are on disk."""
    for step in range(1, steps + 1):
        session.history.append(step, step * 0.1, curve(step))
        if step % 200_000 == 0:
            session.history.flush(120.0)
    session.history.flush(120.0)
    return steps


def stubborn(session: Any, order: Any) -> None:
    """Raise at step 5, as a user's own loop may."""
    step = 0
    while session.safe_point(step):
        time.sleep(0.001)
        step += 1
        if step == 5:
            raise RuntimeError(f"step {step} went wrong in process {os.getpid()}")

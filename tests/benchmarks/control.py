"""When an edited control takes effect: at the very next step boundary, beside a training of one torch thread.

The loop notes for each step when it began and the learning rate that it ran with, and when each edit reached the
session. Between that moment and the first step with the new value no other step may begin.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, private_home, spread, verdict
from sessions import end

from elektronn_tui.session.blocking import BlockingClient
from elektronn_tui.session.launch import Order, start_worker
from elektronn_tui.session.protocol import SetControls, Stop


def benchmark() -> int:
    """Edit the learning rate at random moments and compare receipts with what the steps ran with."""
    args = options(__doc__, edits=500)
    count = 150 if args.quick else args.edits
    numbers = random.Random(0)
    latencies, receipts = [], {}
    with private_home():
        entry = start_worker(Order(experiment=__file__, entry=f"{Path(__file__).resolve()}:loop", name="control"))
        try:
            with BlockingClient(entry.socket) as client:
                for number in range(1, count + 1):
                    time.sleep(numbers.random() * 0.05)
                    value = number / 1000
                    begin = time.perf_counter()
                    (receipt,) = client.request(SetControls(values={"lr": value})).receipts
                    latencies.append(1000 * (time.perf_counter() - begin))
                    receipts[value] = receipt.step
                client.request(Stop(now=True))
        finally:
            end(entry)
        notes = json.loads((Path(entry.run_dir) / "notes.json").read_text())
    late, wrong = [], 0
    for value, queued in zip(receipts, notes["queued"], strict=True):
        began = [(moment, lr) for moment, lr in notes["steps"] if moment > queued]
        late.append(next((i for i, (_, lr) in enumerate(began) if lr == value), len(began)))
        first = next((step for step, (_, lr) in enumerate(notes["steps"], 1) if lr == value), None)
        wrong += first is not None and first != receipts[value]
    moments = [moment for moment, _ in notes["steps"]]
    steps = [1000 * (b - a) for a, b in itertools.pairwise(moments)]
    emit("a step", median(steps), "ms", **spread(steps))
    emit("edit to receipt", median(latencies), "ms", **spread(latencies))
    emit("receipts that name another step than the first with the value", wrong, "of " + str(count))
    emit("step boundaries that an edit missed, mean", sum(late) / len(late), "boundaries", **spread(late))
    return verdict("control", 0, met=max(late) == 0 and wrong == 0, value=max(late))


def loop(session: Any, order: Any) -> None:
    """Train a small network on one thread; note what each step ran with."""
    import torch
    from torch import nn

    from elektronn_tui.training.control import Control

    torch.set_num_threads(1)
    values = {"lr": 0.0}
    control = Control(
        name="lr", type="float", get=lambda: values["lr"], set=lambda value: values.__setitem__("lr", value), minimum=0
    )
    session.controls.add(control)
    net = nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Conv3d(8, 2, 3))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)
    raw, target = torch.rand(1, 1, 12, 36, 36), torch.randint(0, 2, (1, 8, 32, 32))
    steps: list[tuple[float, float]] = []
    queued: list[float] = []
    submit = session.submit

    def noted(request: Any, *rest: Any) -> None:
        submit(request, *rest)
        if isinstance(request, SetControls):
            queued.append(time.monotonic())

    session.submit = noted
    step = 0
    while session.safe_point(step):
        steps.append((time.monotonic(), values["lr"]))
        optimiser.param_groups[0]["lr"] = values["lr"]
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(raw), target).backward()
        optimiser.step()
        step += 1
        session.publish(step, {"lr": values["lr"]})
    (session.run_dir / "notes.json").write_text(json.dumps({"steps": steps, "queued": queued}))


if __name__ == "__main__":
    main(benchmark)

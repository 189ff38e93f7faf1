"""What it costs to be a session, server on and no client: CPU time of the training thread per step.

Processes with and without a session take turns at the same steps, small ones, so that the difference is seen in them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, private_home, spread, verdict

GOAL = 20.0  # µs
METRICS = {"loss": 0.5, "error": 0.1, "balanced_error": 0.2, "lr": 1e-3}
BLOCK = 100  # steps between two looks at the clock


def benchmark() -> int:
    """Compare steps of numpy and of pure Python, each with and without a session around them."""
    args = options(__doc__, rounds=12, seconds=3.0)
    rounds, seconds = (4, 1.5) if args.quick else (args.rounds, args.seconds)
    extra: dict[str, list[float]] = {}
    with private_home():
        for kind in STEPS:
            with_session, without = [], []
            for _ in range(rounds):
                without.append(measured("bare", kind, seconds))
                with_session.append(measured("session", kind, seconds))
            extra[kind] = [a - b for a, b in zip(with_session, without, strict=True)]
            emit(f"{kind}, no session", median(without), "µs/step", **spread(without))
            emit(f"{kind}, session", median(with_session), "µs/step", **spread(with_session))
        for name in ("safe_point", "publish"):
            emit(f"{name} alone", measured(name, "python", seconds), "µs/call")
    worst = max(median(values) for values in extra.values())
    return verdict("session_cost", GOAL, met=worst < GOAL, value=worst)


def measured(role: str, kind: str, seconds: float) -> float:
    """Return the microseconds of CPU time per step of a fresh process."""
    command = [sys.executable, __file__, "--role", role, kind, str(seconds)]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return float(subprocess.check_output(command, text=True, env=os.environ | one_thread).split()[-1])


def numpy_step() -> Callable[[], object]:
    """Return a step that spends its time in numpy, which lets other threads run."""
    import numpy as np

    matrix = np.ones((192, 192), np.float32)
    return lambda: matrix @ matrix


def python_step() -> Callable[[], object]:
    """Return a step that spends its time in the interpreter."""
    return lambda: sum(i * i for i in range(3000))


STEPS = {"numpy": numpy_step, "python": python_step}


def run(role: str, kind: str, seconds: float) -> None:
    """Make steps and print what one took."""
    step_once = STEPS[kind]()
    if role == "bare":
        print(per_step(lambda step: step_once(), seconds))
        return
    from elektronn_tui.session.registry import create_run, new_id, own_entry
    from elektronn_tui.session.server import Server
    from elektronn_tui.session.session import Session

    run_dir = create_run("cost")
    session = Session(run_dir, name=run_dir.name, session_id=new_id())
    session.log.install()
    server = Server(session, own_entry(session_id=session.id, run_dir=run_dir))
    server.start()
    session.safe_point(0)

    def trained(step: int) -> None:
        session.safe_point(step)
        step_once()
        session.publish(step + 1, METRICS)

    calls: dict[str, Callable[[int], object]] = {
        "session": trained,
        "safe_point": session.safe_point,
        "publish": lambda step: session.publish(step + 1, METRICS),
    }
    print(per_step(calls[role], seconds))
    session.finish("finished")
    server.close("finished")
    session.close()


def per_step(make: Callable[[int], object], seconds: float) -> float:
    """Return the microseconds of this thread's CPU time that a step took, after a first block to warm up."""
    step = 0
    for step in range(5 * BLOCK):
        make(step)
    first, begin, end = step + 1, time.thread_time(), time.monotonic() + seconds
    step = first
    while time.monotonic() < end:
        for _ in range(BLOCK):
            make(step)
            step += 1
    return 1e6 * (time.thread_time() - begin) / (step - first)


if __name__ == "__main__":
    if "--role" in sys.argv:
        run(sys.argv[2], sys.argv[3], float(sys.argv[4]))
    else:
        main(benchmark)

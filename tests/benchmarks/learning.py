"""Curves of the balanced validation error and the boundary IoU against minutes, of an experiment of the zoo.

``--path FILE.h5`` gives ``fib25`` its volume; without it the experiment must bring its own data.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, options, private_home, verdict
from sessions import end

from elektronn_tui.session.launch import Order, start_worker
from elektronn_tui.session.registry import read_session_file
from elektronn_tui.training.examples import experiment_file
from elektronn_tui.training.history import History


def benchmark() -> int:
    """Train for a while and print what validation said."""
    args = options(__doc__, experiment="membranes", path="", minutes=10.0)
    minutes = 0.6 if args.quick else args.minutes
    settings = {"data.path": args.path} if args.path else {}
    with private_home():
        entry = start_worker(Order(experiment=str(experiment_file(args.experiment)), name="run", settings=settings))
        try:
            time.sleep(60 * minutes)
            with History.open_read_only(Path(entry.run_dir) / "history.sqlite") as history:
                steps, times, errors = history.points("valid_balanced_error")
                _, _, ious = history.points("valid_iou")
            file = read_session_file(Path(entry.run_dir))
        finally:
            end(entry)
    for step, moment, error, iou in zip(steps.tolist(), times.tolist(), errors, ious, strict=True):
        emit(
            f"step {step}", error, "balanced validation error", minutes=round(moment / 60, 2), iou=round(float(iou), 4)
        )
    best = float(errors.min())
    rate = (file.step / file.training_time) if file is not None and file.training_time else 0.0
    return verdict(
        "learning", 0.2, met=best < 0.2, value=best, best_iou=round(float(ious.max()), 4),
        experiment=args.experiment, minutes=minutes, steps_per_second=round(rate, 2),
    )  # fmt: skip


if __name__ == "__main__":
    main(benchmark)

"""What an attached application costs: the training its steps, and itself a core.

Blocks with and without ``elektronn attach`` at 120 by 40 alternate in one run, beside a training of one torch thread.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, private_home, spread, verdict
from sessions import ELEKTRONN, running, wait_until
from terminals import PtyTerminal

SETTLE = 2.0  # seconds from the first full frame to the measured block


def benchmark() -> int:
    """Measure steps per second with and without an application, and the application's share of a core."""
    args = options(__doc__, rounds=8, block=6.0)
    rounds, block = (2, 4.0) if args.quick else (args.rounds, args.block)
    losses, per_step, shares = [], [], {1: [], 4: []}
    with private_home(), running("convolutions", name="training", settings={"history": "20000"}) as entry:
        ticks = Path(entry.run_dir) / "ticks"
        wait_until(ticks.exists, "the first step", 120)
        for number in range(rounds):
            for rate in (1, 4):
                before = measured(ticks, block)
                command = [ELEKTRONN, "attach", "training", "--rate", str(rate)]
                with PtyTerminal(command, columns=120, rows=40) as terminal:
                    terminal.wait_for_all([rb"running", rb"\xe2[\xa0-\xa3]"])
                    time.sleep(SETTLE)
                    cpu = cpu_seconds(terminal)
                    beside = measured(ticks, block)
                    shares[rate].append(100 * (cpu_seconds(terminal) - cpu) / block)
                after = measured(ticks, block / 2)
                alone = (before[0] + after[0]) / 2
                if rate == 1:
                    losses.append(100 * (1 - beside[0] / alone))
                    per_step.append(100 * (beside[1] / ((before[1] + after[1]) / 2) - 1))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    emit("steps/s lost, 1 Hz", median(losses), "%", **spread(losses))
    emit("CPU time of the training thread per step, more by, 1 Hz", median(per_step), "%", **spread(per_step))
    for rate, values in shares.items():
        emit(f"application, {rate} Hz", median(values), "% of a core", **spread(values))
    met = median(losses) < 2 and median(shares[1]) < 4 and median(shares[4]) < 10
    return verdict("tui_cost", 2, met=met, value=median(losses), ui_1hz=median(shares[1]), ui_4hz=median(shares[4]))


def cpu_seconds(terminal: PtyTerminal) -> float:
    """Return the CPU time that the application has used."""
    times = terminal.process.cpu_times()
    return times.user + times.system


def measured(ticks: Path, seconds: float) -> tuple[float, float]:
    """Return steps per second, and CPU seconds of the training thread per step, over the next `seconds`."""
    start = last_tick(ticks)
    time.sleep(seconds)
    end = last_tick(ticks)
    steps = end[1] - start[1]
    return steps / (end[0] - start[0]), (end[2] - start[2]) / steps


def last_tick(ticks: Path) -> tuple[float, float, float]:
    """Return the loop's last whole note: time, step, CPU time of its thread."""
    line = ticks.read_text().rstrip("\n").rpartition("\n")[2]
    moment, step, cpu = line.split()
    return float(moment), float(step), float(cpu)


if __name__ == "__main__":
    main(benchmark)

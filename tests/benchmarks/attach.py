"""How long ``elektronn attach`` takes to its first full frame, with a million steps of history.

A bare Textual application is started in turn with it, beside a training of one torch thread.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, private_home, spread, verdict
from sessions import ELEKTRONN, running
from terminals import PtyTerminal

BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("full frame")
Bare().run()
"""
FULL_FRAME = [rb"running", rb"\xe2[\xa0-\xa3]", rb"momentum", rb"loss 0"]
"""Status line, a curve, a control and a line of the log."""


def benchmark() -> int:
    """Start both in turn and compare."""
    args = options(__doc__, rounds=15, history=1_000_000)
    rounds, history = (5, 100_000) if args.quick else (args.rounds, args.history)
    ours, bare, first_bytes = [], [], []
    with private_home(), running("convolutions", name="training", settings={"history": str(history)}):
        with PtyTerminal([ELEKTRONN, "attach", "training"]) as terminal:  # writes what byte code is missing
            terminal.wait_for_all(FULL_FRAME)
        for _ in range(rounds):
            with PtyTerminal([sys.executable, "-c", BARE]) as terminal:
                bare.append(terminal.wait_for_all([rb"full frame"]) - terminal.started)
            with PtyTerminal([ELEKTRONN, "attach", "training"]) as terminal:
                ours.append(terminal.wait_for_all(FULL_FRAME) - terminal.started)
                first_bytes.append(terminal.chunks[0][0] - terminal.started)
    emit("elektronn attach, first byte", median(first_bytes), "s", **spread(first_bytes))
    emit("elektronn attach, full frame", median(ours), "s", steps=history, **spread(ours))
    emit("bare Textual application", median(bare), "s", **spread(bare))
    ratio = median(ours) / median(bare)
    return verdict("attach", 0.6, met=median(ours) < 0.6 and ratio < 2.5, value=median(ours), ratio_to_bare=ratio)


if __name__ == "__main__":
    main(benchmark)

"""Time from a key to the last byte of its frame: a page of 20 charts, and one of them, beside a training thread.

The charts are the application's own, 20 000 points each reduced to buckets as a session sends them. Peer: plotext in a
Textual widget, four charts of 300 points each, as other terminal viewers draw.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, private_home, spread, verdict
from sessions import running
from terminals import PtyTerminal

OURS = """
import numpy as np
from textual.app import App
from textual.containers import Grid
from elektronn_tui.screens.driver import ChangedCellsDriver
from elektronn_tui.screens.widgets.plot import Plot
from elektronn_tui.screens.widgets.series import Series
rng = np.random.default_rng(0)
def series(k):
    y = np.exp(-np.arange(20000) / 4000) + 0.05 * rng.random(20000) + 0.01 * k
    b = y.reshape(400, 50)
    return Series(f"m{k}", np.arange(50, 20001, 50), b.mean(1), b.min(1), b.max(1))
class Charts(App):
    CSS = "Grid { grid-size: 4 5; } Plot { height: 1fr; }"
    BINDINGS = [("a", "all", ""), ("o", "one", "")]
    def compose(self):
        with Grid():
            for k in range(20):
                yield Plot(f"chart {k}")
    def on_mount(self):
        for k, plot in enumerate(self.query(Plot)):
            plot.set_series([series(k)])
    def action_all(self):
        for plot in self.query(Plot):
            plot.log_y = not plot.log_y
    def action_one(self):
        plot = self.query(Plot).first()
        plot.log_y = not plot.log_y
Charts(driver_class=ChangedCellsDriver).run(mouse=False)
"""

PLOTEXT = """
import math, random
import plotext
from rich.text import Text
from textual.app import App
from textual.containers import Grid
from textual.widgets import Static
random.seed(0)
data = [[math.exp(-i / 60) + 0.05 * random.random() + 0.2 * k for i in range(300)] for k in range(4)]
class Charts(App):
    CSS = "Grid { grid-size: 2 2; } Static { height: 1fr; }"
    BINDINGS = [("a", "all", ""), ("o", "one", "")]
    def compose(self):
        with Grid():
            for _ in range(4):
                yield Static()
    def draw(self, k):
        widget = list(self.query(Static))[k]
        figure = plotext.figure
        figure.clear()
        y = [math.log10(v) for v in data[k]] if self.flipped else data[k]
        figure.draw(figure.signal(list(range(300)), y, marker="braille").lines())
        figure.plot_size(max(widget.size.width, 20), max(widget.size.height, 8))
        widget.update(Text.from_ansi(figure.build().string()))
    flipped = False
    def on_mount(self):
        self.call_after_refresh(self.action_all)
    def action_all(self):
        self.flipped = not self.flipped
        for k in range(4):
            self.draw(k)
    def action_one(self):
        self.flipped = not self.flipped
        self.draw(0)
Charts().run(mouse=False)
"""
QUIET = 0.15  # seconds without a byte that end a frame


def benchmark() -> int:
    """Press keys at irregular moments and time their frames."""
    args = options(__doc__, keys=40)
    keys = 12 if args.quick else args.keys
    random.seed(1)
    medians = {}
    with private_home(), running("convolutions", name="training"):
        for name, program in (("elektronn, 20 charts", OURS), ("plotext in Textual, 4 charts", PLOTEXT)):
            with PtyTerminal([sys.executable, "-c", program], columns=140, rows=40) as terminal:
                terminal.wait_for_all([rb"\xe2[\xa0-\xa3]"])
                time.sleep(2.0)
                for key, what in (("a", "all"), ("o", "one")):
                    times = [1000 * key_to_frame(terminal, key) for _ in range(keys + 2)][2:]
                    emit(f"{name}, {what} redrawn", median(times), "ms", **spread(times))
                    medians[name, what] = median(times)
    page, one = medians["elektronn, 20 charts", "all"], medians["elektronn, 20 charts", "one"]
    peer = medians["plotext in Textual, 4 charts", "all"]
    return verdict("key_to_frame", 50, met=page < 50 and one < 15, value=page, one=one, goal_one=15, peer_page=peer)


def key_to_frame(terminal: PtyTerminal, key: str) -> float:
    """Press a key and return the seconds to the last byte of what it changed."""
    threading.Event().wait(0.1 + 0.2 * random.random())
    before = len(terminal.chunks)
    pressed = terminal.send(key)
    while True:
        time.sleep(QUIET)
        chunks = terminal.chunks[before:]
        if chunks and time.perf_counter() - chunks[-1][0] > QUIET:
            return chunks[-1][0] - pressed
        if time.perf_counter() - pressed > 10:
            raise TimeoutError(f"key {key!r} changed nothing in 10 s; the screen shows:\n{terminal.text()}")


if __name__ == "__main__":
    main(benchmark)

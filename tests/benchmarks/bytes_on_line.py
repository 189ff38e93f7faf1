"""How many bytes an attached application sends: log and two plots live, 120 by 40, one update a second.

The session makes 100 steps a second and has a past of some minutes (``--history 0``: none, the curves move most).

Textual's own driver and ours show the same session at the same time; what ``ssh -C`` would make of the bytes is
measured with one zlib stream, flushed after each write. At the end the session is paused and both screens are compared.
"""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, options, private_home, verdict
from sessions import running
from terminals import PtyTerminal

from elektronn_tui.session.blocking import ask
from elektronn_tui.session.protocol import Pause

APPLICATION = """
import sys
from elektronn_tui.app import prepare_terminal
prepare_terminal()
from textual.drivers.linux_driver import LinuxDriver
from elektronn_tui.screens.application import ElektronnApp
from elektronn_tui.session.registry import find
stock = LinuxDriver if sys.argv[1] == "stock" else None
ElektronnApp(find("training"), rate=float(sys.argv[2]), driver_class=stock).run(mouse=False)
"""


def benchmark() -> int:
    """Count for a while, then compare the screens."""
    args = options(__doc__, seconds=60.0, rate=1.0, history=20_000)
    seconds = 20.0 if args.quick else args.seconds
    figures: dict[str, tuple[float, float]] = {}
    with private_home(), running("idle", name="training", settings={"history": str(args.history)}) as entry:
        terminals = {
            driver: PtyTerminal([sys.executable, "-c", APPLICATION, driver, str(args.rate)], columns=120, rows=40)
            for driver in ("stock", "changed cells")
        }
        try:
            for terminal in terminals.values():
                terminal.wait_for_all([rb"running", rb"\xe2[\xa0-\xa3]"])
            time.sleep(5.0)
            start = {driver: len(terminal.chunks) for driver, terminal in terminals.items()}
            time.sleep(seconds)
            for driver, terminal in terminals.items():
                writes = [data for _, data in terminal.chunks]
                figures[driver] = rates(writes, start[driver], seconds)
            ask(entry.socket, Pause())
            time.sleep(4.0)
            screens = {driver: terminal.screen() for driver, terminal in terminals.items()}
        finally:
            for terminal in terminals.values():
                terminal.close()
    for driver, (plain, compressed) in figures.items():
        emit(driver, plain, "B/s", compressed=round(compressed), rate_hz=args.rate)
    stock, ours = (screens[driver].buffer for driver in ("stock", "changed cells"))
    different = sum(stock[y][x] != ours[y][x] for y in range(40) for x in range(120))
    emit("cells that differ from the stock driver's", different, "cells")
    plain, compressed = figures["changed cells"]
    met = plain < 1500 and compressed < 400 and different == 0
    return verdict(
        "bytes_on_line", 1500, met=met, value=plain, compressed=round(compressed), goal_compressed=400,
        cells_different=different, ratio_to_stock=round(plain / figures["stock"][0], 4),
    )  # fmt: skip


def rates(writes: list[bytes], start: int, seconds: float) -> tuple[float, float]:
    """Return bytes per second from write number `start` on, plain and through one compressed stream."""
    compressor = zlib.compressobj()
    sizes = []
    for data in writes:
        sizes.append(len(compressor.compress(data)) + len(compressor.flush(zlib.Z_SYNC_FLUSH)))
    return sum(map(len, writes[start:])) / seconds, sum(sizes[start:]) / seconds


if __name__ == "__main__":
    main(benchmark)

"""How much memory an attached application takes, plots drawn, and whether it loaded what it must not."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, options, private_home, verdict
from sessions import ELEKTRONN, running
from terminals import PtyTerminal

FORBIDDEN = ("torch", "numba", "llvmlite", "h5py", "skimage", "scipy", "jedi", "parso")


def benchmark() -> int:
    """Attach, look at every pane, and read the process's memory."""
    args = options(__doc__, history=1_000_000)
    history = 100_000 if args.quick else args.history
    with (
        private_home(),
        running("convolutions", name="training", settings={"history": str(history)}),
        PtyTerminal([ELEKTRONN, "attach", "training"]) as terminal,
    ):
        terminal.wait_for_all([rb"running", rb"\xe2[\xa0-\xa3]", rb"loss 0"])
        for key in "123456":
            terminal.send(key)
            time.sleep(0.5)
        time.sleep(5.0)
        memory = terminal.process.memory_full_info()
        mapped = {Path(region.path).parts for region in terminal.process.memory_maps()}
    loaded = sorted({name for parts in mapped for name in FORBIDDEN if name in parts})
    emit("resident memory", memory.rss / 1e6, "MB", history=history)
    emit("of that, its own alone", memory.uss / 1e6, "MB")
    emit("forbidden packages with mapped libraries", len(loaded), "packages", names=loaded)
    return verdict("ui_process", 70, met=memory.rss < 70e6 and not loaded, value=memory.rss / 1e6, loaded=loaded)


if __name__ == "__main__":
    main(benchmark)

"""For how long a job stops the training: a snapshot of 20 million parameters in memory, against writing the model file.

The two take turns. Beside them, how long another thread of Python waits at most while the snapshot is written.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, spread, verdict

GOAL = 0.2
"""Of the time that it takes to write the file."""


def network(features: int) -> Any:
    """Return six 3D convolutions in the memory format of training."""
    import torch

    from elektronn_tui.models import Conv, Input, Model, Softmax

    out = raw = Input((1, 1, 20, 60, 60), "b,f,z,y,x", name="raw")
    for _ in range(6):
        out = Conv(out, features, (3, 3, 3))
    probs = Softmax(Conv(out, 2, (1, 1, 1), activation_func="lin"))
    return Model(input_node=raw, prediction_node=probs).to("cpu", memory_format=torch.channels_last_3d)


def longest_wait(work: Any) -> float:
    """Return for how long, in seconds, a thread that computes with torch did not come back to Python during `work`."""
    import torch

    stop = threading.Event()
    moments: list[float] = []

    def compute() -> None:
        array = torch.rand(300, 300)
        while not stop.is_set():
            array @ array
            moments.append(time.perf_counter())

    thread = threading.Thread(target=compute)
    thread.start()
    while len(moments) < 20:
        time.sleep(0.01)
    first = len(moments)
    work()
    stop.set()
    thread.join()
    return max(after - before for before, after in zip(moments[first - 1 :], moments[first:], strict=False))


def benchmark() -> int:
    """Time snapshots and files in turns."""
    import torch

    from elektronn_tui.models.storage import snapshot_model

    args = options(__doc__, rounds=15, features=384)
    rounds = 5 if args.quick else args.rounds
    torch.set_num_threads(1)
    model = network(args.features)
    snapshots, files, waits = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        for _ in range(rounds):
            begin = time.perf_counter()
            snapshot = snapshot_model(model)
            snapshots.append(1e3 * (time.perf_counter() - begin))
            begin = time.perf_counter()
            model.save(path)
            files.append(1e3 * (time.perf_counter() - begin))
            waits.append(1e3 * longest_wait(lambda taken=snapshot: taken.write(path)))
    for name, values in (("snapshot", snapshots), ("file", files), ("longest wait while it is written", waits)):
        emit(name, median(values), "ms", parameters=model.param_count, **spread(values))
    ratio = median(snapshots) / median(files)
    return verdict("snapshot", GOAL, met=ratio <= GOAL, ratio=ratio)


if __name__ == "__main__":
    main(benchmark)

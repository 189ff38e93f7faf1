"""`elektronn predict` on a volume of 1024³ voxels: its memory, and whether it ends the same after ten kills.

A uint8 volume in compressed HDF5 is predicted by a small network in one go, and again with a SIGKILL at ten moments,
each after about a tenth of the time, and `--resume`. `value` is the highest memory (VmHWM) of any of the processes in
GiB; the goal is met when it is below 2 and both outputs are the same, value by value. `--quick` takes 128³ in
small blocks.

    python tests/benchmarks/predict_volume.py [--quick] [--size N]
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, options, verdict
from sessions import ELEKTRONN

GOAL = 2.0
KILLS = 10
BLOCK_MIB = 1
"""Blocks are single tiles."""


def make_model(path: Path) -> None:
    from elektronn_tui.models import Conv, Input, Model, Softmax

    raw = Input((1, 1, 68, 132, 132), "b,f,z,y,x", name="raw")
    out = Conv(Conv(raw, 4, (3, 3, 3)), 2, (3, 3, 3), activation_func="lin")
    Model(raw, prediction_node=Softmax(out)).save(path)


def make_volume(path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("raw", (size,) * 3, np.uint8, chunks=(32, 64, 64), compression="gzip")
        for z in range(0, size, 32):
            coarse = rng.integers(0, 256, (4, -(-size // 8), -(-size // 8)), np.uint8)
            slab = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)
            raw[z : z + 32] = slab[: min(32, size - z), :size, :size]


def predict(folder: Path, out: str, memory: float, kill_after: float | None = None) -> tuple[float, float]:
    """Run the command, kill it some seconds after it began to predict; return how long it did and its peak in GiB."""
    command = [ELEKTRONN, "predict", "net.safetensors", "raw.h5:raw", out, "--uint8", "--resume", "--json"]
    command += [f"--memory={memory}", f"--block-memory={BLOCK_MIB}"]
    peak, begin, timer = 0.0, 0.0, None
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "done":
                break
            if not begin:
                begin = time.perf_counter()
                if kill_after is not None:
                    timer = threading.Timer(kill_after, process.kill)
                    timer.start()
            with contextlib.suppress(FileNotFoundError, TypeError):  # it is dead by now
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max(peak, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20)  # type: ignore[index]
    if timer is not None:
        timer.cancel()
    if kill_after is None and process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {process.returncode}")
    return time.perf_counter() - begin, peak


def same(first: Path, second: Path) -> bool:
    with h5py.File(first) as a, h5py.File(second) as b:
        one, other = a["prediction"], b["prediction"]
        return one.shape == other.shape and all(
            np.array_equal(one[:, z : z + 32], other[:, z : z + 32]) for z in range(0, one.shape[1], 32)
        )


def benchmark() -> int:
    args = options(__doc__, size=0)
    size = args.size or (128 if args.quick else 1024)
    memory = 1.0 if size >= 1024 else 1.0 * (size / 1024) ** 2  # GiB, for some dozens of blocks
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="elektronn-bench-") as name:
        folder = Path(name)
        make_model(folder / "net.safetensors")
        make_volume(folder / "raw.h5", size)
        seconds, peak = predict(folder, "whole.h5", memory)
        emit("in one go", size**3 / 1e6 / seconds, "MVoxel/s", peak_gib=round(peak, 3))
        kills = 0
        while kills < KILLS and not (folder / "killed.h5").exists():
            _, used = predict(folder, "killed.h5", memory, rng.uniform(0, 2 * seconds / KILLS))
            peak, kills = max(peak, used), kills + (not (folder / "killed.h5").exists())
        _, used = predict(folder, "killed.h5", memory) if kills == KILLS else (0.0, 0.0)
        peak = max(peak, used)
        equal = same(folder / "whole.h5", folder / "killed.h5")
        emit("killed and resumed", kills, "kills", same=equal)
    met = equal and kills == KILLS and peak < GOAL
    return verdict("predict_volume", GOAL, value=peak, met=met, kills=kills, same=equal, size=size)


if __name__ == "__main__":
    main(benchmark)

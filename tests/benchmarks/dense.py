"""Dense prediction, voxels per second: ours against MONAI, elektronn3, one forward of the whole, and naive ways.

`unet`: a U-Net that pads, on 64×256×256 voxels, by `predict_dense` as `elektronn predict` starts it, by MONAI's
`sliding_window_inference`, by elektronn3's `Predictor`, and by one forward of the whole volume. `strided`: every voxel
of 8×64×64 by `neuro3d_lite` (strides 2, 4, 4), by dilation, by max-fragment pooling, by a run for each shift (of ours,
and of plain torch), and by a patch for each voxel, of which 64 are computed. All with the same weights, precision and
memory format (channels-last).

Each contender has a process of its own; they take turns, and the figure is the median over turns. The first turn, which
counts for none, also gives the outputs that are compared: `difference` is the largest one to the first contender.

    python tests/benchmarks/dense.py [--quick] [--precision fp32|bf16|both] [--threads 1|2|0]

(0 threads: first one, then two.)
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, spread, verdict  # noqa: E402

VOLUME, QUICK_VOLUME = (64, 256, 256), (32, 128, 128)
TILE = (48, 96, 96)
OUT, QUICK_OUT = (8, 64, 64), (4, 32, 32)
GOALS = {"MONAI": 1.5, "elektronn3": 1.5, "whole": 0.95, "patches": 40.0, "shifts": 3.0}
KINDS = {"MONAI": "MONAI", "elektronn3": "elektronn3", "one": "whole", "a": "patches", "shifts": "shifts"}
"""First words of names to goals."""
Contender = Callable[[], np.ndarray]
MAKERS: dict[str, dict[str, Callable[[Any], Contender]]] = {"unet": {}, "strided": {}}


def contender(group: str, name: str) -> Callable[[Callable[[Any], Contender]], Callable[[Any], Contender]]:
    def register(maker: Callable[[Any], Contender]) -> Callable[[Any], Contender]:
        MAKERS[group][name] = maker
        return maker

    return register


class Task:
    """The network and the volume, the same in every process."""

    def __init__(self, group: str, precision: str, quick: bool) -> None:
        import torch

        from elektronn_tui.training.opening import open_model

        torch.manual_seed(0)
        self.torch, self.precision = torch, precision
        self.model = unet() if group == "unet" else open_model("neuro3d_lite")
        self.model.to(memory_format=torch.channels_last_3d)
        self.model.eval()
        # The last scores instead of the probabilities: differences are not hidden by saturation.
        self.node = self.model.prediction_node.parents[0] if group == "strided" else self.model.prediction_node
        if group == "unet":
            self.size = QUICK_VOLUME if quick else VOLUME
        else:
            self.out = QUICK_OUT if quick else OUT
            self.size = tuple(n + f - 1 for n, f in zip(self.out, self.node.shape.fov, strict=True))
        self.image = np.random.default_rng(0).normal(size=(1, *self.size)).astype(np.float32)

    def forward(self, x: Any) -> Any:
        """Map a batch as a plain torch module would."""
        torch = self.torch
        x = x.to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model.compute([self.node], {self.model.input_node.name: x})[0].float()

    def ours(self, **chosen: Any) -> Contender:
        from elektronn_tui.models.dense import predict_dense

        return lambda: predict_dense(self.node, self.image, precision=self.precision, channels_last=True, **chosen)


def unet() -> Any:
    """Return a U-Net of three levels that pads, 16 to 64 features, flat at its finest level."""
    from elektronn_tui.models import AutoMerge, Conv, Input, Model, Pool

    def twice(node: Any, features: int, kernel: tuple[int, int, int]) -> Any:
        return Conv(Conv(node, features, kernel, conv_mode="same"), features, kernel, conv_mode="same")

    raw = Input((None, 1, *TILE), "b,f,z,y,x", name="raw")
    fine = twice(raw, 16, (1, 3, 3))
    middle = twice(Pool(fine, (1, 2, 2)), 32, (3, 3, 3))
    coarse = twice(Pool(middle, (2, 2, 2)), 64, (3, 3, 3))
    middle = twice(AutoMerge(middle, coarse, upconv_n_f=32), 32, (3, 3, 3))
    fine = twice(AutoMerge(fine, middle, upconv_n_f=16), 16, (1, 3, 3))
    return Model(raw, prediction_node=Conv(fine, 2, (1, 1, 1), activation_func="lin", name="scores"))


@contender("unet", "elektronn")
def ours_unet(task: Task) -> Contender:
    return task.ours()


@contender("unet", "elektronn, blended tiles of 48×96×96")
def ours_blended(task: Task) -> Contender:
    return task.ours(patch_shape=TILE)


@contender("unet", "one forward of the whole")
def whole(task: Task) -> Contender:
    torch = task.torch

    def run() -> np.ndarray:
        with torch.inference_mode():
            return task.forward(torch.from_numpy(task.image[None]))[0].numpy()

    return run


def monai(mode: str) -> Callable[[Task], Contender]:
    def make(task: Task) -> Contender:
        from monai.inferers import sliding_window_inference

        torch = task.torch

        def run() -> np.ndarray:
            with torch.inference_mode():
                x = torch.from_numpy(task.image[None])
                return sliding_window_inference(x, TILE, 1, task.forward, overlap=0.25, mode=mode)[0].numpy()

        return run

    return make


for mode in ("constant", "gaussian"):
    contender("unet", f"MONAI sliding_window_inference, {mode}")(monai(mode))


@contender("unet", "elektronn3 Predictor")
def elektronn3(task: Task) -> Contender:
    if not hasattr(np, "int"):
        np.int = int  # which its release still names
    from elektronn3.inference import Predictor

    module = task.torch.nn.Module()
    module.forward = task.forward
    predictor = Predictor(
        module,
        device="cpu",
        tile_shape=(32, 64, 64),
        overlap_shape=(8, 16, 16),
        offset=(0, 0, 0),
        out_shape=(2, *task.size),
        apply_softmax=False,
        verbose=False,
    )
    return lambda: np.asarray(predictor.predict(task.image[None]))[0]


def engine(name: str) -> Callable[[Task], Contender]:
    return lambda task: task.ours(engine=name)


contender("strided", "elektronn")(engine("auto"))
contender("strided", "elektronn, mfp")(engine("mfp"))
contender("strided", "elektronn, shifts")(engine("shifts"))


@contender("strided", "shifts and stitches")
def shifts(task: Task) -> Contender:
    torch, steps = task.torch, [int(s) for s in task.node.shape.strides]

    def run() -> np.ndarray:
        image, out = torch.from_numpy(task.image[None]), np.empty((2, *task.out), np.float32)
        with torch.inference_mode():
            for place in itertools.product(*map(range, steps)):
                ends = (n - s + 1 + p for n, s, p in zip(task.size, steps, place, strict=True))
                part = image[(..., *map(slice, place, ends))]
                every = tuple(slice(p, None, s) for p, s in zip(place, steps, strict=True))
                out[(slice(None), *every)] = task.forward(part.contiguous())[0].numpy()
        return out

    return run


@contender("strided", "a patch for each voxel")
def patches(task: Task) -> Contender:
    torch = task.torch
    z, y, x = task.node.shape.fov
    places = list(itertools.product(range(4), range(4), range(4)))

    def run() -> np.ndarray:
        cut = np.stack([task.image[:, a : a + z, b : b + y, c : c + x] for a, b, c in places])
        with torch.inference_mode():
            values = [task.forward(torch.from_numpy(cut[i : i + 16])) for i in range(0, len(cut), 16)]
        return torch.cat(values).reshape(4, 4, 4, -1).permute(3, 0, 1, 2).numpy()

    return run


def serve(group: str, name: str, precision: str, threads: int, quick: bool, folder: Path) -> None:
    """Compute whenever a line comes in, and answer with the seconds."""
    import torch

    torch.set_num_threads(threads)
    if name.split(",")[0] in ("elektronn", "one forward of the whole"):
        from elektronn_tui.models.allocation import keep_freed_memory

        keep_freed_memory()  # as the command does; the forward is given it, too
    task = Task(group, precision, quick)
    run = MAKERS[group][name](task)
    np.save(folder / "out.npy", run())
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        run()
        print(time.perf_counter() - begin, flush=True)


def compare(group: str, precision: str, threads: int, quick: bool, turns: int) -> dict[str, float]:
    """Return voxels per second of each contender, of those that are installed."""
    processes: dict[str, subprocess.Popen[str]] = {}
    outputs: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {}
    try:
        for name in MAKERS[group]:
            with tempfile.TemporaryDirectory() as folder:
                arguments = [group, name, precision, str(threads), str(int(quick)), folder]
                environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                process = subprocess.Popen(
                    [sys.executable, __file__, "--serve", json.dumps(arguments)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
                if answer(process) != "ready":
                    last = (process.communicate()[1].strip().splitlines() or ["it ended"])[-1]
                    print(json.dumps({"name": name, "left_out": last}), flush=True)
                    continue
                processes[name], seconds[name] = process, []
                outputs[name] = np.load(Path(folder) / "out.npy")
        for _ in range(turns):
            for name, process in processes.items():
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                seconds[name].append(float(answer(process)))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    first = next(iter(outputs.values()))
    rates = {}
    for name, values in outputs.items():
        voxels = values[0].size
        rates[name] = voxels / median(seconds[name])
        apart = np.abs(values - first[tuple(slice(n) for n in values.shape)])
        emit(
            f"{group}, {precision}, {threads} threads: {name}",
            rates[name],
            "voxels/s",
            difference=float(f"{apart.max():.2g}"),
            mean_difference=float(f"{apart.mean():.2g}"),
            seconds=spread(seconds[name]),
        )
    return rates


def answer(process: subprocess.Popen[str]) -> str:
    """Return a process's next line, of those that are ours: some peers print of their own."""
    assert process.stdout is not None
    for line in process.stdout:
        text = line.strip()
        if text == "ready" or text.replace(".", "", 1).replace("e-", "", 1).isdigit():
            return text
    return ""


def benchmark() -> int:
    args = options(__doc__, precision="both", threads=0, turns=5)
    from elektronn_tui.models.precision import has_fast_bf16

    both = ("fp32", "bf16") if has_fast_bf16("cpu") else ("fp32",)
    precisions = both if args.precision == "both" else (args.precision,)
    threads = (1, 2) if args.threads == 0 else (args.threads,)
    if args.quick:
        precisions, threads = precisions[-1:], threads[-1:]
    found: dict[str, list[float]] = {name: [] for name in GOALS}
    for precision, count in itertools.product(precisions, threads):
        for group in MAKERS:
            rates = compare(group, precision, count, args.quick, 2 if args.quick else args.turns)
            ours = rates["elektronn"]
            for name, rate in rates.items():
                kinds = {
                    "MONAI": "MONAI",
                    "elektronn3": "elektronn3",
                    "one": "whole",
                    "a": "patches",
                    "shifts": "shifts",
                }
                if kind := kinds.get(name.split()[0]):
                    found[kind].append(ours / rate)
    least = {name: min(ratios) for name, ratios in found.items() if ratios}
    ratios = {f"over_{name}": [float(f"{r:.4g}") for r in values] for name, values in found.items() if values}
    met = all(ratio >= GOALS[name] for name, ratio in least.items())
    share = min(ratio / GOALS[name] for name, ratio in least.items())
    return verdict("dense", 1.0, met=met, ratio=share, goals=GOALS, **ratios)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        group, name, precision, threads, quick, folder = json.loads(sys.argv[2])
        serve(group, name, precision, int(threads), bool(int(quick)), Path(folder))
    else:
        main(benchmark)

"""Warped patches per second: ours against what users warp with today, on one thread.

Each contender makes an example of 3D raw (linear) and labels (nearest) out of a 256×512×512 uint8 volume in memory:
rotation about z by any angle, tilt of ±2 degrees, scale 0.9 to 1.1, lateral shear, flips, perspective where it can. A
contender that takes a matrix gets the same draw of matrices; the others draw their own of the same ranges, from a crop
that holds the patch in any rotation. All arrays that an example consists of are made new for each example. Contenders
take turns; the figure is the median over turns of patches per second of CPU time. `ratio` is ours over the fastest
other one, the lower of those of the two patch shapes; the goal is 10, and 8 on a CPU without AVX-512.

    python tests/benchmarks/warp.py [--quick] [--shape Z,Y,X]... [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy, torch and numba read it
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402

from elektronn_tui.data.sampling import Scratch, sample_labels, sample_raw  # noqa: E402
from elektronn_tui.data.warp import Warp, bounding_box, source_box, translated  # noqa: E402

CPU = Path("/proc/cpuinfo")
GOAL = 10 if CPU.exists() and "avx512f" in CPU.read_text() else 8
"""Wider registers help ours alone: the others are bound by memory and by calls."""

Shape = tuple[int, int, int]
Contender = Callable[[], tuple]
MAKERS: dict[str, Callable[[Task], Contender]] = {}


class Task:
    """The volume, the patch shape and the warps of one comparison."""

    def __init__(self, patch: Shape, volume: Shape) -> None:
        self.patch = patch
        # Smooth tissue-like texture is not needed: no contender's time depends on the values.
        rng = np.random.default_rng(0)
        self.raw = rng.integers(0, 256, volume, dtype=np.uint8)
        self.labels = (self.raw > 128).view(np.uint8)
        self.rng = np.random.default_rng(1)
        self.centre = (np.array(patch) - 1) / 2
        depth, height, width = patch
        turned = int(np.ceil(max(height, width) * 1.2 * np.sqrt(2))) + 2
        tilted = int(depth * 1.2) + 2 * int(np.ceil(max(height, width) * 0.05)) + 2
        self.crop_shape = tuple(min(need, has) for need, has in zip((tilted, turned, turned), volume, strict=True))
        self.warp = Warp(rotation=180, tilt=2, lock_z=False, scale=0.1, shear=0, perspective=0.05)
        self.flat_warp = Warp(rotation=180, tilt=2, lock_z=False, scale=0.1, shear=0)

    def draw(self, warp: Warp | None = None) -> tuple[np.ndarray, tuple[slice, ...]]:
        """Return a placed matrix relative to its source box, and the box."""
        shear = np.eye(4)
        shear[1, 2], shear[2, 1] = self.rng.uniform(-0.1, 0.1, 2)
        shear[:3, 3] = self.centre - shear[:3, :3] @ self.centre
        matrix = (warp or self.warp).draw(self.rng, self.patch) @ shear
        low, high = bounding_box(matrix, self.patch)
        first, last = np.ceil(-low), np.floor(np.array(self.raw.shape) - 1 - high)
        placed = translated(matrix, self.rng.integers(first, np.maximum(last, first) + 1))
        begin, end = source_box(placed, self.patch, self.raw.shape)
        return translated(placed, [-i for i in begin]), tuple(map(slice, begin, end))

    def crop(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a random crop of raw and labels that holds a patch in any rotation."""
        low = [
            int(self.rng.integers(0, has - need + 1)) for need, has in zip(self.crop_shape, self.raw.shape, strict=True)
        ]
        box = tuple(slice(a, a + n) for a, n in zip(low, self.crop_shape, strict=True))
        return self.raw[box], self.labels[box]


def contender(name: str) -> Callable:
    def register(maker: Callable[[Task], Contender]) -> Callable[[Task], Contender]:
        MAKERS[name] = maker
        return maker

    return register


@contender("elektronn")
def make_ours(task: Task) -> Contender:
    scratch = Scratch()

    def example() -> tuple:
        matrix, box = task.draw()
        raw, labels = np.empty((1, *task.patch), np.float32), np.empty((1, *task.patch), np.uint8)
        sample_raw(task.raw[box][None], matrix, raw, scratch=scratch)
        sample_labels(task.labels[box][None], matrix, labels, scratch=scratch)
        return raw, labels

    return example


@contender("torch grid_sample")
def make_grid_sample(task: Task) -> Contender:
    import torch
    from torch.nn.functional import grid_sample

    torch.set_num_threads(1)
    axes = (torch.arange(extent, dtype=torch.float32) for extent in task.patch)
    grid = torch.stack((*torch.meshgrid(*axes, indexing="ij"), torch.ones(task.patch)), -1).reshape(-1, 4)

    def example() -> tuple:
        matrix, box = task.draw()
        raw, labels = task.raw[box], task.labels[box]
        normalised = np.eye(4)
        for axis, extent in enumerate(raw.shape):
            normalised[axis, axis], normalised[axis, 3] = 2 / (extent - 1), -1
        to_grid = (normalised @ matrix)[[2, 1, 0, 3]]
        at = grid @ torch.from_numpy(to_grid.T.astype(np.float32))
        at = (at[:, :3] / at[:, 3:]).view(1, *task.patch, 3)
        image = torch.from_numpy(raw).float()[None, None]
        ids = torch.from_numpy(labels.astype(np.float32))[None, None]
        return (
            grid_sample(image, at, "bilinear", "border", True),
            grid_sample(ids, at, "nearest", "border", True).to(torch.int32),
        )

    return example


@contender("scipy map_coordinates")
def make_map_coordinates(task: Task) -> Contender:
    from scipy.ndimage import map_coordinates

    z, y, x = np.ogrid[tuple(slice(extent) for extent in task.patch)]

    def example() -> tuple:
        matrix, box = task.draw()
        rows = [row[0] * z + row[1] * y + row[2] * x + row[3] for row in matrix]
        at = np.stack([row / rows[3] for row in rows[:3]])
        return (
            map_coordinates(task.raw[box].astype(np.float32), at, order=1, output=np.float32, mode="nearest"),
            map_coordinates(task.labels[box], at, order=0, mode="nearest"),
        )

    return example


@contender("scipy affine_transform")
def make_affine_transform(task: Task) -> Contender:
    from scipy.ndimage import affine_transform

    def example() -> tuple:
        matrix, box = task.draw(task.flat_warp)
        linear, offset = matrix[:3, :3], matrix[:3, 3]
        raw = task.raw[box].astype(np.float32)
        return (
            affine_transform(raw, linear, offset, task.patch, order=1, output=np.float32, mode="nearest"),
            affine_transform(task.labels[box], linear, offset, task.patch, order=0, mode="nearest"),
        )

    return example


@contender("elektronn3")
def make_elektronn3(task: Task) -> Contender:
    from elektronn3.data.coord_transforms import get_warped_slice

    # Its source is whatever can be sliced in four dimensions; out of bounds is an exception, as in its data set.
    raw, labels = task.raw[None], task.labels[None]

    def example() -> tuple:
        while True:
            try:
                return get_warped_slice(
                    raw,
                    task.patch,
                    aniso_factor=1,
                    sample_aniso=False,
                    warp_amount=1.0,
                    lock_z=True,
                    perspective=True,
                    target_src=labels,
                    target_patch_shape=task.patch,
                    target_discrete_ix=[0],
                    rng=np.random.RandomState(int(task.rng.integers(2**31))),
                )
            except ValueError:
                continue

    return example


@contender("MONAI RandAffined")
def make_monai(task: Task) -> Contender:
    import monai.transforms as monai
    import torch
    from monai.data import set_track_meta

    set_track_meta(False)
    torch.set_num_threads(1)
    keys = ["raw", "labels"]
    transform = monai.Compose(
        [
            monai.RandAffined(
                keys,
                spatial_size=task.patch,
                prob=1,
                rotate_range=((-3.14, 3.14), (-0.035, 0.035), (-0.035, 0.035)),
                shear_range=(0.0, 0.0, 0.0, 0.0, 0.1, 0.1),
                scale_range=0.1,
                mode=("bilinear", "nearest"),
                padding_mode="border",
                cache_grid=True,
            ),
            *(monai.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
        ]
    )

    def example() -> tuple:
        raw, labels = task.crop()
        result = transform(
            {
                "raw": torch.from_numpy(raw[None].astype(np.float32)),
                "labels": torch.from_numpy(labels[None].astype(np.float32)),
            }
        )
        return result["raw"], result["labels"]

    return example


@contender("torchio RandomAffine")
def make_torchio(task: Task) -> Contender:
    import torch
    import torchio

    torch.set_num_threads(1)
    transform = torchio.Compose(
        [
            torchio.RandomAffine(scales=0.1, degrees=(-180, 180, -2, 2, -2, 2)),
            torchio.CropOrPad(task.patch),
            torchio.RandomFlip((0, 1, 2)),
        ]
    )

    def example() -> tuple:
        raw, labels = task.crop()
        subject = transform(
            torchio.Subject(
                raw=torchio.ScalarImage(tensor=torch.from_numpy(raw[None].astype(np.float32))),
                labels=torchio.LabelMap(tensor=torch.from_numpy(labels[None].astype(np.int32))),
            )
        )
        return subject.raw.data, subject.labels.data

    return example


@contender("batchgeneratorsv2 SpatialTransform")
def make_batchgenerators(task: Task) -> Contender:
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    torch.set_num_threads(1)
    np.random.seed(1)  # it draws from numpy's global generator
    transform = SpatialTransform(
        task.patch,
        0,
        False,
        p_elastic_deform=0,
        p_rotation=1,
        rotation=lambda image, dim: np.random.uniform(*((0, 2 * np.pi) if dim == 0 else (-0.035, 0.035))),
        p_scaling=1,
        scaling=(0.9, 1.1),
        mode_seg="nearest",
        padding_mode_image="border",
        border_mode_seg="border",
    )

    def example() -> tuple:
        raw, labels = task.crop()
        result = transform(
            image=torch.from_numpy(raw[None].astype(np.float32)),
            segmentation=torch.from_numpy(labels[None].astype(np.int32)),
        )
        return result["image"], result["segmentation"]

    return example


def measure(contenders: dict[str, Contender], seconds: float) -> dict[str, list[float]]:
    """Let the contenders take turns for `seconds`; return CPU seconds a patch, one figure a turn."""
    for make in contenders.values():
        make(), make()
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(turns["elektronn"]) < 3:
        for name, make in contenders.items():
            start, stop, count = time.process_time(), time.perf_counter() + 0.15, 0
            while count == 0 or time.perf_counter() < stop:
                make()
                count += 1
            turns[name].append((time.process_time() - start) / count)
    return turns


def compare(patch: Shape, volume: Shape, seconds: float, only: list[str]) -> float | None:
    """Measure and print one comparison; return ours over the fastest other one."""
    task, contenders = Task(patch, volume), {}
    for name, maker in MAKERS.items():
        if only and name != "elektronn" and not any(name.startswith(prefix) for prefix in only):
            continue
        try:
            contenders[name] = maker(task)
        except ImportError as error:
            print(json.dumps({"name": name, "left_out": f"not installed ({error.name})"}), flush=True)
    rates = {}
    for name, turns in measure(contenders, seconds).items():
        rates[name] = 1 / statistics.median(turns)
        line = {
            "name": name,
            "value": round(rates[name], 2),
            "unit": "patches/s",
            "patch": "x".join(map(str, patch)),
            "volume": "x".join(map(str, volume)),
            "lowest": round(1 / max(turns), 2),
            "highest": round(1 / min(turns), 2),
            "turns": len(turns),
        }
        print(json.dumps(line), flush=True)
    others = {name: rate for name, rate in rates.items() if name != "elektronn"}
    return rates["elektronn"] / max(others.values()) if others else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="end within 50 s")
    parser.add_argument("--shape", action="append", help="patch shape Z,Y,X; may be given more than once")
    parser.add_argument("--only", default="", help="beginnings of the names of the contenders to compare with")
    options = parser.parse_args()
    shapes = [tuple(map(int, shape.split(","))) for shape in options.shape or ("23,185,185", "32,128,128")]
    # As in `bench`: no smaller when quick, as a volume that a cache holds would measure something else.
    volume = (256, 512, 512)
    seconds = (28 if options.quick else 120) / len(shapes)
    ratios = {}
    for shape in shapes:
        ratio = compare(shape, volume, seconds, [name for name in options.only.split(",") if name])
        if ratio is not None:
            ratios["x".join(map(str, shape))] = round(ratio, 2)
    lowest = min(ratios.values(), default=None)
    met = lowest is not None and lowest >= GOAL
    print(json.dumps({"key": "warp", "ratio": lowest, "goal": GOAL, "met": met, "ratios": ratios}), flush=True)


if __name__ == "__main__":
    main()

"""Elastically deformed patches per second: ours against what users deform with today, on one thread.

Each contender makes an example of 3D raw (linear) and labels (nearest, uint32) from a random place of a 256×512×512
uint8 volume in memory: control points some 30 voxels apart are displaced by some voxels in all three directions, and
raw and labels are sampled where that takes them. `elektronn, warped` turns, scales and shears them besides, in the same
pass; it has no goal. Contenders take turns; the figure is the median over turns of patches per second of CPU time.
`ratio` is ours over the fastest other one.

    python tests/benchmarks/elastic.py [--quick]
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy, torch and numba read it
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, median, options, spread, verdict  # noqa: E402

from elektronn_tui.data import AugmentSettings, Elastic, Geometry, Warp  # noqa: E402
from elektronn_tui.data.sampling import Scratch, sample_labels, sample_raw  # noqa: E402
from elektronn_tui.data.warp import place, source_box, translated  # noqa: E402

GOAL = 4.0
PATCH = (32, 128, 128)
VOLUME = (256, 512, 512)
OURS, WARPED = "elektronn", "elektronn, warped"
Contender = Callable[[], Any]
MAKERS: dict[str, Callable[[Task], Contender]] = {}


class Task:
    """The volume, and random crops of it."""

    def __init__(self) -> None:
        # Smooth tissue-like texture is not needed: no contender's time depends on the values.
        self.rng = np.random.default_rng(0)
        self.raw = self.rng.integers(0, 256, VOLUME, dtype=np.uint8)
        self.labels = self.rng.integers(0, 2**20, VOLUME, dtype=np.uint32)

    def crop(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a random crop of raw and labels of the patch's shape."""
        low = [int(self.rng.integers(0, has - need + 1)) for need, has in zip(PATCH, VOLUME, strict=True)]
        box = tuple(slice(a, a + n) for a, n in zip(low, PATCH, strict=True))
        return self.raw[box], self.labels[box]


def contender(name: str) -> Callable[[Callable[[Task], Contender]], Callable[[Task], Contender]]:
    def register(maker: Callable[[Task], Contender]) -> Callable[[Task], Contender]:
        MAKERS[name] = maker
        return maker

    return register


def _ours(task: Task, warp: Warp | None) -> Contender:
    scratch = Scratch()
    settings = AugmentSettings(elastic=1.0, elastic_args=Elastic(displacement=(8.0, 12.0), lock_z=False))
    geometry = Geometry(PATCH, PATCH, (0, 0, 0), (1, 1, 1))
    numbers = iter(range(2**31))

    def example() -> Any:
        matrix = np.eye(4) if warp is None else warp.draw(task.rng, PATCH)
        deformation = settings.deform((0, next(numbers)), PATCH)
        assert deformation is not None
        at = place(matrix, geometry, VOLUME, task.rng, None, deformation)
        matrix = translated(matrix, at)
        moved = deformation.of_raw()
        begin, end = source_box(matrix, PATCH, VOLUME, moved)
        box = tuple(map(slice, begin, end))
        matrix = translated(matrix, [-i for i in begin])
        raw, labels = np.empty((1, *PATCH), np.float32), np.empty((1, *PATCH), np.uint32)
        sample_raw(task.raw[box][None], matrix, raw, scratch=scratch, displacement=moved)
        sample_labels(task.labels[box][None], matrix, labels, scratch=scratch, displacement=moved)
        return raw, labels

    return example


@contender(OURS)
def make_ours(task: Task) -> Contender:
    return _ours(task, None)


@contender(WARPED)
def make_warped(task: Task) -> Contender:
    return _ours(task, Warp(rotation=180, tilt=2, lock_z=False, scale=0.1))


@contender("control grid + grid_sample")
def make_grid_sample(task: Task) -> Contender:
    import torch
    from torch.nn.functional import affine_grid, grid_sample, interpolate

    torch.set_num_threads(1)
    still = affine_grid(torch.eye(3, 4)[None], [1, 1, *PATCH], align_corners=True)
    voxel = torch.tensor([2 / (n - 1) for n in PATCH[::-1]])

    def example() -> Any:
        raw, labels = task.crop()
        control = torch.randn(1, 3, 4, 7, 7) * 3
        moved = interpolate(control, PATCH, mode="trilinear", align_corners=True).permute(0, 2, 3, 4, 1)
        grid = torch.addcmul(still, moved, voxel)
        image = torch.from_numpy(raw.astype(np.float32))[None, None]
        ids = torch.from_numpy(labels.astype(np.float32))[None, None]
        return grid_sample(image, grid, "bilinear", "border", True), grid_sample(ids, grid, "nearest", "border", True)

    return example


@contender("elektronn3 ElasticTransform")
def make_elektronn3(task: Task) -> Contender:
    from elektronn3.data.transforms import ElasticTransform

    transform = ElasticTransform(sigma=4, alpha=40, prob=1)

    def example() -> Any:
        raw, labels = task.crop()
        return transform(raw[None].astype(np.float32), labels)

    return example


@contender("MONAI Rand3DElasticd")
def make_monai(task: Task) -> Contender:
    import monai.transforms as monai
    import torch
    from monai.data import set_track_meta

    set_track_meta(False)
    torch.set_num_threads(1)
    transform = monai.Rand3DElasticd(
        ["raw", "labels"],
        sigma_range=(4, 4),
        magnitude_range=(40, 40),
        spatial_size=PATCH,
        prob=1,
        mode=("bilinear", "nearest"),
        padding_mode="border",
    )

    def example() -> Any:
        raw, labels = task.crop()
        return transform(
            {
                "raw": torch.from_numpy(raw[None].astype(np.float32)),
                "labels": torch.from_numpy(labels[None].astype(np.float32)),
            }
        )

    return example


@contender("torchio RandomElasticDeformation")
def make_torchio(task: Task) -> Contender:
    import torch
    import torchio

    torch.set_num_threads(1)
    transform = torchio.RandomElasticDeformation(num_control_points=7, max_displacement=(3, 4, 4))

    def example() -> Any:
        raw, labels = task.crop()
        return transform(
            torchio.Subject(
                raw=torchio.ScalarImage(tensor=torch.from_numpy(raw[None].astype(np.float32))),
                labels=torchio.LabelMap(tensor=torch.from_numpy(labels[None].astype(np.int32))),
            )
        )

    return example


@contender("batchgeneratorsv2 SpatialTransform")
def make_batchgenerators(task: Task) -> Contender:
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    torch.set_num_threads(1)
    transform = SpatialTransform(
        PATCH,
        0,
        False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.1, 0.1),
        elastic_deform_magnitude=(4, 4),
        p_rotation=0,
        p_scaling=0,
        mode_seg="nearest",
        padding_mode_image="border",
        border_mode_seg="border",
    )

    def example() -> Any:
        raw, labels = task.crop()
        return transform(
            image=torch.from_numpy(raw[None].astype(np.float32)),
            segmentation=torch.from_numpy(labels[None].astype(np.int32)),
        )

    return example


def benchmark() -> int:
    args = options(__doc__)
    task, contenders = Task(), {}
    for name, maker in MAKERS.items():
        try:
            contenders[name] = maker(task)
        except ImportError as error:
            print(json.dumps({"name": name, "left_out": f"not installed ({error.name})"}), flush=True)
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    for make in contenders.values():
        make(), make()
    end = time.perf_counter() + (25 if args.quick else 120)
    while time.perf_counter() < end or len(turns[OURS]) < 3:
        for name, make in contenders.items():
            start, stop, count = time.process_time(), time.perf_counter() + 0.2, 0
            while count == 0 or time.perf_counter() < stop:
                make()
                count += 1
            turns[name].append(count / (time.process_time() - start))
    rates = {name: median(values) for name, values in turns.items()}
    for name, rate in rates.items():
        emit(name, rate, "patches/s", **spread(turns[name]))
    ratio = rates[OURS] / max(rate for name, rate in rates.items() if name not in (OURS, WARPED))
    return verdict("elastic", GOAL, ratio=ratio, met=ratio >= GOAL)


if __name__ == "__main__":
    main(benchmark)

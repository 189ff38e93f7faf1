"""`elektronn segment` block by block against the same in one block: agreement, time and memory.

A boundary map of random cells, with noise, is segmented by a watershed and by connected components, each in blocks of a
quarter of the memory that the whole would take, and in one. `value` is the adapted Rand error of the watershed's blocks
against its whole; the goal is met when it is below 0.03 and components are the same voxel by voxel.

    python tests/benchmarks/segment.py [--quick] [--size N]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from benchmarking import emit, main, options, verdict
from sessions import ELEKTRONN

from elektronn_tui.data import open_source, score_segmentation
from elektronn_tui.data.output import write_blocks

GOAL = 0.03
METHODS = {"watershed": ["--threshold", "0.3", "--seed-distance", "30", "--min-size", "100"], "components": []}
BYTES = 110
"""That a voxel takes in a watershed, as `segment` counts."""


def make_walls(path: Path, size: int) -> None:
    """Write cells of random points: a voxel is boundary where the two nearest are about as far."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    tree = cKDTree(rng.uniform(0, size, ((size // 16) ** 3, 3)))

    def blocks():  # type: ignore[no-untyped-def]
        for z in range(0, size, 16):
            depth = min(16, size - z)
            grid = np.stack(np.meshgrid(range(z, z + depth), range(size), range(size), indexing="ij"), -1)
            near, second = np.moveaxis(tree.query(grid.reshape(-1, 3), 2, workers=-1)[0], 1, 0)
            walls = 1 / (1 + np.exp(np.clip(second - near - 2, -20, 20) * 3)) + rng.normal(0, 0.08, len(near))
            yield (z, 0, 0), (np.clip(walls, 0, 1) * 255).astype(np.uint8).reshape(1, depth, size, size)

    write_blocks(path, "walls", (1, size, size, size), np.uint8, blocks(), voxel_size=(10, 10, 10))


def segment(folder: Path, out: str, *arguments: str) -> tuple[float, float]:
    """Run the command; return its seconds, and the highest memory of any command so far in GiB."""
    begin = time.perf_counter()
    subprocess.run([ELEKTRONN, "segment", "walls.h5", out, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def ids(path: Path) -> np.ndarray:
    source = open_source(path)
    return source.read((0, 0, 0), source.shape)[0]


def benchmark() -> int:
    args = options(__doc__, size=0)
    size = args.size or (96 if args.quick else 288)
    found = {}
    with tempfile.TemporaryDirectory(prefix="elektronn-bench-") as name:
        folder = Path(name)
        make_walls(folder / "walls.h5", size)
        quarter = f"--memory={size**3 * BYTES / 4 / 2**30}"
        halo = "--halo=16,16,16"
        for kind, limit in (("blocks", quarter), ("whole", "--memory=1000")):  # blocks first: the peak is of all so far
            for method, settings in METHODS.items():
                margins = [halo] if method == "watershed" and kind == "blocks" else []
                command = ["--method", method, *settings, limit, *margins]
                seconds, peak = segment(folder, f"{method}-{kind}.h5", *command)
                with h5py.File(folder / f"{method}-{kind}.h5") as file:
                    count = int(file["segments"].attrs["segments"])
                rate = size**3 / 1e6 / seconds
                emit(f"{method}, {kind}", rate, "MVoxel/s", segments=count, peak_gib=round(peak, 3))
                found[method, kind] = ids(folder / f"{method}-{kind}.h5")
    scores = score_segmentation(found["watershed", "blocks"], found["watershed", "whole"])
    same = bool(np.array_equal(found["components", "blocks"], found["components", "whole"]))
    emit("watershed, blocks against whole", scores.voi, "bits", split=scores.voi_split, merge=scores.voi_merge)
    met = scores.adapted_rand_error < GOAL and same
    return verdict("segment", GOAL, value=scores.adapted_rand_error, met=met, components_same=same, size=size)


if __name__ == "__main__":
    main(benchmark)

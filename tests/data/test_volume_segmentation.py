"""Segmentation block by block, against that of the whole."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import (
    ArraySource,
    affinities,
    boundaries,
    boundary_watershed,
    mutex_watershed,
    open_source,
    prediction_channels,
    relabel,
    score_segmentation,
    segment_volume,
    smear_boundaries,
    threshold_segments,
)
from elektronn_tui.data.output import write_blocks
from elektronn_tui.data.spool import BlockProgress
from elektronn_tui.data.stitching import number_wholes, sure_overlaps
from elektronn_tui.errors import DataError

FAR = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-3, 0, 0), (0, -5, 0), (0, 0, -5))


def segments(path: Path, key: str = "segments") -> np.ndarray:
    with h5py.File(path) as file:
        assert file[key].attrs["complete"]
        return file[key][0]


def cells(shape: tuple[int, int, int] = (24, 60, 64), count: int = 40, seed: int = 0) -> np.ndarray:
    """Return ids of cells: each voxel belongs to the nearest of some points."""
    from scipy.spatial import cKDTree

    points = np.random.default_rng(seed).uniform(0, 1, (count, 3)) * shape
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return (cKDTree(points).query(grid)[1] + 1).astype(np.int64)


def walls(ids: np.ndarray) -> np.ndarray:
    return smear_boundaries(boundaries(ids), (3, 5, 5)).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 14), st.integers(1, 14)),
    block=st.tuples(*[st.integers(1, 7)] * 3),
    density=st.floats(0.2, 0.8),
    min_size=st.integers(1, 9),
    edges=st.sampled_from([None, "near", "far"]),
)
def test_components_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    shape: tuple[int, int, int],
    block: tuple[int, int, int],
    density: float,
    min_size: int,
    edges: str | None,
) -> None:
    rng = np.random.default_rng(seed)
    out = tmp_path_factory.mktemp("segments") / "out.h5"
    if edges is None:
        prediction = (rng.random(shape) < density).astype(np.float32)
        whole = threshold_segments(prediction, 0.5, min_size=min_size)
        offsets: Any = None
    else:
        offsets = (
            ((-1, 0, 0), (0, -1, 0), (0, 0, 1)) if edges == "near" else ((0, 1, 0), (0, 0, -1), (-1, 0, 0), (2, 0, 0))
        )
        prediction = (rng.random((len(offsets), *shape)) < density).astype(np.float32)
        near = [k for k, o in enumerate(offsets) if sum(map(abs, o)) == 1]
        whole = threshold_segments(prediction[near], 0.5, nhood=[offsets[k] for k in near], min_size=min_size)
    options = {"method": "components", "block": block, "min_size": min_size, "offsets": offsets}
    got = segments(segment_volume(prediction, out, **options))
    assert got.dtype == np.uint32
    np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("method", ["watershed", "mutex"])
def test_one_block_is_the_whole(tmp_path: Path, method: Any) -> None:
    ids = cells()
    if method == "watershed":
        prediction, settings_ = walls(ids), {"threshold": 0.4, "seed_distance": 2.0, "min_size": 20}
        whole = boundary_watershed(prediction, **settings_)  # type: ignore[arg-type]
        options: dict[str, Any] = dict(settings_)
    else:
        prediction = np.maximum(affinities(ids, FAR), 0).astype(np.float32)
        whole, options = mutex_watershed(prediction, FAR), {"offsets": FAR}
    got = segments(segment_volume(prediction, tmp_path / "out.h5", method=method, **options))
    np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("method", ["watershed", "mutex"])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_nearly_the_whole(tmp_path: Path, method: Any, seed: int) -> None:
    ids = cells(seed=seed)
    rng = np.random.default_rng(seed)
    if method == "watershed":
        prediction = np.clip(walls(ids) + rng.normal(0, 0.1, ids.shape), 0, 1).astype(np.float32)
        options: dict[str, Any] = {"threshold": 0.5, "seed_distance": 2.0, "min_size": 30}
        halo = (8, 16, 16)
    else:
        prediction = np.maximum(affinities(ids, FAR), 0)
        prediction = np.clip(np.abs(prediction - rng.uniform(0, 0.45, prediction.shape)), 0, 1).astype(np.float32)
        options, halo = {"offsets": FAR, "strides": (1, 2, 2)}, (8, 16, 16)
    whole = segments(segment_volume(prediction, tmp_path / "whole.h5", method=method, **options))
    steps: list[BlockProgress] = []
    blocked = {"block": (12, 20, 32), "halo": halo, "progress": steps.append}
    got = segments(segment_volume(prediction, tmp_path / "blocks.h5", method=method, **options, **blocked))
    assert steps[-1].blocks == 12
    shares = [step.share for step in steps]
    assert (shares[0], shares[-1], shares) == (0, 1, sorted(shares))
    assert steps[-1].voxels == ids.size
    scores = score_segmentation(got, whole)
    assert scores.adapted_rand_error < 0.03
    assert scores.voi_merge < 0.08  # what is apart in the whole hardly ever is one segment
    np.testing.assert_array_equal(got, relabel(got))  # in the order of first voxels, without gaps


def test_memory_decides_over_blocks_and_not_over_components(tmp_path: Path) -> None:
    prediction = walls(cells())
    whole = segments(segment_volume(prediction, tmp_path / "whole.h5", method="components", threshold=0.3))
    steps: list[BlockProgress] = []
    options: dict[str, Any] = {"method": "components", "threshold": 0.3, "memory": 500_000}
    got = segments(segment_volume(prediction, tmp_path / "out.h5", progress=steps.append, **options))
    assert steps[-1].blocks > 5
    np.testing.assert_array_equal(got, whole)


def test_segments_lie_on_their_prediction(tmp_path: Path) -> None:
    prediction = ArraySource(np.zeros((1, 4, 5, 6), np.uint8), voxel_size=(40, 4, 4), offset=(80, 8, 0), name="flat")
    out = segment_volume(prediction, f"{tmp_path}/out.h5:ids", method="components", min_size=3)
    source = open_source(f"{out}:ids")
    assert (source.voxel_size, source.offset) == ((40, 4, 4), (80, 8, 0))
    assert (source.read((0, 0, 0), source.shape) == 1).all()
    with h5py.File(out) as file:
        attributes = dict(file["ids"].attrs)
    assert (attributes["method"], attributes["min_size"], attributes["segments"]) == ("components", 3, 1)


def test_nothing_is_no_segment(tmp_path: Path) -> None:
    for method in ("components", "watershed"):
        path = segment_volume(np.ones((4, 6, 6), np.float32), tmp_path / f"{method}.h5", method=method)
        assert not segments(path).any()


def test_seed_distances_are_in_nm(tmp_path: Path) -> None:
    ids = np.repeat(np.arange(1, 4), 10)[None, None] * np.ones((8, 12, 1), np.int64)
    values = walls(ids)
    coarse = ArraySource(values, voxel_size=(100.0, 100.0, 100.0))
    assert segments(segment_volume(coarse, tmp_path / "a.h5", seed_distance=150.0)).max() == 3
    assert segments(segment_volume(coarse, tmp_path / "b.h5", seed_distance=5000.0)).max() == 0


KILLED = """
import sys
from pathlib import Path
from elektronn_tui.data import segment_volume

told = []

def tell(now):
    if told[-1:] != [now.done]:
        told.append(now.done)
        print(now.done, flush=True)
        sys.stdin.readline()  # which the test writes, or kills

folder = Path(sys.argv[1])
segment_volume(folder / "walls.npy", folder / "out.h5", block=(12, 20, 32), halo=(6, 8, 8), min_size=9,
               resume=True, progress=tell)
"""


def test_a_segmentation_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "walls.npy", walls(cells()))
    begun = []
    for blocks in (1, 2, 3, 20):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for told, line in enumerate(process.stdout):
                if not told:
                    begun.append(int(line))
                if told == blocks:
                    process.send_signal(signal.SIGKILL)
                    break
                process.stdin.write("\n")
                process.stdin.flush()
    assert begun == [0, 1, 3, 6]
    whole = segment_volume(
        tmp_path / "walls.npy", tmp_path / "whole.h5", block=(12, 20, 32), halo=(6, 8, 8), min_size=9
    )
    assert segments(tmp_path / "out.h5").tobytes() == segments(whole).tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.h5", "walls.npy", "whole.h5"]


def test_a_full_disk_leaves_what_is_done(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    options: dict[str, Any] = {"block": (12, 20, 32), "halo": (6, 8, 8)}

    def fill(now: BlockProgress) -> None:
        if now.done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    prediction = walls(cells())
    try:
        with pytest.raises(DataError, match=r"out\.h5\.part/\d+\.npy can't be written: .*; what is done is kept"):
            segment_volume(prediction, tmp_path / "out.h5", progress=fill, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    begun: list[int] = []
    # Blocks and halo are those that it began with, whatever the memory.
    goes_on: dict[str, Any] = {"resume": True, "memory": 10**12}
    segment_volume(prediction, tmp_path / "out.h5", progress=lambda now: begun.append(now.done), **goes_on)
    assert begun[0] == 3


def test_what_was_begun_for_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    def stop(now: BlockProgress) -> None:
        raise KeyboardInterrupt

    prediction = walls(cells())
    with pytest.raises(KeyboardInterrupt):
        segment_volume(prediction, tmp_path / "out.h5", threshold=0.4, progress=stop)
    with pytest.raises(DataError, match=r"begun for something else: threshold was 0\.4, is 0\.5"):
        segment_volume(prediction, tmp_path / "out.h5", threshold=0.5, resume=True)


def test_what_is_not_a_number_is_a_boundary_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prediction = np.zeros((1, 1, 7), np.float32)
    prediction[0, 0, 3] = np.nan
    got = segments(segment_volume(prediction, tmp_path / "out.h5", method="components"))
    assert got.tolist() == [[[1, 1, 1, 0, 2, 2, 2]]]
    assert "1 values that are NaN; they count as boundaries" in caplog.text


class TestChannels:
    def test_names_in_the_file_say_what_they_are(self, tmp_path: Path) -> None:
        for name in ("named.h5", "named.zarr"):
            path = tmp_path / name
            names = ["apart -1,0,0", "affinity -1,0,0", "apart 0,0,-9", "affinity 0,0,-9"]
            blocks = [((0, 0, 0), np.zeros((4, 2, 3, 4), np.uint8))]
            key = "" if name.endswith("zarr") else "prediction"
            write_blocks(path, key, (4, 2, 3, 4), np.uint8, blocks, attributes={"channels": names})
            found = prediction_channels(open_source(path))
            assert (found.channels, found.offsets) == ((1, 3), ((-1, 0, 0), (0, 0, -9)))
        path = tmp_path / "walls.h5"
        blocks = [((0, 0, 0), np.zeros((3, 2, 3, 4), np.uint8))]
        write_blocks(path, "p", (3, 2, 3, 4), np.uint8, blocks, attributes={"channels": ["in", "Membrane", "out"]})
        assert prediction_channels(open_source(path)).channels == (1,)

    @pytest.mark.parametrize(("count", "channels"), [(1, (0,)), (2, (1,)), (3, (0, 1, 2))])
    def test_without_names_the_number_says_it(self, count: int, channels: tuple[int, ...]) -> None:
        found = prediction_channels(ArraySource(np.zeros((count, 2, 3, 4), np.uint8)))
        assert (found.channels, found.offsets is None) == (channels, count < 3)

    def test_bytes_are_255ths(self) -> None:
        source = ArraySource(np.full((1, 1, 1, 2), 51, np.uint8))
        np.testing.assert_allclose(prediction_channels(source).read(source, (0, 0, 0), (1, 1, 2)), 0.2)


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (2, {"method": "watersheds"}, "method='watersheds'; use one of watershed, mutex, components. Did you mean"),
        (2, {"method": "mutex"}, "the mutex watershed needs affinities"),
        (3, {"method": "mutex"}, "near ones that join, far ones that keep apart"),
        (2, {"channel": 2}, "has 2 channels, 0 to 1; channel 2 is none of them"),
        (2, {"channel": 1, "offsets": [(0, 0, 1)]}, "by one channel of boundaries"),
        (2, {"offsets": [(0, 0, 1)]}, "has 2 channels, but 1 offsets are given"),
        (1, {"offsets": [(0, 0, 9)]}, r"none of the offsets \(\(0, 0, 9\),\) is that of a neighbour"),
        (5, {}, "has 5 channels and no names for them"),
        (1, {"threshold": 1.5}, "threshold=1.5; a number from 0 to 1 is needed"),
        (1, {"min_size": 0}, "min_size=0; a number of voxels from 1 on"),
        (1, {"block": (0, 4, 4)}, r"block=\(0, 4, 4\); numbers from 1 on"),
        (1, {"halo": (0, 1, 1)}, r"halo=\(0, 1, 1\); at least \(1, 1, 1\)"),
        (
            1,
            {"method": "components", "seed_distance": 3},
            "seed_distance is no setting of components; it has threshold",
        ),
        (1, {"seed_distance": -3}, "seed_distance=-3"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, channels: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        segment_volume(np.full((channels, 4, 5, 6), 0.5, np.float32), tmp_path / "out.h5", **options)
    assert not (tmp_path / "out.h5").exists()


class TestStitching:
    def test_the_same_segment_is_found_by_what_is_shared_most(self) -> None:
        a = np.array([[1, 1, 1, 1, 2, 2, 2, 2]])
        b = np.array([[5, 5, 5, 6, 6, 6, 6, 6]])
        assert sorted(map(tuple, sure_overlaps(a, b).tolist())) == [(1, 5), (2, 6)]

    def test_a_segment_that_one_block_cuts_merges_nothing(self) -> None:
        a = np.array([[1, 1, 1, 1, 1, 1]])
        b = np.array([[5, 5, 5, 5, 6, 6]])
        assert sure_overlaps(a, b).tolist() == [[1, 5]]

    def test_background_is_no_segment(self) -> None:
        assert sure_overlaps(np.zeros((2, 3), int), np.ones((2, 3), int)).tolist() == []

    def test_wholes_are_numbered_by_first_voxels_and_small_ones_left_out(self) -> None:
        sizes, first = np.array([0, 4, 5, 1, 0]), np.array([0, 50, 9, 3, 2**60])
        found = number_wholes([np.array([[1, 4]])], sizes, first, min_size=2)
        assert (found.count, found.ids.tolist()) == (2, [0, 2, 1, 0, 2])


def test_more_segments_than_sixteen_bits_hold(tmp_path: Path) -> None:
    prediction = np.ones((1, 520, 520), np.float32)
    prediction[:, ::2, ::2] = 0
    got = segments(segment_volume(prediction, tmp_path / "out.h5", method="components", block=(1, 100, 100)))
    assert got.max() == 260 * 260 > 2**16
    np.testing.assert_array_equal(got, relabel(got))


def test_zarr_holds_ids_too(tmp_path: Path) -> None:
    prediction = walls(cells())
    ids = segments(segment_volume(prediction, tmp_path / "out.h5", method="components"))
    path = segment_volume(prediction, tmp_path / "out.zarr", method="components")
    source = open_source(path)
    np.testing.assert_array_equal(source.read((0, 0, 0), source.shape)[0], ids)
    assert json.loads((path / ".zattrs").read_text())["method"] == "components"

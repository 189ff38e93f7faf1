from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from elektronn_tui.data import ArraySource, CroppedSource, Geometry, HDF5Source, Pair, split_region
from elektronn_tui.errors import DataError

RAW = np.zeros((20, 40, 50), np.uint8)


def labels(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int16)


def test_labels_are_centred() -> None:
    pair = Pair(RAW, labels(10, 20, 30))
    assert pair.target_offset == (5, 10, 10)
    assert pair.region == ((5, 10, 10), (15, 30, 40))
    assert pair.context == ((0, 0, 0), (20, 40, 50))
    assert pair.weight == 10 * 20 * 30


def test_an_explicit_offset_may_reach_out_and_is_cut() -> None:
    pair = Pair(RAW, labels(10, 20, 30), target_offset=(-4, 0, 40))
    assert pair.region == ((0, 0, 40), (6, 20, 50))
    with pytest.raises(DataError, match="its region holds no voxel"):
        Pair(RAW, labels(10, 20, 30), target_offset=(20, 0, 0))


def test_offsets_of_cremi_are_used(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cremi.h5", "w") as file:
        for key, data, offset in (
            ("raw", RAW, None),
            ("ids", labels(10, 10, 10), (40 * 3, 4 * 5, 4 * 6)),
            ("off", labels(10, 10, 10), (50, 0, 0)),
        ):
            file[key] = data
            file[key].attrs["resolution"] = (40.0, 4.0, 4.0)
            if offset:
                file[key].attrs["offset"] = offset
    raw, ids, off = (HDF5Source(tmp_path / "cremi.h5", k) for k in ("raw", "ids", "off"))
    assert Pair(raw, ids).target_offset == (3, 5, 6)
    assert Pair(
        CroppedSource(ArraySource(RAW, voxel_size=(40, 4, 4), offset=(0, 0, 0)), (2, 2, 2), (20, 40, 50)), ids
    ).target_offset == (1, 3, 4)
    assert Pair(raw, ids, target_offset=(1, 1, 1)).target_offset == (1, 1, 1)
    with pytest.raises(DataError, match="no whole number"):
        Pair(raw, off)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"target": labels(9, 20, 30)},
            r"shape \(9, 20, 30\), can't be centred in .*shape \(20, 40, 50\).*Give target_offset",
        ),
        ({"target": labels(22, 20, 30)}, r"reaches out of .*swapped"),
        ({"target": labels(20, 40, 50), "region": ((0, 0, 0), (0, 5, 5))}, "its region holds no voxel"),
        (
            {"target": labels(10, 20, 30), "region": ((0, 0, 0), (4, 5, 5))},
            r"its target spans \(5, 10, 10\) to \(15, 30, 40\)",
        ),
        ({"context": ((30, 0, 0), (40, 5, 5))}, "its context holds no voxel"),
        ({"region": (0, 5)}, r"a box is \(\(z, y, x\), \(z, y, x\)\)"),
        ({"weight": -1}, "weight=-1"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"mask": labels(3, 3, 3)}, r"mask array has shape \(3, 3, 3\); it must have \(20, 40, 50\) like raw"),
        ({"mask": np.ones((2, 20, 40, 50))}, "2 channels"),
        ({"mask": np.zeros((20, 40, 50))}, "zero everywhere"),
        ({"target": np.full((20, 40, 50), 2**63, np.uint64)}, "labels must fit int64"),
        (
            {"target": ArraySource(RAW, voxel_size=(1, 1, 1)), "raw": ArraySource(RAW, voxel_size=(2, 1, 1))},
            "one resolution",
        ),
    ],
)
def test_what_does_not_fit_says_why(arguments: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Pair(**({"raw": RAW} | arguments))


def test_nan_and_infinity_are_found() -> None:
    raw = np.zeros((4, 5, 6), np.float32)
    target = raw.copy()
    target[0, 0, 0] = np.nan
    Pair(raw, target)
    target[3, 4, 5] = np.inf
    with pytest.raises(DataError, match=r"voxel \(3, 4, 5\) \(z, y, x\) is infinite"):
        Pair(raw, target)
    raw[2, 1, 0] = np.nan
    with pytest.raises(DataError, match=r"voxel \(2, 1, 0\) \(z, y, x\) is NaN"):
        Pair(raw)


def test_volumes_are_read_once_and_shared_by_parts(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw"] = RAW
        file["lab"] = labels(20, 40, 50)
    pair = Pair(f"{tmp_path}/v.h5:raw", f"{tmp_path}/v.h5:lab")
    train, valid = split_region(pair, last=5)
    assert train.raw is valid.raw is pair.raw
    assert pair.name.endswith("v.h5:raw")
    direct = Pair(f"{tmp_path}/v.h5:raw", in_memory=False)
    assert isinstance(direct.raw, HDF5Source)


@given(data=st.data())
def test_training_reads_nothing_of_what_is_held_out(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(6, 24)] * 3))
    margin = data.draw(st.tuples(*[st.integers(0, 2)] * 3))
    axis = data.draw(st.integers(0, 2))
    target = labels(*(n - 2 * m for n, m in zip(shape, margin, strict=True)))
    held = data.draw(st.integers(1, target.shape[axis] - 1))
    side = data.draw(st.sampled_from(["first", "last"]))
    pair = Pair(np.zeros(shape, np.uint8), target, weight=1000)
    train, valid = split_region(pair, "zyx"[axis], **{side: held})
    assert train.weight + valid.weight == pytest.approx(1000)

    span = [data.draw(st.integers(1, n)) for n in target.shape]
    offsets = [data.draw(st.integers(0, 3)) for _ in range(3)]
    geometry = Geometry(tuple(s + 2 * o for s, o in zip(span, offsets, strict=True)), tuple(span), tuple(offsets))
    seen = {}
    for name, part in (("train", train), ("valid", valid)):
        try:
            lo, hi = part.placements(geometry)
        except DataError:
            assume(False)
        raw, targets = np.zeros(shape, bool), np.zeros(shape, bool)
        for position in (lo, hi):
            raw[tuple(slice(p, p + n) for p, n in zip(position, geometry.patch_shape, strict=True))] = True
            targets[geometry.target_slices(position)] = True
        whole = tuple(slice(l, h + n) for l, h, n in zip(lo, hi, geometry.patch_shape, strict=True))
        assert raw[whole].any()
        seen[name] = (raw, targets)
    assert not (seen["train"][0] & seen["valid"][1]).any()
    held_out = np.arange(shape[axis])
    lo_i, hi_i = margin[axis], shape[axis] - margin[axis]
    held_out = (
        held_out[(held_out >= hi_i - held) & (held_out < hi_i)]
        if side == "last"
        else held_out[(held_out >= lo_i) & (held_out < lo_i + held)]
    )
    assert not np.moveaxis(seen["train"][0], axis, 0)[held_out].any()
    outside = np.setdiff1d(np.arange(shape[axis]), held_out)
    assert not np.moveaxis(seen["valid"][1], axis, 0)[outside].any()


def test_split_errors() -> None:
    pair = Pair(RAW, labels(10, 20, 30))
    for arguments in ({"last": 10}, {"last": 0}, {"first": 11}, {"first": -1}):
        with pytest.raises(DataError, match="1 to 9 are possible"):
            split_region(pair, **arguments)
    for arguments in ({}, {"first": 1, "last": 1}):
        with pytest.raises(DataError, match="either last= or first="):
            split_region(pair, **arguments)
    for axis in ("w", "zy", ""):
        with pytest.raises(DataError, match="use 'z', 'y' or 'x'"):
            split_region(pair, axis, last=3)


def test_placements_keep_raw_and_target_inside() -> None:
    pair = Pair(RAW, labels(10, 20, 30))
    assert pair.placements(Geometry((9, 9, 9), (5, 5, 5), (2, 2, 2))) == ((3, 8, 8), (8, 23, 33))
    assert pair.placements(Geometry((20, 20, 20), (2, 2, 2), (9, 9, 9))) == ((0, 1, 1), (0, 19, 29))
    unlabelled = Pair(RAW)
    assert unlabelled.placements(Geometry((20, 40, 49), (20, 40, 49))) == ((0, 0, 0), (0, 0, 1))


def test_a_patch_that_does_not_fit_names_file_shape_and_what_would() -> None:
    pair = Pair(ArraySource(RAW, name="raw.h5:raw"), ArraySource(labels(10, 20, 30), name="lab.h5:lab"), name="cube 3")
    with pytest.raises(
        DataError,
        match=r"cube 3: axis z: .*lab\.h5:lab, shape \(10, 20, 30\).*needs 11 target voxels along z, there are 10",
    ):
        pair.placements(Geometry((11, 11, 11), (11, 11, 11)))
    with pytest.raises(
        DataError, match=r"raw\.h5:raw, shape \(20, 40, 50\).*needs 41 raw voxels along y, there are 40"
    ):
        pair.placements(Geometry((9, 41, 9), (1, 1, 1), (4, 20, 4)))
    _train, valid = split_region(pair, last=3)
    with pytest.raises(
        DataError,
        match=r"targets from 12 to 15 of 20 raw voxels in use\). It needs 5 target voxels along z, there are 3",
    ):
        valid.placements(Geometry((9, 9, 9), (5, 5, 5), (2, 2, 2)))

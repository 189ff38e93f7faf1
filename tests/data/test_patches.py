from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from elektronn_tui.data import (
    ArraySource,
    AugmentSettings,
    BoundarySource,
    Example,
    Geometry,
    Pair,
    Patches,
    Prefetcher,
    Scaling,
    Warp,
    split_region,
)
from elektronn_tui.errors import DataError

PLAIN = AugmentSettings()
WARPED = AugmentSettings(warp=1.0, warp_args=Warp(rotation=180, lock_z=False, perspective=0.2))
AS_IS = Scaling()


def coded(*shape: int) -> np.ndarray:
    """Each voxel says where it is: 10000 z + 100 y + x, exact in float32."""
    z, y, x = np.indices(shape)
    return (10000 * z + 100 * y + x).astype(np.float32)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def patches(raw: np.ndarray, target: np.ndarray | None, geometry: Geometry, **options: object) -> Patches:
    pair = {k: options.pop(k) for k in ("target_offset", "mask", "region", "context") if k in options}
    return Patches([Pair(raw, target, **pair)], geometry, **({"seed": 0, "scaling": AS_IS} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("label_shape", "offset"), [((20, 30, 34), None), ((17, 30, 33), (7, 1, 9))])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 4, 4)])
def test_an_unwarped_example_is_the_crop(label_shape: tuple, offset: tuple | None, stride: tuple) -> None:
    raw = coded(30, 40, 44)
    at = offset or (5, 5, 5)
    labels = raw[tuple(slice(o, o + n) for o, n in zip(at, label_shape, strict=True))].astype(np.int64)
    out = (5, 3, 3) if stride == (1, 1, 1) else (3, 3, 4)
    offsets = (2, 4, 3)
    geometry = Geometry(
        tuple(2 * o + s * (t - 1) + 1 for o, s, t in zip(offsets, stride, out, strict=True)), out, offsets, stride
    )
    source = patches(raw, labels, geometry, target_offset=offset)
    seen = set()
    for i in range(300):
        example = source.example(i, PLAIN)
        z, y, x = example.position
        np.testing.assert_array_equal(
            example.raw[0],
            raw[z : z + geometry.patch_shape[0], y : y + geometry.patch_shape[1], x : x + geometry.patch_shape[2]],
        )
        centres = example.raw[0][
            tuple(slice(o, o + n, s) for o, n, s in zip(offsets, geometry.span, stride, strict=True))
        ]
        np.testing.assert_array_equal(example.target[0], centres.astype(np.int64))
        assert example.target.shape == (1, *out)
        assert example.target.dtype == np.int64
        seen.add(example.position)
    lo, hi = source.pairs[0].placements(geometry)
    for axis in range(3):
        assert {p[axis] for p in seen} == set(range(lo[axis], hi[axis] + 1))


def test_the_reference_network() -> None:
    geometry = Geometry((23, 185, 185), (5, 21, 21), (7, 52, 52), (2, 4, 4))
    dense = Geometry((23, 185, 185), (9, 81, 81), (7, 52, 52))
    raw, labels = noise(30, 200, 210), noise(16, 100, 104, seed=1)
    strided, full = (patches(raw, labels, g).example(3, PLAIN) for g in (geometry, dense))
    assert strided.target.shape == (1, 5, 21, 21)
    assert strided.position == full.position
    np.testing.assert_array_equal(strided.target, full.target[:, ::2, ::4, ::4])


@settings(max_examples=40, deadline=None)
@given(i=st.integers(0, 10**9), offset=st.tuples(*[st.integers(0, 6)] * 3), stride=st.tuples(*[st.integers(1, 2)] * 3))
def test_a_warped_example_is_what_its_matrix_says(i: int, offset: tuple, stride: tuple) -> None:
    raw = coded(40, 44, 48)
    labels = raw[offset[0] :, offset[1] :, offset[2] :].astype(np.int64)[:34, :38, :42]
    geometry = Geometry(tuple(2 * 2 + s * 4 + 1 for s in stride), (5, 5, 5), (2, 2, 2), stride)
    example = patches(raw, labels, geometry, target_offset=offset).example(i, WARPED)
    grid = np.concatenate(
        [np.indices(geometry.patch_shape).reshape(3, -1), np.ones((1, np.prod(geometry.patch_shape)))]
    )
    source = example.matrix @ grid
    source = source[:3] / source[3]
    expected = map_coordinates(raw.astype(np.float64), source, order=1).reshape(geometry.patch_shape)
    np.testing.assert_allclose(example.raw[0], expected, atol=2.0)
    inner = tuple(slice(o, o + n, s) for o, n, s in zip(geometry.offsets, geometry.span, stride, strict=True))
    wanted = source.reshape(3, *geometry.patch_shape)[(slice(None), *inner)]
    got = np.stack([example.target[0] // 10000, example.target[0] // 100 % 100, example.target[0] % 100])
    assert np.abs(got - wanted).max() < 0.501


def test_raw_as_its_own_target_does_not_drift() -> None:
    z, y, x = np.indices((36, 40, 44))
    smooth = (np.sin(z / 5) + np.cos(y / 7) + np.sin(x / 6)).astype(np.float32)
    geometry = Geometry((11, 13, 13), (7, 7, 7), (2, 3, 3))
    source = patches(smooth, smooth[3:-3, 3:-3, 3:-3].copy(), geometry)
    for i in range(200):
        example = source.example(i, WARPED)
        np.testing.assert_allclose(example.target[0], example.raw[0, 2:-2, 3:-3, 3:-3], atol=1e-4)
        assert example.mask is not None
        assert example.mask.all()


def sequence(source: Patches, threads: int, how: AugmentSettings) -> list[bytes]:
    with Prefetcher(lambda step: source.batch([2 * step, 2 * step + 1], how), threads=threads) as prefetcher:
        batches = [prefetcher.get(step) for step in range(12)]
    return [b["raw"].tobytes() + b["target"].tobytes() for b in batches]


VARIED = AugmentSettings(warp=0.7, grey=0.7)


def test_the_same_seed_gives_the_same_examples_whatever_the_threads() -> None:
    geometry = Geometry((5, 13, 13), (3, 9, 9), (1, 2, 2))
    pairs = [Pair(noise(12, 30, 30, seed=s), noise(10, 30, 30, seed=s), name=str(s)) for s in (1, 2)]
    make = [Patches(pairs, geometry, seed=7) for _ in range(4)]
    expected = sequence(make[0], 0, VARIED)
    assert len(set(expected)) == len(expected)
    assert sequence(make[1], 1, VARIED) == expected
    assert sequence(make[2], 4, VARIED) == expected
    assert sequence(make[0], 4, VARIED) == expected
    assert not set(sequence(Patches(pairs, geometry, seed=8), 0, VARIED)) & set(expected)


def test_a_batch_is_its_examples() -> None:
    source = patches(noise(2, 12, 30, 30), noise(10, 30, 30), Geometry((5, 13, 13), (3, 9, 9), (1, 2, 2)))
    batch = source.batch([5, 9, 2], VARIED)
    assert batch["raw"].shape == (3, 2, 5, 13, 13)
    assert batch["target"].shape == (3, 1, 3, 9, 9)
    assert set(batch) == {"raw", "target"}
    for k, i in enumerate([5, 9, 2]):
        np.testing.assert_array_equal(batch["raw"][k], source.example(i, VARIED).raw)
        np.testing.assert_array_equal(batch["target"][k], source.example(i, VARIED).target)


def test_each_setting_changes_nothing_but_its_own() -> None:
    geometry = Geometry((5, 13, 13), (3, 9, 9), (1, 2, 2))
    pairs = [Pair(noise(20, 40, 40, seed=s), noise(20, 40, 40, seed=s), name=str(s)) for s in (1, 2)]
    source = Patches(pairs, geometry, seed=1)

    def all_of(how: AugmentSettings) -> list[Example]:
        return [source.example(i, how) for i in range(40)]

    base, grey, warp = (
        all_of(AugmentSettings(warp=0.5)),
        all_of(AugmentSettings(warp=0.5, grey=1)),
        all_of(AugmentSettings(warp=0.9)),
    )
    other = all_of(AugmentSettings(warp=0.5, warp_args=Warp(rotation=5)))
    for a, b in zip(base, grey, strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        np.testing.assert_array_equal(a.target, b.target)
        assert not np.array_equal(a.raw, b.raw)
    for a, b, c in zip(base, warp, other, strict=True):
        assert a.pair == b.pair == c.pair
        is_warped = not np.array_equal(a.matrix[:3, :3], np.eye(3))
        if is_warped:
            np.testing.assert_array_equal(a.matrix, b.matrix)
        else:
            np.testing.assert_array_equal(a.matrix, c.matrix)
    assert 8 < sum(not np.array_equal(a.matrix[:3, :3], np.eye(3)) for a in base) < 32


def test_pairs_are_drawn_by_weight() -> None:
    geometry = Geometry((1, 1, 1), (1, 1, 1))
    pairs = [Pair(np.full((4, 4, 4), k, np.uint8), noise(4, 4, n)) for k, n in enumerate((4, 2, 2))]
    by_size = Patches(pairs, geometry, seed=0)
    counts = np.bincount([by_size.example(i, PLAIN).pair for i in range(1500)], minlength=3)
    np.testing.assert_allclose(counts / 1500, [0.5, 0.25, 0.25], atol=0.05)
    chosen = [Pair(p.raw, p.target, weight=w) for p, w in zip(pairs, (0, 1, 3), strict=True)]
    by_weight = Patches(chosen, geometry, seed=0)
    counts = np.bincount([by_weight.example(i, PLAIN).pair for i in range(1500)], minlength=3)
    np.testing.assert_allclose(counts / 1500, [0, 0.25, 0.75], atol=0.05)
    assert all(by_weight.example(i, PLAIN).raw[0, 0, 0, 0] != 0 for i in range(100))
    with pytest.raises(DataError, match="weight 0"):
        Patches(chosen[:1], geometry, seed=0)


def test_images_from_the_sections_of_a_volume() -> None:
    raw = coded(9, 40, 40)
    geometry = Geometry((1, 13, 13), (1, 7, 7), (0, 3, 3))
    source = patches(raw, raw.astype(np.int64), geometry)
    flat = Warp(rotation=180, flips=(False, True, True))
    sections = set()
    for i in range(100):
        example = source.example(i, AugmentSettings(warp=1, warp_args=flat))
        section = example.target[0] // 10000
        assert section.min() == section.max()
        sections.add(int(section.min()))
    assert sections == set(range(9))


class WatchedSource(ArraySource):
    """Remembers which boxes were read."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array)
        self.seen = np.zeros(self.shape, bool)

    def read(self, lo, hi):  # type: ignore[no-untyped-def]
        self.seen[tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))] = True
        return super().read(lo, hi)


@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("side", ["first", "last"])
def test_warped_training_examples_read_nothing_of_what_is_held_out(axis: str, side: str) -> None:
    raw, target = WatchedSource(noise(30, 30, 30)), WatchedSource(noise(30, 30, 30))
    train, _valid = split_region(Pair(raw, target), axis, **{side: 9})
    raw.seen[:] = target.seen[:] = False
    source = Patches([train], Geometry((9, 9, 9), (5, 5, 5), (2, 2, 2)), seed=0)
    for i in range(400):
        source.example(i, WARPED)
    for volume in (raw, target):
        lines = np.moveaxis(volume.seen, "zyx".index(axis), 0)
        held_out, free = (lines[:9], lines[9:]) if side == "first" else (lines[-9:], lines[:-9])
        assert not held_out.any()
        assert free.mean() > 0.4


@pytest.mark.parametrize("shape", [(9, 9, 9), (9, 9, 12), (10, 40, 40)])
def test_volumes_hardly_larger_than_the_patch_give_examples_all_the_same(shape: tuple) -> None:
    source = patches(noise(*shape), noise(*shape), Geometry((9, 9, 9), (5, 5, 5), (2, 2, 2)))
    for i in range(100):
        assert source.example(i, WARPED).raw.shape == (1, 9, 9, 9)


def test_labels_smaller_than_the_patch() -> None:
    raw, labels = ArraySource(noise(30, 30, 30), name="raw.h5:raw"), ArraySource(noise(4, 20, 20), name="lab.h5:lab")
    with pytest.raises(
        DataError, match=r"lab\.h5:lab, shape \(4, 20, 20\).*needs 5 target voxels along z, there are 4"
    ):
        Patches([Pair(raw, labels)], Geometry((9, 9, 9), (5, 5, 5), (2, 2, 2)), seed=0)


ONE = Geometry((4, 4, 4), (4, 4, 4))


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint8", 0, 255), ("uint16", 300, 4395), ("float32", 0, 1), ("float32", -5, 1000)]
)
def test_grey_values_vary_within_the_range_of_the_volume(dtype: str, low: float, high: float) -> None:
    raw = (low + np.random.default_rng(0).random((12, 12, 12)) * (high - low)).astype(dtype)
    raw[0, 0, :2] = low, high
    source = patches(raw, None, Geometry((12, 12, 12), (12, 12, 12)), scaling=Scaling((low,), (high - low,)))
    plain = source.example(0, PLAIN).raw
    varied = [source.example(i, AugmentSettings(grey=1)).raw for i in range(60)]
    assert all(v.min() >= -1e-5 and v.max() <= 1 + 1e-5 for v in varied)
    assert not any(np.array_equal(plain, v) for v in varied)
    means = np.array([v.mean() for v in varied])
    assert 0.05 < means.std() < 0.3
    assert 0.3 < means.mean() < 0.7


@pytest.mark.parametrize("how", [PLAIN, WARPED])
def test_uint16_is_scaled_over_its_range(how: AugmentSettings) -> None:
    raw = np.full((9, 9, 9), 65535, np.uint16)
    by_dtype = Patches([Pair(raw, raw)], ONE, seed=0)
    np.testing.assert_allclose(by_dtype.example(0, how).raw, 1.0, rtol=1e-6)
    chosen = Patches([Pair(raw, raw)], ONE, seed=0, scaling=Scaling((30000,), (10000,)))
    np.testing.assert_allclose(chosen.example(0, how).raw, 3.5535, rtol=1e-6)


@pytest.mark.parametrize("how", [PLAIN, WARPED])
def test_negative_and_ignored_labels_become_minus_one(how: AugmentSettings) -> None:
    labels = np.random.default_rng(0).choice([-7, -1, 0, 1, 9], (9, 9, 9)).astype(np.int16)
    plain = patches(labels, labels, ONE).example(0, how)
    assert set(np.unique(plain.target)) == {-1, 0, 1, 9}
    ignoring = patches(labels, labels, ONE, ignore=(9,), classes=2).example(0, how)
    assert set(np.unique(ignoring.target)) == {-1, 0, 1}
    np.testing.assert_array_equal(np.where(plain.target == 9, -1, plain.target), ignoring.target)


def test_labels_out_of_range_are_refused_at_load() -> None:
    labels = np.zeros((9, 9, 9), np.uint64)
    labels[2, 3, 4] = 5
    with pytest.raises(DataError, match=r"voxel \(2, 3, 4\) \(z, y, x\) is 5: with 2 classes labels are 0 to 1"):
        patches(noise(9, 9, 9), labels, ONE, classes=2)
    assert patches(noise(9, 9, 9), labels, ONE, classes=6).example(0, PLAIN).target is not None
    with pytest.raises(DataError, match="target of a classification holds integers"):
        patches(noise(9, 9, 9), labels.astype(float), ONE, classes=2)


def test_labels_out_of_range_that_the_load_did_not_see_are_refused_when_met() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    source = patches(noise(9, 9, 9), labels, ONE, classes=2)
    labels[:] = 3
    with pytest.raises(DataError, match="holds the label 3"):
        source.example(0, PLAIN)


@pytest.mark.parametrize("how", [PLAIN, WARPED])
@pytest.mark.parametrize("like", ["raw", "target"])
def test_masked_voxels_are_ignored(how: AugmentSettings, like: str) -> None:
    raw = coded(12, 12, 12)
    labels = raw[2:10, 2:10, 2:10].astype(np.int64)
    mask = np.random.default_rng(0).random((12, 12, 12)) < 0.5
    source = patches(raw, labels, ONE, mask=mask if like == "raw" else mask[2:10, 2:10, 2:10].copy())
    bare = patches(raw, labels, ONE)
    for i in range(20):
        example, full = source.example(i, how), bare.example(i, how)
        code = full.target[0]
        counts = mask[code // 10000, code // 100 % 100, code % 100]
        np.testing.assert_array_equal(example.target[0], np.where(counts, code, -1))
        np.testing.assert_array_equal(example.mask[0], counts)
        assert full.mask is None


@pytest.mark.parametrize("how", [PLAIN, WARPED])
def test_nan_in_a_float_target_never_gets_out(how: AugmentSettings) -> None:
    target = np.random.default_rng(0).random((3, 9, 9, 9), np.float32)
    target[1, 2:7, 2:7, 2:7] = np.nan
    source = patches(noise(9, 9, 9), target, ONE)
    batch = source.batch(range(10), how)
    assert batch["target"].dtype == np.float32
    assert batch["mask"].shape == batch["target"].shape == (10, 3, 4, 4, 4)
    assert np.isfinite(batch["target"]).all()
    assert batch["mask"][:, [0, 2]].all()
    assert 0 < batch["mask"][:, 1].mean() < 1
    assert not batch["target"][~batch["mask"]].any()


def test_unlabelled_pairs() -> None:
    source = patches(noise(9, 9, 9), None, ONE)
    assert set(source.batch([0], WARPED)) == {"raw"}
    assert source.example(0, PLAIN).target is None
    with pytest.raises(DataError, match="others have none: bare"):
        Patches([Pair(noise(9, 9, 9), noise(9, 9, 9)), Pair(noise(9, 9, 9), name="bare")], ONE, seed=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Pair(noise(2, 9, 9, 9), noise(9, 9, 9)), "raw volumes need as many channels: array has 1, array has 2"),
        (Pair(noise(9, 9, 9), noise(2, 9, 9, 9)), "target volumes need as many channels"),
        (
            Pair(noise(9, 9, 9).astype(np.uint16), noise(9, 9, 9)),
            "raw volumes need one dtype: array holds uint8, array holds uint16",
        ),
        (Pair(noise(9, 9, 9), noise(9, 9, 9).astype(np.float32)), "target volumes need one dtype"),
    ],
)
def test_pairs_that_do_not_go_together(other: Pair, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Patches([Pair(noise(9, 9, 9), noise(9, 9, 9)), other], ONE, seed=0)


def test_other_refusals() -> None:
    pair = Pair(noise(9, 9, 9), noise(9, 9, 9))
    with pytest.raises(DataError, match="no pair"):
        Patches([], ONE, seed=0)
    with pytest.raises(DataError, match="seed=-1"):
        Patches([pair], ONE, seed=-1)
    with pytest.raises(DataError, match="2 values for a volume of 1 channels"):
        Patches([pair], ONE, seed=0, scaling=Scaling((0, 1), (1, 1)))
    with pytest.raises(DataError, match="numbered from 0"):
        Patches([pair], ONE, seed=0).example(-1, PLAIN)
    for arguments in ({"warp": 1.5}, {"grey": -0.1}, {"warp": "often"}, {"grey": float("nan")}):
        with pytest.raises(DataError, match="a probability from 0 to 1"):
            AugmentSettings(**arguments)


def test_nan_that_appears_later_is_refused_with_its_place() -> None:
    raw = np.zeros((9, 9, 9), np.float32)
    source = patches(raw, None, ONE)
    raw[:] = np.nan
    with pytest.raises(DataError, match="NaN or infinite values in the box"):
        source.example(0, PLAIN)


def test_a_source_that_breaks_surfaces_through_the_threads() -> None:
    class Vanishing(ArraySource):
        def read(self, lo, hi):  # type: ignore[no-untyped-def]
            if self.gone:
                raise DataError("v.h5:raw: the disk is gone")
            return super().read(lo, hi)

    raw = Vanishing(noise(9, 9, 9))
    raw.gone = False  # type: ignore[attr-defined]
    source = Patches([Pair(raw, noise(9, 9, 9))], ONE, seed=0)
    raw.gone = True  # type: ignore[attr-defined]
    with Prefetcher(lambda step: source.batch([step], PLAIN), threads=2) as prefetcher:
        with pytest.raises(DataError, match="the disk is gone"):
            prefetcher.get(0)
        raw.gone = False  # type: ignore[attr-defined]
        assert prefetcher.get(0)["raw"].shape == (1, 1, 4, 4, 4)


def test_real_tissue(shared_data: Path) -> None:
    file = shared_data / "fib25" / "fib25_dev.h5"
    pair = Pair(f"{file}:raw", BoundarySource(f"{file}:lab"))
    train, valid = split_region(pair, last=30)
    source = Patches([train], Geometry((16, 96, 96), (8, 80, 80), (4, 8, 8)), seed=0, classes=2)
    source.warm_up()
    batch = source.batch(range(8), AugmentSettings(warp=1, grey=1, warp_args=Warp(lock_z=False)))
    assert 0.05 < batch["target"].mean() < 0.25
    assert 0.2 < batch["raw"].mean() < 0.8
    assert valid.placements(source.geometry)[0][0] == 136


WARMED = """
import sys
import numpy as np
from elektronn_tui.data import AugmentSettings, Geometry, Pair, Patches, Warp
from elektronn_tui.data import _blur_kernels, _grey_kernels, _warp_kernels

path, raw_dtype, label_dtype = sys.argv[1:]
np.save(path, np.zeros((14, 30, 30), raw_dtype))
pair = Pair(path, np.zeros((14, 30, 30), label_dtype), mask=np.ones((14, 30, 30), np.uint8))
source = Patches([pair], Geometry((5, 9, 9), (3, 5, 5), (1, 2, 2)), seed=0)
source.warm_up()
modules = (_warp_kernels, _grey_kernels, _blur_kernels)
kernels = [kernel for module in modules for kernel in vars(module).values() if hasattr(kernel, "signatures")]
before = [len(kernel.signatures) for kernel in kernels]
often = dict.fromkeys(("grey", "elastic", "slip", "misalignment", "blur", "defocus", "flicker", "blobs"), 0.5)
source.batch(range(40), AugmentSettings(warp=1, warp_args=Warp(lock_z=False, perspective=0.2), **often))
after = [len(kernel.signatures) for kernel in kernels]
sys.exit(0 if sum(before) > 3 and after == before else 1)
"""


@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("uint8", "float32"), ("uint16", "int8"), ("float32", "int64")])
def test_nothing_is_compiled_after_the_warm_up(tmp_path: Path, dtypes: tuple[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", WARMED, str(tmp_path / "raw.npy"), *dtypes], timeout=120, check=False)
    assert done.returncode == 0

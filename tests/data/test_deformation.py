"""Elastic deformations and displaced sections: smooth, within their bounds, the same for raw values and labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from elektronn_tui.data import (
    AffinitySource,
    ArrayExamples,
    AugmentSettings,
    Deformation,
    Elastic,
    Geometry,
    ImageSettings,
    Misalignment,
    Pair,
    Patches,
    Scaling,
    Selection,
    Slip,
    Warp,
)
from elektronn_tui.data.sampling import sample_labels, sample_raw
from elektronn_tui.data.warp import bounding_box, place, positions, source_box, translated
from elektronn_tui.errors import DataError

SHAPE = (9, 41, 37)
GEOMETRY = Geometry(SHAPE, (5, 16, 14), (0, 5, 5), (2, 2, 2))
STRONG = Elastic(displacement=8, spacing=20, lock_z=False, anisotropy=2)
AS_IS = Scaling()


def ramps(*shape):
    """Return three channels that say where a voxel is."""
    return np.indices(shape).astype(np.float32)


def spline(field, shape, first=(0, 0, 0), step=(1, 1, 1)):
    """Return displacements (3, z, y, x) of the voxels ``first + step * k``, as scipy's cubic B-spline has them."""
    at = [
        np.clip((a + s * np.arange(n)) / d, 0, m - 3) + 1
        for a, s, n, d, m in zip(first, step, shape, field.spacing, field.control.shape[1:], strict=True)
    ]
    grid = np.meshgrid(*at, indexing="ij")
    return np.stack([map_coordinates(c, grid, order=3, prefilter=False, mode="nearest") for c in field.control])


def sampled(matrix, shape, displacement):
    """Return where in the volume the voxels of a patch take their values from."""
    low, high = bounding_box(matrix, shape, displacement)
    matrix = translated(matrix, -np.floor(low) + 2)
    box = ramps(*(np.ceil(high - np.floor(low)).astype(int) + 5))
    out = np.empty((3, *shape), np.float32)
    sample_raw(box, matrix, out, displacement=displacement)
    return out + (np.floor(low) - 2)[:, None, None, None]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [SHAPE, (1, 33, 17), (5, 64, 16)])
def test_voxels_come_from_where_a_cubic_b_spline_says(shape, seed):
    rng = np.random.default_rng(seed)
    field = STRONG.draw(rng, shape)
    matrix = Warp(lock_z=False, perspective=0.1).draw(rng, shape) if seed else np.eye(4)
    at = np.indices(shape) + spline(field, shape)
    at = np.tensordot(matrix, np.concatenate([at, np.ones((1, *shape))]), 1)
    found = sampled(matrix, shape, Deformation(shape[0], field).of_raw())
    np.testing.assert_allclose(found, at[:3] / at[3], atol=2e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_and_labels_agree_with_a_float64_reference(dtype):
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 250, (2, 30, 70, 70)).astype(dtype)
    ids = rng.integers(0, 2**40, (1, 30, 70, 70))
    matrix = translated(Warp(scale=0.1, shear=0.1).draw(rng, SHAPE), (10, 15, 15))
    field = STRONG.draw(rng, SHAPE)
    moved = Deformation(SHAPE[0], field).of_raw()
    at = np.indices(SHAPE) + spline(field, SHAPE)
    at = np.tensordot(matrix, np.concatenate([at, np.ones((1, *SHAPE))]), 1)[:3]
    out, labels = np.empty((2, *SHAPE), np.float32), np.empty((1, *SHAPE), np.int64)
    sample_raw(raw, matrix, out, displacement=moved, scale=[1, 2], shift=[0, 3])
    sample_labels(ids, matrix, labels, displacement=moved)
    expected = [map_coordinates(c.astype(np.float64), at, order=1, mode="nearest") for c in raw]
    np.testing.assert_allclose(out, [expected[0], expected[1] * 2 + 3], atol=0.05)
    nearest = np.clip(np.floor(at + 0.5).astype(int), 0, np.array([29, 69, 69])[:, None, None, None])
    assert (labels[0] == ids[0][tuple(nearest)]).mean() > 0.999


def test_nothing_is_folded_and_nothing_goes_beyond_its_bounds():
    smallest = []
    for seed in range(30):
        elastic = Elastic(displacement=8, spacing=20, lock_z=False)
        field = elastic.draw(np.random.default_rng(seed), (24, 24, 24))
        moved = spline(field, (24, 24, 24))
        low, high = Deformation(24, field).of_raw().reach
        assert (moved.min((1, 2, 3)) >= low - 1e-9).all()
        assert (moved.max((1, 2, 3)) <= high + 1e-9).all()
        assert abs(low).max() <= 8
        assert high.max() <= 8
        slopes = np.stack([np.stack(np.gradient(c), -1) for c in moved], -2) + np.eye(3)
        smallest.append(np.linalg.det(slopes).min())
    assert min(smallest) > 0
    assert min(smallest) < 0.8  # it does deform


def test_displacements_keep_to_the_voxels_of_an_anisotropic_patch():
    rng = np.random.default_rng(0)
    field = Elastic(displacement=6, spacing=30, anisotropy=3, lock_z=False).draw(rng, (31, 61, 61))
    np.testing.assert_allclose(field.spacing, (10, 30, 30))
    assert field.control.shape == (3, 6, 5, 5)
    assert abs(field.control[0]).max() <= 2
    assert 4 < abs(field.control[1:]).max() <= 6
    locked = Elastic(displacement=6, spacing=30, anisotropy=3).draw(np.random.default_rng(0), (31, 61, 61))
    assert not locked.control[0].any()
    drawn = [abs(Elastic(displacement=(2, 8)).draw(rng, SHAPE).control).max() for _ in range(50)]
    assert 1 < min(drawn) < 3
    assert 7 < max(drawn) <= 8


def test_targets_are_displaced_as_the_raw_values_under_them():
    field = STRONG.draw(np.random.default_rng(1), SHAPE)
    offsets = np.zeros((SHAPE[0], 2))
    offsets[4:] = (3, -2)
    deformation = Deformation(SHAPE[0], field, slips=np.ones((SHAPE[0], 2)), offsets=offsets)
    displacement = deformation.of_target(GEOMETRY)
    matrix = np.diag([*map(float, GEOMETRY.strides), 1.0])
    matrix[:3, 3] = GEOMETRY.offsets
    found = sampled(matrix, GEOMETRY.target_shape, displacement)
    at = np.indices(GEOMETRY.target_shape) * 2 + np.reshape(GEOMETRY.offsets, (3, 1, 1, 1))
    at = at + spline(field, GEOMETRY.target_shape, GEOMETRY.offsets, GEOMETRY.strides)
    at[1:, 2:] += np.reshape((3, -2), (2, 1, 1, 1))
    np.testing.assert_allclose(found, at, atol=1e-3)
    for voxel in ((0, 0, 0), (4, 15, 13), (3, 7, 2)):
        expected = found[(slice(None), *voxel)] - matrix[:3] @ (*voxel, 1)
        np.testing.assert_allclose(displacement.at(voxel) * GEOMETRY.strides, expected, atol=1e-3)


EVERYTHING = AugmentSettings(
    warp=0.7,
    warp_args=Warp(perspective=0.1),
    elastic=1.0,
    elastic_args=STRONG,
    misalignment=0.5,
    misalignment_args=Misalignment((1, 4)),
)


def coded(*shape):
    z, y, x = np.indices(shape)
    return (10000 * z + 100 * y + x).astype(np.float32)


@pytest.mark.parametrize("offset", [None, (3, 2, 7)])
def test_raw_as_its_own_target_does_not_drift(offset):
    volume = coded(24, 80, 80)
    at = offset or (2, 4, 4)
    target = volume[tuple(slice(a, a + n) for a, n in zip(at, (20, 72, 72), strict=True))]
    source = Patches([Pair(volume, target, target_offset=offset)], GEOMETRY, seed=0, scaling=AS_IS)
    deformed = 0
    for i in range(150):
        example = source.example(i, EVERYTHING)
        centres = example.raw[:, ::2, 5:-5:2, 5:-5:2][..., :16, :14]
        np.testing.assert_allclose(example.target, centres, atol=2.0, rtol=1e-5)
        assert example.mask.all()
        deformed += example.deformation is not None
    assert deformed > 130


@pytest.mark.parametrize(("room", "deformed"), [((0, 0, 0), (0, 0)), ((2, 6, 6), (1, 60)), ((4, 30, 30), (60, 60))])
def test_deformed_examples_stay_in_volumes_hardly_larger_than_the_patch(room, deformed):
    shape = np.add(SHAPE, room)
    volume = np.full(shape + 6, -1e6, np.float32)
    volume[3:-3, 3:-3, 3:-3] = coded(*shape)
    pair = Pair(volume, None, context=((3, 3, 3), tuple((shape + 3).tolist())))
    source = Patches([pair], Geometry(SHAPE, SHAPE), seed=0, scaling=AS_IS)
    how = dataclasses.replace(EVERYTHING, warp=0.0, slip=0.5)
    examples = [source.example(i, how) for i in range(60)]
    assert min(example.raw.min() for example in examples) > -1
    assert deformed[0] <= sum(example.deformation is not None for example in examples) <= deformed[1]


def test_positions_are_all_that_admit_the_deformed_patch():
    rng = np.random.default_rng(0)
    deformation = Deformation(SHAPE[0], STRONG.draw(rng, SHAPE))
    first, last = positions(np.eye(4), Geometry(SHAPE, SHAPE), (20, 60, 60), None, deformation)
    low, high = deformation.of_raw().reach
    np.testing.assert_array_equal(first, np.ceil(-low))
    np.testing.assert_array_equal(last, np.floor(np.array([20, 60, 60]) - np.array(SHAPE) - high))
    seen = [place(np.eye(4), Geometry(SHAPE, SHAPE), (20, 60, 60), rng, None, deformation) for _ in range(600)]
    np.testing.assert_array_equal(np.min(seen, 0), first)
    np.testing.assert_array_equal(np.max(seen, 0), last)
    lo, hi = source_box(translated(np.eye(4), first), SHAPE, (20, 60, 60), deformation.of_raw())
    assert lo == (0, 0, 0)
    assert all(b - a <= n + 17 for a, b, n in zip(lo, hi, SHAPE, strict=True))


def test_a_slip_moves_sections_of_the_raw_image_alone():
    volume = coded(20, 80, 80)
    source = Patches([Pair(volume, volume)], Geometry(SHAPE, SHAPE), seed=0, scaling=AS_IS)
    counts, shifts = set(), []
    for i in range(60):
        example = source.example(i, AugmentSettings(slip=1.0, slip_args=Slip(number=(1, 3), distance=(2, 6))))
        apart = example.raw[0] - example.target[0]
        assert (apart == apart[:, :1, :1]).all()  # whole voxels: nothing is smoothed
        moved = apart[:, 0, 0][apart[:, 0, 0] != 0]
        counts.add(len(moved))
        y = np.rint(moved / 100)
        shifts += [(float(b), float(a)) for a, b in zip(moved - 100 * y, y, strict=True)]
    assert counts == {1, 2, 3}
    lengths = np.hypot(*np.transpose(shifts))
    assert 1.2 < lengths.min() < 3
    assert 5 < lengths.max() < 6.8
    assert abs(np.mean(shifts, 0)).max() < 1.5  # any direction


def test_a_misalignment_moves_raw_image_and_target_from_some_section_on():
    volume = coded(20, 80, 80)
    source = Patches([Pair(volume, volume)], Geometry(SHAPE, SHAPE), seed=0, scaling=AS_IS)
    begins = set()
    for i in range(80):
        example = source.example(i, AugmentSettings(misalignment=1.0, misalignment_args=Misalignment(distance=(2, 6))))
        np.testing.assert_array_equal(example.raw, example.target)
        beyond = example.raw[0] - volume[tuple(slice(a, a + n) for a, n in zip(example.position, SHAPE, strict=True))]
        moved = (beyond != 0).any((1, 2))
        begin = int(np.argmax(moved))
        begins.add(begin)
        assert moved[begin:].all()
        assert len(np.unique(beyond[begin:])) == 1
    assert begins == set(range(1, 9))


def test_single_sections_have_neither():
    source = Patches([Pair(coded(4, 60, 60), None)], Geometry((1, 20, 20), (1, 20, 20)), seed=0, scaling=AS_IS)
    for i in range(5):
        both = source.example(i, AugmentSettings(slip=1.0, misalignment=1.0))
        np.testing.assert_array_equal(both.raw, source.example(i, AugmentSettings()).raw)
    deformed = source.example(0, AugmentSettings(elastic=1.0, elastic_args=Elastic(displacement=5, spacing=16)))
    at = deformed.raw[0, 0]
    assert (np.rint(at / 10000) == deformed.position[0]).all()  # of one section
    assert not np.array_equal(np.diff(at), np.ones((20, 19)))


@pytest.mark.parametrize("name", ["elastic", "slip", "misalignment"])
def test_a_deformation_leaves_pair_and_warp_as_they_are(name):
    rng = np.random.default_rng(0)
    pairs = [Pair(rng.integers(0, 255, (24, 90, 90), np.uint8), None) for _ in range(2)]
    source = Patches(pairs, Geometry(SHAPE, SHAPE), seed=3)
    base = AugmentSettings(warp=0.5, grey=0.5, missing=0.5)
    changed = 0
    for i in range(60):
        plain, other = source.example(i, base), source.example(i, dataclasses.replace(base, **{name: 0.5}))
        assert plain.pair == other.pair
        np.testing.assert_array_equal(plain.matrix[:, :3], other.matrix[:, :3])
        assert (other.deformation is None) == np.array_equal(plain.raw, other.raw)
        changed += other.deformation is not None
    assert 18 <= changed <= 42


def test_affinities_are_those_of_the_deformed_ids():
    ids = np.random.default_rng(0).integers(1, 5, (24, 25, 25)).repeat(4, 1).repeat(4, 2)
    raw = np.zeros(ids.shape, np.uint8)
    target = AffinitySource(ids, [(-1, 0, 0), (0, -2, 0), (0, 0, 3)], with_ids=True)
    edges, plain = (Patches([Pair(raw, labels)], GEOMETRY, seed=0) for labels in (target, ids))
    for i in range(30):
        found, expected = edges.example(i, EVERYTHING), plain.example(i, EVERYTHING)
        np.testing.assert_array_equal(found.matrix, expected.matrix)
        assert (found.target[-1] == expected.target[0]).mean() > 0.99
        # An edge over as many voxels as there are between two of the target joins them.
        joined = expected.target[0, :, 1:] == expected.target[0, :, :-1]
        assert (found.target[1, :, 1:] == joined).mean() > 0.98


def test_vectors_refuse_to_be_deformed_but_may_be_misaligned():
    field = np.ones((3, 24, 80, 80), np.float32)
    source = Patches([Pair(coded(24, 80, 80), field, vectors=[(0, 1, 2)])], GEOMETRY, seed=0)
    assert (source.example(0, AugmentSettings(misalignment=1.0)).target == 1).all()
    with pytest.raises(DataError, match=r"vectors can't follow an elastic deformation, .*; use elastic=0"):
        source.example(0, AugmentSettings(elastic=1.0))


def test_a_class_that_is_drawn_first_is_in_the_deformed_target():
    ids = np.zeros((24, 130, 130), np.uint8)
    ids[12, 60, 60] = ids[11:13, 39:42, 88:90] = 1
    geometry = Geometry((9, 41, 37), (7, 15, 11), (1, 13, 13))
    how = AugmentSettings(warp=0.7, elastic=1.0, elastic_args=Elastic(displacement=8, spacing=20))
    selection = Selection(balance=1.0, class_shares=(0, 1))
    source = Patches([Pair(coded(*ids.shape), ids)], geometry, seed=0, classes=2, selection=selection)
    examples = [source.example(i, how) for i in range(100)]
    assert np.mean([example.deformation is not None for example in examples]) > 0.9
    assert np.mean([(example.target == 1).any() for example in examples]) > 0.97  # one voxel may fall between two


def test_images_are_deformed_too():
    images = np.broadcast_to(np.arange(40, dtype=np.float32), (4, 1, 40, 40)).copy()
    examples = ArrayExamples(images, seed=1, patch_shape=(30, 30))
    elastic = ImageSettings(elastic=1.0, elastic_args=Elastic(displacement=4, spacing=12))
    plain, deformed = (examples.batch(range(4), how)["raw"] for how in (ImageSettings(), elastic))
    apart = abs(deformed - plain)
    assert 0.2 < apart.mean() < 2
    assert apart.max() <= 4
    np.testing.assert_array_equal(deformed[2], examples.batch([2], elastic)["raw"][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Elastic(displacement=20),
            r"20.0\) with spacing=32; beyond 12.8, 0.4 of .* spacing of 50",
        ),
        (lambda: Elastic(displacement=(3, 1)), r"Elastic: displacement=\(3, 1\)"),
        (lambda: Elastic(spacing=0), "Elastic: spacing=0; a number from 2"),
        (lambda: Elastic(lock_z=1), "Elastic: lock_z=1; true or false"),
        (lambda: Slip(number=0), "Slip: number=0"),
        (lambda: Misalignment(distance="far"), "Misalignment: distance='far'"),
    ],
)
def test_a_wrong_field_is_named(make, message):
    with pytest.raises(DataError, match=message):
        make()

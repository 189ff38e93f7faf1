"""The warp: matrices, where they may be placed, and what is sampled through them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from elektronn_tui.data.geometry import Geometry
from elektronn_tui.data.sampling import Scratch, sample_labels, sample_raw, warm_up
from elektronn_tui.data.warp import Warp, bounding_box, place, positions, source_box, target_matrix, translated
from elektronn_tui.errors import DataError

STILL = Warp(rotation=0, scale=0, shear=0, flips=(False, False, False), swap=False)


def coordinates(matrix, shape):
    """Source coordinates (3, z, y, x) of all voxels of a patch, in float64."""
    grid = np.concatenate([np.indices(shape, dtype=np.float64), np.ones((1, *shape))])
    at = np.tensordot(matrix, grid, 1)
    return at[:3] / at[3]


def sample(volume, matrix, shape):
    """Sample ``(z, y, x)`` through the box that the matrix needs, as a reader of large volumes does."""
    low, high = source_box(matrix, shape, volume.shape)
    box = volume[tuple(map(slice, low, high))][None]
    inside = translated(matrix, [-i for i in low])
    raw, labels = np.full((1, *shape), np.nan, np.float32), np.empty((1, *shape), volume.dtype)
    sample_raw(box, inside, raw)
    sample_labels(box, inside, labels)
    return raw[0], labels[0]


def dense(shape):
    return Geometry(shape, shape)


# ---------------------------------------------------------------- crops, flips, swaps


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(5, 7, 9), (1, 8, 8), (4, 1, 6), (4, 6, 1), (1, 1, 1)])
def test_a_patch_without_warp_is_the_crop_at_every_position(dtype, shape):
    volume = np.random.default_rng(0).integers(0, 127, (7, 10, 11)).astype(dtype)
    first, last = positions(np.eye(4), dense(shape), volume.shape)
    assert (first == 0).all()
    assert (last == np.array(volume.shape) - shape).all()
    for position in (first, last, (first + last) // 2):
        crop = volume[tuple(slice(p, p + n) for p, n in zip(position, shape, strict=True))]
        raw, labels = sample(volume, translated(np.eye(4), position), shape)
        np.testing.assert_array_equal(raw, crop.astype(np.float32))
        np.testing.assert_array_equal(labels, crop)


@given(
    seed=st.integers(0, 2**32 - 1), shape=st.tuples(*[st.integers(1, 9)] * 3), aniso=st.sampled_from([1.0, 2.0, 3.7])
)
@settings(max_examples=60, deadline=None)
def test_flips_and_swaps_are_those_of_numpy(seed, shape, aniso):
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, 256, (10, 10, 10), dtype=np.uint8)
    warp = Warp(rotation=0, scale=0, shear=0, anisotropy=aniso)
    matrix = warp.draw(rng, shape)
    matrix = translated(matrix, place(matrix, dense(shape), volume.shape, rng))
    linear = matrix[:3, :3]
    assert np.isin(linear, [-1, 0, 1]).all()
    swapped = bool(linear[1, 2])
    source_shape = [shape[0], shape[2], shape[1]] if swapped else shape
    low, _ = source_box(matrix, shape, volume.shape)
    expected = volume[tuple(slice(p, p + n) for p, n in zip(low, source_shape, strict=True))]
    expected = np.flip(expected, [axis for axis in range(3) if linear[axis].sum() < 0])
    if swapped:
        expected = expected.transpose(0, 2, 1)
    raw, labels = sample(volume, matrix, shape)
    np.testing.assert_array_equal(raw, expected)
    np.testing.assert_array_equal(labels, expected)


def test_all_flips_and_the_swap_occur_and_forbidden_ones_do_not():
    rng = np.random.default_rng(1)
    drawn = {Warp(rotation=0, scale=0, shear=0).draw(rng, (3, 5, 5))[:3, :3].tobytes() for _ in range(400)}
    assert len(drawn) == 16
    for matrix in (STILL.draw(rng, (3, 5, 5)) for _ in range(20)):
        np.testing.assert_array_equal(matrix, np.eye(4))


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 9, 9), (1, 8, 8)])
def test_half_a_turn_is_a_double_flip_about_the_true_centre(shape):
    volume = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    matrix = Warp(rotation=(180, 180), scale=0, shear=0, flips=(False, False, False), swap=False).draw(
        np.random.default_rng(0), shape
    )
    first, last = positions(matrix, dense(shape), shape)
    assert (first == 0).all()
    assert (last == 0).all()
    raw, labels = sample(volume, matrix, shape)
    np.testing.assert_array_equal(raw, volume[:, ::-1, ::-1])
    np.testing.assert_array_equal(labels, volume[:, ::-1, ::-1])


def test_a_quarter_turn_is_that_of_numpy():
    volume = np.random.default_rng(3).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    turn = Warp(rotation=(90, 90), scale=0, shear=0, flips=(False, False, False), swap=False)
    raw, _ = sample(volume, turn.draw(np.random.default_rng(0), volume.shape), volume.shape)
    assert any(np.array_equal(raw, np.rot90(volume, k, (1, 2))) for k in (1, 3))


# ---------------------------------------------------------------- values under any matrix


@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    lock_z=st.booleans(),
    sample_aniso=st.booleans(),
    tilt=st.sampled_from([None, 5.0]),
)
@settings(max_examples=80, deadline=None)
def test_a_linear_ramp_becomes_the_analytic_pull_back(seed, dtype, lock_z, sample_aniso, tilt):
    rng = np.random.default_rng(seed)
    shape, extent = (6, 24, 25), (60, 64, 64)
    factors = np.array([1, 2, 1] if dtype == np.uint8 else [300, 200, 500])[:, None, None, None]
    ramp = (np.indices(extent) * factors).sum(0).astype(dtype)
    warp = Warp(perspective=0.2, lock_z=lock_z, anisotropy=2.0, sample_aniso=sample_aniso, tilt=tilt)
    matrix = warp.draw(rng, shape)
    matrix = translated(matrix, place(matrix, dense(shape), extent, rng))
    at = coordinates(matrix, shape)
    assert at.min() > -1e-3
    assert (at.max(axis=(1, 2, 3)) < np.array(extent) - 1 + 1e-3).all()
    raw, _ = sample(ramp, matrix, shape)
    expected = (at * factors).sum(0)
    assert np.abs(raw - expected).max() < 1e-4 * ramp.max()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_values_agree_with_a_float64_reference(dtype):
    rng = np.random.default_rng(4)
    volume = rng.integers(0, 256, (64, 220, 220)).astype(dtype)
    shape = (16, 128, 128)
    errors, wrong = [], []
    for _ in range(5):
        matrix = Warp(perspective=0.1, lock_z=False, tilt=2).draw(rng, shape)
        matrix = translated(matrix, place(matrix, dense(shape), volume.shape, rng))
        raw, labels = sample(volume, matrix, shape)
        at = coordinates(matrix, shape)
        errors.append(np.abs(raw - map_coordinates(volume.astype(np.float64), at, order=1)).mean())
        wrong.append((labels != map_coordinates(volume, at, order=0)).mean())
    assert np.mean(errors) < 0.001
    assert np.mean(wrong) < 1e-4  # neighbours always differ here; labels of tissue seldom do


def test_labels_stay_on_their_raw_values_for_strided_targets_with_an_offset():
    rng = np.random.default_rng(5)
    geometry = Geometry((9, 41, 41), (2, 6, 6), (3, 10, 10), (2, 4, 4))
    offset = np.array((4, 30, 20))
    labels_shape = (30, 70, 75)
    region = (tuple(offset), tuple(offset + labels_shape))
    # A slow ramp: its nearest voxel and its interpolated value differ by at most half a step along each axis.
    raw_volume = np.indices((45, 130, 130)).sum(0).astype(np.float32)
    labels_volume = raw_volume[tuple(map(slice, *region))].astype(np.int64)
    for _ in range(200):
        matrix = Warp(perspective=0.1).draw(rng, geometry.patch_shape)
        matrix = translated(matrix, place(matrix, geometry, raw_volume.shape, rng, region))
        patch = sample(raw_volume, matrix, geometry.patch_shape)[0]
        centre = patch[3:6:2, 10:31:4, 10:31:4]
        target = np.empty((1, 2, 6, 6), np.int64)
        sample_labels(labels_volume[None], target_matrix(matrix, geometry, offset), target)
        assert np.abs(target[0] - centre).max() <= 1.5 + 1e-3


def test_ids_beyond_float32_survive():
    ids = np.array([2**24 + 1, 2**53 + 1, 2**63 - 1, 2**31 + 7], np.uint64).reshape(1, 1, 2, 2)
    for dtype in (np.uint64, np.int64):
        out = np.empty((1, 1, 2, 2), dtype)
        sample_labels(ids, np.eye(4), out)
        np.testing.assert_array_equal(out, ids.astype(dtype))
    out = np.empty((1, 1, 2, 2), np.int64)
    sample_labels(np.full((1, 1, 2, 2), 2**32 - 1, np.uint32), np.eye(4), out)
    assert (out == 2**32 - 1).all()


def test_channels_have_their_own_scaling():
    rng = np.random.default_rng(6)
    box = rng.integers(0, 256, (3, 4, 5, 6), dtype=np.uint8)
    out = np.empty(box.shape, np.float32)
    sample_raw(box, np.eye(4), out, scale=(1, 0.5, 2), shift=(0, -1, 3), scratch=Scratch())
    np.testing.assert_allclose(
        out, box * np.array([1, 0.5, 2])[:, None, None, None] + np.array([0, -1, 3])[:, None, None, None]
    )


def test_a_matrix_that_leaves_the_box_gets_its_rim():
    box = np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4)
    for far in (1e3, -1e3, 1e12, -1e12):
        raw, labels = np.empty((1, 2, 2, 2), np.float32), np.empty((1, 2, 2, 2), np.uint8)
        matrix = translated(np.eye(4), (far, far, far))
        sample_raw(box, matrix, raw)
        sample_labels(box, matrix, labels)
        rim = box.max() if far > 0 else box.min()
        assert (raw == rim).all()
        assert (labels == rim).all()


def test_isotropic_sampling_makes_a_ball_of_a_ball():
    z, y, x = np.ogrid[-20:21, -40:41, -40:41]
    ball = (((2 * z) ** 2 + y**2 + x**2) < 15**2).astype(np.uint8) * 255
    shape = (41, 41, 41)
    for sample_aniso, extent_z in ((False, 29), (True, 15)):
        warp = Warp(
            rotation=0, scale=0, shear=0, flips=(False,) * 3, swap=False, anisotropy=2.0, sample_aniso=sample_aniso
        )
        matrix = warp.draw(np.random.default_rng(0), shape)
        matrix = translated(matrix, np.round(np.array([20, 40, 40]) - coordinates(matrix, shape)[:, 20, 20, 20]))
        inside = sample(ball, matrix, shape)[0] > 127
        spans = [np.ptp(np.nonzero(inside)[axis]) + 1 for axis in range(3)]
        assert abs(spans[0] - extent_z) <= 2  # a step of z is two voxels wide once interpolated
        assert spans[1] == spans[2] == 29


# ---------------------------------------------------------------- distributions


def test_positions_are_uniform_and_never_outside():
    rng = np.random.default_rng(7)
    geometry = Geometry((3, 5, 5), (1, 3, 3), (1, 1, 1))
    region = ((2, 1, 4), (6, 9, 10))
    first, last = positions(np.eye(4), geometry, (8, 10, 12), region)
    # Targets reach from 1 to 1 + extent: z 2-1..5-1, y 1-1..8-3, x 4-1..9-3
    assert first.tolist() == [1, 0, 3]
    assert last.tolist() == [4, 5, 6]
    drawn = np.array([place(np.eye(4), geometry, (8, 10, 12), rng, region) for _ in range(10_000)])
    cells = np.ravel_multi_index((drawn - first).T, last - first + 1)
    count = int(np.prod(last - first + 1))
    observed = np.bincount(cells, minlength=count)
    assert len(observed) == count
    expected = len(drawn) / count
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < count - 1 + 5 * np.sqrt(2 * (count - 1))


def test_directions_are_uniform_without_lock():
    rng = np.random.default_rng(8)
    warp = Warp(lock_z=False, scale=0, shear=0, flips=(False,) * 3, swap=False)
    directions = np.array([warp.draw(rng, (5, 5, 5))[:3, 0] for _ in range(8000)])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.abs(directions.mean(axis=0)).max() < 0.03
    # On a sphere each coordinate is uniform over -1 to 1.
    for axis in range(3):
        observed = np.histogram(directions[:, axis], 10, (-1, 1))[0]
        assert np.abs(observed - 800).max() < 140


def test_rotations_with_lock_are_uniform_and_symmetric_when_weak():
    rng = np.random.default_rng(9)
    for amount, limit in ((1.0, np.pi), (0.1, np.pi / 10)):
        warp = Warp(scale=0, shear=0, flips=(False,) * 3, swap=False, amount=amount)
        matrices = [warp.draw(rng, (5, 5, 5)) for _ in range(4000)]
        angles = np.array([np.arctan2(m[2, 1], m[1, 1]) for m in matrices])
        assert all(np.array_equal(m[0], [1, 0, 0, 0]) for m in matrices)
        observed = np.histogram(angles, 8, (-limit, limit))[0]
        assert observed.sum() == len(angles)
        assert np.abs(observed - 500).max() < 110


def test_parameters_keep_to_their_ranges():
    rng = np.random.default_rng(10)
    for _ in range(300):
        matrix = Warp(rotation=0, scale=(0.8, 1.25), shear=0.05, flips=(False,) * 3, swap=False).draw(rng, (5, 9, 9))
        assert 0.8 <= matrix[1, 1] <= 1.25
        assert abs(matrix[1, 2]) <= 0.05
        assert np.array_equal(matrix[0], [1, 0, 0, 0])
        tilted = Warp(rotation=10, tilt=5, lock_z=False, scale=0, shear=0, flips=(False,) * 3).draw(rng, (5, 9, 9))
        assert tilted[0, 0] >= np.cos(np.radians(5)) - 1e-9


def test_the_same_generator_gives_the_same_warp_and_strength_does_not_change_what_follows():
    for other in (Warp(), Warp(amount=0.3), Warp(lock_z=False, perspective=0.1), STILL):
        a, b, c = (np.random.default_rng(11) for _ in range(3))
        first, second, third = Warp().draw(a, (5, 9, 9)), Warp().draw(b, (5, 9, 9)), other.draw(c, (5, 9, 9))
        np.testing.assert_array_equal(first, second)
        assert np.array_equal(first, third) == (other == Warp())
        assert a.random() == b.random() == c.random()


# ---------------------------------------------------------------- what can't be


def test_a_patch_that_does_not_fit_is_one_clear_error():
    with pytest.raises(DataError, match=r"along y .*23 × 185 × 185.*64 × 180 × 512"):
        positions(np.eye(4), dense((23, 185, 185)), (64, 180, 512))
    with pytest.raises(DataError, match=r"along z, x .*target voxels.*between 0, 0, 0 and 4, 20, 7"):
        positions(np.eye(4), dense((5, 8, 8)), (16, 64, 64), ((0, 0, 0), (4, 20, 7)))


def test_strong_warps_are_weakened_until_they_fit_and_the_rest_stays():
    shape, volume = (4, 20, 20), (4, 22, 22)

    def fits(matrix):
        try:
            positions(matrix, dense(shape), volume)
        except DataError:
            return False
        return True

    rng = np.random.default_rng(12)
    matrices = [Warp().draw(rng, shape, fits) for _ in range(200)]
    assert all(fits(matrix) for matrix in matrices)
    assert sum(not np.isin(matrix[:3, :3], [-1, 0, 1]).all() for matrix in matrices) > 20
    # A patch that only fits as it lies: no swap, and no error before its position is asked for.
    narrow = [Warp().draw(rng, (4, 8, 20), lambda m: bounding_box(m, (4, 8, 20))[1][1] < 8) for _ in range(50)]
    assert all(abs(matrix[1, 1]) > 0.9 for matrix in narrow)


def test_perspective_too_strong_is_refused():
    matrix = np.eye(4)
    matrix[3, 2] = -0.1
    with pytest.raises(DataError, match="perspective"):
        bounding_box(matrix, (3, 9, 9))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rotation", (10, -10)),
        ("rotation", "much"),
        ("rotation", (0, 1, 2)),
        ("tilt", 200),
        ("scale", (0, 1)),
        ("scale", 3),
        ("shear", 1),
        ("shear", float("nan")),
        ("flips", True),
        ("flips", (True, False)),
        ("swap", "yes"),
        ("lock_z", 1),
        ("perspective", 0.9),
        ("perspective", float("nan")),
        ("anisotropy", 0),
        ("sample_aniso", None),
        ("amount", -0.1),
        ("amount", True),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(DataError, match=field):
        Warp(**{field: value})


@pytest.mark.parametrize(
    ("box", "out"),
    [
        (np.zeros((2, 3, 3), np.uint8), np.zeros((1, 2, 2, 2), np.float32)),
        (np.zeros((2, 3, 3, 3), np.uint8), np.zeros((1, 2, 2, 2), np.float32)),
        (np.zeros((1, 3, 3, 3), np.uint8), np.zeros((1, 2, 2, 2), np.float64)),
        (np.zeros((1, 3, 3, 0), np.uint8), np.zeros((1, 2, 2, 2), np.float32)),
        (np.zeros((1, 3, 3, 3), np.uint8), np.zeros((1, 2, 2, 4), np.float32)[..., ::2]),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(box, out):
    with pytest.raises(DataError):
        sample_raw(box, np.eye(4), out)


def test_warm_up_runs_for_every_dtype_of_a_source():
    warm_up((np.uint8, np.uint16, np.float32), [(np.uint32, np.int64), (np.float32, np.float32), (np.bool_, np.int64)])

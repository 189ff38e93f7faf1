import numpy as np
import pytest

from elektronn_tui.data import ArrayExamples, Grey, ImageSettings, Scaling, Warp
from elektronn_tui.errors import DataError


def numbered(n=7, size=6):
    """Images that tell which they are: pixel (y, x) of image k is 100 k + 10 y + x."""
    return np.arange(n)[:, None, None, None] * 100 + (10 * np.arange(size)[:, None] + np.arange(size))[None, None]


def test_each_epoch_takes_every_entry_once_in_an_order_of_its_own():
    supply = ArrayExamples(np.arange(50)[:, None], seed=3)
    epochs = [[supply.index(50 * epoch + i) for i in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = ArrayExamples(np.arange(50)[:, None], seed=3)
    assert [again.index(100 + i) for i in range(50)] == epochs[2]  # without the epochs before
    assert [ArrayExamples(np.arange(50)[:, None], seed=4).index(i) for i in range(50)] != epochs[0]


def test_a_batch_may_reach_over_the_end_of_an_epoch():
    supply = ArrayExamples(np.arange(5)[:, None], np.arange(5) * 10)
    batch = supply.batch(range(3, 8), ImageSettings())
    assert batch["raw"][:, 0].tolist() == [supply.index(i) for i in range(3, 8)]
    np.testing.assert_array_equal(batch["target"], batch["raw"][:, 0] * 10)


def test_an_example_depends_on_its_number_and_the_settings_alone():
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 12, 12), np.uint8)
    supply = ArrayExamples(images, scaling=Scaling((3.0, 4.0), (2.0, 5.0)), channel_axis=1, patch_shape=(10, 10))
    settings = ImageSettings(warp=0.5, grey=0.5, shift=2, warp_args=Warp(), grey_args=Grey())
    together = supply.batch(range(20), settings)["raw"]
    for i in reversed(range(20)):
        np.testing.assert_array_equal(supply.batch([i], settings)["raw"][0], together[i])
    assert not np.array_equal(together, supply.batch(range(20), ImageSettings())["raw"])


def test_crops_lie_in_the_middle_and_are_displaced_as_far_as_it_says():
    supply = ArrayExamples(numbered(), patch_shape=(4, 4))
    assert (supply.batch(range(7), ImageSettings())["raw"][:, 0, 0, 0] % 100 == 11).all()
    corners = supply.batch(range(400), ImageSettings(shift=1))["raw"][:, 0, 0, 0] % 100
    assert sorted(set(corners.tolist())) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    beyond = supply.batch(range(400), ImageSettings(shift=2))["raw"]
    assert set(np.unique(beyond % 100).tolist()) <= set(numbered(1).ravel().tolist())  # the rim goes on
    whole = ArrayExamples(numbered(), patch_shape=(6, 6))
    np.testing.assert_array_equal(np.sort(whole.batch(range(7), ImageSettings())["raw"], 0), numbered())


def test_a_warp_without_strength_is_a_crop():
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 11, 11), np.uint8)
    still = Warp(rotation=0, scale=0, shear=0, flips=(False, False, False), swap=False)
    supply = ArrayExamples(images, scaling=Scaling((100.0,), (50.0,)), channel_axis=1, patch_shape=(7, 9))
    warped = supply.batch(range(5), ImageSettings(warp=1.0, warp_args=still, shift=2))["raw"]
    plain = supply.batch(range(5), ImageSettings(shift=2))["raw"]
    np.testing.assert_allclose(warped, plain, atol=1e-5)


def test_volumes_may_be_cut_and_warped_too():
    volumes = np.random.default_rng(0).random((3, 2, 5, 8, 8), np.float32)
    supply = ArrayExamples(volumes, channel_axis=1, patch_shape=(3, 6, 6))
    batch = supply.batch(range(3), ImageSettings(warp=1.0, shift=1))
    assert batch["raw"].shape == (3, 2, 3, 6, 6)
    assert np.isfinite(batch["raw"]).all()


@pytest.mark.parametrize("axis", [None, 1, 2])
def test_scaling_is_measured_by_channel(axis):
    values = np.random.default_rng(0).normal([[10.0, -5.0, 0.0]], [[1.0, 4.0, 0.01]], (500, 4, 3))
    values = values if axis != 1 else values.transpose(0, 2, 1)
    scaling = ArrayExamples.measured(values, axis)
    supply = ArrayExamples(values, scaling=scaling, channel_axis=axis)
    scaled = supply.plain(range(500))["raw"]
    axes = tuple(k for k in range(3) if k != axis)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axes), 1, rtol=1e-4)
    np.testing.assert_allclose(
        supply.unscaled(scaled), (values - supply._limits[0]) / np.subtract(*supply._limits[::-1]), atol=1e-4
    )


def test_a_constant_feature_is_not_divided():
    values = np.stack([np.full(10, 7.0), np.arange(10.0)], 1)
    scaling = ArrayExamples.measured(values, 1)
    assert scaling.mean == (7.0, 4.5)
    assert scaling.std[0] == 1.0


@pytest.mark.parametrize(
    ("raw", "target", "more", "message"),
    [
        (np.zeros((0, 3)), None, {}, "the inputs are empty"),
        (np.array(["a"]), None, {}, "the inputs hold <U1; integers or floats are needed"),
        (np.zeros((3, 2)), np.zeros(4), {}, "3 inputs, but 4 targets"),
        (np.array([[0.0], [np.nan]]), None, {}, "entry 1 of the inputs holds NaN"),
        (np.zeros((3, 2)), np.array([0, np.inf, 0]), {}, "entry 1 of the targets holds NaN or infinite"),
        (np.zeros((3, 1, 5, 5)), None, {"patch_shape": (6, 5)}, r"a crop of \(6, 5\) doesn't fit into images of"),
    ],
)
def test_arrays_that_can_not_be_used(raw, target, more, message):
    with pytest.raises(DataError, match=message):
        ArrayExamples(raw, target, **more)


def test_settings_that_make_no_sense():
    with pytest.raises(DataError, match="shift=-1"):
        ImageSettings(shift=-1)
    with pytest.raises(DataError, match="warp=2"):
        ImageSettings(warp=2)

"""Grey augmentation: the formula, its parameters, and that it knows the range of the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data.augment import Grey, GreyChange, value_range, warm_up
from elektronn_tui.errors import DataError


def change(contrast, brightness, gamma):
    values = (np.atleast_1d(np.asarray(v, np.float64)) for v in (contrast, brightness, gamma))
    return GreyChange(*values, changed=np.ones(len(np.atleast_1d(contrast)), bool))


@given(contrast=st.floats(0, 3), brightness=st.floats(-1, 1), gamma=st.floats(0.05, 20))
@settings(max_examples=200, deadline=None)
def test_the_formula_in_place(contrast, brightness, gamma):
    values = np.linspace(-0.5, 1.5, 1013, dtype=np.float32).reshape(1, 1, 1013)
    expected = np.clip(contrast * values.astype(np.float64) + brightness, 0, 1) ** gamma
    change(contrast, brightness, gamma).apply(values)
    # Steep where gamma is small and the value near 0: there float32 input alone makes an error.
    near = np.abs(values - expected)
    assert near[expected > 0.1].max(initial=0) < 1e-5
    assert near.max() < 0.02 + (0.3 if gamma < 0.2 else 0)


def test_ends_of_the_range_stay_what_they_are():
    for gamma in (0.05, 0.5, 1.0, 2.0, 20.0):
        values = np.array([[0.0, 1.0, 2.0, -1.0]], np.float32)
        change(1, 0, gamma).apply(values)
        np.testing.assert_allclose(values, [[0, 1, 1, 0]], atol=0.02 if gamma < 0.5 else 1e-6)
    values = np.linspace(0, 1, 256, dtype=np.float32)[None]
    kept = values.copy()
    change(1, 0, 1).apply(values)
    np.testing.assert_allclose(values, kept, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (3, 3, 5, 7), (3, 1, 6, 6), (3, 6, 6)])
def test_each_channel_has_its_own_change(shape):
    rng = np.random.default_rng(0)
    raw = rng.random(shape, dtype=np.float32)
    drawn = Grey().draw(rng, shape[0])
    expected = np.stack(
        [
            np.clip(a * x + c, 0, 1) ** g
            for x, a, c, g in zip(raw, drawn.contrast, drawn.brightness, drawn.gamma, strict=True)
        ]
    )
    drawn.apply(raw)
    np.testing.assert_allclose(raw, expected, atol=1e-5)
    assert len(set(drawn.contrast)) == len(set(drawn.gamma)) == shape[0]


def test_only_the_chosen_channels_change():
    rng = np.random.default_rng(1)
    raw = rng.random((3, 2, 4, 4), dtype=np.float32)
    before = raw.copy()
    Grey(channels=(1,)).apply(raw, rng)
    np.testing.assert_array_equal(raw[[0, 2]], before[[0, 2]])
    assert (raw[1] != before[1]).any()
    Grey(channels=()).apply(before, rng)
    np.testing.assert_array_equal(raw[0], before[0])
    with pytest.raises(DataError, match="channels"):
        Grey(channels=(3,)).apply(raw, rng)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_scaled_values_change_as_their_stored_ones_would(dtype):
    low, high = value_range(dtype)
    stored = np.linspace(low, high, 999).astype(dtype)
    scale, shift = 1 / (0.17 * (high - low)), -0.6
    raw = (stored * scale + shift).astype(np.float32)[None]
    drawn = change(1.1, -0.07, 1.4)
    drawn.apply(raw, scale=scale, shift=shift, limits=(low, high))
    unit = np.clip(1.1 * (stored.astype(np.float64) - low) / (high - low) - 0.07, 0, 1) ** 1.4
    np.testing.assert_allclose(raw[0], (low + unit * (high - low)) * scale + shift, atol=1e-4)


def test_the_table_for_uint8_says_the_same():
    drawn = Grey(channels=(0, 1)).draw(np.random.default_rng(2), 3)
    stored = np.random.default_rng(3).integers(0, 256, (3, 2, 9, 9), dtype=np.uint8)
    scale, shift = np.array([1 / 40, 1 / 60, 1 / 255]), np.array([-3, -2, 0])
    table = drawn.table(scale=scale, shift=shift)
    looked_up = np.stack([table[c][stored[c]] for c in range(3)])
    raw = (stored * scale[:, None, None, None] + shift[:, None, None, None]).astype(np.float32)
    drawn.apply(raw, scale=scale, shift=shift, limits=value_range(np.uint8))
    np.testing.assert_allclose(raw, looked_up, atol=2e-4)


def test_parameters_fill_their_ranges():
    rng = np.random.default_rng(4)
    drawn = [Grey().draw(rng, 3) for _ in range(1000)]
    for name, low, high in (("contrast", 0.85, 1.15), ("brightness", -0.15, 0.15)):
        values = np.concatenate([getattr(one, name) for one in drawn])
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.03 * (high - low)
    powers = np.log2(np.concatenate([one.gamma for one in drawn]))
    assert -1 <= powers.min() < -0.98
    assert 0.98 < powers.max() <= 1
    assert abs(powers.mean()) < 0.05


def test_one_number_stands_for_a_symmetric_range():
    assert Grey(contrast=0.2, brightness=0.1, gamma=2) == Grey((0.8, 1.2), (-0.1, 0.1), (0.5, 2.0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("contrast", -1),
        ("contrast", (1, 0.5)),
        ("brightness", 2),
        ("brightness", "dark"),
        ("gamma", 0),
        ("gamma", (0, 1)),
        ("gamma", float("nan")),
        ("channels", (-1,)),
        ("channels", 1),
    ],
)
def test_a_wrong_field_is_named(field, value):
    with pytest.raises(DataError, match=field):
        Grey(**{field: value})


@pytest.mark.parametrize(
    "raw", [np.zeros((1, 4)), np.zeros((2, 4), np.float32), np.zeros((1, 4, 4), np.float32)[..., ::2]]
)
def test_patches_that_cannot_be_changed_in_place_are_refused(raw):
    with pytest.raises(DataError, match="grey"):
        change(1, 0, 1).apply(raw)


def test_warm_up_runs():
    warm_up()

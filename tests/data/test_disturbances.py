"""Blur, noise and blobs: what they do to values, how much of it, in which range, for images and volumes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from elektronn_tui.data import Blobs, Blur, Noise
from elektronn_tui.data.disturbances import smooth
from elektronn_tui.errors import DataError

SHAPES = [(1, 12, 30, 40), (3, 12, 30, 40), (1, 1, 40, 30), (3, 1, 40, 30)]
BYTES = {"scale": 1 / 50, "shift": -2.0, "limits": (0.0, 255.0)}
BLACK, WHITE = -2.0, 255 / 50 - 2


def patch(shape, seed=0):
    """Return a patch of values from black to white."""
    return (np.random.default_rng(seed).random(shape, np.float32) * (WHITE - BLACK) + BLACK).astype(np.float32)


@pytest.mark.parametrize("sigma", [(1.0, 1.0, 1.0), (0.4, 2.0, 3.1), (0.0, 1.5, 0.0), (9.0, 0.0, 0.1), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("shape", [(7, 9, 11), (1, 33, 20), (5, 1, 1)])
def test_the_blur_is_that_of_scipy(shape, sigma):
    values = np.random.default_rng(0).random(shape, np.float32)
    expected = gaussian_filter(values.astype(np.float64), sigma, mode="nearest")
    smooth(values, sigma)
    np.testing.assert_allclose(values, expected, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_as_wide_as_it_says_and_narrower_in_z(shape):
    raw = patch(shape)
    expected = [gaussian_filter(c, (0.5, 1.5, 1.5), mode="nearest") for c in raw]
    Blur(sigma=1.5, anisotropy=3).apply(raw, np.random.default_rng(0), **BYTES)
    np.testing.assert_allclose(raw, expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_sigma_is_drawn_from_its_range(shape):
    left = []
    for seed in range(20):
        raw = patch(shape)
        before = raw.std()
        Blur(sigma=(0.5, 2.0)).apply(raw, np.random.default_rng(seed), **BYTES)
        left.append(float(raw.std() / before))
    assert max(left) < 0.9
    assert max(left) - min(left) > 0.2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "deviation"), [("gaussian", 0.1), ("uniform", 0.1 / np.sqrt(12)), ("poisson", 0.1)])
def test_noise_has_its_strength_in_parts_of_the_range(shape, kind, deviation):
    raw = np.full(shape, WHITE, np.float32)
    Noise(level=0.1, kinds=kind, clip=False).apply(raw, np.random.default_rng(1), **BYTES)
    noise = (raw - WHITE) / (WHITE - BLACK)
    assert abs(noise.mean()) < 5 * deviation / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(deviation, rel=0.1)
    assert len(np.unique(noise)) > 0.9 * noise.size  # each voxel and channel for itself
    if kind == "uniform":
        assert abs(noise).max() <= 0.0501


def test_poisson_noise_grows_with_the_root_of_the_value():
    raw = np.stack([np.full((8, 64, 64), BLACK + part * (WHITE - BLACK), np.float32) for part in (0, 0.25, 1)])
    before = raw.copy()
    Noise(level=0.1, kinds="poisson", clip=False).apply(raw, np.random.default_rng(1), **BYTES)
    black, grey, white = ((raw - before) / (WHITE - BLACK)).std((1, 2, 3))
    assert black == 0
    assert grey == pytest.approx(0.05, rel=0.05)
    assert white == pytest.approx(0.1, rel=0.05)


def test_noise_keeps_to_the_range_and_takes_its_kinds_in_turn():
    raw = patch((1, 4, 20, 20))
    Noise(level=1.0).apply(raw, np.random.default_rng(0), **BYTES)
    assert raw.min() >= BLACK - 1e-5
    assert raw.max() <= WHITE + 1e-5
    spread = set()
    for seed in range(30):
        raw = np.full((1, 4, 20, 20), BLACK, np.float32)
        Noise(level=0.5, clip=False).apply(raw, np.random.default_rng(seed), **BYTES)
        spread.add(round(float(raw.std()) / (WHITE - BLACK), 1))
    assert spread == {0.0, 0.1, 0.5}  # Poisson at black, uniform, Gaussian


@pytest.mark.parametrize("channels", [1, 3])
def test_the_erased_fraction_is_as_expected(channels):
    fractions = []
    for seed in range(300):
        raw = np.zeros((channels, 16, 64, 64), np.float32)
        blobs = Blobs(number=1, size=(8, 16), fillings="constant", value=1.0, anisotropy=2)
        blobs.apply(raw, np.random.default_rng(seed), **BYTES)
        erased = raw != 0
        assert (erased == erased[:1]).all()  # the same in all channels
        np.testing.assert_allclose(raw[erased], WHITE, rtol=1e-5)
        fractions.append(erased[0].mean())
    expected = np.mean([round(n / 2) * n * n for n in range(8, 17)]) / (16 * 64 * 64)
    assert np.mean(fractions) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("filling", ["blur", "noise", "constant"])
def test_blobs_larger_than_the_patch_are_made_smaller_and_all_are_drawn(shape, filling):
    raw = patch(shape)
    before = raw.copy()
    Blobs(number=3, size=1000, fillings=filling).apply(raw, np.random.default_rng(0), **BYTES)
    changed = (raw != before).any(0)
    whole = np.prod([max(n - 2, 1) for n in shape[1:]])
    assert whole * 0.98 < changed.sum() < np.prod(shape[1:])
    assert raw.min() >= BLACK - 1e-5
    assert raw.max() <= WHITE + 1e-5


def test_blobs_lie_anywhere_and_do_what_they_say():
    hit = np.zeros((8, 40, 40))
    for seed in range(400):
        raw = np.zeros((1, 8, 40, 40), np.float32)
        Blobs(number=2, size=6, fillings="constant", value=1.0).apply(raw, np.random.default_rng(seed))
        hit += raw[0]
    assert all(hit.take(end, axis).any() for axis in range(3) for end in (0, -1))
    raw = patch((1, 8, 40, 40))
    deviation = raw.std()
    Blobs(number=1, size=30, fillings="blur", sigma=3.0).apply(raw, np.random.default_rng(0), **BYTES)
    assert raw.std() < 0.9 * deviation
    raw = np.full((2, 8, 40, 40), 9.0, np.float32)
    Blobs(number=1, size=20, fillings="noise").apply(raw, np.random.default_rng(0), **BYTES)
    erased = raw[raw != 9]
    assert erased.mean() == pytest.approx((BLACK + WHITE) / 2, abs=0.1)
    assert erased.std() == pytest.approx((WHITE - BLACK) / np.sqrt(12), rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blur(sigma=-1), "Blur: sigma=-1"),
        (lambda: Blur(sigma=(2, 1)), r"sigma=\(2, 1\); a number or a range \(low, high\) within 0 and 50"),
        (lambda: Blur(sigma="wide"), "sigma='wide'"),
        (lambda: Blur(sigma=float("nan")), "sigma=nan"),
        (lambda: Blur(anisotropy=0), "anisotropy=0; a number from 0.01 to 100"),
        (lambda: Noise(level=(0, 2)), r"Noise: level=\(0, 2\)"),
        (lambda: Noise(kinds="gausian"), "Did you mean 'gaussian'"),
        (lambda: Noise(kinds=()), "one or more of gaussian, uniform, poisson"),
        (lambda: Noise(clip="no"), "Noise: clip='no'; true or false"),
        (lambda: Blobs(number=1.5), "Blobs: number=1.5"),
        (lambda: Blobs(number=(3, 2)), r"number=\(3, 2\); a whole number or two"),
        (lambda: Blobs(size=0), "size=0"),
        (lambda: Blobs(fillings=3), "fillings=3"),
        (lambda: Blobs(value=(0, 255)), r"value=\(0, 255\)"),
    ],
)
def test_a_wrong_field_is_named(make, message):
    with pytest.raises(DataError, match=message):
        make()

"""Defects of single sections: which change, how, and that the others don't."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from elektronn_tui.data import Defocus, Faint, Flicker, Missing
from elektronn_tui.errors import DataError

BYTES = {"scale": 1 / 50, "shift": -2.0, "limits": (0.0, 255.0)}
BLACK, WHITE = -2.0, 255 / 50 - 2


def patch(channels=1, depth=10):
    rng = np.random.default_rng(0)
    return (rng.uniform(0.3, 0.7, (channels, depth, 24, 20)) * (WHITE - BLACK) + BLACK).astype(np.float32)


def changed(defect, raw, seed=0):
    """Apply it; return the sections that changed, and the patch as it was."""
    before = raw.copy()
    defect.apply(raw, np.random.default_rng(seed), **BYTES)
    return np.flatnonzero((raw != before).any((0, 2, 3))), before


@pytest.mark.parametrize("kind", [Missing, Faint, Defocus])
@pytest.mark.parametrize("channels", [1, 3])
def test_as_many_sections_change_as_it_says_each_as_often(kind, channels):
    counts, where = set(), set()
    for seed in range(60):
        raw = patch(channels)
        sections, before = changed(kind(number=(1, 3)), raw, seed)
        counts.add(len(sections))
        where.update(sections.tolist())
        assert (raw[:, sections] != before[:, sections]).any((1, 2, 3)).all()
    assert counts == {1, 2, 3}
    assert where == set(range(10))


@pytest.mark.parametrize("kind", [Missing, Faint, Defocus])
def test_one_section_always_stays(kind):
    assert len(changed(kind(number=50), patch(depth=4))[0]) == 3
    assert len(changed(kind(), patch(depth=1))[0]) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_missing_sections_hold_one_value_of_the_range(channels):
    raw = patch(channels)
    sections, _ = changed(Missing(number=2), raw)
    np.testing.assert_allclose(raw[:, sections], BLACK, atol=1e-6)
    raw = patch(channels)
    sections, _ = changed(Missing(number=3, value=(0.5, 1.0)), raw)
    values = [np.unique(raw[:, z]) for z in sections]
    assert all(len(found) == 1 for found in values)
    assert len({float(found[0]) for found in values}) == 3
    assert min(values) >= (BLACK + WHITE) / 2


@pytest.mark.parametrize("channels", [1, 3])
def test_faint_sections_lose_contrast_about_their_mean(channels):
    raw = patch(channels)
    sections, before = changed(Faint(number=1, contrast=0.25, brightness=-0.1), raw)
    now, was = raw[:, sections[0]], before[:, sections[0]]
    np.testing.assert_allclose(now.std((1, 2)), 0.25 * was.std((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(now.mean((1, 2)), was.mean((1, 2)) - 0.1 * (WHITE - BLACK), rtol=1e-4)
    changed(Faint(number=9, contrast=1.0, brightness=-1.0), raw)
    assert raw.min() >= BLACK - 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_defocus_blurs_within_the_section_alone(channels):
    raw = patch(channels)
    sections, before = changed(Defocus(number=1, sigma=2.0), raw)
    expected = [gaussian_filter(c[sections[0]], 2.0, mode="nearest") for c in before]
    np.testing.assert_allclose(raw[:, sections[0]], expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_flicker_gives_each_section_and_channel_its_own_change(channels):
    raw = np.full((channels, 10, 8, 8), (BLACK + WHITE) / 2, np.float32)
    changed(Flicker(contrast=0.0, brightness=(-0.1, 0.1), gamma=1.0), raw)
    levels = (raw[:, :, 0, 0] - BLACK) / (WHITE - BLACK)
    assert (raw == raw[:, :, :1, :1]).all()
    assert len(np.unique(levels)) == levels.size
    assert abs(levels - 0.5).max() < 0.1 + 1e-4
    assert levels.std() > 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Missing(number=0), "Missing: number=0; a whole number or two"),
        (lambda: Missing(value=2), "Missing: value=2"),
        (lambda: Faint(contrast=(0.5, 1.5)), r"Faint: contrast=\(0.5, 1.5\)"),
        (lambda: Defocus(sigma=None), "Defocus: sigma=None"),
        (lambda: Flicker(contrast=(2, 1)), "flicker: contrast must be a range"),
    ],
)
def test_a_wrong_field_is_named(make, message):
    with pytest.raises(DataError, match=message):
        make()

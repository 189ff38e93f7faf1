"""The figures of the demo volume are those of real tissue, and they are measured as they were there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from elektronn_tui.data._demo_statistics import TissueStatistics, boundary_mask, tissue_statistics, white_noise
from elektronn_tui.data.demo import DemoVolume, demo_volume

# Of FIB-25 (10 nm isotropic) and of a Drosophila larva's nerve cord in ssTEM (50 x 4 x 4 nm).
FIB_SEM = {
    "mean": (131, 131),
    "sd": (33, 33),
    "white_noise": (3.7, 3.7),
    "slice_jitter": (4.6, 4.6),
    "slice_correlation": (0.94, 0.94),
    "boundary_fraction": (0.12, 0.12),
    "boundary_grey": (99, 99),
    "boundary_sd": (12, 12),
    "cytoplasm_grey": (135, 135),
    "cytoplasm_sd": (33, 33),
    "segments": (37, 37),
}
SSTEM = {
    "mean": (126, 126),
    "sd": (44, 44),
    "white_noise": (6.9, 6.9),
    "slice_jitter": (9.8, 9.8),
    "slice_correlation": (0.21, 0.33),
    "boundary_fraction": (0.17, 0.22),
    "boundary_grey": (85, 85),
    "boundary_sd": (33, 33),
    "cytoplasm_grey": (141, 141),
    "cytoplasm_sd": (38, 38),
    "mitochondria_fraction": (0.05, 0.05),
    "mitochondria_grey": (87, 87),
    "mitochondria_sd": (32, 32),
    "segments": (27, 27),
}
# The lowest FIB-SEM percentile rounds to 0.000 µm².
SECTIONS = {False: (None, 0.018, 0.289), True: (0.003, 0.014, 0.094)}
SEEDS = (0, 1, 2)


@pytest.fixture(scope="session")
def made() -> Callable[[int, bool], DemoVolume]:
    """Make each volume once."""
    return functools.cache(lambda seed, anisotropic: demo_volume(seed=seed, anisotropic=anisotropic, cache=False))


@pytest.fixture(scope="session", params=[(a, s) for a in (False, True) for s in SEEDS], ids=str)
def measured(request: pytest.FixtureRequest, made: Callable[[int, bool], DemoVolume]) -> tuple[bool, TissueStatistics]:
    anisotropic, seed = request.param
    volume = made(seed, anisotropic)
    return anisotropic, tissue_statistics(volume.raw, volume.ids, volume.voxel_size, volume.mitochondria)


def within_a_fifth(value: float, low: float, high: float) -> bool:
    return 0.8 * low <= value <= 1.2 * high


def test_figures_are_those_of_real_tissue(measured: tuple[bool, TissueStatistics]) -> None:
    anisotropic, found = measured
    wanted = SSTEM if anisotropic else FIB_SEM
    wrong = {
        name: (getattr(found, name), limits)
        for name, limits in wanted.items()
        if not within_a_fifth(getattr(found, name), *limits)
    }
    assert not wrong


def test_cells_have_the_sizes_of_real_ones(measured: tuple[bool, TissueStatistics]) -> None:
    anisotropic, found = measured
    for value, wanted in zip(found.sections, SECTIONS[anisotropic], strict=True):
        if wanted is None:
            assert round(value, 3) == 0
        else:
            # The references were rounded to 0.001.
            assert 0.8 * (wanted - 0.0005) <= value <= 1.2 * (wanted + 0.0005)


def test_mitochondria_are_dark_and_inside_cells(made: Callable[[int, bool], DemoVolume]) -> None:
    volume = made(0, False)
    inside = volume.mitochondria == 1
    assert 0.05 < inside.mean() < 0.15
    assert volume.raw[inside].mean() < volume.raw[~inside].mean() - 30
    edge = boundary_mask(volume.ids, volume.voxel_size)
    assert (inside & edge).sum() < 0.03 * inside.sum()


def test_membranes_lie_where_the_ids_change(made: Callable[[int, bool], DemoVolume]) -> None:
    volume = made(0, False)
    edge = boundary_mask(volume.ids, volume.voxel_size)
    inner = ~edge & (volume.mitochondria == 0)
    assert volume.raw[edge].mean() < volume.raw[inner].mean() - 30
    # Slice by slice: no drift between raw and ids.
    for k in (0, 31, 63):
        assert volume.raw[k][edge[k]].mean() < volume.raw[k][inner[k]].mean() - 20


def test_measuring_white_noise() -> None:
    rng = np.random.default_rng(0)
    smooth = 100 + 40 * np.sin(np.arange(64) / 9.0)[None, :, None] * np.ones((4, 64, 64))
    assert white_noise(smooth + 5 * rng.standard_normal(smooth.shape)) == pytest.approx(5, rel=0.05)


def test_measuring_boundaries_and_sections() -> None:
    ids = np.ones((4, 10, 20), np.uint32)
    ids[:, :, 10:] = 2
    ids[2:, :5, 10:] = 3
    raw = np.where(boundary_mask(ids, (10, 10, 10)), 50, 150).astype(np.uint8)
    assert boundary_mask(ids, (10, 10, 10))[0].any(axis=0).nonzero()[0].tolist() == [9, 10]
    assert boundary_mask(ids, (50, 4, 4))[0].any(axis=0).nonzero()[0].tolist() == [7, 8, 9, 10, 11, 12]
    found = tissue_statistics(raw, ids, (10, 10, 10))
    assert (found.boundary_grey, found.cytoplasm_grey) == (50, 150)
    assert found.segments == pytest.approx(3 / (800 * 1e-6))
    areas = [100, 100, 100, 100, 100, 50, 50, 100, 50, 50]
    assert found.sections == pytest.approx(tuple(np.percentile(areas, [10, 50, 90]) * 1e-4))


def test_thick_sections_count_mitochondria_apart() -> None:
    raw = np.full((2, 8, 8), 100, np.uint8)
    mitochondria = np.zeros(raw.shape, np.uint8)
    mitochondria[:, :2] = 1
    raw[mitochondria == 1] = 20
    ids = np.ones(raw.shape, np.uint32)
    thick = tissue_statistics(raw, ids, (50, 4, 4), mitochondria)
    assert (thick.cytoplasm_grey, thick.mitochondria_grey, thick.mitochondria_fraction) == (100, 20, 0.25)
    assert tissue_statistics(raw, ids, (10, 10, 10), mitochondria).cytoplasm_grey == 80


def test_the_real_volume_measures_as_was_written_down(shared_data: Path) -> None:
    with h5py.File(shared_data / "fib25" / "fib25_dev.h5") as file:
        found = tissue_statistics(file["raw"][:], file["lab"][:], (10, 10, 10))
    for name, (low, _) in FIB_SEM.items():
        assert getattr(found, name) == pytest.approx(low, rel=0.04), name
    assert found.sections == pytest.approx((0.0005, 0.0185, 0.266), abs=6e-4)

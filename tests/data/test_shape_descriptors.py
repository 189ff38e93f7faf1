from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elektronn_tui.data import (
    ArraySource,
    AugmentSettings,
    Geometry,
    Pair,
    Patches,
    ShapeDescriptorSource,
    local_shape_descriptors,
)
from elektronn_tui.errors import DataError


def brute(ids: np.ndarray, sigma: np.ndarray, size: np.ndarray, axes: list[int]) -> np.ndarray:
    """Each voxel's statistics, over all voxels of its segment within 3 standard deviations along every axis."""
    places = np.argwhere(np.ones(ids.shape, bool))
    whole = [np.arange(-np.ceil(3 * s / v), np.ceil(3 * s / v) + 1) * v for s, v in zip(sigma, size, strict=True)]
    norm = np.prod([np.exp(-((whole[a] / sigma[a]) ** 2) / 2).sum() for a in axes])
    out = np.full((10 if len(axes) == 3 else 6, *ids.shape), np.nan)
    for p in places:
        if ids[tuple(p)] <= 0:
            continue
        offset = (places - p) * size
        near = (np.abs(places - p)[:, axes] <= np.ceil(3 * sigma / size - 1e-6)[axes]).all(1)
        near &= ids[tuple(places.T)] == ids[tuple(p)]
        near &= (len(axes) == 3) | (places[:, 0] == p[0])
        offset = offset[near][:, axes]
        weight = np.exp(-((offset / sigma[axes]) ** 2).sum(1) / 2)
        mean = (weight[:, None] * offset).sum(0) / weight.sum()
        cov = (weight[:, None, None] * (offset - mean)[:, :, None] * (offset - mean)[:, None]).sum(0) / weight.sum()
        variance = np.maximum(np.diag(cov), 1e-3)
        pearson = [cov[i, j] / np.sqrt(variance[i] * variance[j]) for i, j in combinations(range(len(axes)), 2)]
        values = [
            *(mean / sigma[axes] / 2 + 0.5),
            *(variance / sigma[axes] ** 2),
            *(np.array(pearson) / 2 + 0.5),
            weight.sum() / norm,
        ]
        out[(slice(None), *p)] = np.clip(values, 0, 1)
    return out


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    sigma=st.sampled_from([(1.0, 1.0, 1.0), (40.0, 20.0, 25.0), (2.0, 1.3, 4.0)]),
    dims=st.sampled_from([2, 3]),
)
def test_descriptors_are_the_statistics_of_the_segment_around(seed: int, shape: tuple, sigma: tuple, dims: int) -> None:
    ids = np.random.default_rng(seed).integers(-1, 3, shape)
    size = (30.0, 10.0, 10.0) if sigma[0] == 40 else (1.0, 1.0, 1.0)
    found = local_shape_descriptors(ids, sigma, voxel_size=size, dims=dims)  # type: ignore[arg-type]
    wanted = brute(ids, np.array(sigma), np.array(size), [0, 1, 2] if dims == 3 else [1, 2])
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert found.shape == ((10 if dims == 3 else 6), *shape)


def test_what_the_channels_say() -> None:
    ids = np.zeros((21, 21, 41), int)
    ids[10, 10, :] = 5  # a line along x
    d = local_shape_descriptors(ids, 3, background="boundary")
    middle = d[:, 10, 10, 20]
    np.testing.assert_allclose(middle[:3], 0.5, atol=1e-5)
    assert middle[5] > 0.9
    assert (middle[3:5] < 0.01).all()
    assert d[2, 10, 10, 0] > 0.8  # the rest lies on the higher side
    assert d[2, 10, 10, 40] < 0.2
    assert not d[:, 0, 0, 0].any()
    full = local_shape_descriptors(np.ones((25, 25, 25), int), 3)[:, 12, 12, 12]
    assert full[9] == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(full[:3], 0.5, atol=1e-4)
    diagonal = np.zeros((1, 31, 31), int)
    diagonal[0, np.arange(31), np.arange(31)] = 1
    assert local_shape_descriptors(diagonal, 3, dims=2)[4, 0, 15, 15] == pytest.approx(1, abs=1e-3)


def test_background() -> None:
    ids = np.array([[[0, 0, 7, -1]]])
    assert np.isfinite(local_shape_descriptors(ids, 1)[9, 0, 0]).tolist() == [False, False, True, False]
    objects = local_shape_descriptors(ids, 1, background="object")
    assert np.isfinite(objects[9, 0, 0]).tolist() == [True, True, True, False]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), dims=st.sampled_from([2, 3]))
def test_boxes_of_a_source_are_those_of_the_whole(data: st.DataObject, dims: int) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 14)] * 3))
    lo = [data.draw(st.integers(0, n - 1)) for n in shape]
    hi = [data.draw(st.integers(l + 1, n)) for l, n in zip(lo, shape, strict=True)]
    ids = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 3, shape)
    source = ShapeDescriptorSource(ArraySource(ids, voxel_size=(2, 1, 1)), 1.0, dims=dims)  # type: ignore[arg-type]
    whole = local_shape_descriptors(ids, 1.0, voxel_size=(2, 1, 1), dims=dims)  # type: ignore[arg-type]
    box = source.read(lo, hi)
    assert (box.dtype, len(box)) == (source.dtype, source.channels)
    np.testing.assert_allclose(box, whole[(slice(None), *map(slice, lo, hi))], atol=1e-4)


def test_they_are_targets_of_patches() -> None:
    ids = np.random.default_rng(0).integers(1, 4, (5, 6, 6)).repeat(4, 0).repeat(5, 1).repeat(5, 2)
    geometry = Geometry((4, 9, 9), (2, 3, 3), (1, 3, 3))
    patches = Patches([Pair(np.zeros(ids.shape, np.uint8), ShapeDescriptorSource(ids, 1.0))], geometry, seed=0)
    patches.warm_up()
    whole = local_shape_descriptors(ids, 1.0)
    for i in range(5):
        example = patches.example(i, AugmentSettings())
        assert example.target.dtype == np.float32
        wanted = whole[(slice(None), *geometry.target_slices(example.position))]
        np.testing.assert_allclose(example.target, wanted, atol=1e-4)
        warped = patches.example(i, AugmentSettings(warp=1.0)).target
        assert warped.min() >= 0
        assert warped.max() <= 1


def test_what_makes_no_sense() -> None:
    ids = np.ones((2, 2, 2), int)
    for options, message in (
        ({"sigma": 0}, "sigma=0"),
        ({"sigma": (1, 2)}, "sigma"),
        ({"sigma": 1, "dims": 4}, "dims=4"),
        ({"sigma": 1, "voxel_size": (1, 0, 1)}, "voxel_size"),
        ({"sigma": 1, "background": "ignor"}, "Did you mean 'ignore'"),
    ):
        with pytest.raises(DataError, match=message):
            local_shape_descriptors(ids, **options)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=message):
            ShapeDescriptorSource(ids, **options)  # type: ignore[arg-type]

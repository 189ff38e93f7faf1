from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from elektronn_tui.data import ArraySource, AugmentSettings, DistanceSource, Geometry, Pair, Patches, Warp, distances
from elektronn_tui.data.distance import distances_to
from elektronn_tui.data.labels import boundaries
from elektronn_tui.errors import DataError

small = st.tuples(*[st.integers(1, 9)] * 3)
sizes = st.sampled_from([(1.0, 1.0, 1.0), (30.0, 6.0, 6.0), (1.0, 2.5, 0.7)])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), shape=small, size=sizes, reach=st.floats(0.5, 40))
def test_distances_in_reach_are_those_of_scipy(seed: int, shape: tuple, size: tuple, reach: float) -> None:
    rng = np.random.default_rng(seed)
    marked = rng.random(shape) < 0.1
    marked[tuple(rng.integers(0, shape))] = True
    exact = distance_transform_edt(~marked, size)
    length, step = distances_to(marked, reach, size, vectors=True)
    assert np.array_equal(distances_to(marked, reach, size)[0], length)
    near = np.isfinite(length)
    assert near[exact < reach * 0.999].all()
    assert not near[exact > reach * 1.001].any()
    np.testing.assert_allclose(length[near], exact[near], rtol=1e-5)
    for p in np.argwhere(near):
        way = step[tuple(p)]
        assert marked[tuple(p + way)]
        assert np.linalg.norm(way * size) == pytest.approx(exact[tuple(p)], rel=1e-5)


def cells(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 5, [n // 6 + 1 for n in shape])
    return blocks.repeat(6, 0).repeat(6, 1).repeat(6, 2)[: shape[0], : shape[1], : shape[2]]


@pytest.mark.parametrize("squash", ["tanh", "clip"])
def test_distances_have_a_sign_a_scale_and_a_voxel_size(squash: str) -> None:
    ids, size = cells(0, (14, 20, 20)), (3.0, 1.0, 1.5)
    walls = boundaries(ids, 2).astype(bool)
    apply = np.tanh if squash == "tanh" else lambda v: np.clip(v, -1, 1)
    outside, inside = distance_transform_edt(~walls, size), distance_transform_edt(walls, size)
    signed = distances(ids, 4.0, voxel_size=size, squash=squash)  # type: ignore[arg-type]
    unsigned = distances(ids, 4.0, kind="unsigned", voxel_size=size, squash=squash)  # type: ignore[arg-type]
    np.testing.assert_allclose(signed[0], apply((outside - inside) / 4), atol=0.005)
    np.testing.assert_allclose(unsigned[0], apply(outside / 4), atol=0.005)
    vectors = distances(ids, 4.0, kind="vector", voxel_size=size, squash=squash)  # type: ignore[arg-type]
    known = np.isfinite(vectors).all(0)
    np.testing.assert_array_equal(known, outside <= (12 if squash == "tanh" else 4))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0)[known], unsigned[0][known], rtol=1e-5, atol=1e-6)


def test_a_vector_leads_to_the_boundary() -> None:
    ids = np.ones((9, 9, 9), int)
    ids[:, :, 6:] = 2
    vectors = distances(ids, 10, kind="vector", squash="clip")
    np.testing.assert_allclose(vectors[2][4, 4], [0.5, 0.4, 0.3, 0.2, 0.1, 0, 0, -0.1, -0.2], atol=1e-6)
    assert not vectors[:2].any()


def test_unknown_voxels_are_no_boundary_and_no_target() -> None:
    ids = np.array([[[3, 3, 3, -1, -1, 3, 0, 0, 3, 3]]])
    line = distances(ids, 10, squash="clip", thickness=(0, 0, 2), background="ignore")[0, 0, 0]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(line)), [3, 4, 6, 7])
    np.testing.assert_array_equal(line[[0, 1, 2, 5]], 1)
    line = distances(ids, 10, squash="clip", thickness=(0, 0, 2), background="boundary")[0, 0, 0]
    np.testing.assert_allclose(line[9], 0.1)
    assert (line[5:9] < 0).all()
    line = distances(ids, 10, squash="clip", thickness=(0, 0, 2))[0, 0, 0]
    assert (line[[5, 6]] < 0).all()
    assert np.isnan(line[[3, 4]]).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["signed", "unsigned", "vector"]), squash=st.sampled_from(["tanh", "clip"]))
def test_boxes_of_a_source_are_those_of_the_whole(data: st.DataObject, kind: str, squash: str) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 16)] * 3))
    lo = [data.draw(st.integers(0, n - 1)) for n in shape]
    hi = [data.draw(st.integers(l + 1, n)) for l, n in zip(lo, shape, strict=True)]
    ids = cells(data.draw(st.integers(0, 99)), shape)
    scale = data.draw(st.sampled_from([1.0, 2.0, 3.3]))
    options = {"kind": kind, "squash": squash, "thickness": (1, 2, 3)}
    source = DistanceSource(ArraySource(ids, voxel_size=(2, 1, 1)), scale, **options)  # type: ignore[arg-type]
    whole = distances(ids, scale, voxel_size=(2, 1, 1), **options)  # type: ignore[arg-type]
    box = source.read(lo, hi)
    assert (box.dtype, len(box)) == (source.dtype, source.channels)
    np.testing.assert_array_equal(box, whole[(slice(None), *map(slice, lo, hi))])


@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 2)])
def test_patches_that_are_not_warped_are_cut_from_the_whole(strides: tuple[int, int, int]) -> None:
    ids = cells(3, (30, 40, 40)) + 1
    width = 3 * strides[1] + 7
    geometry = Geometry((5, width, width), (3, 4, 4), (1, 3, 3), strides)
    source = DistanceSource(ids, 2.0, kind="vector")
    patches = Patches([Pair(np.zeros(ids.shape, np.uint8), source)], geometry, seed=0)
    patches.warm_up()
    whole = distances(ids, 2.0, kind="vector")
    for i in range(10):
        example = patches.example(i, AugmentSettings())
        wanted = whole[(slice(None), *geometry.target_slices(example.position))]
        np.testing.assert_array_equal(example.mask, np.isfinite(wanted))
        np.testing.assert_array_equal(example.target, np.nan_to_num(wanted))


def test_distances_of_warped_patches_are_those_in_the_patch() -> None:
    ids = cells(1, (60, 60, 60)) + 1
    geometry, wide = Geometry((9, 21, 21), (3, 9, 9), (3, 6, 6)), Geometry((9, 21, 21), (9, 21, 21))
    warp = AugmentSettings(warp=1.0, warp_args=Warp(lock_z=False))
    raw = np.zeros(ids.shape, np.uint8)
    target = Patches([Pair(raw, DistanceSource(ids, 2.0, squash="clip", thickness=2))], geometry, seed=2)
    labels = Patches([Pair(raw, ids)], wide, seed=2)
    for i in range(8):
        example = target.example(i, warp)
        _, dense, _ = labels.reader.empty(1)
        labels.reader.read(labels.pairs[0], example.matrix, np.empty((1, 9, 21, 21), np.float32), dense[0], None)
        wanted = distances(dense[0, 0], 2.0, squash="clip")[:, 3:-3, 6:-6, 6:-6]
        assert example.target.dtype == np.float32
        np.testing.assert_array_equal(example.target, wanted)


def test_what_makes_no_sense() -> None:
    ids = np.zeros((2, 2, 2), int)
    for options, message in (
        ({"scale": 0}, "scale=0"),
        ({"scale": 1, "kind": "singed"}, "Did you mean 'signed'"),
        ({"scale": 1, "squash": "sqrt"}, "tanh, clip"),
        ({"scale": 1, "background": "class"}, "background='class'"),
        ({"scale": 1, "voxel_size": (1, 0, 1)}, "voxel_size"),
        ({"scale": 1, "thickness": 0}, "thickness"),
    ):
        with pytest.raises(DataError, match=message):
            distances(ids, **options)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=message):
            DistanceSource(ids, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="ids are integers"):
        distances(ids.astype(float), 1)

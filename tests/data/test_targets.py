"""Targets that turn with the patch, that say one thing of a whole patch, and classes that weren't labelled."""

from __future__ import annotations

import numpy as np
import pytest

from elektronn_tui.data import (
    ArraySource,
    AugmentSettings,
    ContentMap,
    Geometry,
    Pair,
    Patches,
    Selection,
    Warp,
    validation_examples,
)
from elektronn_tui.errors import DataError

PLAIN = AugmentSettings()
TURNED = AugmentSettings(1.0, Warp(rotation=180, tilt=20, lock_z=False, scale=0.2, shear=0.1, anisotropy=2.5))
GEOMETRY = Geometry((5, 11, 11), (3, 7, 7), (1, 2, 2))
RAW = np.random.default_rng(0).integers(0, 256, (30, 60, 60), np.uint8)


def coordinates(example, geometry: Geometry = GEOMETRY) -> np.ndarray:
    """Return the patch voxel (z, y, x, 1) of each target voxel."""
    z, y, x = np.indices(geometry.target_shape)
    grid = np.stack([z, y, x], -1) * geometry.strides + geometry.offsets
    return np.concatenate([grid, np.ones((*grid.shape[:3], 1))], -1)


@pytest.mark.parametrize("how", [PLAIN, TURNED])
def test_vectors_point_at_the_same_place_of_the_patch(how: AugmentSettings) -> None:
    """A constant field, and one that points at a place: the negative gradient of half the squared distance."""
    place = np.array([14.0, 33.0, 27.0])
    to_place = place[:, None, None, None] - np.indices(RAW.shape)
    constant = np.broadcast_to(np.array([0.5, -1.0, 2.0])[:, None, None, None], to_place.shape)
    scalar = np.indices(RAW.shape).sum(0)[None]
    target = np.concatenate([to_place, scalar, constant[::-1]]).astype(np.float32)
    pair = Pair(RAW, target, vectors=[(0, 1, 2), (6, 5, 4)])
    patches = Patches([pair], GEOMETRY, seed=0)
    for i in range(20):
        example = patches.example(i, how)
        grid = coordinates(example)
        aim = np.linalg.inv(example.matrix) @ (*place, 1)
        wanted = np.moveaxis(aim[:3] - grid[..., :3], -1, 0)
        np.testing.assert_allclose(example.target[:3], wanted, atol=2e-3)
        turned = np.linalg.inv(example.matrix[:3, :3]) @ (0.5, -1, 2)
        np.testing.assert_allclose(
            example.target[[6, 5, 4]], np.broadcast_to(turned[:, None, None, None], wanted.shape), atol=1e-4
        )
        there = (grid @ example.matrix.T)[..., :3].sum(-1)
        np.testing.assert_allclose(example.target[3], there, atol=2e-3)


def test_vectors_that_make_no_sense() -> None:
    field = np.zeros((3, 30, 60, 60), np.float32)
    for vectors, target in (([(0, 1, 3)], field), ([(0, 1)], field), ([(0, 1, 1)], field)):
        with pytest.raises(DataError, match="triples of channels below 3, each used once"):
            Pair(RAW, target, vectors=vectors)
    with pytest.raises(DataError, match="vectors are stored as floats"):
        Pair(RAW, field.astype(np.int8), vectors=[(0, 1, 2)])
    tilted = AugmentSettings(1.0, Warp(perspective=0.2))
    with pytest.raises(DataError, match=r"vectors can't follow a warp with perspective"):
        Patches([Pair(RAW, field, vectors=[(0, 1, 2)])], GEOMETRY, seed=0).batch(range(9), tilted)


@pytest.mark.parametrize("patch", [(5, 11, 11), (4, 12, 10), (1, 11, 8)])
@pytest.mark.parametrize("how", [PLAIN, TURNED])
def test_the_label_of_a_patch_is_that_of_its_centre(patch: tuple, how: AugmentSettings) -> None:
    labels = np.random.default_rng(1).integers(0, 5, RAW.shape)
    geometry = Geometry(patch, (1, 1, 1), at_centre=True)
    patches = Patches([Pair(RAW, labels)], geometry, seed=0, classes=5)
    for i in range(20):
        example = patches.example(i, how)
        centre = example.matrix @ (*(n // 2 for n in patch), 1)
        assert example.target.shape == (1, 1, 1, 1)
        assert example.target.item() == labels[tuple(np.rint(centre[:3] / centre[3]).astype(int))]
    held_out = validation_examples([Pair(RAW, labels)], geometry, classes=5)
    assert len(held_out) <= np.prod([-(-n // p) + 1 for n, p in zip(RAW.shape, patch, strict=True)])


def test_a_patch_has_one_centre() -> None:
    with pytest.raises(DataError, match="more than the centre"):
        Geometry((5, 5, 5), (3, 3, 3), at_centre=True)


def test_one_label_for_a_whole_volume() -> None:
    def pair(k: int) -> Pair:
        label = ArraySource(np.broadcast_to(np.array([k, 1 - k])[:, None, None, None], (2, *RAW.shape)))
        return Pair(RAW, label)

    patches = Patches([pair(0), pair(1)], Geometry((4, 12, 12), (1, 1, 1), at_centre=True), seed=0, classes=2)
    for i in range(10):
        example = patches.example(i, TURNED)
        assert example.target.ravel().tolist() == [example.pair, 1 - example.pair]


def test_classes_that_were_not_labelled_or_are_absent_are_told_for_each_example() -> None:
    labels = np.random.default_rng(1).integers(0, 3, RAW.shape)
    pairs = [Pair(RAW, labels), Pair(RAW, labels, labelled=(0, 2)), Pair(RAW, np.zeros_like(labels), absent=(1,))]
    patches = Patches(pairs, GEOMETRY, seed=0, classes=3, class_masks=True)
    batch = patches.batch(range(30), PLAIN)
    drawn = [patches.example(i, PLAIN).pair for i in range(30)]
    labelled, absent = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]), np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(batch["mask_class_labeled"], labelled[drawn])
    np.testing.assert_array_equal(batch["mask_class_not_present"], absent[drawn])
    assert batch["mask_class_labeled"].dtype == np.float32
    assert "mask_class_labeled" not in Patches(pairs, GEOMETRY, seed=0, classes=3).batch([0], PLAIN)
    (example,) = validation_examples(pairs[1:2], GEOMETRY, n=1, classes=3)
    np.testing.assert_array_equal(example.mask_class_labeled, [1, 0, 1])
    # What wasn't labelled is not there to be drawn.
    assert ContentMap(pairs[1], GEOMETRY, 3).totals[1] == 0
    with pytest.raises(DataError, match=r"labelled=\[3\], but there are 3 classes in 1 channels: 0 to 2"):
        Patches([Pair(RAW, labels, labelled=(3,))], GEOMETRY, seed=0, classes=3)
    for wrong in ((-1,), (1, 1)):
        with pytest.raises(DataError, match="different classes from 0 are needed"):
            Pair(RAW, labels, absent=wrong)


def test_where_a_class_is_known_to_be_absent_all_may_be_ignored() -> None:
    nothing = Pair(RAW, np.full(RAW.shape, -1), absent=(1,))
    patches = Patches([nothing], GEOMETRY, seed=0, classes=2, selection=Selection(most_ignored=0.1))
    assert (patches.batch(range(5), PLAIN)["target"] == -1).all()
    assert len(validation_examples([nothing], GEOMETRY, n=3, classes=2)) == 3


def test_validation_leaves_out_patches_of_which_nothing_counts() -> None:
    mask = np.zeros(RAW.shape, np.uint8)
    mask[:, 30:] = 1
    labels = np.zeros(RAW.shape, np.int64)
    examples = validation_examples([Pair(RAW, labels, mask)], GEOMETRY, classes=2)
    assert all((e.target >= 0).any() for e in examples)
    everywhere = validation_examples([Pair(RAW, labels)], GEOMETRY, classes=2)
    assert 0.4 < len(examples) / len(everywhere) < 0.65
    hidden = np.zeros(RAW.shape, np.uint8)
    hidden[0, 0, 0] = 1
    with pytest.raises(DataError, match=r"validation: nothing counts in any of 2 patches of bare: all is ignored"):
        validation_examples([Pair(RAW, labels, hidden, name="bare")], GEOMETRY, n=2, classes=2)

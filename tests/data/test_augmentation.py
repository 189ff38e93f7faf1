"""What may happen to examples, together: order and chance make no difference to anything else of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from elektronn_tui.data import ArrayExamples, AugmentSettings, Geometry, ImageSettings, Pair, Patches, Scaling
from elektronn_tui.data.augmentation import DISTURBANCES
from elektronn_tui.errors import DataError
from elektronn_tui.training.augmentations import AUGMENTATIONS, OF_SECTIONS

GEOMETRY = Geometry((9, 24, 26), (5, 20, 22), (2, 2, 2))
BASE = AugmentSettings(warp=0.5, grey=0.5)


@pytest.fixture(scope="module")
def source() -> Patches:
    rng = np.random.default_rng(0)
    raw = rng.integers(20, 230, (2, 20, 60, 60), dtype=np.uint8)
    ids = rng.integers(0, 3, (20, 60, 60), dtype=np.uint8)
    return Patches([Pair(raw, ids)], GEOMETRY, seed=3, scaling=Scaling((100.0, 120.0), (40.0, 50.0)), classes=3)


@pytest.mark.parametrize("name", [name for name in DISTURBANCES if name != "grey"])
def test_a_disturbance_changes_raw_values_alone_and_as_often_as_it_says(source, name):
    disturbed = dataclasses.replace(BASE, **{name: 0.5})
    changed = 0
    for i in range(60):
        plain, other = source.example(i, BASE), source.example(i, disturbed)
        np.testing.assert_array_equal(plain.matrix, other.matrix)
        np.testing.assert_array_equal(plain.target, other.target)
        changed += not np.array_equal(plain.raw, other.raw)
    assert 18 <= changed <= 42


def test_one_disturbance_does_not_change_whether_another_happens(source):
    missing = dataclasses.replace(BASE, missing=0.5)
    both = dataclasses.replace(missing, flicker=1.0, blobs=0.0, noise=0.3)
    black = (np.zeros(2) - (100, 120)) / (40, 50)

    def blank(example):
        return np.isclose(example.raw, black[:, None, None, None], atol=1e-5).all((0, 2, 3)).tolist()

    found = [blank(source.example(i, missing)) for i in range(40)]
    assert found == [blank(source.example(i, both)) for i in range(40)]
    assert any(map(any, found))


def test_an_example_is_a_function_of_its_number_with_all_of_them(source):
    how = AugmentSettings(**dict.fromkeys(AUGMENTATIONS, 0.5))
    batch = source.batch([4, 2, 9], how)
    for k, i in enumerate([4, 2, 9]):
        np.testing.assert_array_equal(batch["raw"][k], source.example(i, how).raw)
        np.testing.assert_array_equal(batch["target"][k], source.example(i, how).target)
    assert np.isfinite(batch["raw"]).all()


@pytest.mark.parametrize("shape", [(20, 20), (3, 20, 20)])
def test_images_are_disturbed_too(shape):
    images = np.random.default_rng(0).integers(0, 256, (10, *shape), dtype=np.uint8)
    examples = ArrayExamples(images, seed=1, scaling=Scaling((90.0,), (50.0,)), patch_shape=(16, 16))
    for name in ("blur", "noise", "blobs"):
        plain = examples.batch(range(10), ImageSettings())["raw"]
        disturbed = examples.batch(range(10), ImageSettings(**{name: 1.0}))["raw"]
        assert (plain != disturbed).any(tuple(range(1, plain.ndim))).all()
        assert disturbed.min() >= -90 / 50 - 1e-5
        assert disturbed.max() <= 165 / 50 + 1e-5


def test_no_probability():
    for name in AUGMENTATIONS:
        with pytest.raises(DataError, match=f"{name}=1.5; a probability from 0 to 1"):
            AugmentSettings(**{name: 1.5})


def test_experiments_know_all_of_them():
    fields = {field.name for field in dataclasses.fields(AugmentSettings)}
    assert fields == {*AUGMENTATIONS, *(f"{name}_args" for name in AUGMENTATIONS)}
    for name, kind in AUGMENTATIONS.items():
        assert type(getattr(AugmentSettings(), f"{name}_args")).__name__ == kind
    assert set(OF_SECTIONS) <= set(AUGMENTATIONS)

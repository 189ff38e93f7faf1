from __future__ import annotations

import threading

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
    content,
)
from elektronn_tui.errors import DataError

PLAIN = AugmentSettings()
WARPED = AugmentSettings(warp=1.0, warp_args=Warp(rotation=180, scale=0.1))
GEOMETRY = Geometry((5, 9, 9), (3, 5, 5), (1, 2, 2))


def raw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def rare(*shape: int, share: float = 0.001) -> np.ndarray:
    """Class 1 in single voxels, class 2 nowhere, and voxels without a label."""
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(shape) < share, 1, 0)
    labels[rng.random(shape) < 0.2] = -1
    return labels


def every(pair: Pair, geometry: Geometry, classes: np.ndarray) -> set[tuple[int, ...]]:
    """Return the raw voxels of the marked target voxels that a patch can hold."""
    first, last = pair.placements(geometry)
    lo, hi = np.add(first, geometry.offsets), np.add(last, geometry.offsets) + geometry.span
    at = np.argwhere(classes) + pair.target_offset
    return {tuple(int(n) for n in v) for v in at[((at >= lo) & (at < hi)).all(1)]}


@pytest.mark.parametrize("shape", [(20, 70, 45), (8, 32, 32), (1, 9, 100)])
def test_a_map_counts_and_draws_each_voxel_that_a_patch_can_hold(shape: tuple[int, int, int]) -> None:
    labels = rare(*shape, share=0.05)
    mask = np.ones(shape, np.uint8)
    mask[:, : shape[1] // 3] = 0
    geometry = Geometry((1, 9, 9), (1, 5, 5), (0, 2, 2))
    pair = Pair(raw(*shape), labels, mask)
    found = ContentMap(pair, geometry, 3, ignore=(1,) if shape[0] == 8 else ())
    here = {
        0: every(pair, geometry, (labels == 0) & (mask == 1)),
        1: set() if shape[0] == 8 else every(pair, geometry, (labels == 1) & (mask == 1)),
        2: set(),
    }
    here[-1] = here[0] | here[1]
    assert found.totals.tolist() == [len(here[0]), len(here[1]), 0, len(here[-1])]
    rng = np.random.default_rng(0)
    for feature in (0, 1, -1):
        if here[feature]:
            assert {found.draw(rng, feature) for _ in range(300)} <= here[feature]
    with pytest.raises(DataError, match="no voxel to draw"):
        found.draw(rng, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint64, np.int64])
def test_what_does_not_count_is_nowhere_in_the_map_whatever_the_dtype(dtype: type) -> None:
    labels = np.zeros((8, 20, 20), dtype)
    labels[:, :, :5] = 7
    labels[:, :, 5:10] = 1
    labels[0, 0, 19] = min(np.iinfo(dtype).max, 2**62)
    mask = np.ones(labels.shape, np.uint8)
    mask[4:] = 0
    found = ContentMap(Pair(raw(8, 20, 20), labels, mask), Geometry((1, 1, 1), (1, 1, 1)), 2, ignore=(7,))
    assert found.totals.tolist() == [4 * 20 * 10 - 1, 4 * 20 * 5, 4 * 20 * 15]


def test_voxels_of_a_class_are_drawn_equally_often_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_MAP_BYTES", 2000)  # larger blocks
    monkeypatch.setattr(content, "_PIECE_VOXELS", 10_000)
    labels = np.zeros((20, 70, 45), np.uint8)
    places = [(0, 0, 0), (0, 0, 1), (19, 69, 44), (7, 31, 31), (8, 32, 32)]
    for place in places:
        labels[place] = 1
    found = ContentMap(Pair(raw(20, 70, 45), labels), Geometry((1, 1, 1), (1, 1, 1)), 2)
    rng = np.random.default_rng(0)
    drawn = [places.index(found.draw(rng, 1)) for _ in range(1000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 1000, 0.2, atol=0.04)


def test_of_huge_volumes_every_other_layer_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.ones((40, 40, 40), np.uint8)
    monkeypatch.setattr(content, "_MOST_VOXELS", labels.size // 2)
    found = ContentMap(Pair(raw(40, 40, 40), labels), Geometry((1, 1, 1), (1, 1, 1)), 2)
    assert found.totals.tolist() == [0, 24 * 40 * 40, 24 * 40 * 40]
    rng = np.random.default_rng(0)
    assert {found.draw(rng, 1)[0] // 8 for _ in range(50)} == {0, 2, 4}


@pytest.mark.parametrize("how", [PLAIN, WARPED])
@pytest.mark.parametrize("offset", [None, (3, 5, 7)])
def test_rare_classes_are_held_as_often_as_asked_for(how: AugmentSettings, offset: tuple | None) -> None:
    labels = np.zeros((14, 50, 52), np.int64)
    labels[5, 20, 20] = labels[0, 0, 0] = 1  # a turned patch can't hold the corner
    labels[9, 30, 30] = 2
    pair = Pair(raw(20, 60, 60), labels, target_offset=offset)

    def shares(**selection: object) -> list[float]:
        patches = Patches([pair], GEOMETRY, seed=0, classes=3, selection=Selection(**selection))
        target = patches.batch(range(300), how)["target"]
        return [float((target == k).any((1, 2, 3, 4)).mean()) for k in (1, 2)]

    assert max(shares()) < 0.03
    some, other = shares(balance=1)
    # A third for each; between the voxels of a warped patch a single one may be lost.
    low = 0.27 if how is PLAIN else 0.2
    assert low < some < 0.4
    assert low < other < 0.4
    some, other = shares(balance=0.5, class_shares=(0, 0, 1))
    assert some < 0.05
    assert 1.4 * low < other < 0.6


def test_classes_of_several_channels_and_volumes() -> None:
    labels = np.zeros((2, 10, 20, 20), np.int64)
    labels[1, 5, 10, 10] = 1
    plain = np.zeros_like(labels)
    pairs = [Pair(raw(10, 20, 20), plain), Pair(raw(10, 20, 20), labels, weight=1e-6)]
    patches = Patches(pairs, GEOMETRY, seed=0, classes=2, selection=Selection(1, class_shares=(0, 0, 0, 1)))
    examples = [patches.example(i, PLAIN) for i in range(20)]
    assert all(example.pair == 1 and example.target[1].sum() == 1 for example in examples)


@pytest.mark.parametrize("how", [PLAIN, WARPED])
def test_examples_that_are_mostly_ignored_are_replaced(how: AugmentSettings) -> None:
    labels = np.full((20, 60, 60), -1)
    labels[4:14, 10:24, 10:24] = 1
    pair = Pair(raw(20, 60, 60), labels)
    free = Patches([pair], GEOMETRY, seed=0, classes=2).batch(range(60), how)["target"]
    assert (free < 0).mean((1, 2, 3, 4)).max() == 1
    patches = Patches([pair], GEOMETRY, seed=0, classes=2, selection=Selection(most_ignored=0.2))
    target = patches.batch(range(60), how)["target"]
    assert (target < 0).mean((1, 2, 3, 4)).max() <= 0.2
    assert patches.stats().rejected > 60
    assert "rejected" in patches.stats().summary
    assert len({patches.example(i, how).position for i in range(60)}) > 50


def test_a_place_that_is_known_to_be_good_ends_the_search() -> None:
    labels = np.full((20, 60, 60), -1)
    labels[5:8, 20:25, 20:25] = 1  # one place alone
    patches = Patches([Pair(raw(20, 60, 60), labels)], GEOMETRY, seed=0, classes=2, selection=Selection(0, None, 0.0))
    examples = [patches.example(i, WARPED) for i in range(20)]
    assert all((example.target == 1).all() for example in examples)
    assert patches.stats().rejected <= (20 + 8 * 256) * 24


def test_float_targets_count_where_they_are_numbers() -> None:
    values = np.full((20, 60, 60), np.nan, np.float32)
    values[:, :30] = 0.5
    patches = Patches([Pair(raw(20, 60, 60), values)], GEOMETRY, seed=0, selection=Selection(most_ignored=0.0))
    assert patches.batch(range(50), PLAIN)["mask"].all()


def test_selected_examples_are_a_function_of_their_number() -> None:
    labels = rare(20, 60, 60)
    options = {"seed": 3, "classes": 2, "selection": Selection(0.5, None, 0.5)}
    one, other = (Patches([Pair(raw(20, 60, 60), labels)], GEOMETRY, **options) for _ in range(2))
    straight = [one.example(i, WARPED) for i in range(12)]
    found: dict[int, np.ndarray] = {}

    def work(numbers: range) -> None:
        for i in numbers:
            found[i] = other.example(i, WARPED).target

    threads = [threading.Thread(target=work, args=(range(11 - k, -1, -3),)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, example in enumerate(straight):
        np.testing.assert_array_equal(found[i], example.target)


def test_without_a_selection_nothing_is_looked_through() -> None:
    class Unread(ArraySource):
        def read(self, lo, hi):
            assert self.free, "read while opening"
            return super().read(lo, hi)

    source = Unread(np.zeros((20, 60, 60), np.uint8))
    source.free = True
    pair = Pair(raw(20, 60, 60), source)
    source.free = False
    Patches([pair], GEOMETRY, seed=0, selection=Selection())
    with pytest.raises(AssertionError):
        Patches([pair], GEOMETRY, seed=0, selection=Selection(most_ignored=0.5))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"balance": 1.5}, "balance=1.5; a number from 0 to 1"),
        ({"most_ignored": -0.1}, "most_ignored=-0.1; a number from 0 to 1"),
        ({"class_shares": (1, 1)}, "class_shares are given, but balance is 0"),
        ({"balance": 1, "class_shares": (0, 0)}, "numbers ≥ 0, not all 0"),
        ({"balance": 1, "class_shares": (1,)}, r"1 numbers, but labels has 3 classes; give 3"),
        ({"balance": 1, "class_shares": (1, 0, 1)}, "there is no voxel of class 2 that a patch can hold"),
        ({"most_ignored": 0.0}, r"pair volume: most_ignored=0, but of 2048 patches .* \(3, 5, 5\) target voxels"),
    ],
)
def test_selections_that_make_no_sense_or_find_nothing(selection: dict, message: str) -> None:
    labels = rare(20, 60, 60)
    labels[:, :, ::3] = -1
    pair = Pair(raw(20, 60, 60), ArraySource(labels, name="labels"), name="volume")
    with pytest.raises(DataError, match=message):
        Patches([pair], GEOMETRY, seed=0, classes=3, selection=Selection(**selection))


def test_targets_without_classes_or_without_anything_that_counts() -> None:
    values = Pair(raw(20, 60, 60), np.zeros((20, 60, 60), np.float32))
    with pytest.raises(DataError, match="has no classes to balance"):
        Patches([values], GEOMETRY, seed=0, selection=Selection(balance=0.5))
    with pytest.raises(DataError, match="has no target, so that"):
        Patches([Pair(raw(20, 60, 60), name="bare")], GEOMETRY, seed=0, selection=Selection(most_ignored=0.5))
    nothing = Pair(raw(20, 60, 60), np.full((20, 60, 60), -1), name="nothing")
    with pytest.raises(DataError, match="pair nothing: no target voxel that a patch can hold counts"):
        Patches([nothing], GEOMETRY, seed=0, selection=Selection(most_ignored=0.5))

"""Made-up tunes: the same for a seed, and neither too easy nor too hard to go on with."""

from __future__ import annotations

import numpy as np
import pytest

from elektronn_tui.data import PIANO_NOTES, piano_rolls
from elektronn_tui.errors import DataError


def balanced_error(found: np.ndarray, true: np.ndarray) -> float:
    return 1 - (float((found[true == 1] == 1).mean()) + float((found[true == 0] == 0).mean())) / 2


def test_rolls_are_a_function_of_the_seed_and_the_number_of_the_tune() -> None:
    rolls = piano_rolls(12, 33, 5)
    assert rolls.shape == (12, 33, PIANO_NOTES)
    assert rolls.dtype == np.uint8
    assert set(np.unique(rolls)) == {0, 1}
    np.testing.assert_array_equal(piano_rolls(12, 33, 5), rolls)
    np.testing.assert_array_equal(piano_rolls(4, 33, 5), rolls[:4])
    assert (piano_rolls(12, 33, 6) != rolls).any((1, 2)).all()


def test_known_sums_of_a_seed() -> None:
    """Runs are repeated from their seed: the same tunes must come in every version."""
    rolls = piano_rolls(3, 16, 1)
    assert rolls.sum((1, 2)).tolist() == [58, 37, 32]


def test_statistics() -> None:
    rolls = piano_rolls(600, 41, 2)
    per_step = rolls.sum(2)
    assert 2.2 < per_step.mean() < 3.2
    assert per_step.max() <= 6
    frequency = rolls.mean((0, 1))
    assert frequency.min() > 0
    assert frequency.max() < 0.2
    heard, target = rolls[:, :-1], rolls[:, -1]
    # What is found without listening further back than a step, or not at all.
    assert 0.3 < balanced_error(heard[:, -1], target) < 0.45
    always = [balanced_error(np.broadcast_to(frequency > t, target.shape), target) for t in np.linspace(0, 0.2, 50)]
    assert 0.25 < min(always) < 0.4
    # What is found by who knows that phrases return: four bars are 32 steps.
    assert balanced_error(heard[:, -32], target) < 0.22


def test_without_noise_a_phrase_that_returns_is_the_same() -> None:
    rolls = piano_rolls(200, 40, 3, noise=0)
    same = (rolls[:, 32:] == rolls[:, :8]).all((1, 2))
    assert same.mean() > 0.5
    noisy = piano_rolls(200, 40, 3, noise=0.2)
    assert 0.1 < ((rolls == 1) & (noisy == 0)).sum() / rolls.sum() < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "length": 5}, "n must be a whole number from 1 on, not 0"),
        ({"n": 2, "length": 2.5}, "length must be a whole number from 1 on, not 2.5"),
        ({"n": 2, "length": 5, "seed": -1}, "seed must be a whole number from 0 on, not -1"),
        ({"n": 2, "length": 5, "noise": 1.5}, "noise must be a probability from 0 to 1, not 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        piano_rolls(**arguments)

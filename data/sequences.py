"""Sequences that the package makes itself: piano rolls of made-up tunes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

__all__ = ["LOWEST_NOTE", "PIANO_NOTES", "piano_rolls"]

PIANO_NOTES = 58
"""Keys of a roll, a semitone apart."""
LOWEST_NOTE = 36
"""MIDI number of the first of them: the C two octaves below the middle one."""

BAR = 8
"""Steps of a bar: quavers."""
MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
PROGRESSIONS = (
    (0, 3, 4, 0),
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 0, 4),
    (1, 4, 0, 0),
)
"""Degrees of the scale on which the four bars of a phrase have their triads."""
SWITCH = 0.25
"""Probability that a phrase has another progression than the one before."""
BROKEN = ((0, 1, 2, 1, 0, 1, 2, 1), (0, 2, 1, 2, 0, 2, 1, 2), (0, 1, 2, 0, 1, 2, 0, 1))
"""Which note of the triad sounds at each step of a bar in the styles that break it; one more style strikes it whole."""
CHORD_RANGE, MELODY_RANGE = 14, 33
"""Lowest keys of the octaves in which triad and melody lie; the bass has the first octave."""


def piano_rolls(n: int, length: int, seed: int = 0, *, noise: float = 0.02) -> npt.NDArray[np.uint8]:
    """Make tunes that a network can learn to go on with.

    Each tune has a key, major or minor; phrases of four bars on a progression of triads, which mostly returns;
    a bass on the first and the middle beat; an accompaniment in one of four styles, broken or struck; and a melody of
    a motif that each bar repeats from the root of its triad. It begins anywhere in a phrase. So the next chord
    follows from what was heard, but neither from the last chord alone nor from how frequent notes are.

    Parameters
    ----------
    n : int
        Number of tunes.
    length : int
        Steps (quavers) of each.
    seed : int
        From 0 on; a tune depends on it and on its own number alone, so a longer draw begins with the shorter one.
    noise : float
        Probability, 0 to 1, that a note that should sound doesn't, and that a step has a wrong note more.

    Returns
    -------
    ndarray of uint8, (n, length, 58)
        1 where a key sounds. The axes are b, r, f; a network with an input ``r,b,f`` wants ``moveaxis(0, 1)``.

    Raises
    ------
    DataError
        If a number is out of its range.

    Examples
    --------
    >>> rolls = piano_rolls(100, 41)
    >>> rolls.shape, rolls.dtype
    ((100, 41, 58), dtype('uint8'))
    """
    for what, value, least in (("n", n, 1), ("length", length, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"piano_rolls: {what} must be a whole number from {least} on, not {value!r}.")
    if not 0 <= noise <= 1:
        raise DataError(f"piano_rolls: noise must be a probability from 0 to 1, not {noise!r}.")
    rolls = np.zeros((n, length, PIANO_NOTES), np.uint8)
    for i in range(n):
        _tune(rolls[i], np.random.default_rng((seed, i)), noise)
    return rolls


def _tune(roll: npt.NDArray[np.uint8], rng: np.random.Generator, noise: float) -> None:
    length = len(roll)
    scale = np.array(MAJOR if rng.random() < 0.5 else MINOR)
    tonic = int(rng.integers(12))
    style = int(rng.integers(len(BROKEN) + 1))
    motif = rng.integers(-1, 7, BAR)  # degrees above the root; -1 is a rest
    step = int(rng.integers(4 * BAR)) + np.arange(length)
    bar, beat = step // BAR, step % BAR

    progression = int(rng.integers(len(PROGRESSIONS)))
    degrees: list[int] = []
    while len(degrees) <= bar[-1]:
        degrees.extend(PROGRESSIONS[progression])
        if rng.random() < SWITCH:
            progression = int(rng.integers(len(PROGRESSIONS)))
    root = np.array(degrees)[bar]

    def pitch(degree: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return (tonic + scale[degree % 7]) % 12

    time = np.arange(length)
    triad = np.stack([pitch(root + third) for third in (0, 2, 4)], 1)
    chord = CHORD_RANGE + (triad - CHORD_RANGE) % 12
    if style == len(BROKEN):
        struck = beat % 4 != 3  # a rest at the end of each half
        for voice in range(3):
            roll[time[struck], chord[struck, voice]] = 1
    else:
        roll[time, chord[time, np.array(BROKEN[style])[beat]]] = 1
    low = beat % (BAR // 2) < 2
    roll[time[low], np.where(beat < BAR // 2, triad[:, 0], triad[:, 2])[low]] = 1
    tone = motif[beat]
    sings = tone >= 0
    roll[time[sings], (MELODY_RANGE + (pitch(root + tone) - MELODY_RANGE) % 12)[sings]] = 1

    roll[(rng.random(roll.shape) < noise) & (roll > 0)] = 0
    wrong = rng.random(length) < noise
    roll[time[wrong], rng.integers(0, PIANO_NOTES, length)[wrong]] = 1

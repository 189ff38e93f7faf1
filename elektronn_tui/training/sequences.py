"""Sequences as an experiment's data: what comes next in tunes that the package makes."""

from __future__ import annotations

from .arrays import Arrays
from .settings import setting, settings

__all__ = ["SequenceData"]


@settings("data.")
class SequenceData:
    """Made-up tunes as piano rolls of 58 keys, made on the spot: needs no file. What is learnt is the next chord.

    Inputs are (r, f), 1 where a key sounds; the target has one class id for each key: 1 where it sounds in the step
    after the last.
    """

    length: int = setting(default=40, type="int", minimum=1, help="steps that the network hears, quavers")
    examples: int = setting(default=8000, type="int", minimum=1, help="tunes to train on")
    valid_examples: int = setting(default=500, type="int", minimum=0, help="tunes for validation; 0 for none")
    seed: int = setting(default=1, type="int", minimum=0, help="another seed gives other tunes")
    noise: float = setting(
        default=0.02, type="float", minimum=0, maximum=1, help="probability of a missing note, and of a wrong one"
    )
    flat: bool = setting(default=False, type="bool", help="all steps in one vector of features, not in sequence")

    def open(self) -> Arrays:
        """Make the tunes."""
        from elektronn_tui.data import piano_rolls

        rolls = piano_rolls(self.examples + self.valid_examples, self.length + 1, self.seed, noise=self.noise)
        heard, target = rolls[:, :-1].astype("float32"), rolls[:, -1].astype("int64")
        if self.flat:
            heard = heard.reshape(len(heard), -1)
        n = self.examples
        if not self.valid_examples:
            return Arrays(heard, target, name="tunes")
        return Arrays(heard[:n], target[:n], heard[n:], target[n:], name="tunes")

    def check_files(self) -> None:
        """There are none."""

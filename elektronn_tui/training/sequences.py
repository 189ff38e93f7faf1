"""Sequences as an experiment's data: what comes next in tunes, made by the package or read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import DataError

from .arrays import Arrays, check_file, read_dataset
from .settings import setting, settings

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["SequenceData"]


@settings("data.")
class SequenceData:
    """Piano rolls, from an HDF5 file; without a file, made-up tunes of 58 keys. What is learnt is the next chord.

    Inputs are (r, f), 1 where a key sounds; the target has one class id for each key: 1 where it sounds in the step
    after the last.
    """

    path: str | None = setting(default=None, type="path", optional=True, help="HDF5 file with tunes")
    key: str = setting(
        default="rolls", type="text", help="dataset (tune, step, key) or (step, key) in `path`: 0 or 1, for sounding"
    )
    length: int = setting(default=40, type="int", minimum=1, help="steps that the network hears, quavers")
    examples: int = setting(default=8000, type="int", minimum=1, help="tunes to train on, where there is no file")
    valid_examples: int = setting(
        default=500, type="int", minimum=0, help="tunes for validation, the last pieces of a file; 0 for none"
    )
    seed: int = setting(default=1, type="int", minimum=0, help="another seed gives other made-up tunes")
    noise: float = setting(
        default=0.02,
        type="float",
        minimum=0,
        maximum=1,
        help="probability of a missing note, and of a wrong one, in made-up tunes",
    )
    flat: bool = setting(default=False, type="bool", help="all steps in one vector of features, not in sequence")

    def check_files(self) -> None:
        """Refuse what can be seen to fail without opening a file.

        Raises
        ------
        ExperimentError
            The file is missing.
        """
        check_file(self.path, "tunes.h5")

    def open(self) -> Arrays:
        """Make the tunes, or read them: tunes of a file are cut into pieces that don't overlap.

        Raises
        ------
        DataError
            The file can't be read, holds something else, or too little: says what.
        """
        if self.path is None:
            from elektronn_tui.data import piano_rolls

            rolls = piano_rolls(self.examples + self.valid_examples, self.length + 1, self.seed, noise=self.noise)
        else:
            rolls = self._pieces(read_dataset(self.path, self.key))
        heard, target = rolls[:, :-1].astype("float32"), rolls[:, -1].astype("int64")
        if self.flat:
            heard = heard.reshape(len(heard), -1)
        name, n = self.path or "tunes", len(rolls) - self.valid_examples
        if not self.valid_examples:
            return Arrays(heard, target, name=name)
        return Arrays(heard[:n], target[:n], heard[n:], target[n:], name=name)

    def _pieces(self, rolls: npt.NDArray[Any]) -> npt.NDArray[Any]:
        what = f"{self.path}: {self.key} has the shape {rolls.shape} and holds {rolls.dtype}"
        if rolls.ndim not in (2, 3) or rolls.dtype.kind not in "iufb" or not ((rolls == 0) | (rolls == 1)).all():
            raise DataError(f"{what}; 0 and 1 of the shape (tune, step, key) or (step, key) are needed")
        rolls = rolls[None] if rolls.ndim == 2 else rolls
        _, steps, keys = rolls.shape
        size = self.length + 1
        pieces = rolls[:, : steps // size * size].reshape(-1, size, keys)
        if len(pieces) <= self.valid_examples:
            raise DataError(
                f"{what}: {len(pieces)} pieces of {size} steps (data.length={self.length} and the next one), of which "
                f"data.valid_examples={self.valid_examples} are held out; none is left to train on"
            )
        return pieces

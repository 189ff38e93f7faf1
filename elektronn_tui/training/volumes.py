"""Opened volumes, and which of them are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import DataError

if TYPE_CHECKING:
    from elektronn_tui.data import Pair, Selection
    from elektronn_tui.data.sources import Box

__all__ = ["Volumes", "hold_out"]


@dataclass(frozen=True)
class Volumes:
    """Opened volumes. A class of one's own may stand for `DemoData` or `VolumeData` if its ``open()`` returns this.

    Attributes
    ----------
    train, valid : sequence of Pair
        `valid` may be empty: then nothing is validated.
    preview : Pair or None
        What previews are made of; the first of `valid`, else of `train`, where it is None.
    ignore : sequence of int
        Target values that do not count, beside negative ones.
    selection : Selection or None
        What examples shall hold.
    split : str
        Which setting says what is held out, for messages.
    """

    train: Sequence[Pair]
    valid: Sequence[Pair] = ()
    preview: Pair | None = None
    ignore: Sequence[int] = ()
    selection: Selection | None = None
    split: str = ""


def hold_out(
    pairs: Sequence[Pair],
    valid: Sequence[Pair],
    *,
    slices: int,
    axis: str,
    box: Box | None = None,
    indices: Sequence[int] = (),
    **more: Any,
) -> Volumes:
    """Return the volumes to train on and those that are held out for validation.

    Parameters
    ----------
    pairs, valid
        Volumes that are there; `valid` for validation alone.
    slices, axis, box, indices
        As the settings ``valid_slices``, ``valid_axis``, ``valid_box`` and ``valid_indices``.
    **more
        Of `Volumes`.

    Raises
    ------
    DataError
        More is held out than there is; names the setting.
    """
    from elektronn_tui.data import split_box, split_region

    train, split = list(pairs), ""
    if indices:
        split = f"data.valid_indices={list(indices)}"
        valid = [pair for k, pair in enumerate(train) if k in indices]
        train = [pair for k, pair in enumerate(train) if k not in indices]
    if not valid and (box is not None or slices):
        split = f"data.valid_slices={slices}" if box is None else f"data.valid_box={box}"
        try:
            if box is None:
                parts = [split_region(pair, axis, last=slices) for pair in train]
                train, valid = [part[0] for part in parts], [part[1] for part in parts]
            else:
                around = [split_box(pair, box) for pair in train]
                train, valid = [part for parts, _ in around for part in parts], [part for _, part in around]
        except DataError as error:
            raise DataError(f"{split.partition('=')[0]}: {error}") from error
    return Volumes(tuple(train), tuple(valid), split=split, **more)

"""What of a pair is trained on, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence

from elektronn_tui.errors import DataError

from .geometry import Geometry
from .pairs import Pair
from .sources import Box, Vec3

__all__ = ["fitting", "split_box", "split_region"]


def split_region(
    pair: Pair, axis: str = "z", *, last: int | None = None, first: int | None = None
) -> tuple[Pair, Pair]:
    """Split a pair in two along one axis: what is trained on, and what is held out for validation.

    No training patch reads a voxel, raw or target, of the validation part. Validation patches may use the raw
    voxels on the other side of the border as context: that tells them nothing of the answer, and it lets
    targets right at the border be validated.

    Parameters
    ----------
    pair
        The pair to split.
    axis
        ``"z"``, ``"y"`` or ``"x"``.
    last, first
        Voxels held out at the end or the start of the pair's region; give one of them.

    Returns
    -------
    (train, valid)
        Two pairs that share their sources.

    Raises
    ------
    DataError
        The region is not thicker than what shall be held out.
    """
    if len(axis) != 1 or axis not in "zyx":
        raise DataError(f"split_region: axis={axis!r}; use 'z', 'y' or 'x'.")
    if (last is None) == (first is None):
        raise DataError("split_region: give either last= or first=, the number of voxels to hold out.")
    i = "zyx".index(axis)
    lo, hi = pair.region
    held_out = int(last if last is not None else first or 0)
    if not 0 < held_out < hi[i] - lo[i]:
        most = hi[i] - lo[i] - 1
        possible = {0: "it can't be split", 1: "1 is possible"}.get(most, f"1 to {most} are possible")
        raise DataError(
            f"pair {pair.name}: can't hold out {held_out} of {hi[i] - lo[i]} voxels along {axis}; {possible}."
        )
    c_lo, c_hi = pair.context
    if last is not None:
        cut = hi[i] - held_out
        train = pair.part((lo, _put(hi, i, cut)), (c_lo, _put(c_hi, i, min(c_hi[i], cut))), name=pair.name)
        valid = pair.part((_put(lo, i, cut), hi), name=f"{pair.name} [{axis} {cut}:{hi[i]}]")
    else:
        cut = lo[i] + held_out
        train = pair.part((_put(lo, i, cut), hi), (_put(c_lo, i, max(c_lo[i], cut)), c_hi), name=pair.name)
        valid = pair.part((lo, _put(hi, i, cut)), name=f"{pair.name} [{axis} {lo[i]}:{cut}]")
    return train, valid


def split_box(pair: Pair, box: Box) -> tuple[list[Pair], Pair]:
    """Split a pair: what lies in a box is held out for validation, and trained on is what lies around it.

    No training patch, whatever its warp, reads a voxel of the box: it lies wholly on one of the six sides of it.
    Validation patches may use raw voxels around the box as context.

    Parameters
    ----------
    pair
        The pair to split.
    box
        ``(lo, hi)`` in raw voxels (z, y, x); it is cut to the pair's region.

    Returns
    -------
    (train, valid)
        The parts on the sides of the box, which overlap at its edges, and the part in it. Those of them that are too
        thin for a patch are left out by `Patches`, as long as one is not.

    Raises
    ------
    DataError
        The box and the pair's region have nothing in common, or there is nothing beside it.
    """
    valid = pair.part(box)
    name = " × ".join(f"{lo}:{hi}" for lo, hi in zip(*valid.region, strict=True))
    valid.name = f"{pair.name} [{name}]"
    (lo, hi), (c_lo, c_hi) = pair.region, pair.context
    train = []
    for i in range(3):
        first, last = valid.region[0][i], valid.region[1][i]
        if lo[i] < first and c_lo[i] < first:
            train.append(pair.part((lo, _put(hi, i, first)), (c_lo, _put(c_hi, i, min(c_hi[i], first)))))
        if last < hi[i] and last < c_hi[i]:
            train.append(pair.part((_put(lo, i, last), hi), (_put(c_lo, i, max(c_lo[i], last)), c_hi)))
    if not train:
        raise DataError(f"pair {pair.name}: the box {name} (z, y, x) leaves nothing of its region {lo} to {hi}.")
    # What lies in several parts counts once: together they weigh what is left of the whole.
    left, together = pair.weight - valid.weight, sum(part.weight for part in train)
    for part in train:
        part.weight *= left / together if together else 0.0
        part.whole = pair
    return train, valid


def fitting(pairs: Sequence[Pair], geometry: Geometry) -> list[Pair]:
    """Return the pairs that hold a patch; of the parts of a whole only those that do.

    Raises
    ------
    DataError
        A pair holds none, or no part of a whole does.
    """
    found: list[Pair] = []
    refused: dict[int, DataError] = {}
    for pair in pairs:
        try:
            pair.placements(geometry)
            found.append(pair)
        except DataError as error:
            if pair.whole is None:
                raise
            refused[id(pair.whole)] = error
    for whole, reason in refused.items():
        if not any(id(pair.whole) == whole for pair in found):
            raise reason
    return found


def _put(vector: Vec3, i: int, value: int) -> Vec3:
    z, y, x = (value if k == i else v for k, v in enumerate(vector))
    return z, y, x

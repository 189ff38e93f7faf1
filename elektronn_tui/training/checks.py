"""What settings of volumes may be, where they are more than a number or a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = [
    "check_addresses",
    "check_box",
    "check_classes",
    "check_offsets",
    "check_places",
    "check_thickness",
    "check_triples",
    "check_volumes",
    "is_place",
]


def check_volumes(value: Any) -> str | None:
    """Return what pairs of volumes must be, where they are something else."""

    def good(pair: Any) -> bool:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], (str, Path)):
            return False
        return pair[1] is None or isinstance(pair[1], (str, Path)) or _is_label(pair[1])

    if isinstance(value, (list, tuple)) and all(good(pair) for pair in value):
        return None
    return "a list of pairs such as [('raw.h5:raw', 'labels.h5:labels')]; one number or None may stand for labels"


def _is_label(value: Any) -> bool:
    """Tell whether what stands for labels is a number for the whole volume, or one for each channel."""
    channels = value if isinstance(value, (list, tuple)) and value else [value]
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in channels)


def check_addresses(value: Any) -> str | None:
    """Return what addresses must be, where they are something else."""
    good = isinstance(value, (list, tuple)) and all(isinstance(part, (str, Path)) for part in value)
    return None if good else "a list of addresses such as ['labels.h5:mask']"


def is_place(value: Any) -> bool:
    """Tell whether a value is one (z, y, x) of whole numbers."""
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(isinstance(n, int) for n in value)


def check_places(value: Any) -> str | None:
    """Return what places must be, where they are something else."""
    if value is None or is_place(value) or (isinstance(value, (list, tuple)) and value and all(map(is_place, value))):
        return None
    return "(z, y, x) in raw voxels, or a list of those with one for each volume"


def check_box(value: Any) -> str | None:
    """Return what a box must be, where it is something else."""
    if value is None:
        return None
    good = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_place, value))
    if good and all(0 <= lo < hi for lo, hi in zip(*value, strict=True)):
        return None
    return "a box such as ((0, 100, 100), (20, 200, 200)): its first voxel (z, y, x) and the one behind its last"


def check_classes(value: Any) -> str | None:
    """Return what classes of volumes must be, where they are something else."""
    good = isinstance(value, dict) and all(
        isinstance(index, int)
        and index >= 0
        and isinstance(classes, (list, tuple))
        and all(isinstance(one, int) and one >= 0 for one in classes)
        for index, classes in value.items()
    )
    return None if good else "classes by the number of the volume, such as {0: [0, 2]}"


def check_triples(value: Any) -> str | None:
    """Return what triples of channels must be, where they are something else."""
    good = isinstance(value, (list, tuple)) and all(map(is_place, value))
    return None if good else "a list of triples of channels such as [(0, 1, 2)]"


def check_offsets(value: Any) -> str | None:
    """Return what offsets must be, where they aren't."""
    good = isinstance(value, (list, tuple)) and all(
        isinstance(offset, (list, tuple))
        and len(offset) == 3
        and any(offset)
        and all(isinstance(n, int) for n in offset)
        for offset in value
    )
    return None if good and value else "a list of (z, y, x) in whole voxels, not all 0, such as [(-1, 0, 0)]"


def check_thickness(value: Any) -> str | None:
    """Return what a thickness of boundaries must be, where it isn't."""
    return None if len(value) in (1, 3) and any(value) else "one number, or three for z, y, x that are not all 0"

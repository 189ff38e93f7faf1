"""What the channels of a prediction mean, and how boxes of it are read: as a boundary map, or as affinities."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .affinity import NEAREST
from .sources import Source, split_address
from .stores import is_store, local_path

__all__ = ["PredictionChannels", "channel_names", "prediction_channels"]

logger = logging.getLogger(__name__)

_AFFINITY = re.compile(r"affinity (-?\d+),(-?\d+),(-?\d+)")
_BOUNDARY = re.compile(r"boundar|membrane|wall|barrier|barr\b", re.IGNORECASE)


@dataclass(frozen=True)
class PredictionChannels:
    """Which channels of a prediction are segmented, and as what.

    Attributes
    ----------
    channels : tuple of int
    offsets : tuple of (z, y, x), optional
        Of affinities, one for each channel; None for one channel of boundaries.
    """

    channels: tuple[int, ...]
    offsets: tuple[tuple[int, int, int], ...] | None

    def read(self, source: Source, lo: Sequence[int], hi: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return a box as float32: boundaries (z, y, x) or affinities (edges, z, y, x).

        Bytes count as 255ths. What is not a number is a boundary, or no affinity.
        """
        values = source.read(lo, hi)[list(self.channels)]
        if values.dtype.kind in "iu":
            values = values.astype(np.float32) / np.float32(255 if values.dtype == np.uint8 else 1)
        values = np.asarray(values, np.float32)
        unknown = np.isnan(values)
        if unknown.any():
            logger.warning(
                "%s has %d values that are NaN; they count as %s.",
                *(source.name, int(unknown.sum()), "boundaries" if self.offsets is None else "no affinity"),
            )
            values[unknown] = 1.0 if self.offsets is None else 0.0
        return values[0] if self.offsets is None else values


def prediction_channels(
    source: Source,
    *,
    channel: int | None = None,
    offsets: Sequence[Sequence[int]] | None = None,
) -> PredictionChannels:
    """Return what to segment of a prediction.

    A prediction that `elektronn predict` wrote may name its channels: ``affinity z,y,x`` is one of those, and a name
    with "boundary" or "membrane" is that. Otherwise one channel is a boundary map, of two the second is (the class 1),
    and three are affinities of the neighbours below.

    Parameters
    ----------
    source : Source
    channel : int, optional
        The boundary map.
    offsets : sequence of (z, y, x), optional
        The channels are affinities of these offsets, in this order.

    Raises
    ------
    DataError
        The channels don't fit, or nobody says what they are.
    """
    count = source.channels
    if channel is not None and offsets is not None:
        raise DataError(
            "A prediction is segmented by one channel of boundaries, or by affinities of offsets; not both."
        )
    if channel is not None:
        if not -count <= channel < count:
            raise DataError(f"{source.name} has {count} channels, 0 to {count - 1}; channel {channel} is none of them.")
        return PredictionChannels((channel % count,), None)
    if offsets is not None:
        steps = tuple((int(z), int(y), int(x)) for z, y, x in offsets)
        if len(steps) != count:
            raise DataError(f"{source.name} has {count} channels, but {len(steps)} offsets are given.")
        return PredictionChannels(tuple(range(count)), steps)
    names = channel_names(source.name)
    if len(names) == count:
        named = [(k, found) for k, name in enumerate(names) if (found := _AFFINITY.fullmatch(name))]
        if named:
            steps = tuple((int(m[1]), int(m[2]), int(m[3])) for _, m in named)
            return PredictionChannels(tuple(k for k, _ in named), steps)
        walls = [k for k, name in enumerate(names) if _BOUNDARY.search(name)]
        if len(walls) == 1:
            return PredictionChannels((walls[0],), None)
    if count <= 2:
        return PredictionChannels((count - 1,), None)
    if count == 3:
        return PredictionChannels((0, 1, 2), NEAREST)
    raise DataError(
        f"{source.name} has {count} channels and no names for them; say which one is the boundary map, or the offsets "
        "of affinities."
    )


def channel_names(address: str | Path) -> tuple[str, ...]:
    """Return the names that the writer of a prediction has given its channels; none where it hasn't."""
    name, key = split_address(address)
    path = Path(name).expanduser()
    if path.suffix.lower() in (".h5", ".hdf5", ".hdf") and path.is_file():
        import h5py

        try:
            with h5py.File(path, "r") as file:
                datasets = [file[key]] if key else [item for item in file.values() if isinstance(item, h5py.Dataset)]
                found = datasets[0].attrs.get("channels", ()) if len(datasets) == 1 else ()
        except (OSError, KeyError):
            return ()
        return tuple(text.decode() if isinstance(text, bytes) else str(text) for text in found)
    store = local_path(str(address)) if is_store(str(address)) else None
    try:
        return () if store is None else tuple(map(str, json.loads((store / ".zattrs").read_text()).get("channels", ())))
    except (OSError, ValueError, AttributeError):
        return ()

"""From stored grey values to what a network reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

if TYPE_CHECKING:
    from .pairs import Pair

__all__ = ["Scaling"]


@dataclass(frozen=True)
class Scaling:
    """``(raw - mean) / std`` for each channel, in units of the stored values.

    It belongs to a model: training, validation, previews and prediction apply the same one.

    Parameters
    ----------
    mean, std
        One number a channel; a single one serves all channels.

    Examples
    --------
    >>> Scaling.for_dtype(np.uint16).apply(np.full((1, 1, 1, 1), 65535, np.uint16))
    array([[[[1.]]]], dtype=float32)
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for field in ("mean", "std"):
            try:
                values = tuple(float(v) for v in getattr(self, field))
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"Scaling: {field}={getattr(self, field)!r}; one number a channel is needed."
                ) from error
            object.__setattr__(self, field, values)
        if not self.mean or len(self.mean) != len(self.std):
            raise DataError(f"Scaling: mean={self.mean} and std={self.std}; as many of the one as of the other.")
        if not all(map(math.isfinite, self.mean)) or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise DataError(f"Scaling: mean={self.mean}, std={self.std}; finite means and stds > 0 are needed.")

    @classmethod
    def for_dtype(cls, dtype: npt.DTypeLike) -> Scaling:
        """Return what maps integers of `dtype` from 0 to their maximum onto 0 to 1, and leaves floats as they are."""
        kind = np.dtype(dtype)
        if kind.kind in "iu":
            return cls((0.0,), (float(np.iinfo(kind).max),))
        return cls((0.0,), (1.0,))

    @classmethod
    def measured(cls, pairs: Iterable[Pair], blocks: int = 64) -> Scaling:
        """Return the mean and standard deviation of raw volumes, channel by channel.

        They are taken from blocks of up to 8×64×64 voxels, evenly spread over what the pairs may read: the same ones
        each time. Values that are not finite are left out, and a constant channel is not divided.

        Parameters
        ----------
        pairs
            Volumes with the same number of channels.
        blocks
            Blocks read of each volume, about.
        """
        count, total, squares = 0.0, 0.0, 0.0  # by channel, from the first block on
        for pair in pairs:
            low, high = np.asarray(pair.context)
            size = np.minimum((8, 64, 64), high - low)
            free = high - low - size
            # As many places along an axis as it is longer than a block, so that they spread like the volume.
            share = (blocks / np.prod(free / size + 1)) ** (1 / 3)
            places = [
                np.unique(np.linspace(0, f, max(1, round((f / n + 1) * min(share, 1.0)))).astype(int))
                for f, n in zip(free, size, strict=True)
            ]
            for corner in itertools.product(*places):
                start = low + corner
                values = pair.raw.read(start.tolist(), (start + size).tolist()).reshape(pair.raw.channels, -1)
                values = values.astype(np.float64)
                known = np.isfinite(values)
                values = np.where(known, values, 0.0)
                count = count + known.sum(1)
                total = total + values.sum(1)
                squares = squares + np.square(values).sum(1)
        counted = np.maximum(count, 1)
        mean = total / counted
        std = np.sqrt(np.maximum(squares / counted - np.square(mean), 0.0))
        return cls(
            tuple(mean.tolist()), tuple(np.where(std > 1e-6 * np.maximum(np.abs(mean), 1e-6), std, 1.0).tolist())
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Scaling:
        """Make it of what `to_dict` returned."""
        unknown = set(fields) - {"mean", "std"}
        if unknown or not {"mean", "std"} <= set(fields):
            raise DataError(f"Scaling: fields {sorted(fields)}; mean and std are needed.")
        return cls(tuple(fields["mean"]), tuple(fields["std"]))

    def to_dict(self) -> dict[str, list[float]]:
        """Return ``{"mean": [...], "std": [...]}``, fit for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def factors(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (scale, shift), each (channels,) float64, with ``raw * scale + shift`` the scaled value."""
        mean, std = self._of(self.mean, channels), self._of(self.std, channels)
        return 1 / std, -mean / std

    def apply(self, raw: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Scale a patch.

        Parameters
        ----------
        raw
            (channels, ...) in stored values, any numeric dtype.
        out
            Where to write, float32 of the same shape; None: a new array.
        """
        scale, shift = (f.astype(np.float32).reshape(-1, *[1] * (raw.ndim - 1)) for f in self.factors(len(raw)))
        out = np.multiply(raw, scale, out=out, dtype=np.float32, casting="unsafe")
        out += shift
        return out

    def _of(self, values: Sequence[float], channels: int) -> np.ndarray:
        if len(values) not in (1, channels):
            raise DataError(f"Scaling: {len(values)} values for a volume of {channels} channels.")
        return np.broadcast_to(np.asarray(values, np.float64), (channels,))

"""Training examples from arrays in memory: images, vectors, sequences."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .augment import value_range
from .augmentation import AugmentSettings, stream
from .counters import Counters, DataStats
from .sampling import Scratch, sample_raw
from .scaling import Scaling
from .warp import translated

__all__ = ["ArrayExamples", "ImageSettings"]

_BLOCK = 2**22
_KEPT_EPOCHS = 3
# Numbers of random streams; those of augmentation begin at 8.
_WARP, _SHIFT, _GREY = range(3)


@dataclass(frozen=True)
class ImageSettings(AugmentSettings):
    """How images are varied; each field may change between two steps of a training run.

    Parameters
    ----------
    shift
        Largest random displacement along each axis, in pixels.
    """

    shift: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.shift, (int, np.integer)) or self.shift < 0:
            raise DataError(f"ImageSettings: shift={self.shift!r}; a whole number of pixels ≥ 0 is needed.")


class ArrayExamples:
    """An endless, numbered supply of training examples from arrays.

    Example `i` is a function of the seed, `i` and the settings: whoever makes it, in whatever order or thread. Each
    epoch takes every entry once, in an order of its own.

    Parameters
    ----------
    raw
        (n, ...) integers or floats; the first axis counts the examples.
    target
        (n, ...) integers or floats, or None.
    seed
        Any integer ≥ 0.
    scaling
        Of raw values; None leaves them as they are, in their dtype.
    channel_axis
        Axis of `raw` with the channels that `scaling` tells apart; None: one scaling for all.
    patch_shape
        Size of an example along the last axes, for images: a crop of the middle, which `ImageSettings.shift`
        displaces. None: nothing is cut, shifted, warped, or varied in its grey values.
    name
        What messages call the arrays.

    Raises
    ------
    DataError
        The arrays are empty, of unlike length, no numbers, or not finite; the crop doesn't fit.
    """

    def __init__(
        self,
        raw: npt.NDArray[Any],
        target: npt.NDArray[Any] | None = None,
        *,
        seed: int = 0,
        scaling: Scaling | None = None,
        channel_axis: int | None = None,
        patch_shape: Sequence[int] | None = None,
        name: str = "data",
    ) -> None:
        self.raw, self.target = raw, target
        self.seed, self.scaling, self.name = seed, scaling, name
        self.channel_axis = channel_axis
        self.patch_shape = None if patch_shape is None else tuple(int(n) for n in patch_shape)
        _check(raw, "inputs", name)
        if target is not None:
            _check(target, "targets", name)
            if len(target) != len(raw):
                raise DataError(f"{name}: {len(raw)} inputs, but {len(target)} targets; one for each is needed.")
        self._limits = (0.0, 1.0)
        if self.patch_shape is not None:
            extent = raw.shape[-len(self.patch_shape) :]
            if any(n > m for n, m in zip(self.patch_shape, extent, strict=True)):
                raise DataError(f"{name}: a crop of {self.patch_shape} doesn't fit into images of {extent}.")
            self._limits = _grey_limits(raw)
        self._lock = threading.Lock()
        self._orders: dict[int, npt.NDArray[np.int64]] = {}
        self._local = threading.local()
        self.counters = Counters()

    def __len__(self) -> int:
        return len(self.raw)

    @staticmethod
    def measured(raw: npt.NDArray[Any], channel_axis: int | None, name: str = "data") -> Scaling:
        """Return the mean and standard deviation of `raw`, by channel; a constant channel is not divided."""
        _check(raw, "inputs", name)
        axes = tuple(axis for axis in range(raw.ndim) if axis != channel_axis)
        rows = max(_BLOCK // max(raw[0].size, 1), 1)
        count = raw.size / (1 if channel_axis is None else raw.shape[channel_axis])
        blocks = [raw[first : first + rows] for first in range(0, len(raw), rows)]
        mean = sum(block.sum(axes, dtype=np.float64) for block in blocks) / count
        shape = [1] * raw.ndim
        if channel_axis is not None:
            shape[channel_axis] = -1
        centre = np.reshape(mean, shape)
        # In two passes: the difference of two large sums would leave nothing of a small deviation.
        std = np.sqrt(sum(np.square(block - centre).sum(axes) for block in blocks) / count)
        mean, std = np.atleast_1d(mean), np.atleast_1d(std)
        steady = std <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        return Scaling(tuple(mean.tolist()), tuple(np.where(steady, 1.0, std).tolist()))

    def index(self, i: int) -> int:
        """Return which entry example `i` is made of."""
        if i < 0:
            raise DataError(f"example {i}: examples are numbered from 0.")
        epoch, place = divmod(i, len(self.raw))
        return int(self._order(epoch)[place])

    def batch(self, indices: Sequence[int], settings: AugmentSettings) -> dict[str, npt.NDArray[Any]]:
        """Return several examples, stacked.

        Parameters
        ----------
        indices
            Numbers of the examples.
        settings
            In force for all of them.

        Returns
        -------
        dict
            ``raw`` (b, ...), float32 where it is scaled; ``target`` (b, ...) int64 or float32, unless there is none.
        """
        begin = perf_counter()
        which = [self.index(i) for i in indices]
        if self.patch_shape is None:
            batch = self.plain(which)
        else:
            raw = np.empty((len(which), *self._example_shape()), np.float32)
            for out, i, k in zip(raw, indices, which, strict=True):
                self._fill(out, i, k, settings)
            batch = self._with_target({"raw": raw}, which)
        end = perf_counter()
        self.counters.mine().made(len(which), begin, end, end)
        return batch

    def stats(self) -> DataStats:
        """Return what the examples so far cost."""
        return self.counters.total()

    def plain(self, which: Iterable[int]) -> dict[str, npt.NDArray[Any]]:
        """Return entries as they are but for scaling and the crop of the middle: for validation, as `batch` else."""
        chosen = list(which)
        raw = self.raw[chosen]
        if self.patch_shape is not None:
            extent = raw.shape[-len(self.patch_shape) :]
            starts = [(m - n) // 2 for n, m in zip(self.patch_shape, extent, strict=True)]
            middle: list[Any] = [slice(a, a + n) for a, n in zip(starts, self.patch_shape, strict=True)]
            raw = raw[(Ellipsis, *middle)]
        return self._with_target({"raw": self._scaled(raw)}, chosen)

    def unscaled(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return values (b, ...) of the network's scale as fractions of the range from black to white."""
        low, high = self._limits
        if self.scaling is not None:
            mean, std = self._factors(raw.ndim)
            raw = raw * std + mean
        return np.asarray((raw - low) / (high - low), np.float32)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        with self._lock:
            order = self._orders.get(epoch)
            if order is None:
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.raw))
                self._orders[epoch] = order
                while len(self._orders) > _KEPT_EPOCHS:
                    del self._orders[next(iter(self._orders))]
            return order

    def _example_shape(self) -> tuple[int, ...]:
        assert self.patch_shape is not None
        return (*self.raw.shape[1 : self.raw.ndim - len(self.patch_shape)], *self.patch_shape)

    def _fill(self, out: npt.NDArray[np.float32], i: int, k: int, settings: AugmentSettings) -> None:
        assert self.patch_shape is not None
        entropy = (self.seed, i)
        warp_rng, shift_rng = stream(entropy, _WARP), stream(entropy, _SHIFT)
        image, patch = _as_volume(self.raw[k], len(self.patch_shape)), _as_volume(out, len(self.patch_shape))
        room = np.subtract(image.shape[1:], patch.shape[1:])
        reach = np.where(np.asarray(image.shape[1:]) > 1, getattr(settings, "shift", 0), 0)
        start = room // 2 + shift_rng.integers(-reach, reach, endpoint=True)
        mean, std = self._channels(len(image))
        warped = warp_rng.random() < settings.warp
        deformation = settings.deform(entropy, patch.shape[1:])
        if warped or deformation is not None:
            turned = settings.warp_args.draw(warp_rng, patch.shape[1:]) if warped else np.eye(4)
            matrix = translated(turned, start)
            if not hasattr(self._local, "scratch"):
                self._local.scratch = Scratch()
            scale = (1 / std).tolist()
            sample_raw(
                image,
                matrix,
                patch,
                scale=scale,
                shift=(-mean / std).tolist(),
                scratch=self._local.scratch,
                displacement=deformation.of_raw() if deformation else None,
            )
        else:
            # What lies beyond the image is as its rim.
            where = [
                np.clip(np.arange(a, a + n), 0, m - 1)
                for a, n, m in zip(start, patch.shape[1:], image.shape[1:], strict=True)
            ]
            patch[:] = image[:, where[0][:, None, None], where[1][:, None], where[2]]
            patch -= mean[:, None, None, None].astype(np.float32)
            patch /= std[:, None, None, None].astype(np.float32)
        begin = perf_counter()
        scaled = {"scale": (1 / std).tolist(), "shift": (-mean / std).tolist(), "limits": self._limits}
        settings.disturb(patch, entropy, _GREY, **scaled)
        self.counters.mine().augmenting += perf_counter() - begin

    def _channels(self, n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        scaling = self.scaling or Scaling()
        return np.broadcast_to(scaling.mean, n), np.broadcast_to(scaling.std, n)

    def _factors(self, ndim: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        assert self.scaling is not None
        shape = [1] * ndim
        if self.channel_axis is not None:
            shape[self.channel_axis] = -1
        mean, std = (np.asarray(v, np.float32).reshape(shape if len(v) > 1 else 1) for v in self._pair())
        return mean, std

    def _pair(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        assert self.scaling is not None
        return self.scaling.mean, self.scaling.std

    def _scaled(self, raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.scaling is None:
            return raw
        mean, std = self._factors(raw.ndim)
        scaled = raw.astype(np.float32)
        scaled -= mean
        scaled /= std
        return scaled

    def _with_target(self, batch: dict[str, npt.NDArray[Any]], which: list[int]) -> dict[str, npt.NDArray[Any]]:
        if self.target is not None:
            chosen = self.target[which]
            batch["target"] = chosen.astype(np.float32 if chosen.dtype.kind == "f" else np.int64)
        return batch

    def __repr__(self) -> str:
        return f"ArrayExamples({self.name!r}, {len(self.raw)} of {self.raw.shape[1:]}, {self.raw.dtype})"


def _check(array: npt.NDArray[Any], what: str, name: str) -> None:
    if array.ndim < 1 or array.size == 0:
        raise DataError(f"{name}: the {what} are empty, shape {array.shape}.")
    if array.dtype.kind not in "iufb":
        raise DataError(f"{name}: the {what} hold {array.dtype}; integers or floats are needed.")
    if array.dtype.kind == "f":
        rows = max(_BLOCK // max(array[0].size, 1), 1)
        for first in range(0, len(array), rows):
            bad = ~np.isfinite(array[first : first + rows])
            if bad.any():
                where = np.argwhere(bad)[0]
                raise DataError(f"{name}: entry {first + int(where[0])} of the {what} holds NaN or infinite values.")


def _grey_limits(raw: npt.NDArray[Any]) -> tuple[float, float]:
    """Return what stands for black and white: the range of 8-bit images and of floats from 0 to 1, else that found."""
    low, high = value_range(raw.dtype)
    least, most = float(raw.min()), float(raw.max())
    typical = raw.dtype.itemsize == 1 or (raw.dtype.kind == "f" and low <= least and most <= high)
    return (low, high) if typical or least >= most else (least, most)


def _as_volume(image: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """Return a view (channels, z, y, x) of (..., z, y, x) or (..., y, x) or (..., x)."""
    return image.reshape(-1, *(1,) * (3 - n), *image.shape[image.ndim - n :])

"""Predictions of a fixed region, as pictures: what the network sees now, beside what it should see."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.session.protocol import PreviewInfo

from .batches import Feeder, evaluating
from .classes import Classes

if TYPE_CHECKING:
    from elektronn_tui.data import ArrayExamples, Geometry, Pair, Scaling
    from elektronn_tui.models import Model

__all__ = ["Preview", "Reconstructions", "preview_info", "write_png"]

MAX_TILES = 48
"""Forward passes of a preview at most: it is made between two steps."""
MAX_IMAGES = 16
PNG_SLICES = 4
PNG_GAP = 2

Grey = npt.NDArray[np.uint8]
Box = tuple[tuple[int, ...], tuple[int, ...]]


class Preview:
    """A fixed region of a volume, predicted tile by tile with the network's own patch size.

    Parameters
    ----------
    model : Model
    feeder : Feeder
    pair : Pair
        Where the region lies.
    geometry : Geometry
    scaling : Scaling
    shape : (z, y, x)
        Largest region in raw voxels; it is cut to the volume, and to `MAX_TILES` tiles.
    position : (z, y, x), optional
        First voxel; the middle of the volume by default.
    autocast : callable
        Returns the context in which the network computes.

    Attributes
    ----------
    region : ((z, y, x), (z, y, x))
        In raw voxels.
    """

    along = "z"

    def __init__(
        self,
        model: Model,
        feeder: Feeder,
        pair: Pair,
        geometry: Geometry,
        scaling: Scaling,
        shape: Sequence[int],
        position: Sequence[int] | None,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._model = model
        self._feeder = feeder
        self._geometry = geometry
        self._autocast = autocast
        self.region, self._starts = _tiles(pair, geometry, shape, position)
        lo, hi = self.region
        patch = np.asarray(geometry.patch_shape)
        self._patches = [
            scaling.apply(pair.raw.read(start, (np.asarray(start) + patch).tolist()))[None] for start in self._starts
        ]
        self.raw = _grey_raw(pair.raw.read(lo, hi)[0])
        self._classes = Classes.of(model)
        several = int(model.prediction_node.shape["f"] or 1) > 1
        self.target = _grey_target(pair, lo, hi, self._classes, several=several)

    def __call__(self) -> dict[str, Grey]:
        """Predict the region now.

        Returns
        -------
        volumes : dict
            ``raw``, ``prediction`` and, where there is one, ``target``: uint8 (z, y, x), 0 to 255 for 0 to 1.
        """
        model, geometry = self._model, self._geometry
        lo, hi = np.asarray(self.region)
        canvas = np.zeros(hi - lo, np.float32)
        with evaluating(model, self._autocast):
            for start, patch in zip(self._starts, self._patches, strict=True):
                (output,) = model.compute([model.prediction_node], self._feeder({"raw": patch}))
                scores = output[0].float().cpu().numpy()
                tile = _score(scores.reshape(len(scores), *geometry.target_shape), self._classes)
                for axis, stride in enumerate(geometry.strides):
                    tile = np.repeat(tile, stride, axis=axis)
                # An output voxel stands for the stride's voxels around its centre.
                first = np.asarray(start) + geometry.offsets - (np.asarray(geometry.strides) - 1) // 2
                _paste(canvas, tile, first - lo)
        volumes = {"raw": self.raw, "prediction": _grey(canvas)}
        if self.target is not None:
            volumes["target"] = self.target
        return volumes


class Reconstructions:
    """Some images, and what an autoencoder makes of them: a slice of the preview each.

    Parameters
    ----------
    model : Model
    feeder : Feeder
    examples : ArrayExamples
        Where the images come from: the first ones.
    autocast : callable
        Returns the context in which the network computes.
    """

    along = "image"

    def __init__(
        self,
        model: Model,
        feeder: Feeder,
        examples: ArrayExamples,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._model = model
        self._feeder = feeder
        self._examples = examples
        self._autocast = autocast
        self._batch = {"raw": examples.plain(range(min(MAX_IMAGES, len(examples))))["raw"]}
        self.raw = self._picture(self._batch["raw"])

    @staticmethod
    def possible(model: Model) -> bool:
        """Tell whether the prediction has as many numbers as the input, which must be flat images."""
        raw, prediction = model.input_node.shape, model.prediction_node.shape
        if len(raw.spatial_tags) != 2 or raw.tags[:2] != ("b", "f") or prediction.tags[:1] != ("b",):
            return False
        if None in (*raw.shape[1:], *prediction.shape[1:]):
            return False
        return math.prod(n or 0 for n in raw.shape[1:]) == math.prod(n or 0 for n in prediction.shape[1:])

    def __call__(self) -> dict[str, Grey]:
        """Return ``raw`` and ``reconstruction``: uint8 (image, y, x), 0 to 255 for black to white."""
        model = self._model
        with evaluating(model, self._autocast):
            (output,) = model.compute([model.prediction_node], self._feeder(self._batch))
        found = output.float().cpu().numpy().reshape(self._batch["raw"].shape)
        return {"raw": self.raw, "reconstruction": self._picture(found)}

    def _picture(self, images: npt.NDArray[np.float32]) -> Grey:
        return _grey(self._examples.unscaled(images)[:, 0])


def preview_info(step: int, volumes: dict[str, Grey], along: str) -> PreviewInfo:
    """Return what clients are told of a preview."""
    depth = len(next(iter(volumes.values())))
    return PreviewInfo(count=0, step=step, depth=depth, along=along, captions=tuple(volumes))


def write_png(path: Path, volumes: dict[str, Grey], along: str = "z") -> None:
    """Write some slices of volumes of one shape as one picture: a row a slice, a column a volume.

    The text chunk "elektronn" of the file says in JSON what lies where.
    """
    from PIL import Image, PngImagePlugin

    depth = len(next(iter(volumes.values())))
    count = min(PNG_SLICES, depth)
    slices = sorted({(2 * k + 1) * depth // (2 * count) for k in range(count)})
    rows = []
    for z in slices:
        pictures = [volume[z] for volume in volumes.values()]
        gap = np.full((pictures[0].shape[0], PNG_GAP), 255, np.uint8)
        row = [part for picture in pictures for part in (picture, gap)][:-1]
        rows += [np.hstack(row), np.full((PNG_GAP, sum(part.shape[1] for part in row)), 255, np.uint8)]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    height, width = next(iter(volumes.values())).shape[1:]
    layout = {
        "captions": list(volumes),
        "slices": slices,
        "depth": depth,
        "along": along,
        "size": [height, width],
        "gap": PNG_GAP,
    }
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("elektronn", json.dumps(layout))
    Image.fromarray(np.vstack(rows[:-1])).save(temporary, format="PNG", pnginfo=chunk)
    os.replace(temporary, path)


def _tiles(
    pair: Pair, geometry: Geometry, shape: Sequence[int], position: Sequence[int] | None
) -> tuple[Box, list[tuple[int, ...]]]:
    """Return the region that can be predicted, and the positions of the patches that cover it."""
    first, last = pair.placements(geometry)
    axes, lows, highs = [], [], []
    tiles = 1
    for axis in (0, 2, 1):  # z first: slices to scroll through are worth more than width
        span = geometry.target_shape[axis] * geometry.strides[axis]
        begin = first[axis] + geometry.offsets[axis]
        end = last[axis] + geometry.offsets[axis] + geometry.span[axis]
        left = MAX_TILES // tiles if axis == 1 else max(int((MAX_TILES // tiles) ** 0.5), 1)
        size = min(shape[axis], end - begin, left * span)
        low = begin + (end - begin - size) // 2 if position is None else min(max(position[axis], begin), end - size)
        starts = {min(start, end - geometry.span[axis]) for start in range(low, low + size, span)}
        tiles *= len(starts)
        axes.append((axis, sorted(start - geometry.offsets[axis] for start in starts)))
        lows.append((axis, low))
        highs.append((axis, low + size))
    positions = [starts for _, starts in sorted(axes)]
    region = (tuple(low for _, low in sorted(lows)), tuple(high for _, high in sorted(highs)))
    return region, list(itertools.product(*positions))


def _paste(canvas: npt.NDArray[np.float32], tile: npt.NDArray[np.float32], at: npt.NDArray[np.int64]) -> None:
    into, of = [], []
    for start, size, room in zip(at.tolist(), tile.shape, canvas.shape, strict=True):
        low, high = max(start, 0), min(start + size, room)
        if high <= low:
            return
        into.append(slice(low, high))
        of.append(slice(low - start, high - start))
    canvas[tuple(into)] = tile[tuple(of)]


def _score(scores: npt.NDArray[np.float32], classes: Classes | None) -> npt.NDArray[np.float32]:
    """Return what is shown of (f, z, y, x).

    The probability of class 1 of two, else the most likely class; of several groups of two (affinities) the least of
    the first three; of features that are no classes of the target (one network for several tasks) the second one.
    """
    if len(scores) == 1:
        return scores[0]
    if classes is None:
        return scores[1]
    if classes.threshold:
        return scores[:3].min(0)
    if classes.n_class == 2:
        return scores[1::2][:3].min(0)
    first = scores[: classes.n_class]
    return (first.argmax(0) / (classes.n_class - 1)).astype(np.float32)


def _grey(values: npt.NDArray[np.float32]) -> Grey:
    return (np.clip(np.nan_to_num(values), 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _grey_raw(raw: npt.NDArray[Any]) -> Grey:
    """Return raw values on one scale for the whole session: 8-bit as they are, others between their 0.1 and 99.9 %."""
    if raw.dtype == np.uint8:
        return raw
    low, high = np.percentile(raw, (0.1, 99.9))
    return _grey((raw.astype(np.float32) - low) / max(high - low, 1e-12))


def _grey_target(
    pair: Pair, lo: Sequence[int], hi: Sequence[int], classes: Classes | None, *, several: bool
) -> Grey | None:
    """Return what is shown of the target, as `_score` of the prediction; black where there is none."""
    if pair.target is None:
        return None
    offset, extent = np.asarray(pair.target_offset), np.asarray(pair.target.shape)
    begin = np.clip(np.asarray(lo) - offset, 0, extent)
    end = np.clip(np.asarray(hi) - offset, 0, extent)
    grey = np.zeros(np.subtract(hi, lo), np.uint8)
    if (end > begin).all():
        channels = pair.target.read(begin.tolist(), end.tolist())
        values = channels[0].astype(np.float32)
        if classes is not None and classes.n_class == 2 and classes.n_indep > 1:
            nearest = channels[: min(3, classes.n_indep)]
            values = np.where(nearest < 0, 1, nearest).min(0).astype(np.float32)
        elif classes is None and several:
            values = (values == 1).astype(np.float32)
        at = begin + offset - np.asarray(lo)
        most = max(classes.n_class - 1, 1) if classes is not None else 1
        grey[tuple(slice(a, a + n) for a, n in zip(at, values.shape, strict=True))] = _grey(values / most)
    return grey

"""Pictures of what a network is fed: raw sections, and beside each the same one with its target over it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elektronn_tui.data import Geometry

__all__ = ["draw_batch", "draw_example", "write_picture"]

GAP = 4
MOST_EXAMPLES = 8
WIDTH = 384
"""Pixels that a section is enlarged to, about, by a whole factor."""
COLOURS = ((230, 75, 53), (77, 187, 213), (240, 200, 60), (60, 160, 90), (160, 110, 200), (240, 140, 180))
"""Of classes 1, 2, ... in turn; class 0 has none."""
UNKNOWN = (255, 0, 255)

Colour = npt.NDArray[np.uint8]


def draw_example(
    raw: npt.NDArray[np.float32], target: npt.NDArray[Any] | None, geometry: Geometry | None = None
) -> Colour:
    """Draw the middle section of an example, and a cut through its middle along y where it has depth.

    Parameters
    ----------
    raw
        (channels, z, y, x) or (channels, y, x); the first channel is shown.
    target
        (channels', z', y', x'): class ids (negative ones don't count, drawn in magenta) or values, of which the first
        channel is drawn; or affinities, of which the cuts of the first three are. None, or no image: raw alone.
    geometry
        How the target lies in raw; None: centred, stride 1.

    Returns
    -------
    picture : (height, width, 3) uint8
    """
    image = raw[0] if raw.ndim == 4 else raw[0][None]
    grey = _grey(image)
    tinted = grey
    if target is not None and target.ndim == raw.ndim:
        tinted = _overlaid(grey, target if target.ndim == 4 else target[:, None], geometry)
    depth, height = image.shape[:2]
    rows = [[volume[depth // 2] for volume in _columns(grey, tinted)]]
    if depth > 1:
        rows.append([volume[:, height // 2] for volume in _columns(grey, tinted)])
    return _stack([_row(row) for row in rows])


def draw_batch(batch: Mapping[str, npt.NDArray[Any]], geometry: Geometry | None = None) -> Colour:
    """Draw the examples of a batch one below the other, `MOST_EXAMPLES` at most; see `draw_example`.

    Raises
    ------
    ValueError
        The batch holds no images.
    """
    raw, target = batch["raw"], batch.get("target")
    if raw.ndim not in (4, 5):
        raise ValueError(f"the batch holds no images, but arrays of the shape {raw.shape[1:]}")
    pairs = zip(raw, target if target is not None else [None] * len(raw), strict=True)
    return _stack([draw_example(image, labels, geometry) for image, labels in list(pairs)[:MOST_EXAMPLES]])


def write_picture(path: Path, picture: Colour) -> None:
    """Write a PNG file, whole or not at all."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    Image.fromarray(picture).save(temporary, format="PNG")
    os.replace(temporary, path)


def _columns(grey: Colour, tinted: Colour) -> list[Colour]:
    return [grey] if tinted is grey else [grey, tinted]


def _grey(image: npt.NDArray[np.float32]) -> Colour:
    """Return (z, y, x, 3): the batch holds scaled values, of whatever scaling."""
    low, high = np.percentile(image, (0.5, 99.5))
    scaled = np.clip((image.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat((scaled * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _overlaid(grey: Colour, target: npt.NDArray[Any], geometry: Geometry | None) -> Colour:
    """Return the picture darkened where there is no target, and coloured by it where there is one."""
    strides = geometry.strides if geometry is not None else (1, 1, 1)
    for axis, stride in enumerate(strides):
        target = np.repeat(target, stride, axis=1 + axis)
    extent = np.minimum(target.shape[1:], grey.shape[:3])
    target = target[:, : extent[0], : extent[1], : extent[2]]
    if geometry is None:
        first = (np.asarray(grey.shape[:3]) - extent) // 2
    else:  # an output voxel stands for the stride's voxels around its centre
        first = np.asarray(geometry.offsets) - (np.asarray(strides) - 1) // 2
        first = np.clip(first, 0, np.asarray(grey.shape[:3]) - extent)
    where = tuple(slice(int(a), int(a + n)) for a, n in zip(first, extent, strict=True))
    colour, opacity = _colours(target)
    tinted = (grey * 0.4).astype(np.uint8)
    tinted[where] = (grey[where] * (1 - opacity[..., None]) + colour * opacity[..., None]).astype(np.uint8)
    return tinted


def _colours(target: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return colours (z, y, x, 3) and opacities (z, y, x) of (channels, z, y, x)."""
    first = target[0]
    if target.dtype.kind == "f":
        high = float(np.nanmax(np.abs(first))) if np.isfinite(first).any() else 1.0
        colour = np.broadcast_to(np.asarray(COLOURS[0], np.float32), (*first.shape, 3))
        return colour, (np.nan_to_num(np.abs(first)) / max(high, 1e-6) * 0.6).astype(np.float32)
    colour = np.zeros((*first.shape, 3), np.float32)
    if len(target) > 2 and target[:3].max() <= 1:
        for channel, edge in enumerate(target[:3]):
            colour[..., channel][edge == 0] = 255
        opacity = np.where(colour.any(-1), 0.6, 0)
    else:
        colour[:] = np.asarray(COLOURS, np.float32)[np.maximum(first - 1, 0) % len(COLOURS)]
        opacity = np.where(first > 0, 0.5, 0)
    colour[first < 0] = UNKNOWN
    return colour, np.where(first < 0, 0.4, opacity).astype(np.float32)


def _row(sections: Sequence[Colour]) -> Colour:
    factor = max(1, WIDTH // sections[0].shape[1])
    large = [np.repeat(np.repeat(section, factor, axis=0), factor, axis=1) for section in sections]
    gap = np.full((large[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for section in large for part in (section, gap)][:-1], axis=1)


def _stack(rows: Sequence[Colour]) -> Colour:
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], axis=0)

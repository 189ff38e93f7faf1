"""Figures that describe a piece of tissue: grey levels, noise, slices, membranes, sizes of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

__all__ = ["TissueStatistics", "boundary_mask", "tissue_statistics", "white_noise"]

_CHECKER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_MEMBRANE_NM = 20.0


@dataclass(frozen=True)
class TissueStatistics:
    """What `tissue_statistics` measures; grey levels are those of the raw volume."""

    mean: float
    sd: float
    white_noise: float
    """Standard deviation of the noise that is independent from pixel to pixel."""
    slice_jitter: float
    """Standard deviation of the slices' means."""
    slice_correlation: float
    """Mean of Pearson's r of neighbouring slices."""
    boundary_fraction: float
    boundary_grey: float
    boundary_sd: float
    cytoplasm_grey: float
    """Mean of what is neither boundary nor (where they are known and the sections thick) mitochondrion."""
    cytoplasm_sd: float
    mitochondria_fraction: float
    mitochondria_grey: float
    mitochondria_sd: float
    segments: float
    """Ids per µm³."""
    sections: tuple[float, float, float]
    """Area of an id in a z slice, percentiles 10, 50 and 90, in µm²."""


def white_noise(raw: np.ndarray) -> float:
    """Standard deviation of the white part of the noise of a (z, y, x) volume.

    Each slice is filtered with the product of two second differences, which takes out whatever is smooth;
    Immerkær, Computer Vision and Image Understanding 64 (1996) 300.
    """
    filtered = [ndimage.convolve(np.asarray(s, np.float32), _CHECKER)[1:-1, 1:-1] for s in raw]
    return float(np.std(filtered) / 6.0)


def boundary_mask(ids: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """Voxels whose centre is at most 10 nm from a face between two ids.

    Parameters
    ----------
    ids : ndarray, (z, y, x)
    voxel_size : sequence of 3 float
        nm, z, y, x. Axes with voxels above 20 nm are left out: a membrane is drawn within its section there.

    Returns
    -------
    ndarray of bool, (z, y, x)
        Two voxels thick at 10 nm, six at 4 nm.
    """
    mask = np.zeros(ids.shape, bool)
    axes = [a for a in range(3) if voxel_size[a] <= _MEMBRANE_NM]
    for a in axes:
        along, out = np.moveaxis(ids, a, 0), np.moveaxis(mask, a, 0)
        face = along[1:] != along[:-1]
        out[1:] |= face
        out[:-1] |= face
    further = int(_MEMBRANE_NM / 2 / min(voxel_size[a] for a in axes) - 0.5) if axes else 0
    if further > 0:
        near = np.zeros((3, 3, 3), bool)
        near[1, 1, 1] = True
        for a in axes:
            np.moveaxis(near, a, 0)[:, 1, 1] = True
        mask = ndimage.binary_dilation(mask, near, iterations=further)
    return mask


def tissue_statistics(
    raw: np.ndarray,
    ids: np.ndarray,
    voxel_size: Sequence[float],
    mitochondria: np.ndarray | None = None,
) -> TissueStatistics:
    """Measure a densely labelled volume.

    Parameters
    ----------
    raw : ndarray, (z, y, x)
        Grey levels.
    ids : ndarray of int, (z, y, x)
        A cell for every voxel.
    voxel_size : sequence of 3 float
        nm, z, y, x.
    mitochondria : ndarray, (z, y, x), optional
        Not 0 inside mitochondria. Where sections are thicker than a membrane, the cytoplasm is counted without
        them, as annotators of ssTEM do.

    Returns
    -------
    TissueStatistics
    """
    z, y, x = (float(v) for v in voxel_size)
    mean = np.array([float(np.mean(s)) for s in raw])
    pairs = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairwise(raw)]
    boundary = boundary_mask(ids, voxel_size)
    inner = ~boundary
    mito = np.zeros(raw.shape, bool) if mitochondria is None else (np.asarray(mitochondria) != 0) & inner
    if z > _MEMBRANE_NM:
        inner &= ~mito
    known = np.unique(ids)
    areas = np.concatenate([np.unique(s, return_counts=True)[1] for s in ids])
    p10, p50, p90 = (float(v) for v in np.percentile(areas, [10, 50, 90]) * (y * x * 1e-6))

    def level(where: np.ndarray) -> tuple[float, float]:
        values = raw[where]
        return (float(values.mean()), float(values.std())) if values.size else (float("nan"), float("nan"))

    return TissueStatistics(
        mean=float(raw.mean()),
        sd=float(raw.std()),
        white_noise=white_noise(raw),
        slice_jitter=float(mean.std()),
        slice_correlation=float(np.mean(pairs)) if pairs else float("nan"),
        boundary_fraction=float(boundary.mean()),
        boundary_grey=level(boundary)[0],
        boundary_sd=level(boundary)[1],
        cytoplasm_grey=level(inner)[0],
        cytoplasm_sd=level(inner)[1],
        mitochondria_fraction=float(mito.mean()),
        mitochondria_grey=level(mito)[0],
        mitochondria_sd=level(mito)[1],
        segments=len(known) / (ids.size * z * y * x * 1e-9),
        sections=(p10, p50, p90),
    )

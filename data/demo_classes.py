"""Several targets at once that the demo volume knows: boundaries, organelles, the calibre of cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .demo import DemoVolume
from .labels import boundaries

__all__ = ["TISSUE_CLASSES", "tissue_classes"]

TISSUE_CLASSES: dict[str, tuple[str, ...]] = {
    "barrier": ("interior", "boundary", "beside a boundary"),
    "object": ("cytoplasm", "boundary", "mitochondrion", "surface of a mitochondrion"),
    "calibre": ("thin", "middle", "thick"),
}
"""The classes of each channel of `tissue_classes`, by their number."""

_RIM = 6


def tissue_classes(volume: DemoVolume) -> npt.NDArray[np.uint8]:
    """Return classes of every voxel of a demo volume, as three volumes.

    Parameters
    ----------
    volume
        Of `demo_volume`.

    Returns
    -------
    ndarray of uint8
        (3, z, y, x), see `TISSUE_CLASSES`. A cell is thin, middle or thick as its number of voxels is among the lower,
        middle or upper third of the cells, weighted with their size: a third of the volume each.
    """
    # Sections of 50 nm have no boundaries between each other.
    flat = volume.voxel_size[0] > 2 * volume.voxel_size[1]

    def walls(ids: np.ndarray, thickness: int) -> npt.NDArray[np.bool_]:
        return boundaries(ids, (0, thickness, thickness) if flat else thickness) == 1

    boundary, inside = walls(volume.ids, 2), volume.mitochondria != 0
    classes = np.zeros((3, *volume.ids.shape), np.uint8)
    classes[0][walls(volume.ids, _RIM)] = 2
    classes[0][boundary] = 1
    classes[1][inside] = 2
    classes[1][inside & walls(volume.mitochondria, 2)] = 3
    classes[1][boundary & ~inside] = 1
    _, cell, sizes = np.unique(volume.ids, return_inverse=True, return_counts=True)
    order = np.argsort(sizes, kind="stable")
    middle = 2 * np.cumsum(sizes[order]) - sizes[order]
    thirds = np.empty(len(sizes), np.uint8)
    thirds[order] = 3 * middle // (2 * sizes.sum())
    classes[2] = thirds[cell].reshape(volume.ids.shape)
    return classes

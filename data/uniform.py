"""Volumes of one value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .sources import ArraySource, Source

__all__ = ["uniform_source"]


def uniform_source(values: float | Sequence[float], like: Source) -> ArraySource:
    """Return a volume that holds the same value everywhere and takes no memory: the label of a whole volume.

    Parameters
    ----------
    values
        One, or one for each channel: classes (integers), or numbers to predict (floats).
    like
        Gives the spatial shape, the size of voxels and the position.
    """
    channels = np.atleast_1d(np.asarray(values))
    channels = channels.astype(np.int64 if channels.dtype.kind in "iu" else np.float32)
    whole = np.broadcast_to(channels[:, None, None, None], (len(channels), *like.shape))
    return ArraySource(whole, voxel_size=like.voxel_size, offset=like.offset, name=f"{values} for all of {like.name}")

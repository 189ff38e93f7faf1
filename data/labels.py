"""Targets made of segment ids: boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

from .sources import Source, SourceLike, Vec3, as_source, checked_box

__all__ = ["Background", "BoundarySource", "boundaries"]

Background: TypeAlias = Literal["object", "boundary", "ignore", "class"]

_MODES: dict[str, int] = {name: i for i, name in enumerate(get_args(Background))}


def boundaries(ids: np.ndarray, thickness: int | Sequence[int] = 2, *, background: Background = "object") -> np.ndarray:
    """Mark the voxels that lie at a face between two different ids.

    Parameters
    ----------
    ids
        Integer ids (z, y, x), or (..., z, y, x) with leading axes of size 1.
    thickness
        Thickness of a wall in voxels, one number or (z, y, x). 2 marks the voxel on either side of a face, 4 two on
        either side; of an odd number the larger half lies on the side of the higher index. 0: faces across this
        axis don't count, as fits images of thick sections.
    background
        What id 0 is:

        * ``"object"``: an id like any other (0 marks what was not traced, walls around it are walls);
        * ``"boundary"``: all of it is boundary (0 is membrane or extracellular space);
        * ``"ignore"``: unknown, marked -1, and its faces are no walls;
        * ``"class"``: class 2, where it is not wall (extracellular space as a class of its own).

    Returns
    -------
    ndarray of uint8 (int8 for ``"ignore"``), the shape of `ids`
        1 boundary, 0 not, and -1 or 2 as said.

    Raises
    ------
    DataError
        `ids` are no integers or no volume, `thickness` or `background` make no sense.

    Notes
    -----
    With thickness 2 the result is that of ELEKTRONN2's ``ids2barriers``, with 4 that of its ``dilute``.

    Examples
    --------
    >>> boundaries(np.array([[[7, 7, 7, 9, 9, 9]]]))
    array([[[0, 0, 1, 1, 0, 0]]], dtype=uint8)
    """
    thick = _thickness(thickness)
    mode = _mode(background)
    if ids.dtype.kind == "b":
        ids = ids.view(np.uint8)
    if ids.dtype.kind not in "iu":
        raise DataError(f"boundaries: ids are integers, not {ids.dtype}.")
    if ids.ndim < 3 or any(n != 1 for n in ids.shape[:-3]):
        raise DataError(f"boundaries: ids of shape {ids.shape}; one volume (z, y, x) is needed.")
    # Only equality counts: one compiled kernel a width is enough, whatever the sign.
    volume = np.ascontiguousarray(ids).view(f"u{ids.dtype.itemsize}").reshape(ids.shape[-3:])
    out = np.empty(volume.shape, np.int8)
    _kernel()(volume, out, *thick, mode)
    return (out if background == "ignore" else out.view(np.uint8)).reshape(ids.shape)


class BoundarySource:
    """The boundaries of a volume of ids, computed where they are read.

    Each box is read with the margin that its walls need, so that it equals the box of `boundaries` of the whole.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    thickness, background
        As in `boundaries`.
    """

    def __init__(
        self, ids: SourceLike, thickness: int | Sequence[int] = 2, *, background: Background = "object"
    ) -> None:
        self.ids: Source = as_source(ids)
        self.thickness = _thickness(thickness)
        self.background = background
        _mode(background)
        self.dtype: np.dtype[Any] = np.dtype(np.int8 if background == "ignore" else np.uint8)
        self.channels = 1

    @property
    def name(self) -> str:
        """The name of the ids."""
        return f"boundaries of {self.ids.name}"

    @property
    def shape(self) -> Vec3:
        """Spatial shape (z, y, x)."""
        return self.ids.shape

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Size of a voxel (z, y, x) in nm."""
        return self.ids.voxel_size

    @property
    def offset(self) -> tuple[float, float, float] | None:
        """Position of voxel 0 (z, y, x) in nm."""
        return self.ids.offset

    def read(self, lo: Sequence[int], hi: Sequence[int]) -> np.ndarray:
        """Return the boundaries in the box as (1, z, y, x)."""
        low, high = checked_box(self, lo, hi)
        if self.ids.channels != 1:
            raise DataError(f"{self.ids.name} has {self.ids.channels} channels; ids have one.")
        margin = [(t + 1) // 2 for t in self.thickness]
        outer_lo = [max(l - m, 0) for l, m in zip(low, margin, strict=True)]
        outer_hi = [min(h + m, n) for h, m, n in zip(high, margin, self.shape, strict=True)]
        walls = boundaries(self.ids.read(outer_lo, outer_hi), self.thickness, background=self.background)
        inner = tuple(slice(l - o, h - o) for l, h, o in zip(low, high, outer_lo, strict=True))
        return walls[(slice(None), *inner)]

    def close(self) -> None:
        """Close the source of the ids."""
        self.ids.close()

    def __repr__(self) -> str:
        return f"BoundarySource({self.ids!r}, {self.thickness}, background={self.background!r})"


def _thickness(thickness: int | Sequence[int]) -> Vec3:
    given = (thickness,) * 3 if isinstance(thickness, int) else tuple(int(t) for t in thickness)
    if len(given) != 3 or min(given) < 0 or max(given) == 0:
        raise DataError(
            f"boundaries: thickness={thickness!r}; one number of voxels, or three ≥ 0 for z, y, x, not all 0."
        )
    return given[0], given[1], given[2]


def _mode(background: str) -> int:
    if background not in _MODES:
        raise DataError(
            f"boundaries: background={background!r}; use one of {', '.join(_MODES)}."
            + did_you_mean(str(background), _MODES)
        )
    return _MODES[background]


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the compiled pass (numba is imported when it is first needed)."""
    from ._label_kernels import mark_boundaries

    return mark_boundaries

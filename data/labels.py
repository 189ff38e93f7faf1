"""Targets made of segment ids: boundaries, hard or soft, ids that grow, and classes as channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError, did_you_mean

from .derived import IdsSource
from .sources import SourceLike, Vec3

__all__ = [
    "Background",
    "BoundarySource",
    "SoftBoundarySource",
    "boundaries",
    "grow_segments",
    "one_hot",
    "smear_boundaries",
]

Background: TypeAlias = Literal["object", "boundary", "ignore", "class"]

_MODES: dict[str, int] = {name: i for i, name in enumerate(get_args(Background))}


def boundaries(
    ids: np.ndarray,
    thickness: int | Sequence[int] = 2,
    *,
    background: Background = "object",
    smoothen: bool = False,
) -> np.ndarray:
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
    smoothen
        Round the steps of walls off: a voxel is wall if more than 4 of 7.2 weights of its 3×3×3 voxels are (centre 1,
        in its section 0.5 at edges and 0.3 at corners, in those beside it 0.3, 0.2 and 0.1).

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
    # Only equality counts: one compiled kernel a width is enough, whatever the sign.
    volume = _unsigned(ids, "boundaries")
    out = np.zeros(volume.shape, np.int8)
    kernels = _kernels()
    kernels.mark_boundaries(volume, out, *thick, background == "ignore")
    if smoothen:
        walls, out = out, np.empty_like(out)
        kernels.smooth_walls(walls, out)
    if mode:
        kernels.mark_background(volume, out, mode)
    return (out if background == "ignore" else out.view(np.uint8)).reshape(ids.shape)


def smear_boundaries(walls: np.ndarray, size: Sequence[int] = (3, 5, 5)) -> npt.NDArray[np.float32]:
    """Turn walls into soft targets, which fall from 1 to 0 across their faces.

    Parameters
    ----------
    walls
        (..., z, y, x) of `boundaries`: 1 wall, 0 not, negative unknown.
    size
        Odd numbers of voxels (z, y, x) that a voxel is compared with; 1 for an axis that isn't smeared.

    Returns
    -------
    ndarray of float32, the shape of `walls`
        From 0 to 1; swapping walls and what is between them gives 1 minus that, and a flat face lies at 0.5. NaN where
        unknown, which doesn't count in training.

    Raises
    ------
    DataError
        `walls` are no such volume, or `size` makes no sense.

    Notes
    -----
    With ``s(b) = min(b * K, 1)`` the result is ``(s(walls) + 1 - s(1 - walls)) / 2``. K is a Gaussian over ±2.2
    standard deviations, divided by the sum of its squares, and 1 in the centre. Beyond the volume its outermost voxels
    repeat.

    Examples
    --------
    >>> smear_boundaries(np.array([[[0, 0, 0, 1, 1, 1]]]), (1, 1, 3)).round(2)
    array([[[0.  , 0.  , 0.04, 0.96, 1.  , 1.  ]]], dtype=float32)
    """
    sizes = _odd_sizes(size)
    walls = np.asarray(walls)
    if walls.ndim < 3 or walls.dtype.kind not in "iub" or (walls.size and walls.max() > 1):
        raise DataError(
            f"smear_boundaries: walls of 0, 1 and -1 (z, y, x) are needed, not {walls.dtype} of shape {walls.shape}"
            f"{f' up to {walls.max()}' if walls.size and walls.dtype.kind in 'iub' else ''}."
        )
    soft = (_spread(walls == 1, sizes) - _spread(walls == 0, sizes) + np.float32(1)) / np.float32(2)
    soft[walls < 0] = np.nan
    return soft


def grow_segments(ids: np.ndarray, steps: int | Sequence[int] = (1, 3, 3)) -> np.ndarray:
    """Let segments grow into voxels of id 0, so many along each axis.

    Parameters
    ----------
    ids
        Integer ids (z, y, x), or (..., z, y, x) with leading axes of size 1; none negative.
    steps
        One number, or (z, y, x). In round r all axes of more than r steps take part, and a voxel of id 0 becomes the id
        of its neighbours along them; of several ids the least.

    Returns
    -------
    ndarray
        Shape and dtype of `ids`, in the byte order of this machine.

    Raises
    ------
    DataError
        `ids` are no such volume, or `steps` are negative.

    Examples
    --------
    >>> grow_segments(np.array([[[7, 0, 0, 0, 5, 0]]]), 1)
    array([[[7, 7, 0, 5, 5, 5]]])
    """
    given = (steps,) * 3 if isinstance(steps, int) else tuple(int(n) for n in steps)
    if len(given) != 3 or min(given) < 0:
        raise DataError(f"grow_segments: steps={steps!r}; one number of voxels ≥ 0, or three for z, y, x.")
    volume = _unsigned(ids, "grow_segments")
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise DataError(f"grow_segments: an id is {ids.min()}; ids are 0 (free) or above.")
    now, after = volume.copy(), np.empty_like(volume)
    for r in range(max(given)):
        _kernels().grow_once(now, after, *(n > r for n in given))
        now, after = after, now
    return now.view(ids.dtype.newbyteorder("=")).reshape(ids.shape)


def one_hot(labels: np.ndarray, classes: int, *, smoothing: float = 0.0) -> npt.NDArray[np.float32]:
    """Give each class a channel.

    Parameters
    ----------
    labels
        Classes (z, y, x) from 0, or (1, z, y, x); negative ones are unknown.
    classes
        Number of classes.
    smoothing
        Share of the certainty that is given to all classes alike, from 0 to below 1.

    Returns
    -------
    ndarray of float32, (classes, z, y, x)
        1 in the channel of the class and 0 elsewhere, smoothed; NaN where unknown.

    Raises
    ------
    DataError
        A label is `classes` or more, or labels are no integers.

    Examples
    --------
    >>> one_hot(np.array([[[1, 0]]]), 2)[:, 0, 0]
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    labels = np.asarray(labels)
    if labels.ndim == 4 and len(labels) == 1:
        labels = labels[0]
    if labels.ndim != 3 or labels.dtype.kind not in "iub":
        raise DataError(f"one_hot: integer labels (z, y, x) are needed, not {labels.dtype} of shape {labels.shape}.")
    if classes < 1 or not 0 <= smoothing < 1:
        raise DataError(f"one_hot: classes={classes}, smoothing={smoothing}; ≥ 1, and from 0 to below 1.")
    if labels.size and labels.max() >= classes:
        raise DataError(f"one_hot: a label is {labels.max()}; with {classes} classes they are 0 to {classes - 1}.")
    channels = (np.arange(classes)[:, None, None, None] == labels).astype(np.float32)
    channels *= 1 - smoothing
    channels += smoothing / classes
    channels[:, labels < 0] = np.nan
    return channels


class BoundarySource(IdsSource):
    """The boundaries of a volume of ids, computed where they are read.

    Each box is read with the margin that its walls need, so that it equals the box of `boundaries` of the whole.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    thickness, background, smoothen
        As in `boundaries`.
    """

    channels = 1

    def __init__(
        self,
        ids: SourceLike,
        thickness: int | Sequence[int] = 2,
        *,
        background: Background = "object",
        smoothen: bool = False,
    ) -> None:
        self.thickness = _thickness(thickness)
        self.background = background
        self.smoothen = smoothen
        _mode(background)
        margin = [(t + 1) // 2 + smoothen for t in self.thickness]
        super().__init__(ids, "boundaries", margin, margin)
        self.dtype = np.dtype(np.int8 if background == "ignore" else np.uint8)

    def compute(self, ids: np.ndarray) -> np.ndarray:
        """Return the boundaries of a box of ids."""
        return boundaries(ids, self.thickness, background=self.background, smoothen=self.smoothen)

    def __repr__(self) -> str:
        smoothen = ", smoothen=True" if self.smoothen else ""
        return f"{type(self).__name__}({self.ids!r}, {self.thickness}, background={self.background!r}{smoothen})"


class SoftBoundarySource(BoundarySource):
    """The boundaries of a volume of ids as soft targets: `smear_boundaries` of `boundaries`.

    Parameters
    ----------
    ids
        Source, array or address of integer ids; one channel.
    thickness, background, smoothen
        As in `boundaries`; not ``"class"``.
    size
        As in `smear_boundaries`.
    """

    def __init__(
        self,
        ids: SourceLike,
        thickness: int | Sequence[int] = 2,
        *,
        background: Background = "object",
        smoothen: bool = False,
        size: Sequence[int] = (3, 5, 5),
    ) -> None:
        super().__init__(ids, thickness, background=background, smoothen=smoothen)
        if background == "class":
            raise DataError("soft boundaries: background='class' makes three classes; use another one.")
        self.size = _odd_sizes(size)
        self.below = self.above = self.below + np.array(self.size) // 2
        self.dtype = np.dtype(np.float32)

    def compute(self, ids: np.ndarray) -> np.ndarray:
        """Return the soft boundaries of a box of ids."""
        return smear_boundaries(super().compute(ids), self.size)


def _spread(mask: npt.NDArray[np.bool_], sizes: Vec3) -> npt.NDArray[np.float32]:
    """Return a mask convolved with the kernel of `smear_boundaries`, at most 1."""
    from scipy.ndimage import correlate1d

    lines = [np.exp(-(np.linspace(-2.2, 2.2, n) ** 2) / 2) if n > 1 else np.ones(1) for n in sizes]
    squares = float(np.prod([(line**2).sum() for line in lines]))
    values = mask.astype(np.float32)
    spread = values
    for axis, line in zip((-3, -2, -1), lines, strict=True):
        spread = correlate1d(spread, line, axis, mode="nearest")
    # The Gaussian has 1 / squares in the centre, the kernel 1.
    total: npt.NDArray[np.float32] = spread / np.float32(squares) + values * np.float32(1 - 1 / squares)
    return np.minimum(total, np.float32(1))


def _odd_sizes(size: Sequence[int]) -> Vec3:
    given = tuple(int(n) for n in size)
    if len(given) != 3 or any(n < 1 or n % 2 == 0 for n in given):
        raise DataError(f"soft boundaries: size={size!r}; three odd numbers of voxels for z, y, x are needed.")
    return given[0], given[1], given[2]


def _unsigned(ids: np.ndarray, what: str) -> np.ndarray:
    """Return ids (z, y, x) in C order, seen as unsigned numbers of the same width."""
    if ids.dtype.kind == "b":
        ids = ids.view(np.uint8)
    if ids.dtype.kind not in "iu":
        raise DataError(f"{what}: ids are integers, not {ids.dtype}.")
    if ids.ndim < 3 or any(n != 1 for n in ids.shape[:-3]):
        raise DataError(f"{what}: ids of shape {ids.shape}; one volume (z, y, x) is needed.")
    native = np.ascontiguousarray(ids, ids.dtype.newbyteorder("="))
    return native.view(f"u{ids.dtype.itemsize}").reshape(ids.shape[-3:])


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
def _kernels() -> Any:
    """Return the compiled passes (numba is imported when it is first needed)."""
    from . import _label_kernels

    return _label_kernels

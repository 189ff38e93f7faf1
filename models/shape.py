"""Tagged shapes: sizes with the meaning of every axis and their geometry in input voxels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import ShapeError

__all__ = ["TaggedShape"]

TAGS = ("r", "b", "f", "z", "y", "x", "s")
SPATIAL_TAGS = ("z", "y", "x")


class TaggedShape:
    """Sizes, tags and geometry of an array that flows through a network.

    Immutable: every ``update...``, ``addaxis`` and ``delaxis`` returns a new object.

    Parameters
    ----------
    shape : sequence of int or None
        Size of each axis; None is unknown (usually the batch).
    tags : str or sequence of str
        One of ``r b f z y x s`` for each axis (time, batch, features, space, samples); a string is
        split at commas.
    strides : sequence of int, optional
        Distance in input voxels between neighbouring voxels, for each spatial axis; default 1.
    mfp_offsets : array_like of int, (fragments, spatial axes), optional
        Offset in input voxels of each fragment on the batch axis; default one fragment at 0.
    fov : sequence of int, optional
        Field of view in input voxels, for each spatial axis; default 1; -1 is unknown (after `UpConv`).
    centre : sequence of float, optional
        Where, in input voxels, the middle of the first voxel's field of view lies; default
        ``(fov - 1) / 2``, which is right unless the network pads or up-samples.

    Raises
    ------
    ShapeError
        If a tag is unknown or doubled, or lengths don't agree.

    Examples
    --------
    >>> shape = TaggedShape((1, 20, 23, 90, 90), "b,f,z,y,x", strides=(1, 2, 2), fov=(1, 7, 7))
    >>> shape["f"], shape.spatial_shape, shape.offsets
    (20, (23, 90, 90), (0, 3, 3))
    >>> shape.updateshape("f", 2)
    [(1,b), (2,f), (23,z), (90,y), (90,x)]
    """

    __slots__ = ("centre", "fov", "mfp_offsets", "shape", "spatial_axes", "strides", "tags")

    shape: tuple[int | None, ...]
    tags: tuple[str, ...]
    strides: tuple[int | float, ...]
    fov: tuple[int, ...]
    centre: tuple[float, ...]
    mfp_offsets: npt.NDArray[np.int64]
    spatial_axes: tuple[int, ...]

    def __init__(
        self,
        shape: Iterable[int | None],
        tags: str | Sequence[str],
        strides: Sequence[int | float] | None = None,
        mfp_offsets: npt.ArrayLike | None = None,
        fov: Sequence[int] | None = None,
        *,
        centre: Sequence[float] | None = None,
    ) -> None:
        if isinstance(shape, str) or not isinstance(shape, Iterable):
            raise ShapeError(f"A shape must be a list of sizes, as (1, 3, 8), not {shape!r}.")
        self.shape = tuple(_size(n) for n in shape)
        self.tags = _tags(tags)
        if len(self.tags) != len(self.shape):
            raise ShapeError(
                f"{len(self.shape)} sizes {self.shape} need as many tags, not {len(self.tags)}: "
                f"{','.join(self.tags)!r}."
            )
        self.spatial_axes = tuple(i for i, tag in enumerate(self.tags) if tag in SPATIAL_TAGS)
        n = len(self.spatial_axes)
        self.strides = (1,) * n if strides is None else tuple(_whole(s) for s in _numbers("strides", strides))
        self.fov = (1,) * n if fov is None else tuple(int(f) for f in _numbers("fov", fov))
        if centre is None:
            centre = [(f - 1) / 2 if f > 0 else float("nan") for f in self.fov]
        self.centre = tuple(_numbers("centre", centre, or_nan=True))
        try:
            offsets = np.zeros((1, n), np.int64) if mfp_offsets is None else np.array(mfp_offsets, np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ShapeError(f"mfp_offsets must be whole numbers, not {mfp_offsets!r} ({error}).") from None
        offsets.setflags(write=False)
        self.mfp_offsets = offsets
        if any(not s > 0 for s in self.strides):
            raise ShapeError(f"strides {self.strides} of {self.text} must be numbers above 0.")
        if fov is not None and any(f != g or f < -1 for f, g in zip(self.fov, fov, strict=True)):
            raise ShapeError(f"fov {tuple(fov)} of {self.text} must be whole numbers from 0 on, or -1 for unknown.")
        for what, values in (("strides", self.strides), ("fov", self.fov), ("centre", self.centre)):
            if len(values) != n:
                raise ShapeError(f"{what} {values} need one entry for each of the {n} spatial axes of {self.text}.")
        if offsets.ndim != 2 or offsets.shape[1] != n:
            raise ShapeError(f"mfp_offsets must have the shape (fragments, {n}), not {offsets.shape}.")

    @property
    def text(self) -> str:
        """Sizes and tags, as ``[(1,b), (20,f), (23,z)]``."""
        return "[" + ", ".join(f"({n},{tag})" for n, tag in zip(self.shape, self.tags, strict=True)) + "]"

    @property
    def ext_repr(self) -> str:
        """The text with a second line of field of view, offsets, strides and spatial shape."""
        return (
            f"{self.text}\nfov={self.fov}, offsets={self.offsets}, strides={self.strides}, "
            f"spatial shape={self.spatial_shape}"
        )

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.spatial_axes)

    @property
    def spatial_tags(self) -> tuple[str, ...]:
        """Tags of the spatial axes, in their order."""
        return tuple(self.tags[i] for i in self.spatial_axes)

    @property
    def spatial_shape(self) -> tuple[int | None, ...]:
        """Sizes of the spatial axes."""
        return tuple(self.shape[i] for i in self.spatial_axes)

    @property
    def spatial_size(self) -> int:
        """Number of voxels: the product of the known spatial sizes."""
        return math.prod(n for n in self.spatial_shape if n is not None)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Input voxel in which the first output voxel lies (``fov // 2`` in networks without padding).

        -1 where it isn't known.
        """
        return tuple(-1 if math.isnan(c) else math.ceil(c - 1e-6) for c in self.centre)

    @property
    def fov_all_centered(self) -> bool:
        """Whether every field of view is odd, so that it has a voxel in its middle."""
        return all(f % 2 == 1 and f > 0 for f in self.fov)

    @property
    def stripnone(self) -> tuple[int, ...]:
        """The known sizes."""
        return tuple(n for n in self.shape if n is not None)

    @property
    def stripnone_prod(self) -> int:
        """Product of the known sizes."""
        return math.prod(self.stripnone)

    @property
    def stripbatch_prod(self) -> int:
        """Product of the known sizes without the batch axis."""
        return math.prod(n for n, tag in zip(self.shape, self.tags, strict=True) if n is not None and tag != "b")

    def hastag(self, tag: str) -> bool:
        """Return whether an axis has this tag."""
        return tag in self.tags

    def tag2index(self, tag: str) -> int:
        """Return the index of the axis with this tag.

        Raises
        ------
        ShapeError
            If there is none.
        """
        if tag not in self.tags:
            raise ShapeError(f"{self.text} has no axis {tag!r}, only {', '.join(self.tags)}.")
        return self.tags.index(tag)

    def updateshape(self, axis: int | str, size: int | None, mode: Literal["add", "mult"] | None = None) -> TaggedShape:
        """Return a copy in which `axis` (index or tag) has another size.

        With `mode` ``'add'`` or ``'mult'`` the size is added to or multiplied with the present one; an
        unknown size stays unknown.
        """
        index = self._index(axis)
        if mode not in (None, "add", "mult"):
            raise ShapeError(f"mode must be None, 'add' or 'mult', not {mode!r}.")
        old = self.shape[index]
        if mode is not None:
            if size is None:
                raise ShapeError(f"mode {mode!r} needs a number.")
            size = None if old is None else (old + size if mode == "add" else old * size)
        return self._with(shape=(*self.shape[:index], size, *self.shape[index + 1 :]))

    def updatefov(self, spatial_index: int, fov: int) -> TaggedShape:
        """Return a copy with another, centred field of view on a spatial axis (-1: unknown)."""
        i = range(self.ndim)[spatial_index]
        centre = (fov - 1) / 2 if fov > 0 else float("nan")
        return self._with(
            fov=(*self.fov[:i], fov, *self.fov[i + 1 :]),
            centre=(*self.centre[:i], centre, *self.centre[i + 1 :]),
        )

    def updatecentre(self, centre: Sequence[float]) -> TaggedShape:
        """Return a copy whose first voxel lies at these input coordinates."""
        return self._with(centre=centre)

    def updatestrides(self, strides: Sequence[int | float]) -> TaggedShape:
        """Return a copy with other strides."""
        return self._with(strides=strides)

    def updatemfp_offsets(self, mfp_offsets: npt.ArrayLike) -> TaggedShape:
        """Return a copy with other fragment offsets."""
        return self._with(mfp_offsets=mfp_offsets)

    def addaxis(self, axis: int | str, size: int | None, tag: str) -> TaggedShape:
        """Return a copy with one more axis: inserted at an index, or to the right of a tag.

        A new spatial axis has stride 1 and field of view 1.
        """
        index = axis if isinstance(axis, int) else self.tag2index(axis) + 1
        index = len(range(len(self.shape))[:index])
        shape = (*self.shape[:index], size, *self.shape[index:])
        tags = (*self.tags[:index], tag, *self.tags[index:])
        if tag not in SPATIAL_TAGS:
            return self._with(shape=shape, tags=tags)
        i = sum(a < index for a in self.spatial_axes)
        return TaggedShape(
            shape,
            tags,
            (*self.strides[:i], 1, *self.strides[i:]),
            np.insert(self.mfp_offsets, i, 0, axis=1),
            (*self.fov[:i], 1, *self.fov[i:]),
            centre=(*self.centre[:i], 0.0, *self.centre[i:]),
        )

    def delaxis(self, axis: int | str) -> TaggedShape:
        """Return a copy without this axis (index or tag); a spatial one takes its geometry along."""
        index = self._index(axis)
        shape = (*self.shape[:index], *self.shape[index + 1 :])
        tags = (*self.tags[:index], *self.tags[index + 1 :])
        if index not in self.spatial_axes:
            return self._with(shape=shape, tags=tags)
        keep = [i for i, a in enumerate(self.spatial_axes) if a != index]
        return TaggedShape(
            shape,
            tags,
            [self.strides[i] for i in keep],
            self.mfp_offsets[:, keep],
            [self.fov[i] for i in keep],
            centre=[self.centre[i] for i in keep],
        )

    def copy(self) -> TaggedShape:
        """Return an equal object."""
        return self._with()

    def _with(self, **changes: Any) -> TaggedShape:
        values = {name: getattr(self, name) for name in ("shape", "tags", "strides", "mfp_offsets", "fov", "centre")}
        return TaggedShape(**(values | changes))

    def _index(self, axis: int | str) -> int:
        if isinstance(axis, str):
            return self.tag2index(axis)
        if not isinstance(axis, int | np.integer) or not -len(self.shape) <= axis < len(self.shape):
            raise ShapeError(f"{self.text} has no axis {axis}.")
        return axis % len(self.shape)

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            return self.shape[self.tag2index(key)]
        return self.shape[key]

    def __iter__(self) -> Iterator[int | None]:
        return iter(self.shape)

    def __len__(self) -> int:
        return len(self.shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaggedShape):
            return NotImplemented
        return (
            (self.shape, self.tags, self.strides, self.fov, self.offsets)
            == (other.shape, other.tags, other.strides, other.fov, other.offsets)
        ) and np.array_equal(self.mfp_offsets, other.mfp_offsets)

    def __hash__(self) -> int:
        return hash((self.shape, self.tags, self.strides, self.fov))

    def __repr__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.shape, self.tags, self.strides, self.mfp_offsets, self.fov, self.centre)


def _restore(shape: Any, tags: Any, strides: Any, mfp_offsets: Any, fov: Any, centre: Any) -> TaggedShape:
    return TaggedShape(shape, tags, strides, mfp_offsets, fov, centre=centre)


def _size(n: int | None) -> int | None:
    if n is None:
        return None
    try:
        size = int(n)
        if size == n and size >= 0:
            return size
    except (TypeError, ValueError, OverflowError):
        pass
    raise ShapeError(f"A size must be a whole number from 0 on or None, not {n!r}.")


def _numbers(what: str, values: Any, or_nan: bool = False) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = [math.inf]
    if any(math.isinf(n) or (math.isnan(n) and not or_nan) for n in numbers):
        raise ShapeError(f"{what} must be a list of numbers, one for each spatial axis, not {values!r}.")
    return numbers


def _whole(value: int | float) -> int | float:
    """Strides below one voxel (up-sampling beyond the input) stay fractions, all others are ints."""
    return int(value) if int(value) == value else float(value)


def _tags(tags: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        tags = [tag for tag in tags.split(",") if tag.strip()]
    elif not isinstance(tags, list | tuple):
        raise ShapeError(f"tags must be a string like 'b,f,z,y,x' or a list of tags, not {tags!r}.")
    result = tuple(str(tag).strip() for tag in tags)
    for tag in result:
        if tag not in TAGS:
            raise ShapeError(f"{tag!r} is no axis tag; there are {', '.join(TAGS)}.")
        if result.count(tag) > 1:
            raise ShapeError(f"The tag {tag!r} is there twice in {','.join(result)!r}.")
    return result

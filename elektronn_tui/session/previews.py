"""Preview volumes, kept for a while, and slices of them at the size that a client can show."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import SessionError

from .protocol import GetPreview, Image, Preview, PreviewInfo
from .window import LARGEST_ZOOM, window

__all__ = ["Previews", "Volumes", "as_grey", "reduced"]

Volumes = Mapping[str, npt.NDArray[Any]]
Grey = npt.NDArray[np.uint8]

LARGEST_SIDE = 4096
"""Pixels; clients that ask for more get this."""


class Previews:
    """The newest previews of a session, as many as fit into `budget` bytes, at least one."""

    def __init__(self, budget: int = 128 * 1024 * 1024) -> None:
        self._budget = budget
        self._kept: deque[tuple[PreviewInfo, dict[str, Grey]]] = deque()
        self._lock = threading.Lock()  # held to look one up, never while it is reduced
        self.newest: PreviewInfo | None = None

    def add(self, info: PreviewInfo, volumes: Volumes) -> None:
        """Keep a preview; the arrays, shape (z, y, x), are copied as 8-bit grey values."""
        grey = {caption: as_grey(volume) for caption, volume in volumes.items()}
        for caption, volume in grey.items():
            if volume.ndim != 3:
                raise ValueError(f"preview {caption!r} has shape {volume.shape}, needed is (z, y, x)")
        with self._lock:
            count = self.newest.count + 1 if self.newest is not None else 1
            depth = max((len(volume) for volume in grey.values()), default=0)
            height, width = next((volume.shape[1:] for volume in grey.values()), (0, 0))
            self.newest = msgspec.structs.replace(
                info, count=count, depth=depth, height=height, width=width, captions=tuple(grey)
            )
            self._kept.append((self.newest, grey))
            while len(self._kept) > 1 and sum(v.nbytes for _, kept in self._kept for v in kept.values()) > self._budget:
                self._kept.popleft()

    def slice(self, request: GetPreview) -> Preview:
        """Return a slice of each volume, or the part of it that is asked for, at most as large as asked for.

        Raises
        ------
        SessionError
            There is none yet, that one is not kept any more, or the part lies nowhere.
        """
        for name, lowest, highest in (("zoom", 1.0, LARGEST_ZOOM), ("centre_y", 0.0, 1.0), ("centre_x", 0.0, 1.0)):
            value = getattr(request, name)
            if not lowest <= value <= highest:
                raise SessionError(f"{name}={value:g} is not allowed; it must be from {lowest:g} to {highest:g}")
        with self._lock:
            newest, kept = self.newest, list(self._kept)
        if newest is None:
            raise SessionError("there is no preview yet")
        index = request.index if request.index >= 0 else newest.count + request.index
        place = index - (newest.count - len(kept))
        if not 0 <= place < len(kept):
            raise SessionError(f"preview {index} is not kept: those from {newest.count - len(kept)} on are")
        info, volumes = kept[place]
        z = min(max(info.depth // 2 if request.z is None else request.z, 0), max(info.depth - 1, 0))
        room = (min(max(request.height, 1), LARGEST_SIDE), min(max(request.width, 1), LARGEST_SIDE))
        centre = (request.centre_y, request.centre_x)
        images = []
        for caption, volume in volumes.items():
            part = window(volume.shape[1:], room, request.zoom, centre)
            picture = reduced(volume[min(z, len(volume) - 1)][part.slices], *room)
            images.append(
                Image(caption=caption, height=picture.shape[0], width=picture.shape[1], pixels=picture.tobytes())
            )
        first = window((info.height, info.width), room, request.zoom, centre) if info.height and info.width else None
        return Preview(
            count=newest.count,
            index=index,
            step=info.step,
            z=z,
            depth=info.depth,
            window=(first.top, first.left, first.height, first.width) if first is not None else None,
            images=tuple(images),
        )


def as_grey(volume: npt.ArrayLike) -> Grey:
    """Return a copy as uint8: floats from 0 to 1, booleans, 8-bit values as they are, other integers by their range."""
    array = np.asarray(volume)
    if array.dtype == np.uint8:
        return np.array(array, order="C")
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating):
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 1)
        array = (array.astype(np.float32) - low) / max(high - low, 1)
    scaled = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    np.clip(scaled, 0.0, 1.0, out=scaled)
    return np.asarray(scaled * 255.0 + 0.5).astype(np.uint8)


def reduced(picture: Grey, height: int, width: int) -> Grey:
    """Return a picture, shape (y, x), reduced to at most `height` × `width` by the mean of areas of whole voxels."""
    rows, columns = picture.shape
    factor = max(rows / height, columns / width)
    if factor <= 1:
        return np.ascontiguousarray(picture)
    starts = [np.arange(n) * side // n for side in (rows, columns) for n in (max(round(side / factor), 1),)]
    sums = np.add.reduceat(np.add.reduceat(picture, starts[0], axis=0, dtype=np.uint32), starts[1], axis=1)
    counts = np.outer(*(np.diff(np.append(start, side)) for start, side in zip(starts, (rows, columns), strict=True)))
    return ((sums + counts // 2) // counts).astype(np.uint8)

"""A preview as a run keeps it: one PNG file with some slices of each volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from elektronn_tui.session.protocol import GetPreview, Image, Preview, PreviewInfo
from elektronn_tui.session.window import window

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["newest_preview", "preview_info", "read_preview"]


class _Layout(msgspec.Struct, frozen=True):
    """Where in the file which slice of which volume lies; a row a slice, a column a volume."""

    captions: tuple[str, ...]
    slices: tuple[int, ...]
    depth: int
    size: tuple[int, int]
    gap: int
    along: str = "z"


def newest_preview(run_dir: Path) -> Path | None:
    """Return the newest file of ``previews/``."""
    return max((run_dir / "previews").glob("step-*.png"), default=None)


def preview_info(path: Path) -> PreviewInfo:
    """Return what a file shows; one that does not say it is a single picture.

    Raises
    ------
    OSError
        It is no picture, or can't be read.
    """
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        layout = _layout(picture)
    if layout is None:
        return PreviewInfo(count=1, step=_step_of(path), depth=1, captions=("",))
    height, width = layout.size
    return PreviewInfo(
        count=1,
        step=_step_of(path),
        depth=layout.depth,
        along=layout.along,
        height=height,
        width=width,
        captions=layout.captions,
        slices=layout.slices,
    )


def read_preview(path: Path, request: GetPreview) -> Preview:
    """Return the kept slice that is nearest to the one asked for, or the part of it that is asked for.

    Raises
    ------
    OSError
        The file is no picture, or can't be read.
    """
    import numpy as np
    from PIL import Image as Pillow

    from elektronn_tui.session.previews import reduced

    with Pillow.open(path) as picture:
        layout = _layout(picture)
        pixels = np.asarray(picture.convert("L"))
    if layout is None:
        height, width = pixels.shape
        whole = Image(caption="", height=height, width=width, pixels=pixels.tobytes())
        return Preview(count=1, index=0, step=_step_of(path), z=0, depth=1, images=(whole,))
    wanted = layout.depth // 2 if request.z is None else request.z
    row = min(range(len(layout.slices)), key=lambda row: abs(layout.slices[row] - wanted))
    height, width = layout.size
    room = (max(request.height, 1), max(request.width, 1))
    part = window(layout.size, room, request.zoom, (request.centre_y, request.centre_x))
    top = row * (height + layout.gap)
    images = []
    for column, caption in enumerate(layout.captions):
        left = column * (width + layout.gap)
        small = reduced(pixels[top : top + height, left : left + width][part.slices], *room)
        images.append(Image(caption=caption, height=small.shape[0], width=small.shape[1], pixels=small.tobytes()))
    return Preview(
        count=1,
        index=0,
        step=_step_of(path),
        z=layout.slices[row],
        depth=layout.depth,
        window=(part.top, part.left, part.height, part.width),
        images=tuple(images),
    )


def _layout(picture: Picture) -> _Layout | None:
    try:
        layout = msgspec.json.decode(picture.info["elektronn"], type=_Layout)
    except (KeyError, TypeError, msgspec.DecodeError):
        return None
    (height, width), gap = layout.size, layout.gap
    rows, columns = len(layout.slices), len(layout.captions)
    expected = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    return layout if rows and columns and picture.size == expected else None


def _step_of(path: Path) -> int:
    digits = path.stem.removeprefix("step-")
    return int(digits) if digits.isdigit() else 0

"""Dense prediction: one output for each voxel of an image, tile by tile, whatever the network's strides."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .declared import checked
from .node import Node, misfit
from .predictor import DenseOptions, DensePredictor, Scale

__all__ = ["predict_dense"]

logger = logging.getLogger(__name__)


@checked
def predict_dense(
    node: Node,
    raw_img: npt.ArrayLike,
    as_uint8: bool = False,
    pad_raw: bool = False,
    *,
    scale: Scale | None = None,
    channels_last: bool = False,
    progress: Callable[[float], object] | None = None,
    **options: Any,
) -> npt.NDArray[Any]:
    """Return the output of `node` at every voxel of an image where its field of view fits in.

    The values don't depend on the tiles, but for networks that pad and don't see the whole image. A network whose
    output is strided is rewritten to give every voxel in one run, or else is run for every shift of its input.

    Parameters
    ----------
    node : Node
        With two or three spatial axes and one source, of which it has the axes.
    raw_img : array_like, (f, z, y, x) or (f, y, x)
        For a network of two spatial axes (f, z, y, x) is done slice by slice.
    as_uint8 : bool
        Return the values times 255, cut to 0 to 255 and truncated, as uint8; NaN becomes 0.
    pad_raw : bool
        Mirror the image at its borders, so that the output covers all of it.
    scale : callable, optional
        From stored values (f, ...) to what the network reads. Default: integers are divided by 255, floats are taken as
        they are.
    channels_last : bool
        Give the network its input in this memory format.
    progress : callable, optional
        Called after each run or batch of runs with the share of them that is done, up to 1.
    **options
        Those of `DenseOptions`: ``patch_shape, batch_size, engine, overlap, blend, flips, precision, memory``.

    Returns
    -------
    ndarray of float32 or uint8, (f_out, ...)
        With as many axes as `raw_img`. Without `pad_raw` its first voxel lies at ``node.shape.offsets`` of the image.

    Raises
    ------
    ModelError
        If the node has several sources, an argument is no good, or the smallest tile doesn't fit into memory.
    ShapeError
        If the image or the patch doesn't fit the network, or the image is smaller than the field of view.
    """
    image, ndim = np.asarray(raw_img), node.shape.ndim
    sliced = ndim == 2 and image.ndim == 4
    if ndim in (2, 3) and image.ndim != ndim + 1 and not sliced:
        axes = ", ".join(node.shape.spatial_tags)
        raise misfit(node, f"takes images with the axes f, {axes}, not one of the shape {image.shape}.")
    size = image.shape[-ndim:]
    predictor = DensePredictor(
        node, size, pad_raw=pad_raw, scale=scale, channels_last=channels_last, options=DenseOptions(**options)
    )
    channels = predictor.channels
    if image.shape[0] != channels:
        raise misfit(node, f"axis f of the image must be of size {channels}, not {image.shape[0]}.", "f")
    if pad_raw:
        axes_of_padding = zip(size, predictor.first, predictor.size, strict=True)
        widths = [(before, whole - n - before) for n, before, whole in axes_of_padding]
        image = np.pad(image, [(0, 0)] * (image.ndim - ndim) + widths, mode="symmetric")
    slices = image if sliced else image[:, None]
    start = time.perf_counter()
    out = predictor.run(slices, (0,) * ndim, predictor.out, as_uint8=as_uint8, progress=progress)
    seconds = time.perf_counter() - start
    logger.info(
        "%s: tiles of %s (%s), %.3g MVoxel/s, %.1f s",
        *(node.title, "×".join(map(str, predictor.tiling.patch)), predictor.engine),
        *(out[0].size / 1e6 / max(seconds, 1e-9), seconds),
    )
    return out if sliced else out[:, 0]

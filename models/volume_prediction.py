"""Dense prediction of volumes that are larger than memory: block by block, from any source into a file."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from elektronn_tui.errors import ShapeError

from .predictor import DenseOptions, DensePredictor

if TYPE_CHECKING:
    from elektronn_tui.data import BlockProgress, Source
    from elektronn_tui.data.spool import Spool

    from .model import Model

__all__ = ["predict_volume"]

logger = logging.getLogger(__name__)

BLOCK_BYTES = 64 * 2**20
"""About how much a block of raw values and outputs in float32 takes; two more are on their way from and to the disk."""

IN_FLIGHT = 3
"""Blocks that are in memory: one is read, one predicted, one written."""

ODD_MEAN, ODD_SPREAD = 6.0, 30.0
"""How many standard deviations the mean, and by what factor the deviation, may differ from those of the training."""

Vec3 = tuple[int, int, int]


def predict_volume(
    model: Model,
    source: Source,
    out: str | Path,
    *,
    as_uint8: bool = False,
    pad_raw: bool = False,
    block_bytes: int = BLOCK_BYTES,
    compression: str | None = "gzip",
    resume: bool = False,
    force: bool = False,
    progress: Callable[[BlockProgress], None] | None = None,
    **options: Any,
) -> Path:
    """Predict every voxel of a volume into an HDF5 file or a Zarr store, in bounded memory.

    The values are those of `Model.predict_dense` for the whole volume. Blocks that are finished lie in the folder
    ``OUT.part`` beside the output until all are there, so a run that was killed at any moment can go on. Then they are
    written as one array (features, z, y, x), whose attributes tell where it lies (``resolution`` and ``offset`` in
    nm), which model made it and how, and that it is ``complete``.

    Parameters
    ----------
    model : Model
    source : Source
        With as many channels as the model's input takes; raw values are scaled as in training.
    out : str or Path
        ``FILE.h5`` or ``FILE.h5:KEY`` (default: ``prediction``), or ``FOLDER.zarr`` or ``FOLDER.zarr:KEY``.
    as_uint8, pad_raw
        As of `predict_dense`.
    block_bytes : int
        About how much memory a block may take if it holds more than one tile.
    compression : str, optional
        Of HDF5; see h5py.
    resume : bool
        Go on with what was begun.
    force : bool
        Replace an output that exists, and begin anew.
    progress : callable, optional
        Called at the begin, with each run of the network, and after each block.
    **options
        Those of `elektronn_tui.models.predictor.DenseOptions`. ``memory`` counts for the blocks of a tile's size on
        their way from and to the disk, too. A run that is resumed takes patch and blocks that it began with.

    Returns
    -------
    Path
        The file or folder.

    Raises
    ------
    ModelError, ShapeError
        Network and volume don't go together.
    DataError
        The volume can't be read or the output not be written, or a run was begun there for something else.
    """
    from elektronn_tui.data.output import check_output, write_blocks
    from elektronn_tui.data.spool import Spool, sizes_begun_with

    path, key = check_output(out, key="prediction", force=force)
    channels = model.input_node.shape["f"]
    if source.channels != channels:
        raise ShapeError(
            f"{source.name} has {source.channels} channels, but the input of {model.name!r} takes {channels}."
        )
    folder = path.with_name(f"{path.name}.part")
    if resume and options.get("patch_shape") is None:
        options["patch_shape"] = sizes_begun_with(folder, "patch_shape")
    block = sizes_begun_with(folder, "block") if resume else None
    features = int(model.prediction_node.shape["f"] or 1)
    chosen = DenseOptions(beside=IN_FLIGHT * 4 * (channels + features), **options)
    layout = _Layout.of(model, source.shape, pad_raw, chosen, block_bytes, block)
    predictor = layout.predictor
    made: dict[str, Any] = {
        "engine": predictor.engine,
        "patch_shape": list(predictor.tiling.patch),
        "precision": predictor.precision,
        "flips": chosen.flips,
    }
    if predictor.blended:
        made |= {"overlap": chosen.overlap, "blend": chosen.blend}
    identity = {
        "model": _fingerprint(model),
        "input": source.name,
        "input_shape": [source.channels, *source.shape],
        "as_uint8": as_uint8,
        "pad_raw": pad_raw,
        "block": list(layout.block),
        "memory_format": "channels_last" if model.channels_last else "contiguous",
        **made,
    }
    with Spool(folder, identity, resume=resume, force=force) as spool:
        _predict_blocks(source, spool, layout, as_uint8, model.scaling, progress)
        size = source.voxel_size
        begin = source.offset or (0.0, 0.0, 0.0)
        offset = None if size is None else [b + o * s for b, o, s in zip(begin, layout.first, size, strict=True)]
        write_blocks(
            path,
            key,
            (predictor.features, *layout.out),
            np.uint8 if as_uint8 else np.float32,
            ((layout.place(k)[0], spool.read(k)) for k in range(layout.count)),
            voxel_size=size,
            offset=offset,
            attributes={"offset_voxels_zyx": layout.first, "model": model.name, "input": source.name}
            | made
            | ({"channels": list(names)} if (names := model.prediction_feature_names) else {})
            | {f"model_{name}": text for name, text in model.extra.items()},
            compression=compression,
        )
    return path


@dataclass(frozen=True)
class _Layout:
    """How blocks lie; everything (z, y, x), networks of two axes have one section at a time."""

    predictor: DensePredictor
    size: Vec3
    out: Vec3
    block: Vec3
    before: Vec3
    first: Vec3

    @classmethod
    def of(
        cls,
        model: Model,
        size: Vec3,
        pad: bool,
        options: DenseOptions,
        block_bytes: int,
        begun: tuple[int, ...] | None,
    ) -> _Layout:
        node = model.prediction_node
        flat = node.shape.ndim == 2
        predictor = DensePredictor(
            node,
            size[1:] if flat else size,
            pad_raw=pad,
            scale=model.scale_raw,
            channels_last=model.channels_last,
            options=options,
        )
        tiling = predictor.tiling
        sections, none = ((1,), (0,)) if flat else ((), ())
        out = _vec3(*(size[:1] if flat else ()), *predictor.out)
        if begun is not None and len(begun) == 3 and min(begun) > 0:
            block = _vec3(*begun)
        elif tiling.whole and not predictor.blended:
            block = out
        else:
            step = _vec3(*sections, *tiling.step)
            twice = (p - s for p, s in zip(tiling.patch, tiling.step, strict=True))
            floats = predictor.channels + predictor.features
            block = _block(out, step, _vec3(*none, *twice), floats, block_bytes)
        first = _vec3(*none, *predictor.first)
        zero = (0, 0, 0)
        return cls(predictor, size, out, block, first if pad else zero, zero if pad else first)

    @property
    def grid(self) -> Vec3:
        return _vec3(*(-(-n // b) for n, b in zip(self.out, self.block, strict=True)))

    @property
    def count(self) -> int:
        return math.prod(self.grid)

    def place(self, number: int) -> tuple[Vec3, Vec3]:
        """Return the first voxel of a block's output, and the one behind its last."""
        index = np.unravel_index(number, self.grid)
        lo = _vec3(*(int(i) * b for i, b in zip(index, self.block, strict=True)))
        return lo, _vec3(*(min(l + b, n) for l, b, n in zip(lo, self.block, self.out, strict=True)))

    def read(self, source: Source, number: int) -> npt.NDArray[Any]:
        """Return the raw voxels that a block sees, (channels, z, y, x), mirrored at the borders of a padded volume."""
        lo, hi = self.place(number)
        ndim = len(self.predictor.out)
        start, stop = (
            (*outer[: 3 - ndim], *inner)
            for outer, inner in zip((lo, hi), self.predictor.box(lo[-ndim:], hi[-ndim:]), strict=True)
        )
        indices = [
            _mirrored(np.arange(a - before, b - before), n)
            for a, b, before, n in zip(start, stop, self.before, self.size, strict=True)
        ]
        least = _vec3(*(int(i.min()) for i in indices))
        raw = source.read(least, _vec3(*(int(i.max()) + 1 for i in indices)))
        for axis, (index, first) in enumerate(zip(indices, least, strict=True), 1):
            if len(index) != raw.shape[axis] or index[0] != first or index[-1] != first + len(index) - 1:
                raw = np.take(raw, index - first, axis=axis)
        return raw

    def predict(
        self, raw: npt.NDArray[Any], number: int, as_uint8: bool, progress: Callable[[float], object]
    ) -> npt.NDArray[Any]:
        """Return the output of a block, (features, z, y, x), from the raw voxels that it sees."""
        lo, hi = self.place(number)
        ndim = len(self.predictor.out)
        slices = raw if ndim == 2 else raw[:, None]
        values = self.predictor.run(slices, lo[-ndim:], hi[-ndim:], as_uint8=as_uint8, progress=progress)
        return values if ndim == 2 else values[:, 0]


def _predict_blocks(
    source: Source,
    spool: Spool,
    layout: _Layout,
    as_uint8: bool,
    scaling: dict[str, Any] | None,
    progress: Callable[[BlockProgress], None] | None,
) -> None:
    from elektronn_tui.data import BlockProgress

    missing = [k for k in range(layout.count) if k not in spool.done]
    before, voxels = layout.count - len(missing), 0

    def tell(made: int, size: int, share: float) -> None:
        if progress is not None:
            whole = (before + made + share) / layout.count
            progress(BlockProgress(before + made, layout.count, voxels + round(share * size), whole))

    tell(0, 0, 0)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: Future[None] | None = None
        for made, (number, raw) in enumerate(_ahead(reader, partial(layout.read, source), missing)):
            if made == 0:
                _compare_scale(raw, source.name, scaling)
            lo, hi = layout.place(number)
            size = math.prod(h - l for l, h in zip(lo, hi, strict=True))
            values = layout.predict(raw, number, as_uint8, partial(tell, made, size))
            if writing is not None:
                writing.result()
            writing = writer.submit(spool.write, number, values)
            voxels += size
            tell(made + 1, 0, 0)
        if writing is not None:
            writing.result()


def _compare_scale(raw: npt.NDArray[Any], name: str, scaling: dict[str, Any] | None) -> None:
    """Say so if raw values are so far from those of the training that their unit must be another one."""
    if scaling is None:
        return
    for channel, (mean, std) in enumerate(zip(scaling["mean"], scaling["std"], strict=False)):
        values = raw[channel][np.isfinite(raw[channel])]
        if not values.size:
            continue
        found, spread = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        far = abs(found - mean) > ODD_MEAN * std or spread > ODD_SPREAD * std or 0 < spread < std / ODD_SPREAD
        if far:
            logger.warning(
                "%s: raw values are %.4g ± %.2g, but the network was trained on %.4g ± %.2g; is it of another scale?",
                *(name, found, spread, mean, std),
            )


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[int], npt.NDArray[Any]], numbers: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Yield what is read of each number, while the next is being read."""
    coming: Future[npt.NDArray[Any]] | None = pool.submit(read, numbers[0]) if numbers else None
    for number, after in itertools.zip_longest(numbers, numbers[1:]):
        assert coming is not None
        raw = coming.result()
        coming = None if after is None else pool.submit(read, after)
        yield number, raw


def _block(out: Vec3, step: Vec3, lost: Vec3, floats: int, most: int) -> Vec3:
    """Return the output of a block: multiples of `step`, so grown that little is seen twice, within `most` bytes."""
    block = list(step)
    while True:
        grown = min(
            (k for k in range(3) if block[k] < out[k]), key=lambda k: (block[k] + step[k]) / (1 + lost[k]), default=None
        )
        if grown is None:
            break
        larger = [b + (step[k] if k == grown else 0) for k, b in enumerate(block)]
        if 4 * floats * math.prod(b + l for b, l in zip(larger, lost, strict=True)) > most:
            break
        block = larger
    return _vec3(*block)


def _mirrored(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Return where voxels beyond the borders are mirrored to, as numpy's mode ``symmetric`` pads."""
    folded: npt.NDArray[np.int64] = index % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def _fingerprint(model: Model) -> str:
    """Return a checksum of the weights and the scaling."""
    digest = hashlib.sha256(repr(sorted((model.scaling or {}).items())).encode())
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _vec3(*numbers: int) -> Vec3:
    z, y, x = numbers
    return z, y, x

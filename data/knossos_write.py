"""Write volumes as KNOSSOS data sets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from elektronn_tui.errors import DataError

from .knossos import KnossosSource
from .knossos_cubes import cube_path, encode_cube
from .sources import Source, SourceLike, Vec3, as_source

__all__ = ["write_knossos"]


def write_knossos(
    source: SourceLike,
    folder: str | Path,
    *,
    experiment: str,
    mags: Sequence[int] = (1,),
    cube_shape: Sequence[int] = (128, 128, 128),
    format: Literal["raw", "png", "jpg", "seg.sz.zip"] = "raw",
    voxel_size: Sequence[float] | None = None,
    resume: bool = False,
) -> Path:
    """Write a volume as a KNOSSOS data set, cube by cube, and return the file that describes it.

    That is ``knossos.conf`` for cubes of equal edges of uint8 and for segmentations, else ``EXPERIMENT.k.toml``, where
    folders of mags are numbered ``mag1, mag2, mag3, …``. No cube is ever seen half written.

    Parameters
    ----------
    source
        One channel: integers or floats for ``raw``, uint8 for ``jpg``, uint8 or uint16 for ``png``, ids for
        ``seg.sz.zip`` (kept as uint64, packed by snappy).
    folder
        Is made where it doesn't exist.
    experiment
        What the names of cubes begin with.
    mags
        Factors of reduction, powers of two that begin with 1. Images are reduced by the mean, ids by taking every
        second voxel.
    cube_shape
        (z, y, x) in voxels.
    format
        Of cubes.
    voxel_size
        (z, y, x) in nm; default that of the source, or 1.
    resume
        Go on with a data set that was begun: cubes that are there are kept.

    Raises
    ------
    DataError
        The source or an option doesn't fit the format, or the folder holds a data set already.

    Examples
    --------
    >>> write_knossos(segmentation, "prediction", experiment="cell7", format="seg.sz.zip")  # doctest: +SKIP
    """
    volume = as_source(source)
    _check_source(volume, format)
    if not re.fullmatch(r"[A-Za-z0-9._-]+", experiment) or re.search(r"mag[0-9]+$", experiment):
        raise DataError(f"experiment={experiment!r}: letters, digits and . _ - are allowed, but no mag at its end.")
    if list(mags) != sorted(set(mags)) or mags[0] != 1 or any(m & (m - 1) for m in mags):
        raise DataError(f"mags={tuple(mags)}: powers of two that begin with 1 are needed, e.g. (1, 2, 4).")
    z, y, x = (int(n) for n in cube_shape)
    if min(z, y, x) < 1:
        raise DataError(f"cube_shape={tuple(cube_shape)}: three positive numbers (z, y, x) are needed.")
    cube = (z, y, x)
    size = np.asarray(voxel_size or volume.voxel_size or (1.0, 1.0, 1.0), np.float64)
    ordinal = len(set(cube)) > 1 or (format != "seg.sz.zip" and volume.dtype != np.uint8)
    root = Path(folder).expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        conf = root / (f"{experiment}.k.toml" if ordinal else "knossos.conf")
        describe = _toml if ordinal else _conf
        _write_conf(conf, describe(volume, experiment, mags, cube, format, size), resume)
        for i, mag in enumerate(mags):
            number = i + 1 if ordinal else mag
            shape = volume.shape if i == 0 else tuple(-(-n // mag) for n in volume.shape)
            (root / f"mag{number}").mkdir(exist_ok=True)
            if i:
                below = KnossosSource(conf, mag=i if ordinal else mags[i - 1], encoding=format, missing="error")
            for place in product(*(range(-(-n // c)) for n, c in zip(shape, cube, strict=True))):
                path = cube_path(root / f"mag{number}", experiment, number, place, format)
                if path.exists():
                    continue
                lo = [p * c for p, c in zip(place, cube, strict=True)]
                hi = [min(l + c, n) for l, c, n in zip(lo, cube, shape, strict=True)]
                voxels = volume.read(lo, hi)[0] if i == 0 else _reduced(below, lo, hi, mag // mags[i - 1], format)
                if format == "seg.sz.zip" and voxels.min() < 0:
                    raise DataError(
                        f"{volume.name} has negative ids between {tuple(lo)} and {tuple(hi)}; KNOSSOS has none."
                    )
                padded = np.zeros(cube, volume.dtype)
                padded[tuple(slice(0, n) for n in voxels.shape)] = voxels
                _write_atomically(path, encode_cube(padded, format, path.name))
            if i:
                below.close()
    except OSError as error:
        raise DataError(f"{error.filename or root} can't be written: {error.strerror or error}.") from error
    return conf


_DTYPES = {"raw": "iuf", "png": ("uint8", "uint16"), "jpg": ("uint8",), "seg.sz.zip": "iu"}


def _check_source(volume: Source, format: str) -> None:
    if format not in _DTYPES:
        raise DataError(f"format={format!r}; use one of {', '.join(_DTYPES)}.")
    allowed = _DTYPES[format]
    if (volume.dtype.kind if isinstance(allowed, str) else volume.dtype.name) not in allowed:
        right = " or ".join(allowed) if isinstance(allowed, tuple) else "integers" if allowed == "iu" else "numbers"
        raise DataError(f"{volume.name} is {volume.dtype}; cubes of {format} hold {right}.")
    if volume.channels != 1:
        raise DataError(f"{volume.name} has {volume.channels} channels; a data set has one. Write one for each.")


def _conf(
    volume: Source, experiment: str, mags: Sequence[int], cube: Vec3, format: str, size: npt.NDArray[np.float64]
) -> str:
    lines = [f'experiment name "{experiment}";']
    lines += [f"boundary {axis} {n};" for axis, n in zip("xyz", volume.shape[::-1], strict=True)]
    lines += [f"scale {axis} {float(s)};" for axis, s in zip("xyz", size[::-1], strict=True)]
    lines += ["magnification 1;"]
    lines += [f"cube_edge_length {cube[0]};"] if cube[0] != 128 else []
    lines += [f"{format};"] if format in ("png", "jpg") else []
    return "\n".join(lines) + "\n"


def _toml(
    volume: Source, experiment: str, mags: Sequence[int], cube: Vec3, format: str, size: npt.NDArray[np.float64]
) -> str:
    entries = {
        "Name": experiment,
        "ServerFormat": "knossos",
        "FileExtension": ["." + format],
        "URL": "",
        "VoxelSize_nm": [(size * mag)[::-1].tolist() for mag in mags],
        "Extent_px": list(volume.shape[::-1]),
        "CubeShape_px": list(cube[::-1]),
        "DataType": "uint64" if format == "seg.sz.zip" else volume.dtype.name,
        "NumChannels": 1,
    }
    # JSON of strings, numbers and lists is TOML as well.
    return "[[Layer]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entries.items())


def _write_conf(conf: Path, text: str, resume: bool) -> None:
    if conf.exists():
        if not resume:
            raise DataError(
                f"{conf} exists; nothing was written. Give another folder, or resume=True to go on with it."
            )
        if conf.read_text() != text:
            raise DataError(f"{conf} describes another data set than the one to go on with; give another folder.")
        return
    _write_atomically(conf, text.encode())


def _reduced(below: Source, lo: Sequence[int], hi: Sequence[int], factor: int, format: str) -> npt.NDArray[np.generic]:
    """Return a box (z, y, x) of the mag above: means of up to factor³ voxels, or ids of the first of them."""
    high = [min(h * factor, n) for h, n in zip(hi, below.shape, strict=True)]
    voxels = below.read([l * factor for l in lo], high)[0]
    if format == "seg.sz.zip":
        return voxels[::factor, ::factor, ::factor]
    total, count = voxels.astype(np.float64), np.ones((1, 1, 1))
    for axis, n in enumerate(voxels.shape):
        starts = np.arange(0, n, factor)
        total = np.add.reduceat(total, starts, axis)
        count = count * np.diff(np.append(starts, n)).reshape([-1 if a == axis else 1 for a in range(3)])
    mean = total / count
    return (np.rint(mean) if below.dtype.kind in "iu" else mean).astype(below.dtype)


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise

"""The demo volume: synthetic electron microscopy with exact cells, made on the spot and cached.

Tubes of many sizes fill the volume, each voxel belongs to the tube it lies deepest in, and what a microscope
would show of them is drawn on top: membranes, mitochondria, vesicles, synapses, blur, noise, faulty slices.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elektronn_tui.errors import DataError

from ._demo_tissue import FIB_SEM, SSTEM, make_tissue

__all__ = ["DemoVolume", "demo_volume"]

logger = logging.getLogger(__name__)

# Part of the cache's key: raise it whenever the generator gives other voxels.
_VERSION = 3


@dataclass(frozen=True, eq=False)
class DemoVolume:
    """A synthetic piece of tissue. All arrays are (z, y, x) and read-only."""

    raw: np.ndarray
    """Grey levels, uint8."""
    ids: np.ndarray
    """The cell of every voxel, uint32, 1 to n; no membrane class.

    An id is one 6-connected piece; only where a cell leaves the volume and comes back it has several, and every one
    of them reaches the border (as in real data; label connected components where each piece should count).
    """
    mitochondria: np.ndarray
    """1 inside mitochondria, uint8."""
    voxel_size: tuple[float, float, float]
    """nm, z, y, x."""
    seed: int


def demo_volume(
    shape: Sequence[int] = (64, 256, 256),
    *,
    seed: int = 0,
    anisotropic: bool = False,
    cache: bool = True,
) -> DemoVolume:
    """Make a volume of synthetic electron microscopy, or read it from the cache.

    Parameters
    ----------
    shape : sequence of 3 int
        Voxels, z, y, x. The figures of the tissue (`tissue_statistics`) are tuned for the default.
    seed : int
        Not negative. The same shape, seed and variant give the same bytes.
    anisotropic : bool
        False: like FIB-SEM, 10 nm isotropic. True: like serial-section TEM, 50 × 4 × 4 nm.
    cache : bool
        Keep the volume in ``$ELEKTRONN_HOME/cache`` (``~/elektronn/cache``) and take it from there next time.
        A broken file is made anew; a folder that can't be written to is only logged.

    Returns
    -------
    DemoVolume

    Raises
    ------
    DataError
        When the shape or the seed can't be used.

    Examples
    --------
    >>> volume = demo_volume((8, 64, 64), cache=False)
    >>> volume.raw.shape, volume.raw.dtype.name, bool((volume.ids > 0).all())
    ((8, 64, 64), 'uint8', True)
    """
    size = _checked_shape(shape)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DataError(f"demo volume: seed is {seed!r}; a whole number from 0 up is needed")
    spec = SSTEM if anisotropic else FIB_SEM
    path = _cache_path(size, int(seed), anisotropic) if cache else None
    arrays = _load(path, size) if path is not None else None
    if arrays is None:
        arrays = make_tissue(size, int(seed), spec)
        if path is not None:
            _store(path, arrays)
    for array in arrays:
        array.setflags(write=False)
    raw, ids, mitochondria = arrays
    return DemoVolume(raw, ids, mitochondria, spec.voxel_size, int(seed))


def _checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    try:
        sizes = tuple(int(s) for s in shape)
        whole = all(s == given for s, given in zip(sizes, shape, strict=True))
    except (TypeError, ValueError):
        sizes, whole = (), False
    if len(sizes) != 3 or not whole or min(sizes) < 1:
        raise DataError(f"demo volume: shape is {shape!r}; three whole numbers (z, y, x) from 1 up are needed")
    return sizes[0], sizes[1], sizes[2]


def _cache_path(shape: tuple[int, int, int], seed: int, anisotropic: bool) -> Path:
    home = Path(os.environ.get("ELEKTRONN_HOME") or Path.home() / "elektronn")
    key = json.dumps([_VERSION, shape, seed, anisotropic])
    kind = "sstem" if anisotropic else "fibsem"
    return home / "cache" / f"demo-{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _load(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = stored["raw"], stored["ids"], stored["mitochondria"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s can't be read (%s); making the demo volume anew", path, error)
        return None
    kinds = (np.uint8, np.uint32, np.uint8)
    if any(a.shape != shape or a.dtype != kind for a, kind in zip(arrays, kinds, strict=True)):
        logger.warning("%s holds something else; making the demo volume anew", path)
        return None
    return arrays


def _store(path: Path, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Write under a temporary name and rename, so that nobody ever reads half a file."""
    raw, ids, mitochondria = arrays
    temporary: str | None = None
    try:
        path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, raw=raw, ids=ids, mitochondria=mitochondria)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        logger.warning("the demo volume can't be cached in %s: %s", path.parent, error)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)

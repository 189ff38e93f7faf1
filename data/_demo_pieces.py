"""Make a demo volume's ids exact: what became of cut-off pieces, and orphan slivers along the membranes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from skimage.measure import label

__all__ = ["absorb_grazes", "add_slivers", "settle_pieces"]


def settle_pieces(ids: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Decide about the 6-connected pieces of every cell.

    A cell's largest piece and those at the border of the volume, where they may join outside, keep its number.
    What is cut off inside becomes a cell of its own, and pieces of fewer than `least` voxels go to the neighbour.

    Parameters
    ----------
    ids : ndarray of uint32, (z, y, x)
    least : int
        Voxels.

    Returns
    -------
    settled : ndarray of uint32, (z, y, x)
        Numbers are not consecutive.
    absorbed : ndarray of bool, (z, y, x)
        What went to a neighbour.
    """
    pieces = label(ids, connectivity=1, background=0)
    n = int(pieces.max()) + 1
    size = np.bincount(pieces.ravel(), minlength=n)
    cell = np.zeros(n, np.int64)
    cell[pieces.ravel()] = ids.ravel()
    keeps = np.zeros(n, bool)
    for axis in range(3):
        for end in (0, -1):
            keeps[np.take(pieces, end, axis=axis)] = True
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > 0]
    _, first = np.unique(cell[order], return_index=True)
    keeps[order[first]] = True
    small = (size < least) & ~keeps
    host = np.arange(n)
    _largest_neighbours(pieces, size, small, host)
    new = np.where(keeps, cell, int(ids.max()) + np.arange(n))
    for p in np.argsort(-size, kind="stable"):
        if small[p]:
            # Hosts are larger, so theirs is settled already.
            new[p] = new[host[p]] if host[p] != p else new[p]
    return new.astype(np.uint32)[pieces], (small & (host != np.arange(n)))[pieces]


def absorb_grazes(ids: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Give every patch of fewer than `least` voxels within its slice to its largest neighbour there.

    Nobody could tell such a patch from the membrane that it grazes where sections are thick.

    Parameters
    ----------
    ids : ndarray of uint32, (z, y, x)
    least : int
        Voxels.

    Returns
    -------
    ids : ndarray of uint32, (z, y, x)
    absorbed : ndarray of bool, (z, y, x)
    """
    out, absorbed = ids.copy(), np.zeros(ids.shape, bool)
    for k in range(len(ids)):
        pieces = label(ids[k], connectivity=1, background=0)[None]
        n = int(pieces.max()) + 1
        size = np.bincount(pieces.ravel(), minlength=n)
        small = size < least
        host = np.arange(n)
        _largest_neighbours(pieces, size, small, host)
        cell = np.zeros(n, np.uint32)
        cell[pieces.ravel()] = ids[k].ravel()
        for p in np.argsort(-size, kind="stable"):
            cell[p] = cell[host[p]]
        out[k] = cell[pieces[0]]
        absorbed[k] = (host != np.arange(n))[pieces[0]]
    return out, absorbed


def add_slivers(
    rng: np.random.Generator, ids: np.ndarray, depth: np.ndarray, count: int, sections: int, voxel: float
) -> None:
    """Add orphans: threads of a few voxels' cross-section that follow the faces between cells, as in real data.

    Parameters
    ----------
    ids : ndarray of uint32, (z, y, x)
        Changed in place; new numbers follow the largest.
    depth : ndarray of float32, (z, y, x)
        Distance to the nearest face in nm.
    count : int
        How many to add; fewer where there are no faces.
    sections : int
        In how many slices they are to be seen, all together.
    voxel : float
        Voxel size in nm.
    """
    faces = np.flatnonzero(depth < 0.6 * voxel)
    top = number = int(ids.max()) + 1
    for _ in range(6 * count if len(faces) else 0):
        missing = count - (number - top)
        if missing <= 0:
            break
        start = np.unravel_index(int(faces[rng.integers(len(faces))]), ids.shape)
        length = int(max(2.0, sections / missing * rng.uniform(0.6, 1.6)))
        dice = rng.random((length, 3, 3))
        fill = 0.15 if rng.random() < 0.75 else 0.9
        done = _sliver(ids, depth, np.array(start), length, dice, fill, 0.9 * voxel, top, number)
        number += done > 0
        sections = max(sections - done, 0)


@numba.njit(nogil=True, cache=True)
def _largest_neighbours(pieces: Any, size: Any, small: Any, host: Any) -> None:
    nz, ny, nx = pieces.shape
    for k in range(nz):
        for j in range(ny):
            for i in range(nx):
                p = pieces[k, j, i]
                for a in range(3):
                    if a == 0 and k + 1 < nz:
                        q = pieces[k + 1, j, i]
                    elif a == 1 and j + 1 < ny:
                        q = pieces[k, j + 1, i]
                    elif a == 2 and i + 1 < nx:
                        q = pieces[k, j, i + 1]
                    else:
                        continue
                    if p == q:
                        continue
                    if small[p] and (size[q] > size[host[p]]):
                        host[p] = q
                    if small[q] and (size[p] > size[host[q]]):
                        host[q] = p


@numba.njit(nogil=True, cache=True)
def _sliver(
    ids: Any, depth: Any, start: Any, length: int, dice: Any, fill: float, near: float, top: int, number: int
) -> int:
    """Paint one thread of `number` along z; return the number of slices that it reached."""
    nz, ny, nx = ids.shape
    k, j, i = start[0], start[1], start[2]
    painted = 0
    for step in range(length):
        if k >= nz or ids[k, j, i] >= top:
            break
        if step >= 1 and depth[k, j, i] > 2 * near:
            break
        ids[k, j, i] = number
        painted = step + 1
        bj, bi = j, i
        for dj in range(-1, 2):
            for di in range(-1, 2):
                y, x = j + dj, i + di
                if y < 0 or x < 0 or y >= ny or x >= nx or ids[k, y, x] >= top:
                    continue
                if abs(dj) + abs(di) == 1 and (depth[k, y, x] < near and dice[step, dj + 1, di + 1] < fill):
                    ids[k, y, x] = number
        # Follow the face into the next slice: sideways through shared sides only, so that a thread stays one.
        if k + 1 < nz:
            for _ in range(3):
                cj, ci = bj, bi
                for dj, di in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                    y, x = cj + dj, ci + di
                    if y < 0 or x < 0 or y >= ny or x >= nx or (ids[k, y, x] >= top and ids[k, y, x] != number):
                        continue
                    if depth[k + 1, y, x] < depth[k + 1, bj, bi]:
                        bj, bi = y, x
                if (bj == cj and bi == ci) or depth[k + 1, cj, ci] < near:
                    bj, bi = cj, ci
                    break
                ids[k, bj, bi] = number
        k, j, i = k + 1, bj, bi
    return painted

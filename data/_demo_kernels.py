"""Compiled kernels of the demo volume: tubes to cells and membranes, organelles into the picture.

Lengths are in nm, axes z, y, x. A *tube* is a chain of capsules ``(z0, y0, x0, r0, z1, y1, x1, r1)``; every
voxel belongs to the cell whose surface it lies deepest in (or least far from), after its coordinate was
displaced by the warp grid and by the shift of its slice.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

__all__ = ["cell_field", "clearance", "stamp_capsule", "stamp_ring", "stamp_synapse"]

# Two surfaces that run in parallel have |u1 - u2| near 0; below this the membrane would grow without limit.
_LEAST_OPENING = 0.4


@numba.njit(nogil=True, cache=True)
def _capsule(segments: Any, s: int, z: float, y: float, x: float) -> Any:
    """Signed distance to a capsule, and the vector from its axis to the point (not normalised)."""
    az, ay, ax, r0 = segments[s, 0], segments[s, 1], segments[s, 2], segments[s, 3]
    bz, by, bx = segments[s, 4] - az, segments[s, 5] - ay, segments[s, 6] - ax
    pz, py, px = z - az, y - ay, x - ax
    length = bz * bz + by * by + bx * bx
    t = 0.0
    if length > 0:
        t = min(max((pz * bz + py * by + px * bx) / length, 0.0), 1.0)
    vz, vy, vx = pz - t * bz, py - t * by, px - t * bx
    return math.sqrt(vz * vz + vy * vy + vx * vx) - (r0 + t * (segments[s, 7] - r0)), vz, vy, vx


@numba.njit(nogil=True, cache=True)
def _warped(warp: Any, spacing: float, z: float, y: float, x: float) -> Any:
    """Displace a point by the warp grid (3, gz, gy, gx), linear between its nodes."""
    fz, fy, fx = z / spacing, y / spacing, x / spacing
    iz = min(max(int(fz), 0), warp.shape[1] - 2)
    iy = min(max(int(fy), 0), warp.shape[2] - 2)
    ix = min(max(int(fx), 0), warp.shape[3] - 2)
    wz, wy, wx = fz - iz, fy - iy, fx - ix
    dz, dy, dx = 0.0, 0.0, 0.0
    for a in range(2):
        ca = wz if a else 1.0 - wz
        for b in range(2):
            cb = ca * (wy if b else 1.0 - wy)
            for c in range(2):
                weight = cb * (wx if c else 1.0 - wx)
                dz += weight * warp[0, iz + a, iy + b, ix + c]
                dy += weight * warp[1, iz + a, iy + b, ix + c]
                dx += weight * warp[2, iz + a, iy + b, ix + c]
    return z + dz, y + dy, x + dx


@numba.njit(nogil=True, cache=True)
def _near(segments: Any, among: Any, n: int, z: float, y: float, x: float, margin: float, d: Any, out: Any) -> int:
    """Collect into `out` those of `among[:n]` that are within `margin` of the nearest one."""
    least = np.inf
    for k in range(n):
        d[k] = _capsule(segments, among[k], z, y, x)[0]
        least = min(least, d[k])
    kept = 0
    for k in range(n):
        if d[k] <= least + margin:
            out[kept] = among[k]
            kept += 1
    return kept


@numba.njit(nogil=True, cache=True)
def cell_field(
    segments: Any,
    owners: Any,
    warp: Any,
    spacing: float,
    shifts: Any,
    voxel: Any,
    block: Any,
    reach: float,
    sigma: float,
    thickness: float,
    first: int,
    last: int,
    ids: Any,
    depth: Any,
    dark: Any,
) -> None:
    """Fill cells, distances to the nearest membrane and membrane darkness.

    Parameters
    ----------
    segments, owners
        Capsules float64 (n, 8) in nm and the cell (int32, from 0) of each.
    warp, spacing
        Displacements float32 (3, gz, gy, gx) in nm, and the distance of the grid's nodes in nm.
    shifts
        Displacement (y, x) of each slice in nm, float64 (z, 2).
    voxel, block
        Voxel size in nm; voxels per block (z, y, x). Blocks share one list of candidate capsules.
    reach
        Distances to the membrane are exact up to here, in nm.
    sigma, thickness
        Width of the membrane's Gaussian profile, and thickness of the section it is projected through, in nm.
    first, last
        Slices to fill, `last` not included; they depend on nothing else, so parts may run in parallel threads.
    ids, depth, dark
        Outputs (z, y, x): cell number + 1 (uint32), distance to the interface in nm (float32),
        darkness 0 to 1 (float32).
    """
    _, ny, nx = ids.shape
    n = segments.shape[0]
    everything = np.arange(n)
    d = np.empty(n)
    large = np.empty(n, np.int64)
    small = np.empty(n, np.int64)
    stretch = 1.35  # the warp's steepest slope, near enough: it only sizes the candidate lists
    factor = 4
    bz, by, bx = block[0], block[1], block[2]
    half = 0.5 * math.sqrt((bz * voxel[0]) ** 2 + (by * voxel[1]) ** 2 + (bx * voxel[2]) ** 2) * stretch
    for z1 in range(first, last, bz * factor):
        for y1 in range(0, ny, by * factor):
            for x1 in range(0, nx, bx * factor):
                pz, py, px = _warped(
                    warp,
                    spacing,
                    (z1 + 0.5 * bz * factor) * voxel[0],
                    (y1 + 0.5 * by * factor) * voxel[1],
                    (x1 + 0.5 * bx * factor) * voxel[2],
                )
                nl = _near(segments, everything, n, pz, py, px, 2 * half * factor + 2 * reach, d, large)
                for z0 in range(z1, min(last, z1 + bz * factor), bz):
                    for y0 in range(y1, min(ny, y1 + by * factor), by):
                        for x0 in range(x1, min(nx, x1 + bx * factor), bx):
                            pz, py, px = _warped(
                                warp,
                                spacing,
                                (z0 + 0.5 * bz) * voxel[0],
                                (y0 + 0.5 * by) * voxel[1] + shifts[z0, 0],
                                (x0 + 0.5 * bx) * voxel[2] + shifts[z0, 1],
                            )
                            ns = _near(segments, large, nl, pz, py, px, 2 * half + 2 * reach, d, small)
                            for k in range(z0, min(last, z0 + bz)):
                                for j in range(y0, min(ny, y0 + by)):
                                    for i in range(x0, min(nx, x0 + bx)):
                                        z, y, x = _warped(
                                            warp,
                                            spacing,
                                            (k + 0.5) * voxel[0],
                                            (j + 0.5) * voxel[1] + shifts[k, 0],
                                            (i + 0.5) * voxel[2] + shifts[k, 1],
                                        )
                                        o1, o2 = -1, -1
                                        d1, d2 = np.inf, np.inf
                                        az, ay, ax = 0.0, 0.0, 1.0
                                        cz, cy, cx = 0.0, 0.0, -1.0
                                        for q in range(ns):
                                            s = small[q]
                                            dist, vz, vy, vx = _capsule(segments, s, z, y, x)
                                            o = owners[s]
                                            if dist < d1:
                                                if o != o1:
                                                    d2, o2, cz, cy, cx = d1, o1, az, ay, ax
                                                d1, o1, az, ay, ax = dist, o, vz, vy, vx
                                            elif dist < d2 and o != o1:
                                                d2, o2, cz, cy, cx = dist, o, vz, vy, vx
                                        ids[k, j, i] = o1 + 1
                                        gap = d2 - d1
                                        if o2 < 0 or gap > 2 * reach:
                                            depth[k, j, i] = reach
                                            dark[k, j, i] = 0.0
                                            continue
                                        la = max(math.sqrt(az * az + ay * ay + ax * ax), 1e-6)
                                        lc = max(math.sqrt(cz * cz + cy * cy + cx * cx), 1e-6)
                                        uz = cz / lc - az / la
                                        uy = cy / lc - ay / la
                                        ux = cx / lc - ax / la
                                        opening = math.sqrt(uz * uz + uy * uy + ux * ux)
                                        m = gap / max(opening, _LEAST_OPENING)
                                        tilt = 0.5 * thickness * abs(uz) / max(opening, 1e-6)
                                        if tilt < 1.0:
                                            value = math.exp(-0.5 * (m / sigma) ** 2)
                                        else:
                                            scale = 1.0 / (math.sqrt(2.0) * sigma)
                                            value = math.erf((m + tilt) * scale) - math.erf((m - tilt) * scale)
                                            value *= sigma * math.sqrt(0.5 * math.pi) / (2.0 * tilt)
                                        depth[k, j, i] = min(m, reach)
                                        dark[k, j, i] = value


@numba.njit(nogil=True, cache=True)
def clearance(segments: Any, n: int, points: Any, out: Any) -> None:
    """Distance in nm of each point (float64 (m, 3)) to the nearest of the first `n` capsules."""
    for p in range(points.shape[0]):
        least = 1e9
        for s in range(n):
            least = min(least, _capsule(segments, s, points[p, 0], points[p, 1], points[p, 2])[0])
        out[p] = least


@numba.njit(nogil=True, cache=True)
def stamp_capsule(
    chain: Any,
    cell: int,
    lo: Any,
    hi: Any,
    warp: Any,
    spacing: float,
    shifts: Any,
    voxel: Any,
    wave: Any,
    look: Any,
    ids: Any,
    depth: Any,
    image: Any,
    mask: Any,
) -> int:
    """Draw one mitochondrion: a chain of capsules inside `cell`, clear of the membrane, with cristae.

    `wave` is the cristae's wave vector (rad/nm; z, y, x) and phase; `look` is (grey, amplitude of the cristae,
    grey of the rim, clearance from the cell's membrane in nm, share of the cytoplasm's granules that shows, grey
    of the cytoplasm). Draws into `image` (float32) and `mask` (uint8); returns how many voxels of the mask are new.
    """
    fresh = 0
    for k in range(lo[0], hi[0]):
        for j in range(lo[1], hi[1]):
            for i in range(lo[2], hi[2]):
                if ids[k, j, i] != cell or depth[k, j, i] < look[3] - 8.0:
                    continue
                z, y, x = _warped(
                    warp,
                    spacing,
                    (k + 0.5) * voxel[0],
                    (j + 0.5) * voxel[1] + shifts[k, 0],
                    (i + 0.5) * voxel[2] + shifts[k, 1],
                )
                d = 1e9
                for s in range(chain.shape[0]):
                    d = min(d, _capsule(chain, s, z, y, x)[0])
                d = max(d, look[3] - depth[k, j, i])
                if d > 8.0:
                    continue
                # Bent sheets, not a grating: the phase wanders over a few hundred nm.
                phase = wave[0] * z + wave[1] * y + wave[2] * x + wave[3]
                phase += 1.3 * math.sin(0.011 * y + 0.017 * x + wave[3]) + 1.1 * math.sin(0.019 * z - 0.013 * y)
                crista = math.cos(phase)
                value = look[0] - look[1] * crista * min(1.0, max(0.0, -(d + 12.0) / 12.0))
                rim = math.exp(-0.5 * ((d + 5.0) / 5.0) ** 2)
                value += rim * (look[2] - value)
                value += look[4] * (image[k, j, i] - look[5])
                inside = 1.0 / (1.0 + math.exp(d / 2.5))
                image[k, j, i] += inside * (value - image[k, j, i])
                if d <= 0:
                    fresh += 1 - mask[k, j, i]
                    mask[k, j, i] = 1
    return fresh


@numba.njit(nogil=True, cache=True)
def stamp_ring(
    centre: Any,
    radius: float,
    cell: int,
    voxel: Any,
    thickness: float,
    wall: float,
    grey: float,
    lumen: float,
    strength: float,
    clear: float,
    ids: Any,
    depth: Any,
    blocked: Any,
    image: Any,
) -> None:
    """Draw a vesicle: a ball (nm, un-warped) with a dark wall around its lumen, in `cell` only."""
    reach = radius + 2.0 * wall
    for k in range(
        max(0, int((centre[0] - reach - 0.5 * thickness) / voxel[0])),
        min(ids.shape[0], int((centre[0] + reach + 0.5 * thickness) / voxel[0]) + 1),
    ):
        # A section thicker than the vesicle shows it whole wherever it holds it.
        dz = max(0.0, abs((k + 0.5) * voxel[0] - centre[0]) - 0.5 * thickness)
        for j in range(
            max(0, int((centre[1] - reach) / voxel[1])),
            min(ids.shape[1], int((centre[1] + reach) / voxel[1]) + 1),
        ):
            dy = (j + 0.5) * voxel[1] - centre[1]
            for i in range(
                max(0, int((centre[2] - reach) / voxel[2])),
                min(ids.shape[2], int((centre[2] + reach) / voxel[2]) + 1),
            ):
                if ids[k, j, i] != cell or depth[k, j, i] < clear or blocked[k, j, i]:
                    continue
                dx = (i + 0.5) * voxel[2] - centre[2]
                d = math.sqrt(dz * dz + dy * dy + dx * dx) - radius
                if d > 2.0 * wall:
                    continue
                edge = math.exp(-0.5 * (d / (0.5 * wall)) ** 2)
                fill = 0.6 / (1.0 + math.exp(d / (0.25 * wall)))
                value = image[k, j, i]
                value += strength * fill * (lumen - value)
                value += strength * edge * (grey - value)
                image[k, j, i] = value


@numba.njit(nogil=True, cache=True)
def stamp_synapse(
    centre: Any, radius: float, cell: int, voxel: Any, width: float, ids: Any, depth: Any, dark: Any
) -> None:
    """Thicken the membrane around `centre` (nm), more so on the side of `cell`, the presynaptic one."""
    lo = np.empty(3, np.int64)
    hi = np.empty(3, np.int64)
    for a in range(3):
        lo[a] = max(0, int((centre[a] - 1.6 * radius) / voxel[a]))
        hi[a] = min(ids.shape[a], int((centre[a] + 1.6 * radius) / voxel[a]) + 1)
    for k in range(lo[0], hi[0]):
        for j in range(lo[1], hi[1]):
            for i in range(lo[2], hi[2]):
                if depth[k, j, i] > 4 * width:
                    continue
                dz = (k + 0.5) * voxel[0] - centre[0]
                dy = (j + 0.5) * voxel[1] - centre[1]
                dx = (i + 0.5) * voxel[2] - centre[2]
                r2 = (dz * dz + dy * dy + dx * dx) / (radius * radius)
                side = width if ids[k, j, i] == cell else 0.55 * width
                value = math.exp(-((r2 / 0.6) ** 2)) * math.exp(-0.5 * (depth[k, j, i] / side) ** 2)
                # The dense material on top of the membrane: above 1 it is darker than the membrane itself.
                dark[k, j, i] = max(dark[k, j, i], 1.0 * value) + 0.35 * value

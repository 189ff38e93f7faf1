"""Where the demo volume's cells run: chains of capsules that fill a box with the wanted mixture of sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

from . import _demo_kernels as kernels

__all__ = ["Layout", "LayoutSpec", "lay_out", "smooth_noise"]

_CANDIDATES = 24


@dataclass(frozen=True)
class LayoutSpec:
    """What `lay_out` aims at. Lengths in nm, areas in nm²."""

    density: float
    """Cells per µm³ of box, fragments not counted."""
    median_area: float
    area_sigma: float
    """Standard deviation of the logarithm of the cells' cross-sections."""
    largest_area: float
    node_spacing: float
    wander: float
    """How much the direction of a tube changes from node to node (rad, roughly)."""
    scatter: float
    """How far single tubes leave the direction of their bundle; large is isotropic."""
    coarse: tuple[float, float, float]
    """Voxel size on which the sizes are balanced."""
    rounds: int = 8


@dataclass(frozen=True)
class Layout:
    """Capsules and whose they are."""

    segments: np.ndarray
    """float64 (n, 8): z0, y0, x0, r0, z1, y1, x1, r1 in nm."""
    owners: np.ndarray
    """int32 (n,): the cell of each capsule, from 0."""
    trunks: tuple[np.ndarray, ...]
    """For each cell the nodes of its trunk, float64 (m, 4): z, y, x, r."""


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise (float32) of standard deviation 1, smooth over `sigma` samples."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="nearest")
    return noise / max(float(noise.std()), 1e-12)


def lay_out(rng: np.random.Generator, extent: np.ndarray, spec: LayoutSpec, warp: np.ndarray, spacing: float) -> Layout:
    """Lay cells through a box of `extent` nm, large ones first, each where the others leave room.

    The radii are then balanced on a coarse grid until every cell takes about the share of the box that its
    cross-section asks for; additive weights (as in an Apollonius diagram) make large cells bulge into small ones.
    """
    n = max(3, round(spec.density * float(np.prod(extent)) * 1e-9))
    quantiles = ndtri((np.arange(n)[::-1] + 0.5) / n)
    areas = np.minimum(spec.median_area * np.exp(spec.area_sigma * quantiles), spec.largest_area)
    bundles = rng.standard_normal((3, 3))
    bundles /= np.linalg.norm(bundles, axis=1, keepdims=True)
    seats = rng.random((3, 3)) * extent

    segments = np.zeros((0, 8))
    owners: list[int] = []
    trunks: list[np.ndarray] = []
    for cell, area in enumerate(areas):
        radius = math.sqrt(area / math.pi)
        best, score = None, -np.inf
        for _ in range(_CANDIDATES):
            nodes = _trunk(rng, extent, spec, bundles, seats, radius)
            inside = nodes[np.all((nodes[:, :3] > -radius) & (nodes[:, :3] < extent + radius), axis=1)]
            if len(segments) == 0 or len(inside) == 0:
                room = 0.0
            else:
                free = np.empty(len(inside))
                kernels.clearance(segments, len(segments), np.ascontiguousarray(inside[:, :3]), free)
                # Far from everything is no better than just fitting: cells touch.
                room = float(np.minimum(free / inside[:, 3] - 1.0, 0.0).mean())
            if best is None or room > score:
                best, score = nodes, room
        assert best is not None
        parts = [best]
        if cell % 3 == 1 and len(best) > 4:
            parts.append(_branch(rng, best, spec))
        for part in parts:
            chain = np.concatenate([part[:-1], part[1:]], axis=1)
            segments = np.concatenate([segments, chain])
            owners += [cell] * len(chain)
        trunks.append(best)
    layout = Layout(segments, np.array(owners, np.int32), tuple(trunks))
    return _balance(layout, extent, spec, areas, warp, spacing)


def _trunk(
    rng: np.random.Generator,
    extent: np.ndarray,
    spec: LayoutSpec,
    bundles: np.ndarray,
    seats: np.ndarray,
    radius: float,
) -> np.ndarray:
    """Walk from a point in the box both ways until out of it."""
    start = rng.random(3) * extent
    nearest = int(np.argmin(((seats - start) ** 2).sum(axis=1)))
    step = min(max(spec.node_spacing, 1.2 * radius), 2.5 * spec.node_spacing)
    heading = bundles[nearest] + spec.scatter * rng.standard_normal(3)
    heading /= np.linalg.norm(heading)
    margin = radius + step
    halves = []
    for sign in (1.0, -1.0):
        point, direction = start, sign * heading
        half = []
        for _ in range(60):
            direction = direction + spec.wander * rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            point = point + step * direction
            half.append(point)
            if np.any(point < -margin) or np.any(point > extent + margin):
                break
        halves.append(half)
    points = np.array([*halves[1][::-1], start, *halves[0]])
    swell = ndimage.gaussian_filter1d(rng.standard_normal(len(points)), 0.8) * 0.35
    return np.column_stack([points, radius * np.exp(swell)])


def _branch(rng: np.random.Generator, trunk: np.ndarray, spec: LayoutSpec) -> np.ndarray:
    """Grow a thinner side branch out of the middle of a trunk."""
    root = trunk[rng.integers(1, len(trunk) - 1)]
    along = trunk[-1, :3] - trunk[0, :3]
    direction = np.cross(along, rng.standard_normal(3))
    direction /= max(float(np.linalg.norm(direction)), 1e-9)
    nodes = [root * np.array([1, 1, 1, 0.6])]
    for _ in range(int(rng.integers(2, 6))):
        direction = direction + 0.35 * rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        last = nodes[-1]
        nodes.append(np.array([*(last[:3] + spec.node_spacing * direction), last[3] * 0.95]))
    return np.array(nodes)


def _balance(
    layout: Layout, extent: np.ndarray, spec: LayoutSpec, areas: np.ndarray, warp: np.ndarray, spacing: float
) -> Layout:
    """Change the radii until the cells' volumes are about in the wanted proportions."""
    coarse = np.array(spec.coarse)
    shape = tuple(np.maximum(np.ceil(extent / coarse), 1).astype(int))
    ids = np.zeros(shape, np.uint32)
    depth = np.zeros(shape, np.float32)
    dark = np.zeros(shape, np.float32)
    shifts = np.zeros((shape[0], 2))
    segments, owners = layout.segments.copy(), layout.owners
    lengths = np.zeros(len(areas))
    middle = 0.5 * (segments[:, :3] + segments[:, 4:7])
    inside = np.all((middle > 0) & (middle < extent), axis=1)
    np.add.at(lengths, owners, inside * np.linalg.norm(segments[:, 4:7] - segments[:, :3], axis=1))
    wanted = areas * np.maximum(lengths, spec.node_spacing)
    wanted = wanted / wanted.sum() * ids.size
    # A cell smaller than a few coarse voxels can't be measured; it keeps its radius.
    measured = wanted > 12
    add = np.zeros(len(areas))
    block = np.array([max(1, round(160.0 / c)) for c in coarse])
    for _ in range(spec.rounds):
        kernels.cell_field(segments, owners, warp, spacing, shifts, coarse, block, 0.0, 8.0, 0.0, ids, depth, dark)
        has = np.bincount(ids.ravel(), minlength=len(areas) + 1)[1:].astype(float)
        radius = np.sqrt(areas / math.pi)
        ratio = np.clip(np.sqrt(wanted / np.maximum(has, 1.0)), 0.7, 1.4)
        add = np.where(measured, 0.6 * (ratio - 1.0) * radius, 0.0)
        segments[:, 3] = np.maximum(segments[:, 3] + add[owners], 5.0)
        segments[:, 7] = np.maximum(segments[:, 7] + add[owners], 5.0)
    trunks = []
    start = 0
    counts = np.bincount(owners, minlength=len(areas))
    for cell, trunk in enumerate(layout.trunks):
        nodes = trunk.copy()
        part = segments[start : start + len(trunk) - 1]
        nodes[:-1, 3], nodes[-1, 3] = part[:, 3], part[-1, 7]
        trunks.append(nodes)
        start += int(counts[cell])
    return Layout(segments, owners, tuple(trunks))

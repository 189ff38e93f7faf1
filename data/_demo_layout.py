"""Where the demo volume's cells run: chains of capsules that fill a box with the wanted mixture of sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

from . import _demo_kernels as kernels

__all__ = ["Layout", "LayoutSpec", "lay_out", "smooth_noise"]

_CANDIDATES = 16


@dataclass(frozen=True)
class LayoutSpec:
    """What `lay_out` aims at. Lengths in nm, areas in nm²."""

    density: float
    """Cells per µm³ of box, fragments not counted."""
    median_area: float
    area_sigma: float
    """Standard deviation of the logarithm of the cells' cross-sections."""
    smallest_area: float
    largest_area: float
    branch_area: float
    """A cell grows one branch for every factor e² that its cross-section is above this."""
    ribbons: float
    """Share of cells that are flattened: some tubes side by side."""
    node_spacing: float
    wander: float
    """How much the direction of a tube changes from node to node (rad, roughly)."""
    scatter: float
    """How far single tubes leave the direction of their bundle; large is isotropic."""
    along_z: float
    """How much tubes prefer to run across the slices."""
    coarse: tuple[float, float, float]
    """Voxel size on which the sizes are balanced."""
    large_section: float
    """Percentile 88 of the cells' sections in a slice."""
    middle_section: float = 0.0
    """Median of the cells' sections in a slice; 0 where slivers set it."""
    rounds: int = 5
    tries: int = 3


@dataclass(frozen=True)
class Layout:
    """Capsules and whose they are."""

    segments: np.ndarray
    """float64 (n, 8): z0, y0, x0, r0, z1, y1, x1, r1 in nm."""
    owners: np.ndarray
    """int32 (n,): the cell of each capsule, from 0."""
    parts: tuple[tuple[int, int, int], ...]
    """(cell, first capsule, one past the last) of every unbranched stretch."""
    cells: int

    def nodes(self, part: tuple[int, int, int]) -> np.ndarray:
        """Nodes of a stretch, float64 (m, 4): z, y, x, r."""
        _, first, end = part
        return np.concatenate([self.segments[first:end, :4], self.segments[end - 1 : end, 4:]])


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise (float32) of standard deviation 1, smooth over `sigma` samples."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="nearest")
    return noise / max(float(noise.std()), 1e-12)


def lay_out(rng: np.random.Generator, extent: np.ndarray, spec: LayoutSpec, warp: np.ndarray, spacing: float) -> Layout:
    """Lay cells through a box of `extent` nm: of a few tries the one whose large cells are of the wanted size."""
    best, least = None, np.inf
    for _ in range(spec.tries):
        layout, ids = _attempt(rng, extent, spec, warp, spacing)
        # Sections of small cells are not to be trusted on the coarse grid; those of large ones vary most.
        areas = np.concatenate([np.bincount(plane.ravel()) for plane in ids])
        middle, large = np.percentile(areas[areas > 0], [50, 88]) * spec.coarse[1] * spec.coarse[2]
        miss = abs(math.log(large / spec.large_section))
        if spec.middle_section:
            miss += abs(math.log(middle / spec.middle_section))
        if best is None or miss < least:
            best, least = layout, miss
        if miss < 0.14:
            break
    assert best is not None
    return best


def _attempt(
    rng: np.random.Generator, extent: np.ndarray, spec: LayoutSpec, warp: np.ndarray, spacing: float
) -> tuple[Layout, np.ndarray]:
    """Lay cells, large ones first, each where the others leave room.

    The radii are then balanced on a coarse grid until every cell takes about the share of the box that its
    cross-section asks for; additive weights (as in an Apollonius diagram) make large cells bulge into small ones.
    """
    n = max(3, round(spec.density * float(np.prod(extent)) * 1e-9))
    quantiles = ndtri((np.arange(n)[::-1] + 0.5) / n)
    areas = spec.median_area * np.exp(spec.area_sigma * quantiles)
    areas = np.clip(areas, spec.smallest_area, spec.largest_area)
    bundles = rng.standard_normal((3, 3))
    bundles /= np.linalg.norm(bundles, axis=1, keepdims=True)
    bundles[:, 0] += np.where(bundles[:, 0] < 0, -spec.along_z, spec.along_z)
    seats = rng.random((3, 3)) * extent

    segments = np.zeros((0, 8))
    owners: list[int] = []
    parts: list[tuple[int, int, int]] = []

    def place(cell: int, candidates: list[np.ndarray]) -> np.ndarray:
        """Add the candidate that overlaps the other cells least. Far from all is no better: cells touch."""
        nonlocal segments
        rooms = []
        for nodes in candidates:
            radius = nodes[:, 3:]
            inside = nodes[np.all((nodes[:, :3] > -radius) & (nodes[:, :3] < extent + radius), axis=1)]
            free = np.zeros(len(inside))
            # The root of a branch lies in its own trunk, so the branch ignores its own cell.
            others = segments[: owners.index(cell)] if cell in owners else segments
            kernels.clearance(others, len(others), np.ascontiguousarray(inside[:, :3]), free)
            rooms.append(float(np.minimum(free / inside[:, 3] - 1.0, 0.0).mean()) if len(inside) else -9.0)
        best = candidates[int(np.argmax(rooms))]
        parts.append((cell, len(segments), len(segments) + len(best) - 1))
        segments = np.concatenate([segments, np.concatenate([best[:-1], best[1:]], axis=1)])
        owners.extend([cell] * (len(best) - 1))
        return best

    for cell, area in enumerate(areas):
        branches = int(max(0.0, 0.5 * math.log(area / spec.branch_area) + rng.random()))
        radius = math.sqrt(area / (1.0 + 0.5 * branches) / math.pi)
        ribbon = int(rng.integers(0, 3)) if rng.random() < spec.ribbons else 0
        radius /= math.sqrt(1 + ribbon)
        trunk = place(cell, _trunks(rng, extent, spec, bundles, seats, radius))
        inside = trunk[np.all((trunk[:, :3] > 0) & (trunk[:, :3] < extent), axis=1)]
        for _ in range(ribbon):
            place(cell, [_alongside(rng, trunk)])
        for _ in range(branches if len(inside) else 0):
            place(cell, _branches(rng, trunk, inside, extent, spec))
    layout = Layout(segments, np.array(owners, np.int32), tuple(parts), n)
    return _balance(layout, extent, spec, areas, warp, spacing)


def _trunks(
    rng: np.random.Generator,
    extent: np.ndarray,
    spec: LayoutSpec,
    bundles: np.ndarray,
    seats: np.ndarray,
    radius: float,
) -> list[np.ndarray]:
    """Walk from points in the box both ways until out of it."""
    start = rng.random((_CANDIDATES, 3)) * extent
    nearest = ((seats[None] - start[:, None]) ** 2).sum(axis=2).argmin(axis=1)
    step = min(max(spec.node_spacing, 1.2 * radius), 2.5 * spec.node_spacing)
    heading = _unit(bundles[nearest] + spec.scatter * rng.standard_normal((_CANDIDATES, 3)))
    there = _walks(rng, start, heading, step, radius + step, 60, extent, spec)
    back = _walks(rng, start, -heading, step, radius + step, 60, extent, spec)
    found = []
    for k in range(_CANDIDATES):
        points = np.concatenate([back[k][::-1], start[k : k + 1], there[k]])
        found.append(np.column_stack([points, radius * _swelling(rng, len(points))]))
    return found


def _branches(
    rng: np.random.Generator, trunk: np.ndarray, inside: np.ndarray, extent: np.ndarray, spec: LayoutSpec
) -> list[np.ndarray]:
    """Grow thinner side branches out of nodes of the trunk that lie in the box."""
    n = _CANDIDATES // 2
    root = inside[rng.integers(len(inside), size=n)]
    heading = _unit(np.cross(trunk[-1, :3] - trunk[0, :3], rng.standard_normal((n, 3))))
    radius = float(np.median(trunk[:, 3])) * rng.uniform(0.3, 0.75)
    step = max(spec.node_spacing * 0.8, radius)
    walks = _walks(rng, root[:, :3], heading, step, radius + step, int(rng.integers(3, 16)), extent, spec)
    found = []
    for k in range(n):
        points = np.concatenate([root[k : k + 1, :3], walks[k]])
        radii = radius * _swelling(rng, len(points))
        radii[0] = min(root[k, 3], 1.3 * radius)
        found.append(np.column_stack([points, radii]))
    return found


def _alongside(rng: np.random.Generator, trunk: np.ndarray) -> np.ndarray:
    """Run beside a trunk, on a side that turns slowly, so that both are one flat profile."""
    along = trunk[-1, :3] - trunk[0, :3]
    across = _unit(np.cross(along, rng.standard_normal(3)))
    nodes = trunk.copy()
    nodes[:, :3] += 1.35 * trunk[:, 3:] * across
    nodes[:, 3] *= rng.uniform(0.6, 1.0) * _swelling(rng, len(nodes))
    return nodes


def _walks(
    rng: np.random.Generator,
    start: np.ndarray,
    heading: np.ndarray,
    step: float,
    margin: float,
    most: int,
    extent: np.ndarray,
    spec: LayoutSpec,
) -> list[np.ndarray]:
    """Random walks from each of `start` (n, 3), each up to its first point outside the box."""
    point, points, outside = start, [], []
    for _ in range(most):
        heading = _unit(heading + spec.wander * rng.standard_normal(heading.shape))
        point = point + step * heading
        points.append(point)
        outside.append(np.any((point < -margin) | (point > extent + margin), axis=1))
        if np.logical_or.reduce(outside).all():
            break
    paths, left = np.stack(points, axis=1), np.stack(outside, axis=1)
    ends = np.where(left.any(axis=1), left.argmax(axis=1) + 1, left.shape[1])
    return [path[:end] for path, end in zip(paths, ends, strict=True)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _swelling(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.exp(0.4 * ndimage.gaussian_filter1d(rng.standard_normal(n), 0.7))


def _balance(
    layout: Layout, extent: np.ndarray, spec: LayoutSpec, areas: np.ndarray, warp: np.ndarray, spacing: float
) -> tuple[Layout, np.ndarray]:
    """Change the radii until the cells' volumes are about in the wanted proportions."""
    coarse = np.array(spec.coarse)
    shape = tuple(np.maximum(np.ceil(extent / coarse), 1).astype(int))
    ids = np.zeros(shape, np.uint32)
    depth, dark = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    shifts = np.zeros((shape[0], 2))
    segments, owners = layout.segments.copy(), layout.owners
    block = np.array([max(1, round(80.0 / c)) for c in coarse])
    wanted = areas * _slices_crossed(layout, extent)
    wanted *= ids.size / wanted.sum()
    for _ in range(spec.rounds):
        kernels.cell_field(
            segments, owners, warp, spacing, shifts, coarse, block, 0.0, 8.0, 0.0, 0, len(ids), ids, depth, dark
        )
        has = np.bincount(ids.ravel(), minlength=layout.cells + 1)[1:]
        # A cell smaller than a few coarse voxels can't be measured; it keeps its radius.
        ratio = np.clip(np.sqrt(wanted / np.maximum(has, 1.0)), 0.7, 1.4)
        gain = np.where(wanted > 12, 1.0 + 0.6 * (ratio - 1.0), 1.0)[owners]
        segments[:, 3] = np.maximum(segments[:, 3] * gain, 5.0)
        segments[:, 7] = np.maximum(segments[:, 7] * gain, 5.0)
    return Layout(segments, owners, layout.parts, layout.cells), ids


def _slices_crossed(layout: Layout, extent: np.ndarray) -> np.ndarray:
    """Depth in nm over which each cell has a cross-section."""
    low, high = np.full(layout.cells, np.inf), np.full(layout.cells, -np.inf)
    for end in (layout.segments[:, :4], layout.segments[:, 4:]):
        radius = end[:, 3]
        near = np.all((end[:, 1:3] > -radius[:, None]) & (end[:, 1:3] < extent[1:] + radius[:, None]), axis=1)
        np.minimum.at(low, layout.owners[near], (end[:, 0] - radius)[near])
        np.maximum.at(high, layout.owners[near], (end[:, 0] + radius)[near])
    return np.maximum(np.minimum(high, extent[0]) - np.maximum(low, 0.0), 0.05 * extent[0])

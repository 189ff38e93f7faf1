"""From cells to a micrograph: organelles, membranes, blur, noise and the faults of the microscope."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

from . import _demo_kernels as kernels
from ._demo_layout import Layout, LayoutSpec, lay_out, smooth_noise
from ._demo_pieces import absorb_grazes, add_slivers, settle_pieces
from ._demo_statistics import boundary_mask

__all__ = ["FIB_SEM", "SSTEM", "TissueSpec", "make_tissue"]

_GRID_NM = 50.0
# How far from a membrane its distance is known: past the organelles' clearance and the synapses' width.
_REACH_NM = 42.0


@dataclass(frozen=True)
class TissueSpec:
    """How a tissue looks under one kind of microscope. Lengths in nm, grey levels 0 to 255."""

    voxel_size: tuple[float, float, float]
    layout: LayoutSpec
    segments: float
    """Ids per µm³, fragments among them."""
    graze: int
    """Patches of fewer voxels than this within a slice go to their neighbour there."""
    crumb: int
    """Pieces of a cell of fewer voxels than this, cut off inside the volume, go to their neighbour."""
    median_section: float
    """Median cross-section in µm² that orphan slivers make up, and the count of ids with it; 0 for no slivers."""
    warps: tuple[tuple[float, float], ...]
    """(amplitude, smooth over) of the warp's octaves."""
    shift: float
    block: tuple[int, int, int]
    membrane_sigma: float
    thickness: float
    mean: float
    sd: float
    cell_grey: tuple[float, float]
    texture: tuple[float, float]
    """Least and largest standard deviation of a cell's granules."""
    texture_sigma: tuple[float, float, float]
    """Size of the granules in voxels."""
    clouds: float
    """Standard deviation of the granules' clouds, relative to that of the granules."""
    membrane: float
    synapse: float
    mitochondrion: tuple[float, float, float, float, float]
    """Grey, amplitude of the cristae, grey of the rim, clearance from the membrane, share of granules that shows."""
    mitochondria_spread: float
    """Standard deviation of that grey from one to the next."""
    crista_period: float
    mitochondria: float
    """Share of the volume that mitochondria take."""
    least_radius: float
    """Narrowest tube that holds mitochondria."""
    largest_radius: float
    """Of a mitochondrion."""
    vesicle: tuple[float, float, float, float]
    """Radius, wall, grey of the wall, grey of the lumen."""
    vesicles: float
    blur: tuple[float, float, float]
    correlated: float
    white: float
    drift: float
    jitter: float
    bad_slices: float


FIB_SEM = TissueSpec(
    voxel_size=(10.0, 10.0, 10.0),
    layout=LayoutSpec(
        density=20.0,
        median_area=1.2e4,
        area_sigma=2.3,
        smallest_area=1e3,
        largest_area=1.2e6,
        ribbons=0.9,
        branch_area=1.5e3,
        node_spacing=170.0,
        wander=0.3,
        scatter=0.5,
        along_z=0.0,
        coarse=(40.0, 40.0, 40.0),
        large_section=3.1e5,
    ),
    segments=38.0,
    graze=0,
    crumb=60,
    median_section=0.0192,
    warps=((60.0, 180.0), (36.0, 55.0)),
    shift=2.0,
    block=(4, 4, 4),
    membrane_sigma=12.0,
    thickness=10.0,
    mean=131.0,
    sd=33.0,
    cell_grey=(150.0, 16.0),
    texture=(8.0, 21.0),
    texture_sigma=(1.5, 1.5, 1.5),
    clouds=0.5,
    membrane=91.0,
    synapse=62.0,
    mitochondrion=(87.0, 7.0, 78.0, 26.0, 0.1),
    mitochondria_spread=4.0,
    crista_period=48.0,
    mitochondria=0.09,
    least_radius=70.0,
    largest_radius=220.0,
    vesicle=(22.0, 9.0, 95.0, 150.0),
    vesicles=130.0,
    blur=(0.85, 0.85, 0.85),
    correlated=3.0,
    white=3.5,
    drift=4.3,
    jitter=1.6,
    bad_slices=0.008,
)

SSTEM = TissueSpec(
    voxel_size=(50.0, 4.0, 4.0),
    layout=LayoutSpec(
        density=26.0,
        median_area=8.5e3,
        area_sigma=1.7,
        smallest_area=7e3,
        largest_area=1.6e5,
        ribbons=1.0,
        branch_area=4e4,
        node_spacing=150.0,
        wander=0.2,
        scatter=0.3,
        along_z=6.0,
        coarse=(50.0, 32.0, 32.0),
        large_section=8.8e4,
        middle_section=1.25e4,
        rounds=4,
        tries=3,
    ),
    segments=27.0,
    graze=55,
    crumb=1500,
    median_section=0.0,
    warps=((45.0, 160.0), (20.0, 50.0)),
    shift=10.0,
    block=(1, 8, 8),
    membrane_sigma=7.0,
    thickness=45.0,
    mean=126.0,
    sd=44.0,
    cell_grey=(150.0, 14.0),
    texture=(22.0, 36.0),
    texture_sigma=(0.0, 1.6, 1.6),
    clouds=0.3,
    membrane=58.0,
    synapse=35.0,
    mitochondrion=(108.0, 40.0, 56.0, 24.0, 0.45),
    mitochondria_spread=8.0,
    crista_period=34.0,
    mitochondria=0.05,
    least_radius=60.0,
    largest_radius=190.0,
    vesicle=(19.0, 7.0, 75.0, 165.0),
    vesicles=90.0,
    blur=(0.0, 0.7, 0.7),
    correlated=6.0,
    white=6.9,
    drift=3.0,
    jitter=9.3,
    bad_slices=0.02,
)


def make_tissue(shape: tuple[int, int, int], seed: int, spec: TissueSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make raw (uint8), ids (uint32) and mitochondria (uint8) of `shape` (z, y, x)."""
    rng = np.random.default_rng([seed, *shape, int(spec.voxel_size[0])])
    voxel = np.array(spec.voxel_size)
    extent = np.array(shape) * voxel
    # Mitochondria follow the slow bends of their cell, not the crinkles of its surface.
    bends, warp = _warp(rng, extent, spec)
    shifts = np.zeros((shape[0], 2))
    if spec.shift:
        shifts = rng.standard_normal((shape[0], 2)) * spec.shift
    layout = lay_out(rng, extent, spec.layout, warp, _GRID_NM)

    ids = np.zeros(shape, np.uint32)
    depth = np.zeros(shape, np.float32)
    dark = np.zeros(shape, np.float32)
    # Chunks are whole blocks of blocks, so that the result doesn't depend on how many there are.
    chunk = 16 * spec.block[0]

    def fill(first: int) -> None:
        kernels.cell_field(
            layout.segments,
            layout.owners,
            warp,
            _GRID_NM,
            shifts,
            voxel,
            np.array(spec.block),
            _REACH_NM,
            spec.membrane_sigma,
            spec.thickness,
            first,
            min(first + chunk, shape[0]),
            ids,
            depth,
            dark,
        )

    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        list(pool.map(fill, range(0, shape[0], chunk)))
    exact = _exact_ids(rng, ids, depth, dark, spec)
    image = _cytoplasm(rng, ids, layout.cells, spec)
    mask = np.zeros(shape, np.uint8)
    _mitochondria(rng, layout, bends, shifts, ids, depth, image, mask, spec)
    _synapses(rng, ids, depth, dark, image, mask, spec)
    over = np.maximum(dark - 1.0, 0.0)
    image += np.minimum(dark, 1.0) * (spec.membrane - image)
    image += np.minimum(over * 2.5, 1.0) * (spec.synapse - image)
    return _photograph(rng, image, spec), exact, mask


def _exact_ids(
    rng: np.random.Generator, ids: np.ndarray, depth: np.ndarray, dark: np.ndarray, spec: TissueSpec
) -> np.ndarray:
    """Number the cells from 1, and take the membranes of absorbed crumbs out of `dark` and `depth`."""
    cells, grazes = absorb_grazes(ids, spec.graze) if spec.graze else (ids, np.zeros(ids.shape, bool))
    settled, absorbed = settle_pieces(cells, spec.crumb)
    absorbed |= grazes
    if absorbed.any():
        wide = round(30.0 / min(spec.voxel_size))
        plane = ndimage.generate_binary_structure(3, 1)
        plane[[0, 2]] &= spec.voxel_size[0] < 20.0
        around = ndimage.binary_dilation(absorbed, plane, iterations=wide)
        edge = ndimage.binary_dilation(
            boundary_mask(settled, spec.voxel_size), plane, iterations=max(1, wide // 3), mask=around
        )
        gone = around & ~edge
        dark[gone] = 0.0
        depth[gone] = _REACH_NM
    if spec.median_section:
        settled = _consecutive(settled)
        areas = np.concatenate([np.bincount(plane.ravel()) for plane in settled])
        areas = areas[areas > 0] * spec.voxel_size[1] * spec.voxel_size[2] * 1e-6
        # So many sections of slivers bring the median down to the wanted one, and are at least one in eight.
        sections = max(2 * int((areas > spec.median_section).sum()) - len(areas), len(areas) // 7)
        volume = ids.size * float(np.prod(spec.voxel_size)) * 1e-9
        missing = max(round(spec.segments * volume) - int(settled.max()), 0)
        add_slivers(rng, settled, depth, missing, sections, min(spec.voxel_size))
        # Slivers may have cut a few voxels off their neighbours.
        settled, _ = settle_pieces(settled, spec.crumb)
    return _consecutive(settled)


def _consecutive(ids: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(np.bincount(ids.ravel()))
    numbers = np.zeros(int(known[-1]) + 1, np.uint32)
    numbers[known] = np.arange(1, len(known) + 1)
    return numbers[ids]


def _warp(rng: np.random.Generator, extent: np.ndarray, spec: TissueSpec) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (3, gz, gy, gx) in nm: the first octave alone, and all of them."""
    grid = tuple(int(np.ceil(e / _GRID_NM)) + 2 for e in extent)
    octaves = [
        np.stack([amplitude * smooth_noise(rng, grid, sigma / _GRID_NM) for _ in range(3)])
        for amplitude, sigma in spec.warps
    ]
    return octaves[0].astype(np.float32), np.sum(octaves, axis=0).astype(np.float32)


def _cytoplasm(rng: np.random.Generator, ids: np.ndarray, n: int, spec: TissueSpec) -> np.ndarray:
    """Grey of each cell, granules, and slow changes."""
    ranks = rng.permutation(n)
    grey = spec.cell_grey[0] + spec.cell_grey[1] * ndtri((ranks + 0.5) / n)
    low, high = spec.texture
    # Pale cells show their granules best.
    rough = low + (high - low) * np.clip((ranks + 0.5) / n + 0.15 * rng.standard_normal(n), 0, 1)
    grey = np.concatenate([[0.0], grey]).astype(np.float32)
    rough = np.concatenate([[0.0], rough]).astype(np.float32)
    noise = rng.standard_normal(ids.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, spec.texture_sigma, mode="nearest", truncate=3.0)
    noise /= max(float(noise.std()), 1e-6)
    noise += _patches(rng, ids.shape, spec)
    image = noise
    image *= rough[ids]
    image += grey[ids]
    return image


def _patches(rng: np.random.Generator, shape: tuple[int, ...], spec: TissueSpec) -> np.ndarray:
    """Clouds of granules: noise of 60 nm, made on every fourth voxel and stretched."""
    step = [max(1, round(40.0 / v)) for v in spec.voxel_size]
    coarse = smooth_noise(rng, tuple(-(-n // s) + 1 for n, s in zip(shape, step, strict=True)), 0.9)
    for axis, (n, s) in enumerate(zip(shape, step, strict=True)):
        at = np.arange(n) / s
        low = at.astype(int)
        rest = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        coarse = np.take(coarse, low, axis) * (1 - rest) + np.take(coarse, low + 1, axis) * rest
    return coarse * np.float32(spec.clouds)


def _mitochondria(
    rng: np.random.Generator,
    layout: Layout,
    warp: np.ndarray,
    shifts: np.ndarray,
    ids: np.ndarray,
    depth: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    spec: TissueSpec,
) -> None:
    """Lay mitochondria along wide tubes until they take their share of the volume."""
    voxel = np.array(spec.voxel_size)
    extent = np.array(ids.shape) * voxel
    reach = 3.0 * spec.warps[0][0]
    chains = [(part[0], layout.nodes(part)) for part in layout.parts]
    seats = [
        (c, node)
        for c, (_, nodes) in enumerate(chains)
        for node in np.flatnonzero(
            (nodes[:-1, 3] > spec.least_radius) & np.all((nodes[:-1, :3] > 0) & (nodes[:-1, :3] < extent), axis=1)
        )
    ]
    rng.shuffle(seats)
    wanted, filled = spec.mitochondria * ids.size, 0
    for c, first in seats:
        if filled > wanted:
            break
        cell, trunk = chains[c]
        nodes = trunk[first : first + int(rng.integers(2, 5))].copy()
        narrow = float(nodes[:, 3].min())
        radius = min(narrow * rng.uniform(0.5, 0.8), spec.largest_radius * rng.uniform(0.5, 1.0))
        offset = rng.standard_normal(3)
        offset /= np.linalg.norm(offset)
        nodes[:, :3] += offset * max(0.0, narrow - radius - 30.0) * rng.random()
        nodes[:, 3] = radius * rng.uniform(0.85, 1.1, len(nodes))
        seen = np.floor(nodes[:, :3] / voxel).astype(int)
        seen = seen[np.all((seen >= 0) & (seen < ids.shape), axis=1)]
        if mask[tuple(seen.T)].any():
            continue
        chain = np.ascontiguousarray(np.concatenate([nodes[:-1], nodes[1:]], axis=1))
        lo = np.floor((nodes[:, :3].min(0) - radius * 1.1 - reach) / voxel).astype(np.int64)
        hi = np.ceil((nodes[:, :3].max(0) + radius * 1.1 + reach) / voxel).astype(np.int64)
        lo, hi = np.maximum(lo, 0), np.minimum(hi, ids.shape)
        axis = nodes[-1, :3] - nodes[0, :3] + 80.0 * rng.standard_normal(3)
        # Cristae that lie flat in a thick section would blur into nothing.
        axis[0] *= min(1.0, 15.0 / spec.thickness)
        wave = np.append(axis / np.linalg.norm(axis) * 2 * np.pi / spec.crista_period, rng.random() * 6.28)
        look = np.array([*spec.mitochondrion, spec.cell_grey[0]])
        look[0] += spec.mitochondria_spread * rng.standard_normal()
        filled += kernels.stamp_capsule(
            chain, cell + 1, lo, hi, warp, _GRID_NM, shifts, voxel, wave, look, ids, depth, image, mask
        )


def _synapses(
    rng: np.random.Generator,
    ids: np.ndarray,
    depth: np.ndarray,
    dark: np.ndarray,
    image: np.ndarray,
    mask: np.ndarray,
    spec: TissueSpec,
) -> None:
    """Dark patches on some interfaces, each with a cluster of vesicles; single vesicles everywhere."""
    voxel = np.array(spec.voxel_size)
    volume = ids.size * float(np.prod(voxel)) * 1e-9
    radius, wall, grey, lumen = spec.vesicle

    def vesicle(at: np.ndarray, cell: int, scale: float, strength: float, bright: float) -> None:
        kernels.stamp_ring(
            at,
            radius * scale,
            cell,
            voxel,
            min(spec.thickness, 2 * radius),
            wall,
            grey,
            bright,
            strength,
            min(radius * scale * 0.7, 0.8 * _REACH_NM),
            ids,
            depth,
            mask,
            image,
        )

    def cell_at(at: np.ndarray) -> int:
        index = tuple((at / voxel).astype(int))
        if any(i < 0 or i >= s for i, s in zip(index, ids.shape, strict=True)):
            return 0
        return int(ids[index])

    on_face = np.flatnonzero(depth.ravel()[::97] < 4.0) * 97
    for _ in range(round(5.0 * volume)):
        if not len(on_face):
            break
        index = np.array(np.unravel_index(int(rng.choice(on_face)), ids.shape))
        centre = (index + 0.5) * voxel
        cell = cell_at(centre)
        kernels.stamp_synapse(centre, float(rng.uniform(55, 110)), cell, voxel, 14.0, ids, depth, dark)
        for _ in range(int(rng.integers(15, 45))):
            at = centre + rng.standard_normal(3) * 110.0
            if cell_at(at) == cell:
                vesicle(at, cell, float(rng.uniform(0.85, 1.2)), 0.75, lumen)
    for _ in range(round(spec.vesicles * volume)):
        at = rng.random(3) * np.array(ids.shape) * voxel
        large = rng.random() < 0.3
        vesicle(
            at, cell_at(at), float(rng.uniform(1.6, 3.8) if large else rng.uniform(0.8, 1.3)), 0.85, lumen + 20 * large
        )


def _photograph(rng: np.random.Generator, image: np.ndarray, spec: TissueSpec) -> np.ndarray:
    """Blur, contrast, drift, noise, bad slices."""
    image = ndimage.gaussian_filter(image, spec.blur, mode="nearest", truncate=3.0)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    soft = ndimage.gaussian_filter(noise, (0.0, 1.1, 1.1), mode="nearest", truncate=2.5)
    image += soft * np.float32(spec.correlated / max(float(soft.std()), 1e-6))
    depth = len(image)
    levels = spec.drift * smooth_noise(rng, (depth + 40,), 6.0)[20 : 20 + depth]
    levels = levels + spec.jitter * rng.standard_normal(depth)
    wanted = float(np.hypot(spec.drift, spec.jitter))
    levels = (levels - levels.mean()) * (wanted / max(float(levels.std()), 1e-6)) if depth > 1 else levels * 0
    rest = np.sqrt(max(spec.sd**2 - spec.white**2 - float(levels.std()) ** 2, 1.0))
    means = image.mean(axis=(1, 2), dtype=np.float64)
    image -= means[:, None, None].astype(np.float32)
    image *= np.float32(rest / max(float(image.std()), 1e-6))
    image += (spec.mean + levels)[:, None, None].astype(np.float32)
    for k in np.flatnonzero(rng.random(depth) < spec.bad_slices):
        image[k] = ndimage.gaussian_filter(image[k], 1.3) * 0.85 + 0.15 * spec.mean
    image += np.float32(spec.white) * rng.standard_normal(image.shape, dtype=np.float32)
    np.rint(image, out=image)
    return np.clip(image, 0, 255).astype(np.uint8)

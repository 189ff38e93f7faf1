"""From cells to a micrograph: organelles, membranes, blur, noise and the faults of the microscope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtri
from skimage.measure import label

from . import _demo_kernels as kernels
from ._demo_layout import Layout, LayoutSpec, lay_out, smooth_noise

__all__ = ["FIB_SEM", "SSTEM", "TissueSpec", "make_tissue"]

_GRID_NM = 50.0


@dataclass(frozen=True)
class TissueSpec:
    """How a tissue looks under one kind of microscope. Lengths in nm, grey levels 0 to 255."""

    voxel_size: tuple[float, float, float]
    layout: LayoutSpec
    segments: float
    """Ids per µm³, fragments among them."""
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
    membrane: float
    synapse: float
    mitochondrion: tuple[float, float, float, float]
    """Grey, amplitude of the cristae, grey of the rim, clearance from the membrane."""
    crista_period: float
    mitochondria: float
    """Mitochondria per µm of trunk that is wide enough."""
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
        density=15.0,
        median_area=2.2e4,
        area_sigma=1.8,
        largest_area=1.1e6,
        node_spacing=170.0,
        wander=0.3,
        scatter=0.5,
        coarse=(40.0, 40.0, 40.0),
    ),
    segments=37.0,
    warps=((55.0, 180.0), (14.0, 60.0)),
    shift=2.0,
    block=(4, 4, 4),
    membrane_sigma=9.0,
    thickness=10.0,
    mean=131.0,
    sd=33.0,
    cell_grey=(145.0, 20.0),
    texture=(7.0, 19.0),
    texture_sigma=(1.1, 1.1, 1.1),
    membrane=88.0,
    synapse=62.0,
    mitochondrion=(80.0, 6.0, 72.0, 26.0),
    crista_period=48.0,
    mitochondria=0.7,
    vesicle=(22.0, 9.0, 95.0, 150.0),
    vesicles=60.0,
    blur=(0.75, 0.75, 0.75),
    correlated=3.0,
    white=3.3,
    drift=4.3,
    jitter=1.6,
    bad_slices=0.008,
)

SSTEM = TissueSpec(
    voxel_size=(50.0, 4.0, 4.0),
    layout=LayoutSpec(
        density=24.0,
        median_area=1.6e4,
        area_sigma=1.3,
        largest_area=2.5e5,
        node_spacing=150.0,
        wander=0.3,
        scatter=0.6,
        coarse=(50.0, 20.0, 20.0),
    ),
    segments=27.0,
    warps=((45.0, 160.0), (8.0, 50.0)),
    shift=10.0,
    block=(1, 8, 8),
    membrane_sigma=7.0,
    thickness=45.0,
    mean=126.0,
    sd=44.0,
    cell_grey=(150.0, 10.0),
    texture=(26.0, 40.0),
    texture_sigma=(0.0, 2.0, 2.0),
    membrane=58.0,
    synapse=35.0,
    mitochondrion=(92.0, 26.0, 55.0, 24.0),
    crista_period=34.0,
    mitochondria=0.8,
    vesicle=(19.0, 7.0, 75.0, 165.0),
    vesicles=60.0,
    blur=(0.0, 0.7, 0.7),
    correlated=6.0,
    white=6.0,
    drift=3.0,
    jitter=9.3,
    bad_slices=0.02,
)


def make_tissue(shape: tuple[int, int, int], seed: int, spec: TissueSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make raw (uint8), ids (uint32) and mitochondria (uint8) of `shape` (z, y, x)."""
    rng = np.random.default_rng([seed, *shape, int(spec.voxel_size[0])])
    voxel = np.array(spec.voxel_size)
    extent = np.array(shape) * voxel
    warp = _warp(rng, extent, spec)
    shifts = np.zeros((shape[0], 2))
    if spec.shift:
        shifts = rng.standard_normal((shape[0], 2)) * spec.shift
    layout = lay_out(rng, extent, spec.layout, warp, _GRID_NM)

    ids = np.zeros(shape, np.uint32)
    depth = np.zeros(shape, np.float32)
    dark = np.zeros(shape, np.float32)
    kernels.cell_field(
        layout.segments,
        layout.owners,
        warp,
        _GRID_NM,
        shifts,
        voxel,
        np.array(spec.block),
        70.0,
        spec.membrane_sigma,
        spec.thickness,
        ids,
        depth,
        dark,
    )
    n = len(layout.trunks)
    image = _cytoplasm(rng, ids, n, spec)
    mask = np.zeros(shape, np.uint8)
    _mitochondria(rng, layout, warp, shifts, ids, depth, image, mask, spec)
    _synapses(rng, ids, depth, dark, image, mask, spec)
    over = np.maximum(dark - 1.0, 0.0)
    image += np.minimum(dark, 1.0) * (spec.membrane - image)
    image += np.minimum(over * 2.5, 1.0) * (spec.synapse - image)
    raw = _photograph(rng, image, spec)
    pieces = label(ids, connectivity=1, background=0).astype(np.uint32)
    return raw, pieces, mask


def _warp(rng: np.random.Generator, extent: np.ndarray, spec: TissueSpec) -> np.ndarray:
    grid = tuple(int(np.ceil(e / _GRID_NM)) + 2 for e in extent)
    warp = np.zeros((3, *grid), np.float32)
    for amplitude, sigma in spec.warps:
        for axis in range(3):
            warp[axis] += amplitude * smooth_noise(rng, grid, sigma / _GRID_NM)
    return warp


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
    image = noise
    image *= rough[ids]
    image += grey[ids]
    return image


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
    voxel = np.array(spec.voxel_size)
    extent = np.array(ids.shape) * voxel
    reach = 3.0 * sum(a for a, _ in spec.warps)
    for cell, trunk in enumerate(layout.trunks):
        wide = np.flatnonzero(trunk[:-1, 3] > 75.0)
        wide = wide[np.all((trunk[wide, :3] > -100) & (trunk[wide, :3] < extent + 100), axis=1)]
        if not len(wide):
            continue
        step = float(np.linalg.norm(trunk[1, :3] - trunk[0, :3])) * 1e-3
        for _ in range(rng.poisson(spec.mitochondria * len(wide) * step)):
            first = int(rng.choice(wide))
            last = min(first + int(rng.integers(1, 4)), len(trunk) - 1)
            nodes = trunk[first : last + 1].copy()
            radius = min(float(nodes[:, 3].min()), 330.0) * rng.uniform(0.45, 0.75)
            radius = min(radius, 200.0)
            offset = rng.standard_normal(3)
            offset /= np.linalg.norm(offset)
            nodes[:, :3] += offset * max(0.0, float(nodes[:, 3].min()) - radius - 30.0) * rng.random()
            nodes[:, 3] = radius * rng.uniform(0.85, 1.1, len(nodes))
            chain = np.ascontiguousarray(np.concatenate([nodes[:-1], nodes[1:]], axis=1))
            lo = np.floor((nodes[:, :3].min(0) - radius * 1.1 - reach) / voxel).astype(np.int64)
            hi = np.ceil((nodes[:, :3].max(0) + radius * 1.1 + reach) / voxel).astype(np.int64)
            lo, hi = np.maximum(lo, 0), np.minimum(hi, ids.shape)
            axis = nodes[-1, :3] - nodes[0, :3] + 80.0 * rng.standard_normal(3)
            wave = np.append(axis / np.linalg.norm(axis) * 2 * np.pi / spec.crista_period, rng.random() * 6.28)
            look = np.array(spec.mitochondrion)
            look[0] += 5.0 * rng.standard_normal()
            kernels.stamp_capsule(
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
            (radius * scale * 0.7),
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
            at, cell_at(at), float(rng.uniform(1.6, 3.2) if large else rng.uniform(0.8, 1.3)), 0.85, lumen + 20 * large
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

"""The fixed set of examples that a network is validated on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elektronn_tui.errors import DataError

from .content import counted_share
from .geometry import Geometry
from .pairs import Pair
from .patches import Example
from .reading import Reader
from .scaling import Scaling
from .sources import Vec3

__all__ = ["validation_examples"]


def validation_examples(
    pairs: Sequence[Pair],
    geometry: Geometry,
    scaling: Scaling | None = None,
    n: int | None = None,
    *,
    classes: int | None = None,
    ignore: Sequence[int] = (),
) -> list[Example]:
    """Return un-augmented examples on a grid over the regions of the pairs: the same ones in every run.

    Parameters
    ----------
    pairs
        What was held out.
    geometry, scaling, classes, ignore
        As for `Patches`.
    n
        How many, spread evenly over all of the grid. None, or more than the grid has: all of the grid, whose
        target patches cover the regions (those of neighbours overlap where a region is no multiple of them); if a
        target is one voxel, whose patches do. Examples in which nothing counts are left out.

    Raises
    ------
    DataError
        What `Patches` raises for such pairs, `n` is no positive number, or nothing counts in any of the examples.
    """
    if n is not None and n < 1:
        raise DataError(f"validation_examples: n={n}; a number ≥ 1 is needed.")
    reader = Reader(pairs, geometry, scaling=scaling, classes=classes, ignore=ignore)
    places = [(k, position) for k, pair in enumerate(reader.pairs) for position in _grid(pair, geometry)]
    if n is not None and n < len(places):
        # The middles of n equal parts of the list: z changes slowest there, so that all depths have their share.
        places = [places[(2 * k + 1) * len(places) // (2 * n)] for k in range(n)]
    examples = [_example(reader, k, position) for k, position in places]
    # Where nothing counts there is nothing to validate; classes known to be absent count everywhere.
    useful = [e for e in examples if e.target is None or reader.pairs[e.pair].absent or counted_share(e.target, e.mask)]
    if not useful:
        raise DataError(
            f"validation: nothing counts in any of {len(examples)} patches of "
            f"{', '.join(pair.name for pair in reader.pairs)}: all is ignored or masked. Hold out another part, or "
            "take more patches."
        )
    return useful


def _grid(pair: Pair, geometry: Geometry) -> list[Vec3]:
    first, last = pair.placements(geometry)
    axes = []
    # What is said of a whole patch is said once of each voxel.
    extent = geometry.patch_shape if geometry.at_centre else geometry.span
    for lo, hi, span in zip(first, last, extent, strict=True):
        steps = -(-(hi - lo) // span)
        axes.append(np.rint(np.linspace(lo, hi, steps + 1)).astype(int).tolist() if steps else [(lo + hi) // 2])
    return [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]


def _example(reader: Reader, k: int, position: Vec3) -> Example:
    raw, target, mask = reader.empty(1)
    matrix = np.eye(4)
    matrix[:3, 3] = position
    reader.read(
        reader.pairs[k], matrix, raw[0], None if target is None else target[0], None if mask is None else mask[0]
    )
    return Example(
        raw[0],
        None if target is None else target[0],
        None if mask is None else mask[0],
        k,
        position,
        matrix,
        **{name: of_pairs[k] for name, of_pairs in reader.class_masks.items()},
    )

"""What is learnt of labels or segment ids, as the settings of data say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import ExperimentError

if TYPE_CHECKING:
    from elektronn_tui.data import Source

    from .datasets import DemoData, VolumeData

__all__ = [
    "DEMO_TARGETS",
    "DISTANCES",
    "NEAREST",
    "SHARED",
    "TARGETS",
    "check_target",
    "make_target",
]

DEMO_TARGETS = ("boundaries", "soft_boundaries", "affinities", "distances", "shapes", "labels")
TARGETS = (*DEMO_TARGETS, "neighbours")
NEAREST = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
DISTANCES = ("signed", "unsigned", "vector")
_OF_TARGETS = {
    "offsets": ("affinities", "neighbours"),
    "with_ids": ("affinities",),
    "distance": ("distances",),
    "distance_scale": ("distances",),
    "shape_sigma": ("shapes",),
    "ignore": ("labels", "neighbours"),
    "vectors": ("labels",),
}
"""Settings that mean something for some targets alone."""
SHARED = ("target", "thickness", "offsets", "with_ids", "distance", "distance_scale", "shape_sigma")
"""Settings that mean the same for the synthetic volume and for files."""


def check_target(data: DemoData | VolumeData) -> None:
    """Refuse settings of another target: they would be ignored."""
    for field in fields(data):
        targets = _OF_TARGETS.get(field.name, (data.target,))
        value = getattr(data, field.name)
        given = tuple(map(tuple, value)) if field.name == "offsets" else value
        if data.target not in targets and given != field.default:
            good = " or ".join(f"target={target!r}" for target in targets)
            hint = "; of ids use background='ignore'" if field.name == "ignore" else ""
            raise ExperimentError(f"data.{field.name}: it is for {good}, not for {data.target!r}{hint}")


def make_target(
    labels: Source,
    data: DemoData | VolumeData,
    thickness: Sequence[int],
    background: Any = "object",
    in_memory: Any = "auto",
) -> Source:
    """Return what is learnt of labels or ids."""
    from elektronn_tui.data import (
        AffinitySource,
        BoundarySource,
        DistanceSource,
        NeighbourSource,
        ShapeDescriptorSource,
        SoftBoundarySource,
    )

    thick = thickness[0] if len(thickness) == 1 else tuple(thickness)
    what: dict[str, Any] = {"background": background}
    match data.target:
        case "boundaries":
            return BoundarySource(labels, thick, **what)
        case "soft_boundaries":
            return SoftBoundarySource(labels, thick, **what)
        case "labels":
            return labels
        case "neighbours":
            offsets = [(0, 0, 0), *data.offsets]
            return NeighbourSource(labels, offsets, ignore=getattr(data, "ignore", ()), in_memory=in_memory)
    what["in_memory"] = in_memory
    if data.target == "affinities":
        return AffinitySource(labels, data.offsets, with_ids=data.with_ids, **what)
    if data.target == "shapes":
        return ShapeDescriptorSource(labels, data.shape_sigma, **what)
    kind: Any = data.distance
    return DistanceSource(labels, data.distance_scale, kind=kind, thickness=thick, **what)

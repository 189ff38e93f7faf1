"""Volumes, images and what training makes of them: sources, pairs, geometry, patches, warp, grey values, labels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .affinity import NEAREST, AffinitySource, affinities
    from .arrays import ArrayExamples, ImageSettings
    from .augment import Grey
    from .augmentation import AugmentSettings
    from .channels import ConcatChannels
    from .content import ContentMap, Selection
    from .counters import DataStats, SourceStats
    from .deformation import Deformation, Elastic, Misalignment, Slip
    from .demo import demo_volume
    from .demo_classes import TISSUE_CLASSES, tissue_classes
    from .digits import draw_digits
    from .distance import DistanceSource, distances
    from .disturbances import Blobs, Blur, Noise
    from .geometry import Geometry
    from .hdf5 import HDF5Source
    from .knossos import KnossosSource
    from .knossos_annotation import KnossosAnnotation
    from .knossos_write import write_knossos
    from .labels import (
        BoundarySource,
        SoftBoundarySource,
        boundaries,
        grow_segments,
        one_hot,
        smear_boundaries,
    )
    from .lazy import lazy_labels
    from .malis import (
        affgraph_to_seg,
        bmap_to_affgraph,
        malis_weights,
        mknhood2d,
        mknhood3d,
        mknhood3d_aniso,
        seg_to_affgraph,
    )
    from .memory import MemorySource, remember
    from .neighbours import NEIGHBOURS, NeighbourSource
    from .npz import NpzSource
    from .pairs import Pair
    from .patches import Example, Patches
    from .points import GrowingPoints
    from .prediction_reading import PredictionChannels, prediction_channels
    from .prefetch import Batch, Prefetcher, PrefetchStats
    from .scaling import Scaling
    from .sections import Defocus, Faint, Flicker, Missing
    from .segmentation import (
        affinity_watershed,
        boundary_watershed,
        mutex_watershed,
        relabel,
        remove_small_segments,
        threshold_segments,
    )
    from .segmentation_comparison import Comparison, ObjectScore, compare_segmentations
    from .segmentation_scores import SegmentationScores, contingency, score_segmentation
    from .segmentation_search import SegmentationSearch, search_segmentation
    from .sequences import PIANO_NOTES, piano_rolls
    from .shape_descriptors import ShapeDescriptorSource, local_shape_descriptors
    from .slices import SlicesSource
    from .sources import ArraySource, CroppedSource, Source, as_source, open_source
    from .splits import split_box, split_region
    from .spool import BlockProgress
    from .stores import StoreSource
    from .summaries import LabelSummary, ValueSummary, summarise_labels, summarise_values
    from .tiff import TiffSource
    from .uniform import uniform_source
    from .validation import validation_examples
    from .volume_segmentation import segment_volume
    from .warp import Warp

__all__ = [
    "NEAREST",
    "NEIGHBOURS",
    "PIANO_NOTES",
    "TISSUE_CLASSES",
    "AffinitySource",
    "ArrayExamples",
    "ArraySource",
    "AugmentSettings",
    "Batch",
    "Blobs",
    "BlockProgress",
    "Blur",
    "BoundarySource",
    "Comparison",
    "ConcatChannels",
    "ContentMap",
    "CroppedSource",
    "DataStats",
    "Defocus",
    "Deformation",
    "DistanceSource",
    "Elastic",
    "Example",
    "Faint",
    "Flicker",
    "Geometry",
    "Grey",
    "GrowingPoints",
    "HDF5Source",
    "ImageSettings",
    "KnossosAnnotation",
    "KnossosSource",
    "LabelSummary",
    "MemorySource",
    "Misalignment",
    "Missing",
    "NeighbourSource",
    "Noise",
    "NpzSource",
    "ObjectScore",
    "Pair",
    "Patches",
    "PredictionChannels",
    "PrefetchStats",
    "Prefetcher",
    "Scaling",
    "SegmentationScores",
    "SegmentationSearch",
    "Selection",
    "ShapeDescriptorSource",
    "SlicesSource",
    "Slip",
    "SoftBoundarySource",
    "Source",
    "SourceStats",
    "StoreSource",
    "TiffSource",
    "ValueSummary",
    "Warp",
    "affgraph_to_seg",
    "affinities",
    "affinity_watershed",
    "as_source",
    "bmap_to_affgraph",
    "boundaries",
    "boundary_watershed",
    "compare_segmentations",
    "contingency",
    "demo_volume",
    "distances",
    "draw_digits",
    "grow_segments",
    "lazy_labels",
    "local_shape_descriptors",
    "malis_weights",
    "mknhood2d",
    "mknhood3d",
    "mknhood3d_aniso",
    "mutex_watershed",
    "one_hot",
    "open_source",
    "piano_rolls",
    "prediction_channels",
    "relabel",
    "remember",
    "remove_small_segments",
    "score_segmentation",
    "search_segmentation",
    "seg_to_affgraph",
    "segment_volume",
    "smear_boundaries",
    "split_box",
    "split_region",
    "summarise_labels",
    "summarise_values",
    "threshold_segments",
    "tissue_classes",
    "uniform_source",
    "validation_examples",
    "write_knossos",
]

# Where each name lives: `from elektronn_tui.data import Pair` must not cost the import of numba and h5py.
_MODULES = {
    "affinity": ("NEAREST", "AffinitySource", "affinities"),
    "arrays": ("ArrayExamples", "ImageSettings"),
    "augment": ("Grey",),
    "content": ("ContentMap", "Selection"),
    "channels": ("ConcatChannels",),
    "counters": ("DataStats", "SourceStats"),
    "augmentation": ("AugmentSettings",),
    "deformation": ("Deformation", "Elastic", "Misalignment", "Slip"),
    "demo": ("demo_volume",),
    "demo_classes": ("TISSUE_CLASSES", "tissue_classes"),
    "digits": ("draw_digits",),
    "distance": ("DistanceSource", "distances"),
    "disturbances": ("Blobs", "Blur", "Noise"),
    "sections": ("Defocus", "Faint", "Flicker", "Missing"),
    "geometry": ("Geometry",),
    "hdf5": ("HDF5Source",),
    "knossos": ("KnossosSource",),
    "knossos_annotation": ("KnossosAnnotation",),
    "knossos_write": ("write_knossos",),
    "labels": (
        "BoundarySource",
        "SoftBoundarySource",
        "boundaries",
        "grow_segments",
        "one_hot",
        "smear_boundaries",
    ),
    "lazy": ("lazy_labels",),
    "malis": (
        "affgraph_to_seg",
        "bmap_to_affgraph",
        "malis_weights",
        "mknhood2d",
        "mknhood3d",
        "mknhood3d_aniso",
        "seg_to_affgraph",
    ),
    "memory": ("MemorySource", "remember"),
    "neighbours": ("NEIGHBOURS", "NeighbourSource"),
    "npz": ("NpzSource",),
    "pairs": ("Pair",),
    "patches": ("Example", "Patches"),
    "points": ("GrowingPoints",),
    "scaling": ("Scaling",),
    "prefetch": ("Batch", "PrefetchStats", "Prefetcher"),
    "sequences": ("PIANO_NOTES", "piano_rolls"),
    "segmentation": (
        "affinity_watershed",
        "boundary_watershed",
        "mutex_watershed",
        "relabel",
        "remove_small_segments",
        "threshold_segments",
    ),
    "prediction_reading": ("PredictionChannels", "prediction_channels"),
    "spool": ("BlockProgress",),
    "volume_segmentation": ("segment_volume",),
    "segmentation_comparison": ("Comparison", "ObjectScore", "compare_segmentations"),
    "segmentation_search": ("SegmentationSearch", "search_segmentation"),
    "segmentation_scores": ("SegmentationScores", "contingency", "score_segmentation"),
    "shape_descriptors": ("ShapeDescriptorSource", "local_shape_descriptors"),
    "slices": ("SlicesSource",),
    "tiff": ("TiffSource",),
    "sources": ("ArraySource", "CroppedSource", "Source", "as_source", "open_source"),
    "summaries": ("LabelSummary", "ValueSummary", "summarise_labels", "summarise_values"),
    "splits": ("split_box", "split_region"),
    "stores": ("StoreSource",),
    "uniform": ("uniform_source",),
    "validation": ("validation_examples",),
    "warp": ("Warp",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

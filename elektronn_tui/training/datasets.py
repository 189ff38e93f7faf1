"""What an experiment trains on, as settings, and how it becomes pairs of raw and target volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import DataError, ExperimentError

from .arrays import check_file
from .settings import setting, settings

if TYPE_CHECKING:
    from elektronn_tui.data import Pair, Source

__all__ = ["DemoData", "VolumeData", "Volumes"]

AXES = ("z", "y", "x")
TARGETS = ("boundaries", "soft_boundaries", "affinities", "distances", "shapes", "labels")
NEAREST = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
DISTANCES = ("signed", "unsigned", "vector")
_OF_TARGETS = {
    "offsets": "affinities",
    "with_ids": "affinities",
    "distance": "distances",
    "distance_scale": "distances",
    "shape_sigma": "shapes",
}
"""Settings that mean something for one target alone."""
_SHARED = ("target", "thickness", *_OF_TARGETS, "valid_slices", "valid_axis")
"""Settings that mean the same for the synthetic volume and for files."""


@dataclass(frozen=True)
class Volumes:
    """Opened volumes. A class of one's own may stand for `DemoData` or `VolumeData` if its ``open()`` returns this.

    Attributes
    ----------
    train, valid : sequence of Pair
        `valid` may be empty: then nothing is validated.
    preview : Pair or None
        What previews are made of; the first of `valid`, else of `train`, where it is None.
    ignore : sequence of int
        Target values that do not count, beside negative ones.
    """

    train: Sequence[Pair]
    valid: Sequence[Pair] = ()
    preview: Pair | None = None
    ignore: Sequence[int] = ()


def _volume_pairs(value: Any) -> str | None:
    good = isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, (str, Path)) for part in pair)
        for pair in value
    )
    return None if good else "a list of pairs such as [('raw.h5:raw', 'labels.h5:labels')]"


def _offsets(value: Any) -> str | None:
    good = isinstance(value, (list, tuple)) and all(
        isinstance(offset, (list, tuple))
        and len(offset) == 3
        and any(offset)
        and all(isinstance(n, int) for n in offset)
        for offset in value
    )
    return None if good and value else "a list of (z, y, x) in whole voxels, not all 0, such as [(-1, 0, 0)]"


@settings("data.")
class DemoData:
    """The synthetic volume, made on the spot: needs no file."""

    shape: tuple[int, ...] = setting(
        default=(96, 256, 256), type="ints", length=3, minimum=16, help="size (z, y, x) in voxels"
    )
    seed: int = setting(default=1, type="int", minimum=0, help="another seed gives another volume")
    anisotropic: bool = setting(
        default=False, type="bool", help="ssTEM at 50×4×4 nm instead of FIB-SEM at 10 nm isotropic"
    )
    target: str = setting(
        default="boundaries",
        type="choice",
        choices=TARGETS,
        help="what is learnt: boundaries between cells, hard or soft, affinities, distances to the boundary, local "
        "shape descriptors, or three volumes of classes (`tissue_classes`)",
    )
    thickness: int = setting(default=2, type="int", minimum=1, help="of the membranes to be found, in voxels")
    offsets: Sequence[tuple[int, int, int]] = setting(
        default=NEAREST, type="object", check=_offsets, help="of affinities, (z, y, x) in voxels, near or far"
    )
    with_ids: bool = setting(default=False, type="bool", help="cell ids as one more channel behind affinities")
    distance: str = setting(
        default="signed", type="choice", choices=DISTANCES, help="which distances to the boundary, see `distances`"
    )
    distance_scale: float = setting(
        default=50.0,
        type="float",
        minimum=0,
        exclusive_minimum=True,
        unit="nm",
        help="of distances: what they are divided by before tanh; in voxels where the size of voxels isn't known",
    )
    shape_sigma: float = setting(
        default=80.0,
        type="float",
        minimum=0,
        exclusive_minimum=True,
        unit="nm",
        help="of shape descriptors: how far they look; in voxels where the size of voxels isn't known",
    )
    valid_slices: int = setting(
        default=24, type="int", minimum=0, help="last sections, held out for validation; 0 for none"
    )
    valid_axis: str = setting(default="z", type="choice", choices=AXES, help="axis along which they are counted")

    def check_together(self) -> None:
        """Refuse what contradicts itself."""
        _check_target(self)

    def open(self) -> Volumes:
        """Make the volume, or take it from the cache.

        Raises
        ------
        DataError
            More is held out than there is.
        """
        from elektronn_tui.data import ArraySource, Pair, demo_volume, tissue_classes

        volume = demo_volume(self.shape, seed=self.seed, anisotropic=self.anisotropic)
        raw = ArraySource(volume.raw, voxel_size=volume.voxel_size, name="demo:raw")
        labels = tissue_classes(volume) if self.target == "labels" else volume.ids
        name = "demo:classes" if self.target == "labels" else "demo:ids"
        thickness = (0, self.thickness, self.thickness) if self.anisotropic else self.thickness
        target = _target(ArraySource(labels, voxel_size=volume.voxel_size, name=name), self, thickness)
        return _split([Pair(raw, target, name="demo")], [], self.valid_slices, self.valid_axis)

    def check_files(self) -> None:
        """There are none."""


@settings("data.")
class VolumeData:
    """Volumes of your own, with labels or segment ids.

    Either one file with two datasets (`path`, `raw_key`, `label_key`), or several `volumes`. With a `demo_shape` the
    synthetic volume takes their place as long as none of them is given.
    """

    path: str | None = setting(
        default=None, type="path", optional=True, help="HDF5, Zarr or N5 file with raw and labels"
    )
    raw_key: str = setting(default="raw", type="text", help="dataset of the raw image in `path`")
    label_key: str = setting(default="labels", type="text", help="dataset of the labels or segment ids in `path`")
    volumes: Sequence[tuple[str, str]] = setting(
        default=(), type="object", check=_volume_pairs, help="pairs of addresses (raw, labels), FILE:KEY each"
    )
    valid_volumes: Sequence[tuple[str, str]] = setting(
        default=(),
        type="object",
        check=_volume_pairs,
        help="the same for validation; sections are held out where it is empty",
    )
    target: str = setting(
        default="boundaries",
        type="choice",
        choices=TARGETS,
        help="what is learnt: boundaries between segment ids, hard or soft, affinities, distances to the boundary, "
        "local shape descriptors, or the labels as they are (classes from 0)",
    )
    offsets: Sequence[tuple[int, int, int]] = setting(
        default=NEAREST, type="object", check=_offsets, help="of affinities, (z, y, x) in voxels, near or far"
    )
    with_ids: bool = setting(default=False, type="bool", help="segment ids as one more channel behind affinities")
    distance: str = setting(
        default="signed", type="choice", choices=DISTANCES, help="which distances to the boundary, see `distances`"
    )
    distance_scale: float = setting(
        default=50.0,
        type="float",
        minimum=0,
        exclusive_minimum=True,
        unit="nm",
        help="of distances: what they are divided by before tanh; in voxels where the size of voxels isn't known",
    )
    shape_sigma: float = setting(
        default=80.0,
        type="float",
        minimum=0,
        exclusive_minimum=True,
        unit="nm",
        help="of shape descriptors: how far they look; in voxels where the size of voxels isn't known",
    )
    thickness: int = setting(default=2, type="int", minimum=1, help="of the boundaries in voxels")
    background: str = setting(
        default="object",
        type="choice",
        choices=("object", "ignore", "boundary"),
        help="what id 0 is, of segment ids: a segment, unknown, or between segments",
    )
    ignore: tuple[int, ...] = setting(default=(), type="ints", minimum=-(2**62), help="label values that do not count")
    valid_slices: int = setting(
        default=30, type="int", minimum=0, help="last sections of each volume, held out; 0 for none"
    )
    valid_axis: str = setting(default="z", type="choice", choices=AXES, help="axis along which they are counted")
    voxel_size: tuple[float, ...] | None = setting(
        default=None,
        type="floats",
        length=3,
        minimum=0,
        exclusive_minimum=True,
        optional=True,
        unit="nm",
        help="(z, y, x) in nm, where the files don't say",
    )
    axes: str | None = setting(
        default=None,
        type="text",
        optional=True,
        help="order of the axes in the files, such as zyx, xyz or zyxc; none: (c)zyx",
    )
    in_memory: bool = setting(default=True, type="bool", help="keep volumes in memory as far as there is room")
    demo_shape: tuple[int, ...] | None = setting(
        default=None,
        type="ints",
        length=3,
        minimum=16,
        optional=True,
        help="size (z, y, x) of the synthetic volume that stands in for files; none: a file has to be given",
    )
    demo_seed: int = setting(default=1, type="int", minimum=0, help="of the synthetic volume")
    demo_anisotropic: bool = setting(
        default=False, type="bool", help="the synthetic volume as ssTEM at 50×4×4 nm instead of FIB-SEM at 10 nm"
    )

    def check_together(self) -> None:
        """Refuse what contradicts itself."""
        if self.path is not None and self.volumes:
            raise ExperimentError("data: path and volumes are both given; use one of them")
        if self.ignore and self.target != "labels":
            raise ExperimentError(f"data.ignore: {self.target} have no label values to ignore; use background='ignore'")
        if self.valid_volumes and self._is_demo:
            raise ExperimentError("data: valid_volumes are given, but no path or volumes to train on")
        _check_target(self)

    def addresses(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return the addresses (raw, labels) for training and for validation."""
        train = [(str(raw), str(labels)) for raw, labels in self.volumes]
        if self.path is not None:
            train = [(f"{self.path}:{self.raw_key}", f"{self.path}:{self.label_key}")]
        return train, [(str(raw), str(labels)) for raw, labels in self.valid_volumes]

    def check_files(self) -> None:
        """Refuse what can be seen to fail without opening a file.

        Raises
        ------
        ExperimentError
            No volume is given, or a file is missing.
        """
        from elektronn_tui.data.knossos import is_knossos, knossos_path
        from elektronn_tui.data.stores import is_store

        if self._is_demo:
            return
        train, valid = self.addresses()
        if not train:
            raise ExperimentError("data.path: no volume is given; use --set data.path=FILE or volumes=[...]")
        for address in (part for pair in train + valid for part in pair):
            if is_store(address):
                _check_store(address)
            elif is_knossos(address):
                if not knossos_path(address).exists():
                    raise ExperimentError(
                        f"data.volumes: there is no file or folder {knossos_path(address).absolute()}"
                    )
            elif self.path is not None and address.startswith(self.path):
                check_file(self.path, "volume.h5")
            else:
                check_file(_file_of(address), "volume.h5", setting="data.volumes")

    def open(self) -> Volumes:
        """Open all volumes, or make the synthetic one.

        Raises
        ------
        DataError
            A file, dataset or shape does not fit: says which.
        """
        if self._is_demo:
            assert self.demo_shape is not None
            same = {name: getattr(self, name) for name in _SHARED}
            demo = DemoData(shape=self.demo_shape, seed=self.demo_seed, anisotropic=self.demo_anisotropic, **same)
            return replace(demo.open(), ignore=self.ignore)
        train, valid = self.addresses()
        pairs = [self._pair(raw, labels) for raw, labels in train]
        held_out = [self._pair(raw, labels) for raw, labels in valid]
        return replace(_split(pairs, held_out, self.valid_slices, self.valid_axis), ignore=self.ignore)

    @property
    def _is_demo(self) -> bool:
        return self.demo_shape is not None and self.path is None and not self.volumes

    def _pair(self, raw: str, labels: str) -> Pair:
        from elektronn_tui.data import Pair

        in_memory: Any = "auto" if self.in_memory else False
        target = _target(self._source(labels), self, self.thickness, self.background, in_memory)
        return Pair(self._source(raw), target, in_memory=in_memory)

    def _source(self, address: str) -> Source:
        from elektronn_tui.data import open_source

        return open_source(address, axes=self.axes, voxel_size=self.voxel_size)


def _check_target(data: DemoData | VolumeData) -> None:
    """Refuse settings of another target: they would be ignored."""
    for field in fields(data):
        target = _OF_TARGETS.get(field.name, data.target)
        value = getattr(data, field.name)
        given = tuple(map(tuple, value)) if field.name == "offsets" else value
        if target != data.target and given != field.default:
            raise ExperimentError(f"data.{field.name}: it is for target={target!r}, not for {data.target!r}")


def _check_store(address: str) -> None:
    """Refuse a folder of chunks that isn't there; what lies behind a URL is seen when it is opened."""
    from elektronn_tui.data.stores import local_path

    path = local_path(address)
    if path is not None and not path.is_dir():
        raise ExperimentError(f"data: there is no folder {path.absolute()}, the store of {address}")


def _file_of(address: str) -> str:
    """Return the file of ``FILE:KEY``: a colon counts only behind the file's suffix."""
    for suffix in (".h5", ".hdf5", ".hdf", ".npy", ".tif", ".tiff"):
        before, colon, _ = address.partition(suffix + ":")
        if colon:
            return before + suffix
    return address


def _target(
    labels: Source,
    data: DemoData | VolumeData,
    thickness: int | tuple[int, int, int],
    background: Any = "object",
    in_memory: Any = "auto",
) -> Source:
    """Return what is learnt of labels or ids."""
    from elektronn_tui.data import (
        AffinitySource,
        BoundarySource,
        DistanceSource,
        ShapeDescriptorSource,
        SoftBoundarySource,
    )

    what: dict[str, Any] = {"background": background}
    match data.target:
        case "boundaries":
            return BoundarySource(labels, thickness, **what)
        case "soft_boundaries":
            return SoftBoundarySource(labels, thickness, **what)
        case "labels":
            return labels
    what["in_memory"] = in_memory
    if data.target == "affinities":
        return AffinitySource(labels, data.offsets, with_ids=data.with_ids, **what)
    if data.target == "shapes":
        return ShapeDescriptorSource(labels, data.shape_sigma, **what)
    kind: Any = data.distance
    return DistanceSource(labels, data.distance_scale, kind=kind, thickness=thickness, **what)


def _split(train: Sequence[Pair], valid: Sequence[Pair], slices: int, axis: str) -> Volumes:
    from elektronn_tui.data import split_region

    if valid or not slices:
        return Volumes(tuple(train), tuple(valid))
    try:
        parts = [split_region(pair, axis, last=slices) for pair in train]
    except DataError as error:
        raise DataError(f"data.valid_slices: {error}") from error
    return Volumes(tuple(part[0] for part in parts), tuple(part[1] for part in parts))

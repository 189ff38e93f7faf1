"""What an experiment trains on, as settings, and how it becomes pairs of raw and target volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elektronn_tui.errors import DataError, ExperimentError

from .addresses import check_address, file_of, names_volume
from .checks import (
    check_addresses,
    check_box,
    check_classes,
    check_offsets,
    check_places,
    check_thickness,
    check_triples,
    check_volumes,
    is_place,
)
from .settings import setting, settings
from .targets import (
    DEMO_TARGETS,
    DISTANCES,
    NEAREST,
    SHARED,
    TARGETS,
    check_target,
    make_target,
)
from .volumes import Volumes, hold_out

if TYPE_CHECKING:
    from elektronn_tui.data import Pair, Selection, Source

__all__ = ["DemoData", "VolumeData", "Volumes"]

AXES = ("z", "y", "x")


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
        choices=DEMO_TARGETS,
        help="what is learnt: boundaries between cells, hard or soft, affinities, distances to the boundary, local "
        "shape descriptors, or three volumes of classes (`tissue_classes`)",
    )
    thickness: tuple[int, ...] = setting(
        default=(2,),
        type="ints",
        check=check_thickness,
        help="of the membranes to be found, in voxels; or three (z, y, x), 0 where faces across an axis don't count",
    )
    offsets: Sequence[tuple[int, int, int]] = setting(
        default=NEAREST, type="object", check=check_offsets, help="of affinities, (z, y, x) in voxels, near or far"
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
        check_target(self)

    def open(self) -> Volumes:
        """Make the volume, or take it from the cache.

        Raises
        ------
        DataError
            More is held out than there is.
        """
        return hold_out([self.pair()], [], slices=self.valid_slices, axis=self.valid_axis)

    def pair(self, **options: Any) -> Pair:
        """Return the volume and what is learnt of it; `options` of `elektronn_tui.data.Pair`."""
        from elektronn_tui.data import ArraySource, Pair, demo_volume, tissue_classes

        volume = demo_volume(self.shape, seed=self.seed, anisotropic=self.anisotropic)
        raw = ArraySource(volume.raw, voxel_size=volume.voxel_size, name="demo:raw")
        labels = tissue_classes(volume) if self.target == "labels" else volume.ids
        name = "demo:classes" if self.target == "labels" else "demo:ids"
        thickness = self.thickness
        if self.anisotropic and len(thickness) == 1:
            thickness = (0, *thickness * 2)
        target = make_target(ArraySource(labels, voxel_size=volume.voxel_size, name=name), self, thickness)
        return Pair(raw, target, name="demo", **options)

    def check_files(self) -> None:
        """There are none."""


@settings("data.")
class VolumeData:
    """Volumes of your own, with labels or segment ids.

    Either one `path` with raw and labels (`raw_key`, `label_key`), or several `volumes`. With a `demo_shape` the
    synthetic volume takes their place as long as none of them is given.
    """

    path: str | None = setting(
        default=None,
        type="path",
        optional=True,
        help="file with raw and labels: HDF5, npz, Zarr, N5, KNOSSOS; or, without a raw_key, the raw image",
    )
    raw_key: str | None = setting(
        default="raw",
        type="text",
        optional=True,
        help="dataset of the raw image in `path`, layer or mag of KNOSSOS; none: `path` is the raw image",
    )
    label_key: str | None = setting(
        default="labels",
        type="text",
        optional=True,
        help="dataset of the labels or segment ids in `path`, or the address of another volume, such as cells.k.zip; "
        "none: images alone, as for autoencoders",
    )
    volumes: Sequence[tuple[str, Any]] = setting(
        default=(),
        type="object",
        check=check_volumes,
        help="pairs of addresses (raw, labels), FILE:KEY each; for labels may stand one class or number of the whole "
        "volume, or None where there are none",
    )
    valid_volumes: Sequence[tuple[str, Any]] = setting(
        default=(),
        type="object",
        check=check_volumes,
        help="the same for validation; sections are held out where it is empty",
    )
    valid_indices: tuple[int, ...] = setting(
        default=(), type="ints", help="which of the volumes, counted from 0, are held out for validation instead"
    )
    valid_box: Any = setting(
        default=None,
        type="object",
        check=check_box,
        help="a box of each volume that is held out for validation instead of sections: ((z, y, x), (z, y, x)) in raw "
        "voxels, the second behind the last",
    )
    preview: str | None = setting(
        default=None, type="text", optional=True, help="address of another raw image, of which previews are made"
    )
    mask_key: str | None = setting(
        default=None, type="text", optional=True, help="the same of what is 0 where labels don't count"
    )
    masks: Sequence[str] = setting(
        default=(), type="object", check=check_addresses, help="the same for `volumes`, one address each"
    )
    valid_masks: Sequence[str] = setting(
        default=(), type="object", check=check_addresses, help="the same for `valid_volumes`, one address each"
    )
    weights: tuple[float, ...] | None = setting(
        default=None,
        type="floats",
        minimum=0,
        optional=True,
        help="how often patches are drawn from each of the volumes; none: as often as they have labelled voxels",
    )
    target_offset: Any = setting(
        default=None,
        type="object",
        check=check_places,
        help="raw voxel (z, y, x) on which the first label lies, or a list with one for each of the volumes; none: by "
        "offsets in the files, else in the middle",
    )
    balance: float = setting(
        default=0.0,
        type="float",
        minimum=0,
        maximum=1,
        help="share of examples around a voxel of a class that is drawn first, so that rare classes are seen as often",
    )
    class_shares: tuple[float, ...] | None = setting(
        default=None,
        type="floats",
        minimum=0,
        optional=True,
        help="how often each class is drawn for `balance`; none: all that occur equally often",
    )
    most_ignored: float = setting(
        default=1.0, type="float", minimum=0, maximum=1, help="share of an example's labels that may not count"
    )
    labelled: Any = setting(
        default_factory=dict,
        type="object",
        check=check_classes,
        help="classes that were labelled, by the number of the volume: others don't count there",
    )
    absent: Any = setting(
        default_factory=dict,
        type="object",
        check=check_classes,
        help="classes that are known not to occur, by the number of the volume",
    )
    lazy_labels: bool = setting(
        default=False, type="bool", help="read `labelled` and `absent` from the dataset ll_mask of each label file"
    )
    vectors: Sequence[tuple[int, int, int]] = setting(
        default=(),
        type="object",
        check=check_triples,
        help="channels of labels that are z, y, x of vectors, in triples: they turn with the patch",
    )
    target: str = setting(
        default="boundaries",
        type="choice",
        choices=TARGETS,
        help="what is learnt: boundaries between segment ids, hard or soft, affinities, distances to the boundary, "
        "local shape descriptors, or the labels as they are (classes from 0)",
    )
    offsets: Sequence[tuple[int, int, int]] = setting(
        default=NEAREST, type="object", check=check_offsets, help="of affinities, (z, y, x) in voxels, near or far"
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
    thickness: tuple[int, ...] = setting(
        default=(2,),
        type="ints",
        check=check_thickness,
        help="of the boundaries in voxels; or three (z, y, x): 0 in z for thick sections, whose faces don't count then",
    )
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
        if self.valid_volumes and self._is_demo:
            raise ExperimentError("data: valid_volumes are given, but no path or volumes to train on")
        if self.mask_key is not None and self.path is None:
            raise ExperimentError("data.mask_key: it names a dataset in path, which isn't given; use masks=[...]")
        for name in ("label_key", "mask_key"):
            key = getattr(self, name)
            if self.path is not None and self.raw_key is None and key is not None and not names_volume(key):
                raise ExperimentError(
                    f"data.{name}: without a raw_key path is the raw image itself, and {key!r} is the address of no "
                    "volume; give one such as labels.h5:ids, or none"
                )
        if self.masks and not self.volumes:
            raise ExperimentError("data.masks: they are for volumes=[...]; use mask_key for path")
        count = len(self.volumes) or 1
        several = f"{count} volume{'s' * (count > 1)}; give one"
        if self.masks and len(self.masks) != count:
            raise ExperimentError(f"data.masks: {len(self.masks)} for {several} for each")
        if self.valid_masks and len(self.valid_masks) != len(self.valid_volumes):
            held_out = f"{len(self.valid_volumes)} valid_volumes"
            raise ExperimentError(f"data.valid_masks: {len(self.valid_masks)} for {held_out}; give one for each")
        if self.weights is not None and (len(self.weights) != count or not any(self.weights)):
            raise ExperimentError(f"data.weights: {list(self.weights)} for {several} number for each, not all 0")
        offset = self.target_offset
        if offset is not None and not is_place(offset) and len(offset) != count:
            raise ExperimentError(f"data.target_offset: {len(offset)} for {several} for each, or one for all")
        for name in ("labelled", "absent"):
            if any(index >= count for index in getattr(self, name)):
                raise ExperimentError(
                    f"data.{name}: {getattr(self, name)} for {count} volume{'s' * (count > 1)}, numbered from 0"
                )
            if getattr(self, name) and self.lazy_labels:
                raise ExperimentError(f"data.{name}: lazy_labels reads it from files; use one of them")
        self._check_split(count)
        self._selection()
        check_target(self)

    def _check_split(self, count: int) -> None:
        given = [name for name in ("valid_volumes", "valid_indices", "valid_box") if getattr(self, name)]
        if len(given) > 1:
            raise ExperimentError(f"data: {' and '.join(given)} are both given; use one of them")
        bad = [index for index in self.valid_indices if index >= count]
        if bad:
            raise ExperimentError(f"data.valid_indices: there is no volume {bad[0]}; 0 to {count - 1} are given")
        if self.valid_indices and len(set(self.valid_indices)) == count:
            raise ExperimentError("data.valid_indices: all volumes are held out; leave some to train on")

    def _selection(self) -> Selection | None:
        from elektronn_tui.data import Selection

        try:
            selection = Selection(self.balance, self.class_shares, self.most_ignored)
        except DataError as error:
            raise ExperimentError(f"data: {error}") from error
        return selection if selection.balance or selection.limited else None

    def addresses(self) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
        """Return the addresses (raw, labels) for training and for validation."""
        train = [(str(raw), labels) for raw, labels in self.volumes]
        if self.path is not None:
            train = [
                (self.path if self.raw_key is None else f"{self.path}:{self.raw_key}", self._beside(self.label_key))
            ]
        return train, [(str(raw), labels) for raw, labels in self.valid_volumes]

    def mask_addresses(self) -> list[str | None]:
        """Return the address of each training volume's mask, or None."""
        if self.path is not None:
            return [self._beside(self.mask_key)]
        return [str(mask) for mask in self.masks] or [None] * (len(self.volumes) or 1)

    def _beside(self, key: str | None) -> str | None:
        """Return the address of a dataset in `path`, or of the volume that `key` names itself."""
        return key if key is None or names_volume(key) else f"{self.path}:{key}"

    def check_files(self) -> None:
        """Refuse what can be seen to fail without opening a file.

        Raises
        ------
        ExperimentError
            No volume is given, or a file is missing.
        """
        if self.preview is not None:
            check_address(self.preview, setting="data.preview")
        if self._is_demo:
            return
        train, valid = self.addresses()
        if not train:
            raise ExperimentError("data.path: no volume is given; use --set data.path=FILE or volumes=[...]")
        parts = [part for pair in train + valid for part in pair if isinstance(part, (str, Path))]
        masks = [mask for mask in self.mask_addresses() if mask is not None]
        for address in [*parts, *masks, *self.valid_masks]:
            check_address(str(address), self.path, "data.path" if address == self.path else "data.volumes")

    def open(self) -> Volumes:
        """Open all volumes, or make the synthetic one.

        Raises
        ------
        DataError
            A file, dataset or shape does not fit: says which.
        """
        if self._is_demo:
            assert self.demo_shape is not None
            same = {name: getattr(self, name) for name in SHARED}
            demo = DemoData(shape=self.demo_shape, seed=self.demo_seed, anisotropic=self.demo_anisotropic, **same)
            pairs, held_out = [demo.pair(**self._options(0))], []
        else:
            train, valid = self.addresses()
            masks = self.mask_addresses()
            pairs = [
                self._pair(raw, labels, mask, self._options(k, labels))
                for k, ((raw, labels), mask) in enumerate(zip(train, masks, strict=True))
            ]
            valid_masks: Sequence[str | None] = self.valid_masks or [None] * len(valid)
            held_out = [
                self._pair(raw, labels, mask, self._options(None, labels))
                for (raw, labels), mask in zip(valid, valid_masks, strict=True)
            ]
        preview = None
        if self.preview is not None:
            from elektronn_tui.data import Pair

            preview = Pair(self._source(self.preview), in_memory="auto" if self.in_memory else False)
        return hold_out(
            pairs,
            held_out,
            slices=self.valid_slices,
            axis=self.valid_axis,
            box=self.valid_box,
            indices=self.valid_indices,
            preview=preview,
            ignore=self.ignore,
            selection=self._selection(),
        )

    @property
    def _is_demo(self) -> bool:
        return self.demo_shape is not None and self.path is None and not self.volumes

    def _options(self, index: int | None, labels: Any = None) -> dict[str, Any]:
        """Return what is said of one volume, by its number; of those for validation what is said of all."""
        options: dict[str, Any] = {"vectors": self.vectors}
        if self.target_offset is not None and (index is not None or is_place(self.target_offset)):
            offset = self.target_offset
            options["target_offset"] = offset if is_place(offset) else offset[index]
        if index is not None:
            options["weight"] = None if self.weights is None else self.weights[index]
            options["labelled"] = self.labelled.get(index)
            options["absent"] = self.absent.get(index, ())
        if self.lazy_labels and isinstance(labels, (str, Path)):
            from elektronn_tui.data import lazy_labels

            options["labelled"], options["absent"] = lazy_labels(file_of(str(labels)))
        return options

    def _pair(self, raw: str, labels: Any, mask: str | None, options: dict[str, Any]) -> Pair:
        from elektronn_tui.data import Pair, uniform_source

        in_memory: Any = "auto" if self.in_memory else False
        image = self._source(raw)
        target: Source | None = None
        if isinstance(labels, (str, Path)):
            target = make_target(self._source(str(labels)), self, self.thickness, self.background, in_memory)
        elif labels is not None:
            target = uniform_source(labels, image)
        marks = None if mask is None else self._source(mask)
        return Pair(image, target, marks, in_memory=in_memory, **options)

    def _source(self, address: str) -> Source:
        from elektronn_tui.data import open_source

        return open_source(address, axes=self.axes, voxel_size=self.voxel_size)

"""What the metadata of Zarr, OME-Zarr, N5 and Precomputed stores say: where the array is, its axes, voxels and place.

OME-Zarr: https://ngff.openmicroscopy.org/0.5; N5: https://github.com/saalfeldlab/n5 (with attributes of Paintera
and COSEM); Precomputed: https://github.com/google/neuroglancer, ``datasource/precomputed/volume.md``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

__all__ = ["Folder", "Layout", "find_layout"]

Numbers = tuple[float, float, float]

_NM = {
    "nm": 1.0,
    "nanometer": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "m": 1e9,
    "meter": 1e9,
    "angstrom": 0.1,
}
_ENCODINGS = ("raw", "compressed_segmentation", "png", "jpeg")
_METADATA = ("zarr.json", ".zarray", ".zgroup", "attributes.json", "info")


class Folder:
    """A folder of a store, on disk or behind a URL, from which metadata are read.

    Parameters
    ----------
    spec
        tensorstore's specification of the place.
    name
        What messages call it.
    context
        tensorstore's context.
    """

    def __init__(self, spec: Any, name: str, context: Any) -> None:
        self.json: dict[str, Any] = spec.to_json()
        self.name = name
        self._context = context

    @property
    def path(self) -> Path | None:
        """Where it is on disk, or None."""
        return Path(self.json["path"]) if self.json["driver"] == "file" else None

    @property
    def parent(self) -> tuple[Folder, str] | None:
        """The folder that it lies in and its name there; None at the top."""
        above, _, key = self.json["path"].rstrip("/").rpartition("/")
        return (self._at(f"{above}/"), key) if key else None

    def child(self, key: str) -> Folder:
        """Return a folder in it."""
        return self._at(self.json["path"] + key.strip("/") + "/") if key.strip("/") else self

    def _at(self, path: str) -> Folder:
        import tensorstore

        return Folder(tensorstore.KvStore.Spec({**self.json, "path": path}), self.name, self._context)

    def read(self, key: str) -> dict[str, Any] | None:
        """Return the JSON object of a file, or None where there is no such file."""
        import tensorstore

        try:
            found = tensorstore.KvStore.open(self.json, context=self._context).result().read(key).result()
        except ValueError as error:
            # A bucket that may not be listed says this of what isn't there.
            if str(error).startswith("PERMISSION_DENIED") and self.path is None:
                return None
            raise
        if found.state != "value":
            return None
        try:
            value = json.loads(found.value)
        except ValueError as error:
            raise DataError(f"{self.name}: {key} is damaged, no JSON: {error}.") from error
        if not isinstance(value, dict):
            raise DataError(f"{self.name}: {key} is no JSON object.")
        return value

    def marker(self, key: str) -> str | None:
        """Return the path of a file on disk, or None."""
        return None if self.path is None else str(self.path / key)

    def listing(self) -> list[str]:
        """Return the names of folders in it, where it is on disk."""
        if self.path is None or not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if p.is_dir())


@dataclass(frozen=True)
class Layout:
    """Where an array is, and what its metadata say."""

    spec: dict[str, Any]
    """tensorstore's, to open it."""
    axes: str | None
    """Order of the stored axes, where the metadata say."""
    voxel_size: Numbers | None
    offset: Numbers | None
    marker: str | None
    """A file on disk that is there as long as the store is."""
    x_first: bool = False
    """Whether axes are listed from x on, where nothing says otherwise."""


def find_layout(folder: Folder, wanted: str | None, level: int | None) -> Layout:
    """Find out what lies in a folder.

    Parameters
    ----------
    folder
        An array or a pyramid of resolutions.
    wanted
        ``zarr``, ``n5`` or ``precomputed``; None: whatever is there.
    level
        Which resolution of a pyramid; None: the first.

    Raises
    ------
    DataError
        No metadata are there, they make no sense, or the level does not exist.
    """
    finders = {"zarr": (_zarr3, _zarr2), "n5": (_n5,), "precomputed": (_precomputed,)}
    for name, tries in finders.items():
        for find in tries if wanted in (None, name) else ():
            try:
                layout = find(folder, level)
            except (KeyError, TypeError, IndexError, AttributeError) as error:
                raise DataError(f"{folder.name}: its metadata are no valid {name}: {error!r}.") from error
            if layout is not None:
                return layout
    inside = folder.listing()
    hint = f" It holds the folders {', '.join(inside[:12])}." if inside else ""
    if folder.path is None:
        hint = " Or you may not read them."
    kind = wanted or "Zarr, N5 or Precomputed"
    raise DataError(f"{folder.name}: no metadata of {kind} are there ({', '.join(_METADATA)}).{hint}")


def _array(folder: Folder, driver: str, marker: str, axes: Any, size: Any, offset: Any, **more: Any) -> Layout:
    return Layout({"driver": driver, "kvstore": folder.json}, axes, size, offset, folder.marker(marker), **more)


def _zarr3(folder: Folder, level: int | None) -> Layout | None:
    found = folder.read("zarr.json")
    if found is None:
        return None
    if found.get("node_type") == "group":
        attributes = found.get("attributes", {})
        return _ome_level(folder, attributes.get("ome", attributes), level)
    return _zarr_array(folder, "zarr3", "zarr.json", found.get("attributes", {}), level)


def _zarr2(folder: Folder, level: int | None) -> Layout | None:
    if folder.read(".zarray") is not None:
        return _zarr_array(folder, "zarr", ".zarray", folder.read(".zattrs") or {}, level)
    attributes = folder.read(".zattrs")
    if attributes is None and folder.read(".zgroup") is None:
        return None
    return _ome_level(folder, attributes or {}, level)


def _zarr_array(folder: Folder, driver: str, marker: str, attributes: dict[str, Any], level: int | None) -> Layout:
    if level:
        raise DataError(f"{folder.name} is a single array; there is no level {level} to choose.")
    if folder.parent is not None:
        # One level of a pyramid, addressed itself.
        group, key = folder.parent
        above = (group.read("zarr.json") or {}).get("attributes", {}) if driver == "zarr3" else group.read(".zattrs")
        above = above or {}
        for image in above.get("ome", above).get("multiscales", ()):
            for dataset in image["datasets"]:
                if dataset["path"].strip("/") == key:
                    return _array(folder, driver, marker, *_ome_place(image, dataset, folder.name))
    units = _units(attributes.get("units"), 3)
    size = _triple(attributes, ("voxel_size_nm_zyx", "resolution", "voxel_size"), units, positive=True)
    return _array(folder, driver, marker, None, size, _triple(attributes, ("offset_nm_zyx", "offset"), units))


def _ome_level(folder: Folder, attributes: dict[str, Any], level: int | None) -> Layout:
    images = attributes.get("multiscales")
    if not images:
        inside = folder.listing()
        hint = f"; it holds {', '.join(inside[:12])}" if inside else ""
        raise DataError(f"{folder.name} is a group of Zarr, no array and no OME-Zarr image{hint}.")
    datasets = images[0]["datasets"]
    dataset = datasets[_checked_level(level, [d["path"] for d in datasets], folder.name)]
    inner = folder.child(dataset["path"])
    for driver, marker in (("zarr3", "zarr.json"), ("zarr", ".zarray")):
        if inner.read(marker) is not None:
            return _array(inner, driver, marker, *_ome_place(images[0], dataset, folder.name))
    raise DataError(f"{folder.name}: its metadata name the level {dataset['path']!r}, but no array is there.")


def _ome_place(image: dict[str, Any], dataset: dict[str, Any], name: str) -> tuple[str, Numbers | None, Numbers | None]:
    """Return axes, voxel size and offset of one level of an OME-Zarr image."""
    listed = image.get("axes", list("tczyx"))  # up to version 0.2 all five, and never written
    named = [axis if isinstance(axis, dict) else {"name": axis} for axis in listed]
    letters = [{"channel": "c", "time": "t"}.get(a["name"].lower(), a["name"].lower()) for a in named]
    if set(letters) - set("tczyx"):
        raise DataError(f"{name}: its axes are {', '.join(a['name'] for a in named)}; a volume has t, c, z, y and x.")
    scale, shift = np.ones(len(letters)), np.zeros(len(letters))
    steps = [*dataset.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]
    for step in steps:
        if step["type"] == "scale" and "scale" in step:
            factor = _vector(step["scale"], len(letters), "scale", name)
            scale, shift = scale * factor, shift * factor
        elif step["type"] == "translation" and "translation" in step:
            shift = shift + _vector(step["translation"], len(letters), "translation", name)
    at = {letter: i for i, letter in enumerate(letters)}
    unit = [_NM.get(str(a.get("unit")).lower(), 1.0) for a in named]
    known = steps and any(a.get("unit") for a in named if a["name"].lower() in "zyx")
    if not known and not (scale != 1).any() and not shift.any():
        return "".join(letters), None, None
    size = tuple(float(scale[at[a]] * unit[at[a]]) if a in at else 1.0 for a in "zyx")
    offset = tuple(float(shift[at[a]] * unit[at[a]]) if a in at else 0.0 for a in "zyx")
    if min(size) <= 0:
        raise DataError(f"{name}: the scale of its metadata is {scale.tolist()}; it has to be positive.")
    return "".join(letters), size, offset  # type: ignore[return-value]


def _n5(folder: Folder, level: int | None) -> Layout | None:
    attributes = folder.read("attributes.json")
    if attributes is None or "dimensions" not in attributes:
        first = folder.child("s0").read("attributes.json")
        if first is None or "dimensions" not in first:
            if attributes is None:
                return None
            inside = ", ".join(folder.listing()[:12])
            raise DataError(f"{folder.name} is a group of N5, no array and no pyramid s0, s1, ...; it holds {inside}.")
        inner = folder.child(f"s{level or 0}")
        found = inner.read("attributes.json")
        if found is None:
            levels = [name for name in folder.listing() if name.startswith("s")]
            raise DataError(f"{folder.name} has no level s{level}.{' There are ' * bool(levels)}{', '.join(levels)}")
        return _n5_array(inner, found, attributes or {})
    if level:
        raise DataError(f"{folder.name} is a single array; there is no level {level} to choose.")
    above = folder.parent[0].read("attributes.json") if folder.parent is not None else None
    return _n5_array(folder, attributes, above or {})


def _n5_array(folder: Folder, attributes: dict[str, Any], above: dict[str, Any]) -> Layout:
    axes = None
    listed = attributes.get("axes", above.get("axes"))
    if isinstance(listed, list) and len(listed) == len(attributes["dimensions"]):
        letters = "".join(str(a).lower() for a in listed)
        axes = letters if set(letters) <= set("tczyx") else None
    size, offset = _n5_place(attributes)
    if size is None:
        size, offset = _n5_place(above)
        factors = attributes.get("downsamplingFactors")
        if size is not None and isinstance(factors, list) and len(factors) == 3:
            # The voxels of a level are means of those of the finest: its first one lies further in.
            f = np.array(factors[::-1], float)
            offset = tuple((np.array(offset or (0, 0, 0)) + (f - 1) / 2 * size).tolist())
            size = tuple((f * size).tolist())
    return _array(folder, "n5", "attributes.json", axes, size, offset, x_first=True)


def _n5_place(attributes: dict[str, Any]) -> tuple[Numbers | None, Numbers | None]:
    """Return voxel size and offset, both (z, y, x) in nm, of attributes that list x first, or name their axes."""
    transform = attributes.get("transform")
    if isinstance(transform, dict) and "scale" in transform:
        order = [str(a).lower() for a in transform["axes"]]
        units = _units(transform.get("units"), len(order))
        scale, shift = transform["scale"], transform.get("translate", [0] * len(order))
        at = [order.index(a) for a in "zyx"]
        return (
            _triple({"": [scale[i] * units[i] for i in at]}, ("",), np.ones(3), positive=True),
            _triple({"": [shift[i] * units[i] for i in at]}, ("",), np.ones(3)),
        )
    pixel = attributes.get("pixelResolution")
    if isinstance(pixel, dict):
        unit = _NM.get(str(pixel.get("unit", "nm")).lower(), 1.0)
        attributes = attributes | {"pixelResolution": pixel.get("dimensions")}
    else:
        unit = 1.0
    names, units = ("pixelResolution", "resolution"), np.full(3, unit)
    size = _triple(attributes, names, units, positive=True)
    offset = _triple(attributes, ("offset",), np.ones(3))
    return (
        None if size is None else (size[2], size[1], size[0]),
        None if offset is None else (offset[2], offset[1], offset[0]),
    )


def _precomputed(folder: Folder, level: int | None) -> Layout | None:
    info = folder.read("info")
    if info is None:
        if folder.parent is None:
            return None
        folder, key = folder.parent
        info = folder.read("info")
        if info is None or "scales" not in info:
            return None
        keys = [scale["key"] for scale in info["scales"]]
        if key not in keys:
            raise DataError(f"{folder.name}: no scale is called {key!r}; there are {', '.join(keys)}.")
        level = keys.index(key)
    if "scales" not in info:
        raise DataError(f"{folder.name}: info is of no volume (no scales), but {info.get('@type', 'unknown')}.")
    index = _checked_level(level, [scale["key"] for scale in info["scales"]], folder.name)
    scale = info["scales"][index]
    if scale["encoding"] not in _ENCODINGS:
        raise DataError(
            f"{folder.name}: the chunks of scale {scale['key']} are encoded as {scale['encoding']!r}; "
            f"{', '.join(_ENCODINGS)} can be read."
        )
    _refuse_compressed_files(folder.child(scale["key"]))
    size = _vector(scale["resolution"], 3, "resolution", folder.name)[::-1]
    if (size <= 0).any():
        raise DataError(f"{folder.name}: the resolution of scale {scale['key']} is {scale['resolution']}.")
    first = _vector(scale.get("voxel_offset", (0, 0, 0)), 3, "voxel_offset", folder.name)[::-1]
    place = tuple(size.tolist()), tuple((size * first).tolist())
    layout = _array(folder, "neuroglancer_precomputed", "info", "xyzc", *place, x_first=True)
    layout.spec["scale_index"] = index
    return layout


def _refuse_compressed_files(folder: Folder) -> None:
    """Refuse chunks that are compressed as files: to tensorstore they would be missing, and read as zeros."""
    if folder.path is None or not folder.path.is_dir():
        return
    file = next(folder.path.iterdir(), None)
    if file is not None and file.suffix in (".gz", ".br", ".zstd"):
        raise DataError(
            f"{folder.name}: the chunks in {folder.path} are compressed as files ({file.name}); unpack them (gunzip)."
        )


def _checked_level(level: int | None, names: Sequence[str], name: str) -> int:
    index = level or 0
    if not 0 <= index < len(names):
        listed = ", ".join(f"{i}: {key}" for i, key in enumerate(names))
        raise DataError(f"{name} has no level {level}; there are {listed or 'none'}.{did_you_mean(str(level), names)}")
    return index


def _units(listed: Any, n: int) -> np.ndarray:
    units = listed if isinstance(listed, list) and len(listed) == n else [listed] * n
    return np.array([_NM.get(str(unit).lower(), 1.0) for unit in units])


def _vector(values: Any, n: int, what: str, name: str) -> np.ndarray:
    try:
        vector = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        vector = np.full(n, np.nan)
    if vector.shape != (n,) or not np.isfinite(vector).all():
        raise DataError(f"{name}: {what} is {values!r} in its metadata; {n} numbers are needed.")
    return vector


def _triple(
    attributes: dict[str, Any], names: Sequence[str], units: np.ndarray, *, positive: bool = False
) -> Numbers | None:
    """Return the first attribute of `names` that is three numbers, times units; None where none is."""
    for name in names:
        try:
            numbers = np.asarray(attributes.get(name), np.float64)
        except (TypeError, ValueError):
            continue
        if numbers.shape == (3,) and np.isfinite(numbers).all() and not (positive and (numbers <= 0).any()):
            z, y, x = (numbers * units).tolist()
            return z, y, x
    return None

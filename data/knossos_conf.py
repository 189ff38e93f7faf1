"""What describes a KNOSSOS data set: ``knossos.conf``, ``*.k.conf``, PyKNOSSOS' ``*.pyk.conf``, and ``*.k.toml``."""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from elektronn_tui.errors import DataError, did_you_mean

from .sources import Vec3, missing_file

__all__ = ["CONF_SUFFIXES", "ENCODINGS", "Layer", "Level", "find_conf", "mag_of", "read_layers"]

CONF_SUFFIXES = (".k.toml", ".pyk.conf", ".k.conf", "knossos.conf")
ENCODINGS = ("raw", "png", "jpg", "seg.sz.zip")
"""Cubes that can be read, by the end of their names."""

_STATEMENT = re.compile(r'\s*([A-Za-z_][A-Za-z _]*?)\s*(?:(-?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)|"([^"]*)")\s*;')
_MAG_FOLDER = re.compile(r"(.*?)mag([1-9][0-9]*)")
_PYK_ENCODINGS = {0: "raw", 2: "png", 3: "jpg"}


@dataclass(frozen=True)
class Level:
    """One mag of a layer: its folder of cubes, its shape (z, y, x) in voxels, and the size (z, y, x) of these in nm."""

    folder: Path
    shape: Vec3
    voxel_size: tuple[float, float, float]


@dataclass(frozen=True)
class Layer:
    """One image or segmentation of a data set.

    Attributes
    ----------
    conf
        The file that describes it.
    name
        Of the layer; empty where the file knows of one only.
    experiment
        What the names of cubes begin with.
    cube_shape
        (z, y, x) in voxels.
    dtype
        Of image cubes; segmentations are uint64.
    encodings
        Of the cubes, in the order in which they are to be tried; members of `ENCODINGS`.
    levels
        By the number in the name of the mag's folder: the factor of reduction in ``knossos.conf`` data sets, which
        level of the pyramid it is (from 1) in the others.
    """

    conf: Path
    name: str
    experiment: str
    cube_shape: Vec3
    dtype: np.dtype[Any]
    encodings: tuple[str, ...]
    levels: Mapping[int, Level]


def find_conf(path: Path) -> Path:
    """Return the file that describes the data set: `path` itself, or the one in this folder or its ``*mag1``.

    Raises
    ------
    DataError
        There is none, or there are several.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                raise DataError(missing_file(path))
            return _of_first_mag(path)
        found = sorted(p for p in path.iterdir() if p.name.endswith(CONF_SUFFIXES))
        if not found:
            confs = [(mag, folder / "knossos.conf") for mag, folder in _mag_folders(path)]
            there = [(mag, conf) for mag, conf in confs if conf.exists()]
            # That of the lowest mag: what the others state as their sizes differs from writer to writer.
            found = [conf for mag, conf in there if mag == there[0][0]]
    except PermissionError as error:
        raise DataError(f"{path} can't be looked into: you may not read it.") from error
    if not found:
        raise DataError(f"{path} holds no KNOSSOS data set: no knossos.conf, *.k.conf, *.pyk.conf or *.k.toml.")
    if len(found) > 1:
        raise DataError(f"{path} holds several data sets; name one of {', '.join(p.name for p in found)}.")
    return _of_first_mag(found[0])


def mag_of(path: Path) -> int | None:
    """Return the number of the mag whose folder, or whose file, this is."""
    match = _MAG_FOLDER.fullmatch(path.name) or _MAG_FOLDER.fullmatch(path.parent.name if path.suffix else "")
    return int(match[2]) if match else None


def _of_first_mag(conf: Path) -> Path:
    match = _MAG_FOLDER.fullmatch(conf.parent.name)
    first = conf.parent.with_name(f"{match[1]}mag1") / conf.name if match else conf
    return first if first.exists() else conf


def read_layers(conf: Path) -> list[Layer]:
    """Return the layers that a file describes.

    Raises
    ------
    DataError
        The file is missing, unreadable or lacks what is needed; or its cubes lie on a server.
    """
    try:
        text = conf.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise DataError(missing_file(conf)) from error
    except OSError as error:
        raise DataError(f"{conf} can't be read: {error.strerror or error}.") from error
    if conf.name.endswith(".toml"):
        return _read_toml(conf, text)
    if conf.name.endswith(".pyk.conf"):
        return _read_pyk(conf, text)
    return [_read_conf(conf, text)]


def _read_conf(conf: Path, text: str) -> Layer:
    """Read ``key value;`` lines; what is no such line is passed over, as KNOSSOS does."""
    known: dict[str, str] = {}
    flags = set()
    for line in text.splitlines():
        if line.startswith("ftp_mode"):
            raise DataError(
                f"{conf}: the cubes of this data set lie on a server (ftp_mode); only local ones are read. Copy the "
                "cubes beside a conf without that line."
            )
        if match := _STATEMENT.match(line):
            known[" ".join(match[1].split())] = match[2] if match[3] is None else match[3]
        else:
            flags.add(line.strip().rstrip(";").strip().lower())
    needed = ["experiment name", *(f"{what} {axis}" for what in ("boundary", "scale") for axis in "zyx")]
    if missing := [key for key in needed if key not in known]:
        raise DataError(
            f"{conf} lacks a readable line '{missing[0]} VALUE;'; it needs one each of {', '.join(needed)}."
        )
    boundary = [_number(known[f"boundary {a}"], f"boundary {a}", conf) for a in "zyx"]
    scale = [_number(known[f"scale {a}"], f"scale {a}", conf) for a in "zyx"]
    edge = int(_number(known.get("cube_edge_length", "128"), "cube_edge_length", conf))
    in_mag = _MAG_FOLDER.fullmatch(conf.parent.name)
    root = conf.parent.parent if in_mag else conf.parent
    own_mag = int(in_mag[2]) if in_mag else 1
    if own_mag > 1:
        # A data set without mag 1: there boundary and scale are those of the mag that the file lies in.
        boundary, scale = [b * own_mag for b in boundary], [s / own_mag for s in scale]
    experiment = re.sub(r"_?mag[0-9]+$", "", known["experiment name"])
    levels = {}
    for mag, folder in _one_prefix(root, experiment, conf, in_mag[1] if in_mag else None):
        levels[mag] = Level(folder, _ceil(b / mag for b in boundary), _floats(s * mag for s in scale))
    first = "png" if "png" in flags else "jpg" if "jpg" in flags else "raw"
    encodings = tuple(dict.fromkeys([first, *ENCODINGS]))
    return Layer(conf, "", experiment, (edge, edge, edge), np.dtype(np.uint8), encodings, _checked(levels, conf))


def _read_pyk(conf: Path, text: str) -> list[Layer]:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise DataError(f"{conf} can't be read: {str(error).splitlines()[0]}") from error
    layers = []
    for section in parser.sections():
        if not section.lower().startswith("dataset"):
            continue
        entry = {key: value.strip().strip('"') for key, value in parser[section].items()}
        where = f"{conf} [{section}]"
        experiment = str(_needed(entry, "_BaseName", where))
        cube = _numbers(entry.get("_CubeSize", "128,128,128"), "_CubeSize", where)
        scales = _triples(_numbers(_needed(entry, "_DataScale", where), "_DataScale", where), "_DataScale", where)
        if "_Extent" in entry:
            extent = _numbers(entry["_Extent"], "_Extent", where)
        else:
            count = _numbers(_needed(entry, "_NumberofCubes", where), "_NumberofCubes", where)
            extent = [n * c for n, c in zip(count, cube, strict=False)]
        kind = int(_number(entry.get("_FileType", "0"), "_FileType", where))
        if kind not in _PYK_ENCODINGS:
            raise DataError(f"{where}: _FileType={kind} is unknown; 0 is raw, 2 png, 3 jpg.")
        server = entry.get("_ServerFormat", "knossos").lower() or "knossos"
        folder = _local(entry.get("_BaseURL", ""), server, where, conf)
        encodings = tuple(dict.fromkeys([_PYK_ENCODINGS[kind], "seg.sz.zip"]))
        layers.append(
            _pyramid(conf, entry.get("_Description", ""), experiment, folder, extent, cube, scales, encodings, np.uint8)
        )
    if not layers:
        raise DataError(f"{conf} has no section [Dataset].")
    return layers


def _read_toml(conf: Path, text: str) -> list[Layer]:
    try:
        tables = tomllib.loads(text).get("Layer")
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{conf} is no TOML: {error}") from error
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise DataError(f"{conf} has no table [[Layer]].")
    layers = []
    for i, table in enumerate(tables):
        name = str(_needed(table, "Name", f"{conf} Layer {i + 1}"))
        where = f"{conf} layer {name!r}"
        given = table.get("FileExtension", ["raw"])
        extensions = [str(e).lstrip(".").lower() for e in (given if isinstance(given, list) else [given])]
        encodings = tuple("jpg" if e == "jpeg" else e for e in extensions)
        voxel = np.asarray(_needed(table, "VoxelSize_nm", where), np.float64).ravel().tolist()
        channels = table.get("NumChannels", 1)
        if channels != 1:
            raise DataError(f"{where}: NumChannels={channels!r}; cubes of one channel are read.")
        try:
            dtype = np.dtype(str(table.get("DataType", "uint8")))
        except TypeError as error:
            raise DataError(f"{where}: DataType={table['DataType']!r} is no type of numbers, such as uint8.") from error
        folder = _local(str(table.get("URL", "")), str(table.get("ServerFormat", "knossos")).lower(), where, conf)
        extent, cube = _needed(table, "Extent_px", where), table.get("CubeShape_px", [128, 128, 128])
        layers.append(
            _pyramid(conf, name, name, folder, extent, cube, _triples(voxel, "VoxelSize_nm", where), encodings, dtype)
        )
    return layers


def _pyramid(
    conf: Path,
    name: str,
    experiment: str,
    folder: Path,
    extent: Any,
    cube: Any,
    scales: Sequence[Sequence[float]],
    encodings: tuple[str, ...],
    dtype: Any,
) -> Layer:
    """Return a layer whose folders ``mag1, mag2, …`` are the levels of a pyramid. Sizes are (x, y, z) here."""
    where = f"{conf} layer {name or experiment!r}"
    if not any(e in ENCODINGS for e in encodings):
        raise DataError(f"{where}: cubes of {', '.join(encodings)} can't be read; {', '.join(ENCODINGS)} can.")
    (z, y, x), cubes = (_three(n, what, where) for n, what in ((extent, "extent"), (cube, "cube shape")))
    levels = {}
    for i, scale in enumerate(scales):
        factor = [a / b for a, b in zip(scale, scales[0], strict=True)][::-1]
        path = folder / f"mag{i + 1}"
        if path.is_dir() or not i:
            levels[i + 1] = Level(
                path, _ceil(n / f for n, f in zip((z, y, x), factor, strict=True)), _floats(scale[::-1])
            )
    return Layer(
        conf,
        name,
        re.sub(r"_mag1$", "", experiment),
        cubes,
        np.dtype(dtype),
        tuple(e for e in encodings if e in ENCODINGS),
        _checked(levels, conf),
    )


def _local(url: str, server: str, where: str, conf: Path) -> Path:
    """Return the folder of mags that a URL names; relative ones begin at the file that states them."""
    if server not in ("knossos", ""):
        hint = " Open it as 'precomputed://FOLDER'." if server == "precomputed" else ""
        raise DataError(f"{where}: its cubes are kept as {server!r}; those of 'knossos' are read.{hint}")
    parts = urlsplit(url)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        raise DataError(f"{where}: its cubes lie on a server ({url}); only local ones are read.")
    folder = conf.parent / unquote(parts.path)
    if (match := _MAG_FOLDER.fullmatch(folder.name)) and match[2] == "1":
        folder = folder.parent
    return folder


def _mag_folders(root: Path) -> list[tuple[int, Path]]:
    """Return (number, folder) of all ``<prefix>mag<number>`` in a folder, lowest number first."""
    found = [(m, p) for p in root.iterdir() if (m := _MAG_FOLDER.fullmatch(p.name)) and p.is_dir()]
    return sorted((int(m[2]), p) for m, p in found)


def _one_prefix(root: Path, experiment: str, conf: Path, prefix: str | None) -> list[tuple[int, Path]]:
    """Return the mag folders of one data set: those that share a prefix."""
    try:
        folders = _mag_folders(root)
    except OSError as error:
        raise DataError(f"{root} can't be looked into: {error.strerror or error}.") from error
    by_prefix: dict[str, list[tuple[int, Path]]] = {}
    for mag, folder in folders:
        by_prefix.setdefault(folder.name.removesuffix(f"mag{mag}"), []).append((mag, folder))
    for wanted in [prefix] if prefix is not None else ["", f"{experiment}_", experiment]:
        if wanted in by_prefix:
            return by_prefix[wanted]
    if len(by_prefix) == 1:
        return next(iter(by_prefix.values()))
    if by_prefix:
        raise DataError(
            f"{conf}: which folders are its mags? There are {', '.join(p.name for _, p in folders)} in {root}."
        )
    return []


def _checked(levels: dict[int, Level], conf: Path) -> dict[int, Level]:
    if not levels:
        raise DataError(f"{conf}: no folder of a mag, such as 'mag1', lies beside it.")
    for level in levels.values():
        if min(level.shape) < 1 or not all(np.isfinite(level.voxel_size)) or min(level.voxel_size) <= 0:
            raise DataError(
                f"{conf} states a shape of {level.shape} voxels of {level.voxel_size} nm (z, y, x) for "
                f"{level.folder.name}; both have to be positive."
            )
    return levels


def _needed(entry: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in entry:
        raise DataError(f"{where} lacks {key}.{did_you_mean(key, entry)}")
    return entry[key]


def _number(text: str, key: str, where: Any) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"{where}: {key} is {text!r}, no number.") from error


def _numbers(text: str, key: str, where: Any) -> list[float]:
    return [_number(part, key, where) for part in re.split(r"[\s,;\[\]()]+", text) if part]


def _triples(numbers: Sequence[float], key: str, where: str) -> list[Sequence[float]]:
    if not numbers or len(numbers) % 3:
        raise DataError(f"{where}: {key} has {len(numbers)} numbers; it needs three (x, y, z) for each mag.")
    return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]


def _three(xyz: Any, what: str, where: str) -> Vec3:
    """Return (x, y, z) of a file as whole numbers (z, y, x)."""
    try:
        x, y, z = (int(n) for n in xyz)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {what} is {xyz!r}; three whole numbers (x, y, z) are needed.") from error
    if min(x, y, z) < 1:
        raise DataError(f"{where}: {what} is {xyz!r}; it has to be positive.")
    return z, y, x


def _ceil(sizes: Any) -> Vec3:
    # Rounded first: ratios of voxel sizes such as 0.3 / 0.1 lie a little beside whole numbers.
    z, y, x = (int(np.ceil(round(n, 6))) for n in sizes)
    return z, y, x


def _floats(sizes: Any) -> tuple[float, float, float]:
    z, y, x = (float(s) for s in sizes)
    return z, y, x

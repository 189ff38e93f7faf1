"""Zarr, OME-Zarr, N5 and Precomputed, each written by tensorstore and read by its address."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elektronn_tui.data import CroppedSource, Source, open_source, stores
from elektronn_tui.data.stores import StoreSource, is_store, local_path
from elektronn_tui.errors import DataError
from elektronn_tui.training.retrying import may_pass

ts = pytest.importorskip("tensorstore")

FORMATS = ["zarr2", "zarr3", "zarr3 sharded", "n5", "precomputed"]


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(np.prod(shape)) * 7 % 251 + (2**40 if dtype == "uint64" else 0)).reshape(shape).astype(dtype)


def write(folder: Path, kind: str, stored: np.ndarray, **more: Any) -> str:
    """Write (z, y, x) or (c, z, y, x) and return its address."""
    kvstore = {"driver": "file", "path": f"{folder}/"}
    shape, chunk = list(stored.shape), [min(4, n) for n in stored.shape]
    if kind == "zarr2":
        compressor = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
        metadata = {"shape": shape, "chunks": chunk, "dtype": stored.dtype.str, "compressor": compressor}
        spec: dict[str, Any] = {"driver": "zarr", "kvstore": kvstore, "metadata": metadata | more}
    elif kind.startswith("zarr3"):
        codecs: list[dict[str, Any]] = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3}}]
        if kind.endswith("sharded"):
            codecs = [
                {"name": "sharding_indexed", "configuration": {"chunk_shape": [1] * len(shape), "codecs": codecs}}
            ]
        grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
        metadata = {"shape": shape, "data_type": stored.dtype.name, "chunk_grid": grid, "codecs": codecs}
        spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata | more}
    elif kind == "n5":
        stored = stored.transpose(*range(stored.ndim - 3, stored.ndim)[::-1], *range(stored.ndim - 3))
        metadata = {
            "dimensions": list(stored.shape),
            "blockSize": [min(4, n) for n in stored.shape],
            "dataType": stored.dtype.name,
            "compression": {"type": "gzip"},
        }
        spec = {"driver": "n5", "kvstore": kvstore, "metadata": metadata | more}
    else:
        stored = (stored if stored.ndim == 4 else stored[None]).transpose(3, 2, 1, 0)
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": kvstore,
            "multiscale_metadata": {"type": "image", "data_type": stored.dtype.name, "num_channels": stored.shape[3]},
            "scale_metadata": {
                "size": stored.shape[:3],
                "resolution": [4, 5, 40],
                "voxel_offset": [10, 20, 30],
                "chunk_size": [4, 4, 4],
                "encoding": "raw",
            }
            | more,
        }
    ts.open(spec, create=True).result()[ts.d[:].translate_to[0]].write(stored).result()
    return f"precomputed://{folder}" if kind == "precomputed" else str(folder)


def named(tmp_path: Path, kind: str) -> Path:
    return tmp_path / {"n5": "v.n5", "precomputed": "v"}.get(kind, "v.zarr")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "uint64"])
@pytest.mark.parametrize("shape", [(5, 11, 13), (3, 5, 11, 13), (1, 1, 1)])
@pytest.mark.parametrize("kind", FORMATS)
def test_round_trip(tmp_path: Path, kind: str, shape: tuple[int, ...], dtype: str) -> None:
    stored = ramp(shape, dtype)
    source = open_source(write(named(tmp_path, kind), kind, stored))
    assert isinstance(source, StoreSource)
    assert isinstance(source, Source)
    assert source.shape == shape[-3:]
    assert source.channels == (shape[0] if len(shape) == 4 else 1)
    assert source.dtype == stored.dtype
    whole = source.read((0, 0, 0), source.shape)
    assert whole.dtype == stored.dtype
    np.testing.assert_array_equal(whole, stored.reshape(whole.shape))
    rng = np.random.default_rng(0)
    for _ in range(10):
        lo = rng.integers(0, source.shape)
        hi = [int(rng.integers(l + 1, n + 1)) for l, n in zip(lo, source.shape, strict=True)]
        box = (..., *(slice(l, h) for l, h in zip(lo, hi, strict=True)))
        np.testing.assert_array_equal(source.read(lo, hi), whole[box])


def test_big_endian_and_fortran_order(tmp_path: Path) -> None:
    stored = ramp((5, 6, 7), ">u2")
    source = open_source(write(tmp_path / "v.zarr", "zarr2", stored, order="F"))
    assert source.dtype == np.uint16
    assert source.dtype.isnative
    np.testing.assert_array_equal(source.read((0, 0, 0), (5, 6, 7))[0], stored)


def ome(
    scale: list[float], *, axes: str = "zyx", unit: str | None = "nanometer", shift: list[float] | None = None
) -> Any:
    """The metadata of a pyramid of two levels."""
    kinds = {"t": "time", "c": "channel"}
    listed = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": unit} if unit and a in "zyx" else {}) for a in axes
    ]
    datasets = []
    for level in range(2):
        steps: list[dict[str, Any]] = [
            {"type": "scale", "scale": [s * 2**level if a in "yx" else s for s, a in zip(scale, axes, strict=True)]}
        ]
        if shift is not None:
            steps.append({"type": "translation", "translation": shift})
        datasets.append({"path": f"s{level}", "coordinateTransformations": steps})
    return [{"version": "0.4", "axes": listed, "datasets": datasets}]


def write_ome(folder: Path, version: str, image: Any, stored: np.ndarray) -> None:
    """Write two levels, the second one as every other voxel in y and x, and the metadata of the group."""
    kind = "zarr2" if version == "0.4" else "zarr3"
    write(folder / "s0", kind, stored)
    write(folder / "s1", kind, stored[..., ::2, ::2])
    if version == "0.4":
        (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (folder / ".zattrs").write_text(json.dumps({"multiscales": image}))
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": image}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (folder / "zarr.json").write_text(json.dumps(group))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    stored = ramp((5, 8, 10), "uint8")
    path = tmp_path / "v.zarr"
    write_ome(path, version, ome([0.04, 0.004, 0.004], unit="micrometer", shift=[0.4, 0, 0.1]), stored)
    write_ome(path / "labels" / "ids", version, ome([40, 4, 4]), stored.astype("uint64"))
    source = open_source(path)
    assert source.shape == (5, 8, 10)
    assert source.voxel_size == pytest.approx((40, 4, 4))
    assert source.offset == pytest.approx((400, 0, 100))
    for coarse in (open_source(path, level=1), open_source(path / "s1"), open_source(f"zarr://{path}/s1")):
        assert coarse.voxel_size == pytest.approx((40, 8, 8))
        np.testing.assert_array_equal(coarse.read((0, 0, 0), (5, 4, 5))[0], stored[:, ::2, ::2])
    for address in (f"{path}/labels/ids", f"{path}:labels/ids", f"file://{path}/labels/ids"):
        ids = open_source(address)
        assert (ids.dtype, ids.voxel_size, ids.offset) == (np.uint64, (40, 4, 4), (0, 0, 0))
    with pytest.raises(DataError, match=r"has no level 2; there are 0: s0, 1: s1"):
        _ = open_source(path, level=2).shape
    with pytest.raises(DataError, match="single array; there is no level 1"):
        _ = open_source(path / "s0", level=1).shape
    with pytest.raises(DataError, match=r"is a group of Zarr.*holds s0, s1|is a group|no metadata of .* folders ids"):
        _ = open_source(path / "labels").shape


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_five_axes(tmp_path: Path, version: str) -> None:
    stored = ramp((2, 3, 5, 8, 10), "uint16")
    path = tmp_path / "v.zarr"
    write_ome(path, version, ome([1, 1, 40, 4, 4], axes="tczyx"), stored)
    with pytest.raises(DataError, match="has 2 time points; choose one of 0 to 1"):
        _ = open_source(path).shape
    with pytest.raises(DataError, match="no time point 2"):
        _ = open_source(path, time=2).shape
    source = open_source(path, time=1)
    assert (source.channels, source.shape, source.voxel_size) == (3, (5, 8, 10), (40, 4, 4))
    np.testing.assert_array_equal(source.read((1, 2, 3), (5, 8, 10)), stored[1, :, 1:, 2:, 3:])
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read((0, 0, 0), (1, 8, 10)), stored[1, :, :1])


def test_one_time_point_needs_no_choice_and_images_may_be_flat(tmp_path: Path) -> None:
    stored = ramp((1, 8, 10), "uint8")
    write_ome(tmp_path / "v.zarr", "0.5", ome([1, 4, 4], axes="tyx"), stored)
    source = open_source(tmp_path / "v.zarr")
    assert source.shape == (1, 8, 10)
    assert source.voxel_size == (1, 4, 4)
    np.testing.assert_array_equal(source.read((0, 0, 0), (1, 8, 10)), stored[None])


def test_ome_scale_without_units(tmp_path: Path) -> None:
    stored = ramp((5, 8, 10), "uint8")
    write_ome(tmp_path / "a.zarr", "0.4", ome([10, 2, 2], unit=None), stored)
    assert open_source(tmp_path / "a.zarr").voxel_size == (10, 2, 2)
    image = ome([1, 1, 1], unit=None)
    write_ome(tmp_path / "b.zarr", "0.4", image, stored)
    assert open_source(tmp_path / "b.zarr").voxel_size is None
    image[0]["coordinateTransformations"] = [{"type": "scale", "scale": [30, 3, 3]}]
    write_ome(tmp_path / "c.zarr", "0.4", image, stored)
    assert open_source(tmp_path / "c.zarr").voxel_size == (30, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image[0]["axes"][0].update(name="q"), "axes are q, y, x"),
        (lambda image: image[0]["datasets"][0].pop("path"), "no valid zarr"),
        (lambda image: image[0]["datasets"][0].update(path="s7"), "name the level 's7', but no array is there"),
        (lambda image: image[0]["axes"].pop(), "scale is .* 2 numbers are needed"),
        (
            lambda image: image[0]["datasets"][0].update(
                coordinateTransformations=[{"type": "scale", "scale": [0, 4, 4]}]
            ),
            "it has to be positive",
        ),
    ],
)
def test_ome_metadata_that_make_no_sense(tmp_path: Path, change: Any, message: str) -> None:
    image = ome([40, 4, 4])
    change(image)
    write_ome(tmp_path / "v.zarr", "0.4", image, ramp((5, 8, 10), "uint8"))
    with pytest.raises(DataError, match=message) as caught:
        _ = open_source(tmp_path / "v.zarr").shape
    assert str(tmp_path) in str(caught.value)


def test_plain_zarr_says_axes_and_voxels(tmp_path: Path) -> None:
    stored = ramp((7, 6, 5), "uint8")
    address = write(
        tmp_path / "v.zarr", "zarr3", stored, dimension_names=["x", "y", "z"], attributes={"resolution": [40, 4, 5]}
    )
    source = open_source(address)
    assert (source.shape, source.voxel_size, source.offset) == ((5, 6, 7), (40, 4, 5), None)
    np.testing.assert_array_equal(source.read((0, 0, 0), (5, 6, 7))[0], stored.transpose())
    old = write(tmp_path / "w.zarr", "zarr2", stored)
    (tmp_path / "w.zarr" / ".zattrs").write_text('{"voxel_size": [40, 4, 4], "offset": [400, 0, 8]}')
    assert open_source(old).offset == (400, 0, 8)
    assert open_source(old, axes="xyz", voxel_size=(1, 2, 3)).voxel_size == (1, 2, 3)
    assert open_source(old, axes="xyz").shape == (5, 6, 7)
    with pytest.raises(DataError, match="axes='xyq'"):
        _ = open_source(old, axes="xyq").shape


def test_n5_pyramids_and_places(tmp_path: Path) -> None:
    stored = ramp((6, 8, 10), "uint8")
    group = tmp_path / "v.n5" / "raw"
    write(group / "s0", "n5", stored)
    write(group / "s1", "n5", stored[:, ::2, ::2])

    def attributes(folder: Path, **more: Any) -> None:
        path = folder / "attributes.json"
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | more))

    attributes(group, resolution=[4, 5, 40], offset=[8, 0, 80])
    attributes(group / "s1", downsamplingFactors=[2, 2, 1])
    source = open_source(group)
    assert (source.shape, source.voxel_size, source.offset) == ((6, 8, 10), (40, 5, 4), (80, 0, 8))
    for coarse in (
        open_source(group, level=1),
        open_source(f"{tmp_path}/v.n5:raw/s1"),
        open_source(f"n5://{group}/s1"),
    ):
        assert (coarse.voxel_size, coarse.offset) == ((40, 10, 8), (80, 2.5, 10))
        np.testing.assert_array_equal(coarse.read((0, 0, 0), (6, 4, 5))[0], stored[:, ::2, ::2])
    attributes(group / "s0", pixelResolution={"dimensions": [0.004, 0.004, 0.03], "unit": "um"})
    assert open_source(group).voxel_size == pytest.approx((30, 4, 4))
    transform = {"axes": ["z", "y", "x"], "scale": [5.24, 4, 3], "translate": [1, 2, 3], "units": ["nm"] * 3}
    attributes(group / "s0", transform=transform)
    assert (open_source(group).voxel_size, open_source(group).offset) == ((5.24, 4, 3), (1, 2, 3))
    attributes(group / "s0", axes=["z", "y", "x"])
    assert open_source(group).shape == (10, 8, 6)
    with pytest.raises(DataError, match=r"has no level s2\. There are s0, s1"):
        _ = open_source(group, level=2).shape
    attributes(tmp_path / "v.n5", n5="2.0.0")
    with pytest.raises(DataError, match=r"group of N5, no array .* it holds raw"):
        _ = open_source(tmp_path / "v.n5").shape


def test_precomputed_scales(tmp_path: Path) -> None:
    stored = ramp((5, 8, 10), "uint32")
    address = write(tmp_path / "v", "precomputed", stored)
    write(tmp_path / "v", "precomputed", stored[:, ::2, ::2], resolution=[8, 10, 40], voxel_offset=[5, 10, 30])
    source = open_source(address)
    assert (source.shape, source.voxel_size, source.offset) == ((5, 8, 10), (40, 5, 4), (1200, 100, 40))
    for coarse in (open_source(address, level=1), open_source(f"{address}/8_10_40")):
        assert (coarse.shape, coarse.voxel_size) == ((5, 4, 5), (40, 10, 8))
        np.testing.assert_array_equal(coarse.read((1, 1, 1), (5, 4, 5))[0], stored[1:, 2::2, 2::2])
    assert open_source(f"precomputed://file://{tmp_path}/v").shape == (5, 8, 10)
    with pytest.raises(DataError, match="has no level 5; there are 0: 4_5_40, 1: 8_10_40"):
        _ = open_source(address, level=5).shape
    with pytest.raises(DataError, match="no scale is called '9_9_9'; there are 4_5_40, 8_10_40"):
        _ = open_source(f"{address}/9_9_9").shape
    with pytest.raises(DataError, match=r"no metadata of zarr are there.*It holds the folders 4_5_40"):
        _ = open_source(f"zarr://{tmp_path}/v").shape


@pytest.mark.parametrize("kind", FORMATS)
def test_chunks_never_written_hold_the_fill_value(tmp_path: Path, kind: str) -> None:
    stored = ramp((8, 8, 8), "uint8") + 1
    folder = named(tmp_path, kind)
    fill = {"zarr2": {"fill_value": 7}, "zarr3": {"fill_value": 7}}.get(kind, {})
    address = write(folder, kind, stored, **fill)
    lost = {
        "zarr2": "0.0.0",
        "zarr3": "c/0/0/0",
        "zarr3 sharded": "c/0/0/0",
        "n5": "0/0/0",
        "precomputed": "4_5_40/10-14_20-24_30-34",
    }[kind]
    (folder / lost).unlink()
    expected = stored.copy()
    expected[:4, :4, :4] = fill.get("fill_value", 0)
    np.testing.assert_array_equal(open_source(address).read((0, 0, 0), (8, 8, 8))[0], expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_chunks(tmp_path: Path, kind: str) -> None:
    folder = named(tmp_path, kind)
    source = open_source(write(folder, kind, np.random.default_rng(0).integers(0, 255, (8, 8, 8), np.uint8)))
    names = {"zarr2": "[0-9]*", "n5": "*/*/*", "precomputed": "4_5_40/*"}
    chunks = sorted(p for p in folder.glob(names.get(kind, "c/*/*/*")) if p.is_file())
    content = chunks[0].read_bytes()
    chunks[0].write_bytes(content[: len(content) // 2])
    with pytest.raises(
        DataError, match=r"voxels \(0, 0, 0\) to \(8, 8, 8\) can't be read: (?!.*tensorstore_spec)"
    ) as e:
        source.read((0, 0, 0), (8, 8, 8))
    assert str(folder) in str(e.value)
    assert not may_pass(e.value)
    chunks[0].write_bytes(content)
    assert source.read((0, 0, 0), (8, 8, 8)).shape == (1, 8, 8, 8)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_store_that_vanishes_does_not_read_as_zeros(tmp_path: Path, kind: str) -> None:
    folder = named(tmp_path, kind)
    source = open_source(write(folder, kind, ramp((8, 8, 8), "uint8")))
    source.read((0, 0, 0), (1, 1, 1))
    folder.rename(tmp_path / "away")
    for message in ("is gone", "doesn't exist"):
        with pytest.raises(DataError, match=message) as caught:
            source.read((4, 4, 4), (8, 8, 8))
        assert may_pass(caught.value)
    (tmp_path / "away").rename(folder)
    assert source.read((4, 4, 4), (8, 8, 8)).any()


def edited(file: Path, **more: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def test_what_can_not_be_opened_says_why(tmp_path: Path) -> None:
    stored = ramp((4, 4, 4), "uint8")
    write(tmp_path / "codec.zarr", "zarr2", stored)
    edited(tmp_path / "codec.zarr" / ".zarray", compressor={"id": "squeeze"})
    write(tmp_path / "codec3.zarr", "zarr3", stored)
    edited(tmp_path / "codec3.zarr" / "zarr.json", codecs=[{"name": "bytes"}, {"name": "squeeze"}])
    write(tmp_path / "codec.n5", "n5", stored)
    edited(tmp_path / "codec.n5" / "attributes.json", compression={"type": "squeeze"})
    write(tmp_path / "damaged.zarr", "zarr2", stored)
    (tmp_path / "damaged.zarr" / ".zarray").write_text('{"shape": [4,')
    write(tmp_path / "waves.zarr", "zarr2", ramp((2, 2, 2), "complex64"))
    write(tmp_path / "six.zarr", "zarr2", ramp((1, 1, 1, 1, 1, 1), "uint8"))
    (tmp_path / "bare.zarr" / "raw").mkdir(parents=True)
    (tmp_path / "file.zarr").write_text("no folder")
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "info").write_text('{"@type": "neuroglancer_legacy_mesh"}')
    for address, message in {
        f"{tmp_path}/codec.zarr": '"squeeze" is not registered',
        f"{tmp_path}/codec3.zarr": "squeeze",
        f"{tmp_path}/codec.n5": '"squeeze" is not registered',
        f"{tmp_path}/damaged.zarr": r"\.zarray is damaged, no JSON",
        f"{tmp_path}/waves.zarr": "a volume holds integers or floats",
        f"{tmp_path}/six.zarr": "has 6 axes",
        f"{tmp_path}/bare.zarr": r"no metadata of Zarr, N5 or Precomputed .*It holds the folders raw",
        f"{tmp_path}/file.zarr": "is a file; a store of chunks is a folder",
        f"{tmp_path}/codec.zar.zarr": r"doesn't exist\. Did you mean 'codec\.zarr'\?",
        f"precomputed://{tmp_path}/mesh": r"no volume \(no scales\), but neuroglancer_legacy_mesh",
        "s3://": "can't be opened",
        "https://[/x.zarr": "can't be opened",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            _ = open_source(address).shape
        assert address.partition("://")[2] in str(caught.value) or address in str(caught.value)


def test_chunks_compressed_as_files_are_refused(tmp_path: Path) -> None:
    address = write(tmp_path / "v", "precomputed", ramp((4, 4, 4), "uint8"))
    for chunk in (tmp_path / "v" / "4_5_40").iterdir():
        chunk.rename(f"{chunk}.gz")
    with pytest.raises(DataError, match=r"compressed as files .*gunzip"):
        _ = open_source(address).shape


def test_boxes_outside_are_refused(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "v", "precomputed", ramp((4, 5, 6), "uint8")))
    for box in (((0, 0, 0), (5, 5, 6)), ((-1, 0, 0), (1, 1, 1)), ((1, 1, 1), (1, 2, 2))):
        with pytest.raises(DataError, match=r"empty or leaves .* shape \(4, 5, 6\)"):
            source.read(*box)


def test_pickles_as_its_address_and_reads_in_threads(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2**16, (16, 32, 32), np.uint16)
    source = open_source(write(tmp_path / "v.zarr", "zarr3", stored), cache_bytes=10_000)
    source.read((0, 0, 0), (1, 1, 1))
    data = pickle.dumps(source)
    assert len(data) < 500
    source, wrong = pickle.loads(data), []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(30):
            lo = rng.integers(0, (8, 16, 16))
            hi = lo + rng.integers(1, (9, 17, 17))
            if not np.array_equal(source.read(lo, hi)[0], stored[lo[0] : hi[0], lo[1] : hi[1], lo[2] : hi[2]]):
                wrong.append((lo, hi))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    crop = CroppedSource(source, (1, 2, 3), (5, 6, 7))
    np.testing.assert_array_equal(crop.read((0, 0, 0), (4, 4, 4))[0], stored[1:5, 2:6, 3:7])


def test_decoded_chunks_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "v.zarr"
    source = open_source(write(folder, "zarr2", ramp((4, 4, 4), "uint8") + 1))
    first = source.read((0, 0, 0), (4, 4, 4))
    (folder / "0.0.0").unlink()
    np.testing.assert_array_equal(source.read((0, 0, 0), (4, 4, 4)), first)
    source.close()
    assert not source.read((0, 0, 0), (4, 4, 4)).any()


@pytest.fixture(params=[404, 403])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def send_error(self, *args: Any) -> None:
            # Buckets that may not be listed refuse what isn't there.
            super().send_error(request.param)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5", "precomputed"])
def test_over_http(tmp_path: Path, server: str, kind: str) -> None:
    stored = ramp((5, 6, 7), "uint16")
    folder = named(tmp_path, kind)
    write(folder, kind, stored)
    for scheme in ("", {"zarr2": "zarr", "zarr3": "zarr"}.get(kind, kind) + "://"):
        source = open_source(f"{scheme}{server}/{folder.name}")
        np.testing.assert_array_equal(source.read((1, 1, 1), (5, 6, 7))[0], stored[1:, 1:, 1:])
    with pytest.raises(DataError, match=r"no metadata of Zarr, N5 or Precomputed are there .* Or you may not"):
        _ = open_source(f"{server}/nothing.zarr").shape


def test_a_server_that_is_away_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_PATIENCE", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"})
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/x\.zarr can't be opened") as caught:
        _ = open_source("http://127.0.0.1:9/x.zarr").shape
    assert may_pass(caught.value)


def test_which_addresses_are_stores() -> None:
    for address in ("x.zarr", "a/x.ZARR/labels", "x.n5:raw", "precomputed://x", "gs://b/x", "https://h/x", "file:///x"):
        assert is_store(address)
    for address in ("x.h5:raw", "x.npy", "x.h5:a.b", "x.zarrs"):
        assert not is_store(address)
    assert local_path("zarr://a/x.zarr:raw") == Path("a/x.zarr/raw")
    assert local_path("precomputed://file:///a%20b/x") == Path("/a b/x")
    assert local_path("zarr://s3://bucket/x.zarr") is None


def test_without_the_package_the_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "v.zarr").mkdir()
    code = (
        "import sys; sys.modules['tensorstore'] = None\n"
        "from elektronn_tui.data import open_source\n"
        f"open_source('{tmp_path}/v.zarr').shape"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "pip install 'elektronn-tui[tensorstore]'" in done.stderr


def test_real_precomputed_of_an_encoding_that_is_not_read(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "pinky40" / "precomputed"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with pytest.raises(DataError, match=r"scale 32_32_40 are encoded as 'compresso'; raw, .* can be read"):
        _ = open_source(f"precomputed://{folder}/32_32_40").shape
    # The same store as if its chunks were raw: they are still compressed as files.
    shutil.copytree(folder, tmp_path / "p")
    (tmp_path / "p" / "info").write_text((folder / "info").read_text().replace("compresso", "raw"))
    with pytest.raises(DataError, match="compressed as files"):
        _ = open_source(f"precomputed://{tmp_path}/p/32_32_40").shape

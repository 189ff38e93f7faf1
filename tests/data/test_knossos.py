"""KNOSSOS data sets: what their files say, boxes of cubes, several threads, and what is wrong with damaged ones."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from elektronn_tui.data import KnossosSource, open_source, write_knossos
from elektronn_tui.data import knossos as knossos_module
from elektronn_tui.data.knossos_conf import read_layers
from elektronn_tui.data.knossos_cubes import snappy_cube
from elektronn_tui.errors import DataError, ExperimentError

CONF = """\
experiment name "j0126_mag1";
boundary x 300;
boundary y 130;
boundary z 129;
what is this? nobody knows;
scale x 10.0;
scale y 10;
scale z 20.5;
magnification 1;
"""


def voxels(*shape: int, dtype: str = "uint8", high: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def old_data_set(root: Path, volume: np.ndarray, *, prefix: str = "", mag: int = 1, without: tuple = ()) -> None:
    """Write cubes of 128³ by hand, as the first tools of KNOSSOS did: each conf in its mag's folder."""
    folder = root / f"{prefix}mag{mag}"
    folder.mkdir(parents=True)
    (folder / "knossos.conf").write_text(CONF)
    padded = np.zeros([-(-n // 128) * 128 for n in volume.shape], np.uint8)
    padded[tuple(slice(n) for n in volume.shape)] = volume
    for z in range(padded.shape[0] // 128):
        for y in range(padded.shape[1] // 128):
            for x in range(padded.shape[2] // 128):
                if (z, y, x) in without:
                    continue
                place = folder / f"x{x:04d}/y{y:04d}/z{z:04d}"
                place.mkdir(parents=True)
                cube = padded[z * 128 : z * 128 + 128, y * 128 : y * 128 + 128, x * 128 : x * 128 + 128]
                cube.tofile(place / f"j0126_mag{mag}_x{x:04d}_y{y:04d}_z{z:04d}.raw")


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return voxels(129, 130, 300)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A data set of cubes of 16³ in three mags."""
    volume = voxels(37, 50, 61)
    write_knossos(volume, tmp_path / "set", experiment="ex", mags=(1, 2, 4), cube_shape=(16, 16, 16))
    return tmp_path / "set", volume


@pytest.mark.parametrize("prefix", ["", "j0126_", "anything_"])
def test_old_data_set_with_prefix_mags_and_missing_cube(tmp_path: Path, volume: np.ndarray, prefix: str) -> None:
    half = volume[::2, ::2, ::2]
    old_data_set(tmp_path, volume, prefix=prefix, without=((0, 1, 2),))
    old_data_set(tmp_path, half, prefix=prefix, mag=2)
    source = open_source(tmp_path)
    assert (source.shape, source.dtype, source.channels) == ((129, 130, 300), np.uint8, 1)
    assert source.voxel_size == (20.5, 10.0, 10.0)
    expected = volume.copy()
    expected[:128, 128:, 256:] = 0
    np.testing.assert_array_equal(source.read((0, 0, 0), (129, 130, 300))[0], expected)
    np.testing.assert_array_equal(source[128], volume[128])

    above = open_source(f"{tmp_path}:mag2")
    assert (above.shape, above.voxel_size) == ((65, 65, 150), (41.0, 20.0, 20.0))
    np.testing.assert_array_equal(above[-1], half[-1])
    for same in (tmp_path / f"{prefix}mag2", tmp_path / f"{prefix}mag2" / "knossos.conf"):
        assert open_source(same).shape == above.shape
    with pytest.raises(DataError, match="no mag 3; there are mag1, mag2"):
        open_source(tmp_path, mag=3).shape  # noqa: B018


def test_missing_cube_is_an_error_where_asked_for(tmp_path: Path, volume: np.ndarray) -> None:
    old_data_set(tmp_path, volume, without=((0, 1, 2),))
    source = open_source(tmp_path, missing="error")
    source.read((0, 0, 0), (128, 128, 300))
    with pytest.raises(DataError, match=r"x0002_y0001_z0000\.raw doesn't exist"):
        source.read((0, 120, 250), (1, 130, 300))
    assert open_source(tmp_path, fill_value=7)[0, 129, 299] == 7


@pytest.mark.parametrize(
    ("format", "dtype", "cubes"),
    [
        ("raw", "uint8", (16, 16, 16)),
        ("raw", "uint16", (8, 16, 20)),
        ("raw", "float32", (7, 5, 9)),
        ("png", "uint8", (16, 16, 16)),
        ("png", "uint16", (8, 16, 20)),
        ("seg.sz.zip", "uint64", (16, 16, 16)),
        ("seg.sz.zip", "uint32", (8, 5, 16)),
    ],
)
def test_round_trip(tmp_path: Path, format: str, dtype: str, cubes: tuple) -> None:
    volume = voxels(19, 23, 41, dtype=dtype, high=60_000 if dtype == "uint16" else 255)
    if dtype == "uint64":
        volume[3, 4, 5] = 2**64 - 1
    conf = write_knossos(
        volume, tmp_path, experiment="ex", mags=(1, 2), cube_shape=cubes, format=format, voxel_size=(30, 10, 10)
    )
    source = open_source(conf)
    stored = np.uint64 if format == "seg.sz.zip" else volume.dtype
    assert (source.dtype, source.cube_shape, source.encoding) == (stored, cubes, format)
    for lo, hi in [((0, 0, 0), (19, 23, 41)), ((5, 4, 3), (18, 20, 40)), ((18, 22, 40), (19, 23, 41))]:
        cut = tuple(slice(l, h) for l, h in zip(lo, hi, strict=True))
        np.testing.assert_array_equal(source.read(lo, hi)[0], volume[cut])
    above = open_source(f"{conf}:mag2")
    assert (above.shape, above.voxel_size) == ((10, 12, 21), (60.0, 20.0, 20.0))
    if format == "seg.sz.zip":
        np.testing.assert_array_equal(above[...], volume[::2, ::2, ::2])
    else:
        np.testing.assert_allclose(above[4, 5, 6], volume[8:10, 10:12, 12:14].mean(dtype=float), atol=0.5)
        np.testing.assert_allclose(above[-1, -1, -1], volume[18, 22, 40])


def test_jpg_is_near(tmp_path: Path) -> None:
    volume = np.add.outer(np.arange(16), np.add.outer(np.arange(24), np.arange(30))).astype(np.uint8)
    write_knossos(volume, tmp_path, experiment="ex", cube_shape=(16, 16, 16), format="jpg")
    assert np.abs(open_source(tmp_path)[...].astype(int) - volume).max() < 12


@pytest.mark.parametrize(
    "index",
    [
        np.s_[3],
        np.s_[-1, -1, -1],
        np.s_[:, :, 60],
        np.s_[..., 5],
        np.s_[2:-3, None:7, -9:None],
        np.s_[::3, 1::7, ::-1],
        np.s_[30:2:-5, ...],
        np.s_[5:5],
        np.s_[1, ..., 2, 3],
        np.s_[30:100],
    ],
)
def test_slices_as_numpy_does(small: tuple[Path, np.ndarray], index: object) -> None:
    root, volume = small
    found = open_source(root)[index]
    np.testing.assert_array_equal(found, volume[index])
    assert found.shape == volume[index].shape


@pytest.mark.parametrize("index", [37, (0, 0, 0, 0), "x", (0, 1.5), (..., ...)])
def test_slices_that_do_not_fit(small: tuple[Path, np.ndarray], index: object) -> None:
    with pytest.raises(IndexError):
        open_source(small[0])[index]


def test_pickles_as_its_address(small: tuple[Path, np.ndarray]) -> None:
    root, _ = small
    source = open_source(f"knossos://{root}:mag2", cache_bytes=10**6, offset=(1, 2, 3))
    source.read((0, 0, 0), source.shape)
    content = pickle.dumps(source)
    assert len(content) < 600
    again = pickle.loads(content)
    assert (again.offset, again.mag, again.mags) == ((1, 2, 3), 2, (1, 2, 4))
    np.testing.assert_array_equal(again[...], source[...])


def test_each_cube_is_loaded_once_for_all_threads(
    small: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, volume = small
    loaded, lock = [], threading.Lock()
    read_raw = knossos_module.read_raw

    def counted(path: Path, *more: object) -> np.ndarray:
        with lock:
            loaded.append(path)
        return read_raw(path, *more)

    monkeypatch.setattr(knossos_module, "read_raw", counted)
    source = open_source(root, threads=3)
    barrier = threading.Barrier(6)

    def read(_: int) -> np.ndarray:
        barrier.wait()
        return source.read((0, 0, 0), source.shape)[0]

    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(read, range(6)):
            np.testing.assert_array_equal(found, volume)
    assert len(loaded) == len(set(loaded)) == 3 * 4 * 4
    stats = source.stats()
    assert stats is not None
    assert stats.misses == 48


def test_cubes_of_one_box_are_loaded_side_by_side(
    small: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, volume = small
    both = threading.Barrier(2, timeout=20)
    read_raw = knossos_module.read_raw

    def meet(*what: object) -> np.ndarray:
        both.wait()
        return read_raw(*what)

    monkeypatch.setattr(knossos_module, "read_raw", meet)
    source = open_source(root, threads=2)
    np.testing.assert_array_equal(source.read((0, 0, 0), (16, 32, 16))[0], volume[:16, :32, :16])


def test_prefetch_loads_what_a_read_then_finds(small: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    root, volume = small
    loaded = threading.Semaphore(0)
    read_raw = knossos_module.read_raw

    def told(*what: object) -> np.ndarray:
        cut = read_raw(*what)
        loaded.release()
        return cut

    monkeypatch.setattr(knossos_module, "read_raw", told)
    source = open_source(root)
    source.prefetch([((0, 0, 0), (16, 16, 16)), ((20, 0, 0), (37, 10, 10))])
    for _ in range(3):
        assert loaded.acquire(timeout=20)
    np.testing.assert_array_equal(source.read((0, 0, 0), (37, 16, 16))[0], volume[:, :16, :16])
    assert not loaded.acquire(blocking=False)


def test_cache_keeps_to_its_budget(small: tuple[Path, np.ndarray]) -> None:
    root, volume = small
    source = open_source(root, cache_bytes=5 * 16**3)
    np.testing.assert_array_equal(source[...], volume)
    stats = source.stats()
    assert stats is not None
    assert stats.bytes <= stats.limit == 5 * 16**3
    assert stats.evicted > 0
    source.close()
    assert source.stats() is None
    np.testing.assert_array_equal(source[...], volume)


def test_toml_of_several_layers(tmp_path: Path) -> None:
    image, ids = voxels(20, 20, 20), voxels(20, 20, 20, dtype="uint64")
    for name, what, format in (("em", image, "png"), ("cells", ids, "seg.sz.zip")):
        write_knossos(what, tmp_path / name, experiment=name, cube_shape=(16, 8, 16), format=format)
    (tmp_path / "all.k.toml").write_text("")
    text = "".join(
        (tmp_path / n / f"{n}.k.toml").read_text().replace('URL = ""', f'URL = "file://{tmp_path / n}"')
        for n in ("em", "cells")
    )
    conf = tmp_path / "all.k.toml"
    conf.write_text(text)
    np.testing.assert_array_equal(open_source(tmp_path)[...], image)
    np.testing.assert_array_equal(open_source(f"{conf}:cells:mag1")[...], ids)
    with pytest.raises(DataError, match=r"no layer 'cell'; it has em, cells\. Did you mean 'cells'"):
        open_source(conf, layer="cell").shape  # noqa: B018
    conf.write_text(text.replace('"knossos"', '"precomputed"'))
    with pytest.raises(DataError, match="precomputed://"):
        open_source(conf).shape  # noqa: B018


def test_pyk_conf(tmp_path: Path) -> None:
    volume = voxels(20, 21, 22, dtype="uint8")
    write_knossos(volume, tmp_path, experiment="ex", mags=(1, 2), cube_shape=(8, 8, 8), format="png")
    (tmp_path / "knossos.conf").unlink()
    (tmp_path / "ex.pyk.conf").write_text(
        "[Dataset]\n_BaseName = ex\n_BaseURL = \n_ServerFormat = knossos\n_DataScale = 10.0,10.0,25.0,20.0,20.0,25.0,\n"
        "_FileType = 2\n_Extent = 22,21,20\n_CubeSize = 8,8,8\n_BaseExt = .png\n"
    )
    source = open_source(tmp_path)
    assert source.voxel_size == (25.0, 10.0, 10.0)
    np.testing.assert_array_equal(source[...], volume)
    # The second level has the z of the first: the scales say so, and mag2 is the level's number.
    assert open_source(f"{tmp_path}:mag2").shape == (20, 11, 11)


def test_conf_of_a_mag_without_mag1_states_that_mag(tmp_path: Path, volume: np.ndarray) -> None:
    old_data_set(tmp_path, volume, mag=2)
    source = open_source(tmp_path)
    assert (source.mag, source.shape, source.voxel_size) == (2, (129, 130, 300), (20.5, 10.0, 10.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONF.replace("boundary y 130;", "boundary y many;"), "lacks a readable line 'boundary y VALUE;'"),
        (CONF.replace("scale y 10;", "scale y 0;"), "both have to be positive"),
        (CONF + "ftp_mode host.org /path user secret 30000\n", "lie on a server"),
        ("", "lacks a readable line 'experiment name VALUE;'"),
    ],
)
def test_conf_that_does_not_do(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mag1").mkdir()
    (tmp_path / "knossos.conf").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_layers(tmp_path / "knossos.conf")
    assert "knossos.conf" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("VoxelSize_nm", "VoxelSize"), "lacks VoxelSize_nm"),
        (('".png"', '".webp"'), "cubes of webp can't be read; raw, png, jpg, seg.sz.zip can"),
        (('DataType = "uint8"', 'DataType = "grey"'), "DataType='grey'"),
        (("[[Layer]]", "[[Layers]]"), r"no table \[\[Layer\]\]"),
        (("[[Layer]]", "[[Layer"), "no TOML"),
        (('URL = ""', 'URL = "https://host/x"'), "lie on a server"),
        (("[8, 8, 4]", "[8, 8]"), r"cube shape is \[8, 8\]"),
        (("NumChannels = 1", "NumChannels = 3"), "NumChannels=3"),
    ],
)
def test_toml_that_does_not_do(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    conf = write_knossos(voxels(8, 8, 8), tmp_path, experiment="ex", cube_shape=(4, 8, 8), format="png")
    text = conf.read_text()
    assert change[0] in text
    conf.write_text(text.replace(*change))
    with pytest.raises(DataError, match=message) as error:
        open_source(conf).shape  # noqa: B018
    assert str(conf) in str(error.value)


@pytest.mark.parametrize("format", ["raw", "png", "seg.sz.zip"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign"])
def test_damaged_cube_is_named(tmp_path: Path, format: str, damage: str) -> None:
    write_knossos(voxels(16, 16, 32), tmp_path, experiment="ex", cube_shape=(16, 16, 16), format=format)
    cube = next(tmp_path.rglob(f"*x0001*.{format}"))
    content = cube.read_bytes()
    cube.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "foreign": b"no cube" * 99}[damage])
    source = open_source(tmp_path)
    source.read((0, 0, 0), (16, 16, 16))
    for _ in range(2):
        with pytest.raises(DataError, match="truncated") as error:
            source.read((0, 0, 0), (16, 16, 32))
        assert str(cube) in str(error.value)
    cube.write_bytes(content)
    source.read((0, 0, 0), (16, 16, 32))


@pytest.mark.parametrize("format", ["raw", "png", "seg.sz.zip"])
def test_cubes_of_another_size_are_refused(tmp_path: Path, format: str) -> None:
    write_knossos(voxels(16, 16, 16), tmp_path, experiment="ex", cube_shape=(16, 16, 16), format=format)
    conf = tmp_path / "knossos.conf"
    conf.write_text(conf.read_text().replace("cube_edge_length 16", "cube_edge_length 8"))
    with pytest.raises(DataError, match=r"\(8, 8, 8\)"):
        open_source(tmp_path).read((0, 0, 0), (1, 1, 1))


def test_encoding_without_cubes_is_no_empty_volume(small: tuple[Path, np.ndarray]) -> None:
    root, _ = small
    with pytest.raises(DataError, match=r"no cube '\*\.seg\.sz\.zip'; it holds raw"):
        open_source(f"{root}:seg.sz.zip").shape  # noqa: B018


def test_disk_that_vanishes_is_no_empty_volume(small: tuple[Path, np.ndarray]) -> None:
    root, volume = small
    source = open_source(root)
    source.read((0, 0, 0), (1, 1, 1))
    root.rename(root.with_name("away"))
    with pytest.raises(DataError, match="is gone; is the disk away"):
        source.read((0, 0, 0), source.shape)
    root.with_name("away").rename(root)
    np.testing.assert_array_equal(source[...], volume)


def test_cube_that_may_not_be_read(small: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> np.ndarray:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(knossos_module, "read_raw", refuse)
    with pytest.raises(DataError, match=r"\.raw can't be read: Permission denied"):
        open_source(small[0]).read((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("where", "message"),
    [("nothing/here", "doesn't exist"), ("", "holds no KNOSSOS data set"), ("knossos.cnf", "doesn't exist")],
)
def test_path_without_data_set(tmp_path: Path, where: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        KnossosSource(tmp_path / where).shape  # noqa: B018


def test_several_confs_have_to_be_told_apart(small: tuple[Path, np.ndarray]) -> None:
    root, _ = small
    (root / "other.k.conf").write_text((root / "knossos.conf").read_text())
    with pytest.raises(DataError, match=r"name one of knossos\.conf, other\.k\.conf"):
        open_source(root).shape  # noqa: B018
    assert open_source(root / "other.k.conf").shape == (37, 50, 61)


def test_writing_refuses_goes_on_and_keeps_cubes(tmp_path: Path) -> None:
    volume = voxels(16, 16, 32)
    options = {"experiment": "ex", "cube_shape": (16, 16, 16)}
    write_knossos(volume, tmp_path, **options)
    first, second = sorted(tmp_path.rglob("*.raw"))
    with pytest.raises(DataError, match="exists; nothing was written"):
        write_knossos(volume, tmp_path, **options)
    second.unlink()
    before = first.stat().st_mtime_ns
    write_knossos(volume, tmp_path, resume=True, **options)
    assert first.stat().st_mtime_ns == before
    np.testing.assert_array_equal(open_source(tmp_path)[...], volume)
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(DataError, match="another data set"):
        write_knossos(volume[1:], tmp_path, resume=True, **options)


@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        (voxels(4, 4, 4), {"mags": (2, 4)}, "begin with 1"),
        (voxels(4, 4, 4), {"mags": (1, 3)}, "powers of two"),
        (voxels(4, 4, 4), {"format": "webp"}, "use one of raw, png, jpg, seg.sz.zip"),
        (voxels(4, 4, 4, dtype="float32"), {"format": "png"}, "uint8 or uint16"),
        (voxels(4, 4, 4, dtype="float32"), {"format": "seg.sz.zip"}, "integers"),
        (voxels(4, 4, 4, dtype="int32") - 9, {"format": "seg.sz.zip"}, "negative ids"),
        (voxels(2, 4, 4, 4), {}, "2 channels"),
        (voxels(4, 4, 4), {"experiment": "a b"}, "experiment='a b'"),
        (voxels(4, 4, 4), {"experiment": "ex_mag1"}, "no mag at its end"),
        (voxels(4, 4, 4), {"cube_shape": (0, 4, 4)}, "cube_shape"),
    ],
)
def test_what_can_not_be_written(tmp_path: Path, volume: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_knossos(volume, tmp_path, **{"experiment": "ex", "cube_shape": (4, 4, 4), **options})


def test_experiments_take_data_sets(small: tuple[Path, np.ndarray]) -> None:
    from elektronn_tui.training.datasets import VolumeData

    root, _ = small
    VolumeData(volumes=[(str(root), f"{root}:mag1")]).check_files()
    with pytest.raises(ExperimentError, match="there is no file or folder"):
        VolumeData(volumes=[(str(root), "ids.k.zip")]).check_files()


def test_known_snappy_block() -> None:
    # By the format's description: length 16, a literal of one byte, then a copy of 15 bytes from one byte before.
    block = bytes([16, 0x00, 0x05, (15 - 1) << 2 | 2, 1, 0])
    np.testing.assert_array_equal(snappy_cube(block, (1, 1, 2), "x"), np.full((1, 1, 2), 0x0505050505050505, np.uint64))

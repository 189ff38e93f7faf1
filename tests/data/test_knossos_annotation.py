"""Annotations of KNOSSOS as labels: the annotated box, cubes in the zip, and the mergelist."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import cramjam
import numpy as np
import pytest

from elektronn_tui.data import KnossosAnnotation, Pair, open_source
from elektronn_tui.data.knossos_annotation import read_mergelist
from elektronn_tui.errors import DataError

AREA = '<MovementArea min.x="5" min.y="6" min.z="7" size.x="20" size.y="11" size.z="10"/>'
CUBE = (16, 16, 16)
MERGELIST = "7 0 0 0 1 2\n4 5 6\ncell\n\n9 1 0 3\n1 2 3 255 0 0\n\nunsure\n"


def parameters(area: str) -> str:
    scale = '<scale x="10.0" y="10.0" z="20.0"/>'
    return f'<?xml version="1.0"?><things><parameters><experiment name="ex"/>{scale}{area}</parameters></things>'


def k_zip(
    path: Path, ids: np.ndarray, *, area: str = AREA, mergelist: str | None = None, without: tuple = ((0, 0, 1),)
) -> Path:
    """Write (z, y, x) ids, a whole number of cubes of 16³, as KNOSSOS saves them."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("annotation.xml", parameters(area))
        if mergelist is not None:
            archive.writestr("mergelist.txt", mergelist)
        for z, y, x in np.ndindex(*(n // 16 for n in ids.shape)):
            if (z, y, x) not in without:
                cube = ids[z * 16 : z * 16 + 16, y * 16 : y * 16 + 16, x * 16 : x * 16 + 16]
                block = bytes(cramjam.snappy.compress_raw(cube.astype("<u8").tobytes()))
                archive.writestr(f"ex_mag1_mag1x{x}y{y}z{z}.seg.sz", block)
    return path


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, (32, 32, 48)).astype(np.uint64)


def with_gap(ids: np.ndarray) -> np.ndarray:
    ids = ids.copy()
    ids[:16, :16, 16:32] = 0
    return ids


def test_movement_area_is_the_box(tmp_path: Path, ids: np.ndarray) -> None:
    source = open_source(k_zip(tmp_path / "a.k.zip", ids), cube_shape=CUBE)
    assert isinstance(source, KnossosAnnotation)
    assert source.movement_area == source.box == ((7, 6, 5), (17, 17, 25))
    assert (source.shape, source.dtype, source.experiment) == ((10, 11, 20), np.uint64, "ex")
    assert (source.voxel_size, source.offset) == ((20.0, 10.0, 10.0), (140.0, 60.0, 50.0))
    expected = with_gap(ids)[7:17, 6:17, 5:25]
    np.testing.assert_array_equal(source.read((0, 0, 0), source.shape)[0], expected)
    np.testing.assert_array_equal(source[-1, 2:-1, ::3], expected[-1, 2:-1, ::3])
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[...], expected)


def test_older_files_state_the_end(tmp_path: Path, ids: np.ndarray) -> None:
    area = AREA.replace("size.x", "max.x").replace("size.y", "max.y").replace("size.z", "max.z")
    source = open_source(k_zip(tmp_path / "a.k.zip", ids, area=area), cube_shape=CUBE)
    assert source.shape == (3, 5, 15)


@pytest.mark.parametrize(
    "area", ["", '<MovementArea min.x="0" min.y="0" min.z="0" size.x="99" size.y="99" size.z="99"/>']
)
def test_unconfined_annotation_is_what_was_painted(tmp_path: Path, ids: np.ndarray, area: str) -> None:
    source = open_source(k_zip(tmp_path / "a.k.zip", ids, area=area), cube_shape=CUBE)
    assert (source.shape, source.offset) == ((32, 32, 48), (0.0, 0.0, 0.0))
    np.testing.assert_array_equal(source[...], with_gap(ids))


def test_mergelist_maps_to_objects_and_absent_ids_to_background(tmp_path: Path, ids: np.ndarray) -> None:
    source = open_source(k_zip(tmp_path / "a.k.zip", ids, mergelist=MERGELIST, without=()), cube_shape=CUBE)
    np.testing.assert_array_equal(source[...], np.array([0, 7, 7, 9, 0])[ids[7:17, 6:17, 5:25].astype(int)])
    empty = open_source(k_zip(tmp_path / "b.k.zip", ids, mergelist=""), cube_shape=CUBE)
    assert not empty[...].any()


def test_pair_places_the_annotation_by_itself(tmp_path: Path, ids: np.ndarray) -> None:
    from elektronn_tui.data import ArraySource

    raw = ArraySource(np.zeros(ids.shape, np.uint8), voxel_size=(20, 10, 10))
    pair = Pair(raw, open_source(k_zip(tmp_path / "a.k.zip", ids), cube_shape=CUBE))
    assert pair.target_offset == (7, 6, 5)


def test_overlapping_objects() -> None:
    content = b"7 0 0 1 2\n\n\n\n9 0 0 2 3\n\n\n\n"
    with pytest.raises(DataError, match=r"m: sub-object 2 belongs to the objects 7 and 9"):
        read_mergelist(content, "m")
    assert read_mergelist(content, "m", "first")[1].tolist() == [7, 7, 9]
    assert read_mergelist(content, "m", "last")[1].tolist() == [7, 9, 9]


@pytest.mark.parametrize(
    "content", [b"7 0\n\n\n\n", b"a 0 0 1\n\n\n\n", b"7 0 0 -1\n\n\n\n", b"7 0 0 1\n\n\n\n\ncell\n"]
)
def test_mergelist_of_another_form(content: bytes) -> None:
    with pytest.raises(DataError, match="mergelist is"):
        read_mergelist(content, "m")


def test_what_is_no_annotation(tmp_path: Path, ids: np.ndarray) -> None:
    file = k_zip(tmp_path / "a.k.zip", ids)
    content = file.read_bytes()

    def refused(message: str, **options: object) -> None:
        with pytest.raises(DataError, match=message) as error:
            open_source(file, **{"cube_shape": CUBE, **options})[...]
        assert str(file) in str(error.value)

    refused("no segmentation of mag 2 .*it has one of mag 1", mag=2)
    refused(r"a segmentation cube of \(128, 128, 128\)", cube_shape=(128, 128, 128))
    file.write_bytes(content[: len(content) // 2])
    refused("damaged or truncated")
    file.unlink()
    refused("doesn't exist")
    k_zip(file, ids, area='<MovementArea min.x="5"/>')
    refused("MovementArea can't be read")
    k_zip(file, ids, area="<MovementArea")
    refused("no XML")
    k_zip(file, ids, without=tuple(np.ndindex(2, 2, 3)))
    refused("no segmentation of mag 1")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ex_mag1x0y0z0.seg.sz", b"no snappy")
    refused("holds 110 bytes")
    with zipfile.ZipFile(file, "w") as archive:
        # The right length, and nothing behind it.
        archive.writestr("ex_mag1x0y0z0.seg.sz", bytes([0x80, 0x80, 2, 0xFF]))
    refused("can't be unpacked by snappy")

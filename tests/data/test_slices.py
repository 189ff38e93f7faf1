from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from elektronn_tui.data import SlicesSource, Source, open_source
from elektronn_tui.data.slices import natural_order
from elektronn_tui.errors import DataError

SHAPE = (12, 15, 17)


def sections(folder: Path, stored: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir(exist_ok=True)
    for z, section in enumerate(stored):
        if suffix == ".tif":
            tifffile.imwrite(folder / f"s{z}.tif", section, photometric="rgb" if section.ndim == 3 else "minisblack")
        else:
            Image.fromarray(section).save(folder / f"s{z}{suffix}")
    return folder


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) * 7 % 65521).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", "uint8"),
        (".png", "uint16"),
        (".tif", "uint8"),
        (".tif", "uint16"),
        (".tif", "float32"),
        (".tif", "uint64"),
    ],
)
def test_round_trip_in_natural_order(tmp_path: Path, suffix: str, dtype: str) -> None:
    stored = ramp(SHAPE, dtype)
    source = open_source(sections(tmp_path / "stack", stored, suffix), voxel_size=(40, 4, 4))
    assert isinstance(source, SlicesSource)
    assert isinstance(source, Source)
    assert (source.shape, source.channels, source.dtype) == (SHAPE, 1, np.dtype(dtype))
    assert source.voxel_size == (40, 4, 4)
    np.testing.assert_array_equal(source.read((0, 0, 0), SHAPE)[0], stored)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read((2, 3, 4), (11, 14, 17))[0], stored[2:11, 3:14, 4:17])
    assert len(pickle.dumps(source)) < 1000


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_rgb(tmp_path: Path, suffix: str) -> None:
    stored = ramp((*SHAPE, 3), "uint8")
    source = open_source(sections(tmp_path / "stack", stored, suffix))
    np.testing.assert_array_equal(source.read((1, 2, 3), (5, 6, 7)), np.moveaxis(stored[1:5, 2:6, 3:7], -1, 0))


def test_jpeg(tmp_path: Path) -> None:
    source = open_source(sections(tmp_path / "stack", np.full(SHAPE, 100, np.uint8), ".jpg"))
    assert np.unique(source.read((0, 0, 0), SHAPE)).tolist() == [100]


def test_palettes_hold_labels_by_their_index(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2))
    image.putpalette([255 - n for n in range(12)])
    image.save(tmp_path / "s.png")
    assert open_source(tmp_path).read((0, 0, 0), (1, 2, 2)).ravel().tolist() == [0, 1, 2, 3]


def test_sections_are_read_when_needed_and_kept_in_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from elektronn_tui.data import slices

    decoded = []
    stored = ramp(SHAPE, "uint8")
    sections(tmp_path / "stack", stored)
    decode = slices._decoded
    monkeypatch.setattr(slices, "_decoded", lambda path: (decoded.append(path.name), decode(path))[1])
    source = SlicesSource(tmp_path / "stack", cache_bytes=3 * 15 * 17)
    assert source.shape == SHAPE
    assert decoded == ["s0.png", "s11.png"]
    decoded.clear()
    for _ in range(2):
        source.read((4, 0, 0), (7, 15, 17))
    assert decoded == ["s4.png", "s5.png", "s6.png"]
    source.read((0, 0, 0), SHAPE)
    stats = source.stats()
    assert stats is not None
    assert stats.bytes == 3 * 15 * 17


def test_patterns(tmp_path: Path) -> None:
    raw, labels = ramp(SHAPE, "uint8"), ramp(SHAPE, "uint16")
    for z in range(12):
        Image.fromarray(raw[z]).save(tmp_path / f"raw_{z}.png")
        Image.fromarray(labels[z]).save(tmp_path / f"labels_{z}.png")
    (tmp_path / "notes.txt").write_text("beside")
    (tmp_path / "._raw_0.png").write_text("of a Mac")
    np.testing.assert_array_equal(open_source(tmp_path / "raw_*.png").read((0, 0, 0), SHAPE)[0], raw)
    np.testing.assert_array_equal(open_source(tmp_path / "labels_*").read((0, 0, 0), SHAPE)[0], labels)


def test_natural_order() -> None:
    names = ["z10.png", "Z9.png", "z9b.png", "z010.png", "10.png", "9.png", "a²1.png"]
    assert sorted(names, key=natural_order) == [
        "9.png",
        "10.png",
        "a²1.png",
        "Z9.png",
        "z9b.png",
        "z010.png",
        "z10.png",
    ]


def test_sections_that_do_not_fit(tmp_path: Path) -> None:
    folder = sections(tmp_path / "stack", ramp(SHAPE, "uint8"))
    source = SlicesSource(folder)
    assert source.shape == SHAPE
    Image.fromarray(ramp((15, 16), "uint8")).save(folder / "s5.png")
    with pytest.raises(DataError, match=r"s5\.png is \(15, 16\) of uint8, but s0\.png is \(15, 17\) of uint8"):
        source.read((0, 0, 0), SHAPE)
    (folder / "s5.png").write_bytes((folder / "s4.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"s5\.png can't be decoded"):
        source.read((4, 0, 0), (6, 1, 1))
    (folder / "s5.png").unlink()
    with pytest.raises(
        DataError, match=r"was replaced: its shape is \(11, 15, 17\) of uint8 now and was \(12, 15, 17\)"
    ):
        source.read((4, 0, 0), (6, 1, 1))
    Image.fromarray(ramp((15, 17), "uint16")).save(folder / "s11.png")
    with pytest.raises(DataError, match=r"s11\.png is .* of uint16"):
        _ = SlicesSource(folder).shape


def test_a_section_that_is_changed_under_us(tmp_path: Path) -> None:
    folder = sections(tmp_path / "stack", ramp(SHAPE, "uint8"))
    source = SlicesSource(folder, cache_bytes=0)
    source.read((0, 0, 0), SHAPE)
    Image.fromarray(np.full((15, 17), 9, np.uint8)).save(folder / "s3.png")
    os.utime(folder / "s3.png", ns=(1, 1))
    with pytest.raises(DataError, match=r"s3\.png was changed after it had been read"):
        source.read((3, 0, 0), (4, 1, 1))
    assert source.read((3, 0, 0), (4, 1, 1)) == 9


def test_folders_that_are_no_volume(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no section"):
        _ = open_source(tmp_path).shape
    with pytest.raises(DataError, match="doesn't exist, or is no folder"):
        _ = open_source(tmp_path / "nowhere" / "*.png").shape
    sections(tmp_path / "mixed", ramp(SHAPE, "uint8"))
    sections(tmp_path / "mixed", ramp(SHAPE, "uint8"), ".tif")
    with pytest.raises(DataError, match=r"mixes kinds of files: 12 \.png, 12 \.tif"):
        _ = open_source(tmp_path / "mixed").shape
    tifffile.imwrite(tmp_path / "stack.tif", ramp(SHAPE, "uint8"), photometric="minisblack")
    with pytest.raises(DataError, match=r"stack\.tif has 12 pages"):
        _ = SlicesSource(tmp_path / "*.tif").shape
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png is no image"):
        _ = open_source(tmp_path / "*.png").shape

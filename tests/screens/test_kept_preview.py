"""The preview of a run that ended shows what the trainer wrote, slice by slice and part by part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elektronn_tui.screens.kept_preview import newest_preview, preview_info, read_preview
from elektronn_tui.session.protocol import GetPreview
from elektronn_tui.training.previews import write_png


@pytest.fixture
def volumes() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: random.integers(0, 256, (8, 30, 40), dtype=np.uint8) for name in ("raw", "prediction", "target")}


@pytest.fixture
def path(tmp_path: Path, volumes: dict[str, np.ndarray]) -> Path:
    for step in (20, 100):
        write_png(tmp_path / "previews" / f"step-{step:09d}.png", volumes, along="image")
    found = newest_preview(tmp_path)
    assert found is not None
    return found


def test_what_is_told_of_it(path: Path):
    info = preview_info(path)
    assert (info.step, info.depth, info.along, info.height, info.width) == (100, 8, "image", 30, 40)
    assert (info.captions, info.slices) == (("raw", "prediction", "target"), (1, 3, 5, 7))


@pytest.mark.parametrize(("asked", "given"), [(None, 3), (0, 1), (4, 3), (5, 5), (99, 7)])
def test_the_nearest_slice_is_given(path: Path, volumes: dict[str, np.ndarray], asked: int | None, given: int):
    preview = read_preview(path, GetPreview(z=asked, height=30, width=40))
    assert preview.z == given
    for image in preview.images:
        assert image.pixels == volumes[image.caption][given].tobytes()


def test_a_part_is_cut_out_of_each_volume(path: Path, volumes: dict[str, np.ndarray]):
    preview = read_preview(path, GetPreview(z=5, height=15, width=20, zoom=2, centre_y=1, centre_x=0))
    assert preview.window == (15, 0, 15, 20)
    for image in preview.images:
        assert image.pixels == volumes[image.caption][5, 15:, :20].tobytes()


def test_a_file_that_does_not_say_what_lies_where_is_one_picture(tmp_path: Path):
    path = tmp_path / "step-000000007.png"
    picture = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(picture).save(path)
    info = preview_info(path)
    assert (info.step, info.depth, info.height, info.captions) == (7, 1, 0, ("",))
    assert read_preview(path, GetPreview(zoom=2)).images[0].pixels == picture.tobytes()

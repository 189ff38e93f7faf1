import numpy as np
import pytest

from elektronn_tui.data import Geometry
from elektronn_tui.training.pictures import COLOURS, GAP, UNKNOWN, draw_batch, draw_example, write_picture


def tints(picture, width):
    """Return the right half, where the target is, at one pixel a voxel."""
    factor = max(1, 384 // width)
    return picture[:, factor * width + GAP :][factor // 2 :: factor, factor // 2 :: factor].astype(int)


def is_near(colours, of, opacity):
    grey = (colours - opacity * np.array(of)) / (1 - opacity)
    return np.abs(grey - grey.mean(-1, keepdims=True)).max(-1) < 4


def test_the_target_lies_where_the_geometry_says():
    raw = np.random.default_rng(0).random((1, 5, 15, 20)).astype(np.float32)
    target = np.zeros((1, 1, 3, 4), np.int64)
    target[0, 0, 1, 2], target[0, 0, 0, 0] = 1, -1
    geometry = Geometry((5, 15, 20), (1, 3, 4), (2, 5, 5), (1, 2, 3))
    shown = tints(draw_example(raw, target, geometry), 20)[:15]
    whole = np.argwhere(is_near(shown, COLOURS[0], 0.5) & (np.ptp(shown, axis=-1) > 20))
    # Output voxel (1, 2) is centred on input voxel (7, 11): two rows and three columns stand for it.
    assert {tuple(at) for at in whole} == {(y, x) for y in (7, 8) for x in (10, 11, 12)}
    unknown = np.argwhere(is_near(shown, UNKNOWN, 0.4) & (np.ptp(shown, axis=-1) > 20))
    assert {tuple(at) for at in unknown} == {(y, x) for y in (5, 6) for x in (4, 5, 6)}


def test_a_volume_is_cut_along_y_too_and_an_image_is_not():
    volume, image = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    factor = 384 // 8
    assert draw_example(volume, None).shape == (8 * factor + GAP + 4 * factor, 8 * factor, 3)
    assert draw_example(image, np.array([3])).shape == (8 * factor, 8 * factor, 3)
    assert draw_example(volume[:, :1], np.zeros((1, 1, 8, 8), np.int64)).shape == (8 * factor, 16 * factor + GAP, 3)


@pytest.mark.parametrize(
    ("target", "marked"),
    [
        (np.array([0, 1, 2, 3]).reshape(1, 1, 1, 4), [False, True, True, True]),
        (np.array([[0, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1], [9, 9, 9, 9]]).reshape(4, 1, 1, 4), [True, False] * 2),
        (np.array([0.0, 2.0, np.nan, -2.0], np.float32).reshape(1, 1, 1, 4), [False, True, False, True]),
    ],
    ids=["classes", "affinities with ids", "values"],
)
def test_classes_cuts_and_values_are_coloured(target, marked):
    shown = tints(draw_example(np.zeros((1, 1, 1, 4), np.float32), target), 4)
    assert (np.ptp(shown[0], axis=-1) > 20).tolist() == marked


def test_a_batch_is_drawn_one_example_below_the_other():
    batch = {"raw": np.zeros((20, 1, 8, 8), np.float32), "target": np.zeros((20,), np.int64)}
    factor = 384 // 8
    assert draw_batch(batch).shape[0] == 8 * (8 * factor + GAP) - GAP
    with pytest.raises(ValueError, match=r"no images, but arrays of the shape \(5,\)"):
        draw_batch({"raw": np.zeros((2, 5))})


def test_a_picture_is_written_whole(tmp_path):
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    write_picture(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]

"""Images in half blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from elektronn_tui.screens.widgets.half_blocks import ImageView, Picture, draw_pictures, resample


def cell_colours(strip, x: int) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Upper and lower pixel of a cell."""
    start = 0
    for segment in strip:
        if start <= x < start + len(segment.text):
            style = segment.style
            lower = tuple(style.bgcolor.triplet) if style and style.bgcolor else None
            upper = tuple(style.color.triplet) if style and style.color else lower
            return upper, lower
        start += len(segment.text)
    raise AssertionError(x)


def test_two_pixels_a_cell() -> None:
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    (strip,) = draw_pictures([Picture(pixels)], 2, 1)
    assert cell_colours(strip, 0) == ((0, 0, 0), (255, 255, 255))
    assert cell_colours(strip, 1) == ((255, 255, 255), (0, 0, 0))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(1, 30),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_always_fills_the_size_it_was_given(y, x, width, height, count, rgb, plain) -> None:
    pixels = np.zeros((y, x, 3) if rgb else (y, x), np.uint8)
    labels = np.arange(y * x).reshape(y, x)
    strips = draw_pictures([Picture(pixels, "raw", labels)] * count, width, height, plain)
    assert len(strips) == height
    assert all(strip.cell_length == width == len(strip.text) for strip in strips)
    assert not plain or all(strip.text.isascii() for strip in strips)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
def test_resampling_keeps_the_mean_when_it_shrinks(y, x, new_y, new_x) -> None:
    pixels = np.random.default_rng(y * 31 + x).integers(0, 256, (y, x)).astype(np.uint8)
    new_y, new_x = min(new_y, y), min(new_x, x)
    small = resample(pixels, new_y, new_x)
    assert small.shape == (new_y, new_x)
    assert abs(float(small.mean()) - float(pixels.mean())) <= 0.51


def test_resampling_is_exact_for_whole_blocks() -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 4
    expected = pixels.reshape(2, 2, 2, 2).mean((1, 3))
    assert (resample(pixels, 2, 2) == expected).all()


def test_pixels_are_square() -> None:
    strips = draw_pictures([Picture(np.full((100, 100), 255, np.uint8))], 80, 10)
    lit = sum(cell_colours(strips[0], x)[0] == (255, 255, 255) for x in range(80))
    assert lit == 20


def test_sixteen_greys_and_the_colour_cube() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None], 2, 0)
    (strip,) = draw_pictures([Picture(ramp)], 256, 1)
    assert len({cell_colours(strip, x)[0] for x in range(256)}) == 16
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 250
    (strip,) = draw_pictures([Picture(red)], 2, 1)
    assert cell_colours(strip, 0)[0] == (255, 0, 0)


def test_boundaries_of_labels_are_drawn() -> None:
    labels = np.ones((4, 8), np.uint32)
    labels[:, 4:] = 2
    strips = draw_pictures([Picture(np.zeros((4, 8), np.uint8), "", labels)], 8, 2)
    shown = [cell_colours(strips[0], x)[0] for x in range(8)]
    assert [colour != (0, 0, 0) for colour in shown] == [x == 3 for x in range(8)]


class ImageApp(App):
    def compose(self) -> ComposeResult:
        yield ImageView()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_widget_shows_pictures_side_by_side(size: tuple[int, int]) -> None:
    app = ImageApp()
    async with app.run_test(size=size) as pilot:
        view = app.query_one(ImageView)
        grey = np.full((64, 64), 128, np.uint8)
        view.show(Picture(grey, "raw"), Picture(grey, "prediction"), Picture(grey, "target"))
        await pilot.pause()
        assert view.render_line(0).text.split() == ["raw", "prediction", "target"]
        assert view.cells_for_pixels() == (2 * (size[1] - 1), (size[0] - 4) // 3)
        painted: list[tuple] = []
        original = view.refresh
        view.refresh = lambda *regions, **kw: (painted.append(regions), original(*regions, **kw))[1]  # type: ignore[method-assign]
        view.show(Picture(grey, "raw"), Picture(grey, "prediction"), Picture(grey, "TARGET"))
        assert [region.y for region in painted[0]] == [0]

"""What is shown of a slice lies inside of it, fills the room, and is where it was asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elektronn_tui.session.previews import reduced
from elektronn_tui.session.window import voxels_a_pixel, window

sides = st.tuples(st.integers(1, 300), st.integers(1, 300))
parts = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(sides, sides, st.floats(1, 64), parts)
def test_a_window_lies_in_the_slice_and_fills_the_room(size, room, zoom, centre):
    part = window(size, room, zoom, centre)
    assert np.zeros(size)[part.slices].shape == (part.height, part.width)
    assert part.height >= 1
    assert part.width >= 1
    scale = voxels_a_pixel(size, room) / zoom
    for length, side, pixels in zip((part.height, part.width), size, room, strict=True):
        assert length == side or abs(length - max(pixels * scale, 1)) <= 0.5


@given(sides, sides, parts)
def test_zoom_1_shows_all(size, room, centre):
    part = window(size, room, 1.0, centre)
    assert (part.top, part.left, part.height, part.width) == (0, 0, *size)


@given(sides, sides, st.integers(0, 2**32))
def test_reduced_pictures_are_means_of_all_voxels_and_fit(size, room, seed):
    picture = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    small = reduced(picture, *room)
    assert small.shape[0] <= max(room[0], 1)
    assert small.shape[1] <= max(room[1], 1)
    rows, columns = small.shape
    for y, x in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        block = picture[
            y * size[0] // rows : (y + 1) * size[0] // rows, x * size[1] // columns : (x + 1) * size[1] // columns
        ]
        assert abs(float(block.mean()) - small[y, x]) <= 0.5

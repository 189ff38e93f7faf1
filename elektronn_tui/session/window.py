"""Which part of a slice is shown at a zoom: plain arithmetic that sessions and clients share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LARGEST_ZOOM", "Window", "voxels_a_pixel", "window"]

LARGEST_ZOOM = 256.0


@dataclass(frozen=True)
class Window:
    """A part of a slice, in voxels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the part, for an array (y, x)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def voxels_a_pixel(size: tuple[int, int], room: tuple[int, int]) -> float:
    """Return how many voxels one pixel has to stand for along an axis so that a whole slice fits.

    Parameters
    ----------
    size : (y, x)
        Of the slice, voxels.
    room : (y, x)
        Pixels that can be shown.
    """
    return max(size[0] / room[0], size[1] / room[1])


def window(
    size: tuple[int, int], room: tuple[int, int], zoom: float = 1.0, centre: tuple[float, float] = (0.5, 0.5)
) -> Window:
    """Return the part of a slice that is shown.

    Parameters
    ----------
    size : (y, x)
        Of the slice, voxels.
    room : (y, x)
        Pixels that can be shown.
    zoom : float
        How many times as large as when the whole slice fits, at least 1. What room is left along one axis is used.
    centre : (y, x)
        Middle of the part, from 0 to 1; moved so that the part lies inside of the slice.
    """
    scale = voxels_a_pixel(size, room) / zoom
    places = []
    for side, pixels, middle in zip(size, room, centre, strict=True):
        length = min(side, max(1, round(pixels * scale)))
        first = round(middle * side - length / 2)
        places.append((min(max(first, 0), side - length), length))
    (top, height), (left, width) = places
    return Window(top, left, height, width)

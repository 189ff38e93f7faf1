"""A compiled convolution along one axis, by rows."""

from __future__ import annotations

from typing import Any

from ._compiled import compiled

__all__ = ["convolve_axis"]


@compiled
def convolve_axis(values: Any, taps: Any, out: Any) -> None:
    """Write the sum over d of ``taps[d + r] * values[:, i + d, :]`` to ``out[:, i, :]`` (float32; r = len(taps) // 2).

    Beyond the ends there is nothing.
    """
    n_outer, length, n_inner = values.shape
    reach = taps.size // 2
    out[:] = 0
    if n_inner == 1:
        lines, sums = values.reshape(n_outer, length), out.reshape(n_outer, length)
        for a in range(n_outer):
            for d in range(max(-reach, 1 - length), min(reach, length - 1) + 1):
                _add(lines[a, max(d, 0) : length + min(d, 0)], taps[d + reach], sums[a, max(-d, 0) :])
        return
    for a in range(n_outer):
        for i in range(length):
            for d in range(max(-reach, -i), min(reach, length - 1 - i) + 1):
                _add(values[a, i + d], taps[d + reach], out[a, i])


@compiled
def _add(values: Any, tap: Any, out: Any) -> None:
    for i in range(values.size):
        out[i] += tap * values[i]

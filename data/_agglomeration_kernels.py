"""Compiled loops that join voxels along the edges of an affinity graph, the strongest first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compiled import compiled
from ._malis_kernels import _find, _sort

__all__ = ["edge_order", "join_seeds", "join_unless_apart", "number_segments"]

_ZERO = np.uint32(0x7FFFFFFF)  # the key of weight 0: those of larger weights are less


@compiled
def edge_order(keys: Any, nhood: Any, strides: Any, mask: Any, index: Any) -> Any:
    """Return the flat indices (of the dtype of `index`) of the edges of weight above 0, by descending weight.

    `keys` (E, z, y, x) are those of `edge_keys`; `strides` (E, 3) take edges of every n-th voxel alone; edges to voxels
    out of `mask` (z, y, x) are left out.
    """
    shape = np.array(mask.shape)
    count = 0
    found, order = np.empty(0, np.uint32), np.empty(0, index.dtype)
    for fill in (False, True):
        if fill:
            found, order = np.empty(count, np.uint32), np.empty(count, index.dtype)
        count = 0
        for e in range(nhood.shape[0]):
            dz, dy, dx = nhood[e, 0], nhood[e, 1], nhood[e, 2]
            sz, sy, sx = strides[e, 0], strides[e, 1], strides[e, 2]
            for z in range(0, shape[0], sz):
                for y in range(0, shape[1], sy):
                    row = ((e * shape[0] + z) * shape[1] + y) * shape[2]
                    for x in range(0, shape[2], sx):
                        key = keys[e, z, y, x]
                        if key < _ZERO and mask[z, y, x] and mask[z + dz, y + dy, x + dx]:
                            if fill:
                                found[count] = key
                                order[count] = row + x
                            count += 1
    return _sort(found, order)


@compiled
def join_seeds(order: Any, steps: Any, labels: Any, parent: Any) -> None:
    """Join components along the edges in order, unless both have a label; `labels` (voxels,) become all of theirs."""
    n = parent.size
    for i in range(order.size):
        e = order[i] // n
        v = order[i] - e * n
        a, b = _find(parent, v), _find(parent, v + steps[e])
        if a != b and (labels[a] == 0 or labels[b] == 0):
            parent[b] = a
            labels[a] = labels[a] if labels[a] != 0 else labels[b]
    for v in range(n):
        labels[v] = labels[_find(parent, v)]


@compiled
def _pair(a: Any, b: Any, n: int) -> Any:
    """Return the key of two clusters, above 0."""
    return np.uint64(min(a, b)) * np.uint64(n) + np.uint64(max(a, b)) + np.uint64(1)


@compiled
def _slot(table: Any, key: Any) -> Any:
    """Return where a key is in the table, or the free slot for it."""
    last = table.size - 1
    i = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & last
    while table[i] != 0 and table[i] != key:
        i = (i + 1) & last
    return i


@compiled
def _rebuilt(table: Any, parent: Any) -> Any:
    """Return a table of the pairs of clusters that are still there, a quarter full at most, and their number."""
    n = np.uint64(parent.size)
    count = 0
    for fill in (False, True):
        if fill:
            size = 1 << 16
            while size < 4 * count:
                size *= 2
            new = np.zeros(size, np.uint64)
        for key in table:
            if key != 0:
                a, b = (key - np.uint64(1)) // n, (key - np.uint64(1)) % n
                if parent[a] == a and parent[b] == b:
                    if fill:
                        new[_slot(new, key)] = key
                    else:
                        count += 1
    return new, count


@compiled
def join_unless_apart(order: Any, steps: Any, attracts: Any, far: int, parent: Any) -> None:
    """Join clusters along attractive edges in order, unless an earlier repulsive edge keeps them apart.

    Exclusions are pairs of roots in a hash table, and each root has a list of those it excludes. When clusters join,
    the shorter list is gone through: an entry moves at most log n times. Entries of joined clusters are found by their
    root. `far` is an upper limit of the repulsive edges in `order`.
    """
    n = parent.size
    table, taken = np.zeros(1 << 16, np.uint64), 0
    head, length = np.full(n, -1, np.int64), np.zeros(n, np.int32)
    other, following, entries = np.empty(2 * far, parent.dtype), np.empty(2 * far, np.int64), 0
    for i in range(order.size):
        e = order[i] // n
        v = order[i] - e * n
        a, b = _find(parent, v), _find(parent, v + steps[e])
        if a == b:
            continue
        key = _pair(a, b, n)
        slot = _slot(table, key)
        if table[slot] == key:
            continue
        if not attracts[e]:
            table[slot] = key
            taken += 1
            for one, two in ((a, b), (b, a)):
                other[entries] = two
                following[entries] = head[one]
                head[one] = entries
                length[one] += 1
                entries += 1
        else:
            if length[a] < length[b]:
                a, b = b, a
            parent[b] = a
            entry = head[b]
            while entry >= 0:
                rest = following[entry]
                key = _pair(a, _find(parent, other[entry]), n)
                slot = _slot(table, key)
                if table[slot] != key:
                    table[slot] = key
                    taken += 1
                    following[entry] = head[a]
                    head[a] = entry
                    length[a] += 1
                    if 2 * taken > table.size:
                        table, taken = _rebuilt(table, parent)
                entry = rest
        if 2 * taken > table.size:
            table, taken = _rebuilt(table, parent)


@compiled
def number_segments(parent: Any, mask: Any, least: int, out: Any) -> Any:
    """Write ids 1, 2, ... in the order of first voxels to `out` (voxels,), 0 if not in `mask` or of fewer voxels."""
    n = parent.size
    sizes, ids, last = np.zeros(n, np.int64), np.zeros(n, np.int64), 0
    for v in range(n):
        sizes[_find(parent, v)] += 1
    for v in range(n):
        root = _find(parent, v)
        if not mask[v] or sizes[root] < least:
            out[v] = 0
            continue
        if ids[root] == 0:
            last += 1
            ids[root] = last
        out[v] = ids[root]
    return last

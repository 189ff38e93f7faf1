"""Compiled loops over affinity graphs: edges in order, clusters that join, histograms of ids that merge."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compiled import compiled

__all__ = ["connected_components", "count_pairs", "edge_order"]


@compiled
def _key(bits: Any) -> Any:
    """Map the bits of a float32 to an unsigned number whose order is the reverse of the float's."""
    # The highest bit is the sign: positive numbers come first, the largest of them as 0.
    return np.uint32(bits ^ np.uint32(0x7FFFFFFF)) if bits < np.uint32(0x80000000) else bits


@compiled
def _box(offset: Any, shape: Any) -> Any:
    """Return first and last + 1 voxel (z, y, x) from which the offset stays in the volume."""
    box = np.empty((2, 3), np.int64)
    for i in range(3):
        box[0, i] = max(0, -offset[i])
        box[1, i] = min(shape[i], shape[i] - offset[i])
    return box


@compiled
def edge_order(bits: Any, nhood: Any, order: Any) -> Any:
    """Return the flat indices of all edges inside the volume, by decreasing weight, those of equal weight in order.

    `bits` are float32 weights (E, z, y, x) seen as uint32; `order` is an array of the wanted integer type. Many edges
    have the largest or the smallest weight that there is (what the ground truth decides): they need no sorting.
    """
    n_edges = nhood.shape[0]
    shape = np.array(bits.shape[1:])
    low, high, count = np.uint32(0xFFFFFFFF), np.uint32(0), 0
    for e in range(n_edges):
        box = _box(nhood[e], shape)
        for z in range(box[0, 0], box[1, 0]):
            for y in range(box[0, 1], box[1, 1]):
                for x in range(box[0, 2], box[1, 2]):
                    key = _key(bits[e, z, y, x])
                    low, high = min(low, key), max(high, key)
                    count += 1
    first, last, middle = 0, 0, 0
    result = np.empty(count, order.dtype)
    keys, index = np.empty(count, np.uint32), np.empty(count, order.dtype)
    at_end = np.empty(count, order.dtype)
    for e in range(n_edges):
        box = _box(nhood[e], shape)
        for z in range(box[0, 0], box[1, 0]):
            for y in range(box[0, 1], box[1, 1]):
                flat = ((e * shape[0] + z) * shape[1] + y) * shape[2]
                for x in range(box[0, 2], box[1, 2]):
                    key = _key(bits[e, z, y, x])
                    if key == low:
                        result[first] = flat + x
                        first += 1
                    elif key == high:
                        at_end[last] = flat + x
                        last += 1
                    else:
                        keys[middle] = key
                        index[middle] = flat + x
                        middle += 1
    keys, index = keys[:middle], index[:middle]
    other_keys, other_index = np.empty_like(keys), np.empty_like(index)
    starts = np.empty(2049, np.int64)
    for shift in (0, 11, 22):
        starts[:] = 0
        for i in range(middle):
            starts[((keys[i] >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        if starts.max() == middle:
            continue
        for b in range(2048):
            starts[b + 1] += starts[b]
        for i in range(middle):
            b = (keys[i] >> np.uint32(shift)) & np.uint32(2047)
            other_keys[starts[b]] = keys[i]
            other_index[starts[b]] = index[i]
            starts[b] += 1
        keys, other_keys = other_keys, keys
        index, other_index = other_index, index
    result[first : first + middle] = index
    result[first + middle :] = at_end[:last]
    return result


@compiled
def _find(parent: Any, i: Any) -> Any:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def _grown(values: Any, size: Any) -> Any:
    result = np.full(size, -1, np.int64)
    result[: values.size] = values
    return result


@compiled
def _slot(table: Any, entry_owner: Any, entry_id: Any, owner: Any, label: Any) -> Any:
    """Return the slot of the entry (owner, label), or the first free one on its way.

    A slot may point to an entry that has gone to another owner since: it is passed over like any foreign one.
    """
    mask = table.size - 1
    h = np.uint64(owner) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(label) * np.uint64(0xC2B2AE3D27D4EB4F)
    h ^= h >> np.uint64(29)
    i = np.int64(h * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(20)) & mask
    while table[i] >= 0:
        entry = table[i]
        if entry_owner[entry] == owner and entry_id[entry] == label:
            break
        i = (i + 1) & mask
    return i


@compiled
def count_pairs(order: Any, nhood: Any, ids: Any, same_ids: bool, parent: Any) -> Any:
    """Join voxels along edges in order and return for each edge how many pairs of voxels it joins, (E * voxels,).

    Pairs of the same id are counted, or of different ids; id 0 doesn't count. A cluster of one id holds its number of
    voxels; one of several ids owns a list of entries (id, number), found by a table of (owner, id). The shorter list is
    merged into the longer one, so that every entry moves at most log2(n) times.

    Parameters
    ----------
    order
        Flat indices of edges.
    nhood
        int64 (E, 3).
    ids
        int64 (z, y, x).
    same_ids
        Which pairs count.
    parent
        ``arange(voxels)`` of the integer type that holds them.
    """
    shape = np.array(ids.shape)
    n_voxels = ids.size
    flat_ids = ids.ravel()
    steps = (nhood[:, 0] * shape[1] + nhood[:, 1]) * shape[2] + nhood[:, 2]
    counts = np.zeros(nhood.shape[0] * n_voxels, np.int64)
    voxels = np.ones(n_voxels, parent.dtype)
    labelled = np.empty(n_voxels, np.int64)
    label = flat_ids.copy()
    owner = np.full(n_voxels, -1, parent.dtype)
    for v in range(n_voxels):
        labelled[v] = 1 if flat_ids[v] != 0 else 0

    capacity = 1024
    entry_owner, entry_id = np.full(capacity, -1, np.int64), np.empty(capacity, np.int64)
    entry_count, entry_next = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    n_entries, free = 0, -1
    table, used = np.full(4096, -1, np.int64), 0
    head, length = np.full(n_voxels, -1, parent.dtype), np.zeros(n_voxels, parent.dtype)

    joined = 0
    for edge in order:
        e = edge // n_voxels
        v = edge - e * n_voxels
        a, b = _find(parent, v), _find(parent, v + steps[e])
        if a == b:
            continue
        joined += 1
        if voxels[a] < voxels[b]:
            a, b = b, a
        parent[b] = a
        voxels[a] += voxels[b]
        n_a, n_b = labelled[a], labelled[b]
        if n_b > 0:
            same = 0
            if n_a == 0:
                label[a], owner[a] = label[b], owner[b]
            elif owner[a] < 0 and owner[b] < 0 and label[a] == label[b]:
                same = n_a * n_b
            else:
                if used * 2 > table.size:
                    live = 0
                    for i in range(n_entries):
                        live += entry_owner[i] >= 0
                    size = table.size
                    while live * 4 > size:
                        size *= 2
                    table, used = np.full(size, -1, np.int64), live
                    for i in range(n_entries):
                        if entry_owner[i] >= 0:
                            table[_slot(table, entry_owner, entry_id, entry_owner[i], entry_id[i])] = i
                if n_entries + 2 > capacity:
                    capacity *= 2
                    entry_owner = _grown(entry_owner, capacity)
                    entry_id, entry_count = _grown(entry_id, capacity), _grown(entry_count, capacity)
                    entry_next = _grown(entry_next, capacity)
                into, other = owner[a], owner[b]
                if into < 0 or (other >= 0 and length[other] > length[into]):
                    into, other = other, into
                if into < 0:
                    # Two clusters of one id each: the first list is that of voxel a, which owned none before.
                    into = a
                # What comes in: the other list, or one or two clusters of one id.
                if other >= 0:
                    entry: Any = np.int64(head[other])
                    while entry >= 0:
                        following = entry_next[entry]
                        # A table that fills up within one merge is enlarged here, not beforehand for all.
                        if used * 2 > table.size:
                            table, used = np.full(table.size * 2, -1, np.int64), 0
                            for i in range(n_entries):
                                if entry_owner[i] >= 0:
                                    table[_slot(table, entry_owner, entry_id, entry_owner[i], entry_id[i])] = i
                                    used += 1
                        slot = _slot(table, entry_owner, entry_id, into, entry_id[entry])
                        found = table[slot]
                        if found >= 0:
                            same += entry_count[found] * entry_count[entry]
                            entry_count[found] += entry_count[entry]
                            entry_owner[entry], entry_next[entry] = -1, free
                            free = entry
                        else:
                            entry_owner[entry], entry_next[entry] = into, head[into]
                            head[into] = entry
                            length[into] += 1
                            table[slot] = entry
                            used += 1
                        entry = following
                    head[other], length[other] = -1, 0
                else:
                    for cluster, n in ((a, n_a), (b, n_b)):
                        if owner[cluster] >= 0:
                            continue
                        slot = _slot(table, entry_owner, entry_id, into, label[cluster])
                        found = table[slot]
                        if found >= 0:
                            same += entry_count[found] * n
                            entry_count[found] += n
                        else:
                            if free >= 0:
                                entry = free
                                free = entry_next[entry]
                            else:
                                entry = n_entries
                                n_entries += 1
                            entry_owner[entry], entry_id[entry], entry_count[entry] = into, label[cluster], n
                            entry_next[entry] = head[into]
                            head[into] = entry
                            length[into] += 1
                            table[slot] = entry
                            used += 1
                owner[a] = into
            labelled[a] = n_a + n_b
            counts[edge] = same if same_ids else n_a * n_b - same
        if joined == n_voxels - 1:
            break
    return counts


@compiled
def connected_components(edges: Any, nhood: Any, parent: Any) -> Any:
    """Return the root (voxels,) of the component of every voxel; `edges` (E, z, y, x) are bool."""
    shape = np.array(edges.shape[1:])
    for e in range(nhood.shape[0]):
        box = _box(nhood[e], shape)
        step = (nhood[e, 0] * shape[1] + nhood[e, 1]) * shape[2] + nhood[e, 2]
        for z in range(box[0, 0], box[1, 0]):
            for y in range(box[0, 1], box[1, 1]):
                for x in range(box[0, 2], box[1, 2]):
                    if edges[e, z, y, x]:
                        v = (z * shape[1] + y) * shape[2] + x
                        a, b = _find(parent, v), _find(parent, v + step)
                        # The lower index becomes the root: components are numbered in the order of their first voxel.
                        if a < b:
                            parent[b] = a
                        elif b < a:
                            parent[a] = b
    for v in range(parent.size):
        parent[v] = _find(parent, v)
    return parent

"""Compiled loops over affinity graphs: edges in order, clusters that join, histograms of ids that merge."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compiled import compiled, prefetch

__all__ = ["connected_components", "count_pairs", "edge_keys"]

NO_EDGE = np.uint32(0xFFFFFFFF)  # the bits of a NaN: no weight has this key

_AHEAD = 12  # edges

# Columns of what is known of a cluster: its voxels, those with an id, their id or the list of their ids (-1: no list).
SIZE, LABELLED, LABEL, LIST = 0, 1, 2, 3
# Columns of an entry of a list: its voxels of an id, and the entry that follows.
OWNER, ID, COUNT, NEXT = 0, 1, 2, 3
# Columns of a list.
HEAD, LENGTH = 0, 1
# What is counted of all entries: those ever used, the first free one, slots of the table that are taken; and the lists.
ENTRIES, FREE, TAKEN, LISTS = 0, 1, 2, 3


@compiled
def _box(offset: Any, shape: Any) -> Any:
    """Return first and last + 1 voxel (z, y, x) from which the offset stays in the volume."""
    box = np.empty((2, 3), np.int64)
    for i in range(3):
        box[0, i] = max(0, -offset[i])
        box[1, i] = min(shape[i], shape[i] - offset[i])
    return box


@compiled
def edge_keys(bits: Any, nhood: Any) -> None:
    """Turn float32 weights (E, z, y, x), seen as uint32, into keys that ascend as the weights descend.

    Edges that leave the volume become `NO_EDGE`; -0 and 0 have the same key.
    """
    shape = np.array(bits.shape[1:])
    for e in range(nhood.shape[0]):
        box = _box(nhood[e], shape)
        for z in range(shape[0]):
            for y in range(shape[1]):
                inside = box[0, 0] <= z < box[1, 0] and box[0, 1] <= y < box[1, 1]
                row = bits[e, z, y]
                for x in range(shape[2]):
                    # The highest bit is the sign: positive numbers come first, the largest of them as 0.
                    b = row[x]
                    key = (
                        b
                        if b > np.uint32(0x80000000)
                        else np.uint32((b ^ np.uint32(0x7FFFFFFF)) & np.uint32(0x7FFFFFFF))
                    )
                    row[x] = key if inside and box[0, 2] <= x < box[1, 2] else NO_EDGE


@compiled
def _sort(keys: Any, index: Any) -> Any:
    """Return the index by ascending keys, those of equal keys in order."""
    other_keys, other_index = np.empty_like(keys), np.empty_like(index)
    starts = np.empty(2049, np.int64)
    for shift in (0, 11, 22):
        starts[:] = 0
        for key in keys:
            starts[((key >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        if starts.max() == keys.size:
            continue
        for b in range(2048):
            starts[b + 1] += starts[b]
        for i in range(keys.size):
            b = (keys[i] >> np.uint32(shift)) & np.uint32(2047)
            other_keys[starts[b]] = keys[i]
            other_index[starts[b]] = index[i]
            starts[b] += 1
        keys, other_keys = other_keys, keys
        index, other_index = other_index, index
    return index


@compiled
def _joining_edges(keys: Any, steps: Any, parent: Any, low: Any, high: Any) -> Any:
    """Return the flat indices of the edges with keys from `low` to `high` between two clusters, in order.

    `parent` must be flat: every voxel's is a root.
    """
    count = 0
    for e in range(keys.shape[0]):
        for key in keys[e]:
            count += low <= key <= high
    found, index, n = np.empty(count, np.uint32), np.empty(count, parent.dtype), 0
    for e in range(keys.shape[0]):
        row, step = keys[e], steps[e]
        for v in range(row.size):
            if low <= row[v] <= high and parent[v] != parent[v + step]:
                found[n] = row[v]
                index[n] = e * row.size + v
                n += 1
    return _sort(found[:n], index[:n])


@compiled
def _find(parent: Any, i: Any) -> Any:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def _flatten(parent: Any) -> None:
    for v in range(parent.size):
        parent[v] = _find(parent, v)


@compiled
def _slot(table: Any, entries: Any, owner: Any, label: Any) -> Any:
    """Return the slot of the entry (owner, label), or the first free one on its way.

    A slot may point to an entry that has gone to another owner since: it is passed over like any foreign one.
    """
    mask = table.size - 1
    h = np.uint64(owner) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(label) * np.uint64(0xC2B2AE3D27D4EB4F)
    h ^= h >> np.uint64(29)
    i = np.int64(h * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(20)) & mask
    while table[i] >= 0:
        entry = table[i]
        if entries[entry, OWNER] == owner and entries[entry, ID] == label:
            break
        i = (i + 1) & mask
    return i


@compiled
def _rebuilt(entries: Any, state: Any) -> Any:
    """Return a table of the entries that have an owner, at most a quarter of it taken."""
    n = state[ENTRIES]
    live = (entries[:n, OWNER] >= 0).sum()
    size = 4096
    while live * 4 > size:
        size *= 2
    table = np.full(size, -1, entries.dtype)
    for i in range(n):
        if entries[i, OWNER] >= 0:
            table[_slot(table, entries, entries[i, OWNER], entries[i, ID])] = i
    state[TAKEN] = live
    return table


@compiled
def _add(lists: Any, entries: Any, table: Any, state: Any, owner: Any, label: Any, count: Any) -> Any:
    """Add voxels of an id to a list; return how many pairs they make with those of the same id that it has."""
    slot = _slot(table, entries, owner, label)
    entry = np.int64(table[slot])
    if entry >= 0:
        pairs = np.int64(entries[entry, COUNT]) * np.int64(count)
        entries[entry, COUNT] += count
        return pairs
    if state[FREE] >= 0:
        entry = state[FREE]
        state[FREE] = entries[entry, NEXT]
    else:
        entry = state[ENTRIES]
        state[ENTRIES] += 1
    entries[entry, OWNER], entries[entry, ID], entries[entry, COUNT] = owner, label, count
    entries[entry, NEXT] = lists[owner, HEAD]
    lists[owner, HEAD] = entry
    lists[owner, LENGTH] += 1
    table[slot] = entry
    state[TAKEN] += 1
    return np.int64(0)


@compiled
def _merge(clusters: Any, lists: Any, entries: Any, table: Any, state: Any, a: Any, b: Any) -> Any:
    """Merge the ids of two clusters, the shorter list into the longer; return pairs of the same id, and the table."""
    into, other = np.int64(clusters[a, LIST]), np.int64(clusters[b, LIST])
    if into < 0 or (other >= 0 and lists[other, LENGTH] > lists[into, LENGTH]):
        a, b = b, a
        into, other = other, into
    if into < 0:
        into = state[LISTS]
        state[LISTS] += 1
        lists[into, HEAD], lists[into, LENGTH] = -1, 0
        _add(lists, entries, table, state, into, clusters[a, LABEL], clusters[a, LABELLED])
    clusters[a, LIST], clusters[b, LIST] = into, into
    if other < 0:
        same = _add(lists, entries, table, state, into, clusters[b, LABEL], clusters[b, LABELLED])
    else:
        same = np.int64(0)
        entry = np.int64(lists[other, HEAD])
        while entry >= 0:
            following = np.int64(entries[entry, NEXT])
            # Freed, it is the one that is taken if the id is new.
            entries[entry, OWNER], entries[entry, NEXT] = -1, state[FREE]
            state[FREE] = entry
            same += _add(lists, entries, table, state, into, entries[entry, ID], entries[entry, COUNT])
            if state[TAKEN] * 2 > table.size:
                table = _rebuilt(entries, state)
            entry = following
    if state[TAKEN] * 2 > table.size:
        table = _rebuilt(entries, state)
    return same, table


@compiled
def _ask_ahead(order: Any, i: Any, steps: Any, parent: Any, clusters: Any, counts: Any) -> None:
    """Prefetch what later edges need: they are in no order of place. Two thirds of the time without."""
    if i + 2 * _AHEAD < order.size:
        e = order[i + 2 * _AHEAD] // parent.size
        v = order[i + 2 * _AHEAD] - e * parent.size
        prefetch(parent, v)
        prefetch(parent, v + steps[e])
    if i + _AHEAD < order.size:
        e = order[i + _AHEAD] // parent.size
        v = order[i + _AHEAD] - e * parent.size
        prefetch(clusters, parent[v] * clusters.shape[1])
        prefetch(clusters, parent[v + steps[e]] * clusters.shape[1])
        prefetch(counts, order[i + _AHEAD])


@compiled
def count_pairs(keys: Any, bounds: Any, nhood: Any, ids: Any, same_ids: bool, parent: Any) -> Any:
    """Join voxels along edges in order and return for each edge how many pairs of voxels it joins, (E * voxels,).

    Pairs of the same id are counted, or of different ids; id 0 doesn't count. Edges are taken in rounds: after each of
    them a scan finds those that join nothing any more, most of what is left, and they are never sorted (the filter of
    Osipov, Sanders and Singler, 2009). A cluster of one id holds its number of voxels; one of several ids has a list of
    entries (id, number), found by a table of (list, id). The shorter list is merged into the longer one, so that every
    entry moves at most log2(n) times.

    Parameters
    ----------
    keys
        uint32 (E, z, y, x), see `edge_keys`.
    bounds
        The largest key of each round, ascending, the last of them below `NO_EDGE`.
    nhood
        int64 (E, 3).
    ids
        (z, y, x), of the type of `parent`.
    same_ids
        Which pairs count.
    parent
        ``arange(voxels)`` of the signed type that holds indices of edges.
    """
    shape = np.array(ids.shape)
    n_voxels = ids.size
    flat_keys = keys.reshape(nhood.shape[0], n_voxels)
    steps = (nhood[:, 0] * shape[1] + nhood[:, 1]) * shape[2] + nhood[:, 2]
    counts = np.zeros(keys.size, np.int64)
    clusters = np.empty((n_voxels, 4), parent.dtype)
    for v, label in enumerate(ids.ravel()):
        clusters[v, SIZE], clusters[v, LABELLED], clusters[v, LABEL], clusters[v, LIST] = 1, label != 0, label, -1
    # Each list begins with two clusters, each entry of it is a voxel's at least; memory that isn't written isn't taken.
    lists, entries = np.empty((n_voxels // 2, 2), parent.dtype), np.empty((n_voxels, 4), parent.dtype)
    state = np.zeros(4, np.int64)
    state[FREE] = -1
    table = _rebuilt(entries, state)

    low = np.uint32(0)
    for high in bounds:
        order = _joining_edges(flat_keys, steps, parent, low, high)
        for i, edge in enumerate(order):
            _ask_ahead(order, i, steps, parent, clusters, counts)
            e = edge // n_voxels
            v = edge - e * n_voxels
            a, b = _find(parent, v), _find(parent, v + steps[e])
            if a == b:
                continue
            if clusters[a, SIZE] < clusters[b, SIZE]:
                a, b = b, a
            parent[b] = a
            clusters[a, SIZE] += clusters[b, SIZE]
            n_a, n_b = np.int64(clusters[a, LABELLED]), np.int64(clusters[b, LABELLED])
            if n_b > 0:
                same = np.int64(0)
                if n_a == 0:
                    clusters[a, LABEL], clusters[a, LIST] = clusters[b, LABEL], clusters[b, LIST]
                elif clusters[a, LIST] < 0 and clusters[b, LIST] < 0 and clusters[a, LABEL] == clusters[b, LABEL]:
                    same = n_a * n_b
                else:
                    same, table = _merge(clusters, lists, entries, table, state, a, b)
                clusters[a, LABELLED] = n_a + n_b
                counts[edge] = same if same_ids else n_a * n_b - same
        _flatten(parent)
        low = np.uint32(high + 1)
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
    _flatten(parent)
    return parent

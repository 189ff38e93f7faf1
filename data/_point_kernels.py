"""Compiled loops over a growing k-d tree: points go in one by one, subtrees that lean are built anew.

``points`` (n, d) float64 are the coordinates as they were given. The tree is one array of rows, as each array more
that goes to a compiled function costs as much as a level of the tree. Columns that hold integers are read through a
view as int64. Row 0 is the header, row 1 the root, and a row is

* an inner node: `COUNT`, `FIRST`, its two children, the axis and the coordinate that split it, and the boxes of its
  children, each as d lowest and d highest coordinates (beside each other, to fetch few cache lines);
* or a leaf: `COUNT`, `FIRST`, no children, indices and coordinates of the points in its bucket.

Distances are squared, of coordinates multiplied by a scale for each axis. Among equal ones the lower index comes first.
Compiled without contraction to fused operations: a box must never seem farther than a point in it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._compiled import compiled, prefetch

__all__ = [
    "FARTHEST",
    "FULL",
    "NONE",
    "NOT_FINITE",
    "NO_POINTS",
    "OTHER_LENGTH",
    "append",
    "insert",
    "k_nearest",
    "nearest",
    "new_tree",
    "within",
]

BUCKET = 24  # points in a leaf: of 8, 12, 16, 24 and 32 the fastest
# Columns of all nodes: points below it, the lowest of their indices, the children or NONE.
COUNT, FIRST, LEFT, RIGHT = 0, 1, 2, 3
# Of inner nodes.
AXIS, SPLIT, BOXES = 4, 5, 6
# Of leaves; one point may be too many for a moment.
INDEX = 4
POINTS = INDEX + BUCKET + 1
# Of the header: rows in use or once used, the first row that was let go of (linked by LEFT), d, the scale.
USED, FREE, AXES, SCALE = 0, 1, 2, 3
ROOT = 1

NONE = -1
# Why a point or a query is refused.
NO_POINTS, FULL, OTHER_LENGTH, NOT_FINITE = -2, -3, -4, -5
FARTHEST = 1e150  # beyond it squares overflow
# A child with so large a part of its parent's points makes the parent unbalanced (scapegoat tree).
LEANS = 0.75
# Below so many points it may lean, which costs few levels and saves most of the work.
SMALL = 4 * BUCKET
# Entries of a stack: one an inner node on a path, and a path of L takes more than 0.75^-L points, nearly.
STACK = 128


def new_tree(scale: np.ndarray, points: int) -> np.ndarray:
    """Return an empty tree with room for so many points (at least one)."""
    d = len(scale)
    # The header, and twice as many nodes as leaves: one that isn't the root is at least half full.
    rows = 2 + 2 * (points // ((BUCKET + 1) // 2))
    tree = np.zeros((rows, POINTS + (BUCKET + 1) * d))
    header, root = tree.view(np.int64)[:2]
    header[USED], header[FREE], header[AXES] = ROOT + 1, NONE, d
    tree[0, SCALE : SCALE + d] = scale
    root[LEFT] = NONE
    return tree


@compiled(contract=False)
def _select(order: Any, low: int, high: int, middle: int, points: Any, axis: int) -> None:
    """Reorder ``order[low:high]``: none before `middle` has a higher coordinate, none after it a lower one."""
    high -= 1
    while low < high:
        a, b, c = points[order[low], axis], points[order[(low + high) // 2], axis], points[order[high], axis]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while points[order[i], axis] < pivot:
                i += 1
            while points[order[j], axis] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            high = j
        elif middle >= i:
            low = i
        else:
            return


@compiled(contract=False)
def _build(top: int, order: Any, points: Any, tree: Any) -> None:
    """Make row `top` the root of a balanced tree of the points whose indices `order` lists (and reorders)."""
    d = points.shape[1]
    links = tree.view(np.int64)
    used = links[0]
    box = np.empty(2 * d)
    stack = np.empty((STACK, 4), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = top, 0, len(order), NONE
    depth = 1
    while depth > 0:
        depth -= 1
        node, low, high, parent = stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3]
        first = order[low]
        for i in range(d):
            box[i] = box[d + i] = points[first, i]
        for n in range(low + 1, high):
            index = order[n]
            first = min(first, index)
            for i in range(d):
                x = points[index, i]
                if x < box[i]:
                    box[i] = x
                if x > box[d + i]:
                    box[d + i] = x
        if parent >= 0:
            at = BOXES + (2 * d if node == links[parent, RIGHT] else 0)
            for i in range(2 * d):
                tree[parent, at + i] = box[i]
        links[node, COUNT], links[node, FIRST] = high - low, first
        if high - low <= BUCKET:
            links[node, LEFT] = NONE
            for n in range(high - low):
                index = order[low + n]
                links[node, INDEX + n] = index
                for i in range(d):
                    tree[node, POINTS + n * d + i] = points[index, i]
            continue
        axis = 0
        for i in range(1, d):
            if (box[d + i] - box[i]) * tree[0, SCALE + i] > (box[d + axis] - box[axis]) * tree[0, SCALE + axis]:
                axis = i
        # By rank, not by coordinate: any number of equal points is split into halves.
        middle = (low + high) // 2
        _select(order, low, high, middle, points, axis)
        links[node, AXIS], tree[node, SPLIT] = axis, points[order[middle], axis]
        for side in range(2):
            child = used[FREE]
            if child >= 0:
                used[FREE] = links[child, LEFT]
            else:
                child = used[USED]
                used[USED] += 1
            links[node, LEFT + side] = child
            stack[depth, 0], stack[depth, 3] = child, node
            stack[depth, 1], stack[depth, 2] = (low, middle) if side == 0 else (middle, high)
            depth += 1


@compiled(contract=False)
def _rebuild(top: int, points: Any, tree: Any) -> None:
    """Balance the subtree of row `top`."""
    links = tree.view(np.int64)
    order = np.empty(links[top, COUNT], np.int64)
    found = 0
    stack = np.empty(STACK, np.int64)
    stack[0] = top
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        left, right = links[node, LEFT], links[node, RIGHT]
        if left >= 0:
            stack[depth], stack[depth + 1] = left, right
            depth += 2
        else:
            for n in range(links[node, COUNT]):
                order[found] = links[node, INDEX + n]
                found += 1
        if node != top:
            links[node, LEFT] = links[0, FREE]
            links[0, FREE] = node
    _build(top, order, points, tree)


@compiled(contract=False)
def _valid(point: Any, tree: Any) -> bool:
    valid = True
    for i in range(len(point)):
        valid &= abs(point[i]) * tree[0, SCALE + i] <= FARTHEST
    return valid


@compiled(contract=False)
def insert(size: int, stop: int, points: Any, tree: Any) -> int:
    """Add ``points[size:stop]`` to a tree of `size` and return `NONE`, or the row of one not finite.

    There is room for them in the tree.
    """
    d = points.shape[1]
    for row in range(size, stop):
        if not _valid(points[row], tree):
            return row
    links = tree.view(np.int64)
    if stop - size > max(size, 1):
        links[0, USED], links[0, FREE] = ROOT + 1, NONE
        _build(ROOT, np.arange(stop), points, tree)
        return NONE
    for index in range(size, stop):
        node, leaning = ROOT, NONE
        if index == 0:
            links[ROOT, FIRST] = 0
        while True:
            links[node, COUNT] += 1
            child = links[node, LEFT]
            if child < 0:
                break
            at = BOXES
            if points[index, links[node, AXIS]] >= tree[node, SPLIT]:
                child = links[node, RIGHT]
                at += 2 * d
            for i in range(d):
                x = points[index, i]
                if x < tree[node, at + i]:
                    tree[node, at + i] = x
                if x > tree[node, at + d + i]:
                    tree[node, at + d + i] = x
            # The highest one that leans: balancing it balances what is below it, too.
            if leaning < 0 and links[node, COUNT] > SMALL and links[child, COUNT] >= LEANS * links[node, COUNT]:
                leaning = node
            node = child
        last = links[node, COUNT] - 1
        links[node, INDEX + last] = index
        for i in range(d):
            tree[node, POINTS + last * d + i] = points[index, i]
        if leaning >= 0:
            _rebuild(leaning, points, tree)
        elif last == BUCKET:
            _rebuild(node, points, tree)
    return NONE


@compiled(contract=False)
def append(point: Any, points: Any, tree: Any) -> int:
    """Add one point, and return its index or why it is refused."""
    size = tree.view(np.int64)[ROOT, COUNT]
    if len(point) != points.shape[1]:
        return OTHER_LENGTH
    if size == len(points):
        return FULL
    for i in range(len(point)):
        points[size, i] = point[i]
    return size if insert(size, size + 1, points, tree) == NONE else NOT_FINITE


@compiled(contract=False)
def _to_box(query: Any, tree: Any, node: int, at: int) -> float:
    d = len(query)
    total = 0.0
    for i in range(d):
        below, above = tree[node, at + i] - query[i], query[i] - tree[node, at + d + i]
        x = below if below > above else above
        x = (x if x > 0.0 else 0.0) * tree[0, SCALE + i]
        total += x * x
    return total


@compiled(contract=False)
def _nearer(query: Any, tree: Any, links: Any, node: int) -> tuple[int, float, int, float]:
    """Return the nearer child of an inner node with its squared distance, then the other one with its."""
    left, right = links[node, LEFT], links[node, RIGHT]
    # Which of them comes next is known late, and mostly guessed wrongly half the time: fetch both.
    for line in range(3):
        prefetch(tree, left * tree.shape[1] + 8 * line)
        prefetch(tree, right * tree.shape[1] + 8 * line)
    near, far = _to_box(query, tree, node, BOXES), _to_box(query, tree, node, BOXES + 2 * len(query))
    if far < near or (far == near and links[right, FIRST] < links[left, FIRST]):
        return right, far, left, near
    return left, near, right, far


@compiled(contract=False)
def _to_point(query: Any, tree: Any, node: int, n: int) -> float:
    d = len(query)
    total = 0.0
    for i in range(d):
        x = (tree[node, POINTS + n * d + i] - query[i]) * tree[0, SCALE + i]
        total += x * x
    return total


@compiled(contract=False)
def nearest(query: Any, tree: Any) -> tuple[float, int]:
    """Return distance and index of the nearest point; instead of an index why the query is refused."""
    links = tree.view(np.int64)
    if len(query) != links[0, AXES]:
        return np.inf, OTHER_LENGTH
    if links[ROOT, COUNT] == 0:
        return np.inf, NO_POINTS
    if not _valid(query, tree):
        return np.inf, NOT_FINITE
    # Of a tuple the length is known to the compiler, which unrolls loops over axes: 1.6 times as fast.
    if len(query) == 3:
        return _nearest((query[0], query[1], query[2]), tree)
    if len(query) == 2:
        return _nearest((query[0], query[1]), tree)
    return _nearest(query, tree)


@compiled(contract=False)
def _nearest(query: Any, tree: Any) -> Any:
    best, index = np.inf, np.int64(NONE)
    links = tree.view(np.int64)
    waiting = np.empty((2, STACK))
    stack = waiting.view(np.int64)
    depth, node, distance = 0, np.int64(ROOT), 0.0
    while True:
        # Down to the nearer child each time; the other one waits on the stack.
        while distance < best or (distance == best and links[node, FIRST] < index):
            if links[node, LEFT] < 0:
                for n in range(links[node, COUNT]):
                    distance, i = _to_point(query, tree, node, n), links[node, INDEX + n]
                    if distance < best or (distance == best and i < index):
                        best, index = distance, i
                break
            node, distance, stack[0, depth], waiting[1, depth] = _nearer(query, tree, links, node)
            depth += 1
        if depth == 0:
            return math.sqrt(best), index
        depth -= 1
        node, distance = stack[0, depth], waiting[1, depth]


@compiled(contract=False)
def _sift(distances: Any, indices: Any, size: int, distance: float, index: int) -> None:
    """Replace the first entry of a heap, the farthest one, and restore the order."""
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and (
            distances[child + 1] > distances[child]
            or (distances[child + 1] == distances[child] and indices[child + 1] > indices[child])
        ):
            child += 1
        if distances[child] < distance or (distances[child] == distance and indices[child] < index):
            break
        distances[i], indices[i] = distances[child], indices[child]
        i = child
    distances[i], indices[i] = distance, index


@compiled(contract=False)
def k_nearest(queries: Any, tree: Any, distances: Any, indices: Any) -> None:
    """Write squared distances and indices (q, k) of the k nearest points of each query (q, d), the nearest first.

    There are at least k points, and k is at least 1. A row is a heap with the farthest first, until it is sorted.
    """
    k = distances.shape[1]
    links = tree.view(np.int64)
    stack, waiting = np.empty(STACK, np.int64), np.empty(STACK)
    for row in range(len(queries)):
        query, best, index = queries[row], distances[row], indices[row]
        best[:] = np.inf
        index[:] = np.iinfo(np.int64).max
        depth, node, distance = 0, np.int64(ROOT), 0.0
        while True:
            while distance < best[0] or (distance == best[0] and links[node, FIRST] < index[0]):
                if links[node, LEFT] < 0:
                    for n in range(links[node, COUNT]):
                        distance, i = _to_point(query, tree, node, n), links[node, INDEX + n]
                        if distance < best[0] or (distance == best[0] and i < index[0]):
                            _sift(best, index, k, distance, i)
                    break
                node, distance, stack[depth], waiting[depth] = _nearer(query, tree, links, node)
                depth += 1
            if depth == 0:
                break
            depth -= 1
            node, distance = stack[depth], waiting[depth]
        for last in range(k - 1, 0, -1):
            distance, i = best[last], index[last]
            best[last], index[last] = best[0], index[0]
            _sift(best, index, last, distance, i)


@compiled(contract=False)
def within(query: Any, radius: float, tree: Any) -> Any:
    """Return squared distances and indices of all points at most `radius` away, in no order."""
    links = tree.view(np.int64)
    squares, indices = np.empty(16), np.empty(16, np.int64)
    size = 0
    stack = np.empty(STACK, np.int64)
    stack[0] = ROOT
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if links[node, LEFT] >= 0:
            for side in range(2):
                if math.sqrt(_to_box(query, tree, node, BOXES + side * 2 * len(query))) <= radius:
                    stack[depth] = links[node, LEFT + side]
                    depth += 1
            continue
        for n in range(links[node, COUNT]):
            square = _to_point(query, tree, node, n)
            if math.sqrt(square) <= radius:
                if size == len(indices):
                    squares = np.concatenate((squares, np.empty(size)))
                    indices = np.concatenate((indices, np.empty(size, np.int64)))
                squares[size], indices[size] = square, links[node, INDEX + n]
                size += 1
    return squares[:size], indices[:size]

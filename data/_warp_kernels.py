"""The compiled loops of the warp: one pass over the source to pack it, one over the patch to sample it.

What makes them fast (``tests/benchmarks/warp.py`` measures it against `torch.nn.functional.grid_sample`):

* No coordinate array and no float copy of the source: coordinates are computed where they are used, in float32 from
  a float64 start of each row.
* The bounding box is copied once into *quads*: each entry holds the four lateral neighbours ``(y, x), (y, x+1),
  (y+1, x), (y+1, x+1)`` of an 8-bit (16-bit) volume in one 32-bit (64-bit) word, so that a voxel of the patch costs
  two loads instead of eight. The copy is needed anyway: it keeps caches warm and offsets small. Of each row only
  what lies under the patch is copied: two thirds of the box, on average over rotations. Rows are asked for some
  rows ahead (0.47 ms instead of 0.70 from a volume that no cache holds).
* Loads and stores carry ``alias.scope`` and ``noalias`` metadata. Without them LLVM can't prove that the patch and
  its source do not overlap, and leaves the loop scalar.
* Every load is of 32 or 64 bits with an int32 index, so that LLVM can gather. It would rather not: see `_tune`.
* Rows are walked in whole blocks of 16, and a last block that overlaps the one before: no scalar remainder.

Coordinates are clamped to the source unless all corners of the patch were seen to lie in it, so that no matrix, however
wrong, reads outside of it.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from ._compiled import compiled, intrinsic, prefetch

__all__ = ["copy_spans", "pack_quads", "row_spans", "sample_linear", "sample_nearest", "sample_quads"]

_BLOCK = 16
_ROWS_AHEAD = 8


def _tune(builder: ir.IRBuilder) -> None:
    """Let LLVM gather, and use whole AVX-512 registers.

    By its own tables it finds gathers too dear on processors before Skylake and on those that it does not know, and
    halves AVX-512 registers. Measured on 23×185×185: 1.3 ms instead of 1.9 with AVX-512, 2.0 instead of 6.5 with
    AVX2 on tables of Haswell. The instruction set stays the processor's own.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        # llvmlite's own `add` refuses attributes that it does not know.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        set.add(builder.function.attributes, '"tune-cpu"="skylake"')


def _mark(builder: ir.IRBuilder, instruction: Any, *, is_load: bool) -> None:
    module = builder.module
    domain = module.add_metadata(["elektronn warp"])
    source = module.add_metadata([module.add_metadata(["elektronn warp source", domain])])
    patch = module.add_metadata([module.add_metadata(["elektronn warp patch", domain])])
    instruction.set_metadata("alias.scope", source if is_load else patch)
    instruction.set_metadata("noalias", patch if is_load else source)


def _address(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: Any) -> Any:
    # The int32 index goes into the address as it is: a gather with 32-bit indices is half of one with 64-bit ones.
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index], inbounds=True)


@intrinsic
def _load(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Read ``array[index]`` (flat, contiguous) with the promise that no `_store` writes there."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _tune(builder)
        address = _address(context, builder, signature.args[0], *arguments)
        value = builder.load(address, align=array.dtype.bitwidth // 8)
        _mark(builder, value, is_load=True)
        return value

    return array.dtype(array, types.int32), generate


@intrinsic
def _load_wide(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Do what `_load` does, but never read less than 32 bits: the array must be followed by 3 bytes."""
    bits = array.dtype.bitwidth

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _tune(builder)
        address = _address(context, builder, signature.args[0], *arguments)
        if bits < 32:
            address = builder.bitcast(address, ir.IntType(32).as_pointer())
        value = builder.load(address, align=bits // 8)
        _mark(builder, value, is_load=True)
        return builder.trunc(value, ir.IntType(bits)) if bits < 32 else value

    return array.dtype(array, types.int32), generate


@intrinsic
def _store(typing_context, array, index, value):  # type: ignore[no-untyped-def]
    """Write ``array[index] = value`` (flat, contiguous) with the promise that no `_load` reads there."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address = _address(context, builder, signature.args[0], *arguments[:2])
        _mark(builder, builder.store(arguments[2], address, align=array.dtype.bitwidth // 8), is_load=False)
        return context.get_dummy_value()

    return types.void(array, types.int32, array.dtype), generate


@njit(inline="always")
def _ask_ahead(source, strides, rows, spans, z, y):  # type: ignore[no-untyped-def]
    """Prefetch what will be copied some rows later: the pieces are too short for the processor to see a pattern."""
    z, y = z + (y + _ROWS_AHEAD) // rows, (y + _ROWS_AHEAD) % rows
    start, line = z * strides[0] + y * strides[1], 64 // source.itemsize
    for at in range(start + spans[y, 0], start + spans[y, 1] + line, line):
        prefetch(source, at)


@intrinsic
def _offset(typing_context, k, j, i, plane_size, row_size):  # type: ignore[no-untyped-def]
    """Return ``k * plane_size + j * row_size + i`` in int32; numba's own products would be int64, thrice as slow."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        k, j, i, plane_size, row_size = arguments
        return builder.add(builder.add(builder.mul(k, plane_size), builder.mul(j, row_size)), i)

    return types.int32(*[types.int32] * 5), generate


@intrinsic
def _corner(typing_context, quad, index):  # type: ignore[no-untyped-def]
    """Return neighbour `index` (a literal, 0 to 3) of a quad as float32; numba's own shifts would be of 64 bits."""
    if not isinstance(index, types.IntegerLiteral):
        return None
    bits, position = quad.bitwidth // 4, index.literal_value

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = arguments[0]
        value = builder.lshr(word, ir.Constant(word.type, bits * position)) if position else word
        if quad.bitwidth > 32:
            value = builder.trunc(value, ir.IntType(32))
        if position < 3:
            value = builder.and_(value, ir.Constant(value.type, (1 << bits) - 1))
        return builder.sitofp(value, ir.FloatType())

    return types.float32(quad, index), generate


@njit(inline="always")
def _clamp(value, last):  # type: ignore[no-untyped-def]
    value = value if value > np.float32(0) else np.float32(0)
    return value if value < last else last


@njit(inline="always")
def _row(matrix, z, y):  # type: ignore[no-untyped-def]
    """Return where the first voxel of a row lies (homogeneous): computed in float64, once a row."""
    return (
        np.float32(matrix[0, 0] * z + matrix[0, 1] * y + matrix[0, 3]),
        np.float32(matrix[1, 0] * z + matrix[1, 1] * y + matrix[1, 3]),
        np.float32(matrix[2, 0] * z + matrix[2, 1] * y + matrix[2, 3]),
        np.float32(matrix[3, 0] * z + matrix[3, 1] * y + matrix[3, 3]),
    )


@njit(inline="always")
def _steps(matrix):  # type: ignore[no-untyped-def]
    return np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2]), np.float32(matrix[3, 2])


@njit(inline="always")
def _displace(tables, z, y, moved):  # type: ignore[no-untyped-def]
    """Write to `moved` (4, width) what is to be added to the homogeneous coordinates of a row."""
    planes, rows, weights = tables
    row = rows[y]
    if weights.shape[1] == 1:
        moved[:] = planes[z, :, row]
        return
    a, b, c, d = weights[y, 0], weights[y, 1], weights[y, 2], weights[y, 3]
    for axis in range(4):
        for x in range(moved.shape[1]):
            near = b * planes[z, axis, row + 1, x] + c * planes[z, axis, row + 2, x]
            moved[axis, x] = near + (a * planes[z, axis, row, x] + d * planes[z, axis, row + 3, x])


@njit(inline="always")
def _part(width, last):  # type: ignore[no-untyped-def]
    """Return begin and count of a row's two parts: its whole blocks, and one that ends with the row."""
    rest = width % _BLOCK
    if last:
        return np.int32(max(width - _BLOCK, 0)), min(rest, 1) * min(_BLOCK, width)
    return np.int32(0), width - rest


@njit(inline="always")
def _blend(quad, part_y, part_x):  # type: ignore[no-untyped-def]
    v00, v01, v10, v11 = _corner(quad, 0), _corner(quad, 1), _corner(quad, 2), _corner(quad, 3)
    upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
    return upper + part_y * (lower - upper)


@compiled
def row_spans(corners, shape, spans):  # type: ignore[no-untyped-def]
    """Write to `spans` (int32, ``(rows, 2)``) the begin and end of what a patch touches of each row of its source.

    `corners` (float64, ``(8, 3)``) are the patch's corners in the source. What lies between them is convex, so that its
    rim on a row is that of the lines between any two of them. One voxel is added all around for rounding, and one for
    the neighbours. Returns whether the patch lies inside of the source; if not, the spans are whole rows.
    """
    rows, width = shape[1], shape[2]
    inside = True
    for corner in range(8):
        for axis in range(3):
            inside &= -2e-4 < corners[corner, axis] < shape[axis] - 1 + 2e-4
    if not inside:
        # What is out of the source takes its values from the rim, anywhere on it.
        spans[:, 0], spans[:, 1] = 0, width
        return False
    spans[:, 0], spans[:, 1] = width, 0
    for a in range(8):
        for b in range(8):
            y_a, x_a, y_b, x_b = corners[a, 1], corners[a, 2], corners[b, 1], corners[b, 2]
            if y_a > y_b:
                continue
            slope = (x_b - x_a) / (y_b - y_a) if y_b - y_a > 1e-9 else 0.0
            for row in range(max(int(y_a) - 1, 0), min(int(y_b) + 2, rows)):
                low, high = min(max(row - 1.0, y_a), y_b), max(min(row + 2.0, y_b), y_a)
                x_low, x_high = x_a + slope * (low - y_a), x_a + slope * (high - y_a)
                begin, end = min(x_low, x_high), max(x_low, x_high)
                if slope == 0.0:
                    begin, end = min(x_a, x_b), max(x_a, x_b)
                spans[row, 0] = min(spans[row, 0], max(int(begin) - 1, 0))
                spans[row, 1] = max(spans[row, 1], min(int(end) + 3, width))
    return True


@compiled
def copy_spans(source, strides, shape, spans, target):  # type: ignore[no-untyped-def]
    """Copy the `spans` of a volume of `shape`, in the flat `source` with `strides` (z, y), into the flat `target`."""
    depth, rows, width = shape
    for z in range(depth):
        for y in range(rows):
            begin, end = spans[y]
            at, to = z * strides[0] + y * strides[1], (z * rows + y) * width
            _ask_ahead(source, strides, rows, spans, z, y)
            for x in range(begin, end):
                _store(target, np.int32(to + x), _load(source, np.int32(at + x)))


@compiled
def pack_quads(source, strides, shape, spans, quads):  # type: ignore[no-untyped-def]
    """Do what `copy_spans` does, and write the four lateral neighbours of each voxel into one word of `quads`.

    uint8 goes into uint32, uint16 into uint64; beyond the last row and column the last one is repeated.
    """
    depth, rows, width = shape
    word = quads.dtype.type
    bits = word(8 * source.itemsize)
    for z in range(depth):
        for y in range(rows):
            begin, end = spans[y]
            at, to = z * strides[0] + y * strides[1], (z * rows + y) * width
            _ask_ahead(source, strides, rows, spans, z, y)
            below = at + (strides[1] if y + 1 < rows else 0)
            for x in range(begin, min(end, width - 1)):
                upper = word(
                    word(_load(source, np.int32(at + x))) | (word(_load(source, np.int32(at + x + 1))) << bits)
                )
                lower = word(
                    word(_load(source, np.int32(below + x))) | (word(_load(source, np.int32(below + x + 1))) << bits)
                )
                _store(quads, np.int32(to + x), word(upper | word(lower << (bits + bits))))
            if end == width:
                upper, lower = word(source[at + width - 1]), word(source[below + width - 1])
                upper, lower = word(upper | (upper << bits)), word(lower | (lower << bits))
                quads[to + width - 1] = word(upper | word(lower << (bits + bits)))


@compiled
def sample_quads(quads, shape, matrix, scale, shift, patch, patch_shape, inside, tables):  # type: ignore[no-untyped-def]
    """Interpolate linearly in the packed volume of `shape` at ``matrix @ (z, y, x, 1)``, into the flat float32 `patch`.

    A voxel becomes ``value * scale + shift``. `inside` is what `row_spans` returned: coordinates need no clamp.
    `tables` displace the voxels, see `Displacement.tables`; None: they stay.
    """
    depth, height, width = patch_shape
    last_z, last_y, last_x = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row_size, plane_size, plane_last = np.int32(shape[2]), np.int32(shape[1] * shape[2]), np.int32(shape[0] - 1)
    scale, shift = np.float32(scale), np.float32(shift)
    step_z, step_y, step_x, step_w = _steps(matrix)
    if tables is not None:
        moved = np.empty((4, width), np.float32)
        moved_z, moved_y, moved_x, moved_w = moved[0], moved[1], moved[2], moved[3]
    for z in range(depth):
        for y in range(height):
            start_z, start_y, start_x, start_w = _row(matrix, z, y)
            if tables is not None:
                _displace(tables, z, y, moved)
            first = np.int32((z * height + y) * width)
            for part in range(2):
                begin, count = _part(width, part)
                for x in range(count):
                    at = np.int32(begin + np.int32(x))
                    along = np.float32(at)
                    at_z, at_y, at_x = start_z + step_z * along, start_y + step_y * along, start_x + step_x * along
                    at_w = start_w + step_w * along
                    if tables is not None:
                        at_z, at_y = at_z + _load(moved_z, at), at_y + _load(moved_y, at)
                        at_x, at_w = at_x + _load(moved_x, at), at_w + _load(moved_w, at)
                    nearness = np.float32(1) / at_w
                    at_z, at_y, at_x = at_z * nearness, at_y * nearness, at_x * nearness
                    if not inside:
                        at_z, at_y, at_x = _clamp(at_z, last_z), _clamp(at_y, last_y), _clamp(at_x, last_x)
                    k, j, i = np.int32(at_z), np.int32(at_y), np.int32(at_x)
                    near = _offset(k, j, i, plane_size, row_size)
                    far = np.int32(near + (plane_size if k < plane_last else np.int32(0)))
                    part_z, part_y, part_x = at_z - np.float32(k), at_y - np.float32(j), at_x - np.float32(i)
                    front = _blend(_load(quads, near), part_y, part_x)
                    back = _blend(_load(quads, far), part_y, part_x)
                    value = front + part_z * (back - front)
                    _store(patch, np.int32(first + at), value * scale + shift)


@compiled
def sample_linear(source, shape, matrix, scale, shift, patch, patch_shape, tables):  # type: ignore[no-untyped-def]
    """Do what `sample_quads` does with a flat float32 volume, unpacked: eight loads a voxel; `tables` as there."""
    depth, height, width = patch_shape
    last_z, last_y, last_x = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row_size, plane_size = np.int32(shape[2]), np.int32(shape[1] * shape[2])
    last_k, last_j, last_i = np.int32(shape[0] - 1), np.int32(shape[1] - 1), np.int32(shape[2] - 1)
    scale, shift = np.float32(scale), np.float32(shift)
    step_z, step_y, step_x, step_w = _steps(matrix)
    if tables is not None:
        moved = np.empty((4, width), np.float32)
        moved_z, moved_y, moved_x, moved_w = moved[0], moved[1], moved[2], moved[3]
    for z in range(depth):
        for y in range(height):
            start_z, start_y, start_x, start_w = _row(matrix, z, y)
            if tables is not None:
                _displace(tables, z, y, moved)
            first = np.int32((z * height + y) * width)
            for part in range(2):
                begin, count = _part(width, part)
                for x in range(count):
                    at = np.int32(begin + np.int32(x))
                    along = np.float32(at)
                    at_z, at_y, at_x = start_z + step_z * along, start_y + step_y * along, start_x + step_x * along
                    at_w = start_w + step_w * along
                    if tables is not None:
                        at_z, at_y = at_z + _load(moved_z, at), at_y + _load(moved_y, at)
                        at_x, at_w = at_x + _load(moved_x, at), at_w + _load(moved_w, at)
                    nearness = np.float32(1) / at_w
                    at_z = _clamp(at_z * nearness, last_z)
                    at_y = _clamp(at_y * nearness, last_y)
                    at_x = _clamp(at_x * nearness, last_x)
                    k, j, i = np.int32(at_z), np.int32(at_y), np.int32(at_x)
                    part_z, part_y, part_x = at_z - np.float32(k), at_y - np.float32(j), at_x - np.float32(i)
                    right = np.int32(1) if i < last_i else np.int32(0)
                    down = row_size if j < last_j else np.int32(0)
                    behind = plane_size if k < last_k else np.int32(0)
                    upper_left = _offset(k, j, i, plane_size, row_size)
                    lower_left = np.int32(upper_left + down)
                    v00, v01 = _load(source, upper_left), _load(source, np.int32(upper_left + right))
                    v10, v11 = _load(source, lower_left), _load(source, np.int32(lower_left + right))
                    upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
                    front = upper + part_y * (lower - upper)
                    upper_left, lower_left = np.int32(upper_left + behind), np.int32(lower_left + behind)
                    v00, v01 = _load(source, upper_left), _load(source, np.int32(upper_left + right))
                    v10, v11 = _load(source, lower_left), _load(source, np.int32(lower_left + right))
                    upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
                    back = upper + part_y * (lower - upper)
                    value = front + part_z * (back - front)
                    _store(patch, np.int32(first + at), value * scale + shift)


@compiled
def sample_nearest(source, shape, matrix, patch, patch_shape, tables):  # type: ignore[no-untyped-def]
    """Take the voxel of the flat `source` nearest to ``matrix @ (z, y, x, 1)``, into the flat `patch` of any dtype.

    Below 32 bits `source` must be followed by 3 bytes that may be read; `tables` as in `sample_quads`.
    """
    depth, height, width = patch_shape
    last_z, last_y, last_x = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row_size, plane_size = np.int32(shape[2]), np.int32(shape[1] * shape[2])
    half = np.float32(0.5)
    step_z, step_y, step_x, step_w = _steps(matrix)
    if tables is not None:
        moved = np.empty((4, width), np.float32)
        moved_z, moved_y, moved_x, moved_w = moved[0], moved[1], moved[2], moved[3]
    for z in range(depth):
        for y in range(height):
            start_z, start_y, start_x, start_w = _row(matrix, z, y)
            if tables is not None:
                _displace(tables, z, y, moved)
            first = np.int32((z * height + y) * width)
            for part in range(2):
                begin, count = _part(width, part)
                for x in range(count):
                    at = np.int32(begin + np.int32(x))
                    along = np.float32(at)
                    at_z, at_y, at_x = start_z + step_z * along, start_y + step_y * along, start_x + step_x * along
                    at_w = start_w + step_w * along
                    if tables is not None:
                        at_z, at_y = at_z + _load(moved_z, at), at_y + _load(moved_y, at)
                        at_x, at_w = at_x + _load(moved_x, at), at_w + _load(moved_w, at)
                    nearness = np.float32(1) / at_w
                    k = np.int32(_clamp(at_z * nearness, last_z) + half)
                    j = np.int32(_clamp(at_y * nearness, last_y) + half)
                    i = np.int32(_clamp(at_x * nearness, last_x) + half)
                    label = _load_wide(source, _offset(k, j, i, plane_size, row_size))
                    _store(patch, np.int32(first + at), patch.dtype.type(label))

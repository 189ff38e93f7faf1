"""The compiled loops of the warp: one pass over the source to pack it, one over the patch to sample it.

What makes them fast (``tests/benchmarks/warp.py`` measures it against `torch.nn.functional.grid_sample`):

* No coordinate array and no float copy of the source: coordinates are computed where they are used, in float32 from
  a float64 start of each row.
* The bounding box is copied once into *quads*: each entry holds the four lateral neighbours ``(y, x), (y, x+1),
  (y+1, x), (y+1, x+1)`` of an 8-bit (16-bit) volume in one 32-bit (64-bit) word, so that a voxel of the patch costs
  two loads instead of eight. The copy is needed anyway: it keeps caches warm and offsets small.
* Loads and stores carry ``alias.scope`` and ``noalias`` metadata. Without them LLVM can't prove that the patch and
  its source do not overlap, and leaves the loop scalar.
* Offsets are int32: numba promotes products of int32 to int64, so each one is narrowed again, and LLVM gathers with
  32-bit indices.

Every coordinate is clamped to the source, so that no matrix, however wrong, reads outside of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic as _untyped_intrinsic

__all__ = ["pack_quads", "sample_linear", "sample_nearest", "sample_quads"]

# Its type says that the typing context is an argument of the calls.
intrinsic: Any = _untyped_intrinsic

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


def _scopes(builder: ir.IRBuilder) -> tuple[Any, Any]:
    module = builder.module
    domain = module.add_metadata(["elektronn warp"])
    source = module.add_metadata([module.add_metadata(["elektronn warp source", domain])])
    patch = module.add_metadata([module.add_metadata(["elektronn warp patch", domain])])
    return source, patch


def _element(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: Any) -> tuple[Any, int]:
    data = context.make_array(array_type)(context, builder, array).data
    # The int32 index goes into the address as it is: a gather with 32-bit indices is half of one with 64-bit ones.
    address = builder.gep(data, [index], inbounds=True)
    return address, context.get_abi_sizeof(context.get_data_type(array_type.dtype))


@intrinsic
def _load(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Read ``array[index]`` (flat, contiguous) with the promise that no `_store` writes there."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address, alignment = _element(context, builder, signature.args[0], *arguments)
        value = builder.load(address, align=alignment)
        source, patch = _scopes(builder)
        value.set_metadata("alias.scope", source)
        value.set_metadata("noalias", patch)
        return value

    return array.dtype(array, types.int32), generate


@intrinsic
def _store(typing_context, array, index, value):  # type: ignore[no-untyped-def]
    """Write ``array[index] = value`` (flat, contiguous) with the promise that no `_load` reads there."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address, alignment = _element(context, builder, signature.args[0], *arguments[:2])
        store = builder.store(arguments[2], address, align=alignment)
        source, patch = _scopes(builder)
        store.set_metadata("alias.scope", patch)
        store.set_metadata("noalias", source)
        return context.get_dummy_value()

    return types.void(array, types.int32, array.dtype), generate


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


@njit(**_OPTIONS)
def pack_quads(source, quads):  # type: ignore[no-untyped-def]
    """Write the four lateral neighbours of each voxel of `source` ``(z, y, x)`` into one word of the flat `quads`.

    uint8 goes into uint32, uint16 into uint64; beyond the last row and column the last one is repeated.
    """
    depth, height, width = source.shape
    word = quads.dtype.type
    bits = word(8 * source.itemsize)
    for z in range(depth):
        for y in range(height):
            row, below = source[z, y], source[z, min(y + 1, height - 1)]
            start = np.int32((z * height + y) * width)
            for x in range(width - 1):
                upper = word(row[x]) | (word(row[x + 1]) << bits)
                lower = word(below[x]) | (word(below[x + 1]) << bits)
                _store(quads, np.int32(start + x), word(upper | (lower << (bits + bits))))
            upper = word(row[width - 1]) | (word(row[width - 1]) << bits)
            lower = word(below[width - 1]) | (word(below[width - 1]) << bits)
            _store(quads, np.int32(start + width - 1), word(upper | (lower << (bits + bits))))


@njit(**_OPTIONS)
def sample_quads(quads, shape, matrix, scale, shift, patch, patch_shape):  # type: ignore[no-untyped-def]
    """Interpolate linearly in the packed volume of `shape` at ``matrix @ (z, y, x, 1)``, into the flat float32 `patch`.

    A voxel becomes ``value * scale + shift``.
    """
    depth, height, width = patch_shape
    last_z, last_y, last_x = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row_size, plane_size, plane_last = np.int32(shape[2]), np.int32(shape[1] * shape[2]), np.int32(shape[0] - 1)
    scale, shift = np.float32(scale), np.float32(shift)
    step_z, step_y, step_x = np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2])
    step_w = np.float32(matrix[3, 2])
    for z in range(depth):
        for y in range(height):
            start = matrix[:, 0] * z + matrix[:, 1] * y + matrix[:, 3]
            start_z, start_y, start_x = np.float32(start[0]), np.float32(start[1]), np.float32(start[2])
            start_w = np.float32(start[3])
            first = np.int32((z * height + y) * width)
            for x in range(width):
                along = np.float32(np.int32(x))
                nearness = np.float32(1) / (start_w + step_w * along)
                at_z = _clamp((start_z + step_z * along) * nearness, last_z)
                at_y = _clamp((start_y + step_y * along) * nearness, last_y)
                at_x = _clamp((start_x + step_x * along) * nearness, last_x)
                k, j, i = np.int32(at_z), np.int32(at_y), np.int32(at_x)
                near = _offset(k, j, i, plane_size, row_size)
                far = np.int32(near + (plane_size if k < plane_last else np.int32(0)))
                part_z, part_y, part_x = at_z - np.float32(k), at_y - np.float32(j), at_x - np.float32(i)
                quad = _load(quads, near)
                v00, v01, v10, v11 = _corner(quad, 0), _corner(quad, 1), _corner(quad, 2), _corner(quad, 3)
                upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
                front = upper + part_y * (lower - upper)
                quad = _load(quads, far)
                v00, v01, v10, v11 = _corner(quad, 0), _corner(quad, 1), _corner(quad, 2), _corner(quad, 3)
                upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
                back = upper + part_y * (lower - upper)
                value = front + part_z * (back - front)
                _store(patch, np.int32(first + np.int32(x)), value * scale + shift)


@njit(**_OPTIONS)
def sample_linear(source, shape, matrix, scale, shift, patch, patch_shape):  # type: ignore[no-untyped-def]
    """Do what `sample_quads` does with a flat volume of any dtype, unpacked: eight loads a voxel."""
    depth, height, width = patch_shape
    last_z, last_y, last_x = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row_size, plane_size = np.int32(shape[2]), np.int32(shape[1] * shape[2])
    last_k, last_j, last_i = np.int32(shape[0] - 1), np.int32(shape[1] - 1), np.int32(shape[2] - 1)
    scale, shift = np.float32(scale), np.float32(shift)
    step_z, step_y, step_x = np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2])
    step_w = np.float32(matrix[3, 2])
    for z in range(depth):
        for y in range(height):
            start = matrix[:, 0] * z + matrix[:, 1] * y + matrix[:, 3]
            start_z, start_y, start_x = np.float32(start[0]), np.float32(start[1]), np.float32(start[2])
            start_w = np.float32(start[3])
            first = np.int32((z * height + y) * width)
            for x in range(width):
                along = np.float32(np.int32(x))
                nearness = np.float32(1) / (start_w + step_w * along)
                at_z = _clamp((start_z + step_z * along) * nearness, last_z)
                at_y = _clamp((start_y + step_y * along) * nearness, last_y)
                at_x = _clamp((start_x + step_x * along) * nearness, last_x)
                k, j, i = np.int32(at_z), np.int32(at_y), np.int32(at_x)
                part_z, part_y, part_x = at_z - np.float32(k), at_y - np.float32(j), at_x - np.float32(i)
                right = np.int32(1) if i < last_i else np.int32(0)
                down = row_size if j < last_j else np.int32(0)
                back = plane_size if k < last_k else np.int32(0)
                at = _offset(k, j, i, plane_size, row_size)
                v00, v01 = np.float32(_load(source, at)), np.float32(_load(source, np.int32(at + right)))
                at_down = np.int32(at + down)
                v10, v11 = np.float32(_load(source, at_down)), np.float32(_load(source, np.int32(at_down + right)))
                upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
                front = upper + part_y * (lower - upper)
                at = np.int32(at + back)
                v00, v01 = np.float32(_load(source, at)), np.float32(_load(source, np.int32(at + right)))
                at_down = np.int32(at + down)
                v10, v11 = np.float32(_load(source, at_down)), np.float32(_load(source, np.int32(at_down + right)))
                upper, lower = v00 + part_x * (v01 - v00), v10 + part_x * (v11 - v10)
                rear = upper + part_y * (lower - upper)
                value = front + part_z * (rear - front)
                _store(patch, np.int32(first + np.int32(x)), value * scale + shift)


@njit(**_OPTIONS)
def sample_nearest(source, shape, matrix, patch, patch_shape):  # type: ignore[no-untyped-def]
    """Take the voxel of the flat `source` nearest to ``matrix @ (z, y, x, 1)``, into the flat `patch` of any dtype."""
    depth, height, width = patch_shape
    last_z, last_y, last_x = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row_size, plane_size = np.int32(shape[2]), np.int32(shape[1] * shape[2])
    half = np.float32(0.5)
    step_z, step_y, step_x = np.float32(matrix[0, 2]), np.float32(matrix[1, 2]), np.float32(matrix[2, 2])
    step_w = np.float32(matrix[3, 2])
    for z in range(depth):
        for y in range(height):
            start = matrix[:, 0] * z + matrix[:, 1] * y + matrix[:, 3]
            start_z, start_y, start_x = np.float32(start[0]), np.float32(start[1]), np.float32(start[2])
            start_w = np.float32(start[3])
            first = np.int32((z * height + y) * width)
            for x in range(width):
                along = np.float32(np.int32(x))
                nearness = np.float32(1) / (start_w + step_w * along)
                k = np.int32(_clamp((start_z + step_z * along) * nearness, last_z) + half)
                j = np.int32(_clamp((start_y + step_y * along) * nearness, last_y) + half)
                i = np.int32(_clamp((start_x + step_x * along) * nearness, last_x) + half)
                at = _offset(k, j, i, plane_size, row_size)
                _store(patch, np.int32(first + np.int32(x)), patch.dtype.type(_load(source, at)))

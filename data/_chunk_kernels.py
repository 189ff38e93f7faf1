"""Compiled loops that put boxes together of chunks and decode them, without the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ._compiled import compiled, intrinsic

__all__ = ["fletcher32", "gather", "lzf", "lzw", "unshuffle"]


@intrinsic
def _copy(typing_context, out, index, address, count):  # type: ignore[no-untyped-def]
    """Copy `count` bytes from an address to ``out[index]`` (uint8, flat)."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, place, source, size = arguments
        byte = ir.IntType(8).as_pointer()
        target = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [place])
        int64 = ir.IntType(64)
        memcpy = builder.module.declare_intrinsic(
            "llvm.memcpy", [byte, byte, int64], ir.FunctionType(ir.VoidType(), [byte, byte, int64, ir.IntType(1)])
        )
        builder.call(memcpy, [target, builder.inttoptr(source, byte), size, ir.IntType(1)(0)])
        return context.get_dummy_value()

    return types.void(out, types.int64, types.int64, types.int64), generate


@compiled
def gather(addresses: Any, box: Any, itemsize: int, out: Any) -> None:
    """Copy a box from the chunks that it touches to `out` (uint8, flat, the box in C order).

    `box` has a row for each of these, of four axes: its corners lo and hi in voxels, in the grid of chunks the first
    that it touches and the one behind the last, and the shape of a chunk. `addresses` are of these chunks, in C order.
    """
    lo, hi, first, behind, chunk = box[0], box[1], box[2], box[3], box[4]
    pitch1 = (hi[3] - lo[3]) * itemsize
    pitch2 = (hi[2] - lo[2]) * pitch1
    pitch3 = (hi[1] - lo[1]) * pitch2
    k = 0
    for g0 in range(first[0], behind[0]):
        s0 = g0 * chunk[0]
        for g1 in range(first[1], behind[1]):
            s1 = g1 * chunk[1]
            for g2 in range(first[2], behind[2]):
                s2 = g2 * chunk[2]
                a2, b2 = max(lo[2], s2), min(hi[2], s2 + chunk[2])
                for g3 in range(first[3], behind[3]):
                    s3 = g3 * chunk[3]
                    a3, b3 = max(lo[3], s3), min(hi[3], s3 + chunk[3])
                    for i in range(max(lo[0], s0), min(hi[0], s0 + chunk[0])):
                        for j in range(max(lo[1], s1), min(hi[1], s1 + chunk[1])):
                            target = (i - lo[0]) * pitch3 + (j - lo[1]) * pitch2
                            target += (a2 - lo[2]) * pitch1 + (a3 - lo[3]) * itemsize
                            row = ((i - s0) * chunk[1] + j - s1) * chunk[2] + a2 - s2
                            source = addresses[k] + (row * chunk[3] + a3 - s3) * itemsize
                            for _ in range(a2, b2):
                                _copy(out, target, source, (b3 - a3) * itemsize)
                                target += pitch1
                                source += chunk[3] * itemsize
                    k += 1


@compiled
def unshuffle(stored: Any, itemsize: int, out: Any) -> None:
    """Undo HDF5's shuffle filter, which puts first bytes of all elements first, then second ones; uint8 each."""
    count = stored.size // itemsize
    # Plane by plane, in blocks that stay in the first cache: two to five times as fast as element by element.
    for start in range(0, count, 512):
        stop = min(start + 512, count)
        for b in range(itemsize):
            plane = stored[b * count + start : b * count + stop]
            elements = out[start * itemsize + b : stop * itemsize : itemsize]
            for i in range(plane.size):
                elements[i] = plane[i]
    for i in range(count * itemsize, stored.size):
        out[i] = stored[i]


@compiled
def lzf(stored: Any, out: Any) -> int:
    """Decode LZF as liblzf writes it; uint8 each. Return the number of bytes written, -1 where it is no such data."""
    i = o = 0
    while i < stored.size:
        control = int(stored[i])
        i += 1
        if control < 32:
            count = control + 1
            if i + count > stored.size or o + count > out.size:
                return -1
            for _ in range(count):
                out[o] = stored[i]
                i += 1
                o += 1
            continue
        count = control >> 5
        if count == 7:
            if i >= stored.size:
                return -1
            count += int(stored[i])
            i += 1
        if i >= stored.size:
            return -1
        source = o - ((control & 31) << 8) - int(stored[i]) - 1
        i += 1
        count += 2
        if source < 0 or o + count > out.size:
            return -1
        # Byte by byte: a run may overlap what it writes.
        for _ in range(count):
            out[o] = out[source]
            source += 1
            o += 1
    return o


@compiled
def fletcher32(data: Any) -> int:
    """Return HDF5's Fletcher checksum of bytes (uint8), over 16-bit big-endian words."""
    first = second = 0
    for i in range(0, data.size - 1, 2):
        first += (int(data[i]) << 8) | int(data[i + 1])
        first = (first & 0xFFFF) + (first >> 16)
        second += first
        second = (second & 0xFFFF) + (second >> 16)
    if data.size % 2:
        first += int(data[data.size - 1]) << 8
        first = (first & 0xFFFF) + (first >> 16)
        second += first
        second = (second & 0xFFFF) + (second >> 16)
    return (second << 16) | first


@compiled
def lzw(stored: Any, out: Any) -> int:
    """Decode LZW of TIFF 6.0, section 13; uint8 each. Return the number of bytes, -1 where it is no such data."""
    prefix, suffix, length = np.empty(4096, np.int32), np.empty(4096, np.uint8), np.empty(4096, np.int32)
    for i in range(256):
        prefix[i], suffix[i], length[i] = -1, i, 1
    width, following, before = 9, 258, -1
    bits = held = o = 0
    for i in range(stored.size):
        bits = ((bits << 8) | int(stored[i])) & 0xFFFFFF
        held += 8
        if held < width:
            continue
        held -= width
        code = (bits >> held) & ((1 << width) - 1)
        if code == 257:
            break
        if code == 256:
            width, following, before = 9, 258, -1
            continue
        if before < 0:
            if code > 255:
                return -1
            first = code
        else:
            if code > following or (code >= 256 and code < 258):
                return -1
            # A code that is not in the table yet is the last string and its own first byte.
            first = code if code < following else before
            while prefix[first] >= 0:
                first = prefix[first]
            if following < 4096:
                prefix[following], suffix[following], length[following] = before, first, length[before] + 1
                following += 1
            elif code == 4096:
                return -1
        end = o + length[code]
        if end > out.size:
            return -1
        o, at = end, code
        while at >= 0:
            end -= 1
            out[end] = suffix[at]
            at = prefix[at]
        before = code
        # One code early, as Aldus had it.
        if following >= (1 << width) - 1 and width < 12:
            width += 1
    return o

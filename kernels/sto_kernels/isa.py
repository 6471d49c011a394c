"""What differs between processors: register width, and the steps where single instructions matter.

    path     registers  select        8x8 bit transpose  leaf look-up               pivots of a search  rows of a bin
    avx512   512 bits   vpternlogq    vgf2p8affineqb     vpermb: 64 bytes           vpermps: 16 floats  8 by transpose
    avx2     256 bits   and/andn/or   three swaps        vpshufb: 16 bytes, blends  one load a lane     one comparison
    generic  128 bits   and/andn/or   three swaps        one load a (user, slot)    one load a lane     one comparison

The select needs no code here: LLVM forms vpternlogq, or NEON's bsl, from and/or. All paths give the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llvmlite import ir

from sto_kernels.vector_ir import F32, I8, I16, I32, I64, Emitter, Word, vec

USERS = 16  # of one step of a bin search
AFFINE_IDENTITY = 0x8040201008040201  # row i of an 8x8 bit matrix has bit i
AFFINE_MIRROR = 0x0102040810204080  # row i has bit 7 - i


@dataclass(frozen=True)
class Isa:
    """One code path. `needs` are LLVM's names of the processor features; `cpu` is what a forced path compiles for."""

    name: str
    bits: int  # of a register
    cpu: str
    needs: tuple[str, ...]
    high_first: bool  # the transpose wants bit-plane 7 in byte 0
    transpose: Callable[[Emitter, ir.Value], ir.Value]
    pivot: Callable[[Emitter, Word, int, ir.Value], ir.Value]
    look_up: Callable[[Emitter, Sequence[ir.Value], ir.Value], ir.Value] | None  # None: leaves are loaded one by one
    table_bytes: int  # of the register that holds a part of a leaf table
    together: int  # index vectors that share the loads of leaf tables
    eight_rows: Callable[[Emitter, ir.Value, Word], ir.Value] | None  # None: rows are compared one by one

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def lanes(self) -> int:
        """Slots in a register: a word of 64 users each."""
        return self.bits // 64


def _affine(e: Emitter, constant: int, matrix: ir.Value) -> ir.Value:
    """Bit j of byte i of each 64-bit lane = parity of (byte 7 - j of `matrix` and byte i of `constant`)."""
    bytes_ty = vec(I8, 64)
    rows = e.b.bitcast(e.same(vec(I64, 8), constant), bytes_ty)
    return e.call("llvm.x86.vgf2p8affineqb.512", bytes_ty, rows, e.b.bitcast(matrix, bytes_ty), I8(0))


def _transpose_affine(e: Emitter, rows: ir.Value) -> ir.Value:
    """Transpose the 8x8 bits of each 64-bit lane; row 7 stands in byte 0, and bit 7 - u is that of user u."""
    return _affine(e, AFFINE_MIRROR, rows)


def _eight_rows_affine(e: Emitter, bins: ir.Value, first: Word) -> ir.Value:
    """Rows "bin > first + j", j = 0..7, as 8 words; bit 7 - u of a byte is that of its user u.

    A byte a user with the lowest min(bin - first, 8) bits set holds the eight answers; the rest is turning them over.
    """
    bytes_ty = vec(I8, 64)
    low = e.splat(e.b.trunc(first.value, I8), 64)
    above = e.call("llvm.usub.sat.v64i8", bytes_ty, bins, low)
    above = e.call("llvm.umin.v64i8", bytes_ty, above, e.same(bytes_ty, 8))
    ones = ir.Constant(bytes_ty, [(1 << min(k, 8)) - 1 for k in range(64)])
    by_user = e.call("llvm.x86.avx512.permvar.qi.512", bytes_ty, ones, above)
    by_row = _affine(e, AFFINE_IDENTITY, by_user)
    return e.b.bitcast(e.shuffle(by_row, by_row, [8 * (k % 8) + k // 8 for k in range(64)]), vec(I64, 8))


def _transpose_swaps(e: Emitter, rows: ir.Value) -> ir.Value:
    """The same by three rounds of swaps across the diagonal (Hacker's Delight, 7-3); row 0 stands in byte 0."""
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        by = e.same(rows.type, shift)
        swap = e.b.and_(e.b.xor(rows, e.b.lshr(rows, by)), e.same(rows.type, mask))
        rows = e.b.xor(e.b.xor(rows, swap), e.b.shl(swap, by))
    return e.b.bitcast(rows, vec(I8, rows.type.count * 8))


def _pivot_permute(e: Emitter, level_at: Word, level: int, index: ir.Value) -> ir.Value:
    """Element `index` (below 2^level) of the pivots of a level, 16 at once, from registers."""
    floats = vec(F32, USERS)
    if level == 0:
        return e.splat(e.load(F32, level_at), USERS)
    parts = [e.load(floats, level_at + 64 * k) for k in range(max(1, (1 << level) // USERS))]
    if len(parts) == 1:
        return e.call("llvm.x86.avx512.permvar.sf.512", floats, parts[0], index)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    found = [e.call("llvm.x86.avx512.vpermi2var.ps.512", floats, low, index, high) for low, high in pairs]
    bit = 2 * USERS
    while len(found) > 1:
        upper = e.b.icmp_unsigned("!=", e.b.and_(index, e.same(index.type, bit)), e.same(index.type, 0))
        found = [e.b.select(upper, high, low) for low, high in zip(found[::2], found[1::2], strict=True)]
        bit *= 2
    return found[0]


def _pivot_load(e: Emitter, level_at: Word, level: int, index: ir.Value) -> ir.Value:
    """The same by one load a lane."""
    if level == 0:
        return e.splat(e.load(F32, level_at), USERS)
    out = ir.Constant(vec(F32, USERS), ir.Undefined)
    for lane in range(USERS):
        at = level_at + e.widen(e.b.extract_element(index, I32(lane))) * 4
        out = e.b.insert_element(out, e.load(F32, at, align=4), I32(lane))
    return out


def _look_up_permute(e: Emitter, tables: Sequence[ir.Value], index: ir.Value) -> ir.Value:
    """Byte `index` of a table of 64, 128 or 256 bytes, 64 at once."""
    if len(tables) == 1:
        return e.call("llvm.x86.avx512.permvar.qi.512", index.type, tables[0], index)
    pairs = zip(tables[::2], tables[1::2], strict=True)
    found = [e.call("llvm.x86.avx512.vpermi2var.qi.512", index.type, low, index, high) for low, high in pairs]
    if len(found) == 1:
        return found[0]
    return e.b.select(e.b.icmp_signed("<", index, e.same(index.type, 0)), found[1], found[0])


def _look_up_shuffle(e: Emitter, tables: Sequence[ir.Value], index: ir.Value) -> ir.Value:
    """Byte `index` of a table of 16 to 256 bytes, 32 at once: a shuffle a 16 bytes, then blends by bits 4 and up."""
    low = e.b.and_(index, e.same(index.type, 15)) if len(tables) == 16 else index  # bit 7 would clear the byte
    found = [e.call("llvm.x86.avx2.pshuf.b", index.type, e.join([t, t]), low) for t in tables]
    shift = 3
    while len(found) > 1:
        pairs = e.b.bitcast(index, vec(I16, 16))  # bytes have no shift of their own; only their sign bits count
        bit = e.b.bitcast(e.b.shl(pairs, e.same(pairs.type, shift)), index.type)
        upper = e.b.icmp_signed("<", bit, e.same(bit.type, 0))
        found = [e.b.select(upper, b, a) for a, b in zip(found[::2], found[1::2], strict=True)]
        shift -= 1
    return found[0]


_AVX512 = Isa(
    name="avx512",
    bits=512,
    cpu="x86-64-v4",
    needs=("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "gfni"),
    high_first=True,
    transpose=_transpose_affine,
    pivot=_pivot_permute,
    look_up=_look_up_permute,
    table_bytes=64,
    together=2,
    eight_rows=_eight_rows_affine,
)
_AVX2 = Isa(
    name="avx2",
    bits=256,
    cpu="x86-64-v3",
    needs=("avx2",),
    high_first=False,
    transpose=_transpose_swaps,
    pivot=_pivot_load,
    look_up=_look_up_shuffle,
    table_bytes=16,
    together=1,
    eight_rows=None,
)
_GENERIC = replace(_AVX2, name="generic", bits=128, cpu="x86-64", needs=(), look_up=None, table_bytes=0)

ISAS = {isa.name: isa for isa in (_AVX512, _AVX2, _GENERIC)}  # best first

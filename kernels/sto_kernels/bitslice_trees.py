"""Stages 2 and 3 of the bit-sliced kernel: leaf numbers of eight trees, then their leaves, for a block of 64 users.

Stage 2, one tree and one register of slots (a lane is one slot, a bit one user):

        planes(node) = [row of node] + [select(row of node, right, left) for the planes of its two children]

    D planes come out of the root; plane d is bit d of the leaf code of every (slot, user). Bytes of the planes are
    interleaved and 8x8 bits transposed, which gives 8 vectors of leaf codes, a byte a (slot, user):

        vector v, 128-bit part p, byte j  =  slot 2p + v // 4 of the register, user 16 (v % 4) + j

Stage 3, one vector of codes and eight trees: a leaf is a few digits of 6 or 7 bits, each read from a byte table by the
code. Four or two trees' digits add up in a byte before they are widened to 16 bits, and widening is cheap: `all` sums
whole 16-bit pairs, `odd` their upper bytes; in the end even = all - 256 * odd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from sto_kernels.isa import Isa
from sto_kernels.vector_ir import F64, I8, I16, I32, I64, Emitter, Word, vec

BATCH = 8  # trees between two visits of the sums
VECTORS = 8  # vectors of leaf codes that one register of slots becomes


@dataclass(frozen=True)
class Shape:
    """What the code of stages 2 and 3 depends on."""

    isa: Isa
    depth: int
    digit_bits: int
    digits: int

    @property
    def program_bytes(self) -> int:
        """Of one tree and register: a uint32 a node."""
        return 4 * ((1 << self.depth) - 1)

    @property
    def leaf_bytes(self) -> int:
        """Of a tree in the leaf table: a byte table a digit, or int32 leaves where they are loaded one by one."""
        if self.isa.look_up is None:
            return 4 << self.depth
        return self.digits * max(1 << self.depth, self.isa.table_bytes)

    @property
    def chunk(self) -> int:
        """Trees whose digits fit 16 bits, in whole batches."""
        return 65535 // ((1 << self.digit_bits) - 1) // BATCH * BATCH


def emit_codes(e: Emitter, shape: Shape, table: Word, program: Word, out: Word) -> None:
    """Leaf codes of one tree and one register of slots: 8 vectors at `out`. `program` holds byte offsets of rows."""
    isa, words = shape.isa, vec(I64, shape.isa.lanes)

    def row(node: int) -> ir.Value:
        return e.load(words, table + e.widen(e.load(I32, program + 4 * node, 4)), isa.bytes)

    for number, rows in enumerate(_interleave(e, isa, _planes(e, row, 0, shape.depth))):
        e.store(isa.transpose(e, rows), out + number * isa.bytes, isa.bytes)


def _planes(e: Emitter, row_of: Callable[[int], ir.Value], node: int, height: int) -> list[ir.Value]:
    row = row_of(node)
    if height == 1:
        return [row]
    left = _planes(e, row_of, 2 * node + 1, height - 1)
    right = _planes(e, row_of, 2 * node + 2, height - 1)
    not_row = e.b.not_(row)
    return [row] + [e.b.or_(e.b.and_(row, b), e.b.and_(not_row, a)) for a, b in zip(left, right, strict=True)]


def _interleave(e: Emitter, isa: Isa, planes: list[ir.Value]) -> list[ir.Value]:
    """8 vectors whose 64-bit lanes hold one byte of each plane, plane 0 in byte 0 (or 7, as the transpose wants)."""
    zero = e.same(planes[0].type, 0)
    rows: list[ir.Value | None] = [*planes, *[None] * (VECTORS - len(planes))]
    if isa.high_first:
        rows.reverse()
    vectors = [rows]
    for size in (1, 2, 4):  # bytes: first pairs, then quadruples, then whole lanes
        vectors = [
            [_unpack(e, isa, x, y, size, high) for x, y in zip(group[::2], group[1::2], strict=True)]
            for group in vectors
            for high in (False, True)
        ]
    return [zero if group[0] is None else group[0] for group in vectors]


def _unpack(e: Emitter, isa: Isa, x: ir.Value | None, y: ir.Value | None, size: int, high: bool) -> ir.Value | None:
    """Interleave the lower or upper halves of each 128-bit part of x and y, elements of `size` bytes; None is zero."""
    if x is None and y is None:
        return None
    words = vec(I64, isa.lanes)
    ty = vec(ir.IntType(8 * size), isa.bytes // size)
    x, y = (e.b.bitcast(e.same(words, 0) if v is None else v, ty) for v in (x, y))
    part = 16 // size
    first = part // 2 if high else 0
    lanes = [
        lane
        for start in range(0, ty.count, part)
        for k in range(start + first, start + first + part // 2)
        for lane in (k, ty.count + k)
    ]
    return e.b.bitcast(e.shuffle(x, y, lanes), words)


def emit_digits(e: Emitter, shape: Shape, codes: Word, code_stride: Word, leaves: Word, sums: Word) -> None:
    """Add the digits of a batch of trees for `isa.together` vectors of codes to their 16-bit sums."""
    isa, vectors = shape.isa, range(shape.isa.together)
    bytes_ty, pairs_ty = vec(I8, isa.bytes), vec(I16, isa.bytes // 2)
    kept = 2 * shape.digits * isa.bytes
    state = [
        [e.load(pairs_ty, sums + v * kept + k * isa.bytes, isa.bytes) for k in range(2 * shape.digits)] for v in vectors
    ]
    few = 1 << (8 - shape.digit_bits)  # trees whose digits add up in a byte
    for first in range(0, BATCH, few):
        trees = range(first, first + few)
        index = [
            [e.load(bytes_ty, codes + code_stride * tree + v * isa.bytes, isa.bytes) for tree in trees] for v in vectors
        ]
        for digit in range(shape.digits):
            total: list[ir.Value | None] = [None for _ in vectors]
            for tree in trees:
                tables = _tables(e, shape, leaves, tree, digit)
                for v in vectors:
                    found = isa.look_up(e, tables, index[v][tree - first])  # type: ignore[misc]
                    total[v] = found if total[v] is None else e.b.add(total[v], found)
            for v in vectors:
                pairs = e.b.bitcast(total[v], pairs_ty)
                both, odd = state[v][2 * digit : 2 * digit + 2]
                state[v][2 * digit] = e.b.add(both, pairs)
                state[v][2 * digit + 1] = e.b.add(odd, e.b.lshr(pairs, e.same(pairs_ty, 8)))
    for v in vectors:
        for k, value in enumerate(state[v]):
            e.store(value, sums + v * kept + k * isa.bytes, isa.bytes)


def _tables(e: Emitter, shape: Shape, leaves: Word, tree: int, digit: int) -> list[ir.Value]:
    """The byte table of one digit of one tree, in registers."""
    size = shape.isa.table_bytes
    digit_bytes = shape.leaf_bytes // shape.digits
    at = leaves + (tree * shape.leaf_bytes + digit * digit_bytes)
    return [e.load(vec(I8, size), at + k, size) for k in range(0, digit_bytes, size)]


def emit_flush(e: Emitter, shape: Shape, digit_sums: Word, vector: Word, first_slot: Word, sums: Word) -> None:
    """Add the 16-bit sums of one vector of codes to the float64 sums [slot, 64 users]: exact, far below 2^53."""
    isa, half = shape.isa, shape.isa.bytes // 2
    pairs_ty, ints_ty = vec(I16, half), vec(I32, half)
    even, odd = [], []
    for digit in range(shape.digits):
        both, upper = (e.load(pairs_ty, digit_sums + (2 * digit + k) * isa.bytes, isa.bytes) for k in range(2))
        even.append(e.b.zext(e.b.sub(both, e.b.shl(upper, e.same(pairs_ty, 8))), ints_ty))
        odd.append(e.b.zext(upper, ints_ty))
    for part in range(isa.lanes // 2):
        lanes = [lane for k in range(8 * part, 8 * part + 8) for lane in (k, half + k)]
        at = sums + ((first_slot + (vector >> 2) + 2 * part) * 64 + (vector & 3) * 16) * 8
        ordered = [e.shuffle(a, b, lanes) for a, b in zip(even, odd, strict=True)]
        e.store(e.b.fadd(e.load(vec(F64, 16), at, 64), _joined(e, shape, ordered)), at, 64)


def _joined(e: Emitter, shape: Shape, digits: list[ir.Value]) -> ir.Value:
    """Digit sums of 16 users as one float64 each; the first three digits fit an int32."""
    low = digits[0]
    for place, digit in enumerate(digits[1:3], 1):
        low = e.b.add(low, e.b.shl(digit, e.same(digit.type, place * shape.digit_bits)))
    total = e.b.sitofp(low, vec(F64, 16))
    for place, digit in enumerate(digits[3:], 3):
        weight = e.same(vec(F64, 16), float(1 << place * shape.digit_bits))
        total = e.b.fadd(total, e.b.fmul(e.b.sitofp(digit, vec(F64, 16)), weight))
    return total


def emit_leaves(e: Emitter, shape: Shape, codes: Word, code_stride: Word, leaves: Word, sums: Word) -> None:
    """Without byte tables: add the int32 leaves of a batch for the 16 users of one vector to their float64 sums."""
    with e.loop(16) as user:
        total = None
        for tree in range(BATCH):
            code = e.widen(e.load(I8, codes + code_stride * tree + user))
            leaf = e.load(I32, leaves + tree * shape.leaf_bytes + code * 4, 4)
            total = leaf if total is None else e.b.add(total, leaf)
        at = sums + user * 8
        e.store(e.b.fadd(e.load(F64, at, 8), e.b.sitofp(total, F64)), at, 8)

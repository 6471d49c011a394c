"""Stage 1 of the bit-sliced kernel: the rows of a block, one bit a user, from float32 features.

    for each cut list:                        (user lists once, cross lists once a slot)
        bin = number of cuts <= x             a search in a tree of pivots, 16 users a step, no branches
        bin = 255 where x is missing and the list sends missing values right
        for k in 0 .. cuts of the list - 1:   row = the 64 bits "bin > k"

Four to eight comparisons find a bin, and a bin gives a row in one comparison of bytes, or eight rows at once by turning
over a matrix of 8 x 64 bits: that is at least four times less than comparing the floats with every cut. A user row is
stored once for each slot of a register, a cross row has a word a slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sto_kernels.isa import USERS, Isa
from sto_kernels.pieces import PIECE
from sto_kernels.sliced import CutLists
from sto_kernels.vector_ir import F32, I8, I32, I64, Emitter, Word, vec

LEVELS = (4, 5, 6, 7, 8)  # of the searches that are compiled: for up to 15, 31, 63, 127 and 255 cuts
RECORD = 5  # int32 of a list: feature, bin of a missing value, first row, rows, first pivot
WAY = PIECE + 1  # tests on a way
OVERSHOOT = 7  # rows past the end of a list that are written as well; the next list writes over them
PIVOT_PADDING = 16  # floats that the widest load of a level may read past a tree of pivots


@dataclass(frozen=True)
class Lists:
    """Cut lists as the kernel sees them: addresses of records and pivots, and where the lists of each LEVELS end."""

    records: Word
    pivots: Word
    ends: list[Word]


def list_records(lists: CutLists) -> tuple[NDArray[np.int32], list[int], NDArray[np.float32]]:
    """Records [L, RECORD] of cut lists, how many have at most LEVELS[i] levels, and their trees of pivots."""
    count_L = np.diff(lists.first_L)
    ends = [int(np.count_nonzero(count_L < (1 << levels))) for levels in LEVELS]
    trees: list[NDArray[np.float32]] = []
    records, at = np.zeros((len(count_L), RECORD), np.int32), 0
    for number, count in enumerate(count_L):
        levels = next(levels for levels in LEVELS if count < (1 << levels))
        first = int(lists.first_L[number])
        records[number] = lists.feature_L[number], 255 * lists.missing_right_L[number], first, count, at
        trees.append(_pivots(lists.cut_R[first : first + count], levels))
        at += len(trees[-1])
    return records, ends, np.concatenate([*trees, np.zeros(0, np.float32)])


def _pivots(cuts: NDArray[np.float32], levels: int) -> NDArray[np.float32]:
    """A sorted list as a search tree in level order, filled up with infinities, and some padding."""
    full = np.full((1 << levels) - 1, np.inf, np.float32)
    full[: len(cuts)] = cuts
    step = [full[(1 << (levels - 1 - level)) - 1 :: 1 << (levels - level)] for level in range(levels)]
    return np.concatenate([*step, np.zeros(PIVOT_PADDING, np.float32)]).astype(np.float32)


def emit_user_rows(e: Emitter, isa: Isa, lists: Lists, features: tuple[Word, Word], table: Word) -> None:
    """Store the user rows of a block at `table`; `features`: address of its first value, bytes between features."""
    at, stride = features
    for levels, number in _loop(e, lists):
        feature, missing, first, count, tree = _record(e, lists, number)
        bins = _bins(e, isa, levels, at + feature * stride, tree, missing)
        if isa.eight_rows is None:
            for k, row in _compared(e, bins, count):
                e.store(e.splat(row, isa.lanes), table + (first + k) * isa.bytes, isa.bytes)
            continue
        with e.loop(count, step=8) as k:
            rows = isa.eight_rows(e, bins, k)
            for j in range(8):
                e.store(e.shuffle(rows, rows, [j] * isa.lanes), table + (first + k + j) * isa.bytes, isa.bytes)


def emit_cross_rows(
    e: Emitter,
    isa: Isa,
    lists: Lists,
    features: tuple[Word, Word],
    table: Word,
    slots: Word,
    groups: Word,
    bins_at: Word,
) -> None:
    """The same for cross features, slot after slot: a word a slot. `bins_at` is scratch, 64 bytes a slot."""
    at, stride = features
    row_bytes = groups * isa.bytes
    for levels, number in _loop(e, lists):
        feature, missing, first, count, tree = _record(e, lists, number)
        with e.loop(slots) as slot:
            bins = _bins(e, isa, levels, at + (feature * slots + slot) * stride, tree, missing)
            if isa.eight_rows is None:
                for k, row in _compared(e, bins, count):
                    e.store(row, table + (first + k) * row_bytes + slot * 8, 8)
            else:
                e.store(bins, bins_at + slot * 64, 64)
        if isa.eight_rows is None:
            continue
        with e.loop(groups) as group, e.loop(count, step=8) as k:
            by_slot = [e.load(vec(I8, 64), bins_at + (group * 8 + j) * 64, 64) for j in range(8)]
            rows = _transpose_words(e, [isa.eight_rows(e, bins, k) for bins in by_slot])
            for j, row in enumerate(rows):
                e.store(row, table + (first + k + j) * row_bytes + group * isa.bytes, isa.bytes)


def emit_way_rows(e: Emitter, isa: Isa, ways: tuple[Word, Word], table: Word, rows: Word, groups: Word) -> None:
    """Rows "gets here" of the pieces of deep trees: the conjunction of the tests on the way, some of them negated.

    `ways` are the number of ways and the address of their offsets, uint32 [D, groups, WAY]: bytes from `table`, and 1
    in the lowest bit where the test must not hold. Ways above come first, so that those below may go on from them.
    """
    count, offsets = ways
    words = vec(I64, isa.lanes)
    with e.loop(count * groups) as number:
        here = e.same(words, -1)
        for step in range(WAY):
            entry = e.widen(e.load(I32, offsets + number * (4 * WAY) + 4 * step))
            row = e.load(words, table + (entry & 0xFFFFFFFE), isa.bytes)
            is_negated = e.splat((e.word(0) - (entry & 1)).value, isa.lanes)
            here = e.b.and_(here, e.b.xor(row, is_negated))
        e.store(here, rows + number * isa.bytes, isa.bytes)


def _loop(e: Emitter, lists: Lists) -> Iterator[tuple[int, Word]]:
    """(levels, number) of every list, in a loop for each depth of search."""
    start: Word | int = 0
    for levels, end in zip(LEVELS, lists.ends, strict=True):
        with e.loop(end, start) as number:
            yield levels, number
        start = end


def _record(e: Emitter, lists: Lists, number: Word) -> tuple[Word, Word, Word, Word, Word]:
    """Feature, bin of a missing value, first row, number of rows and address of the pivots of a list."""
    record = lists.records + number * (4 * RECORD)
    feature, missing, first, count, pivot = (e.widen(e.load(I32, record + 4 * k)) for k in range(RECORD))
    return feature, missing, first, count, lists.pivots + pivot * 4


def _compared(e: Emitter, bins: ir.Value, count: Word) -> Iterator[tuple[Word, ir.Value]]:
    """(k, 64 bits "bin > k") for k below `count`, and a few more that nobody reads."""
    unrolled = 4
    with e.loop(count, step=unrolled) as first:
        low = e.splat(e.b.trunc(first.value, I8), 64)
        for k in range(unrolled):
            above = e.b.icmp_unsigned(">", bins, e.b.add(low, e.same(low.type, k)))
            yield first + k, e.b.bitcast(above, I64)


def _transpose_words(e: Emitter, vectors: list[ir.Value]) -> list[ir.Value]:
    """Word j of vector i -> word i of vector j, for 8 vectors of 8 words: pairs first, then 4x4 parts of two words."""
    out: list[ir.Value] = [None] * 8
    for odd in range(2):
        lanes = [lane for part in range(4) for lane in (2 * part + odd, 8 + 2 * part + odd)]
        a, b, c, d = (e.shuffle(x, y, lanes) for x, y in zip(vectors[::2], vectors[1::2], strict=True))
        for half in range(2):
            halves = [*range(4 * half, 4 * half + 4), *range(8 + 4 * half, 12 + 4 * half)]
            ab, cd = e.shuffle(a, b, halves), e.shuffle(c, d, halves)
            for part in range(2):
                picked = [2 * part, 2 * part + 1, 4 + 2 * part, 5 + 2 * part]
                out[4 * half + 2 * part + odd] = e.shuffle(ab, cd, [*picked, *(8 + lane for lane in picked)])
    return out


def _bins(e: Emitter, isa: Isa, levels: int, values: Word, tree: Word, missing: Word) -> ir.Value:
    """Bins of 64 users as bytes; in the search index i of a level stands for the i-th of its 2^level ranges."""
    ints = vec(I32, USERS)
    steps = range(64 // USERS)
    x = [e.load(vec(F32, USERS), values + 4 * USERS * k) for k in steps]
    for k in steps:  # every feature is a stream of its own, too many for the processor to foresee
        e.prefetch(values + 4 * (64 + USERS * k))
    index = [e.same(ints, 0) for _ in steps]
    for level in range(levels):
        level_at = tree + 4 * ((1 << level) - 1)
        for k in steps:
            above = e.b.fcmp_ordered(">=", x[k], isa.pivot(e, level_at, level, index[k]))
            lower = e.b.add(index[k], index[k])
            index[k] = e.b.select(above, e.b.add(lower, e.same(ints, 1)), lower)
    fill = e.splat(e.b.trunc(missing.value, I32), USERS)
    for k in steps:
        is_missing = e.b.fcmp_unordered("uno", x[k], x[k])
        index[k] = e.b.or_(index[k], e.b.select(is_missing, fill, e.same(ints, 0)))
    return e.join([e.b.trunc(i, vec(I8, USERS)) for i in index])

"""The whole bit-sliced kernel as one LLVM function: the stages of a block in a loop over blocks.

The function takes one pointer, to an array of 64-bit arguments in the order of `ARGUMENTS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from sto_kernels.bitslice_finish import emit_best, emit_by_user, emit_margins, emit_probabilities
from sto_kernels.bitslice_masks import LEVELS, Lists, emit_cross_rows, emit_user_rows, emit_way_rows
from sto_kernels.bitslice_trees import BATCH, VECTORS, Shape, emit_codes, emit_digits, emit_flush, emit_leaves
from sto_kernels.vector_ir import F32, F64, I16, I64, POINTER, Emitter, Word, vec

FUNCTION = "score_blocks"
ARGUMENTS = (
    "first_block stop_block",  # blocks of 64 users
    "user user_stride cross cross_stride base base_stride allowed allowed_stride",  # inputs: address, bytes a feature
    "margins probabilities slot margin runner_up",  # outputs, 0 = not wanted
    "slots groups trees",  # groups: registers that hold all slots; trees: a multiple of 8
    *(f"{kind}_records {kind}_pivots" for kind in ("user", "cross")),
    *(f"{kind}_end_{n}" for kind in ("user", "cross") for n in range(len(LEVELS))),
    "cross_rows ways way_offsets way_rows",
    "program leaves scale bias",
    "table bins codes digit_sums sums slot_margins state",  # scratch of one thread
)
NAMES = tuple(name for line in ARGUMENTS for name in line.split())


@dataclass(frozen=True)
class _Kernel:
    """The function under construction: its shape and its arguments by name."""

    e: Emitter
    shape: Shape
    arguments: dict[str, Word]

    def __getattr__(self, name: str) -> Word:
        return self.arguments[name]


def build_module(shape: Shape) -> ir.Module:
    """IR of the kernel for one code path, depth and form of leaves."""
    module = ir.Module(name=f"bitslice_{shape.isa.name}_d{shape.depth}_{shape.digits}x{shape.digit_bits}")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), FUNCTION)
    e = Emitter(module, ir.IRBuilder(function.append_basic_block("entry")))
    at = Word(e, e.b.ptrtoint(function.args[0], I64))
    k = _Kernel(e, shape, {name: Word(e, e.load(I64, at + 8 * place, 8)) for place, name in enumerate(NAMES)})
    with e.loop(k.stop_block, k.first_block) as block:
        _rows(k, block)
        _trees(k)
        _finish(k, block)
    e.b.ret_void()
    return module


def _rows(k: _Kernel, block: Word) -> None:
    isa, at = k.shape.isa, block * (64 * 4)
    user_lists, cross_lists = (
        Lists(
            k.arguments[f"{kind}_records"],
            k.arguments[f"{kind}_pivots"],
            [k.arguments[f"{kind}_end_{n}"] for n in range(len(LEVELS))],
        )
        for kind in ("user", "cross")
    )
    emit_user_rows(k.e, isa, user_lists, (k.user + at, k.user_stride), k.table)
    cross = (k.cross + at, k.cross_stride)
    emit_cross_rows(k.e, isa, cross_lists, cross, k.cross_rows, k.slots, k.groups, k.bins)
    emit_way_rows(k.e, isa, (k.ways, k.way_offsets), k.table, k.way_rows, k.groups)


def _trees(k: _Kernel) -> None:
    e, shape = k.e, k.shape
    _zero(k, k.sums, k.groups * (shape.isa.lanes * 8))
    if shape.isa.look_up is None:
        with e.loop(k.trees, step=BATCH) as first:
            _codes(k, first)
            with e.loop(k.groups * VECTORS) as vector:
                slot = (vector >> 3) * shape.isa.lanes + ((vector & 7) >> 2)
                sums = k.sums + (slot * 64 + (vector & 3) * 16) * 8
                emit_leaves(e, shape, k.codes + vector * 16, *_leaves(k, first), sums)
        return
    kept = 2 * shape.digits * shape.isa.bytes
    with e.loop(k.trees, step=shape.chunk) as first_of_chunk:
        _zero(k, k.digit_sums, k.groups * (VECTORS * kept // 64))
        with e.loop((first_of_chunk + shape.chunk).at_most(k.trees), first_of_chunk, BATCH) as first:
            _codes(k, first)
            with e.loop(k.groups * VECTORS, step=shape.isa.together) as vector:
                codes = k.codes + vector * shape.isa.bytes
                emit_digits(e, shape, codes, *_leaves(k, first), k.digit_sums + vector * kept)
        with e.loop(k.groups) as group, e.loop(VECTORS) as vector:
            digit_sums = k.digit_sums + (group * VECTORS + vector) * kept
            emit_flush(e, shape, digit_sums, vector, group * shape.isa.lanes, k.sums)


def _zero(k: _Kernel, at: Word, lines: Word) -> None:
    with k.e.loop(lines) as line:
        k.e.store(k.e.same(vec(I64, 8), 0), at + line * 64, 64)


def _codes(k: _Kernel, first: Word) -> None:
    """Leaf codes of a batch of trees for all registers of slots; programs stand tree after tree, group after group."""
    out = VECTORS * k.shape.isa.bytes
    with k.e.loop(BATCH) as tree, k.e.loop(k.groups) as group:
        program = k.program + ((first + tree) * k.groups + group) * k.shape.program_bytes
        emit_codes(k.e, k.shape, k.table, program, k.codes + (tree * k.groups + group) * out)


def _leaves(k: _Kernel, first: Word) -> tuple[Word, Word]:
    """Bytes between the codes of two trees, and the leaf tables of a batch."""
    return k.groups * (VECTORS * k.shape.isa.bytes), k.leaves + first * k.shape.leaf_bytes


def _finish(k: _Kernel, block: Word) -> None:
    e, users = k.e, block * 64
    numbers = (e.b.bitcast(k.scale.value, F64), e.b.bitcast(k.bias.value, F64))
    base = (e.moved(k.base, users * 4), k.base_stride)
    emit_margins(e, k.sums, k.slot_margins, k.slots, numbers, base)
    with e.when(k.margins):
        emit_by_user(e, k.slot_margins, k.slots, F32, 4, k.margins + users * k.slots * 4)
    with e.when(k.probabilities):
        emit_probabilities(e, k.slot_margins, k.slots, k.sums)
        emit_by_user(e, k.sums, k.slots, I16, 2, k.probabilities + users * k.slots * 2)
    with e.when(k.slot):
        allowed = (e.moved(k.allowed, users), k.allowed_stride)
        out = (k.slot + users, k.margin + users * 4, k.runner_up + users)
        emit_best(e, k.slot_margins, k.slots, allowed, out, k.state)

"""Stage 4 of the bit-sliced kernel: from sums to margins, probabilities and the best slots of a block of 64 users."""

from __future__ import annotations

import math

from llvmlite import ir

from sto_kernels.vector_ir import F32, F64, I8, I16, I32, Emitter, Word, vec

USERS = 16  # of a step
NO_SLOT = 255
_FLOATS, _INTS = vec(F32, USERS), vec(I32, USERS)


def emit_margins(
    e: Emitter, sums: Word, margins: Word, slots: Word, numbers: tuple[ir.Value, ir.Value], base: tuple[Word, Word]
) -> None:
    """margins [slot, 64] float32 = sums * scale + bias (+ base), in float64; a zero base address means none."""
    doubles = vec(F64, USERS)
    scale, bias = (e.splat(number, USERS) for number in numbers)
    base_at, base_stride = base
    with e.loop(slots) as slot:
        for user in range(0, 64, USERS):
            total = e.load(doubles, sums + (slot * 64 + user) * 8, 64)
            margin = e.b.fadd(e.b.fmul(total, scale), bias)
            e.store(margin, sums + (slot * 64 + user) * 8, 64)
        with e.when(base_at):
            for user in range(0, 64, USERS):
                at = sums + (slot * 64 + user) * 8
                added = e.b.fpext(e.load(_FLOATS, base_at + slot * base_stride + 4 * user), doubles)
                e.store(e.b.fadd(e.load(doubles, at, 64), added), at, 64)
        for user in range(0, 64, USERS):
            margin = e.load(doubles, sums + (slot * 64 + user) * 8, 64)
            e.store(e.b.fptrunc(margin, _FLOATS), margins + (slot * 64 + user) * 4, 64)


def emit_best(
    e: Emitter, margins: Word, slots: Word, allowed: tuple[Word, Word], out: tuple[Word, Word, Word], state: Word
) -> None:
    """Best slot, its margin and the runner-up; the first of equals wins. `allowed` bytes [slot, 64]; 0 = all are.

    `state` is scratch of 4 vectors: best margin, best slot, second margin, second slot.
    """
    allowed_at, allowed_stride = allowed
    for user in range(0, 64, USERS):
        _start(e, state)
        with e.loop(slots) as slot:
            here = margins + (slot * 64 + user) * 4
            with e.when(allowed_at):
                is_open = e.load(vec(I8, USERS), allowed_at + slot * allowed_stride + user)
                closed = e.b.icmp_unsigned("==", is_open, e.same(is_open.type, 0))
                e.store(e.b.select(closed, e.same(_FLOATS, -math.inf), e.load(_FLOATS, here, 64)), here, 64)
            _challenge(e, state, e.load(_FLOATS, here, 64), e.splat(e.b.trunc(slot.value, I32), USERS))
        best, slot_of, _, second_of = (e.load(ty, state + 64 * k, 64) for k, ty in enumerate(_STATE))
        slot_out, margin_out, second_out = out
        e.store(e.b.trunc(slot_of, vec(I8, USERS)), slot_out + user)
        e.store(best, margin_out + user * 4)
        e.store(e.b.trunc(second_of, vec(I8, USERS)), second_out + user)


_STATE = (_FLOATS, _INTS, _FLOATS, _INTS)


def _start(e: Emitter, state: Word) -> None:
    for k, number in enumerate((-math.inf, NO_SLOT, -math.inf, NO_SLOT)):
        e.store(e.same(_STATE[k], number), state + 64 * k, 64)


def _challenge(e: Emitter, state: Word, margin: ir.Value, slot: ir.Value) -> None:
    """Let a slot's margins challenge the best two so far; only a larger one wins, so equals stay in order."""
    best, slot_of, second, second_of = (e.load(ty, state + 64 * k, 64) for k, ty in enumerate(_STATE))
    is_best = e.b.fcmp_ordered(">", margin, best)
    is_second = e.b.fcmp_ordered(">", margin, second)
    after = (
        e.b.select(is_best, margin, best),
        e.b.select(is_best, slot, slot_of),
        e.b.select(is_best, best, e.b.select(is_second, margin, second)),
        e.b.select(is_best, slot_of, e.b.select(is_second, slot, second_of)),
    )
    for k, value in enumerate(after):
        e.store(value, state + 64 * k, 64)


def emit_by_user(e: Emitter, rows: Word, slots: Word, ty: ir.Type, size: int, out: Word) -> None:
    """Copy [slot, 64] elements of `size` bytes to [64, slot] at `out`."""
    with e.loop(64) as user, e.loop(slots) as slot:
        e.store(e.load(ty, rows + (slot * 64 + user) * size, size), out + (user * slots + slot) * size, size)


def emit_probabilities(e: Emitter, margins: Word, slots: Word, out: Word) -> None:
    """p [slot, 64] float16 = sigmoid(margin), correctly rounded from a float32 that is good to 3 ulp."""
    with e.loop(slots) as slot:
        for user in range(0, 64, USERS):
            margin = e.load(_FLOATS, margins + (slot * 64 + user) * 4, 64)
            one = e.same(_FLOATS, 1.0)
            p = e.b.fdiv(one, e.b.fadd(one, _exp(e, e.b.fsub(e.same(_FLOATS, 0.0), margin))))
            e.store(_to_half(e, p), out + (slot * 64 + user) * 2, 32)


def _exp(e: Emitter, x: ir.Value) -> ir.Value:
    """exp by 2^n * e^r, |r| <= ln(2)/2, Taylor to r^7; the argument is held to -87..88."""

    def same(number: float) -> ir.Constant:
        return e.same(_FLOATS, number)

    x = e.b.select(e.b.fcmp_ordered("<", x, same(88.0)), x, same(88.0))
    x = e.b.select(e.b.fcmp_ordered(">", x, same(-87.0)), x, same(-87.0))
    shifter = same(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer that stands in the low bits
    shifted = e.b.fadd(e.b.fmul(x, same(1 / math.log(2))), shifter)
    n = e.b.fsub(shifted, shifter)
    r = e.b.fsub(e.b.fsub(x, e.b.fmul(n, same(0.693359375))), e.b.fmul(n, same(-2.12194440e-4)))
    total = same(1 / math.factorial(7))
    for power in range(6, -1, -1):
        total = e.b.fadd(e.b.fmul(total, r), same(1 / math.factorial(power)))
    exponent = e.b.shl(e.b.bitcast(shifted, _INTS), e.same(_INTS, 23))
    return e.b.bitcast(e.b.add(e.b.bitcast(total, _INTS), exponent), _FLOATS)


def _to_half(e: Emitter, p: ir.Value) -> ir.Value:
    """float32 in [0, 1] to the bits of float16, ties to even; in integers, as not every processor has the instruction.

    Below 2^-14 a half is a multiple of 2^-24, which is the last bit of a float32 in [0.5, 1).
    """
    bits = e.b.bitcast(p, _INTS)
    odd = e.b.and_(e.b.lshr(bits, e.same(_INTS, 13)), e.same(_INTS, 1))
    rounded = e.b.lshr(e.b.add(e.b.add(bits, e.same(_INTS, 0xFFF)), odd), e.same(_INTS, 13))
    normal = e.b.sub(rounded, e.same(_INTS, 112 << 10))
    half = e.same(_FLOATS, 0.5)
    small = e.b.sub(e.b.bitcast(e.b.fadd(p, half), _INTS), e.b.bitcast(half, _INTS))
    is_small = e.b.fcmp_ordered("<", p, e.same(_FLOATS, 2.0**-14))
    return e.b.trunc(e.b.select(is_small, small, normal), vec(I16, USERS))

"""A small language for kernels in LLVM's vector IR: words with operators, loops, vectors of a fixed width.

`Word` is a 64-bit integer value (a count or an address) that adds and multiplies like a number, so that address
arithmetic reads as arithmetic. Everything else is a thin name for one IR instruction. Nothing here knows what the
kernel computes, nor the processor: LLVM splits a vector that is wider than the processor's registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()


def vec(element: ir.Type, count: int) -> ir.VectorType:
    return ir.VectorType(element, count)


@dataclass(frozen=True)
class Word:
    """A 64-bit integer in the kernel under construction."""

    emit: Emitter
    value: ir.Value

    def _with(self, op: str, other: Word | int) -> Word:
        return Word(self.emit, getattr(self.emit.b, op)(self.value, self.emit.word(other).value))

    def __add__(self, other: Word | int) -> Word:
        return self if other == 0 and isinstance(other, int) else self._with("add", other)

    def __sub__(self, other: Word | int) -> Word:
        return self._with("sub", other)

    def __mul__(self, other: Word | int) -> Word:
        return self._with("mul", other)

    def __rshift__(self, bits: int) -> Word:
        return self._with("lshr", bits)

    def __and__(self, mask: int) -> Word:
        return self._with("and_", mask)

    def at_most(self, other: Word | int) -> Word:
        """The smaller of the two."""
        other = self.emit.word(other)
        less = self.emit.b.icmp_unsigned("<", self.value, other.value)
        return Word(self.emit, self.emit.b.select(less, self.value, other.value))


class Emitter:
    """Builds the one function of a kernel; `b` is llvmlite's builder, for the instructions that need no name here."""

    def __init__(self, module: ir.Module, builder: ir.IRBuilder) -> None:
        self.module, self.b = module, builder

    def word(self, value: Word | int) -> Word:
        return value if isinstance(value, Word) else Word(self, ir.Constant(I64, value))

    def widen(self, value: ir.Value) -> Word:
        """A narrower unsigned integer as a word."""
        return Word(self, self.b.zext(value, I64))

    def load(self, ty: ir.Type, address: Word, align: int = 1) -> ir.Value:
        return self.b.load(self.b.inttoptr(address.value, POINTER), typ=ty, align=align)

    def store(self, value: ir.Value, address: Word, align: int = 1) -> None:
        self.b.store(value, self.b.inttoptr(address.value, POINTER), align=align)

    def prefetch(self, address: Word) -> None:
        """Ask for a line of memory, into the second-level cache; any address is harmless."""
        pointer = self.b.inttoptr(address.value, POINTER)
        self.call("llvm.prefetch.p0", ir.VoidType(), pointer, I32(0), I32(2), I32(1))

    def splat(self, value: ir.Value, count: int) -> ir.Value:
        """A vector of `count` copies of a scalar."""
        ty = vec(value.type, count)
        one = self.b.insert_element(ir.Constant(ty, ir.Undefined), value, ir.Constant(I32, 0))
        return self.shuffle(one, one, [0] * count)

    def same(self, ty: ir.VectorType, number: float) -> ir.Constant:
        """A constant vector of one number."""
        return ir.Constant(ty, [number] * ty.count)

    def shuffle(self, x: ir.Value, y: ir.Value, lanes: Sequence[int]) -> ir.Value:
        """Lanes picked from x, then y (numbered on)."""
        return self.b.shuffle_vector(x, y, ir.Constant(vec(I32, len(lanes)), list(lanes)))

    def part(self, x: ir.Value, first: int, count: int) -> ir.Value:
        return self.shuffle(x, x, range(first, first + count))

    def join(self, parts: Sequence[ir.Value]) -> ir.Value:
        """Vectors one after the other as one; their number is a power of two."""
        while len(parts) > 1:
            lanes = range(2 * parts[0].type.count)
            parts = [self.shuffle(x, y, lanes) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        """Call an LLVM intrinsic by its full name."""
        function = self.module.globals.get(name)
        if function is None:
            function = ir.Function(self.module, ir.FunctionType(result, [a.type for a in args]), name)
        return self.b.call(function, args)

    @contextmanager
    def loop(self, stop: Word | int, start: Word | int = 0, step: int = 1) -> Iterator[Word]:
        """for i in range(start, stop, step), with i a word."""
        head, body, done = (self.b.append_basic_block(name) for name in ("head", "body", "done"))
        before, first, last = self.b.block, self.word(start).value, self.word(stop).value
        self.b.branch(head)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        index.add_incoming(first, before)
        self.b.cbranch(self.b.icmp_unsigned("<", index, last), body, done)
        self.b.position_at_end(body)
        yield Word(self, index)
        index.add_incoming(self.b.add(index, ir.Constant(I64, step)), self.b.block)
        self.b.branch(head)
        self.b.position_at_end(done)

    def moved(self, address: Word, by: Word) -> Word:
        """address + by; 0, which stands for an input that is not there, stays 0."""
        is_there = self.b.icmp_unsigned("!=", address.value, ir.Constant(I64, 0))
        return Word(self, self.b.select(is_there, (address + by).value, ir.Constant(I64, 0)))

    @contextmanager
    def when(self, address: Word) -> Iterator[None]:
        """if address != 0: an output that was asked for, an input that is there."""
        with self.b.if_then(self.b.icmp_unsigned("!=", address.value, ir.Constant(I64, 0))):
            yield

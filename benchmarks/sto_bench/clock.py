"""The clock that a core really runs at, by a chain of instructions whose latency is known.

/proc/cpuinfo of a virtual machine reports a nominal figure (2.6 GHz on a machine that ran at 3.6), and a limit in
cycles says nothing without the true one.
"""

import time
from functools import cache

import numpy as np
from llvmlite import ir

from sto_kernels.codegen import compile_function, host_target
from sto_kernels.vector_ir import I64, POINTER, Emitter, Word

FUNCTION, UNROLLED, ROUNDS = "chain", 64, 200_000
CYCLES = 3 + 1  # a 64-bit multiplication, then an exclusive or, on every x86 since 2008 and on current Arm cores


def _chain() -> str:
    """x = (x * m) ^ m, over and over: each step waits for the one before, and no compiler can shorten it."""
    module = ir.Module(name=FUNCTION)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER]), FUNCTION)
    e = Emitter(module, ir.IRBuilder(function.append_basic_block("entry")))
    at = Word(e, e.b.ptrtoint(function.args[0], I64))
    factor = e.load(I64, at, 8)
    with e.loop(ROUNDS):
        x = e.load(I64, at + 8, 8)
        for _ in range(UNROLLED):
            x = e.b.xor(e.b.mul(x, factor), factor)
        e.store(x, at + 8, 8)
    e.b.ret_void()
    return str(module)


@cache
def measured_mhz() -> float:
    """The clock of one core under load, MHz: the best of a few tries of some tens of milliseconds."""
    call = compile_function(_chain(), FUNCTION, host_target()).call
    state = np.array([0x9E3779B97F4A7C15, 1], np.uint64)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        call(state.ctypes.data)
        seconds.append(time.perf_counter() - began)
    return ROUNDS * UNROLLED * CYCLES / min(seconds[1:]) / 1e6

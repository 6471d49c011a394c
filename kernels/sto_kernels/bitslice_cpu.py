"""The bit-sliced forest on the CPU: all slots of 64 users at once, without a branch or a gather in the hot loop.

Expanding a user into one row a slot, as everybody does, walks every tree S times over mostly the same tests. Here a
test is one bit, and 64 users are one word:

    for each block of 64 users:
        1. rows      every distinct test (feature, cut) once: word = bits "x >= cut"         bitslice_masks.py
        2. codes     a tree of depth D is a network of selects over its rows:                 bitslice_trees.py
                     planes(node) = [row] + select(row, planes(right), planes(left))
                     then a bit transpose: D planes -> a byte "leaf number" a (user, slot)
        3. leaves    digits of fixed-point leaf values by byte look-up, summed as integers    bitslice_trees.py
        4. finish    margins, best slot and runner-up, probabilities                          bitslice_finish.py

A register in stage 2 (512 bits, 8 slots; narrower ones hold 4 or 2):

        bit        0          63 64        127            448        511
                   +------------+------------+-- ... ------+------------+
        lane       |  slot 0    |  slot 1    |             |  slot 7    |     group 0; slots 8-15 are group 1, ...
                   | users 0-63 | users 0-63 |             | users 0-63 |
                   +------------+------------+-- ... ------+------------+

    a user row has the same word in every lane, a slot row all or no bits of a lane, a cross row a word a lane

Every decision compares the float32 numbers that XGBoost compares, sums are integers: threads, chunks, code paths and
the GPU kernel give the same bits. isa.py names what differs between processors; the function is built as LLVM IR
(bitslice_ir.py) and compiled once a machine, not once a model (codegen.py).

Shapes: U users, S slots, F features, C cross features, T trees, N nodes of a tree.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sto_kernels.bitslice_ir import FUNCTION, NAMES, build_module
from sto_kernels.bitslice_layout import Bytes, CpuForest, aligned, first_slot_row, prepare
from sto_kernels.bitslice_trees import BATCH, VECTORS, Shape
from sto_kernels.codegen import Compiled, Target, compile_function, host_features, host_target
from sto_kernels.isa import ISAS, Isa
from sto_kernels.sliced import SlicedForest

__all__ = ["ISAS", "CpuForest", "Inputs", "IsaUnavailable", "compiled", "find_isa", "prepare", "score", "target_of"]

BLOCK = 64


class IsaUnavailable(ValueError):
    """A code path that this processor does not have."""


def find_isa(name: str | None = None) -> Isa:
    """The best code path of this processor, or the one asked for; IsaUnavailable where it cannot run."""
    have = host_features()
    if name is None:
        return next(isa for isa in ISAS.values() if all(have.get(need) for need in isa.needs))
    missing = [need for need in ISAS[name].needs if not have.get(need)]
    if missing:
        raise IsaUnavailable(f"code path {name} needs the processor features {', '.join(missing)}; this one lacks them")
    return ISAS[name]


def target_of(isa: Isa) -> Target:
    """The host for its own best path; a lesser processor for a lesser path, so that it is what such a machine runs."""
    host = host_target()
    if isa is find_isa() or not host.triple.startswith("x86_64"):
        return host
    return Target(host.triple, isa.cpu, "")


@cache
def compiled(shape: Shape) -> Compiled:
    """The kernel of a shape, ready to call; the first call of a process loads or compiles it."""
    return compile_function(str(build_module(shape)), FUNCTION, target_of(shape.isa))


@dataclass(frozen=True)
class Inputs:
    """Arrays of one call, users last and contiguous: float32 [F, U], [C * S, U], [S, U]; `allowed_SU` is bytes."""

    user_FU: NDArray[np.float32]
    cross_RU: NDArray[np.float32] | None
    base_SU: NDArray[np.float32] | None
    allowed_SU: Bytes | None

    def tail(self, start: int) -> Inputs:
        """The users from `start` on, filled up to a block."""

        def pad(array: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
            return None if array is None else np.pad(array[:, start:], ((0, 0), (0, BLOCK - array.shape[1] + start)))

        return Inputs(*(pad(array) for array in (self.user_FU, self.cross_RU, self.base_SU, self.allowed_SU)))  # type: ignore[arg-type]

    def numbers(self) -> dict[str, int]:
        """Addresses and bytes between rows by argument name; 0 for what is not there."""
        named = {"user": self.user_FU, "cross": self.cross_RU, "base": self.base_SU, "allowed": self.allowed_SU}
        out: dict[str, int] = {}
        for name, array in named.items():
            out[name] = 0 if array is None else array.ctypes.data
            out[f"{name}_stride"] = 0 if array is None else array.strides[0]
        return out


def score(forest: CpuForest, inputs: Inputs, outputs: dict[str, NDArray[np.generic]], threads: int) -> None:
    """Fill the outputs (arrays by argument name, users first) for all users; the same bytes for any `threads`."""
    _check(forest.sliced, inputs)
    users = int(inputs.user_FU.shape[1])
    whole = users // BLOCK * BLOCK
    jobs: list[Callable[[], None]] = []
    edges = np.linspace(0, whole // BLOCK, max(1, min(threads, whole // BLOCK)) + 1).astype(int)
    for start, stop in pairwise(edges):
        if stop > start:
            jobs.append(_job(forest, inputs, outputs, int(start), int(stop)))
    if whole < users:
        jobs.append(_tail_job(forest, inputs, outputs, whole))
    if len(jobs) <= 1 or threads <= 1:
        for job in jobs:
            job()
        return
    for future in [_pool(threads, os.getpid()).submit(job) for job in jobs]:
        future.result()


def _check(sliced: SlicedForest, inputs: Inputs) -> None:
    """ValueError for arrays that the kernel would read past the end of; it only knows addresses."""
    users = inputs.user_FU.shape[1]
    expected = {
        "user": (inputs.user_FU, sliced.n_user, np.float32),
        "cross": (inputs.cross_RU, sliced.n_cross * sliced.slots, np.float32),
        "base": (inputs.base_SU, sliced.slots, np.float32),
        "allowed": (inputs.allowed_SU, sliced.slots, np.uint8),
    }
    for name, (array, rows, dtype) in expected.items():
        if array is None and (name != "cross" or not sliced.n_cross):
            continue
        is_apart = array is not None and rows > 0 and users > 1 and array.strides[1] != array.itemsize
        if array is None or array.shape != (rows, users) or array.dtype != dtype or is_apart:
            found = None if array is None else (array.shape, array.dtype)
            raise ValueError(f"{name} must be [{rows}, {users}] of {np.dtype(dtype)}, users contiguous; found {found}")


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, with their scratch, as small batches cannot wait for new ones; a forked child gets its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"bitslice-{process}")


def _job(
    forest: CpuForest, inputs: Inputs, outputs: dict[str, NDArray[np.generic]], start: int, stop: int
) -> Callable[[], None]:
    call = compiled(forest.shape).call

    def run() -> None:  # holds forest, inputs and outputs while the kernel reads their addresses
        numbers = forest.numbers | inputs.numbers() | {name: array.ctypes.data for name, array in outputs.items()}
        scratch = _scratch(forest)
        numbers |= {name: array.ctypes.data for name, array in scratch.items()}
        numbers |= {"first_block": start, "stop_block": stop}
        arguments = np.array([numbers.get(name, 0) for name in NAMES], np.uint64)
        call(arguments.ctypes.data)

    return run


def _tail_job(
    forest: CpuForest, inputs: Inputs, outputs: dict[str, NDArray[np.generic]], start: int
) -> Callable[[], None]:
    """The last, ragged block, by way of padded copies."""
    padded = {name: np.empty((BLOCK, *array.shape[1:]), array.dtype) for name, array in outputs.items()}
    whole = _job(forest, inputs.tail(start), padded, 0, 1)

    def run() -> None:
        whole()
        for name, array in outputs.items():
            array[start:] = padded[name][: len(array) - start]

    return run


_kept = threading.local()


def _scratch(forest: CpuForest) -> dict[str, Bytes]:
    """Working memory of this thread by argument name, kept as long as the forest."""
    if not hasattr(_kept, "by_forest"):
        _kept.by_forest = WeakKeyDictionary()
    by_forest: WeakKeyDictionary[CpuForest, dict[str, Bytes]] = _kept.by_forest
    if forest not in by_forest:
        by_forest[forest] = _new_scratch(forest)
    return by_forest[forest]


def _new_scratch(forest: CpuForest) -> dict[str, Bytes]:
    shape, isa, slots = forest.shape, forest.shape.isa, forest.groups * forest.shape.isa.lanes
    vectors = forest.groups * VECTORS
    sizes = {
        "table": forest.row_bytes,
        "bins": slots * BLOCK,
        "codes": BATCH * vectors * isa.bytes,
        "digit_sums": 2 * shape.digits * vectors * isa.bytes,
        "sums": slots * BLOCK * 8,
        "slot_margins": slots * BLOCK * 4,
        "state": 4 * 64,
    }
    arrays: dict[str, Bytes] = {name: aligned(np.zeros(size, np.uint8)) for name, size in sizes.items()}
    user_bytes = first_slot_row(forest.sliced) * isa.bytes
    arrays["table"][user_bytes : user_bytes + len(forest.slot_rows)] = forest.slot_rows
    arrays["cross_rows"] = arrays["table"][user_bytes + len(forest.slot_rows) :]
    arrays["way_rows"] = arrays["cross_rows"][forest.sliced.cross.rows * forest.groups * isa.bytes :]
    return arrays

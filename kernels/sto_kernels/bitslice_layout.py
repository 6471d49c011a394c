"""A sliced forest in the bytes of one code path of the CPU kernel: offsets of rows, leaf tables, search trees.

Shapes: T trees, N nodes of a tree, R rows, D ways of W tests, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_kernels.bitslice_masks import OVERSHOOT, list_records
from sto_kernels.bitslice_trees import BATCH, Shape
from sto_kernels.isa import Isa
from sto_kernels.sliced import SlicedForest

Bytes = NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class CpuForest:
    """A sliced forest in the byte layout of one code path; `numbers` are the arguments that do not change."""

    sliced: SlicedForest
    shape: Shape
    numbers: dict[str, int]
    row_bytes: int
    slot_rows: Bytes
    keep: tuple[NDArray[np.generic], ...]  # the arrays that the addresses in `numbers` point to

    @property
    def groups(self) -> int:
        return self.numbers["groups"]


def prepare(sliced: SlicedForest, isa: Isa) -> CpuForest:
    """Lay a forest out for a code path: byte offsets of rows, leaf tables, search trees of the cut lists."""
    shape = Shape(isa, sliced.depth, sliced.digit_bits, sliced.digits)
    groups = -(-sliced.slots // isa.lanes)
    program, leaves = aligned(_program(sliced, isa, groups)), aligned(_leaf_tables(sliced, shape))
    user, cross = list_records(sliced.user), list_records(sliced.cross)
    slot_rows = np.zeros((len(sliced.slot_RS), groups * isa.lanes), np.uint64)
    slot_rows[:, : sliced.slots] = np.where(sliced.slot_RS, np.uint64(2**64 - 1), np.uint64(0))
    ways = _offsets(sliced, isa, groups, sliced.way_DW.astype(np.int64) >> 1) + (sliced.way_DW & 1)[:, None, :]
    arrays = {"program": program, "leaves": leaves, "way_offsets": np.ascontiguousarray(ways.astype(np.uint32))}
    numbers = {"slots": sliced.slots, "groups": groups, "trees": len(leaves), "ways": len(ways)}
    for kind, (records, ends, pivots) in {"user": user, "cross": cross}.items():
        arrays |= {f"{kind}_records": records, f"{kind}_pivots": pivots}
        numbers |= {f"{kind}_end_{n}": end for n, end in enumerate(ends)}
    numbers |= {name: array.ctypes.data for name, array in arrays.items()}
    numbers |= {"scale": _bits(sliced.scale), "bias": _bits(sliced.bias)}
    by_slot = len(sliced.slot_RS) + sliced.cross.rows + len(ways) + OVERSHOOT
    row_bytes = isa.bytes * (first_slot_row(sliced) + groups * by_slot)
    return CpuForest(sliced, shape, numbers, row_bytes, slot_rows.view(np.uint8).reshape(-1), tuple(arrays.values()))


def first_slot_row(sliced: SlicedForest) -> int:
    """Where the rows of the slots begin in the table, after the user rows and what they overshoot."""
    return sliced.user.rows + OVERSHOOT


def _program(sliced: SlicedForest, isa: Isa, groups: int) -> NDArray[np.uint32]:
    """Byte offset of each node's row [T, groups, N]; trees are filled up to whole batches with bare leaves."""
    row_TN = np.zeros((-(-sliced.trees // BATCH) * BATCH, sliced.row_TN.shape[1]), np.int64)
    row_TN[: sliced.trees] = sliced.row_TN
    return _offsets(sliced, isa, groups, row_TN).astype(np.uint32)


def _offsets(sliced: SlicedForest, isa: Isa, groups: int, row_RK: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes from the table to rows [R, K], for each register of slots -> [R, groups, K]; a user row serves them all."""
    user_rows = sliced.user.rows
    by_slot = first_slot_row(sliced) + (row_RK - user_rows)[:, None, :] * groups + np.arange(groups)[None, :, None]
    offset = np.where(row_RK[:, None, :] < user_rows, row_RK[:, None, :], by_slot) * isa.bytes
    if offset.max(initial=0) >= 2**32:
        raise ValueError(f"the tests of a forest must fit 4 GiB a block; found {int(offset.max())} bytes")
    return offset


def _leaf_tables(sliced: SlicedForest, shape: Shape) -> NDArray[np.generic]:
    """Bytes [T, digits, table] of the digits of each leaf, or int32 leaves [T, 2^D] where they are loaded singly."""
    trees, codes = -(-sliced.trees // BATCH) * BATCH, 1 << shape.depth
    leaf_TN = np.zeros((trees, codes), np.int32)
    leaf_TN[: sliced.trees] = sliced.leaf_TN
    if shape.isa.look_up is None:
        return leaf_TN
    tables = np.zeros((trees, shape.digits, max(codes, shape.isa.table_bytes)), np.uint8)
    for digit in range(shape.digits):
        tables[:, digit, :codes] = (leaf_TN >> (digit * shape.digit_bits)) & ((1 << shape.digit_bits) - 1)
    return tables


def aligned(array: NDArray[Number]) -> NDArray[Number]:
    """A copy that starts at a cache line."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def _bits(number: float) -> int:
    """The bits of a float64, as arguments are handed to the kernel."""
    return int(np.float64(number).view(np.uint64))

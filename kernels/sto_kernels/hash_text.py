"""XXH64 (seed 0) of many texts at once, from the buffers of a column: `hashing.hash_strings` without a Python string.

After Yann Collet's specification of XXH64: four lanes of eight bytes over stripes of 32, then what is left by eight,
four and one, then the avalanche. Twin: `hashing.hash_strings`, which asks the xxhash library for each text.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.hashing import U64

_P1, _P2, _P3 = np.uint64(11400714785074694791), np.uint64(14029467366897019727), np.uint64(1609587929392839161)
_P4, _P5 = np.uint64(9650029242287828579), np.uint64(2870177450012600261)
_BITS = np.uint64(64)


def hash_rows(offsets_N1: NDArray[np.int64], data: NDArray[np.uint8]) -> U64:
    """h of the texts data[offsets_N1[i] : offsets_N1[i + 1]], UTF-8 -> uint64 [N]; ValueError for offsets that lie."""
    if offsets_N1[0] < 0 or offsets_N1[-1] > len(data) or np.any(offsets_N1[1:] < offsets_N1[:-1]):
        raise ValueError(f"offsets must rise within 0..{len(data)}")
    h_N = np.empty(len(offsets_N1) - 1, np.uint64)
    _hash_rows(read_only(offsets_N1, np.int64), read_only(data, np.uint8), h_N)
    return h_N


@jit
def _hash_rows(offsets_N1: Any, data: Any, h_N: Any) -> None:
    for row in range(len(h_N)):
        h_N[row] = _hash_one(data, offsets_N1[row], offsets_N1[row + 1])


@jit
def _hash_one(data: Any, start: int, end: int) -> Any:
    at, h = start, _P5
    if end - start >= 32:
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while at + 32 <= end:
            a = _round(a, _word(data, at))
            b = _round(b, _word(data, at + 8))
            c = _round(c, _word(data, at + 16))
            d = _round(d, _word(data, at + 24))
            at += 32
        h = _turn(a, np.uint64(1)) + _turn(b, np.uint64(7)) + _turn(c, np.uint64(12)) + _turn(d, np.uint64(18))
        h = _merge(_merge(_merge(_merge(h, a), b), c), d)
    return _avalanche(_rest(data, at, end, h + np.uint64(end - start)))


@jit
def _rest(data: Any, at: int, end: int, h: Any) -> Any:
    while at + 8 <= end:
        h = _turn(h ^ _round(np.uint64(0), _word(data, at)), np.uint64(27)) * _P1 + _P4
        at += 8
    if at + 4 <= end:
        h = _turn(h ^ (_half(data, at) * _P1), np.uint64(23)) * _P2 + _P3
        at += 4
    while at < end:
        h = _turn(h ^ (np.uint64(data[at]) * _P5), np.uint64(11)) * _P1
        at += 1
    return h


@jit
def _avalanche(h: Any) -> Any:
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@jit
def _word(data: Any, at: int) -> Any:
    return _half(data, at) | (_half(data, at + 4) << np.uint64(32))


@jit
def _half(data: Any, at: int) -> Any:
    """Four bytes, the least first, written so that the compiler sees one load."""
    low = np.uint64(data[at]) | (np.uint64(data[at + 1]) << np.uint64(8))
    return low | (np.uint64(data[at + 2]) << np.uint64(16)) | (np.uint64(data[at + 3]) << np.uint64(24))


@jit
def _turn(x: Any, by: Any) -> Any:
    return (x << by) | (x >> (_BITS - by))


@jit
def _round(lane: Any, word: Any) -> Any:
    return _turn(lane + word * _P2, np.uint64(31)) * _P1


@jit
def _merge(h: Any, lane: Any) -> Any:
    return (h ^ _round(np.uint64(0), lane)) * _P1 + _P4

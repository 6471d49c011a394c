"""The newest of the rows of each run that carry a value: the last zone a user was seen in, the last domain."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.journal import Bools, Int64s

Array = NDArray[Any]


def newest_rows(start_R: Int64s, time_N: Int64s, carries_N: Bools) -> Int64s:
    """Row of each run that carries a value and is newest, of several at one moment the first; -1 for none, int64 [R].

    Rows of run r are start_R[r]:start_R[r + 1], so `start_R` has R + 1 entries.
    """
    row_R = np.full(len(start_R) - 1, -1, np.int64)
    _newest_rows(read_only(start_R, np.int64), read_only(time_N, np.int64), read_only(carries_N, np.bool_), row_R)
    return row_R


@jit
def _newest_rows(start_R: Array, time_N: Array, carries_N: Array, row_R: Array) -> None:
    for r in range(len(row_R)):
        for i in range(start_R[r], start_R[r + 1]):
            if carries_N[i] and (row_R[r] < 0 or time_N[i] > time_N[row_R[r]]):
                row_R[r] = i

"""A positive definite system of some hundreds of unknowns, solved in a fixed order: the same bits on any machine.

a = U' U, row by row; eight finished rows at a time are taken from the rows below, so that those are read once
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit

Array = NDArray[Any]
Floats = NDArray[np.float64]
BLOCK = 8
# a pivot that rounding has eaten, relative to the largest of the diagonal
LEAST_PIVOT = 1e-15


def solve_positive(a_NN: Floats, b_N: Floats) -> Floats:
    """x with a x = b, float64 [N]; `a_NN` is symmetric and positive (semi)definite, of which the upper half is read."""
    a_NN, x_N = np.array(a_NN, np.float64, order="C"), np.array(b_N, np.float64)
    if len(x_N):
        _factor(a_NN, LEAST_PIVOT * float(np.diagonal(a_NN).max()))
        _substitute(a_NN, x_N)
    return x_N


@jit
def _factor(a: Array, least: float) -> None:
    n, first = a.shape[0], 0
    while first < n:
        last = min(first + BLOCK, n)
        for j in range(first, last):
            for p in range(first, j):
                f = a[p, j]
                for i in range(j, n):
                    a[j, i] -= f * a[p, i]
            root = math.sqrt(max(a[j, j], least))
            a[j, j] = root
            for i in range(j + 1, n):
                a[j, i] /= root
        if last - first == BLOCK:
            for k in range(last, n):
                _take_eight(a, first, k, n)
        first = last


@jit
def _take_eight(a: Array, first: int, k: int, n: int) -> None:
    """Row k less its parts of the eight rows from `first` on."""
    f0, f1, f2, f3 = a[first, k], a[first + 1, k], a[first + 2, k], a[first + 3, k]
    f4, f5, f6, f7 = a[first + 4, k], a[first + 5, k], a[first + 6, k], a[first + 7, k]
    for i in range(k, n):
        some = f0 * a[first, i] + f1 * a[first + 1, i] + f2 * a[first + 2, i] + f3 * a[first + 3, i]
        rest = f4 * a[first + 4, i] + f5 * a[first + 5, i] + f6 * a[first + 6, i] + f7 * a[first + 7, i]
        a[k, i] -= some + rest


@jit
def _substitute(u: Array, x: Array) -> None:
    n = len(x)
    for j in range(n):
        x[j] /= u[j, j]
        for i in range(j + 1, n):
            x[i] -= u[j, i] * x[j]
    for back in range(n):
        j = n - 1 - back
        for i in range(j + 1, n):
            x[j] -= u[j, i] * x[i]
        x[j] /= u[j, j]

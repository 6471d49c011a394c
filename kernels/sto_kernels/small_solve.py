"""Cholesky factors and triangular solves of a 5 x 5 matrix a user, LANES users side by side.

A matrix is its packed lower triangle [15, L], entry (i, j) in row i (i + 1) / 2 + j; a vector is [5, L].
"""

import math

from sto_kernels.compiled import jit
from sto_kernels.lanes import LANES, Array

ORDER, PAIRS = 5, 15


@jit
def cholesky(a: Array) -> None:
    """Packed lower Cholesky factor of each lane's positive definite 5 x 5 matrix, in place."""
    for i in range(ORDER):
        for j in range(i + 1):
            row, column = i * (i + 1) // 2, j * (j + 1) // 2
            for k in range(j):
                for lane in range(LANES):
                    a[row + j, lane] -= a[row + k, lane] * a[column + k, lane]
            if i == j:
                for lane in range(LANES):
                    a[row + i, lane] = math.sqrt(a[row + i, lane])
            else:
                for lane in range(LANES):
                    a[row + j, lane] /= a[column + j, lane]


@jit
def forward(factor: Array, x: Array) -> None:
    """Solve L y = x of each lane, in place."""
    for i in range(ORDER):
        row = i * (i + 1) // 2
        for j in range(i):
            for lane in range(LANES):
                x[i, lane] -= factor[row + j, lane] * x[j, lane]
        for lane in range(LANES):
            x[i, lane] /= factor[row + i, lane]


@jit
def backward(factor: Array, x: Array) -> None:
    """Solve L^T y = x of each lane, in place."""
    for back in range(ORDER):
        i = ORDER - 1 - back
        for j in range(i + 1, ORDER):
            for lane in range(LANES):
                x[i, lane] -= factor[j * (j + 1) // 2 + i, lane] * x[j, lane]
        for lane in range(LANES):
            x[i, lane] /= factor[i * (i + 1) // 2 + i, lane]

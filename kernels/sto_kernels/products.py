"""Matrix products whose sums run in one order: the same bits for any number of threads of the BLAS library.

A BLAS splits a product over its threads by their number, and so changes its last bits; priors are promised to be the
same bytes on any machine. The twins are `a @ b` and `a.T @ b`. N rows, I and J columns; all float64.
"""

import numpy as np

from sto_kernels.compiled import jit, read_only
from sto_kernels.lanes import Array, Floats


def times(a_NI: Floats, b_IJ: Floats) -> Floats:
    """a @ b, float64 [N, J]."""
    out_NJ = np.zeros((len(a_NI), b_IJ.shape[1]))
    _times(read_only(a_NI, np.float64), read_only(b_IJ, np.float64), out_NJ)
    return out_NJ


def gram(a_NI: Floats, b_NJ: Floats) -> Floats:
    """a.T @ b, float64 [I, J]."""
    out_IJ = np.zeros((a_NI.shape[1], b_NJ.shape[1]))
    _gram(read_only(a_NI, np.float64), read_only(b_NJ, np.float64), out_IJ)
    return out_IJ


@jit
def _times(a_NI: Array, b_IJ: Array, out_NJ: Array) -> None:
    for n in range(a_NI.shape[0]):
        for i in range(a_NI.shape[1]):
            weight = a_NI[n, i]
            for j in range(b_IJ.shape[1]):
                out_NJ[n, j] += weight * b_IJ[i, j]


@jit
def _gram(a_NI: Array, b_NJ: Array, out_IJ: Array) -> None:
    for n in range(a_NI.shape[0]):
        for i in range(a_NI.shape[1]):
            weight = a_NI[n, i]
            for j in range(b_NJ.shape[1]):
                out_IJ[i, j] += weight * b_NJ[n, j]

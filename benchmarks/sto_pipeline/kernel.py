"""The table by which SQL adds exposure: what a unit of weight adds to each of the 48 cells, by row.

Rows 0..167 are a send never opened, by the hour of the week it left at (weighted hours of its 24 h); rows 168..215 an
hour of a stay, whose length and age its weight holds already, in one cell.
"""

import numpy as np
from numpy.typing import NDArray

from sto_kernels.count_walk import unopened_kernel
from sto_pipeline.events import DECAY_24

ROWS = 168 + 48


def kernel() -> NDArray[np.float64]:
    """float64 [216, 48]."""
    return np.concatenate([unopened_kernel(DECAY_24).astype(np.float64), np.eye(48)])


def kernel_columns() -> dict[str, NDArray[np.float64]]:
    return {f"k{cell}": column for cell, column in enumerate(np.ascontiguousarray(kernel().T))}

"""Throttle spread: where in its window a send goes, by the golden-ratio sequence of its rank.

    x      = (rank + 1) * GOLDEN + provider_key + run_key      mod 2^64
    offset = (x >> 32) * window_ms >> 32

Multiples of the golden ratio mod 1 fill an interval evenly at every prefix (Weyl, three-distance theorem), so any
share of a window that has been enqueued is even too. Integers only: the same on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from sto_kernels.hashing import GOLDEN, U64

MAX_WINDOW_MS = 1 << 31


def spread_offsets_ms(rank_U: U64, provider_key_U: U64, run_key: np.uint64, window_ms: int) -> NDArray[np.int64]:
    """Offset of each send in [0, window_ms), int64 [U] ms.

    `rank_U` uint64 [U] counts the sends before it in its (UTC start, provider); `provider_key_U` uint64 [U] and
    `run_key` set the phase. Raises ValueError for a window outside 1..2^31 ms.
    """
    if not 1 <= window_ms <= MAX_WINDOW_MS:
        raise ValueError(f"window_ms must be in 1..{MAX_WINDOW_MS}; found {window_ms}")
    with np.errstate(over="ignore"):
        x_U = (rank_U.astype(np.uint64) + np.uint64(1)) * GOLDEN + provider_key_U + run_key
        return ((x_U >> np.uint64(32)) * np.uint64(window_ms) >> np.uint64(32)).astype(np.int64)

"""Draws of Beta(a, b) for each (user, slot) that depend on the user's key, the slot and the round alone.

U users, S slots, C = U * S cells.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.beta_lanes import COUNTER, KEY, LANES, MAX_SLOTS, X, draw, prepare, scratch
from sto_kernels.compiled import jit, read_only
from sto_kernels.hashing import GOLDEN, tag_key

Array = NDArray[Any]
TAG = "beta"


def draw_betas(
    key_U: NDArray[np.uint64], a_US: NDArray[np.float32], b_US: NDArray[np.float32], round: int = 0
) -> NDArray[np.float32]:
    """One draw of Beta(a, b) for each (user, slot), float32 [U, S]; `key_U` seeds the user's draws, any a, b > 0."""
    check(key_U, a_US, b_US)
    out_US = np.empty(a_US.shape, np.float32)
    inputs = read_only(key_U, np.uint64), read_only(a_US, np.float32), read_only(b_US, np.float32)
    with np.errstate(all="ignore"):
        _draw(*inputs, round_key(round), out_US.reshape(-1))
    return out_US


def check(key_U: Array, a_US: Array, b_US: Array) -> None:
    """ValueError unless there is a key a user and a and b are finite, above 0 and of one shape [U, S]."""
    if a_US.ndim != 2 or a_US.shape != b_US.shape or key_U.shape != a_US.shape[:1]:
        found = f"{key_U.shape}, {a_US.shape}, {b_US.shape}"
        raise ValueError(f"Beta draws need a key a user and a and b of one shape [U, S]; found {found}")
    if a_US.shape[1] > MAX_SLOTS:
        raise ValueError(f"Beta draws take up to {MAX_SLOTS} slots; found {a_US.shape[1]}")
    for name, shape_US in (("a", a_US), ("b", b_US)):
        low, high = shape_US.min(initial=1), shape_US.max(initial=1)
        if not (low > 0 and high < np.inf):
            found = low if not low > 0 else high
            raise ValueError(f"Beta draws need a and b that are finite and above 0; found {name} = {found}")


@lru_cache(maxsize=4096)
def round_key(round: int) -> np.uint64:
    return np.uint64(tag_key(TAG, round))


@jit
def _draw(key_U: Array, a_US: Array, b_US: Array, key: Any, out_C: Array) -> None:
    slots, cells = a_US.shape[1], len(out_C)
    a_C, b_C = a_US.reshape(cells), b_US.reshape(cells)
    scratches = scratch()
    cells_F, cells_W = scratches[0], scratches[1]
    for first in range(0, cells, LANES):
        count = min(LANES, cells - first)
        _place(key_U, slots, first, count, cells_W)
        small = prepare(cells_F, a_C, b_C, first, count)
        draw(scratches, key, count, small)
        for i in range(count):
            out_C[first + i] = cells_F[X + i]


@jit
def _place(key_U: Array, slots: int, first: int, count: int, cells_W: Array) -> None:
    """Keys and counters of the cells of a block, a run of a user's slots after the other."""
    i = 0
    while i < count:
        u = (first + i) // slots
        s = first + i - u * slots
        run = min(slots - s, count - i)
        for k in range(run):
            cells_W[KEY + i + k] = key_U[u]
            cells_W[COUNTER + i + k] = np.uint64(s + k) * GOLDEN
        i += run

"""Which code cleans and counts a history: the compiled walks, or what does without compiled code, announced.

compiled   `sto_kernels.clean_walk` and `count_walk`, by numba
plain      `sto_kernels.naive_history` cleans a user at a time in Python; `history.dense` counts in whole tables
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from sto_engine.history import dense
from sto_kernels import clean_walk, compiled, count_walk, naive_history
from sto_kernels.journal import Cleaned, Counts, Float32s, Float64s, Int8s

_log = logging.getLogger("sto_kernels")


def clean(*arguments: Any, **options: Any) -> Cleaned:
    """Sends, human acts and flags of a window's events; arguments as those of `clean_walk.clean`."""
    run: Callable[..., Cleaned] = clean_walk.clean if is_compiled() else naive_history.clean
    return run(*arguments, **options)


def count(
    cleaned: Cleaned,
    users: int,
    rho2_C: Float64s,
    rho24_C: Float64s,
    decay_T24: Float64s,
    kernel_Tx168x48: Float32s,
    origin_ms: int,
    half_life_ms: float = 0,
    type_C: Int8s | None = None,
    follow_T: Float64s | None = None,
) -> Counts:
    """Sums per user of what was known at `origin_ms`; see `count_walk.count`."""
    run = count_walk.count if is_compiled() else dense.count
    return run(
        *(cleaned, users, rho2_C, rho24_C, decay_T24, kernel_Tx168x48, origin_ms, half_life_ms), type_C, follow_T
    )


@cache
def is_compiled() -> bool:
    """Whether the walks are machine code here; says once a process that and why they are not."""
    reason = compiled.obstacle()
    if reason is not None:
        _log.warning("history is cleaned and counted without compiled code, a hundred times as slow: %s", reason)
    return reason is None

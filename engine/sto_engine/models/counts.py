"""The counts of recipe 1-5 of a bucket's users or of the sample, given the appeal of campaigns and how mail ages.

A history without a single send (activity alone) has no exposure: then every hour of the window counts as one hour at
risk and every act as an open, and the attention model becomes a shrunken histogram.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.walks import count
from sto_kernels.count_walk import unopened_kernel
from sto_kernels.journal import Cleaned, Counts
from sto_kernels.lanes import Floats

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
MOST_ACTS = 500.0


@dataclass(frozen=True)
class Weights:
    """What a send counts for: appeal of its campaign within 2 h and 24 h, by code; decay and weight of its type."""

    rate2_C: Floats
    rate24_C: Floats
    decay_T24: Floats
    follow_T: Floats


def bucket_counts(
    cleaned: Cleaned,
    users: int,
    weights: Weights,
    window_ms: tuple[int, int],
    has_sends: bool,
    half_life_days: float | None,
) -> Counts:
    """Counts before the end of the window."""
    start_ms, end_ms = window_ms
    half_life_ms = 0 if half_life_days is None else int(half_life_days * DAY_MS)
    type_C = np.zeros(len(weights.rate2_C), np.int8)
    np.maximum.at(type_C, cleaned.campaign_S, cleaned.type_S)
    counts = count(
        cleaned,
        users,
        weights.rate2_C,
        weights.rate24_C,
        weights.decay_T24,
        _unopened(weights.decay_T24.tobytes()),
        end_ms,
        half_life_ms,
        type_C,
        weights.follow_T,
    )
    if has_sends:
        return counts
    days = (end_ms - start_ms) / DAY_MS
    exposure_48 = np.repeat(np.array([5.0, 2.0]) / 7 * days, 24).astype(np.float32)
    return replace(
        counts,
        opens_U48=_acts_by_cell(cleaned, users, end_ms),
        exposure_U48=np.broadcast_to(exposure_48, (users, 48)).copy(),
    )


@lru_cache(maxsize=8)
def _unopened(decay_T24: bytes) -> NDArray[np.float32]:
    """`unopened_kernel` of each type, float32 [T, 168, 48]: the same for every bucket of a run."""
    return np.stack([unopened_kernel(decay_24) for decay_24 in np.frombuffer(decay_T24).reshape(-1, 24)])


def _acts_by_cell(cleaned: Cleaned, users: int, end_ms: int) -> NDArray[np.float32]:
    past_A = cleaned.utc_A < end_ms
    hour_A = cleaned.local_A[past_A] // HOUR_MS
    weekend_A = (hour_A // 24 + 3) % 7 >= 5  # the epoch was a Thursday
    cell_A = cleaned.user_A[past_A].astype(np.int64) * 48 + hour_A % 24 + 24 * weekend_A
    return np.bincount(cell_A, minlength=users * 48).reshape(users, 48).astype(np.float32)


def voice(acts_U: NDArray[Any]) -> Floats:
    """What each user counts for where the acts of many are summed: all of his acts, but MOST_ACTS at most, [U].

    Whoever acts more than any person does is a flood and counts for nothing; this bounds what is less conspicuous.
    """
    return np.asarray(np.minimum(1.0, MOST_ACTS / np.maximum(acts_U, 1.0)), np.float64)

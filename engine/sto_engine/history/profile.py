"""Plain counts of each user's history by slot of a grid: what he did, what he was sent, when he was last seen.

U users in the order of the bucket, S slots. Acts are human opens and clicks, as the cleaning leaves them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.history.bucket import DAY_MS, Bucket
from sto_engine.slots import SlotGrid

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """Counts of acts and sends; NaN where nothing is known."""

    users: pl.DataFrame
    grid: SlotGrid
    origin_ms: int
    acts_US: Floats
    sends_U: Floats
    opened_U: Floats
    acts_U: Floats
    mobile_U: Floats
    last_act_days_U: Floats


def build_profile(bucket: Bucket, grid: SlotGrid, half_life_days: float | None = None) -> Profile:
    """Profile of every user of the bucket; acts weigh 2^(-age / half_life_days) where there is a half-life."""
    cleaned, n = bucket.cleaned, len(bucket.users)
    user_A, slot_A = cleaned.user_A, cleaned.local_A % DAY_MS // (grid.minutes * 60_000)
    age_A = (bucket.end_ms - cleaned.utc_A) / DAY_MS
    weight_A = None if half_life_days is None else np.exp2(-age_A / half_life_days)
    acts_US = np.bincount(user_A.astype(np.int64) * grid.slots + slot_A, weight_A, n * grid.slots)
    last_U = np.full(n, -(2**62), np.int64)
    np.maximum.at(last_U, user_A, cleaned.utc_A)
    acts_U = np.bincount(user_A, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mobile_U = (np.bincount(user_A, cleaned.mobile_A, n) / acts_U).astype(np.float32)
    return Profile(
        users=bucket.users,
        grid=grid,
        origin_ms=bucket.end_ms,
        acts_US=acts_US.reshape(n, grid.slots).astype(np.float32),
        sends_U=np.bincount(cleaned.user_S, minlength=n).astype(np.float32),
        opened_U=np.bincount(cleaned.user_S, cleaned.latency_S >= 0, n).astype(np.float32),
        acts_U=acts_U.astype(np.float32),
        mobile_U=mobile_U,
        last_act_days_U=np.where(acts_U > 0, (bucket.end_ms - last_U) / DAY_MS, np.nan).astype(np.float32),
    )

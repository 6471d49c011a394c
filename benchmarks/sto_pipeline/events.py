"""Events of an invented sender that need no cleaning, so that SQL can say what the engine counts of them.

Each recipient has one offset that every row states, each campaign reaches him at most once, nobody opens within four
minutes or clicks within seconds of a send, and no row comes twice. So the rules for duplicates, machines and zones find
nothing, and "the first act after the send" is a plain join. Campaigns and their weights are a function of their day.

U recipients, S sends, N rows. About 10 rows a recipient: 83 % sends, 15 % opens, 2 % clicks.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

DAYS, SENDS_PER_USER = 90, 8.3
FIRST_DAY = 20_454  # 2026-01-01, a Thursday
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS, ORIGIN_MS = FIRST_DAY * DAY_MS, (FIRST_DAY + DAYS) * DAY_MS
OPEN_SHARE, CLICK_SHARE, MOBILE_SHARE = 0.187, 0.11, 0.55
OFFSETS_MIN = np.array([-480, -300, 0, 60, 120, 330, 540], np.int16)
DECAY_24 = np.maximum(np.exp(-np.arange(24) / 8.0), 1e-3)
Ints = NDArray[np.int64]


def campaign_id(day: int) -> int:
    return 1_000_003 * (day + 1)


def campaign_weights() -> pl.DataFrame:
    """What a send of each campaign counts for within 2 h and within 24 h: columns campaign_id, rho2, rho24."""
    day = np.arange(DAYS)
    return pl.DataFrame(
        {
            "campaign_id": pl.Series([campaign_id(d) for d in day.tolist()], dtype=pl.UInt64),
            "rho2": 1.0 + 0.3 * np.sin(day),
            "rho24": 1.0 + 0.2 * np.cos(day),
        }
    )


def user_ids(users: int) -> NDArray[np.uint64]:
    """Sparse 64-bit ids: splitmix64 of 1..U, uint64 [U]."""
    x = np.arange(1, users + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)


def write_events(folder: Path, users: int, seed: int) -> int:
    """One file a day under `folder`, each in the order of time; returns the number of rows."""
    folder.mkdir(parents=True)
    ids, rng = user_ids(users), np.random.default_rng(seed)
    offset_U = rng.choice(OFFSETS_MIN, users)
    hour_U = rng.integers(7, 22, users)
    rows = 0
    for day in range(DAYS):
        frame = _day(day, ids, offset_U, hour_U, rng)
        frame.write_parquet(folder / f"day-{day:03d}.parquet", compression_level=1)
        rows += len(frame)
    return rows


def _day(
    day: int, ids: NDArray[np.uint64], offset_U: NDArray[np.int16], hour_U: Ints, rng: np.random.Generator
) -> pl.DataFrame:
    """The sends of a day's campaign and the acts upon them that happened before the origin, by time."""
    user_S = np.flatnonzero(rng.random(len(ids)) < SENDS_PER_USER / DAYS)
    local_S = (hour_U[user_S] + rng.integers(-2, 3, len(user_S))) * HOUR_MS + rng.integers(0, HOUR_MS, len(user_S))
    sent_S = (FIRST_DAY + day) * DAY_MS + (local_S - offset_U[user_S].astype(np.int64) * 60_000) % DAY_MS
    opened_S = rng.random(len(user_S)) < OPEN_SHARE
    wait_S = 240_000 + (rng.exponential(4.0, len(user_S)) * HOUR_MS).astype(np.int64)
    clicked_S = opened_S & (rng.random(len(user_S)) < CLICK_SHARE)
    act_S = sent_S + wait_S
    user_N = np.concatenate([user_S, user_S[opened_S], user_S[clicked_S]])
    ts_N = np.concatenate([sent_S, act_S[opened_S], act_S[clicked_S] + 30_000])
    kind_N = np.repeat(["send", "open", "click"], [len(user_S), int(opened_S.sum()), int(clicked_S.sum())])
    frame = pl.DataFrame(
        {
            "user_id": ids[user_N],
            "campaign_id": pl.repeat(campaign_id(day), len(user_N), dtype=pl.UInt64, eager=True),
            "event_type": kind_N,
            "event_ts": pl.Series(ts_N).cast(pl.Datetime("ms", "UTC")),
            "tz_offset": offset_U[user_N],
            "device_type": np.where(rng.random(len(user_N)) < MOBILE_SHARE, "mobile", "desktop"),
            "campaign_type": pl.repeat("promo", len(user_N), eager=True),
        }
    )
    return frame.filter(pl.Series(ts_N < ORIGIN_MS)).sort("event_ts")

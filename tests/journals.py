"""Journals for the tests of the event walks: hand-made rows, chance, the files of a simulated sender."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from sto_engine.zones import zone_table
from sto_kernels.journal import CLICK, DAY_MS, NO_OFFSET, OPEN, PROMO, SEND, Events, Zones

KINDS = ("send", "delivered", "open", "click", "bounce", "unsubscribe", "complaint", "conversion")
TYPES = ("promo", "transactional", "trigger")
# a Monday, 00:00 UTC
MONDAY_MS = 4 * DAY_MS + 2800 * 7 * DAY_MS


@dataclass(frozen=True)
class Row:
    """One event in words; times in ms after MONDAY_MS."""

    kind: int
    ts: int
    campaign: int = 1
    stated: int = NO_OFFSET
    type: int = PROMO
    machine: bool = False
    mobile: bool = False


def journal(*users: Sequence[Row]) -> Events:
    """The rows of each user, sorted as the walk wants them."""
    rows = [sorted(user, key=lambda r: (r.campaign, r.ts, r.kind)) for user in users]
    flat = [row for user in rows for row in user]
    return Events(
        start_U=np.cumsum([0] + [len(user) for user in rows]).astype(np.int64),
        campaign_N=np.array([r.campaign for r in flat], np.int32),
        kind_N=np.array([r.kind for r in flat], np.int8),
        ts_N=np.array([MONDAY_MS + r.ts for r in flat], np.int64),
        stated_N=np.array([r.stated for r in flat], np.int16),
        type_N=np.array([r.type for r in flat], np.int8),
        mobile_N=np.array([r.mobile for r in flat], np.bool_),
        machine_N=np.array([r.machine for r in flat], np.bool_),
    )


def in_zone(users: int, offset_min: int = 0, own: bool = False, shifts: bool = True) -> Zones:
    """All users in one zone that never changes its clocks."""
    no_change, offset = np.zeros((1, 0), np.int64), np.full((1, 1), offset_min, np.int16)
    return Zones(np.zeros(users, np.int32), no_change, offset, np.full(users, own), shifts)


def random_journal(rng: np.random.Generator, users: int, longest: int = 60, days: int = 90) -> tuple[Events, Zones]:
    """Few campaigns, crowded moments and every kind, so that all rules meet; two of three zones change clocks."""
    kinds = rng.choice(8, 100, p=(0.36, 0.05, 0.3, 0.15, 0.03, 0.03, 0.02, 0.06))
    rows = []
    for _ in range(users):
        own = [_random_row(rng, int(rng.choice(kinds)), days) for _ in range(rng.integers(0, longest))]
        near = [r for r in own if r.kind == SEND]
        quick = [_after(rng, r) for r in near if rng.random() < 0.6]
        rows.append(own + quick)
    moments = MONDAY_MS + np.array([[30, 60], [40, 2**40], [2**40, 2**40]], np.int64) * DAY_MS
    offsets = np.array([[60, 120, 60], [-300, -240, -240], [345, 345, 345]], np.int16)
    zones = Zones(rng.integers(0, 3, users).astype(np.int32), moments, offsets, rng.random(users) < 0.3, True)
    return journal(*rows), zones


def _random_row(rng: np.random.Generator, kind: int, days: int) -> Row:
    return Row(
        kind,
        int(rng.integers(0, days * 24)) * 3_600_000 + int(rng.choice([0, 1000, 4999, 5000, 20_000, 1_800_000])),
        int(rng.integers(0, 4)),
        int(rng.choice([NO_OFFSET, 60, 120, -300, 345, 540])),
        int(rng.integers(0, 3)),
        bool(rng.random() < 0.1),
        bool(rng.random() < 0.5),
    )


def _after(rng: np.random.Generator, sent: Row) -> Row:
    """A quick act upon a send, of a person or of a machine."""
    delay = int(rng.choice([0, 1000, 3000, 14_999, 15_000, 30_000, 179_999, 180_000, 7_200_000]))
    stated = int(rng.choice([NO_OFFSET, 60, 540]))
    return Row(int(rng.choice([OPEN, CLICK])), sent.ts + delay, sent.campaign, stated, sent.type, mobile=True)


def read_journal(folder: Path) -> tuple[Events, Zones, pl.DataFrame]:
    """A simulated sender's events in the order of its recipients, and those; campaign codes in the order of ids."""
    users = pl.read_parquet(folder / "recipients.parquet").with_row_index("u")
    kinds, types = pl.Enum(KINDS), pl.Enum(TYPES)
    rows = (
        pl.read_parquet(folder / "events" / "*.parquet", missing_columns="insert")
        .join(users.select("user_id", "u"), on="user_id")
        .with_columns(
            ts=pl.col("event_ts").dt.epoch("ms"),
            kind=pl.col("event_type").cast(kinds).to_physical().cast(pl.Int8),
            campaign=pl.col("campaign_id").rank("dense").cast(pl.Int32) - 1,
            type=pl.col("campaign_type").cast(types).to_physical().cast(pl.Int8),
        )
        .sort("u", "campaign", "ts", "kind")
    )
    per_user = np.bincount(rows["u"].to_numpy(), minlength=len(users))
    start_U = np.concatenate([[0], np.cumsum(per_user)])
    names, zone_U = np.unique(users["timezone"].to_numpy(), return_inverse=True)
    ts_N = rows["ts"].to_numpy()
    moments_ZK, offsets_ZK = zone_table(list(names), int(ts_N.min()), int(ts_N.max()))
    events = Events(
        start_U=start_U,
        campaign_N=rows["campaign"].to_numpy(),
        kind_N=rows["kind"].to_numpy(),
        ts_N=ts_N,
        stated_N=rows["tz_offset"].fill_null(NO_OFFSET).to_numpy(),
        type_N=rows["type"].to_numpy(),
        mobile_N=(rows["device_type"] == "mobile").fill_null(False).to_numpy(),
        machine_N=np.zeros(len(rows), np.bool_),
    )
    own_U = np.zeros(len(users), np.bool_)
    return events, Zones(zone_U.astype(np.int32), moments_ZK, offsets_ZK, own_U, True), users

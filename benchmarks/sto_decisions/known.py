"""What anybody can read off a sender's files before the day of the mailing, as arrays; nothing of the engine's models.

U users in the order of the recipients, N sends, M opens. Hours are 0..23 by the offset that the event states, else by
the profile's of today. Opens are taken as they come: machines, scanners and doubles included.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.evaluate.assignments import Sent
from sto_engine.slots import SlotGrid, slot_times
from sto_engine.tables import encode
from sto_engine.zones import region_of, standard_offset

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
HOURS = 24
LABEL_MS = 2 * 3_600_000
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Known:
    """`users`: user_id and zone; `cohort_U`: code of region x signup source x b2b; `in_time_N`: opened within 2 h."""

    users: pl.DataFrame
    cohort_U: Ints
    send_user_N: Ints
    send_hour_N: Ints
    is_promo_N: Bools
    in_time_N: Bools
    open_user_M: Ints
    open_hour_M: Ints


def read_known(world: Path, day: date) -> Known:
    """The events before `day` 00:00 UTC and the recipients of a folder in the form of `sto-engine simulate`."""
    users = _read_users(world / "recipients.parquet", day)
    profile = users.select("user_id", "user", "profile_min")
    events = pl.read_parquet(world / "events" / "*.parquet").join(profile, on="user_id", how="inner")
    events = events.filter(pl.col("event_ts") < datetime(day.year, day.month, day.day, tzinfo=UTC)).with_columns(
        ts=pl.col("event_ts").dt.epoch("ms"), offset=pl.coalesce("tz_offset", "profile_min").cast(pl.Int64)
    )
    events = events.with_columns(hour=(pl.col("ts") + pl.col("offset") * MINUTE_MS) // 3_600_000 % HOURS)
    sends, opens = _join(events)
    return Known(
        users=users.select("user_id", "zone"),
        cohort_U=users["cohort"].to_numpy().astype(np.int64),
        send_user_N=sends["user"].to_numpy().astype(np.int64),
        send_hour_N=sends["hour"].to_numpy(),
        is_promo_N=(sends["campaign_type"] == "promo").fill_null(False).to_numpy(),
        in_time_N=sends["in_time"].to_numpy(),
        open_user_M=opens["user"].to_numpy().astype(np.int64),
        open_hour_M=opens["hour"].to_numpy(),
    )


def _read_users(path: Path, day: date) -> pl.DataFrame:
    """user_id, user (row), zone, profile_min (its offset on the day) and cohort; the first row of a doubled id."""
    table = pl.read_parquet(path).unique("user_id", keep="first", maintain_order=True)
    zones, zone_U = encode(table["timezone"].fill_null("UTC"))
    noon_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()) * 1000
    regions = [region_of(standard_offset(zone, noon_ms)) for zone in zones]
    offsets = np.array([slot_times(SlotGrid(HOURS), day, zone).offset_min[12] for zone in zones], np.int64)
    cohort = pl.struct("region", pl.col("signup_source").fill_null(""), pl.col("b2b").fill_null(False))
    return table.with_columns(
        zone=pl.Series([zones[i] for i in zone_U], dtype=pl.String),
        region=pl.Series([regions[i] for i in zone_U], dtype=pl.String),
        profile_min=pl.Series(offsets[zone_U]),
    ).select("user_id", "zone", "profile_min", cohort=cohort.rank("dense") - 1, user=pl.int_range(pl.len()))


def _join(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sends, with whether an open came within two hours and before the next send of the campaign; and all opens."""
    keys = ["user", "campaign_id"]
    sends = events.filter(pl.col("event_type") == "send").sort("ts", maintain_order=True).with_row_index("send")
    opens = events.filter(pl.col("event_type") == "open").sort("ts", maintain_order=True)
    latest = sends.select(*keys, "send", "ts", sent="ts")
    joined = opens.join_asof(latest, on="ts", by=keys, strategy="backward", check_sortedness=False)
    prompt = joined.filter(pl.col("ts") - pl.col("sent") < LABEL_MS)["send"].unique()
    return sends.with_columns(in_time=pl.col("send").is_in(prompt.implode())), opens


def send_at(users: pl.DataFrame, slot_U: Ints, day: date, name: str) -> Sent:
    """Assignments of a slot for every row of `users` (user_id, zone) on the local day `day` of that zone."""
    zones, zone_U = encode(users["zone"])
    start_ZS = np.array([slot_times(SlotGrid(HOURS), day, zone).start_ms for zone in zones])
    rows = users.select("user_id", slot=pl.Series(slot_U), send_at_ms=pl.Series(start_ZS[zone_U, slot_U]))
    nothing = [pl.lit(None, kind).alias(column) for column, kind in _ABSENT.items()]
    return Sent(name, rows.with_columns(nothing), day=day)


_ABSENT = {"tz_offset": pl.Int64, "arm": pl.String, "reason": pl.String, "n_eff": pl.Float64, "p_open": pl.Float64}

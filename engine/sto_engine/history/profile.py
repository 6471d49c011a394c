"""The history of each user before a moment, as dense arrays: what he opened and was sent, by local slot.

Pure in (events, users, origin): nothing at or after the origin, nor before the window of `model.history_days`, can
change a number. U users in the order of `users`, S slots.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.slots import SlotGrid, local_slot
from sto_engine.tables import encode
from sto_engine.zones import event_offsets

DAY_MS = 86_400_000
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """Counts of human acts (opens and clicks that no machine fired) and of sends; NaN where nothing is known."""

    users: pl.DataFrame
    grid: SlotGrid
    origin_ms: int
    acts_US: Floats
    sends_US: Floats
    opens_U: Floats
    sends_U: Floats
    mobile_U: Floats
    last_act_days_U: Floats


def build_profile(events: pl.DataFrame, users: pl.DataFrame, grid: SlotGrid, origin_ms: int, config: Config) -> Profile:
    """Profile of every row of `users` from the events in [origin - history_days, origin).

    Users who do not consent to profiling get empty histories. Acts are weighted by 2^(-age / half_life_days) where the
    config sets a half-life.
    """
    n = len(users)
    mine = _own_events(events, users, origin_ms, config)
    user_N, time_N = mine["u"].to_numpy(), mine["event_ts"].dt.epoch("ms").to_numpy()
    slot_N = local_slot(grid, time_N, _offsets(mine, users, time_N, config))
    kind = mine["event_type"].cast(pl.String)
    act_N = (kind.is_in(["open", "click"]) & ~mine["is_machine_open"].fill_null(False)).to_numpy()
    open_N, send_N = act_N & (kind == "open").to_numpy(), (kind == "send").to_numpy()
    mobile_N = act_N & (mine["device_type"].cast(pl.String) == "mobile").fill_null(False).to_numpy()
    half_life = config.model.half_life_days
    weight_N = None if half_life is None else np.exp2((time_N - origin_ms) / (half_life * DAY_MS))

    def by_slot(rows_N: NDArray[np.bool_], weights_N: NDArray[np.float64] | None) -> Floats:
        key_N = user_N[rows_N].astype(np.int64) * grid.slots + slot_N[rows_N]
        weights = None if weights_N is None else weights_N[rows_N]
        counts = np.bincount(key_N, weights, n * grid.slots)
        return counts.reshape(n, grid.slots).astype(np.float32)

    last_U = np.full(n, -(2**62), np.int64)
    np.maximum.at(last_U, user_N[act_N], time_N[act_N])
    acts_U = np.bincount(user_N[act_N], minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mobile_U = (np.bincount(user_N[mobile_N], minlength=n) / acts_U).astype(np.float32)
    return Profile(
        users=users,
        grid=grid,
        origin_ms=origin_ms,
        acts_US=by_slot(act_N, weight_N),
        sends_US=by_slot(send_N, None),
        opens_U=np.bincount(user_N[open_N], minlength=n).astype(np.float32),
        sends_U=np.bincount(user_N[send_N], minlength=n).astype(np.float32),
        mobile_U=mobile_U,
        last_act_days_U=np.where(acts_U > 0, (origin_ms - last_U) / DAY_MS, np.nan).astype(np.float32),
    )


def _own_events(events: pl.DataFrame, users: pl.DataFrame, origin_ms: int, config: Config) -> pl.DataFrame:
    """Events of the window that belong to profiled users, with `u`, the row of the user."""
    first_ms = origin_ms - config.model.history_days * DAY_MS
    profiled = users.with_row_index("u").filter(pl.col("consent_profiling").fill_null(True)).select("u", "user_id")
    window = pl.col("event_ts").dt.epoch("ms").is_between(first_ms, origin_ms, closed="left")
    return events.filter(window).join(profiled, on="user_id", how="inner", maintain_order="left")


def _offsets(mine: pl.DataFrame, users: pl.DataFrame, time_N: NDArray[np.int64], config: Config) -> NDArray[np.int16]:
    """Offset of each event: the profile's zone at its date, else the event's own, else what the user has at all.

    With timezone.source = "event" the event's own comes first.
    """
    zones, zone_U = encode(users["zone"])
    user_N = mine["u"].to_numpy()
    zone_N = event_offsets(zones, zone_U[user_N], time_N)
    own_N = mine["tz_offset"].to_numpy()
    has_own_N = mine["tz_offset"].is_not_null().to_numpy()
    if config.timezone.source != "event":
        has_own_N = has_own_N & users["timezone"].is_null().to_numpy()[user_N]
    return np.where(has_own_N, np.nan_to_num(own_N), zone_N).astype(np.int16)

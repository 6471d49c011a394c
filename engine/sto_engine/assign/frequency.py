"""Frequency caps and minimum gaps: slots closed by mail that a recipient has had, or is to get by an earlier run.

Counted are the `send` events of the run's channels (one without a channel counts for every channel), whatever became
of them, bounces included; every send of its own time is a message of its own, also of one campaign. Transactional mail
never counts. Events tell what happened before `cutoff_ms`; from there on only the plans of earlier runs do, so sends of
theirs count from the cutoff on, and no message counts twice.

    cap   a slot is closed if it begins less than `days` x 24 h after the cap-th newest counted send: then no `days`
          with the new message hold more than `cap`; recipients.frequency_cap goes before, rounded down, 0 closes all
    gap   a slot is closed if some counted send is nearer than `min_gap_hours` to any moment of it, before or after

U users, S slots, Z zones, N sends.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from sto_engine.assign.window import ZoneSlots
from sto_engine.config import Config
from sto_engine.config_policies import Frequency
from sto_engine.errors import ConfigError
from sto_engine.tables import CAMPAIGN_ENUM, EVENT_ENUM
from sto_kernels.frequency import NO_CAP, Limits, close_slots
from sto_kernels.journal import DAY_MS, HOUR_MS


@dataclass(frozen=True)
class Blocked:
    """Slots closed by the cap and slots closed by the gap, bool [U, S] each."""

    capped_US: NDArray[np.bool_]
    near_US: NDArray[np.bool_]

    @property
    def closed_US(self) -> NDArray[np.bool_]:
        """Slots closed by either, bool [U, S]."""
        return np.asarray(self.capped_US | self.near_US)

    def on(self, columns: slice, options: int) -> "Blocked":
        """The same where these slots are some of many, bool [U, options]; the others are open."""
        wide = [np.zeros((len(self.capped_US), options), np.bool_) for _ in range(2)]
        wide[0][:, columns], wide[1][:, columns] = self.capped_US, self.near_US
        return Blocked(*wide)

    def reasons(self, allowed_US: NDArray[np.bool_]) -> pl.Series:
        """Why a user with allowed slots has none left -> String [U]; null where one is left or none was allowed.

        `frequency_cap` where the cap alone closes them all, else `min_gap`.
        """
        some_U = allowed_US.any(axis=1)
        capped_U = some_U & ~(allowed_US & ~self.capped_US).any(axis=1)
        closed_U = some_U & ~(allowed_US & ~self.closed_US).any(axis=1)
        gap = pl.when(pl.Series(closed_U)).then(pl.lit("min_gap"))
        found = pl.when(pl.Series(capped_U)).then(pl.lit("frequency_cap")).otherwise(gap)
        return pl.select(found.cast(pl.String).alias("reason")).to_series()


def both(one: Blocked | None, other: Blocked | None) -> Blocked | None:
    """What either closes."""
    if one is None or other is None:
        return one or other
    return Blocked(one.capped_US | other.capped_US, one.near_US | other.near_US)


def check_frequency(config: Config) -> None:
    """Raise ConfigError (78) where `compact` drops events that a cap or a gap would have to count."""
    kept, asked = config.store.retention_days, config.frequency
    if kept is None:
        return
    for key, value, days in (
        ("days", asked.days, asked.days if asked.cap is not None or asked.channels else 0),
        ("min_gap_hours", asked.min_gap_hours, asked.min_gap_hours / 24),
    ):
        if days > kept:
            raise ConfigError(
                f"frequency.{key} must lie within store.retention_days, as older sends are dropped; found "
                f"frequency.{key} = {value:g} and store.retention_days = {kept}; lower the first or raise the second"
            )


def blocked(
    users: pl.DataFrame,
    events: pl.DataFrame,
    past: pl.DataFrame | None,
    zones: ZoneSlots,
    slot_ms: int,
    frequency: Frequency,
    channels: Collection[str],
    cutoff_ms: int,
) -> Blocked | None:
    """Slots that the cap and the gap close to each row of `users`; None where they close nothing.

    `users` has h, user_id and frequency_cap (null, NaN or negative: the cap of `frequency`), in the order of h, one row
    a row of `zones`; `events` are those of the bucket before the day, as Store.read_events returns them (without a
    column `channel`, all count); `past` has h, user_id, send_at_ms and channel, as Previous.sends returns them.
    """
    cap_U = _caps(users, frequency.cap)
    limits = Limits(frequency.days * DAY_MS, round(frequency.min_gap_hours * HOUR_MS), slot_ms)
    if not len(users) or ((cap_U == NO_CAP).all() and not limits.gap_ms):
        return None
    oldest_ms = int(zones.start_ms_ZS.min()) - max(limits.days_ms, limits.gap_ms)
    latest_ms = int(zones.start_ms_ZS.max()) + limits.slot_ms + limits.gap_ms
    sends = pl.concat(_counted(events, past, channels, oldest_ms, cutoff_ms))
    start_U, time_N = _by_user(*_places(users, sends), len(users), oldest_ms, latest_ms)
    found = Blocked(*close_slots(start_U, time_N, cap_U, zones.zone_U, zones.start_ms_ZS, limits))
    return found if found.capped_US.any() or found.near_US.any() else None


def _caps(users: pl.DataFrame, cap: int | None) -> NDArray[np.int64]:
    """The cap of each user, NO_CAP for none, int64 [U]."""
    common = NO_CAP if cap is None else cap
    own = users["frequency_cap"].cast(pl.Float64)
    if own.null_count() == len(own):
        return np.full(len(own), common, np.int64)
    own_U = own.fill_null(np.nan).to_numpy()
    given_U = own_U >= 0
    whole_U = np.minimum(np.where(given_U, own_U, 0.0), float(NO_CAP)).astype(np.int64)
    return np.where(given_U, whole_U, common)


def _counted(
    events: pl.DataFrame, past: pl.DataFrame | None, channels: Collection[str], oldest_ms: int, cutoff_ms: int
) -> Iterator[pl.DataFrame]:
    """Columns h, user_id and t of the sends after `oldest_ms` that count."""
    send, transactional = pl.lit("send", EVENT_ENUM), pl.lit("transactional", CAMPAIGN_ENUM)
    time = pl.col("event_ts").dt.epoch("ms")
    few = events.select("h", "user_id", "event_type", "campaign_type", cs.by_name("channel", require_all=False), t=time)
    few = few.filter((pl.col("event_type") == send) & (pl.col("t") > oldest_ms))
    counts = pl.col("campaign_type").ne_missing(transactional)
    if "channel" in few.columns:
        counts &= pl.col("channel").is_null() | pl.col("channel").is_in(list(channels))
    yield few.filter(counts).select("h", "user_id", "t")
    if past is not None:
        after = (pl.col("send_at_ms") >= cutoff_ms) & (pl.col("send_at_ms") > oldest_ms)
        if "channel" in past.columns:
            after &= pl.col("channel").is_null() | pl.col("channel").is_in(list(channels))
        yield past.filter(after).select("h", "user_id", t="send_at_ms")


def _places(users: pl.DataFrame, sends: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row of `users` and time of each send of theirs, int64 [N] both."""
    h_U = users["h"].to_numpy()
    if (h_U[1:] > h_U[:-1]).all():
        place_N = np.minimum(np.searchsorted(h_U, sends["h"].to_numpy()), len(users) - 1)
        mine_N = (users["user_id"].gather(place_N) == sends["user_id"]).to_numpy()
        return place_N[mine_N], sends["t"].to_numpy()[mine_N]
    # two ids of one hash
    joined = users.select("user_id").with_row_index("place").join(sends, on="user_id")
    return joined["place"].to_numpy().astype(np.int64), joined["t"].to_numpy()


def _by_user(
    place_N: NDArray[np.int64], time_N: NDArray[np.int64], users: int, oldest_ms: int, latest_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the sends of each user begin, int64 [U + 1], and their times, ascending for each, int64 [N].

    Times lie after `oldest_ms`; later ones than `latest_ms` close the same slots as that, so it stands for them.
    """
    bits = (latest_ms - oldest_ms).bit_length()
    # one number a send sorts in a fifth of the time of a pair; two years take 36 bits, which leaves 2^27 users
    key_N = (place_N << bits) | (np.minimum(time_N, latest_ms) - oldest_ms)
    key_N.sort()
    start_U = np.searchsorted(key_N, np.arange(users + 1, dtype=np.int64) << bits)
    return start_U, (key_N & ((1 << bits) - 1)) + oldest_ms

"""What is known of the users of a bucket at a moment: their events, cleaned and joined, as arrays.

Pure in (events, users, window): nothing at or after `end_ms`, nor before `start_ms`, can change a number. U users in
the order of `users`; their events are found by hash, so both come in (h, user_id) order.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.history.days import Days, days_of
from sto_engine.history.rules import are_tests, dead_since, machine_rows, rules_of
from sto_engine.history.walks import clean
from sto_engine.tables import CAMPAIGN_ENUM, EVENT_ENUM, encode, hash_ids
from sto_engine.zones import zone_table
from sto_kernels.journal import NO_OFFSET, Cleaned, Events, Rules, Zones

DAY_MS = 86_400_000
# what cleaning reads of an event
COLUMNS = (
    *("campaign_id", "event_type", "event_ts", "tz_offset", "device_type", "campaign_type"),
    *("is_machine_open", "user_agent", "bounce_type"),
)


@dataclass(frozen=True)
class Bucket:
    """Users of a bucket, rows of `users`, and their cleaned events of [start, end); campaigns by the hash of the id.

    `days` are the days off of their countries, None where those are Saturday and Sunday for all.
    `channel_C`: the place of each campaign's channel, where channels are told apart (history.channels).
    """

    users: pl.DataFrame
    cleaned: Cleaned
    campaign_key_C: NDArray[np.uint64]
    start_ms: int
    end_ms: int
    days: Days | None = None
    channel_C: NDArray[np.int8] | None = None

    @property
    def counted(self) -> Cleaned:
        """The events as they count by day and hour: local times moved to the days that theirs stand for."""
        return self.cleaned if self.days is None else self.days.moved(self.cleaned)

    @property
    def bad_U(self) -> NDArray[np.bool_]:
        """Machines, invalid and dead addresses: they get a slot, but teach nobody, bool [U]."""
        return np.asarray((self.cleaned.machine_U > 0) | self.cleaned.invalid_U)

    def of(self, rows: slice) -> "Bucket":
        """The same of a run of users: views of their rows, numbered anew."""
        cleaned, (first, last, _) = self.cleaned, rows.indices(len(self.users))
        sends = slice(*np.searchsorted(cleaned.user_S, (first, last)).tolist())
        acts = slice(*np.searchsorted(cleaned.user_A, (first, last)).tolist())
        of = {"S": sends, "A": acts, "U": rows, "D": slice(None)}
        own = {f.name: getattr(cleaned, f.name)[of[f.name[-1]]] for f in fields(Cleaned)}
        own |= {name: own[name] - np.int32(first) for name in ("user_S", "user_A")}
        days = None if self.days is None else self.days.of(rows)
        return replace(self, users=self.users[rows], cleaned=Cleaned(**own), days=days)

    def take(self, rows_U: NDArray[np.int64]) -> "Bucket":
        """The same of some users, given as ascending rows."""
        cleaned = self.cleaned
        if len(rows_U) == len(self.users):
            return self
        place_U = np.full(len(self.users), -1, np.int32)
        place_U[rows_U] = np.arange(len(rows_U), dtype=np.int32)
        sends, acts = np.flatnonzero(place_U[cleaned.user_S] >= 0), np.flatnonzero(place_U[cleaned.user_A] >= 0)
        of = {"S": sends, "A": acts, "U": rows_U, "D": slice(None)}
        own = {f.name: getattr(cleaned, f.name)[of[f.name[-1]]] for f in fields(Cleaned)}
        own |= {name: place_U[own[name]] for name in ("user_S", "user_A")}
        days = None if self.days is None else self.days.of(rows_U)
        return replace(self, users=self.users[rows_U], cleaned=Cleaned(**own), days=days)


def window_start(end_ms: int, config: Config) -> int:
    """The first millisecond of the history before `end_ms`."""
    return end_ms - config.model.history_days * DAY_MS


@dataclass(frozen=True)
class Journal:
    """Events of a bucket's users as arrays, before any cleaning: one for every moment that is asked about."""

    users: pl.DataFrame
    events: Events
    zones: Zones
    campaign_key_C: NDArray[np.uint64]
    dead_since_U: NDArray[np.int64]
    rules: Rules
    config: Config

    def at(self, start_ms: int, end_ms: int, label: str = "none") -> Bucket:
        """What the events of [start_ms, end_ms) tell, with the acts that `label` names (clean_walk.clean)."""
        cleaned = clean(self.events, self.zones, start_ms, end_ms, label, rules=self.rules)
        cleaned = replace(cleaned, invalid_U=cleaned.invalid_U | (self.dead_since_U < end_ms))
        days = days_of(self.users, start_ms, end_ms, self.config)
        return Bucket(self.users, cleaned, self.campaign_key_C, start_ms, end_ms, days)


def build_journal(events: pl.DataFrame, users: pl.DataFrame, config: Config) -> Journal:
    """Arrays of the events of every row of `users`; those who do not consent to profiling have none.

    `events` as Store.read_events returns them, `users` as build_users does, in the order of h and user_id.
    """
    mine, start_U = _own(events, users)
    codes, key_C, test_C = _campaigns(mine["campaign_id"], config)
    if test_C.any():
        mine, start_U, codes = _without(test_C[codes], mine, start_U, codes)
    time_N = mine["event_ts"].dt.epoch("ms").to_numpy()
    kind_N = mine["event_type"].cast(EVENT_ENUM).to_physical().to_numpy().astype(np.int8)
    rows = Events(
        start_U=start_U,
        campaign_N=codes,
        kind_N=kind_N,
        ts_N=time_N,
        stated_N=mine["tz_offset"].fill_null(NO_OFFSET).to_numpy(),
        type_N=mine["campaign_type"].cast(CAMPAIGN_ENUM).to_physical().fill_null(0).to_numpy().astype(np.int8),
        mobile_N=(mine["device_type"] == "mobile").fill_null(False).to_numpy(),
        machine_N=machine_rows(mine, kind_N, config.clean),
    )
    dead_U = dead_since(mine, kind_N, start_U, users, config.clean)
    return Journal(users, rows, _zones(users, time_N, config), key_C, dead_U, rules_of(config.clean), config)


def _own(events: pl.DataFrame, users: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """Events of profiled users in their order, and where each user's begin, int64 [U + 1]."""
    profiled_U = users["consent_profiling"].fill_null(True).to_numpy()
    event_h, user_h = events["h"].to_numpy(), users["h"].to_numpy()
    first_U, last_U = np.searchsorted(event_h, user_h, "left"), np.searchsorted(event_h, user_h, "right")
    count_U = np.where(profiled_U, last_U - first_U, 0)
    start_U = np.concatenate([[0], np.cumsum(count_U)]).astype(np.int64)
    mine = events.select(*COLUMNS)
    if start_U[-1] == len(events):
        return mine, start_U
    if (user_h[1:] > user_h[:-1]).all():
        edge_N = np.zeros(len(events) + 1, np.int32)
        np.add.at(edge_N, first_U[profiled_U], 1)
        np.add.at(edge_N, last_U[profiled_U], -1)
        return mine.filter(pl.Series(np.cumsum(edge_N[:-1]) > 0)), start_U
    row_N = np.repeat(first_U - start_U[:-1], count_U) + np.arange(start_U[-1])
    return mine[row_N], start_U


def _without(
    drop_N: NDArray[np.bool_], mine: pl.DataFrame, start_U: NDArray[np.int64], codes: NDArray[np.int32]
) -> tuple[pl.DataFrame, NDArray[np.int64], NDArray[np.int32]]:
    """The same without some of the rows."""
    kept_N = np.concatenate([[0], np.cumsum(~drop_N)])
    return mine.filter(pl.Series(~drop_N)), kept_N[start_U], codes[~drop_N]


def _campaigns(ids: pl.Series, config: Config) -> tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.bool_]]:
    """Code of each row's campaign, int32 [N]; hashes of the ids in ascending order, uint64 [C]; which are tests."""
    names = ids.unique()
    key_C = hash_ids(names) if len(names) else np.zeros(0, np.uint64)
    order = np.argsort(key_C)
    code = pl.DataFrame({"campaign_id": names[order], "code": np.arange(len(names), dtype=np.int32)})
    joined = ids.to_frame("campaign_id").join(code, on="campaign_id", how="left", maintain_order="left")
    return joined["code"].to_numpy(), key_C[order], are_tests(code["campaign_id"], config.clean)


def _zones(users: pl.DataFrame, time_N: NDArray[np.int64], config: Config) -> Zones:
    names, zone_U = encode(users["zone"])
    first, last = (int(time_N.min()), int(time_N.max())) if len(time_N) else (0, 0)
    moments_ZK, offsets_ZK = zone_table(names, first, last)
    unknown_U = (users["timezone"].is_null() & users["tz_offset"].is_null()).to_numpy()
    own_U = np.ones(len(users), np.bool_) if config.timezone.source == "event" else unknown_U
    return Zones(zone_U, moments_ZK, offsets_ZK, own_U, shifts=config.timezone.source == "auto")

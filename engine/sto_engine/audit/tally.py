"""What one bucket adds to the audit: counts that can be summed, and the histories of its sampled users.

Pure in (store, bucket, origin, config). U users, N rows of events in the order of the users. "In the window" means in
[origin - model.history_days, origin): the history that a run of that day sees.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.audit.zones import count_zones
from sto_engine.config import Config
from sto_engine.history.agents import agent_kinds
from sto_engine.history.bucket import COLUMNS, DAY_MS, Bucket, Journal, build_journal, window_start
from sto_engine.history.rules import are_tests
from sto_engine.history.users import build_users, seen_users
from sto_engine.ingest.store import Store
from sto_engine.suppress import suppressions
from sto_engine.tables import EVENT_TYPES, MACHINES, encode
from sto_kernels import journal
from sto_kernels.hashing import derive
from sto_kernels.journal import CLICK, FLOOD, HOUR_MS, OPEN, PREFETCH

DROPS = {
    "duplicates": journal.DUPLICATE_ROWS,
    "machine_acts": journal.MACHINE_ACTS,
    "flagged_acts": journal.FLAGGED_ACTS,
    "prefetched_opens": journal.PREFETCHED_ACTS,
    "scanned_acts": journal.SCANNED_ACTS,
    "fast_clicks": journal.FAST_CLICKS,
    "flooded_acts": journal.FLOODED_ACTS,
    "acts_without_send": journal.ORPHAN_ACTS,
    "acts_before_send": journal.EARLY_ACTS,
    "bounced_sends": journal.BOUNCED_SENDS,
}
SOON_MS = 2 * HOUR_MS


@dataclass
class Tally:
    """Counters by name; `most` are maxima over users; columns of campaigns: campaign_id, recipients, is_promo, test."""

    counts: Counter[str] = field(default_factory=Counter)
    days: Counter[int] = field(default_factory=Counter)
    send_hours: Counter[int] = field(default_factory=Counter)
    opens: Counter[str] = field(default_factory=Counter)
    machine_opens: Counter[str] = field(default_factory=Counter)
    suppressed: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    campaigns: list[pl.DataFrame] = field(default_factory=list)
    events: list[pl.DataFrame] = field(default_factory=list)
    users: list[pl.DataFrame] = field(default_factory=list)


def add_up(tallies: Sequence[Tally]) -> Tally:
    """The sum over buckets, given in their order."""
    total = Tally()
    for tally in tallies:
        for item in fields(Tally):
            mine, other = getattr(total, item.name), getattr(tally, item.name)
            setattr(total, item.name, mine | other if item.name == "most" else mine + other)
    return total


@dataclass(frozen=True)
class _Seen:
    """A bucket at the origin: everyone in it, his rows and what cleaning makes of them."""

    journal: Journal
    bucket: Bucket
    user_N: NDArray[np.int64]
    in_N: NDArray[np.bool_]

    def rows(self, *kinds: int) -> NDArray[np.int64]:
        """Rows of these types in the window."""
        return np.flatnonzero(self.in_N & np.isin(self.journal.events.kind_N, kinds))

    def per_user(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(self.user_N[rows], minlength=len(self.bucket.users))


def tally_bucket(store: Store, number: int, origin_ms: int, config: Config, sample: int) -> Tally:
    """Read, clean and count a bucket; `sample` users of it, those of the lowest hashes, come along whole."""
    every = store.read_events(number, columns=("user_id", "recipient_domain", *COLUMNS))
    time_N = every["event_ts"].dt.epoch("ms").to_numpy()
    files = store.files("events", number)
    found = Tally()
    found.counts.update(rows=sum(file["rows"] for file in files), events=len(every))
    day_D, n_D = np.unique(time_N // DAY_MS, return_counts=True)
    found.days.update(dict(zip(day_D.tolist(), n_D.tolist(), strict=True)))
    past = every.filter(pl.Series(time_N < origin_ms)) if len(every) else every
    found.counts["events_later"] = len(every) - len(past)
    recipients = store.read_recipients(number)
    users = build_users(_everyone(past, recipients), recipients, past, config, origin_ms)
    reason = _suppressed(found, recipients, users, past)
    known = build_journal(past, users, config)
    seen = _look(known, known.at(window_start(origin_ms, config), origin_ms))
    _count(found, seen, past, config)
    _count_campaigns(found, past, seen.bucket.start_ms, config)
    users = users.with_columns(mailed=reason)
    _take_sample(found, users, past, seen.bucket.start_ms, sample)
    return found


def _everyone(past: pl.DataFrame, recipients: pl.DataFrame | None) -> pl.DataFrame:
    """Columns h and user_id of everyone in the events or the snapshot, each once, in their order."""
    seen = seen_users(past)
    if recipients is None:
        return seen
    both = pl.concat([seen, recipients.select("h", "user_id")]).sort("h", "user_id")
    return both.unique(maintain_order=True)


def _suppressed(found: Tally, recipients: pl.DataFrame | None, users: pl.DataFrame, past: pl.DataFrame) -> pl.Series:
    """Count who would not be mailed and why; whether each user would, Boolean [U]."""
    audience = users if recipients is None else recipients
    rows = audience.select("user_id").join(users, on="user_id", how="left", maintain_order="left")
    reason = suppressions(audience, rows, past)
    found.suppressed.update(reason.drop_nulls().to_list())
    found.counts.update(audience=len(audience), users=len(users))
    found.counts["profiling_refused"] = int((rows["consent_profiling"] == False).sum())  # noqa: E712
    mailed = rows.filter(reason.is_null()).select("user_id", mailed=pl.lit(True)).unique("user_id")
    joined = users.select("user_id").join(mailed, on="user_id", how="left", maintain_order="left")
    return joined["mailed"].fill_null(False)


def _look(known: Journal, bucket: Bucket) -> _Seen:
    user_N = np.repeat(np.arange(len(known.users)), np.diff(known.events.start_U))
    time_N = known.events.ts_N
    return _Seen(known, bucket, user_N, (time_N >= bucket.start_ms) & (time_N < bucket.end_ms))


def _count(found: Tally, seen: _Seen, past: pl.DataFrame, config: Config) -> None:
    cleaned, users, counts = seen.bucket.cleaned, seen.bucket.users, found.counts
    kind_N = seen.journal.events.kind_N[seen.in_N]
    for name, n in zip(EVENT_TYPES, np.bincount(kind_N, minlength=len(EVENT_TYPES)).tolist(), strict=True):
        counts[f"type:{name}"] = n
    counts.update({name: int(cleaned.dropped_D[place]) for name, place in DROPS.items()})
    active_U = seen.per_user(np.flatnonzero(seen.in_N)) > 0
    for name, n in zip(MACHINES, np.bincount(cleaned.machine_U[active_U], minlength=len(MACHINES)), strict=True):
        counts[f"machine:{name}"] = int(n)
    dead_U = seen.journal.dead_since_U < seen.bucket.end_ms
    counts.update(active=int(active_U.sum()), known_dead=int(dead_U.sum()))
    counts["no_sign_of_life"] = int((cleaned.invalid_U & ~dead_U).sum())
    counts["dead"] = int(cleaned.invalid_U.sum())
    acts_U, human_U = seen.per_user(seen.rows(OPEN, CLICK)), np.bincount(cleaned.user_A, minlength=len(users))
    counts["below_history_as_it_came"] = int((acts_U < config.audit.history_acts).sum())
    counts["below_history_cleaned"] = int((human_U < config.audit.history_acts).sum())
    counts.update(sends=len(cleaned.user_S), human_acts=len(cleaned.user_A))
    counts["opened_soon"] = int(((cleaned.latency_S >= 0) & (cleaned.latency_S < SOON_MS)).sum())
    counts["opened_later"] = int((cleaned.latency_S >= SOON_MS).sum())
    found.send_hours.update(dict(enumerate(np.bincount(cleaned.local_S // HOUR_MS % 24, minlength=24).tolist())))
    found.most.update(human_acts=int(human_U.max(initial=0)))
    _count_opens(found, seen)
    count_zones(counts, seen.journal, seen.user_N, seen.in_N)
    counts["zone:shifted"] = int((cleaned.shift_U != 0).sum())
    window = past.filter(pl.col("event_ts").dt.epoch("ms") >= seen.bucket.start_ms)
    _count_agents(found, window)
    for name in ("tz_offset", "device_type", "campaign_type", "is_machine_open", "user_agent"):
        counts[f"null:{name}"] = window[name].null_count()
    counts["window"] = len(window)


def _count_opens(found: Tally, seen: _Seen) -> None:
    """Opens by provider, and those of machines: flagged ones, and all of prefetching clients and floods."""
    rows, machine_U = seen.rows(OPEN), seen.bucket.cleaned.machine_U
    user_N = seen.user_N[rows]
    machine_N = seen.journal.events.machine_N[rows] | np.isin(machine_U[user_N], (PREFETCH, FLOOD))
    names, provider_U = encode(seen.bucket.users["provider"])
    for counter, some_N in ((found.opens, user_N), (found.machine_opens, user_N[machine_N])):
        counted = np.bincount(provider_U[some_N], minlength=len(names)).tolist()
        counter.update({name: n for name, n in zip(names, counted, strict=True) if n})
    found.most["opens"] = int(seen.per_user(rows).max(initial=0))


def _count_agents(found: Tally, window: pl.DataFrame) -> None:
    """Opens in the window that name their user agent, by its kind."""
    opened = window.filter(pl.col("event_type").cast(pl.String) == "open", pl.col("user_agent").is_not_null())
    by_name = opened["user_agent"].value_counts()
    for kind, n in zip(agent_kinds(by_name["user_agent"]), by_name["count"], strict=True):
        found.counts[f"agent:{kind}"] += n


def _count_campaigns(found: Tally, past: pl.DataFrame, start_ms: int, config: Config) -> None:
    """Recipients of each campaign in the window, and which campaigns are tests by their name."""
    text = pl.col("event_type").cast(pl.String)
    sent = past.filter(pl.col("event_ts").dt.epoch("ms") >= start_ms, text.is_in(["send", "delivered"]))
    by_id = sent.group_by("campaign_id").agg(
        recipients=pl.col("user_id").n_unique(),
        is_promo=(pl.col("campaign_type").cast(pl.String).fill_null("promo") == "promo").any(),
    )
    everything = past["campaign_id"].unique()
    tests = everything.filter(pl.Series(are_tests(everything, config.clean), dtype=pl.Boolean))
    found.counts["test_rows"] = int(past["campaign_id"].is_in(tests.implode()).sum()) if len(tests) else 0
    by_id = by_id.with_columns(test=pl.col("campaign_id").is_in(tests.implode()))
    found.campaigns.append(by_id.with_columns(pl.col("campaign_id").cast(pl.String)))


def _take_sample(found: Tally, users: pl.DataFrame, past: pl.DataFrame, start_ms: int, sample: int) -> None:
    key_U = derive(users["h"].to_numpy(), "audit-sample")
    rows = np.sort(np.argsort(key_U, kind="stable")[:sample])
    chosen = users[rows]
    h_N: NDArray[Any] = past["h"].to_numpy()
    mine_N = np.isin(h_N, chosen["h"].to_numpy()) & (past["event_ts"].dt.epoch("ms").to_numpy() >= start_ms)
    found.users.append(chosen)
    found.events.append(past.filter(pl.Series(mine_N)) if len(past) else past)

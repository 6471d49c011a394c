"""One user of a store as tonight's run sees him: who he is, what he did, what is usual for people like him."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.errors import InputMissing
from sto_engine.history.bucket import Bucket, build_journal
from sto_engine.history.users import build_users
from sto_engine.ingest.audience import Audience
from sto_engine.ingest.ids import stored_id
from sto_engine.models.features import Known
from sto_engine.plan import Plan
from sto_engine.tables import hash_ids, id_polars
from sto_kernels.hashing import bucket_of
from sto_kernels.journal import BOUNCED_SENDS, DUPLICATE_ROWS, EARLY_ACTS, HOUR_MS, MACHINE_ACTS, ORPHAN_ACTS

MACHINE = ("human", "prefetching client", "link scanner", "flood of acts")
DROPPED = {
    "duplicate_rows": DUPLICATE_ROWS,
    "machine_acts": MACHINE_ACTS,
    "acts_without_send": ORPHAN_ACTS,
    "acts_before_send": EARLY_ACTS,
    "bounced_sends": BOUNCED_SENDS,
}


@dataclass(frozen=True)
class Person:
    """The one row of the user, his events before the day, and both as the policies take them."""

    bucket: int
    audience: Audience
    events: pl.DataFrame
    known: Bucket
    listed: bool | None  # in the recipients snapshot; None without one

    @property
    def row(self) -> dict[str, Any]:
        return self.known.users.row(0, named=True)


def find_person(plan: Plan, text: str) -> Person:
    """The user, from his bucket alone.

    Raises UsageError (2) for an id of another type, InputMissing (66) for one that the store does not hold.
    """
    store = plan.store
    ids = pl.Series("user_id", [stored_id(text, store, plan.config)], dtype=id_polars(store.id_type))
    hashed = hash_ids(ids)
    bucket = int(bucket_of(hashed, store.buckets)[0])
    mine = pl.col("user_id") == pl.lit(ids[0], ids.dtype)
    events, recipients = store.read_events(bucket, before_ms=plan.origin_ms).filter(mine), store.read_recipients(bucket)
    recipients = recipients.filter(mine) if recipients is not None else None
    listed = None if recipients is None else len(recipients) > 0
    if not len(events) and not listed:
        raise InputMissing(
            f"store {store.path} must hold the user of --user-id; found neither a recipient nor an event before "
            f"{plan.date} of that id; check --user-id, --store and --date"
        )
    row = pl.Series("row", [0], dtype=pl.UInt64)
    asked = pl.DataFrame([pl.Series("h", hashed, dtype=pl.UInt64), ids, row])
    users = build_users(asked, recipients, events, plan.config, plan.origin_ms)
    known = build_journal(events, users, plan.config).at(plan.start_ms, plan.origin_ms)
    return Person(bucket, Audience({bucket: asked}, asked.clear(), {}, ""), events, known, listed)


def about(person: Person, text: str, clock: str, config: Config) -> dict[str, Any]:
    """Who the user is to the engine: zone and its source, cohort, consent, what the cleaning holds him for.

    `clock` is the zone that he is mailed by: his own, or the offset that an accepted shift makes of it.
    """
    row, cleaned = person.row, person.known.cleaned
    return {
        "user_id": text,
        "zone": row["zone"],
        "zone_from": _zone_source(person, config),
        "shift_min": int(cleaned.shift_U[0]),
        "clock": clock,
        "cohort": row["cohort"],
        "provider": row["provider"],
        "taken_for": MACHINE[cleaned.machine_U[0]],
        "invalid_address": bool(cleaned.invalid_U[0]),
        "address_status": row["address_status"],
        "consent": row["consent"],
        "consent_profiling": row["consent_profiling"],
        "in_recipients": person.listed,
    }


def _zone_source(person: Person, config: Config) -> str:
    """Where `build_users` took the zone from: "profile", "event" or "default"."""
    found = {
        "profile": person.row["timezone"] is not None or person.row["tz_offset"] is not None,
        "event": bool(person.events["tz_offset"].is_not_null().any()),
    }
    order = ("event", "profile") if config.timezone.source == "event" else ("profile", "event")
    return next((name for name in order if found[name]), "default")


def history(person: Person, known: Known | None) -> dict[str, Any]:
    """What the user did within the history, cleaned; exposure only where the policy has rates of campaigns."""
    cleaned = person.known.cleaned
    acts = cleaned.utc_A
    return {
        "from": utc(person.known.start_ms),
        "before": utc(person.known.end_ms),
        "campaigns": len(np.unique(cleaned.campaign_S)),
        "sends": len(cleaned.utc_S),
        "opened": int((cleaned.latency_S >= 0).sum()),
        "acts": len(acts),
        "first_act": utc(int(acts.min())) if len(acts) else None,
        "last_act": utc(int(acts.max())) if len(acts) else None,
        "acts_by_hour": _by_hour(cleaned.local_A),
        "sends_by_hour": _by_hour(cleaned.local_S),
        "exposure_hours_by_hour": _exposure(known),
        "dropped": {name: int(cleaned.dropped_D[place]) for name, place in DROPPED.items()},
    }


def _by_hour(local_N: NDArray[np.int64]) -> list[int]:
    counts: list[int] = np.bincount(local_N // HOUR_MS % 24, minlength=24).tolist()
    return counts


def _exposure(known: Known | None) -> list[float] | None:
    """Hours that mail lay unread, weighted by its age and appeal, weekdays and weekends together."""
    if known is None:
        return None
    hours: list[float] = known.counts.exposure_U48[0].reshape(2, 24).sum(axis=0).astype(float).round(3).tolist()
    return hours


def utc(ms: int) -> str:
    """ISO 8601 in UTC, to the second."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat(timespec="seconds")

"""`store.retention_days`: which events `compact` drops. The store's newest event decides, never the clock on the wall.

An event is dropped when it is more than `retention_days` days older than the newest event of the store. What
suppresses people stays whatever its age: unsubscribes, complaints and hard bounces, else those people would be mailed
again.
"""

from datetime import UTC, datetime

import polars as pl

from sto_engine.errors import BadData
from sto_engine.ingest.store import Store
from sto_kernels.journal import DAY_MS

LEAST_SHARE = 0.01  # of the events must stay: less is the work of one wrong date, not of time


def cutoff_ms(store: Store, retention_days: int | None) -> int | None:
    """Events before this time are old, in ms since 1970; None where nothing ages."""
    if retention_days is None or store.newest_event_ms is None:
        return None
    return store.newest_event_ms - retention_days * DAY_MS


def may_expire(store: Store, cutoff: int | None) -> bool:
    """Whether a compacted store may have events to drop: it holds older ones, and was not rid of them before."""
    if cutoff is None:
        return False
    generations = store.manifest["generations"]
    new = [g for g in generations if g.get("retained_from_ms") is None or g["retained_from_ms"] < cutoff]
    return any(file.get("min_ts", cutoff - 1) < cutoff for g in new for file in g["files"])


def retained(events: pl.DataFrame, cutoff: int | None) -> pl.DataFrame:
    """The rows of `events` (event_ts, event_type, bounce_type) that stay."""
    if cutoff is None or events.is_empty() or events["event_ts"].dt.epoch("ms").min() >= cutoff:  # type: ignore[operator]
        return events
    kind = pl.col("event_type").cast(pl.String)
    hard = (kind == "bounce") & (pl.col("bounce_type").str.strip_chars().str.to_lowercase() == "hard")
    stops = kind.is_in(("unsubscribe", "complaint")) | hard.fill_null(False)
    return events.filter((pl.col("event_ts").dt.epoch("ms") >= cutoff) | stops)


def check_share(store: Store, before: int, expired: int, cutoff: int | None) -> None:
    """BadData (65) where hardly an event would be left: the newest one is likely dated wrong."""
    if cutoff is None or before - expired >= LEAST_SHARE * before:
        return
    newest, start = (
        datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes")
        for ms in (store.newest_event_ms or 0, cutoff)
    )
    raise BadData(
        f"store.retention_days must leave at least {LEAST_SHARE:.0%} of the events; found {expired} of {before} before "
        f"{start}, counted from the newest event of {store.path} at {newest}; is it dated right? nothing was dropped"
    )

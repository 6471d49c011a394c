"""The two moments that training looks at, and what a bucket tells at each.

    origin = as_of - label_days     features see only events before it, flags and zones included
    as_of                           labels may be cleaned with everything known then

Both see `history_days` of events, so that features of training rows are as old as those of tonight's recipients.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.history.bucket import COLUMNS, DAY_MS, Bucket, build_journal, window_start
from sto_engine.history.parts import campaign_tensors, sample_tensors
from sto_engine.history.users import build_users, seen_users
from sto_engine.ingest.store import Store
from sto_engine.zones import midnight_ms

HOUR_MS = 3_600_000
LABEL_HOURS = {"open_2h": 2, "open_24h": 24, "click": 24, "conversion": 24}
_ACT_OF_LABEL = {"open_2h": "none", "open_24h": "none", "click": "click", "conversion": "conversion"}


@dataclass(frozen=True)
class Span:
    """What is learnt from: rows are sends of [origin, last) with labels within `label_ms`."""

    as_of: date
    as_of_ms: int
    origin_ms: int
    label: str

    @property
    def label_ms(self) -> int:
        return LABEL_HOURS[self.label] * HOUR_MS

    def last_ms(self, config: Config) -> int:
        """Sends from here on are too young to be labelled."""
        return self.as_of_ms - self.label_ms - int(config.train.outcome_lag_hours * HOUR_MS)


def span_of(as_of: date, config: Config) -> Span:
    """The span before a UTC midnight."""
    as_of_ms = midnight_ms(as_of)
    return Span(as_of, as_of_ms, as_of_ms - config.train.label_days * DAY_MS, config.model.label)


@dataclass(frozen=True)
class Moments:
    """A bucket as it was known at the origin, and as it is known at `as_of`; the same users in the same order."""

    origin: Bucket
    now: Bucket
    labels: Bucket


def bucket_moments(
    store: Store, bucket: int, span: Span, config: Config, history_act: Literal["none", "click"] = "none"
) -> Moments:
    """Read a bucket once and look at it from both moments; features may ask for the clicks before the origin, too."""
    first_ms = window_start(span.origin_ms, config)
    columns = ("user_id", "recipient_domain", *COLUMNS)
    events = store.read_events(bucket, before_ms=span.as_of_ms, from_ms=first_ms, columns=columns)
    recipients = store.read_recipients(bucket)
    audience = seen_users(events)
    before = events.filter(pl.col("event_ts").dt.epoch("ms") < span.origin_ms)
    users, users_then = (
        build_users(audience, recipients, known, config, at)
        for known, at in ((events, span.as_of_ms), (before, span.origin_ms))
    )
    then = build_journal(before, users_then, config).at(first_ms, span.origin_ms, history_act)
    journal = build_journal(events, users, config)
    now_ms, act = window_start(span.as_of_ms, config), _ACT_OF_LABEL[span.label]
    now = journal.at(now_ms, span.as_of_ms, act)
    # labels may reach further back than the history that features see
    labels = now if now_ms <= span.origin_ms else journal.at(span.origin_ms, span.as_of_ms, act)
    return Moments(then, now, labels)


def moment_parts(seen: Moments, buckets: int) -> dict[str, dict[str, NDArray[Any]]]:
    """First pass: campaign sums and sample of a bucket, one of `buckets`, at both moments."""
    return {
        name: {**campaign_tensors(at), **sample_tensors(at, buckets)}
        for name, at in (("origin", seen.origin), ("now", seen.now))
    }

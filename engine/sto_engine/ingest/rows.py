"""Row rules: what sends a row to quarantine, and which values become null while the row stays."""

from collections import Counter
from dataclasses import dataclass

import polars as pl

from sto_engine.tables import ADDRESS_STATUS, CAMPAIGN_TYPES, DEVICE_TYPES, EVENT_TYPES
from sto_engine.zones import MAX_OFFSET, MIN_OFFSET, is_zone

_FIRST = pl.datetime(1990, 1, 1, time_unit="ms", time_zone="UTC")
_LAST = pl.datetime(2100, 1, 1, time_unit="ms", time_zone="UTC")


@dataclass(frozen=True)
class Sorted:
    """Rows of one batch after the rules: `good` to store, `bad` with columns rule, column and row, counts of nulls."""

    good: pl.DataFrame
    bad: pl.DataFrame
    nulled: Counter[str]


def sort_events(frame: pl.DataFrame) -> Sorted:
    """Apply the rules to typed events (column `row` = position in the file)."""
    time = pl.col("event_ts")
    rule = (
        pl.when(pl.col("user_id").is_null())
        .then(pl.lit("bad_user_id"))
        .when(pl.col("campaign_id").is_null())
        .then(pl.lit("bad_campaign"))
        .when(pl.col("event_type").is_in(EVENT_TYPES).not_().fill_null(True))
        .then(pl.lit("bad_event_type"))
        .when(time.is_null() | (time < _FIRST) | (time >= _LAST))
        .then(pl.lit("bad_ts"))
    )
    keep = {
        "tz_offset": _offset_ok(),
        "device_type": pl.col("device_type").is_in(DEVICE_TYPES),
        "campaign_type": pl.col("campaign_type").is_in(CAMPAIGN_TYPES),
    }
    columns = {"bad_user_id": "user_id", "bad_campaign": "campaign_id", "bad_event_type": "event_type"}
    return _split(frame, rule, keep, {**columns, "bad_ts": "event_ts"})


def sort_recipients(frame: pl.DataFrame) -> Sorted:
    """Apply the rules to typed recipients: only a null id loses the row."""
    rule = pl.when(pl.col("user_id").is_null()).then(pl.lit("bad_user_id"))
    zones = [name for name in frame["timezone"].unique().to_list() if name is not None and is_zone(name)]
    keep = {
        "timezone": pl.col("timezone").is_in(pl.Series(zones, dtype=pl.String).implode()),
        "tz_offset": _offset_ok(),
        "address_status": pl.col("address_status").is_in(ADDRESS_STATUS),
        "clv": pl.col("clv").is_finite(),
        "churn_risk": pl.col("churn_risk").is_between(0, 1),
    }
    return _split(frame, rule, keep, {"bad_user_id": "user_id"})


def _offset_ok() -> pl.Expr:
    offset = pl.col("tz_offset")
    return offset.is_between(MIN_OFFSET, MAX_OFFSET) & (offset % 15 == 0)


def _split(frame: pl.DataFrame, rule: pl.Expr, keep: dict[str, pl.Expr], columns: dict[str, str]) -> Sorted:
    """Rows with a rule apart; in the others, values that fail their `keep` test become null and are counted."""
    frame = frame.with_columns(rule=rule.cast(pl.String))
    bad = frame.filter(pl.col("rule").is_not_null())
    bad = bad.with_columns(column=pl.col("rule").replace(columns))
    good = frame.filter(pl.col("rule").is_null()).drop("rule")
    failed = {name: pl.col(name).is_not_null() & test.not_().fill_null(True) for name, test in keep.items()}
    counts = good.select(**{name: test.sum() for name, test in failed.items()})
    nulled = Counter({name: int(counts[name][0] or 0) for name in failed})
    good = good.with_columns(**{name: pl.when(test.not_()).then(pl.col(name)) for name, test in failed.items()})
    return Sorted(good, bad, +nulled)

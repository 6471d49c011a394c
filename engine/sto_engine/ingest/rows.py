"""Row rules: what sends a row to quarantine, and which values become null while the row stays.

    long layout   bad_row, bad_user_id, bad_campaign, bad_event_type, bad_ts                 the first that applies
    wide layout   bad_row, bad_user_id, bad_campaign, bad_ts, no_event
    recipients    bad_row, bad_user_id

A column is first looked at as a whole (nulls, least and greatest); masks are made only where one of its values fails.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.ingest.text import Typed
from sto_engine.ingest.times import in_range, whole_range
from sto_engine.zones import MAX_OFFSET, MIN_OFFSET, known_zones

Mask = NDArray[np.bool_]
_STEP = 15


@dataclass(frozen=True)
class Test:
    """Rows that break `rule` in `column`; `fails` is None where no row does."""

    rule: str
    column: str
    fails: Mask | None


@dataclass(frozen=True)
class Sorted:
    """Rows of one batch after the rules: `good` to store; `bad` with rule, column and `at`, the row of the batch; and
    counts of values that became null in good rows."""

    good: pl.DataFrame
    bad: pl.DataFrame
    nulled: Counter[str]


def sort_events(columns: Mapping[str, Typed], not_rows: Mask | None) -> Sorted:
    """Apply the rules to typed events, one a row."""
    time = columns["event_ts"].values
    tests = [
        *_of_ids(columns, not_rows),
        Test("bad_campaign", "campaign_id", _nulls(columns["campaign_id"].values)),
        Test("bad_event_type", "event_type", _nulls(columns["event_type"].values)),
        Test("bad_ts", "event_ts", None if whole_range(time) else ~in_range(time)),
    ]
    required = ("user_id", "campaign_id", "event_type", "event_ts")
    return _split(columns, tests, required)


def sort_sends(columns: Mapping[str, Typed], times: Mapping[str, Typed], not_rows: Mask | None) -> Sorted:
    """Apply the rules to rows of the wide layout, each a send with its `times`."""
    tests = [
        *_of_ids(columns, not_rows),
        Test("bad_campaign", "campaign_id", _nulls(columns["campaign_id"].values)),
        *(Test("bad_ts", name, _bad_time(typed)) for name, typed in times.items()),
        Test("no_event", next(iter(times)), _none_at_all([typed.values for typed in times.values()])),
    ]
    return _split({**columns, **times}, tests, ("user_id", "campaign_id", *times))


def sort_recipients(columns: Mapping[str, Typed], not_rows: Mask | None) -> Sorted:
    """Apply the rules to typed recipients: only a null id loses the row."""
    return _split(columns, _of_ids(columns, not_rows), ("user_id",))


def _of_ids(columns: Mapping[str, Typed], not_rows: Mask | None) -> list[Test]:
    ids = Test("bad_user_id", "user_id", _nulls(columns["user_id"].values))
    return [Test("bad_row", "", not_rows), ids]


def _nulls(values: pl.Series) -> Mask | None:
    return values.is_null().to_numpy() if values.null_count() else None


def _bad_time(typed: Typed) -> Mask | None:
    """A time that could not be read or lies outside of 1990..2100; none at all is no fault."""
    there = typed.values.drop_nulls() if typed.values.null_count() else typed.values
    if whole_range(there):
        return typed.lost
    outside: Mask = ~in_range(typed.values) & typed.values.is_not_null().to_numpy()
    return outside if typed.lost is None else outside | typed.lost


def _none_at_all(times: list[pl.Series]) -> Mask | None:
    if any(not values.null_count() for values in times):
        return None
    none: Mask = np.logical_and.reduce([values.is_null().to_numpy() for values in times])
    return none if none.any() else None


def _split(columns: Mapping[str, Typed], tests: list[Test], required: tuple[str, ...]) -> Sorted:
    """Rows that fail a test apart; in the others, values that were lost or break their rule are counted."""
    failed = [test for test in tests if test.fails is not None]
    checked = {name: typed if name in required else _ruled(name, typed) for name, typed in columns.items()}
    frame = pl.DataFrame({name: typed.values for name, typed in checked.items()})
    bad = pl.DataFrame(schema={"rule": pl.String, "column": pl.String, "at": pl.UInt32})
    is_good: Mask | None = None
    if failed:
        first_N = np.full(len(frame), len(failed), np.uint8)
        for number, test in reversed(list(enumerate(failed))):
            first_N[test.fails] = number
        is_good = first_N == len(failed)
        at = np.flatnonzero(~is_good)
        which = pl.Series(first_N[at]).cast(pl.UInt32)
        rules, names = pl.Series([test.rule for test in failed]), pl.Series([test.column for test in failed])
        bad = pl.DataFrame({"rule": rules.gather(which), "column": names.gather(which), "at": at.astype(np.uint32)})
        frame = frame.filter(pl.Series(is_good))
    return Sorted(frame, bad, Counter(dict(_counted(checked, is_good, required))))


def _counted(
    columns: Mapping[str, Typed], is_good: Mask | None, required: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    for name, typed in columns.items():
        if typed.lost is not None and name not in required:
            count = int((typed.lost if is_good is None else typed.lost & is_good).sum())
            if count:
                yield name, count


def _ruled(name: str, typed: Typed) -> Typed:
    """A column held to the rule of its name."""
    if name == "tz_offset":
        return _offset(typed)
    if name == "timezone":
        return _zone(typed)
    if name == "clv":
        return _without(typed, typed.values.is_finite())
    if name == "churn_risk":
        return _without(typed, typed.values.is_between(0, 1))
    return typed


def _without(typed: Typed, ok: pl.Series) -> Typed:
    """Null where `ok` is false."""
    fails = (~ok).fill_null(False)
    if not fails.any():
        return typed
    lost = fails.to_numpy() if typed.lost is None else typed.lost | fails.to_numpy()
    return Typed(typed.values.set(fails, None), lost)


def _offset(typed: Typed) -> Typed:
    values = typed.values
    if values.null_count() == len(values):
        return typed
    low, high = values.min(), values.max()
    if low >= MIN_OFFSET and high <= MAX_OFFSET and not (values % _STEP != 0).any():  # type: ignore[operator]
        return typed
    return _without(typed, values.is_between(MIN_OFFSET, MAX_OFFSET) & (values % _STEP == 0))


def _zone(typed: Typed) -> Typed:
    """Names of zones in their own spelling, whatever the case of the file's."""
    words = typed.values.unique().drop_nulls()
    if not len(words):
        return typed
    known = known_zones()
    names = pl.Series([known.get(word.casefold()) for word in words.to_list()], dtype=pl.String)
    values = typed.values.replace_strict(words, names, default=None, return_dtype=pl.String)
    return _without(replace(typed, values=values), ~(typed.values.is_not_null() & values.is_null()))

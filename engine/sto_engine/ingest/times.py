"""Times as files have them -> milliseconds in UTC, by steps that lose nothing above the millisecond.

Timestamps with a zone and text with a zone are what they say. Without one they are UTC only where
ingest.naive_timestamps says so. Whole numbers are epochs, UTC by definition; their unit is that in which they fall into
1990..2100, which is one unit or none: the four ranges do not overlap. A file has one unit a column, that of most values
of its first batch; a value of another unit is lost (bad_ts), for a file with two units is not to be trusted.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sto_engine.errors import BadData
from sto_engine.ingest.text import Typed, is_text, text_of
from sto_engine.ingest.text_times import text_times

FIRST_MS = int(datetime(1990, 1, 1, tzinfo=UTC).timestamp()) * 1000
LAST_MS = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1000
TIME = pl.Datetime("ms", "UTC")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EXACT = 2**53


@dataclass(frozen=True)
class TimeRules:
    """`naive`: "utc" or "reject". `unit`: of whole numbers. `never`: zero (1970) means that it did not happen, as in
    wide tables. `days`: a date alone is its midnight. `where` is "file: column"."""

    naive: str
    where: str
    unit: str | None = None
    never: bool = False
    days: bool = False


def epoch_unit(column: pa.ChunkedArray) -> str | None:
    """The unit in which most whole numbers of a column fall into 1990..2100; None where none does or all are text."""
    numbers = _numbers(column)
    if numbers is None:
        return None
    values = numbers.drop_nulls().to_numpy()
    counts = {
        unit: int(((values >= FIRST_MS // 1000 * per) & (values < LAST_MS // 1000 * per)).sum())
        for unit, per in _PER_SECOND.items()
    }
    best = max(counts, key=lambda unit: counts[unit])
    return best if counts[best] else None


def _numbers(column: pa.ChunkedArray) -> pl.Series | None:
    kind = column.type
    if pa.types.is_dictionary(kind) and is_text(kind):
        return None
    if is_text(kind):
        return whole_numbers(text_of(column).values)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pl.Series(column).cast(pl.Int64, strict=False)
    return None


def typed_time(column: pa.ChunkedArray, rules: TimeRules) -> Typed:
    """A column as Datetime(ms, UTC). Raises BadData (65) for a type that is no time, or a time without a zone."""
    kind = column.type
    if pa.types.is_null(kind):
        return Typed(pl.repeat(None, len(column), dtype=TIME, eager=True))
    if pa.types.is_timestamp(kind):
        typed = _timestamp(column, rules)
    elif is_text(kind):
        typed = _from_text(column, rules)
    elif pa.types.is_integer(kind):
        typed = _epoch(pl.Series(column), rules)
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        typed = _epoch(_whole(column, rules.where), rules)
    elif pa.types.is_date(kind) and rules.days:
        typed = Typed(pl.Series(column.cast(pa.timestamp("ms"))).dt.replace_time_zone("UTC"))
    else:
        raise BadData(f"{rules.where} must be a timestamp; found {kind}; export it as a timestamp in UTC")
    return _without_never(typed) if rules.never else typed


def _without_never(typed: Typed) -> Typed:
    zero = (typed.values.to_physical() == 0).fill_null(False)
    return Typed(typed.values.set(zero, None), typed.lost) if zero.any() else typed


def _timestamp(column: pa.ChunkedArray, rules: TimeRules) -> Typed:
    if column.type.tz is None and column.null_count < len(column):
        refuse_naive(rules)
    if column.type.unit == "s":
        column = column.cast(pa.timestamp("ms", column.type.tz))
    values = pl.Series(column.cast(pa.timestamp(column.type.unit, "UTC")))
    return Typed(values.dt.cast_time_unit("ms"))


def refuse_naive(rules: TimeRules) -> None:
    """BadData (65) unless times without a zone are UTC."""
    if rules.naive != "utc":
        raise BadData(
            f"{rules.where} has no time zone; export it in UTC with its zone, or set "
            'ingest.naive_timestamps = "utc" if it is UTC'
        )


def _whole(column: pa.ChunkedArray, where: str) -> pl.Series:
    """Whole numbers from floats or decimals that hold nothing else; BadData (65) for a part of one."""
    values = pl.Series(column)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    whole = values.cast(pl.Int64, strict=False)
    if (whole.is_null() & values.is_not_null()).any() or (whole.cast(values.dtype) != values).any():
        raise BadData(f"{where} must be a timestamp or whole seconds; found {column.type} with parts of a second")
    if values.dtype.is_float() and whole.abs().max() is not None and int(whole.abs().max()) >= _EXACT:  # type: ignore[arg-type]
        raise BadData(f"{where} must be a timestamp; found {column.type} beyond 2^53, where floats skip whole numbers")
    return whole


def _epoch(numbers: pl.Series, rules: TimeRules) -> Typed:
    """Whole numbers in the unit of the column; those that it does not put into 1990..2100 are lost."""
    unit = rules.unit
    if rules.never:
        numbers = numbers.set(numbers == 0, None)
    if unit is None:
        nothing = pl.repeat(None, len(numbers), dtype=TIME, eager=True)
        return Typed(nothing, numbers.is_not_null().to_numpy() if numbers.null_count() < len(numbers) else None)
    low, high = FIRST_MS // 1000 * _PER_SECOND[unit], LAST_MS // 1000 * _PER_SECOND[unit]
    lost: NDArray[np.bool_] | None = None
    if numbers.null_count() < len(numbers) and not (numbers.min() >= low and numbers.max() < high):  # type: ignore[operator]
        outside = ((numbers < low) | (numbers >= high)).fill_null(False)
        numbers, lost = numbers.set(outside, None), outside.to_numpy()
    numbers = numbers.cast(pl.Int64)
    ms = numbers * 1000 if unit == "s" else numbers // (_PER_SECOND[unit] // 1000)
    return Typed(ms.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"), lost)


def whole_numbers(text: pl.Series) -> pl.Series:
    """Whole numbers among texts ("12" and "12.0"), others null; times of a clock, which have a colon, cost no parse."""
    clock = text.str.contains(":", literal=True)
    if clock.all():
        return pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
    return text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)


def _from_text(column: pa.ChunkedArray, rules: TimeRules) -> Typed:
    """Text times, and whole numbers as text."""
    text = text_of(column)
    values, lost = text.values, text.lost
    was = values.is_not_null().to_numpy()
    numbers = whole_numbers(values)
    is_number = numbers.is_not_null()
    if is_number.all():
        typed = _epoch(numbers, rules)
        times, from_number = typed.values, typed.lost
    else:
        times, naive = text_times(values, rules.days)
        if naive:
            refuse_naive(rules)
        if is_number.any():
            times = times.zip_with(~is_number, _epoch(numbers, rules).values)
        from_number = None
    missing = was & times.is_null().to_numpy()
    if rules.never and missing.any():
        missing &= ~values.str.contains(r"^(0+|0000-00-00.*)$").fill_null(False).to_numpy()
    for more in (lost, from_number):
        missing = missing if more is None else missing | more
    return Typed(times, missing if missing.any() else None)


def whole_range(values: pl.Series) -> bool:
    """Whether every time lies in 1990..2100 and none is null."""
    if values.null_count():
        return False
    ms = values.to_physical()
    return not len(ms) or bool(ms.min() >= FIRST_MS and ms.max() < LAST_MS)  # type: ignore[operator]


def in_range(values: pl.Series) -> NDArray[np.bool_]:
    """Which times lie in 1990..2100, bool [N]; null does not."""
    ms = values.to_physical()
    inside: NDArray[np.bool_] = ((ms >= FIRST_MS) & (ms < LAST_MS)).fill_null(False).to_numpy()
    return inside


def epoch_units(columns: dict[str, pa.ChunkedArray]) -> dict[str, str]:
    """Units of the time columns that hold whole numbers."""
    found = {name: epoch_unit(column) for name, column in columns.items()}
    return {name: unit for name, unit in found.items() if unit is not None}


def has_time(column: pa.ChunkedArray) -> bool:
    """Whether a batch tells anything of the unit of a column."""
    return bool(pc.count(column).as_py())

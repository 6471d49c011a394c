"""Text -> times: ISO 8601 with a "T" or a space, fractions of any length, and a zone as Z, UTC, GMT or an offset.

The first 19 characters are one format for all rows; what follows has few distinct values, so that each fraction and
zone is read by slices, not by a pattern a row.
"""

import re
from datetime import timedelta

import polars as pl

_BASE = 19
_TIME = pl.Datetime("ms", "UTC")
_SHAPE = re.compile(r"\d{4}-\d{2}-\d{2}(?P<mark>[T ])\d{2}:\d{2}:\d{2}([.,](?P<digits>\d{1,9}))?(?P<zone>.*)")
_SHORT = r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2})($|[^:\d])"
_DAY = r"^\d{4}-\d{2}-\d{2}$"


def text_times(text: pl.Series, days: bool) -> tuple[pl.Series, bool]:
    """Times of a column of text as Datetime(ms, UTC), null for what is none; and whether any had no zone.

    `days`: a date alone is its midnight in UTC, and needs no zone.
    """
    uniform = _uniform(text)
    if uniform is not None:
        return uniform
    text = text.str.replace_all("/", "-", literal=True) if _any(text, "/") else text
    if days and text.str.contains(_DAY).any():
        text = text.str.replace(_DAY, "${0}T00:00:00Z")
    times, naive = _iso(text)
    failed = times.is_null() & text.is_not_null()
    if failed.any() and text.filter(failed).str.contains(_SHORT).any():
        again, naive_too = _iso(text.str.replace(_SHORT, "${1}:00${2}"))
        times, naive = times.zip_with(~failed, again), naive or naive_too
    return times, naive


def _uniform(text: pl.Series) -> tuple[pl.Series, bool] | None:
    """The same by slices alone where all rows are written as the first one is; None where one is not."""
    sizes = text.str.len_bytes()
    if sizes.null_count() == len(sizes) or sizes.min() != sizes.max():
        return None
    shape = _SHAPE.fullmatch(str(text[int(text.is_not_null().arg_max() or 0)]))
    minutes = _zone_minutes(shape["zone"]) if shape else None
    if shape is None or minutes is None:
        return None
    digits = len(shape["digits"] or "")
    rest = text.str.slice(_BASE + (digits + 1 if digits else 0)).unique().drop_nulls()
    times = text.str.slice(0, _BASE).str.to_datetime(f"%Y-%m-%d{shape['mark']}%H:%M:%S", time_unit="ms", strict=False)
    if digits:
        if len(text.str.slice(_BASE, 1).unique().drop_nulls()) > 1:
            return None
        part = text.str.slice(_BASE + 1, digits).cast(pl.UInt32, strict=False).cast(pl.Int64)
        ms = part * 10 ** (3 - digits) if digits <= 3 else part // 10 ** (digits - 3)
        times = times + ms.cast(pl.Duration("ms"))
    if len(rest) > 1 or times.null_count() > text.null_count():
        return None
    times = times - timedelta(minutes=minutes)
    return times.dt.replace_time_zone("UTC"), shape["zone"] == ""


def _any(text: pl.Series, mark: str) -> bool:
    return bool(text.str.contains(mark, literal=True).any())


def _iso(text: pl.Series) -> tuple[pl.Series, bool]:
    base = text.str.slice(0, _BASE).str.replace("T", " ", literal=True)
    local = base.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms", strict=False)
    rest = text.str.slice(_BASE)
    if (rest.str.len_bytes() > 0).any():
        fraction = rest.str.extract(r"^[.,](\d{1,9})")
        zone = rest.str.replace(r"^[.,]\d{1,9}", "")
        if fraction.null_count() < len(fraction):
            part = fraction.str.pad_end(3, "0").str.slice(0, 3).cast(pl.Int64, strict=False).fill_null(0)
            local = local + part.cast(pl.Duration("ms"))
    else:
        zone = rest
    words = zone.unique().drop_nulls()
    minutes = pl.Series([_zone_minutes(word) for word in words.to_list()], dtype=pl.Int64)
    if len(words) == 1 and minutes[0] is not None:
        offset = pl.repeat(minutes[0], len(text), dtype=pl.Int64, eager=True)
    else:
        offset = zone.replace_strict(words, minutes, default=None, return_dtype=pl.Int64)
    utc = local - (offset * 60_000).cast(pl.Duration("ms"))
    naive = bool(((zone == "") & utc.is_not_null()).any()) if "" in words else False
    return utc.dt.replace_time_zone("UTC"), naive


def _zone_minutes(word: str) -> int | None:
    """Minutes of a zone as text: "" and Z, UTC, GMT are 0; +02, +0200, +02:00 are 120; None for any other."""
    bare = word.strip().upper()
    if bare in ("", "Z", "UTC", "GMT"):
        return 0
    match = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{2}):?(\d{2})?", bare)
    if match is None or int(match[2]) > 18 or int(match[3] or 0) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return minutes if match[1] == "+" else -minutes

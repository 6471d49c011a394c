"""Columns as files have them -> columns as the store keeps them, by casts that lose nothing.

A value that cannot be is null afterwards; the row rules then decide whether the row goes to quarantine. A *type* that
cannot be (ids as floats, times as numbers) is an error of the file.
"""

from collections.abc import Callable

import polars as pl
import pyarrow as pa

from sto_engine.errors import BadData
from sto_engine.ingest.pseudonyms import Pseudonyms
from sto_engine.tables import id_polars

_RISK = {"low": 0.1, "medium": 0.5, "high": 0.9}
_TRUE, _FALSE = ("true", "1", "yes", "t", "y"), ("false", "0", "no", "f", "n")


def typed_ids(ids: pl.Series, id_type: str, where: str) -> pl.Series:
    """Ids in the store's type; CSV text that is no such integer, and negatives in a uint64 store, become null.

    `where` is "file: column", for messages; text ids are read as numbers from CSV only.
    """
    wanted = id_polars(id_type)
    if isinstance(ids.dtype, pl.Categorical | pl.Enum):
        ids = ids.cast(pl.String)
    if ids.dtype == pl.Null or ids.dtype == wanted:
        return ids.cast(wanted) if id_type != "string" else ids.cast(pl.String).replace("", None)
    if ids.dtype == pl.String and ".csv: " in where:
        return ids.str.strip_chars().cast(wanted, strict=False)
    if ids.dtype.is_integer() and id_type != "string":
        return ids.cast(wanted, strict=False)
    raise BadData(f"{where} must be {id_type}; found {ids.dtype}; export ids as {id_type} (never as floats)")


def stored_ids(values: pl.Series, id_type: str, where: str, pseudonyms: Pseudonyms | None) -> pl.Series:
    """Ids of people as the store has them: typed, or replaced by their pseudonyms; what is none becomes null."""
    return typed_ids(values, id_type, where) if pseudonyms is None else pseudonyms.of(values, where)


def infer_id_type(schema: pa.Schema, column: str, first: Callable[[], pl.Series], where: str) -> str:
    """The id type of a column: from its Arrow type, or from the first rows where all is text (CSV)."""
    kind = schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_unsigned_integer(kind):
        return "uint64"
    if pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        text = first().drop_nulls()
        digits = len(text) > 0 and text.str.strip_chars().cast(pl.UInt64, strict=False).is_not_null().all()
        return "uint64" if where.endswith(".csv") and digits else "string"
    raise BadData(f"{where}: {column} must be an integer or text; found {kind}; export ids as integers or text")


def typed_time(values: pl.Series, naive: str, where: str) -> pl.Series:
    """Times as Datetime(ms, UTC); unreadable text becomes null. Naive ones are UTC only where the config says so."""
    if values.dtype == pl.Null:
        return values.cast(pl.Datetime("ms", "UTC"))
    if values.dtype == pl.String:
        return _text_time(values, naive, where)
    if not isinstance(values.dtype, pl.Datetime):
        raise BadData(f"{where} must be a timestamp; found {values.dtype}; export it as a timestamp in UTC")
    if values.dtype.time_zone is None:
        _naive(naive, where)
        return values.dt.replace_time_zone("UTC").dt.cast_time_unit("ms")
    return values.dt.convert_time_zone("UTC").dt.cast_time_unit("ms")


def _text_time(text: pl.Series, naive: str, where: str) -> pl.Series:
    text = text.str.strip_chars().str.replace(r"(?i)\s*(Z|UTC)$", "+00:00").str.replace(" ", "T")
    text = text.str.replace(r"([+-]\d{2}):?(\d{2})?$", "${1}:${2}").str.replace(r":$", ":00")
    zoned = text.str.contains(r"T.*[+-]\d{2}:\d{2}$").fill_null(False)
    if (~zoned & text.is_not_null() & text.str.contains(r"^\d{4}-\d{2}-\d{2}")).any():
        _naive(naive, where)
        text = pl.select(pl.when(zoned).then(text).otherwise(text + "+00:00")).to_series()
    return text.str.to_datetime("%+", time_unit="ms", time_zone="UTC", strict=False)


def _naive(naive: str, where: str) -> None:
    if naive != "utc":
        raise BadData(
            f'{where} has no time zone; export it in UTC with its zone, or set ingest.naive_timestamps = "utc"'
        )


def typed_value(values: pl.Series, kind: pa.DataType, where: str) -> pl.Series:
    """An optional column in the Arrow type of its table; text is read, what cannot be read becomes null."""
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if pa.types.is_string(kind):
        if values.dtype not in (pl.String, pl.Null) and not values.dtype.is_integer():
            raise BadData(f"{where} must be text; found {values.dtype}")
        return values.cast(pl.String)
    if pa.types.is_boolean(kind):
        return _typed_bool(values, where)
    wanted: pl.DataType = pl.Float64() if pa.types.is_floating(kind) else pl.Int32()
    if values.dtype == pl.String:
        words = values.str.strip_chars().str.to_lowercase()
        if where.endswith("churn_risk"):
            words = words.replace({word: str(risk) for word, risk in _RISK.items()})
        return words.cast(wanted, strict=False)
    if values.dtype != pl.Null and not values.dtype.is_numeric():
        raise BadData(f"{where} must be a number; found {values.dtype}")
    return values.cast(wanted, strict=False)


def _typed_bool(values: pl.Series, where: str) -> pl.Series:
    if values.dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Boolean)
    if values.dtype != pl.String and not values.dtype.is_integer():
        raise BadData(f"{where} must be true or false; found {values.dtype}")
    words = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    known = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
    return words.replace_strict(known, default=None, return_dtype=pl.Boolean)

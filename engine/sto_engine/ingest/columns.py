"""Columns as files have them -> columns as the store keeps them, by casts that lose nothing.

A value that cannot be is null afterwards and marked as lost; the row rules then decide whether the row goes to
quarantine. A *type* that cannot be (ids as floats, text as a number of bounces) is an error of the file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sto_engine.errors import BadData
from sto_engine.ingest.pseudonyms import Pseudonyms
from sto_engine.ingest.text import Typed, is_text, text_of
from sto_engine.ingest.words import address_status, truth
from sto_engine.slots import tidy_hours
from sto_engine.tables import id_polars

_RISK = {"low": "0.1", "medium": "0.5", "high": "0.9"}
_FLOAT_ID = r"^\d+(\.\d+)?([eE]\+?\d+)?$"
_CLOCK = r"^([+-]?)(\d{1,2}):(\d{2})$"
_WORDS = {"address_status": address_status, "allowed_hours": tidy_hours}
_CONSENT = ("consent", "consent_profiling")
_WHOLE = 2**53


def raw_ids(column: pa.ChunkedArray, where: str, fold: bool) -> pl.Series:
    """Ids as integers or clean text, before they take the type of a store; `fold` lower-cases text.

    `where` is "file: column". Raises BadData (65) for a type that is neither.
    """
    kind = column.type
    if pa.types.is_dictionary(kind) and not is_text(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_null(kind):
        return pl.repeat(None, len(column), dtype=pl.String, eager=True)
    if pa.types.is_decimal(kind):
        column = _whole_decimals(column, where)
        kind = column.type
    if is_text(kind):
        text = text_of(column).values
        return text.str.to_lowercase() if fold else text
    if pa.types.is_integer(kind):
        return pl.Series(column)
    raise BadData(f"{where} must be an integer or text; found {kind}; export ids as integers or text, never as floats")


def _whole_decimals(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.decimal256(76, 0)).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise BadData(f"{where} must be whole numbers; found {column.type} with fractions; export integers") from error


def typed_ids(ids: pl.Series, id_type: str, where: str, from_text: bool) -> pl.Series:
    """Raw ids in the store's type. Negatives in a uint64 store become null.

    Text becomes a number only if it is exactly that number written out ("007" is not 7). Where all values of a file are
    text (`from_text`: CSV, NDJSON), other text is null; in a typed file it is BadData (65).
    """
    wanted = id_polars(id_type)
    if ids.dtype == wanted:
        return ids
    if ids.dtype == pl.String:
        typed = ids.cast(wanted, strict=False)
        foreign = _other_spelling(ids) | (typed.is_null() & ids.is_not_null())
        if foreign.any() and not from_text:
            raise BadData(f"{where} must be {id_type}; found text in {foreign.sum()} rows; export ids as {id_type}")
        return typed.set(foreign, None) if foreign.any() else typed
    return ids.cast(wanted, strict=False)


def _other_spelling(numbers: pl.Series) -> pl.Series:
    """Which texts are not as a number is written out: with a leading zero or a plus; bool, false for null."""
    zero = numbers.str.starts_with("0") & (numbers.str.len_bytes() > 1)
    signed = numbers.str.starts_with("+") | numbers.str.starts_with("-0")
    return (zero | signed).fill_null(False)


def stored_ids(
    values: pl.Series, id_type: str, where: str, from_text: bool, pseudonyms: Pseudonyms | None
) -> pl.Series:
    """Ids of people as the store has them: typed, or replaced by their pseudonyms; what is none becomes null."""
    return typed_ids(values, id_type, where, from_text) if pseudonyms is None else pseudonyms.of(values, where)


def infer_id_type(kind: pa.DataType, first: Callable[[], pl.Series], where: str, from_text: bool) -> str:
    """The id type of a column: from its Arrow type, or from the first raw ids where all is text (CSV, NDJSON)."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_unsigned_integer(kind):
        return "uint64"
    if pa.types.is_integer(kind):
        return "int64"
    if pa.types.is_decimal(kind) or (is_text(kind) and from_text):
        return _written_type(first().drop_nulls(), where)
    if is_text(kind):
        return "string"
    raise BadData(f"{where} must be an integer or text; found {kind}; export ids as integers or text")


def _written_type(text: pl.Series, where: str) -> str:
    """uint64 where every text is a whole number as it is written, without a leading zero; else string."""
    if not len(text):
        return "string"
    if text.cast(pl.UInt64, strict=False).is_not_null().all() and not _other_spelling(text).any():
        return "uint64"
    if text.str.contains(_FLOAT_ID).all() and text.str.contains(r"[.eE]").any():
        raise BadData(f"{where} was exported as floats (numbers with a point); export ids as integers or text")
    return "string"


def typed_value(column: pa.ChunkedArray, name: str, kind: pa.DataType, where: str) -> Typed:
    """An optional column in the type of its table; text is read, and what cannot be read is null and lost."""
    if pa.types.is_string(kind):
        return _text(column, name, where)
    if pa.types.is_boolean(kind):
        return _bool(column, name, where)
    typed = _number(column, name, where)
    return typed if pa.types.is_floating(kind) else _small(typed)


def _text(column: pa.ChunkedArray, name: str, where: str) -> Typed:
    if pa.types.is_nested(column.type):
        raise BadData(f"{where} must be text; found {column.type}")
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        column = column.cast(pa.large_string())
    typed = text_of(column)
    return _looked_up(typed, _WORDS[name], pl.String()) if name in _WORDS else typed


def _looked_up(text: Typed, meaning: Callable[[str], Any], kind: pl.DataType) -> Typed:
    """Each distinct word by what it means; words without a meaning are lost."""
    words = text.values.unique().drop_nulls()
    means = pl.Series([meaning(word) for word in words.to_list()], dtype=kind)
    values = text.values.replace_strict(words, means, default=None, return_dtype=kind)
    return _lost(values, text.values.is_not_null(), text)


def _lost(values: pl.Series, was: pl.Series, before: Typed | None = None) -> Typed:
    lost = (was & values.is_null()).to_numpy()
    if before is not None and before.lost is not None:
        lost = lost | before.lost
    return Typed(values, lost if lost.any() else None)


def _bool(column: pa.ChunkedArray, name: str, where: str) -> Typed:
    """Truth in any of its words. Consent that cannot be read is none: nobody is mailed for a word we do not know."""
    if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
        return Typed(pl.Series(column, dtype=pl.Boolean))
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        column = column.cast(pa.int64(), safe=False) if _is_whole(column) else column
    if not (is_text(column.type) or pa.types.is_integer(column.type)):
        raise BadData(f"{where} must be true or false; found {column.type}")
    typed = _looked_up(text_of(column), truth, pl.Boolean())
    if name in _CONSENT and typed.lost is not None:
        return Typed(typed.values.set(pl.Series(typed.lost), False), typed.lost)
    return typed


def _is_whole(column: pa.ChunkedArray) -> bool:
    return not pc.any(pc.not_equal(column, pc.floor(column))).as_py()


def _number(column: pa.ChunkedArray, name: str, where: str) -> Typed:
    """Numbers as float64 (an offset fits exactly); text is read, "+02:00" as minutes, low/medium/high as risks."""
    kind = column.type
    if is_text(kind):
        text = text_of(column)
        words = text.values
        if name == "churn_risk":
            words = words.str.to_lowercase().replace(_RISK)
        values = words.cast(pl.Float64, strict=False)
        if name == "tz_offset" and values.null_count() > words.null_count():
            values = values.fill_null(_clock_minutes(words))
        return _lost(values, text.values.is_not_null(), text)
    if pa.types.is_null(kind):
        return Typed(pl.repeat(None, len(column), dtype=pl.Float64, eager=True))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise BadData(f"{where} must be a number; found {kind}")
    values = pl.Series(column)
    if pa.types.is_floating(kind):
        return Typed(values.cast(pl.Float64).fill_nan(None)) if name == "tz_offset" else Typed(values.cast(pl.Float64))
    return Typed(values if pa.types.is_integer(kind) and name == "tz_offset" else values.cast(pl.Float64))


def _clock_minutes(words: pl.Series) -> pl.Series:
    """Minutes of "+02:00"."""
    parts = words.str.extract_groups(_CLOCK).struct.unnest()
    minutes = parts["2"].cast(pl.Float64) * 60 + parts["3"].cast(pl.Float64)
    return minutes * pl.Series(np.where((parts["1"] == "-").fill_null(False).to_numpy(), -1.0, 1.0))


def _small(typed: Typed) -> Typed:
    """Whole numbers of 16 bits; others are null and lost."""
    values = typed.values
    if values.dtype == pl.Int16:
        return typed
    small = values.cast(pl.Int16, strict=False)
    if values.dtype.is_float():
        small = small.set((small.cast(pl.Float64) != values).fill_null(False), None)
    return _lost(small, values.is_not_null(), typed)

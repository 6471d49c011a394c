"""NDJSON: one object a line, the fields asked for as text, so that no number passes through a float.

A block of lines is read at once by polars, each field as text. A block in which anything is unusual (a line that is no
object, a nested value, a number longer than 128 bits hold) is read again line by line by `slow_lines`, its slow twin.
A line that is no JSON object keeps its place as a row of nulls, marked in the column BAD; blank lines are no rows.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.errors import BadData
from sto_engine.ingest.csv_text import BAD
from sto_engine.ingest.formats import open_stream, slices

_BLOCK = 32 << 20
_MAX_LINE = 256 << 20
_HEAD_LINES = 10_000
_LONG = 37
_LONG_NUMBER = r"^-?\d{37,}$"
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: no text of UTF-8
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BOM = b"\xef\xbb\xbf"


def ndjson_schema(path: Path) -> pa.Schema:
    """Names in the first objects of a file, as text; further names may follow later in the file.

    BadData (65) for a file that holds nothing, or one JSON array or object over many lines.
    """
    names: dict[str, None] = {}
    block = next(_blocks(path), b"")
    if not block.strip():
        raise BadData(f"{path} holds nothing; expected one JSON object a line")
    lines = [line for line in block.splitlines() if line.strip()]
    for line in lines[:_HEAD_LINES]:
        names.update(dict.fromkeys(_object(line) or ()))
    if not names:
        what = "one array" if lines[0].lstrip().startswith(b"[") else "no such line at its start"
        raise BadData(f"{path} must hold one JSON object a line; found {what}; write it so (jq -c '.[]')")
    return pa.schema([(name, pa.large_string()) for name in names])


def read_ndjson(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of `columns` as text; a field that an object lacks is null."""
    for block in _blocks(path):
        frame = fast_lines(block, columns)
        if frame is None:
            frame = slow_lines(block, columns)
        if frame.is_empty():
            continue
        table = frame.rechunk().to_arrow()
        for batch in table.to_batches():
            yield from slices(batch)


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines of a file, about _BLOCK bytes at a time."""
    rest = b""
    with open_stream(path) as stream:
        first = True
        while chunk := stream.read(_BLOCK):
            chunk = chunk.removeprefix(_BOM) if first else chunk
            first = False
            end = chunk.rfind(b"\n")
            body, rest = rest + chunk[: max(end, 0)], chunk[end + 1 :] if end >= 0 else rest + chunk
            if len(rest) > _MAX_LINE:
                raise BadData(f"{path} has a line of more than {_MAX_LINE >> 20} MiB; expected one JSON object a line")
            if end >= 0:
                yield body
    if rest:
        yield rest


def fast_lines(block: bytes, columns: Sequence[str]) -> pl.DataFrame | None:
    """The fields of a block as text; None where the block needs `slow_lines`."""
    if _ESCAPED_SURROGATE.search(block):
        return None
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema=dict.fromkeys(columns, pl.String)) if columns else None
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None
    if frame is None or (len(frame) != block.count(b"\n") + 1 and len(frame) != len(_lines(block))):
        return None
    return None if any(_is_odd(column) for column in frame) else frame


def _is_odd(text: pl.Series) -> bool:
    """Whether a column holds what may be a nested value, or a number longer than 128 bits hold."""
    if text.null_count() == len(text):
        return False
    nested = text.str.starts_with("{") | text.str.starts_with("[")
    longest: Any = text.str.len_bytes().max()
    return bool(nested.any() or (longest >= _LONG and text.str.contains(_LONG_NUMBER).any()))


def _lines(block: bytes) -> list[bytes]:
    return [line for line in block.split(b"\n") if line and not line.isspace()]


def slow_lines(block: bytes, columns: Sequence[str]) -> pl.DataFrame:
    """The same line by line, and a column BAD where a line is no JSON object."""
    lines = _lines(block)
    rows = [_object(line) for line in lines]
    data: dict[str, list[str | None] | list[bool]] = {
        name: [None if row is None else row.get(name) for row in rows] for name in columns
    }
    bad = [row is None for row in rows]
    schema = dict.fromkeys(columns, pl.String)
    frame = pl.DataFrame(data, schema=schema) if columns else pl.DataFrame(height=len(rows))
    return frame.with_columns(pl.Series(BAD, bad)) if any(bad) else frame


def _object(line: bytes) -> dict[str, str | None] | None:
    """The fields of a line as text, nested ones as null; None for a line that is no JSON object."""
    try:
        value = json.loads(line, parse_int=str, parse_float=_decimal, object_pairs_hook=_first)
    except (ValueError, RecursionError):
        return None
    return {name: _text(each) for name, each in value.items()} if isinstance(value, dict) else None


def _first(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a name that stands twice the first value counts, as in the fast reader."""
    return dict(reversed(pairs))


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) and not _SURROGATE.search(value) else None


def _decimal(text: str) -> str:
    """A number with a point or exponent, as the fast reader writes it: the nearest double, without an exponent."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return text
    digits = format(Decimal(repr(value)), "f")
    return digits.rstrip("0").removesuffix(".") if "." in digits else digits

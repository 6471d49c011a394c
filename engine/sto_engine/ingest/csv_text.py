"""CSV and TSV as bytes, column by column: every value arrives as it stands, nothing is guessed.

Delimiter (comma, semicolon, tab or bar) by the header; byte order mark, CRLF, quoted newlines, and gzip or zstd are
read. A row with more or fewer fields than the header keeps its place as a row of nulls, marked in the column BAD.
"""

import csv as header_csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from numpy.typing import NDArray

from sto_engine.errors import BadData
from sto_engine.ingest.formats import open_stream, slices

BAD = "\x1fbad"  # bool: rows that are none; only in batches that hold one
_BLOCK = 16 << 20
_HEADER = 1 << 20
_WIDE_CHARS = (b"\xff\xfe", b"\xfe\xff")


def csv_schema(path: Path) -> pa.Schema:
    """The columns that the header names, as bytes; BadData (65) for a file that has no header."""
    return pa.schema([(name, pa.binary()) for name in _header(path).names])


def read_csv(path: Path, columns: Sequence[str], words: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of `columns` as bytes, those in `words` as dictionaries of bytes."""
    head = _header(path)
    names = head.names
    if head.alone:
        return
    read = [*columns, *([names[-1]] if names[-1] not in columns else [])]  # the last one tells of an unclosed quote
    kinds = {name: pa.dictionary(pa.int32(), pa.binary()) if name in words else pa.binary() for name in read}
    rows = _BadRows(head.lines)
    convert = csv.ConvertOptions(
        column_types=kinds, include_columns=read, strings_can_be_null=True, null_values=["", "\\N"]
    )
    parse = csv.ParseOptions(delimiter=head.delimiter, newlines_in_values=True, invalid_row_handler=rows.take)
    options = csv.ReadOptions(block_size=_BLOCK, use_threads=False, column_names=names, skip_rows=head.lines)
    try:
        with open_stream(path) as stream:
            tail = _Tail(stream)
            with csv.open_csv(tail, options, parse, convert) as reader:
                yield from _batches(reader, rows, path, names[-1], tail)
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):
            raise
        raise BadData(f"{path} has a row of more than {_BLOCK >> 20} MiB; is a quote never closed?") from error


def _batches(
    reader: csv.CSVStreamingReader, rows: "_BadRows", path: Path, last: str, tail: "_Tail"
) -> Iterator[pa.Table]:
    ending = b""
    for batch in reader:
        for table in slices(batch):
            ending = table[last][-1].as_py() or b""
            yield rows.placed(table)
    if rows.unclosed or (b"\n" in ending and not tail.bytes.rstrip(b"\r\n").endswith(b'"')):
        raise BadData(f"{path} opens a quote near its end that is never closed; write it again")
    rest = rows.rest(reader.schema)
    if rest.num_rows:
        yield rest


class _Tail:
    """A stream that remembers its last bytes, which tell whether a last value over many lines was closed."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self.bytes = b""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size if size >= 0 else None)
        self.bytes = (self.bytes + data[-64:])[-64:]
        return data


class _BadRows:
    """Rows that the parser refused, by their position; a batch gets back those that lie before its last row."""

    def __init__(self, before: int) -> None:
        self.unclosed = False
        self._first = before + 1
        self._places: list[int] = []
        self._next = 0

    def take(self, row: Any) -> str:
        self._places.append(row.number - self._first)
        self.unclosed |= "\n" in row.text and row.text.count('"') % 2 == 1
        return "skip"

    def placed(self, table: pa.Table) -> pa.Table:
        """`table` with the refused rows that lie within it as rows of nulls; deterministic, however far ahead
        the parser has read."""
        end = self._next + table.num_rows
        inside: list[int] = []
        while self._places and self._places[0] < end:
            inside.append(self._places.pop(0) - self._next)
            end += 1
        self._next = end
        if not inside:
            return table
        bad_N = np.zeros(table.num_rows + len(inside), np.bool_)
        bad_N[inside] = True
        return _with_nulls(table, bad_N)

    def rest(self, schema: pa.Schema) -> pa.Table:
        """Refused rows after the last good one."""
        count, self._places = len(self._places), []
        return _with_nulls(schema.empty_table(), np.ones(count, np.bool_))


def _with_nulls(table: pa.Table, bad_N: NDArray[np.bool_]) -> pa.Table:
    """Rows of `table` where `bad_N` is false, in order, and rows of nulls where it is true, marked in BAD."""
    place_N = np.cumsum(~bad_N) - 1
    indices = pa.array(place_N, pa.int64(), mask=bad_N)
    return table.take(indices).append_column(BAD, pa.array(bad_N))


@dataclass(frozen=True)
class _Header:
    """Column names, how many lines end with theirs, and whether nothing follows."""

    delimiter: str
    names: list[str]
    lines: int
    alone: bool


def _header(path: Path) -> _Header:
    with open_stream(path) as stream:
        head = stream.read(_HEADER)
    if not head:
        raise BadData(f"{path} holds nothing; expected a header with the names of its columns")
    if head.startswith(_WIDE_CHARS):
        raise BadData(f"{path} is UTF-16 text; save it as UTF-8")
    lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()
    skip = next((number for number, line in enumerate(lines, 1) if line.strip()), 1)
    line = lines[skip - 1].decode("utf-8", "replace") if lines else ""
    bare = "".join(line.split('"')[::2])
    delimiter = max(",;\t|", key=lambda mark: (bare.count(mark), mark == ","))
    names = [name.strip() for name in next(header_csv.reader([line], delimiter=delimiter), [])]
    if not any(names):
        raise BadData(f"{path} has no header; expected the names of its columns in its first line")
    alone = len(head) < _HEADER and not any(line.strip(b"\r\n") for line in lines[skip:])
    return _Header(delimiter, names, skip, alone)

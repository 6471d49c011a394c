"""One input file: which of its columns are ours, its rows batch by batch, and each batch typed and held to the rules.

open_source   footer or header read, required columns found        errors of the file, before any row is read
Source.raw    batches of the columns that are ours, in file order
prepare       a batch -> rows to store, rows for quarantine        pure: batches may be prepared in any thread
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.ingest.columns import infer_id_type, typed_ids, typed_time, typed_value
from sto_engine.ingest.readers import open_schema, read_batches, require
from sto_engine.ingest.rows import Sorted, sort_events, sort_recipients
from sto_engine.tables import EVENTS_REQUIRED, events_schema, recipients_schema

REQUIRED = {"events": EVENTS_REQUIRED, "recipients": ("user_id",)}


@dataclass(frozen=True)
class Types:
    """What the store keeps: types of its ids and, of recipients, the further columns that are kept."""

    id_type: str
    campaign_type: str
    keep: tuple[str, ...] = ()

    def schema(self, table: str) -> pa.Schema:
        if table == "events":
            return events_schema(self.id_type, self.campaign_type)
        return recipients_schema(self.id_type, dict.fromkeys(self.keep, pa.string()))


@dataclass(frozen=True)
class Prepared:
    """`rows` rows of a file: `good` in the columns of the schema, `bad` with rule, column, row, and nulled values."""

    good: pl.DataFrame
    bad: pl.DataFrame
    nulled: Counter[str]
    rows: int


@dataclass(frozen=True)
class Source:
    """A file of a table ("events" or "recipients"), opened and checked; nothing of its rows is read yet."""

    path: Path
    table: str
    schema: pa.Schema
    config: Config

    def column(self, name: str) -> str | None:
        """What the file calls our column `name`; None where it has none."""
        source = self.config.ingest.columns.get(name, name)
        return source if source in self.schema.names else None

    def infer_id_type(self, name: str) -> str | None:
        """The id type of a column, from its type or its first rows; None where the file has no such column."""
        source = self.column(name)
        if source is None:
            return None
        empty = pl.Series(dtype=pl.String)
        return infer_id_type(
            self.schema,
            source,
            lambda: next((pl.Series(t[source]) for t in read_batches(self.path, [source])), empty),
            str(self.path),
        )

    def count_rows(self) -> int:
        ids = self.column("user_id")
        return sum(batch.num_rows for batch in read_batches(self.path, [ids] if ids else []))

    def raw(self, types: Types) -> Iterator[pa.Table]:
        """Batches of the columns that are ours, as the file has them, under our names."""
        ours = {name: source for name in types.schema(self.table).names if (source := self.column(name)) is not None}
        for batch in read_batches(self.path, list(ours.values())):
            yield batch.select(list(ours.values())).rename_columns(list(ours))


def open_source(path: Path, table: str, config: Config) -> Source:
    """Open a file of `table`; BadData (65) if damaged or without a column, InputMissing (66) if unreadable."""
    schema = open_schema(path)
    require(path, schema, config.ingest.columns, REQUIRED[table])
    return Source(path, table, schema, config)


def prepare(source: Source, batch: pa.Table, first_row: int, types: Types) -> Prepared:
    """Type a batch of `source.raw` that starts at `first_row` of the file and apply the row rules; pure.

    Raises BadData (65) for a column of a type that cannot be cast without loss, or for a bad row if the config says so.
    """
    frame = _typed(source, batch, first_row, types)
    result = sort_events(frame) if source.table == "events" else sort_recipients(frame)
    if len(result.bad) and source.config.ingest.on_bad_row == "fail":
        raise _bad_row(source.path, result)
    return Prepared(result.good, result.bad, result.nulled, batch.num_rows)


def _bad_row(path: Path, result: Sorted) -> BadData:
    row = result.bad.row(0, named=True)
    return BadData(
        f"{path} row {row['row']}: {row['rule']} in column {row['column']}; {len(result.bad)} such rows in the "
        'batch; fix the export or set ingest.on_bad_row = "quarantine"'
    )


def _typed(source: Source, batch: pa.Table, first_row: int, types: Types) -> pl.DataFrame:
    """Every column of the schema in its type; columns that the file lacks are null."""
    ids = {"user_id": types.id_type, "campaign_id": types.campaign_type}
    rows = pl.int_range(first_row, first_row + batch.num_rows, dtype=pl.UInt64, eager=True)
    absent = pl.Series([None] * len(rows), dtype=pl.Null)
    out: dict[str, pl.Series] = {}
    for field in types.schema(source.table):
        name, where = field.name, f"{source.path}: {field.name}"
        values = pl.Series(batch[name]) if name in batch.column_names else absent
        if name == "row":
            out[name] = rows
        elif name in ids:
            out[name] = typed_ids(values, ids[name], where)
        elif pa.types.is_timestamp(field.type):
            out[name] = typed_time(values, source.config.ingest.naive_timestamps, where)
        else:
            out[name] = typed_value(values, field.type, where)
    return pl.DataFrame({**out, "row": rows})

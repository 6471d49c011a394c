"""One input file: which of its columns are ours, its rows batch by batch, and each batch typed and held to the rules.

open_source   footer or head read, columns recognised     errors of the file, before any row is read
Source.raw    batches of the columns that are ours, in file order
prepare       a batch -> rows to store, rows for quarantine        pure: batches may be prepared in any thread

Rows = good rows + bad rows, for every file and layout. In the long layout a good row is an event; in the wide one
(`wide.py`) it counts as the events that it becomes.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.ingest.columns import infer_id_type, raw_ids
from sto_engine.ingest.csv_text import BAD
from sto_engine.ingest.dialect import Dialect, recognise, require
from sto_engine.ingest.formats import format_of
from sto_engine.ingest.geo import IP
from sto_engine.ingest.names import WIDE_NAMES
from sto_engine.ingest.partitions import constant, partitions_of
from sto_engine.ingest.readers import count_rows, open_schema, read_batches
from sto_engine.ingest.rows import Mask, Sorted, sort_events, sort_recipients, sort_sends
from sto_engine.ingest.text import Typed, is_text, text_of
from sto_engine.ingest.times import epoch_unit, has_time
from sto_engine.ingest.typed import Context, Types, finished, typed_columns, typed_times
from sto_engine.ingest.wide import events_of

__all__ = ["Prepared", "Source", "Types", "open_source", "prepare"]

_WORDS = (
    *("event_type", "device_type", "campaign_type", "channel", "bounce_type", "recipient_domain", "timezone"),
    *("signup_source", "country", "address_status", "provider", "user_agent"),
)
_UNITS = b"epoch units"


@dataclass(frozen=True)
class Prepared:
    """Rows of a file: `good` in the columns of the schema; `bad` with rule, column, row, user_id (and, where quarantine
    keeps payloads, the columns of the file as text); counts of nulled values, and of words that are no event type.

    `rows` = len(good) + len(bad). `read_rows` were read: as many, but for the wide layout, where a good row counts as
    the events that it becomes.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    nulled: Counter[str]
    rows: int
    words: Counter[str] = field(default_factory=Counter)
    read_rows: int = 0


@dataclass(frozen=True)
class Source:
    """A file of a table ("events" or "recipients"), opened and checked; nothing of its rows is read yet.

    `constants` are our columns that the file does not hold but its folders or the configuration do, by the name that
    `dialect` has for them.
    """

    path: Path
    table: str
    schema: pa.Schema
    config: Config
    dialect: Dialect
    constants: dict[str, str | None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was recognised without being said: one sentence a column."""
        return self.dialect.notes

    @property
    def from_text(self) -> bool:
        """Whether all values come as text."""
        return format_of(self.path).is_text

    def column(self, name: str) -> str | None:
        """What the file calls our column `name`; None where it has none."""
        return self.dialect.columns.get(name)

    def infer_id_type(self, name: str) -> str | None:
        """The id type of a column, from its type or its first rows; None where the file has no such column."""
        source, where = self.column(name), f"{self.path}: {name}"
        if source is None:
            return None
        fold = self.config.ingest.fold_ids
        if source in self.constants:
            text = pa.chunked_array([[self.constants[source]]], pa.string())
            return infer_id_type(pa.string(), lambda: raw_ids(text, where, fold), where, True)

        def first() -> pl.Series:
            columns = (raw_ids(batch[source], where, fold) for batch in read_batches(self.path, [source]))
            return next((ids for ids in columns if ids.null_count() < len(ids)), pl.Series(dtype=pl.String))

        return infer_id_type(self.schema.field(source).type, first, where, self.from_text)

    def count_rows(self) -> int:
        return count_rows(self.path, self.schema.names[0])

    def raw(self, types: Types) -> Iterator[pa.Table]:
        """Batches of the columns that are ours, as the file has them, under our names.

        The units of whole-number times, once known, travel in the metadata of each batch.
        """
        wanted = self._wanted(types)
        read = list(dict.fromkeys(source for source in wanted.values() if source not in self.constants))
        words = [wanted[name] for name in _WORDS if wanted.get(name) in read]
        units: dict[str, str | None] = {}
        for batch in read_batches(self.path, read or self.schema.names[:1], words):
            table = self._named(batch, wanted)
            for name in _times(table):
                if name not in units and has_time(table[name]):
                    units[name] = epoch_unit(table[name])
            yield table.replace_schema_metadata({_UNITS: json.dumps(units).encode()})

    def _wanted(self, types: Types) -> dict[str, str]:
        """Our columns that are to be read -> the file's names."""
        names = [name for name in types.schema(self.table).names if name != "row"]
        have = {name: source for name in names if (source := self.column(name)) is not None}
        if format_of(self.path).kind == "ndjson":  # a field may first stand further down than was looked
            later = set(names) - set(have) - set(self.config.ingest.columns)
            have |= {name: name for name in names if name in later and name not in self.schema.names}
        have |= {name: self.dialect.columns[name] for name in WIDE_NAMES if name in self.dialect.columns}
        for name, instead in (("timezone", "tz_offset"), ("email", "recipient_domain")):
            if name not in have and self.column(instead) is None and (source := self.column(name)) is not None:
                have[name] = source
        if self.table == "events" and self.config.timezone.mmdb is not None and (ip := self.column(IP)) is not None:
            have[IP] = ip
        return have

    def _named(self, batch: pa.Table, wanted: dict[str, str]) -> pa.Table:
        columns = {
            name: constant(self.constants[source], batch.num_rows) if source in self.constants else batch[source]
            for name, source in wanted.items()
        }
        return pa.table({**columns, BAD: batch[BAD]} if BAD in batch.column_names else columns)


def open_source(path: Path, table: str, config: Config) -> Source:
    """Open a file of `table`; BadData (65) if damaged or without a column, InputMissing (66) if unreadable."""
    schema, mapped = open_schema(path), config.ingest.columns
    constants = partitions_of(path, table, schema.names, mapped, config.recipients.keep)
    found = [*schema.names, *constants]
    dialect = recognise(path, table, found, mapped, config.recipients.keep)
    default = config.ingest.default_campaign
    if table == "events" and "campaign_id" not in dialect.columns and default is not None:
        constants["campaign_id"] = default
        dialect = Dialect({**dialect.columns, "campaign_id": "campaign_id"}, dialect.wide, dialect.notes)
    require(path, dialect, table, found, mapped)
    return Source(path, table, schema, config, dialect, constants)


def prepare(source: Source, batch: pa.Table, first_row: int, types: Types) -> Prepared:
    """Type a batch of `source.raw` that starts at `first_row` of the file and apply the row rules; pure.

    Raises BadData (65) for a column of a type that cannot be cast without loss, or for a bad row if the config says so.
    """
    context = _context(source, batch, first_row)
    columns = typed_columns(batch, types, context)
    result = _sorted(batch, columns, context)
    good = result.good
    if context.wide:
        good = events_of(good, [name for name in WIDE_NAMES if name in good.columns])
    good, untold = finished(good, types.schema(source.table).names, context)
    payload = source.config.ingest.quarantine_payload
    bad = _placed(result.bad, first_row).with_columns(_values(batch, columns, result.bad["at"], payload))
    if len(bad) and source.config.ingest.on_bad_row == "fail":
        raise _bad_row(source.path, bad)
    return Prepared(good, bad, result.nulled + untold, len(good) + len(bad), context.words, batch.num_rows)


def _context(source: Source, batch: pa.Table, first_row: int) -> Context:
    kept = (batch.schema.metadata or {}).get(_UNITS)
    units = json.loads(kept) if kept else {name: epoch_unit(batch[name]) for name in _times(batch)}
    constants = [name for name, column in source.dialect.columns.items() if column in source.constants]
    dialect = source.dialect
    return Context(
        path=source.path,
        table=source.table,
        config=source.config,
        names=dialect.columns,
        wide=dialect.wide,
        from_text=source.from_text,
        first_row=first_row,
        units=units,
        constants=constants,
    )


def _times(batch: pa.Table) -> list[str]:
    """The columns of a batch that hold times."""
    return [name for name in (*WIDE_NAMES, "event_ts", "signup_ts") if name in batch.column_names]


def _sorted(batch: pa.Table, columns: dict[str, Typed], context: Context) -> Sorted:
    marks: Mask | None = batch[BAD].to_numpy() if BAD in batch.column_names else None
    not_rows = marks if marks is not None and marks.any() else None
    if context.table == "recipients":
        return sort_recipients(columns, not_rows)
    if context.wide:
        return sort_sends(columns, typed_times(batch, context), not_rows)
    return sort_events(columns, not_rows)


def _placed(bad: pl.DataFrame, first_row: int) -> pl.DataFrame:
    """Bad rows with their place in the file."""
    return bad.with_columns(row=pl.col("at").cast(pl.UInt64) + first_row).drop("at")


def _values(batch: pa.Table, columns: dict[str, Typed], at: pl.Series, payload: bool) -> list[pl.Series]:
    """Of rows the person and, for a payload, all the rest: ids as the store has them (a raw one must not outlive its
    pseudonym, and erasure finds people by theirs), others as the file has them, as text, but for addresses."""
    ids = [name for name in ("user_id", "campaign_id") if name in columns]
    if not payload:
        return [columns["user_id"].values.gather(at).alias("user_id")]
    names = [name for name in batch.column_names if name not in (*ids, BAD, IP, "email")]
    typed = [columns[name].values.gather(at).alias(name) for name in ids]
    return typed + [_as_text(batch[name].take(at.to_arrow())).alias(name) for name in names]


def _as_text(column: pa.ChunkedArray) -> pl.Series:
    return text_of(column).values if is_text(column.type) else pl.Series(column).cast(pl.String, strict=False)


def _bad_row(path: Path, bad: pl.DataFrame) -> BadData:
    row = bad.row(0, named=True)
    return BadData(
        f"{path} row {row['row']}: {row['rule']} in column {row['column'] or 'all'}; {len(bad)} such rows in the "
        'batch; fix the export or set ingest.on_bad_row = "quarantine"'
    )

"""Rows written in every format, and read back through the same door as `ingest`."""

import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from sto_engine.config import load_config
from sto_engine.ingest.source import Source, Types, open_source, prepare
from sto_engine.tables import EVENT_TYPES

TEXT = (".csv", ".tsv", ".csv.gz", ".csv.zst", ".ndjson", ".jsonl.gz", ".json.zst")
TYPED = (".parquet", ".arrow", ".arrows", ".feather")
FORMATS = (*TYPED, *TEXT)
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
BIG = 2**64 - 3
KEYS = {"user_id": 1, "campaign_id": 2, "event_type": "open", "event_ts": "2026-03-01T10:00:00Z"}


@dataclass
class Read:
    """Everything that came of a file."""

    source: Source
    good: pl.DataFrame
    bad: pl.DataFrame
    rows: int = 0
    read_rows: int = 0
    nulled: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)

    @property
    def rules(self) -> dict[str, int]:
        return dict(Counter(self.bad["rule"].to_list()))


def read(path: Path, *keys: str, table: str = "events", types: Types | None = None) -> Read:
    """Open, type and check a file; ids as the file has them unless `types` says otherwise."""
    config = load_config(None, keys)
    source = open_source(path, table, config)
    types = types or Types(
        source.infer_id_type("user_id") or "string",
        source.infer_id_type("campaign_id") or "string",
        config.recipients.keep,
    )
    parts, row = [], 0
    for batch in source.raw(types):
        parts.append(prepare(source, batch, row, types))
        row += batch.num_rows
    empty = prepare(source, pa.table({}), 0, types) if not parts else parts[0]
    found = Read(source, *(pl.concat([getattr(p, n) for p in parts or [empty]]) for n in ("good", "bad")))
    for part in parts:
        found.rows += part.rows
        found.read_rows += part.read_rows
        found.nulled += part.nulled
        found.words += part.words
        assert part.rows == len(part.good) + len(part.bad)
    return found


def packed(path: Path, data: bytes) -> Path:
    """Write bytes, packed as the name says."""
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = pa.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(data)
    return path


def write(frame: pl.DataFrame, path: Path) -> Path:
    """Write a frame in the format of the name."""
    name = path.name
    if name.endswith(".parquet"):
        pq.write_table(frame.to_arrow(), path)
    elif name.endswith(".arrows"):
        table = frame.to_arrow()
        with ipc.new_stream(path, table.schema) as sink:
            sink.write_table(table, max_chunksize=7)
    elif name.endswith((".arrow", ".feather")):
        table = frame.to_arrow()
        with ipc.new_file(path, table.schema) as sink:
            sink.write_table(table, max_chunksize=7)
    elif ".csv" in name or ".tsv" in name:
        packed(path, frame.write_csv(separator="\t" if ".tsv" in name else ",", quote_style="non_numeric").encode())
    else:
        packed(path, frame.write_ndjson().encode())
    return path


def csv(path: Path, header: str, rows: Sequence[str]) -> Path:
    return packed(path, "\n".join([header, *rows, ""]).encode())


def event(**values: Any) -> dict[str, Any]:
    """A row of events with some values of its own."""
    return {**KEYS, **values}


def events(n: int = 300) -> pl.DataFrame:
    """Events of 50 people, whose ids no float holds."""
    return pl.DataFrame(
        {
            "user_id": pl.Series([BIG - i % 50 for i in range(n)], dtype=pl.UInt64),
            "campaign_id": [f"c,{i % 3}" for i in range(n)],
            "event_type": [EVENT_TYPES[i % 5] for i in range(n)],
            "event_ts": pl.Series([T0 + timedelta(minutes=i) for i in range(n)], dtype=pl.Datetime("us", "UTC")),
            "tz_offset": pl.Series([60 if i % 3 else None for i in range(n)], dtype=pl.Int16),
        }
    )

"""Typed rows -> bucket files of one generation, and bad rows -> quarantine; memory is bounded by the flush size."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.errors import CannotCreate
from sto_engine.files import write_parquet
from sto_engine.ingest.decode import DICTIONARY
from sto_engine.tables import QUARANTINE, hash_ids
from sto_kernels.hashing import bucket_of

FLUSH_ROWS = 2_000_000
ROW_GROUP = 131_072
FEW = 8  # a column with this many rows to a distinct value is worth a dictionary
_DICTIONARY = [*DICTIONARY, "rule", "file"]


@dataclass
class BucketWriter:
    """Collects rows with a `user_id` and writes them as bucket files under `root/name`."""

    root: Path
    name: str
    buckets: int
    schema: pa.Schema
    files: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _held: int = 0
    _flushes: int = 0

    def add(self, frame: pl.DataFrame) -> None:
        if len(frame):
            self._frames.append(frame)
            self._held += len(frame)
            self.rows += len(frame)
        if self._held >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is held, one file a bucket, and record each with its rows and sha256."""
        if not self._frames:
            return
        frame = pl.concat(self._frames)
        self._frames, self._held = [], 0
        h_N = hash_ids(frame["user_id"])
        frame = frame.with_columns(h=pl.Series(h_N), bucket=pl.Series(bucket_of(h_N, self.buckets)))
        # recipients lie in the order of reading, so that a read need not sort them; events wait for `compact`
        order = ["h", "user_id", "row"] if "row" in self.schema.names else ["bucket"]
        new_folder(self.root / self.name)
        for part in frame.sort(order, maintain_order=True).partition_by("bucket", maintain_order=True):
            bucket = int(part["bucket"][0])
            self.files.append(write_bucket(self.root, self.name, bucket, self._flushes, part, self.schema))
        self._flushes += 1


def write_bucket(
    root: Path, generation: str, bucket: int, number: int, rows: pl.DataFrame, schema: pa.Schema
) -> dict[str, Any]:
    """Write one bucket file, text as plain strings; returns what the manifest says of it."""
    path = f"{generation}/bucket-{bucket:04d}-{number:04d}.parquet"
    table = rows.select(schema.names).to_arrow().cast(schema)
    few = "campaign_id" in schema.names and rows["campaign_id"].n_unique() * FEW < len(rows)
    dictionary, split = (
        [*_DICTIONARY, *(["campaign_id"] if few else [])],
        [n for n in ("event_ts",) if n in schema.names],
    )
    sha256 = write_parquet(root / path, table, ROW_GROUP, dictionary, split=split)
    return {"bucket": bucket, "path": path, "rows": table.num_rows, "sha256": sha256}


@dataclass
class Quarantine:
    """Bad rows of one ingest: counted by rule, written with file, row and column (and the row itself only if asked)."""

    root: Path
    name: str
    payload: bool
    counts: Counter[str] = field(default_factory=Counter)
    _flushes: int = 0

    def add(self, bad: pl.DataFrame, file: Path) -> None:
        if bad.is_empty():
            return
        self.counts.update(bad["rule"].to_list())
        values = [name for name in bad.columns if name not in ("rule", "column", "row")]
        payload = pl.struct(values).struct.json_encode() if self.payload else pl.lit(None, pl.String)
        rows = bad.with_columns(file=pl.lit(file.name), payload=payload)
        path = new_folder(self.root / "quarantine") / f"{self.name}-{self._flushes:04d}.parquet"
        write_parquet(path, rows.select(QUARANTINE.names).to_arrow().cast(QUARANTINE), ROW_GROUP, _DICTIONARY)
        self._flushes += 1


def new_folder(path: Path) -> Path:
    """Create a folder of the store; CannotCreate (73) where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"{path} cannot be created: {error.strerror}; check --store") from error
    return path

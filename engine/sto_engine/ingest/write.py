"""Rows -> bucket files of one generation, in bounded memory: one file a bucket, row group by row group.

Blocks (see `blocks`) are held until they fill a row group of every bucket, or HELD_BYTES; then each bucket's rows
become one row group of its file, the buckets side by side in threads. The bytes follow from the rows and their order.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sto_engine.errors import CannotCreate, OutputFailed
from sto_engine.files import ParquetSink, footer_crc, sync
from sto_engine.ingest.blocks import Block, Held, to_block, to_columns
from sto_engine.ingest.decode import DICTIONARY, hash_column
from sto_engine.ingest.flow import Workers

ROW_GROUP = 131_072
MOST_ROWS = 2 * ROW_GROUP  # of a row group of a bucket that has more rows than others
HELD_BYTES = 240 << 20
FEW = 8  # a column with this many rows to a distinct value is worth a dictionary
SPLIT = ("event_ts",)


class Writer(Protocol):
    """Who turns the typed rows of one generation into its files."""

    def block(self, frame: pl.DataFrame) -> Block:
        """The rows of a frame by bucket; pure."""

    def add(self, block: Block) -> None:
        """Take a block; the rows of a bucket are written in the order in which they came."""

    def finish(self) -> list[dict[str, Any]]:
        """Write what is held and name all files; returns what the manifest says of each, in the order of buckets."""

    def abandon(self) -> None:
        """Close what is open, after an error."""


class Filling:
    """Blocks that wait until they fill a row group of each of the buckets `within`, or `limit` bytes.

    Then `put` takes, for each of these buckets that has some, its place among them and its rows, in threads.
    """

    def __init__(
        self, schema: pa.Schema, within: range, limit: int, workers: Workers, put: Callable[[int, pa.Table], None]
    ) -> None:
        self.schema, self.within, self.limit, self.workers, self.put = schema, within, limit, workers, put
        self._held = Held(schema)

    def add(self, block: Block) -> None:
        if block.rows:
            self._held.add(block)
        if self._held.rows >= ROW_GROUP * len(self.within) or self._held.nbytes >= self.limit:
            self.flush()

    def flush(self) -> None:
        held, self._held = self._held, Held(self.schema)
        self.workers.each(lambda index: self.put(index, held.bucket(index)), held.present())


class BucketWriter:
    """Writes rows of the buckets `within` of so many `buckets` as files under `root/name`; see `Writer`."""

    def __init__(
        self,
        root: Path,
        name: str,
        buckets: int,
        schema: pa.Schema,
        workers: Workers,
        within: range | None = None,
        limit: int = HELD_BYTES,
    ) -> None:
        self.root, self.name, self.buckets, self.schema, self.workers = root, name, buckets, schema, workers
        self.within = range(buckets) if within is None else within
        self._filling = Filling(schema, self.within, limit, workers, self._append)
        self._files: dict[int, BucketFile] = {}

    def block(self, frame: pl.DataFrame) -> Block:
        return to_block(to_columns(frame, self.schema), self.buckets, self.within)

    def add(self, block: Block) -> None:
        self._filling.add(block)

    def _append(self, index: int, rows: pa.Table) -> None:
        bucket = self.within[index]
        if "row" in self.schema.names:
            rows = _in_reading_order(rows)
        if bucket not in self._files:
            new_folder(self.root / self.name)
            self._files[bucket] = BucketFile.create(self.root, self.name, bucket, 0, rows)
        self._files[bucket].append(rows, even_groups(rows.num_rows, MOST_ROWS))

    def finish(self) -> list[dict[str, Any]]:
        self._filling.flush()
        files = [self._files[bucket] for bucket in sorted(self._files)]
        entries = self.workers.each(BucketFile.finish, files)
        if files:
            sync(self.root / self.name)
        return entries

    def abandon(self) -> None:
        for file in self._files.values():
            file.sink.abandon()


@dataclass
class BucketFile:
    """A file of one bucket that is being written, and the times that it spans."""

    path: str
    bucket: int
    sink: ParquetSink
    first_ms: int | None = None
    last_ms: int | None = None

    @classmethod
    def create(cls, root: Path, name: str, bucket: int, number: int, rows: pa.Table) -> "BucketFile":
        """`rows`, in the types of `held_schema`, are the first of the file: they decide about its encoding."""
        path = f"{name}/bucket-{bucket:04d}-{number:04d}.parquet"
        return cls(path, bucket, ParquetSink(root / path, rows.schema, _dictionary(rows), SPLIT))

    def append(self, rows: pa.Table, group: int) -> None:
        """Write the rows in row groups of `group` rows."""
        if "event_ts" in rows.schema.names:
            span = pc.min_max(rows["event_ts"].cast(pa.int64())).as_py()
            self.first_ms = span["min"] if self.first_ms is None else min(self.first_ms, span["min"])
            self.last_ms = span["max"] if self.last_ms is None else max(self.last_ms, span["max"])
        self.sink.write(rows, group)

    def finish(self) -> dict[str, Any]:
        """What the manifest says of the file, which has its name now; the folder is for the caller to sync."""
        entry = {"bucket": self.bucket, "path": self.path, "rows": self.sink.rows, "sha256": self.sink.finish()}
        entry["footer_crc"] = footer_crc(self.sink.path)
        if self.first_ms is not None:
            entry |= {"min_ts": self.first_ms, "max_ts": self.last_ms}
        return entry


def even_groups(rows: int, most: int) -> int:
    """The size of the fewest row groups of at most `most` rows, all of about one size."""
    groups = max(1, -(-rows // most))
    return max(1, -(-rows // groups))


def _dictionary(rows: pa.Table) -> list[str]:
    few = "campaign_id" in rows.schema.names and len(rows["campaign_id"].unique()) * FEW < rows.num_rows
    return [*DICTIONARY, *(["campaign_id"] if few else [])]


def _in_reading_order(rows: pa.Table) -> pa.Table:
    """Recipients lie in the order of reading, so that a read need not sort them; events wait for `compact`."""
    keys = pl.DataFrame([hash_column(pl.Series(rows["user_id"])), pl.Series("id", rows["user_id"])])
    keys = keys.with_columns(row=pl.Series(rows["row"]))
    return rows.take(keys.select(pl.arg_sort_by("h", "id", "row")).to_series().to_arrow())


def check_rows(entries: Iterable[dict[str, Any]], expected: int) -> None:
    """The last look before a commit: OutputFailed (74) unless the files hold the rows counted on the way to them."""
    found = sum(entry["rows"] for entry in entries)
    if found != expected:
        raise OutputFailed(f"the files written must hold {expected} rows; found {found}; check disk and memory")


def blocks_of(frames: Iterable[pl.DataFrame], writer: Writer, workers: Workers) -> Iterator[Block]:
    """Frames as blocks, made in threads, in order."""
    return workers.in_order(writer.block, frames, lambda frame: int(frame.estimated_size()))


def new_folder(path: Path) -> Path:
    """Create a folder of the store; CannotCreate (73) where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"{path} cannot be created: {error.strerror}; check --store") from error
    return path

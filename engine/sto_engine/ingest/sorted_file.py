"""Rows in the order of a store -> one file a bucket, in even row groups, one file open at a time."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.ingest.blocks import to_table
from sto_engine.ingest.write import MOST_ROWS, ROW_GROUP, BucketFile, even_groups

MOST_BYTES = 64 << 20


class SortedFiles:
    """Files of ascending buckets under `root/name`, of the columns of `schema`."""

    def __init__(self, root: Path, name: str, schema: pa.Schema) -> None:
        self.root, self.name, self.schema = root, name, schema
        self._entries: list[dict[str, Any]] = []
        self._held: list[pl.DataFrame] = []
        self._bucket: int | None = None
        self._file: BucketFile | None = None

    def add(self, bucket: int, rows: pl.DataFrame) -> None:
        """Rows that follow those before, of this bucket or of a later one than before."""
        if bucket != self._bucket:
            self._end()
            assert self._bucket is None or bucket > self._bucket
            self._bucket = bucket
        self._held.append(rows)
        if sum(map(len, self._held)) >= MOST_ROWS or sum(each.estimated_size() for each in self._held) >= MOST_BYTES:
            self._write()

    def _write(self) -> None:
        assert self._bucket is not None
        table = to_table(pl.concat(self._held, rechunk=True), self.schema)
        self._held = []
        if self._file is None:
            self._file = BucketFile.create(self.root, self.name, self._bucket, 0, table)
        self._file.append(table, even_groups(table.num_rows, ROW_GROUP))

    def _end(self) -> None:
        if self._held:
            self._write()
        if self._file is not None:
            self._entries.append(self._file.finish())
            self._file = None

    def finish(self) -> list[dict[str, Any]]:
        """What the manifest says of each file; the folder is for the caller to sync."""
        self._end()
        return self._entries

    def abandon(self) -> None:
        if self._file is not None:
            self._file.sink.abandon()

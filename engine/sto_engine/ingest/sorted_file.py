"""Rows in the order of a store -> one file a bucket, in even row groups, one file open at a time.

    rows of a bucket | chunks of MOST_ROWS rows or MOST_BYTES bytes | of each, the fewest row groups of ROW_GROUP rows

Where a chunk ends follows from its rows alone: the bytes do not depend on how many rows come at a time.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.ingest.blocks import to_table
from sto_engine.ingest.write import MOST_ROWS, ROW_GROUP, BucketFile, even_groups

MOST_BYTES = 64 << 20


class SortedFiles:
    """Files of ascending buckets under `root/name`, of the columns of `schema`."""

    def __init__(self, root: Path, name: str, schema: pa.Schema) -> None:
        self.root, self.name, self.schema = root, name, schema
        self._entries: list[dict[str, Any]] = []
        self._held: list[pl.DataFrame] = []
        self._rows = self._bytes = 0
        self._bucket: int | None = None
        self._file: BucketFile | None = None

    def add(self, bucket: int, rows: pl.DataFrame) -> None:
        """Rows that follow those before, of this bucket or of a later one than before."""
        if bucket != self._bucket:
            self._end()
            assert self._bucket is None or bucket > self._bucket
            self._bucket = bucket
        end_N, start = np.cumsum(_weights(rows)), 0
        while start < len(rows):
            before = int(end_N[start - 1]) if start else 0
            full = int(np.searchsorted(end_N, MOST_BYTES - self._bytes + before)) + 1
            end = min(len(rows), full, start + MOST_ROWS - self._rows)
            self._held.append(rows[start:end])
            self._rows, self._bytes = self._rows + end - start, self._bytes + int(end_N[end - 1]) - before
            if self._rows >= MOST_ROWS or self._bytes >= MOST_BYTES:
                self._write()
            start = end

    def _write(self) -> None:
        assert self._bucket is not None
        table = to_table(pl.concat(self._held, rechunk=True), self.schema)
        self._held, self._rows, self._bytes = [], 0, 0
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


def _weights(rows: pl.DataFrame) -> NDArray[np.int64]:
    """Bytes of each row: eight a column, and its texts."""
    weight_N = np.full(len(rows), 8 * rows.width, np.int64)
    for name, kind in rows.schema.items():
        if kind == pl.String:
            weight_N += rows[name].str.len_bytes().fill_null(0).to_numpy()
    return weight_N

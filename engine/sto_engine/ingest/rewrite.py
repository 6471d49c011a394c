"""Files of a store written anew without some rows, row group by row group, so that no file need fit into memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sto_engine.files import ParquetSink, sync
from sto_engine.ingest.write import BucketFile
from sto_engine.tables import QUARANTINE


def without_users(root: Path, path: Path, bucket: int, number: int, users: pl.Series) -> dict[str, Any]:
    """Write the rows of the bucket file `path` but for those of `users` as the file `number` beside it, in their order.

    Returns its entry in the manifest; at least one row must stay.
    """
    out: BucketFile | None = None
    ids = users.to_arrow()
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as source:
            for rows in _groups(source):
                kept = rows.filter(pc.invert(pc.is_in(rows["user_id"], value_set=ids.cast(rows["user_id"].type))))
                if kept.num_rows:
                    out = out or BucketFile.create(root, path.parent.name, bucket, number, kept)
                    out.append(kept, kept.num_rows)
        assert out is not None
        entry = out.finish()
    except BaseException:
        if out is not None:
            out.sink.abandon()
        raise
    sync(path.parent)
    return entry


def _groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    return (file.read_row_group(group, use_threads=False) for group in range(file.num_row_groups))


def without_named(path: Path, new: Path, users: pl.Series) -> None:
    """Write the rows of the quarantine file `path` where `users` is null to `new`."""
    out = ParquetSink(new, QUARANTINE, ["rule", "file", "column"])
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as source:
            first = 0
            for rows in _groups(source):
                kept = rows.filter(users[first : first + rows.num_rows].is_null().to_arrow()).cast(QUARANTINE)
                first += rows.num_rows
                if kept.num_rows:
                    out.write(kept, kept.num_rows)
        out.finish()
    except BaseException:
        out.abandon()
        raise
    sync(path.parent)

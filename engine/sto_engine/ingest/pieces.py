"""A bucket of a store, in order, as much of it at a time as memory holds.

Most buckets are one piece. One that is too large is split by the next bits of h into temporary files, in one pass over
its rows; the parts are then sorted one after the other. One user cannot be split: a piece is at least all of his rows.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.errors import BadData
from sto_engine.ingest.blocks import filled, held_schema
from sto_engine.ingest.decode import DICTIONARY, hash_column, to_frame, without_young
from sto_engine.ingest.flow import Workers
from sto_engine.ingest.order import in_order
from sto_engine.ingest.sizes import OPTIONS, reading_plan
from sto_engine.ingest.spill import SpillFile, Spills
from sto_engine.ingest.store import Store
from sto_engine.ingest.write import ROW_GROUP

ROW_BYTES = 120  # of a row in memory while it is read, sorted and written, beside its texts
MOST_PARTS = 1024


def sorted_pieces(store: Store, table: str, bucket: int, budget: int, folder: Path) -> Iterator[pl.DataFrame]:
    """Rows of a bucket as `read_events` and `read_recipients` return them, in pieces of about `budget` bytes in work.

    `folder` is for temporary files, and gone afterwards. Raises BadData (65) for a file that is damaged.
    """
    need = bytes_needed(store, table, bucket)
    if need <= budget:
        frame = store.read_events(bucket) if table == "events" else store.read_recipients(bucket)
        if frame is not None:
            yield frame
        return
    parts = 2
    while parts < MOST_PARTS and need > parts * budget:
        parts *= 2
    try:
        yield from _split(store, table, bucket, parts, budget, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bytes_needed(store: Store, table: str, bucket: int) -> int:
    """About how much memory the rows of a bucket take in work."""
    need = 0
    for file in store.files(table, bucket):
        footer = pq.read_metadata(store.path / file["path"])
        groups = (footer.row_group(group) for group in range(footer.num_row_groups))
        need += file["rows"] * ROW_BYTES + 5 * sum(group.total_byte_size for group in groups)
    return need


def _split(store: Store, table: str, bucket: int, parts: int, budget: int, folder: Path) -> Iterator[pl.DataFrame]:
    schema, within = store.schema(table), range(bucket * parts, (bucket + 1) * parts)
    spills = Spills(folder, store.buckets * parts, within, schema, Workers(1), budget // 4)
    try:
        for file in store.files(table, bucket):
            for columns in _columns(store.path / file["path"], schema):
                spills.add(spills.block(columns))
        present = spills.finish()
    finally:
        spills.close()
    for part in present:
        frame = _frame(spills.files[part], schema)
        spills.files[part].path.unlink()
        frame = frame.with_columns(hash_column(frame["user_id"]))
        yield in_order(frame) if table == "events" else frame.sort("h", "user_id", "row")


def _columns(path: Path, schema: pa.Schema) -> Iterator[dict[str, pa.Array]]:
    """The columns of a store file that hold a value, batch by batch, in the types of `held_schema`."""
    kinds = held_schema(schema)
    try:
        words = [name for name in schema.names if name in DICTIONARY]
        with pq.ParquetFile(path, read_dictionary=words, **OPTIONS) as file:
            names = without_young(schema.names, file.schema_arrow.names)
            size, coded = reading_plan(file, names, words)
        with pq.ParquetFile(path, read_dictionary=coded, **OPTIONS) as file:
            for batch in file.iter_batches(min(ROW_GROUP, size), columns=names, use_threads=False):
                found = {name: batch.column(name) for name in names}
                yield {n: _coded(v, kinds.field(n).type) for n, v in found.items() if v.null_count < len(v)}
    except (OSError, pa.ArrowException, KeyError) as error:
        raise BadData(f"store file {path} is gone or damaged ({error}); restore it or ingest anew") from error


def _coded(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    return values.cast(kind)


def _frame(file: SpillFile, schema: pa.Schema) -> pl.DataFrame:
    tables = [filled(columns, len(columns["user_id"]), schema) for columns in file.read()]
    return pl.concat([to_frame(table, schema, file.path) for table in tables], rechunk=True)

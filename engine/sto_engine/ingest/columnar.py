"""Parquet and Arrow IPC files (file and stream, Feather 2): their schema, and batches of the columns asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from sto_engine.ingest.formats import open_random, slices
from sto_engine.ingest.sizes import OPTIONS, reading_plan

_MAGIC = b"ARROW1"


def parquet_schema(path: Path) -> pa.Schema:
    with open_random(path) as file:
        return pq.read_schema(file)


def parquet_rows(path: Path) -> int:
    """Rows of a file, from its footer."""
    with open_random(path) as file:
        return int(pq.read_metadata(file).num_rows)


def read_parquet(path: Path, columns: Sequence[str], words: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of `columns`; those in `words` come as dictionaries, which costs half as much as text."""
    with open_random(path) as raw:
        metadata, found = pq.read_metadata(raw), 0
        flat = {metadata.schema.column(place).path for place in range(metadata.num_columns)}  # lists are none
        names = [name for name in words if name in flat]
        file = pq.ParquetFile(raw, metadata=metadata, read_dictionary=names, **OPTIONS)
        size, coded = reading_plan(file, columns, names)
        if coded != names:
            file = pq.ParquetFile(raw, metadata=metadata, read_dictionary=coded, **OPTIONS)
        for batch in file.iter_batches(size, columns=list(columns), use_threads=False):
            found += batch.num_rows
            yield pa.Table.from_batches([batch])
        if found != metadata.num_rows:  # no checksum covers the footer
            raise pa.ArrowInvalid(f"its footer promises {metadata.num_rows} rows, and {found} were read")


def arrow_schema(path: Path) -> pa.Schema:
    with open_random(path) as file:
        return _reader(file, None).schema


def read_arrow(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of `columns`. Each is checked to the last offset: a damaged file must not be read out of bounds."""
    with open_random(path) as file:
        names = _reader(file, None).schema.names
        file.seek(0)
        reader = _reader(file, [names.index(name) for name in columns])
        if isinstance(reader, ipc.RecordBatchFileReader):
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = iter(reader)
        for batch in batches:
            batch.validate(full=True)
            yield from slices(batch.select(list(columns)))


def _reader(file: pa.NativeFile, fields: list[int] | None) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
    options = ipc.IpcReadOptions(use_threads=False, included_fields=fields)
    is_file = file.read(len(_MAGIC)) == _MAGIC
    file.seek(0)
    return ipc.open_file(file, options=options) if is_file else ipc.open_stream(file, options=options)

"""More buckets than files that one wants open: two passes, the first into SPILLS temporary files by the top bits of h.

Each temporary file (an Arrow stream, LZ4, in the folder of the generation) holds a run of buckets; it is then read
batch by batch and split into their files. The result is that of one pass but for where row groups begin. On the way
the rows lie on the disk a second time, at about 15 bytes an event.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

from sto_engine.errors import OutputFailed
from sto_engine.files import sync, writing
from sto_engine.ingest.blocks import Block, to_block, to_columns
from sto_engine.ingest.flow import Workers
from sto_engine.ingest.write import HELD_BYTES, BucketWriter, Filling, Writer, new_folder

SPILLS = 128
LZ4 = ipc.IpcWriteOptions(compression="lz4")


def bucket_writer(root: Path, name: str, buckets: int, schema: pa.Schema, workers: Workers) -> Writer:
    """The writer that fits the number of buckets."""
    if buckets <= SPILLS:
        return BucketWriter(root, name, buckets, schema, workers)
    return SpillWriter(root, name, buckets, schema, workers)


class Spills:
    """Temporary files of the hash ranges `within` of so many `parts`, each a `SpillFile` once it has a row."""

    def __init__(
        self, folder: Path, parts: int, within: range, schema: pa.Schema, workers: Workers, limit: int
    ) -> None:
        self.folder, self.parts, self.within = folder, parts, within
        self.files: dict[int, SpillFile] = {}
        self._filling = Filling(schema, within, limit, workers, self._append)

    def block(self, columns: dict[str, pa.Array]) -> Block:
        return to_block(columns, self.parts, self.within)

    def add(self, block: Block) -> None:
        self._filling.add(block)

    def _append(self, index: int, rows: pa.Table) -> None:
        part = self.within[index]
        if part not in self.files:
            new_folder(self.folder)
            self.files[part] = SpillFile(self.folder / f"{part:06d}.arrows", rows.schema)
        self.files[part].write(rows)

    def finish(self) -> list[int]:
        """Close the files; the parts that have one, in order."""
        self._filling.flush()
        self.close()
        return sorted(self.files)

    def close(self) -> None:
        for file in self.files.values():
            file.close()


class SpillWriter:
    """A `Writer` of two passes: `add` fills the temporary files, `finish` splits them."""

    def __init__(self, root: Path, name: str, buckets: int, schema: pa.Schema, workers: Workers) -> None:
        self.root, self.name, self.buckets, self.schema, self.workers = root, name, buckets, schema, workers
        self._spills = Spills(root / name / "spill", SPILLS, range(SPILLS), schema, workers, HELD_BYTES)

    def block(self, frame: pl.DataFrame) -> Block:
        return self._spills.block(to_columns(frame, self.schema))

    def add(self, block: Block) -> None:
        self._spills.add(block)

    def finish(self) -> list[dict[str, Any]]:
        parts = self.workers.each(self._split, self._spills.finish())
        if parts:
            shutil.rmtree(self._spills.folder, ignore_errors=True)
            sync(self.root / self.name)
        return [entry for part in parts for entry in part]

    def _split(self, part: int) -> list[dict[str, Any]]:
        """The files of the buckets of one temporary file, which is removed."""
        share, file = self.buckets // SPILLS, self._spills.files[part]
        within = range(part * share, (part + 1) * share)
        limit = HELD_BYTES // self.workers.threads
        writer = BucketWriter(self.root, self.name, self.buckets, self.schema, Workers(1), within, limit)
        entries = split(file.read(), writer)
        file.path.unlink()
        return entries

    def abandon(self) -> None:
        with suppress(OutputFailed):
            self._spills.close()


def split(batches: Iterable[dict[str, pa.Array]], writer: BucketWriter) -> list[dict[str, Any]]:
    """Rows that were spilled into their buckets; what the manifest says of the files."""
    try:
        for columns in batches:
            writer.add(to_block(columns, writer.buckets, writer.within))
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def held_columns(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """The columns of a batch that hold a value."""
    pairs = zip(batch.schema.names, batch.columns, strict=True)
    return {name: values for name, values in pairs if values.null_count < batch.num_rows}


class SpillFile:
    """A temporary Arrow stream: written once, read once."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows = path, 0
        with writing(path):
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = ipc.new_stream(self._sink, schema, options=LZ4)

    def write(self, rows: pa.Table) -> None:
        with writing(self.path):
            self._writer.write_table(rows)
        self.rows += rows.num_rows

    def close(self) -> None:
        if not self._sink.closed:
            with writing(self.path), self._sink:
                self._writer.close()

    def read(self) -> Iterator[dict[str, pa.Array]]:
        """Columns that hold a value, batch by batch; OutputFailed (74) where rows are missing."""
        found = 0
        with writing(self.path), ipc.open_stream(pa.OSFile(str(self.path))) as reader:
            for batch in reader:
                found += batch.num_rows
                yield held_columns(batch)
        if found != self.rows:
            raise OutputFailed(f"{self.path} must hold {self.rows} rows; found {found}; check disk and memory")

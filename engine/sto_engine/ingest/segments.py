"""Rows of one task by hash range in one temporary file: its segments are found by a table at the end.

    segment | segment | ... | per segment: range, first byte, bytes, rows, each 8 bytes | how many segments, 8 bytes

A segment is an Arrow stream, LZ4. A file for each task and range would be a million of them for 10,000 tasks.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

from sto_engine.errors import OutputFailed
from sto_engine.files import sync, writing
from sto_engine.ingest.attempts import not_shared
from sto_engine.ingest.blocks import Block, to_block, to_columns
from sto_engine.ingest.flow import Workers
from sto_engine.ingest.spill import LZ4, held_columns
from sto_engine.ingest.write import Filling, new_folder

HELD_BYTES = 96 << 20
_WORD = np.dtype("<i8")


class SegmentWriter:
    """A `Writer` of the file `path`, made when there is a first row, with the rows of `parts` hash ranges."""

    def __init__(self, path: Path, parts: int, schema: pa.Schema) -> None:
        self.path, self.parts, self.schema = path, range(parts), schema
        self._filling = Filling(schema, self.parts, HELD_BYTES, Workers(1), self._append)
        self._table: list[tuple[int, int, int, int]] = []
        self._sink: pa.NativeFile | None = None

    def block(self, frame: pl.DataFrame) -> Block:
        return to_block(to_columns(frame, self.schema), len(self.parts), self.parts)

    def add(self, block: Block) -> None:
        self._filling.add(block)

    def _append(self, part: int, rows: pa.Table) -> None:
        with writing(self.path):
            if self._sink is None:
                new_folder(self.path.parent)
                self._sink = pa.OSFile(str(self.path), "wb")
            start = self._sink.tell()
            with ipc.new_stream(self._sink, rows.schema, options=LZ4) as stream:
                stream.write_table(rows)
            self._table.append((part, start, self._sink.tell() - start, rows.num_rows))

    def finish(self) -> list[dict[str, Any]]:
        """The rows of each segment; the file is on the disk."""
        self._filling.flush()
        if self._sink is not None:
            with writing(self.path), self._sink as sink:
                sink.write(np.array(self._table, _WORD).tobytes())
                sink.write(np.array(len(self._table), _WORD).tobytes())
            with writing(self.path):
                sync(self.path)
        return [{"rows": rows} for _, _, _, rows in self._table]

    def abandon(self) -> None:
        if self._sink is not None:
            with suppress(OSError, pa.ArrowException):
                self._sink.close()


def read_segments(path: Path, part: int) -> Iterator[dict[str, pa.Array]]:
    """Columns that hold a value, batch by batch, of one hash range; OutputFailed (74) where rows are missing."""
    if not path.exists():
        raise not_shared(path)
    with writing(path), pa.OSFile(str(path)) as file:
        for _, start, size, rows in _table_of(path, file, part):
            file.seek(start)
            found = 0
            with ipc.open_stream(file.read_buffer(size)) as stream:
                for batch in stream:
                    found += batch.num_rows
                    yield held_columns(batch)
            if found != rows:
                raise OutputFailed(f"{path} must hold {rows} rows at {start}; found {found}; check disk and memory")


def _table_of(path: Path, file: pa.NativeFile, part: int) -> list[list[int]]:
    """The entries of a hash range."""
    word, size = _WORD.itemsize, file.size()
    file.seek(size - word)
    segments = int(np.frombuffer(file.read(word), _WORD)[0])
    if not 0 <= segments <= size // (4 * word):
        raise OutputFailed(f"{path} must end with the number of its segments; found {segments}; check the disk")
    file.seek(size - word - segments * 4 * word)
    table_N4 = np.frombuffer(file.read(segments * 4 * word), _WORD).reshape(-1, 4)
    found: list[list[int]] = table_N4[table_N4[:, 0] == part].tolist()
    return found

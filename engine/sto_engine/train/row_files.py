"""Training rows on disk: one Arrow file a bucket, which is mapped, not read, and taken column by column.

A row of `boosted` is 92 bytes of features and 50 of the rest. N rows, F features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.errors import BadData
from sto_engine.files import writing
from sto_engine.train.draw import below_edge
from sto_engine.train.rows import Rows
from sto_engine.train.scratch import fresh

Columns = dict[str, NDArray[Any]]
# of what mask and copy are in memory at once
BLOCK_ROWS = 262_144


@dataclass(frozen=True)
class RowFile:
    """A file of one bucket's rows: its name in the work folder, and how many rows it holds."""

    name: str
    rows: int


@dataclass(frozen=True)
class RowSet:
    """The rows of a training: those of `files`, in their order, whose hash lies below `edge`."""

    folder: Path
    files: tuple[RowFile, ...]
    edge: int | None = None

    @property
    def size(self) -> int:
        return len(self.files)

    def all_blocks(self, names: Sequence[str]) -> Iterator[tuple[int, Columns]]:
        """(file, block) of every file."""
        for file in range(self.size):
            for block in self.blocks(file, names):
                yield file, block

    def blocks(self, file: int, names: Sequence[str]) -> Iterator[Columns]:
        """The drawn rows of one file by columns of `Rows`, BLOCK_ROWS of the file at a time; arrays are read-only."""
        wanted = names if self.edge is None else (*names, "order_N")
        for columns in _read(self.folder / self.files[file].name, wanted):
            if self.edge is None:
                yield columns
                continue
            kept_N = below_edge(columns["order_N"], self.edge)
            yield {name: columns[name][kept_N] for name in names}


def write_rows(folder: Path, bucket: int, rows: Rows) -> RowFile:
    """Write the rows under a name of this attempt's own; OutputFailed (74) where the disk does not take them."""
    path = fresh(folder, f"rows-{bucket:04d}", ".arrow")
    table = pa.table({f.name: _column(getattr(rows, f.name)) for f in fields(Rows)})
    with writing(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=BLOCK_ROWS)
    return RowFile(path.name, len(rows))


def _column(values: NDArray[Any]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def _read(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    try:
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_file(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadData(
            f"rows {path} must be a whole Arrow file; found {error}; train again, in a folder that all machines see"
        ) from error
    with source:
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            yield {name: _array(batch.column(name)) for name in names}


def _array(column: pa.Array) -> NDArray[Any]:
    if not pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=True))
    return np.asarray(column.flatten().to_numpy(zero_copy_only=True)).reshape(len(column), column.type.list_size)

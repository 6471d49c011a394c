"""How much of a Parquet file to read at a time, and how, so that a batch is small whatever its cells and row groups.

Cells are looked at in a few places of the file. What the footer says of single columns is not: pyarrow ends the process
where that part of a footer is damaged.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.ingest.formats import BATCH_ROWS

BATCH_BYTES = 8 << 20
# Pages are read through buffers of this size, one a column: without them, and with what pyarrow calls pre-buffering,
# all of a row group lies in memory at once (400 MiB for 20 M rows of four columns, against 13).
READ_BUFFER = 1 << 20
OPTIONS: dict[str, Any] = {"page_checksum_verification": True, "buffer_size": READ_BUFFER, "pre_buffer": False}
LARGE_CELL = 4096
PLACES, FEW_ROWS, SOME_ROWS = 4, 16, 1024
# so small a file is read as it is
SMALL_ROWS, SMALL_BYTES = 1000, 4 << 20


def reading_plan(file: pq.ParquetFile, columns: Sequence[str], words: Sequence[str]) -> tuple[int, list[str]]:
    """Rows to read at a time, so that they take about BATCH_BYTES, and those of `words` to read as dictionaries.

    `file` is opened with `words` as dictionaries. Text of which hardly two cells are equal is none of them: it would go
    into one dictionary that grows with every batch of the file.
    """
    footer = file.metadata
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    sizes = [max(0, group.total_byte_size) for group in groups]
    flat = {footer.schema.column(place).path for place in range(footer.num_columns)}
    words = [name for name in words if name in flat]
    if footer.num_rows <= SMALL_ROWS and sum(sizes) <= SMALL_BYTES:
        return BATCH_ROWS, words
    texts = [name for name in columns if name in flat and _is_text(file.schema_arrow.field(name).type)]
    heaviest, many = 1.0, set[str]()
    for place in np.unique(np.linspace(0, len(groups) - 1, PLACES).astype(int)).tolist():
        looked = dict(_look(file, place, texts, FEW_ROWS))
        fat = {name for name, column in looked.items() if _cell(column) > LARGE_CELL}
        many |= {name for name in fat if name not in words or _is_various(looked[name])}
        usual = [name for name in words if name in looked and name not in fat]
        many |= {name for name, column in _look(file, place, usual, SOME_ROWS) if _is_various(column)}
        heaviest = max(heaviest, sum(_cell(column) for name, column in looked.items() if name not in set(words) - many))
    if set(columns) >= set(file.schema_arrow.names):
        rows = [max(1, group.num_rows) for group in groups]
        heaviest = max([heaviest, *(size / count for size, count in zip(sizes, rows, strict=True))])
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / heaviest))), [name for name in words if name not in many]


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _look(file: pq.ParquetFile, group: int, columns: list[str], rows: int) -> Iterator[tuple[str, pa.Array]]:
    """The first rows of a row group."""
    if columns:
        batch = next(file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False), None)
        yield from zip(columns, batch.select(columns).columns, strict=True) if batch is not None else ()


def _cell(values: pa.Array) -> float:
    """Bytes of a cell, on average."""
    of = values.dictionary if pa.types.is_dictionary(values.type) else values
    return float(of.nbytes / max(1, len(of)))


def _is_various(values: pa.Array) -> bool:
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return 2 * len(coded.indices.drop_null().unique()) > len(values) >= FEW_ROWS

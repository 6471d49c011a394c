"""How much of a Parquet file to read at a time, and how, so that a batch is small whatever its cells and row groups."""

from collections.abc import Sequence

import pyarrow.parquet as pq

from sto_engine.ingest.formats import BATCH_ROWS

BATCH_BYTES = 8 << 20
# Pages are read through buffers of this size, one a column: without them, and with what pyarrow calls pre-buffering,
# all of a row group lies in memory at once (400 MiB for 20 M rows of four columns, against 13).
READ_BUFFER = 1 << 20
CODE_BYTES, WORDS_BYTES = 8, 32 << 20


def batch_rows(footer: pq.FileMetaData, columns: Sequence[str]) -> int:
    """So many rows that those of the fullest row group take about BATCH_BYTES in `columns`, at most BATCH_ROWS."""
    wanted, heaviest = set(columns), 1.0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        chunks = (group.column(at) for at in range(group.num_columns))
        size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)
        heaviest = max(heaviest, size / max(1, group.num_rows))
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / heaviest)))


def worth_words(footer: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """Those of `columns` to read as dictionaries: flat ones that the file has as such, by their size.

    Text that is written plainly would go into one dictionary that grows with every batch of the file.
    """
    sizes = dict.fromkeys(columns, 0)
    flat = {footer.schema.column(place).path for place in range(footer.num_columns)}
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        for chunk in (group.column(at) for at in range(group.num_columns)):
            if chunk.path_in_schema in sizes:
                sizes[chunk.path_in_schema] += chunk.total_uncompressed_size
    most = CODE_BYTES * footer.num_rows + WORDS_BYTES
    return [name for name, size in sizes.items() if name in flat and size <= most]

"""Store files -> frames: the columns asked for, closed vocabularies as codes, every page checksum verified.

Text columns are plain strings on disk, dictionary-encoded, and are read as dictionaries. Those with a closed vocabulary
become `polars.Enum` by one look-up a distinct value, the others strings gathered from the few distinct ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sto_engine.errors import BadData
from sto_engine.tables import CAMPAIGN_TYPES, DEVICE_TYPES, EVENT_TYPES, hash_ids
from sto_kernels.compiled import obstacle
from sto_kernels.hashing import U64

VOCABULARY: dict[str, tuple[str, ...]] = {
    "event_type": EVENT_TYPES,
    "device_type": DEVICE_TYPES,
    "campaign_type": CAMPAIGN_TYPES,
}
_TEXTS = (
    *("channel", "bounce_type", "recipient_domain", "user_agent"),
    *("timezone", "signup_source", "country", "address_status", "provider"),
)
DICTIONARY = (*VOCABULARY, *_TEXTS)  # columns of few distinct values: written so, and read so
YOUNG = ("allowed_hours",)  # columns that the files of older versions lack


def read_files(files: Sequence[tuple[Path, int]], schema: pa.Schema) -> pl.DataFrame:
    """Rows of (path, rows expected), one after the other, in the columns of `schema`.

    Raises FileNotFoundError for a file that is not there, BadData (65) for one that is damaged or of another shape.
    """
    frames = [to_frame(_read_file(path, rows, schema), schema, path) for path, rows in files]
    return pl.concat(frames or [to_frame(schema.empty_table(), schema, Path())], rechunk=True)


def _read_file(path: Path, rows: int, schema: pa.Schema) -> pa.Table:
    columns = schema.names
    try:
        words = [name for name in columns if name in DICTIONARY]
        file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=words)
        there = file.schema_arrow.names
        stored = without_young(columns, there)
        missing = sorted(set(stored) - set(there))
        if missing:
            raise BadData(f"store file {path} must have the columns {missing}; restore it or ingest anew")
        told = [name for name in stored if not _is_null(file.metadata, there.index(name))]
        table = file.read(told, use_threads=False)  # buckets run in threads already
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError, KeyError) as error:
        raise BadData(f"store file {path} is gone or damaged ({error}); restore it or ingest anew") from error
    if table.num_rows != rows:
        raise BadData(f"store file {path} must hold {rows} rows; found {table.num_rows}; restore it or ingest anew")
    for name in columns:
        if name not in told:
            kind = file.schema_arrow.field(name).type if name in there else schema.field(name).type
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table


def without_young(columns: Sequence[str], there: Sequence[str]) -> list[str]:
    """The columns without the young ones that a file with the columns `there` lacks: they are null in all its rows."""
    return [name for name in columns if name in there or name not in YOUNG]


def _is_null(metadata: pq.FileMetaData, column: int) -> bool:
    """Whether the footer says that a column, of flat ones, holds nothing but nulls: its pages need no reading."""
    parts = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    found = [(part.num_rows, part.column(column).statistics) for part in parts]
    return bool(found) and all(told is not None and told.null_count == rows > 0 for rows, told in found)


def to_frame(table: pa.Table, schema: pa.Schema, path: Path) -> pl.DataFrame:
    """The columns of `schema` out of `table`, in the types of memory; BadData (65) names `path` for a foreign word."""
    plain = [field for field in schema if field.name not in DICTIONARY]
    frame = pl.from_arrow(table.select([field.name for field in plain]).cast(pa.schema(plain)))
    assert isinstance(frame, pl.DataFrame)
    enums = [_enum(table[name], name, path) for name in schema.names if name in VOCABULARY]
    texts = [_text(table[name], name) for name in schema.names if name in _TEXTS]
    return frame.with_columns(*enums, *texts).select(schema.names)


def _text(values: pa.ChunkedArray, name: str) -> pl.Series:
    parts = [pl.Series(name, [], dtype=pl.String)]
    for chunk in values.chunks:
        if chunk.null_count == len(chunk):
            parts.append(pl.repeat(None, len(chunk), dtype=pl.String, eager=True))
        else:
            coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            parts.append(pl.Series(coded.dictionary.cast(pa.string())).gather(pl.Series(coded.indices)))
    return pl.concat(parts).alias(name)


def _enum(values: pa.ChunkedArray, name: str, path: Path) -> pl.Series:
    """A column of a closed vocabulary as Enum: each chunk's dictionary is looked up once, its rows by index."""
    known = VOCABULARY[name]
    code_of = {word: code for code, word in enumerate(known)}
    chunks = []
    for chunk in values.chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        words = coded.dictionary.to_pylist()
        foreign = sorted(set(words) - set(known))
        if foreign:
            raise BadData(f"{name} must be one of {', '.join(known)}; found {foreign[:5]} in store file {path}")
        # not pa.array: it imports pandas, where that is installed, to ask whether this is one of its series
        codes_W = pl.Series([code_of[word] for word in words], dtype=pl.UInt8).to_arrow()
        chunks.append(pc.take(codes_W, coded.indices))
    codes = pl.Series(name, pa.chunked_array(chunks, pa.uint8()), dtype=pl.UInt8)
    return codes.cat.to(pl.Enum(known))


def hash_column(ids: pl.Series) -> pl.Series:
    """h of ids in any order, named "h"."""
    h = _hash_texts(ids) if ids.dtype == pl.String else hash_ids(ids)
    return pl.Series("h", h, dtype=pl.UInt64)


def _hash_texts(ids: pl.Series) -> U64:
    if obstacle() is not None:
        return hash_ids(ids)
    from sto_kernels.hash_text import hash_rows

    column = ids.to_arrow().cast(pa.large_string())
    _, offsets, data = column.buffers()
    offsets_N1 = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return hash_rows(offsets_N1, np.frombuffer(data or b"", np.uint8))


def hash_runs(ids: pl.Series) -> pl.Series:
    """h of ids of which equal ones stand together, named "h": one hash a run."""
    runs = ids.rle().struct.unnest()
    lengths: NDArray[Any] = runs["len"].to_numpy()
    return pl.Series("h", np.repeat(hash_column(runs["value"]).to_numpy(), lengths), dtype=pl.UInt64)

"""Typed rows as they are held on their way to the files of their buckets.

    frame -> columns of the file's types, few distinct texts as codes of a dictionary, nothing for a column of nulls
          -> Block: the rows of each bucket side by side
    many blocks -> of one bucket, in the order of the blocks, one table

A block is put in order while it is small enough for the caches: a stable counting sort by bucket, one gather a column.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sto_engine.ingest.decode import DICTIONARY, VOCABULARY, hash_column
from sto_kernels.hashing import parts_of

_SMALL = 64 << 10  # dictionaries of so many bytes are merged, larger ones are built anew from the rows


def held_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of `schema` in the types that they are held and written in."""
    return pa.schema([(each.name, _held_type(each)) for each in schema])


def _held_type(field: pa.Field) -> pa.DataType:
    if field.name in VOCABULARY:
        return pa.dictionary(pa.int8(), pa.string())
    if field.name in DICTIONARY or (field.name == "campaign_id" and pa.types.is_string(field.type)):
        return pa.dictionary(pa.int32(), pa.string())
    return field.type


def to_columns(frame: pl.DataFrame, schema: pa.Schema) -> dict[str, pa.Array]:
    """The columns of `schema` that hold a value, in the types of `held_schema`."""
    found = {}
    for each in schema:
        values = frame[each.name]
        if values.null_count() < len(values):
            found[each.name] = _column(values, each, _held_type(each))
    return found


def _column(values: pl.Series, each: pa.Field, kind: pa.DataType) -> pa.Array:
    if each.name in VOCABULARY:
        words = VOCABULARY[each.name]
        codes = values.cast(pl.Enum(words)).to_physical().to_arrow().cast(pa.int8())
        return pa.DictionaryArray.from_arrays(codes, pa.array(words, pa.string()))
    if not pa.types.is_dictionary(kind):
        return values.to_arrow().cast(kind)
    # by way of an Enum, since equal texts of a series may lie in memory once, and would not in an Arrow column
    distinct = values.drop_nulls().unique(maintain_order=True)
    codes = values.cast(pl.Enum(distinct)).to_physical().to_arrow().cast(pa.int32())
    return pa.DictionaryArray.from_arrays(codes, distinct.to_arrow().cast(pa.string()))


def to_table(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """A frame in the types of `held_schema`."""
    return filled({name: _trimmed(values) for name, values in to_columns(frame, schema).items()}, len(frame), schema)


def filled(columns: dict[str, pa.Array], rows: int, schema: pa.Schema) -> pa.Table:
    """`columns` in the types of `held_schema`, those that are not there null."""
    kinds = held_schema(schema)
    arrays = [columns[each.name] if each.name in columns else pa.nulls(rows, each.type) for each in kinds]
    return pa.Table.from_arrays(arrays, schema=kinds)


@dataclass(frozen=True)
class Block:
    """Rows in the order of their buckets: those of the i-th are starts_K[i] to starts_K[i + 1] of every column."""

    columns: dict[str, pa.Array]
    starts_K: NDArray[np.int64]
    nbytes: int

    @property
    def rows(self) -> int:
        return int(self.starts_K[-1])


def to_block(columns: dict[str, pa.Array], buckets: int, within: range) -> Block:
    """`columns` (user_id among them) by the buckets `within` of so many `buckets`; the order inside a bucket stays."""
    ids = pl.Series(columns["user_id"])
    starts_K = np.array([0, len(ids)])
    if len(within) > 1:  # numpy sorts 16-bit keys stably by counting
        index_N = (parts_of(hash_column(ids).to_numpy(), buckets) - within.start).astype(np.uint16)
        starts_K = np.concatenate([[0], np.cumsum(np.bincount(index_N, minlength=len(within)))])
        order_N = pa.array(np.argsort(index_N, kind="stable"))
        columns = {name: values.take(order_N) for name, values in columns.items()}
    return Block(columns, starts_K.astype(np.int64), sum(_weight(values) for values in columns.values()))


def _weight(values: pa.Array) -> int:
    """Bytes of a column on its way; of text three times its own: an open file keeps what it wrote last in buffers."""
    if pa.types.is_dictionary(values.type):
        return int(values.nbytes + 2 * values.dictionary.nbytes)
    return int(values.nbytes) * (3 if pa.types.is_string(values.type) else 1)


@dataclass
class Held:
    """Blocks that wait to be written, of the columns of `schema`."""

    schema: pa.Schema
    blocks: list[Block] = field(default_factory=list)
    rows: int = 0
    nbytes: int = 0

    def add(self, block: Block) -> None:
        self.blocks.append(block)
        self.rows += block.rows
        self.nbytes += block.nbytes

    def present(self) -> list[int]:
        """Which buckets have a row, by their index."""
        counts = [np.diff(block.starts_K) for block in self.blocks]
        return np.flatnonzero(np.sum(counts, axis=0)).tolist() if counts else []

    def bucket(self, index: int) -> pa.Table:
        """The rows of the index-th bucket in the order of the blocks, in the types of `held_schema`."""
        parts = [(block, int(block.starts_K[index]), int(block.starts_K[index + 1])) for block in self.blocks]
        parts = [(block, start, end) for block, start, end in parts if end > start]
        kinds = held_schema(self.schema)
        arrays = []
        for each in kinds:
            found = [block.columns.get(each.name) for block, _, _ in parts]
            if any(values is not None for values in found):
                sizes = [(start, end - start) for _, start, end in parts]
                arrays.append(_merged(found, sizes, each.type))
            else:
                arrays.append(pa.nulls(sum(end - start for _, start, end in parts), each.type))
        return pa.Table.from_arrays(arrays, schema=kinds)


def _merged(found: Sequence[pa.Array | None], sizes: Sequence[tuple[int, int]], kind: pa.DataType) -> pa.Array:
    chunks = [
        pa.nulls(size, kind) if values is None else values.slice(start, size)
        for values, (start, size) in zip(found, sizes, strict=True)
    ]
    if not pa.types.is_dictionary(kind):
        return pa.concat_arrays(chunks)
    first = chunks[0].dictionary
    if all(chunk.dictionary.equals(first) for chunk in chunks[1:]):
        codes = pa.concat_arrays([chunk.indices for chunk in chunks])
        return _trimmed(pa.DictionaryArray.from_arrays(codes, first))
    if sum(chunk.dictionary.nbytes for chunk in chunks) <= _SMALL * len(chunks):
        unified = pa.chunked_array(chunks, kind).unify_dictionaries()
        return _trimmed(pa.concat_arrays(unified.chunks))
    plain = pa.concat_arrays([chunk.dictionary.take(chunk.indices) for chunk in chunks])
    return plain.dictionary_encode().cast(kind)


def _trimmed(values: pa.Array) -> pa.Array:
    """The same values; a dictionary has no other words then: a file holds what its rows hold."""
    if not pa.types.is_dictionary(values.type):
        return values
    used = np.zeros(len(values.dictionary) + 1, bool)
    used[values.indices.fill_null(-1).to_numpy()] = True
    used = used[:-1]
    if used.all():
        return values
    new = pa.array(np.cumsum(used) - 1, values.indices.type)
    words = values.dictionary.filter(pa.array(used))
    return pa.DictionaryArray.from_arrays(pc.take(new, values.indices), words)

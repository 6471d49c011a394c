"""Arrow columns that hold text in whatever form -> polars text, or codes of a closed vocabulary.

Text comes as string, large string, view, bytes (ClickHouse), fixed bytes, UUID, or a dictionary of these. Spaces around
it are stripped; "", "null", "None", "NaN", "\\N" are null. Bytes that are no UTF-8 are lost: null, and marked.
A dictionary is looked at once a distinct value, its rows by index.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NULL_WORDS = ("", "null", "Null", "NULL", "none", "None", "NONE", "nan", "NaN", "NAN", "\\N")
_LONGEST = max(map(len, NULL_WORDS))


@dataclass(frozen=True)
class Typed:
    """A column in its type; `lost` marks rows whose value was there and could not be read (None: no row)."""

    values: pl.Series
    lost: NDArray[np.bool_] | None = None


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values: that of a dictionary's entries, of an extension's storage."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type are text for us."""
    kind, types = value_type(kind), pa.types
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests) or _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind) or isinstance(kind, pa.UuidType)


def text_of(column: pa.ChunkedArray) -> Typed:
    """A column of text, or of integers (written as digits), as clean text."""
    parts, losses = [pl.Series([], dtype=pl.String)], []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            names, lost = _clean(chunk.dictionary)
            index = pl.Series(chunk.indices)
            parts.append(names.gather(index))
            lost = None if lost is None else lost[index.fill_null(0).to_numpy()] & index.is_not_null().to_numpy()
        else:
            names, lost = _clean(chunk)
            parts.append(names)
        losses.append(np.zeros(len(chunk), np.bool_) if lost is None else lost)
    joined = np.concatenate(losses) if losses else np.zeros(0, np.bool_)
    return Typed(pl.concat(parts, rechunk=True), joined if joined.any() else None)


def _clean(array: pa.Array) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    values, lost = _plain(array)
    values = values.str.strip_chars()
    short = values.str.len_bytes() <= _LONGEST
    if short.any():
        null = (short & values.is_in(NULL_WORDS)).fill_null(False)
        if null.any():
            values = values.set(null, None)
    return values, lost


def _plain(array: pa.Array) -> tuple[pl.Series, NDArray[np.bool_] | None]:
    """An array as text that is certainly UTF-8, and where it was none."""
    kind = array.type
    if isinstance(kind, pa.UuidType):
        return _uuids(array), None
    if pa.types.is_fixed_size_binary(kind):
        text, lost = _plain(array.cast(pa.large_binary()))
        return text.str.strip_chars_end("\0"), lost
    if pa.types.is_null(kind) or pa.types.is_integer(kind):
        return pl.Series(array.cast(pa.large_string()), dtype=pl.String), None
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            array.validate(full=True)  # what a file calls text need not be UTF-8; a cast of bytes looks for itself
        else:
            array = array.cast(pa.large_string())
        return pl.Series(array, dtype=pl.String), None
    except pa.ArrowInvalid:
        texts = [_decoded(value) for value in array.cast(pa.large_binary()).to_pylist()]
        values = pl.Series(texts, dtype=pl.String)
        return values, values.is_null().to_numpy() & array.is_valid().to_numpy(zero_copy_only=False)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _uuids(array: pa.Array) -> pl.Series:
    digits = pl.Series(array.storage.cast(pa.large_binary())).bin.encode("hex")
    return digits.str.replace(r"^(.{8})(.{4})(.{4})(.{4})(.{12})$", "${1}-${2}-${3}-${4}-${5}")


@dataclass(frozen=True)
class Coded:
    """Codes of a vocabulary (uint8, null where unknown), and the words that are none of it with their rows."""

    codes: pl.Series
    lost: NDArray[np.bool_] | None
    unknown: Counter[str]


def coded(column: pa.ChunkedArray, code_of: Callable[[str], int | None]) -> Coded:
    """Look the words of a column up, each distinct one once."""
    chunks, losses, unknown = [], [], Counter[str]()
    for chunk in column.chunks:
        words = _encoded(chunk)
        names, undecoded = _clean(words.dictionary)
        texts = names.to_list()
        codes = [None if text is None else code_of(text) for text in texts]
        chunks.append(pc.take(pa.array(codes, pa.uint8()), words.indices))
        strange = [
            at for at, text in enumerate(texts)
            if (text is not None and codes[at] is None) or (undecoded is not None and undecoded[at])
        ]  # fmt: skip
        lost = np.zeros(len(chunk), np.bool_)
        if strange:
            index = pl.Series(words.indices).cast(pl.Int64).fill_null(-1).to_numpy()
            for at in strange:
                rows = index == at
                lost |= rows
                unknown[texts[at] or "(not UTF-8)"] += int(rows.sum())
        losses.append(lost)
    codes_N = pl.Series(pa.chunked_array(chunks, pa.uint8()), dtype=pl.UInt8)
    lost_N: NDArray[Any] = np.concatenate(losses) if losses else np.zeros(0, np.bool_)
    return Coded(codes_N, lost_N if lost_N.any() else None, +unknown)


def _encoded(chunk: pa.Array) -> pa.DictionaryArray:
    if pa.types.is_dictionary(chunk.type):
        return chunk
    if pa.types.is_integer(chunk.type):
        chunk = chunk.cast(pa.large_string())
    elif not (pa.types.is_string(chunk.type) or pa.types.is_binary(chunk.type)):
        chunk = chunk.storage if isinstance(chunk.type, pa.BaseExtensionType) else chunk
        chunk = chunk.cast(pa.large_binary())
    return chunk.dictionary_encode()

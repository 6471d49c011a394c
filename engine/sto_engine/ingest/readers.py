"""Files in: enumerated by us, each opened on its own before any row is read, then read in bounded batches.

Readers of the libraries skip empty files, let the first file set the schema and fill missing columns without a word;
so each file is opened by itself, by the suffix of its name (`formats.SUFFIXES`), and must offer the required columns in
a type that can be cast without loss.
"""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing
from sto_engine.ingest.cloud import Url, expand_url, is_url
from sto_engine.ingest.columnar import arrow_schema, parquet_rows, parquet_schema, read_arrow, read_parquet
from sto_engine.ingest.columns import raw_ids, stored_ids
from sto_engine.ingest.csv_text import csv_schema, read_csv
from sto_engine.ingest.dialect import recognise, require
from sto_engine.ingest.formats import SUFFIXES, format_of, reading
from sto_engine.ingest.ndjson import ndjson_schema, read_ndjson
from sto_engine.ingest.pseudonyms import Pseudonyms
from sto_engine.tables import id_polars

__all__ = ["SUFFIXES", "count_rows", "enumerate_files", "open_schema", "read_batches", "read_ids", "read_raw_ids"]

_MARKERS = (".crc", ".tmp")


def _hidden(name: str) -> bool:
    return name.startswith((".", "_")) or name.endswith(_MARKERS)


def enumerate_files(patterns: Sequence[str]) -> list[Path]:
    """Files named by paths, folders (read recursively), globs and cloud URLs, sorted, each once.

    Hidden files and markers (_SUCCESS, .crc, .tmp) are passed over; a link that leaves its folder is refused (65); a
    pattern that names nothing is an error (66).
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        for path in expand_url(pattern, _hidden) if is_url(pattern) else _expand(pattern):
            found.setdefault(_resolved(path))
    return sorted(found)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError is what pathlib makes of a circle of links
        raise InputMissing(f"{path} cannot be read: {error}; remove the link") from error


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        hits = [Path(hit) for hit in glob.glob(pattern, recursive=True)]
        paths = [file for hit in hits for file in ([hit] if hit.is_file() else _folder(hit))]
    except OSError as error:
        raise InputMissing(f"{pattern} cannot be read: {error.strerror}; check its permissions") from error
    else:
        return _folder(path) if stat.S_ISDIR(mode) else [path]
    if not paths:
        raise InputMissing(f'no file matches "{pattern}"; expected a file, a folder of files or a glob')
    return paths


def _folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise InputMissing(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error

    root, files = folder.resolve(), []
    for base, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        files += [Path(base) / name for name in names if not _hidden(name)]
    for file in files:
        if not _resolved(file).is_relative_to(root):
            raise BadData(f"{file} is a link that leaves {folder}; copy the file into the folder or name it itself")
    if not files:
        raise InputMissing(f"folder {folder} holds no files; expected {', '.join(SUFFIXES[:4])} ...")
    return files


_SCHEMA = {"parquet": parquet_schema, "arrow": arrow_schema, "csv": csv_schema, "ndjson": ndjson_schema}


def open_schema(path: Path) -> pa.Schema:
    """The schema of a file from its footer or head; BadData (65) for a file that is not what its name says.

    Columns of CSV are bytes and those of NDJSON text, whatever they hold.
    """
    kind = format_of(path).kind
    with reading(path, opening=True):
        if (path.size() if isinstance(path, Url) else path.stat().st_size) == 0:
            raise BadData(f"{path} has 0 bytes; expected a whole {kind} file: write it again or remove it")
        return _SCHEMA[kind](path)


def read_batches(path: Path, columns: Sequence[str], words: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The named columns of a file in batches, in file order; those in `words`, of few distinct values, as dictionaries
    where the format can.

    Batches of text formats may hold a further column, `csv_text.BAD`, which marks rows that are none.
    """
    kind = format_of(path).kind
    with reading(path):
        if kind == "parquet":
            yield from read_parquet(path, columns, words)
        elif kind == "arrow":
            yield from read_arrow(path, columns)
        elif kind == "csv":
            yield from read_csv(path, columns, words)
        else:
            yield from read_ndjson(path, columns)


def count_rows(path: Path, column: str) -> int:
    """Rows of a file, those that are none included; `column` is one of its columns."""
    if format_of(path).kind == "parquet":
        with reading(path):
            return parquet_rows(path)
    return sum(batch.num_rows for batch in read_batches(path, [column]))


def read_raw_ids(path: Path, config: Config) -> Iterator[pl.Series]:
    """The column `user_id` of a file of ids, batch by batch, as integers or clean text; null where a row has none.

    Raises InputMissing (66) for a file that cannot be read, BadData (65) for one without such a column.
    """
    (file,) = enumerate_files([str(path)])
    found = open_schema(file).names
    dialect = recognise(file, "recipients", found, config.ingest.columns, config.recipients.keep)
    require(file, dialect, "recipients", found, config.ingest.columns)
    source = dialect.columns["user_id"]
    for batch in read_batches(file, [source]):
        yield raw_ids(batch[source], f"{file}: user_id", config.ingest.fold_ids).alias("user_id")


def read_ids(
    path: Path, id_type: str, config: Config, pseudonyms: Pseudonyms | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """`user_id` and `row` of a file of ids, and the counts of rows without a usable id (null here)."""
    where, from_text = f"{path}: user_id", format_of(path).is_text
    parts = [pl.Series("user_id", [], dtype=id_polars(id_type))]
    parts += [
        stored_ids(raw, id_type, where, from_text, pseudonyms).alias("user_id") for raw in read_raw_ids(path, config)
    ]
    frame = pl.concat(parts, rechunk=True).to_frame().with_row_index("row").with_columns(pl.col("row").cast(pl.UInt64))
    bad = frame["user_id"].null_count()
    return frame, {"bad_user_id": bad} if bad else {}

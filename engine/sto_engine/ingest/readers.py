"""Files in: enumerated by us, every footer checked against one contract before any row is read.

Readers of the libraries skip empty files, let the first file set the schema and fill missing columns without a word;
so each file is opened on its own, by suffix (.parquet, .csv), and must offer the required columns in a type that can be
cast without loss.
"""

import glob
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing
from sto_engine.ingest.pseudonyms import Pseudonyms
from sto_engine.tables import id_polars

BATCH_ROWS = 262_144
SUFFIXES = (".parquet", ".csv")
_MARKERS = (".crc", ".tmp")


def enumerate_files(patterns: Sequence[str]) -> list[Path]:
    """Files named by paths, folders (read recursively) and globs, sorted, each once.

    Hidden files and markers (_SUCCESS, .crc, .tmp) are passed over; a link that leaves its folder is refused (65); a
    pattern that names nothing is an error (66).
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        for path in _expand(pattern):
            found.setdefault(path.resolve())
    return sorted(found)


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
        raise InputMissing(f'no file matches "{pattern}"; expected a .parquet or .csv file, a folder of them or a glob')
    return paths


def _folder(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise InputMissing(f"{error.filename} cannot be read: {error.strerror}; check its permissions") from error

    root, files = folder.resolve(), []
    for base, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        files += [Path(base) / n for n in names if not n.startswith((".", "_")) and not n.endswith(_MARKERS)]
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise BadData(f"{file} is a link that leaves {folder}; copy the file into the folder or name it itself")
    if not files:
        raise InputMissing(f"folder {folder} holds no files; expected .parquet or .csv")
    return files


def open_schema(path: Path) -> pa.Schema:
    """The schema of a file from its footer or header; BadData (65) for a file that is not what its name says."""
    if path.suffix not in SUFFIXES:
        raise BadData(f'{path}: expected a file ending in {" or ".join(SUFFIXES)}; found "{path.suffix or path.name}"')
    try:
        if path.stat().st_size == 0:
            raise BadData(f"{path} has 0 bytes; expected a whole {path.suffix[1:]} file: write it again or remove it")
        if path.suffix == ".parquet":
            return pq.read_schema(path)
        with csv.open_csv(path, convert_options=_as_text(path)) as reader:
            return reader.schema
    except pa.ArrowInvalid as error:
        raise BadData(f"{path} is not a whole {path.suffix[1:]} file ({error}); write it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> BadData | InputMissing:
    """Arrow raises OSError both for files that may not be read and for damaged ones; only the first has an errno."""
    if error.errno is not None:
        return InputMissing(f"{path} cannot be read: {error.strerror}; check its permissions")
    return BadData(f"{path} is damaged ({error}); write it again")


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The named columns of a file in batches, in file order; CSV columns arrive as text."""
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        else:
            with csv.open_csv(path, convert_options=_as_text(path, columns)) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise BadData(f"{path} is damaged ({error}); write it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _as_text(path: Path, columns: Sequence[str] | None = None) -> csv.ConvertOptions:
    """Every column as text: ids must not pass through floats, nor times through a guess."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline().rstrip("\r\n")
    names = [name.strip('"') for name in header.split(",")]
    return csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        include_columns=list(columns) if columns is not None else None,
    )


def require(path: Path, schema: pa.Schema, columns: Mapping[str, str], required: Sequence[str]) -> None:
    """BadData (65) for a required column that the file lacks; `columns` maps our names to the file's."""
    missing = [columns.get(name, name) for name in required if columns.get(name, name) not in schema.names]
    if missing:
        raise BadData(
            f"{path} lacks the column {', '.join(missing)}; found {', '.join(schema.names)}; "
            "add it to the export or map its name in [ingest.columns]"
        )


def read_ids(
    path: Path, id_type: str, config: Config, pseudonyms: Pseudonyms | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """`user_id` and `row` of a file of ids, and the counts of rows without a usable id (null here)."""
    from sto_engine.ingest.columns import stored_ids

    (file,) = enumerate_files([str(path)])
    source = config.ingest.columns.get("user_id", "user_id")
    require(file, open_schema(file), config.ingest.columns, ["user_id"])
    parts = [pl.Series(dtype=id_polars(id_type))]
    where = f"{file}: user_id"
    parts += [stored_ids(pl.Series(t[source]), id_type, where, pseudonyms) for t in read_batches(file, [source])]
    ids = pl.concat([part.alias("user_id") for part in parts], rechunk=True)
    frame = ids.to_frame().with_row_index("row").with_columns(pl.col("row").cast(pl.UInt64))
    bad = frame["user_id"].null_count()
    return frame, {"bad_user_id": bad} if bad else {}

"""The rows of a few people in a store: in one bucket file, row group by row group, and in the kept payloads.

Only the ids are read of row groups without such a row; every page checksum is verified.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sto_engine.errors import BadData, TryLater
from sto_engine.ingest.decode import without_young
from sto_engine.ingest.store import Store

_USER = "$.user_id"


@contextmanager
def reading(store: Store) -> Iterator[None]:
    """A file that is gone: TryLater (75) where another command changed the store meanwhile, else BadData (65)."""
    try:
        yield
    except FileNotFoundError as error:
        if Store.open(store.path).manifest != store.manifest:
            raise TryLater(f"store {store.path} was changed while it was read; run the command again") from error
        raise BadData(f"store file {error.filename} is gone; restore it or ingest anew") from error


def find_rows(path: Path, ids: pl.Series, columns: Sequence[str]) -> pa.Table:
    """Rows of the bucket file `path` whose user_id is one of `ids` (of the store's type), in the columns asked for.

    Columns that are younger than the file are left out. Raises FileNotFoundError for a file that is not there, BadData
    (65) for a damaged one.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = without_young(columns, file.schema_arrow.names)
            schema = pa.schema([file.schema_arrow.field(name) for name in names])
            return pa.concat_tables([schema.empty_table(), *_hits(file, ids.to_arrow(), names)])
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError, KeyError) as error:
        raise BadData(f"store file {path} is damaged ({error}); restore it or ingest anew") from error


def _hits(file: pq.ParquetFile, ids: pa.Array, columns: list[str]) -> Iterator[pa.Table]:
    for group in range(file.num_row_groups):
        users = file.read_row_group(group, ["user_id"], use_threads=False)["user_id"]
        mine = pc.is_in(users, value_set=ids.cast(users.type))
        if pc.any(mine).as_py():
            yield file.read_row_group(group, columns, use_threads=False).filter(mine)


def quarantine_files(root: Path) -> list[Path]:
    """Files of quarantined rows of the store at `root`, in order."""
    return sorted(root.glob("quarantine/*.parquet"))


def payload_users(path: Path, texts: pl.Series) -> pl.Series:
    """Which of the user ids `texts` the kept payload of each row of a quarantine file names, as text; null for none.

    Raises FileNotFoundError for a file that is not there, BadData (65) for a damaged one.
    """
    parts = [pl.Series([], dtype=pl.String)]
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                payload = pl.Series(file.read_row_group(group, ["payload"], use_threads=False)["payload"])
                named = payload.cast(pl.String).str.json_path_match(_USER)
                parts.append(named.set(~named.is_in(texts.implode()), None))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError, KeyError) as error:
        raise BadData(f"quarantine file {path} is damaged ({error}); remove it") from error
    return pl.concat(parts)

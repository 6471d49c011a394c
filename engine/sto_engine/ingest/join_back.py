"""`pseudonyms`: a table of the sender's ids beside their pseudonyms, to join assignments back to people by."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, UsageError
from sto_engine.files import atomic_path, write_parquet
from sto_engine.ingest.pseudonyms import Pseudonyms, load_pseudonyms
from sto_engine.ingest.readers import read_raw_ids
from sto_engine.tables import id_arrow

_ROW_GROUP = 131_072


def write_pseudonyms(ids: Path, out: Path, config: Config) -> dict[str, Any]:
    """Write `user_id` (text) and `pseudonym` of each row of the file `ids` that has an id; returns the counts.

    Raises ConfigError (78) where no key is configured, UsageError (2) for an `out` that is neither Parquet nor CSV, and
    what readers raise for `ids`.
    """
    own = load_pseudonyms(config)
    if own is None:
        raise ConfigError("pseudonyms need a key; found none; name it in ingest.pseudonym_key_file")
    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f'--out must end in .parquet or .csv; found "{out.name}"')
    table, rows = _mapped(ids, own, config)
    if out.suffix == ".parquet":
        write_parquet(out, table, _ROW_GROUP, [])
    else:
        with atomic_path(out) as temporary:
            pl.DataFrame(table).write_csv(temporary)
    return {"out": str(out), "rows": table.num_rows, "without_id": rows - table.num_rows}


def _mapped(ids: Path, own: Pseudonyms, config: Config) -> tuple[pa.Table, int]:
    """The table, and how many rows the file has."""
    schema = pa.schema([("user_id", pa.string()), ("pseudonym", id_arrow(own.id_type))])
    parts, rows = [schema.empty_table()], 0
    for raw in read_raw_ids(ids, config):
        frame = pl.DataFrame([raw, own.of(raw, f"{ids}: user_id").alias("pseudonym")]).drop_nulls()
        rows += len(raw)
        parts.append(frame.with_columns(pl.col("user_id").cast(pl.String)).to_arrow().cast(schema))
    if not rows:
        raise BadData(f"{ids} has no row; expected ids in the column user_id")
    return pa.concat_tables(parts), rows

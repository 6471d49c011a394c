"""Shards: Parquet with page checksums; staged rows as Arrow IPC. Both under names of the writer's own (manifest)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from sto_engine.errors import BadData
from sto_engine.files import own_path, put_parquet, sha256_file

DICTIONARY = [
    *("provider", "arm", "reason", "channel", "campaign_id"),
    *("slot", "bundle_id", "preferred_slot", "urgency", "machine"),
]


def write_shard(path: Path, table: pa.Table, row_group: int, arrow_types: bool = False) -> str:
    """Write `table` to `path`; returns the sha256 of the file. `arrow_types` as in `files.write_parquet`."""
    with own_path(path):
        put_parquet(path, table, row_group, DICTIONARY, arrow_types)
    return sha256_file(path)


def write_staged(path: Path, table: pa.Table) -> str:
    """Write staged rows as Arrow IPC; returns the sha256 of the file."""
    with own_path(path), pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return sha256_file(path)


def read_staged(path: Path, sha256: str | None) -> pa.Table:
    """Staged rows, after their sha256 (None: seen before); BadData (65) where they are not what phase A wrote."""
    if sha256 is not None and sha256_file(path) != sha256:
        raise BadData(f"staged rows {path} do not match their record; delete the run folder and score again")
    with pa.OSFile(str(path), "rb") as source:
        return pa.ipc.open_file(source).read_all()

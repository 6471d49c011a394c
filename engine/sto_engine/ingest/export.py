"""`export-user`: all that a store holds of one person, for him to read; nothing of anyone else.

Only the files of his bucket are opened, and of their row groups without him only the ids are read.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.config import Config
from sto_engine.ingest.find import find_rows, payload_users, quarantine_files, reading
from sto_engine.ingest.ids import named_ids
from sto_engine.ingest.store import Store
from sto_engine.tables import events_schema, recipients_schema

Row = dict[str, Any]


def export_user(root: Path, text: str, config: Config) -> dict[str, Any]:
    """Events of every generation, recipients' rows and kept payloads of the person named, as plain JSON values.

    Events are in the order of time; rows that are stored twice are told twice; times are ISO 8601 in UTC. `found` is
    False, and the lists are empty, for someone whom the store does not hold. Raises InputMissing (66) where there is no
    store, UsageError (2) for a text that is no id of it, TryLater (75) where it changed meanwhile.
    """
    store = Store.open(root)
    ((bucket, ids),) = named_ids([text], None, store, config).by_bucket.items()
    snapshot = store.manifest["recipients"]
    keep = dict.fromkeys(snapshot["keep"], pa.string()) if snapshot else {}
    with reading(store):
        events = [
            row
            for generation in store.manifest["generations"]
            for row in _rows(store, generation, bucket, ids, events_schema(store.id_type, store.campaign_type).names)
        ]
        names = recipients_schema(store.id_type, keep).names
        recipients = _rows(store, snapshot, bucket, ids, names) if snapshot else []
        quarantine = _payloads(root, str(ids[0]))
    return {
        "store": str(root),
        "user_id": text,
        "stored_as": ids[0],
        "found": bool(events or recipients or quarantine),
        "events": sorted(events, key=lambda row: (row["event_ts"], row["generation"])),
        "recipients": recipients,
        "quarantine": quarantine,
    }


def _rows(store: Store, entry: dict[str, Any], bucket: int, ids: pl.Series, names: list[str]) -> list[Row]:
    """His rows of a generation or the snapshot, each with the name of where it lies."""
    paths = [store.path / file["path"] for file in entry["files"] if file["bucket"] == bucket]
    tables = [find_rows(path, ids, names) for path in paths]
    return [
        {"generation": entry["name"], **{name: _plain(row.get(name)) for name in names}}
        for table in tables
        for row in table.to_pylist()
    ]


def _plain(value: object) -> object:
    """A value as JSON has it; what is no number there (NaN, infinities) is null."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _payloads(root: Path, user: str) -> list[Row]:
    """Quarantined rows whose kept payload names the user."""
    found = []
    for path in quarantine_files(root):
        mine = payload_users(path, pl.Series([user])).is_not_null()
        if mine.any():
            rows = pq.read_table(path, page_checksum_verification=True).filter(mine.to_arrow())
            found += [{**row, "payload": json.loads(row["payload"])} for row in rows.to_pylist()]
    return found

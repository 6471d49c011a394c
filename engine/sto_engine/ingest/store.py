"""The event store: hash buckets of append-only generations behind one manifest, and a snapshot of recipients.

    store/manifest.json                       the only thing readers trust; swapped atomically, written last
    store/gen-000001/bucket-0007-0000.parquet events of one ingest, unsorted
    store/recipients-000001/bucket-0007-0000.parquet
    store/quarantine/gen-000001-0000.parquet

Folders that the manifest does not name belong to an ingest that did not finish; the next ingest removes them.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.errors import BadData, InputMissing
from sto_engine.files import canonical_json, sha256_file
from sto_engine.tables import (
    CAMPAIGN_ENUM,
    DEVICE_ENUM,
    EVENT_ENUM,
    events_schema,
    hash_ids,
    id_polars,
    recipients_schema,
)
from sto_kernels.hashing import HASH_NAME, HASH_VERSION

STORE_VERSION = 1
_EVENT_ORDER = ["h", "user_id", "campaign_id", "event_ts", "event_type"]


@dataclass(frozen=True)
class Store:
    """A committed state of a store: what it names never changes while it is open."""

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Store":
        """The store at `path`; InputMissing (66) where there is none, BadData (65) for a torn or foreign manifest."""
        file = path / "manifest.json"
        try:
            manifest = json.loads(file.read_bytes())
        except FileNotFoundError as error:
            raise InputMissing(
                f"{path} holds no store; make one with: sto-engine ingest EVENTS --store {path}"
            ) from error
        except OSError as error:
            raise InputMissing(f"store {path} cannot be read: {error.strerror}; check its permissions") from error
        except ValueError as error:
            raise BadData(f"store manifest {file} is not JSON ({error}); restore it from a copy") from error
        found = manifest.get("store_version") if isinstance(manifest, dict) else None
        if found != STORE_VERSION:
            raise BadData(f"store {path} must be of version {STORE_VERSION}; found {found}; ingest the events anew")
        if manifest["hash"] != [HASH_NAME, HASH_VERSION]:
            raise BadData(f"store {path} must be hashed by {HASH_NAME}/{HASH_VERSION}; found {manifest['hash']}")
        return cls(path, manifest)

    @property
    def id_type(self) -> str:
        return str(self.manifest["id_type"])

    @property
    def campaign_type(self) -> str:
        return str(self.manifest["campaign_type"])

    @property
    def buckets(self) -> int:
        return int(self.manifest["buckets"])

    @property
    def newest_event_ms(self) -> int | None:
        newest = self.manifest["newest_event_ms"]
        return None if newest is None else int(newest)

    @property
    def recipients_quarantined(self) -> dict[str, int]:
        """Rows of the recipients snapshot without a usable id, by rule."""
        snapshot = self.manifest["recipients"]
        return dict(snapshot["quarantined"]) if snapshot else {}

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the content: the hashes of every generation and of the snapshot."""

        def short(value: object) -> str:
            return hashlib.sha256(canonical_json(value)).hexdigest()

        snapshot = self.manifest["recipients"]
        return {
            "generations": [short(generation) for generation in self.manifest["generations"]],
            "recipients": short(snapshot) if snapshot else None,
            "id_type": self.id_type,
            "buckets": self.buckets,
        }

    def read_events(self, bucket: int, before_ms: int | None = None, from_ms: int | None = None) -> pl.DataFrame:
        """Events of a bucket in [from_ms, before_ms), ordered by (h, user_id, campaign_id, event_ts, type).

        Rows equal in every key column are one row. Columns: h and the whole event schema, null where a file lacked it.
        """
        files = [file for generation in self.manifest["generations"] for file in generation["files"]]
        schema = events_schema(self.id_type, self.campaign_type)
        frame = self._read(files, bucket, schema)
        time = pl.col("event_ts").dt.epoch("ms")
        if before_ms is not None:
            frame = frame.filter(time < before_ms)
        if from_ms is not None:
            frame = frame.filter(time >= from_ms)
        frame = frame.with_columns(
            pl.col("event_type").cast(EVENT_ENUM),
            pl.col("device_type").cast(DEVICE_ENUM),
            pl.col("campaign_type").cast(CAMPAIGN_ENUM),
        )
        frame = frame.sort("h", "user_id", "campaign_id", "event_ts", "event_type", maintain_order=True)
        return frame.unique(_EVENT_ORDER, keep="first", maintain_order=True)

    def read_recipients(self, bucket: int) -> pl.DataFrame | None:
        """Recipients of a bucket ordered by (h, user_id, row), duplicates included; None without a snapshot."""
        snapshot = self.manifest["recipients"]
        if snapshot is None:
            return None
        keep = {name: pa.string() for name in snapshot["keep"]}
        frame = self._read(snapshot["files"], bucket, recipients_schema(self.id_type, keep))
        return frame.sort("h", "user_id", "row")

    def verify(self, bucket: int) -> None:
        """Hash the files of a bucket; BadData (65) names one that is not what was committed."""
        for file in self._files(bucket):
            path = self.path / file["path"]
            try:
                found = sha256_file(path)
            except OSError as error:
                raise BadData(f"store file {path} is gone or unreadable ({error.strerror}); ingest anew") from error
            if found != file["sha256"]:
                raise BadData(f"store file {path} must have sha256 {file['sha256']}; found {found}; ingest anew")

    def _files(self, bucket: int) -> list[dict[str, Any]]:
        files = [file for generation in self.manifest["generations"] for file in generation["files"]]
        files += self.manifest["recipients"]["files"] if self.manifest["recipients"] else []
        return [file for file in files if file["bucket"] == bucket]

    def _read(self, files: list[dict[str, Any]], bucket: int, schema: pa.Schema) -> pl.DataFrame:
        tables = [schema.empty_table()]
        for file in files:
            if file["bucket"] == bucket:
                tables.append(self._read_file(self.path / file["path"], file["rows"]).cast(schema))
        frame = pl.from_arrow(pa.concat_tables(tables))
        assert isinstance(frame, pl.DataFrame)
        frame = frame.with_columns(pl.col("user_id").cast(id_polars(self.id_type)))
        return frame.with_columns(h=pl.Series(hash_ids(frame["user_id"]), dtype=pl.UInt64))

    def _read_file(self, path: Path, rows: int) -> pa.Table:
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except (OSError, pa.ArrowInvalid) as error:
            raise BadData(f"store file {path} is gone or damaged ({error}); restore it or ingest anew") from error
        if table.num_rows != rows:
            raise BadData(f"store file {path} must hold {rows} rows; found {table.num_rows}; restore it or ingest anew")
        return table

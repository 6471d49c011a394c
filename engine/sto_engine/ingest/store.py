"""The event store: hash buckets of append-only generations behind one manifest, and a snapshot of recipients.

    store/manifest.json                       the only thing readers trust; swapped atomically, written last
    store/gen-000001/bucket-0007-0000.parquet events of one ingest, unsorted; of a compaction, in order, one a bucket
    store/recipients-000001/bucket-0007-0000.parquet
    store/quarantine/gen-000001-0000.parquet

Folders that the manifest does not name belong to an ingest or a compaction that did not finish; the next one removes
them, and folders of tries inside of those that it names (see `attempts`).
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.errors import BadData, InputMissing, TryLater
from sto_engine.files import canonical_json, footer_crc, sha256_file
from sto_engine.ingest.attempts import remove_attempts
from sto_engine.ingest.decode import hash_column, hash_runs, read_files
from sto_engine.ingest.erased import finish_erasure
from sto_engine.ingest.manifest import fault_of
from sto_engine.ingest.order import KEYS, in_order
from sto_engine.tables import events_schema, recipients_schema
from sto_kernels.hashing import HASH_NAME, HASH_VERSION

STORE_VERSION = 1


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
        fault = fault_of(manifest)
        if fault is not None:
            raise BadData(f"store manifest {file} is not whole: {fault} is missing or wrong; restore it from a copy")
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

    def read_events(
        self,
        bucket: int,
        before_ms: int | None = None,
        from_ms: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Events of a bucket in [from_ms, before_ms), ordered by (h, user_id, campaign_id, event_ts, type).

        Rows equal in every key column are one row. Columns: those of `columns` (default: the whole event schema, null
        where a file lacked it), then h. A compacted bucket is read as it lies: no sort, nothing but what was asked for.
        """
        schema = self.schema("events")
        wanted = schema.names if columns is None else list(columns)
        files = [file for file in self.files("events", bucket) if _may_hold(file, from_ms, before_ms)]
        sorted_already = len(files) == 1 and files[0]["path"].partition("/")[0] in self._compacted
        needed = {*wanted, "user_id", "event_ts"} | (set() if sorted_already else set(KEYS))
        frame = self._read(files, pa.schema(field for field in schema if field.name in needed))
        frame = _between(frame, from_ms, before_ms)
        if sorted_already:
            return frame.with_columns(hash_runs(frame["user_id"])).select(*wanted, "h")
        return in_order(frame.with_columns(hash_column(frame["user_id"]))).select(*wanted, "h")

    def read_recipients(self, bucket: int) -> pl.DataFrame | None:
        """Recipients of a bucket ordered by (h, user_id, row), duplicates included; None without a snapshot."""
        snapshot = self.manifest["recipients"]
        if snapshot is None:
            return None
        frame = self._read(self.files("recipients", bucket), self.schema("recipients"))
        frame = frame.with_columns(hash_column(frame["user_id"]))
        # files of one flush lie in this order already
        h_U = frame["h"].to_numpy()
        rising = bool((h_U[1:] > h_U[:-1]).all())
        return frame if rising else frame.sort("h", "user_id", "row")

    def verify(self, bucket: int, tables: Sequence[str] = ("events", "recipients")) -> None:
        """Hash the files of a bucket; BadData (65) names one that is not what was committed."""
        for file in [file for table in tables for file in self.files(table, bucket)]:
            path = self.path / file["path"]
            try:
                found = sha256_file(path)
            except OSError as error:
                raise BadData(f"store file {path} is gone or unreadable ({error.strerror}); ingest anew") from error
            if found != file["sha256"]:
                raise BadData(f"store file {path} must have sha256 {file['sha256']}; found {found}; ingest anew")

    def files(self, table: str, bucket: int) -> list[dict[str, Any]]:
        """What the manifest says of the files of a bucket; `table` is "events" or "recipients"."""
        return self._by_bucket[table].get(bucket, [])

    @cached_property
    def _by_bucket(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """Files of each table by bucket, in the order of the manifest: to look through all of them for each of 8,192
        buckets would take the square of their number."""
        snapshot = self.manifest["recipients"]
        found: dict[str, dict[int, list[dict[str, Any]]]] = {"events": {}, "recipients": {}}
        for table, parts in (("events", self.manifest["generations"]), ("recipients", [snapshot] if snapshot else [])):
            for file in (file for part in parts for file in part["files"]):
                found[table].setdefault(file["bucket"], []).append(file)
        return found

    @cached_property
    def _compacted(self) -> frozenset[str]:
        """Names of the generations whose files lie in order."""
        return frozenset(g["name"] for g in self.manifest["generations"] if g.get("compacted"))

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: what can be made again from the manifest is made there."""
        return {"path": self.path, "manifest": self.manifest}

    def schema(self, table: str) -> pa.Schema:
        """The columns of a table of this store; recipients must have been ingested for theirs."""
        if table == "events":
            return events_schema(self.id_type, self.campaign_type)
        return recipients_schema(self.id_type, dict.fromkeys(self.manifest["recipients"]["keep"], pa.string()))

    def _read(self, files: list[dict[str, Any]], schema: pa.Schema) -> pl.DataFrame:
        try:
            for file in files:
                self._check_footer(file)
            return read_files([(self.path / file["path"], file["rows"]) for file in files], schema)
        except FileNotFoundError as error:
            if Store.open(self.path).manifest != self.manifest:
                raise TryLater(f"store {self.path} was changed while it was read; run the command again") from error
            raise BadData(f"store file {error.filename} is gone; restore it or ingest anew") from error

    def _check_footer(self, file: Mapping[str, Any]) -> None:
        """A damaged footer may end the process inside of pyarrow, or rename a column; older stores cannot tell."""
        path = self.path / file["path"]
        if "footer_crc" in file and footer_crc(path) != file["footer_crc"]:
            raise BadData(
                f"store file {path} is damaged (its footer is not the one written); restore it or ingest anew"
            )


def _may_hold(file: Mapping[str, Any], from_ms: int | None, before_ms: int | None) -> bool:
    """Whether a file may have events in [from_ms, before_ms); files of older versions do not say what they span."""
    if "min_ts" not in file:
        return True
    too_old = from_ms is not None and file["max_ts"] < from_ms
    return not too_old and (before_ms is None or file["min_ts"] < before_ms)


def _between(frame: pl.DataFrame, from_ms: int | None, before_ms: int | None) -> pl.DataFrame:
    """Rows with event_ts in [from_ms, before_ms); the frame itself where that is all of them."""
    time_N = frame["event_ts"].to_physical().to_numpy()
    low = -(2**63) if from_ms is None else from_ms
    high = 2**63 - 1 if before_ms is None else before_ms
    if not len(frame) or (time_N.min() >= low and time_N.max() < high):
        return frame
    return frame.filter(pl.Series((time_N >= low) & (time_N < high)))


def next_generation(manifest: dict[str, Any]) -> str:
    """A name that no generation of the store has had: a reader of an older state must not find other rows under it."""
    names = [name for g in manifest["generations"] for name in (g["name"], *g.get("merged", []))]
    return f"gen-{max((int(name.rpartition('-')[2]) for name in names), default=0) + 1:06d}"


def remove_leftovers(root: Path) -> None:
    """Folders that no committed manifest names: what a killed or refused ingest or compaction left, or an erasure; and
    what a late try of a machine that was given up wrote into one that is named. The caller holds the store's lock.

    The quarantine of a merged generation stays: its rows are nowhere else.
    """
    manifest = Store.open(root).manifest if (root / "manifest.json").exists() else None
    named = {g["name"] for g in manifest["generations"]} if manifest else set()
    merged = {name for g in manifest["generations"] for name in g.get("merged", [])} if manifest else set()
    if manifest and manifest["recipients"]:
        named.add(manifest["recipients"]["name"])
        merged |= set(manifest["recipients"].get("merged", []))
    for folder in [*root.glob("gen-*"), *root.glob("recipients-*")]:
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            remove_attempts(folder)
    for file in [*root.glob("quarantine/*.parquet"), *root.glob("**/.*.tmp")]:
        if file.suffix == ".tmp" or file.name.rpartition("-")[0] not in named | merged:
            file.unlink(missing_ok=True)
    if manifest:
        finish_erasure(root, manifest)

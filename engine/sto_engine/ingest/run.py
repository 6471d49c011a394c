"""`ingest`: files in, one committed generation out, or nothing.

Every file is opened and its columns are checked before the first row is read; the manifest is swapped last, so a
reader sees the store before or after an ingest and nothing between.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, UsageError
from sto_engine.files import canonical_json, folder_lock, sha256_file, write_atomic
from sto_engine.ingest.columns import infer_id_type, typed_ids, typed_time, typed_value
from sto_engine.ingest.readers import enumerate_files, open_schema, read_batches, require
from sto_engine.ingest.rows import Sorted, sort_events, sort_recipients
from sto_engine.ingest.store import STORE_VERSION, Store, next_generation, remove_leftovers
from sto_engine.ingest.write import BucketWriter, Quarantine, new_folder
from sto_engine.progress import Progress
from sto_engine.tables import EVENTS_REQUIRED, events_schema, recipients_schema
from sto_kernels.hashing import HASH_NAME, HASH_VERSION

USERS_PER_BUCKET, DEFAULT_BUCKETS, MAX_BUCKETS = 80_000, 16, 8192


@dataclass
class IngestReport:
    """What one ingest did; counts are rows unless the name says files."""

    files: int = 0
    skipped_files: list[str] = field(default_factory=list)
    empty_files: list[str] = field(default_factory=list)
    rows: int = 0
    events: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    nulled: dict[str, int] = field(default_factory=dict)
    recipients: int = 0
    recipients_quarantined: dict[str, int] = field(default_factory=dict)
    buckets: int = 0
    generation: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ingest(
    paths: Sequence[str], store: Path, recipients: Path | None, config: Config, progress: Progress
) -> IngestReport:
    """Append the events of `paths` (files, folders, globs) to `store` and replace its recipients snapshot.

    Raises InputMissing (66) for what cannot be read, BadData (65) for files that break the contract or too many bad
    rows, TryLater (75) while another ingest holds the store. Nothing is committed unless everything is.
    """
    if not paths and recipients is None:
        raise UsageError("nothing to ingest: name event files, folders or globs, or --recipients FILE")
    if config.store.retention_days is not None:
        raise ConfigError("store.retention_days is not available in this version; remove it from the configuration")
    events = [(path, open_schema(path)) for path in enumerate_files(paths)] if paths else []
    for path, schema in events:
        require(path, schema, config.ingest.columns, EVENTS_REQUIRED)
    people = _recipients_files(recipients, config)
    new_folder(store)
    with folder_lock(store, "store"):
        return _Ingest(store, config, progress, _existing(store)).run(events, people)


def _recipients_files(recipients: Path | None, config: Config) -> list[tuple[Path, pa.Schema]]:
    if recipients is None:
        return []
    files = [(path, open_schema(path)) for path in enumerate_files([str(recipients)])]
    for path, schema in files:
        require(path, schema, config.ingest.columns, ("user_id",))
    return files


def _existing(store: Path) -> Store | None:
    return Store.open(store) if (store / "manifest.json").exists() else None


class _Ingest:
    """One ingest under the store's lock."""

    def __init__(self, root: Path, config: Config, progress: Progress, old: Store | None) -> None:
        self.root, self.config, self.progress = root, config, progress
        self.manifest: dict[str, Any] = dict(old.manifest) if old else {"generations": [], "recipients": None}
        self.names = config.ingest.columns
        self.report = IngestReport()
        remove_leftovers(self.root)

    def run(self, events: list[tuple[Path, pa.Schema]], people: list[tuple[Path, pa.Schema]]) -> IngestReport:
        hashes = {path: sha256_file(path) for path, _ in events}
        fresh = self._fresh(events, hashes)
        self._fix_types((fresh or events) + people, people)
        try:
            snapshot = self._snapshot(people) if people else self.manifest["recipients"]
            generation = self._generation(fresh, hashes) if fresh else None
        except BaseException:
            remove_leftovers(self.root)
            raise
        generations = [*self.manifest["generations"], *([generation] if generation else [])]
        self.manifest.update(
            store_version=STORE_VERSION,
            hash=[HASH_NAME, HASH_VERSION],
            generations=generations,
            recipients=snapshot,
            newest_event_ms=max((g["newest_event_ms"] for g in generations if g["rows"]), default=None),
        )
        write_atomic(self.root / "manifest.json", canonical_json(self.manifest))
        remove_leftovers(self.root)
        self.report.buckets = self.manifest["buckets"]
        return self.report

    def _fresh(self, events: list[tuple[Path, pa.Schema]], hashes: dict[Path, str]) -> list[tuple[Path, pa.Schema]]:
        """Files whose content is not in the store yet, each content once."""
        known = {source["sha256"] for g in self.manifest["generations"] for source in g["sources"]}
        fresh = []
        for path, schema in events:
            if hashes[path] in known:
                self.report.skipped_files.append(path.name)
                self.progress.info("file_skipped", file=path.name, why="already ingested")
            else:
                known.add(hashes[path])
                fresh.append((path, schema))
        return fresh

    def _fix_types(self, files: list[tuple[Path, pa.Schema]], people: list[tuple[Path, pa.Schema]]) -> None:
        """Id types and bucket count: the store's, else the config's, else inferred from the first file and kept."""
        asked = self.config.ingest.id_type
        if "id_type" not in self.manifest:
            self.manifest["id_type"] = asked or self._infer(files[0], "user_id")
            self.manifest["buckets"] = self.config.store.buckets or self._default_buckets(people)
        if asked and asked != self.manifest["id_type"]:
            raise BadData(f"ingest.id_type must be {self.manifest['id_type']}, as in {self.root}; found {asked}")
        if self.config.store.buckets not in (None, self.manifest["buckets"]):
            raise BadData(
                f"store.buckets must be {self.manifest['buckets']}, as {self.root} was made; "
                f"found {self.config.store.buckets}"
            )
        for path, schema in files:
            if "campaign_id" in self.names or "campaign_id" in schema.names:
                self.manifest.setdefault("campaign_type", self._infer((path, schema), "campaign_id"))
        if "campaign_type" not in self.manifest:
            self.manifest["campaign_type"] = "string"

    def _infer(self, file: tuple[Path, pa.Schema], column: str) -> str:
        path, schema = file
        source = self.names.get(column, column)
        if source not in schema.names:
            return "string"
        empty = pl.Series(dtype=pl.String)
        return infer_id_type(
            schema, source, lambda: next((pl.Series(t[source]) for t in read_batches(path, [source])), empty), str(path)
        )

    def _default_buckets(self, people: list[tuple[Path, pa.Schema]]) -> int:
        if not people:
            return DEFAULT_BUCKETS
        rows = sum(
            batch.num_rows for path, _ in people for batch in read_batches(path, [self.names.get("user_id", "user_id")])
        )
        buckets = 1
        while buckets * USERS_PER_BUCKET < rows and buckets < MAX_BUCKETS:
            buckets *= 2
        return buckets

    def _generation(self, files: list[tuple[Path, pa.Schema]], hashes: dict[Path, str]) -> dict[str, Any]:
        name = next_generation(self.manifest)
        schema = events_schema(self.manifest["id_type"], self.manifest["campaign_type"])
        writer = BucketWriter(self.root, name, self.manifest["buckets"], schema)
        quarantine = Quarantine(self.root, name, self.config.ingest.quarantine_payload)
        newest: list[int] = []
        self.progress.start("ingest", len(files))
        for path, columns in files:
            for good in self._sorted(path, columns, schema, quarantine, self.report):
                writer.add(good)
                newest += [good["event_ts"].dt.epoch("ms").max()] if len(good) else []  # type: ignore[list-item]
            self.progress.advance("ingest")
        writer.flush()
        self.report.quarantined = dict(sorted(quarantine.counts.items()))
        self._check_share(quarantine.counts.total(), self.report.rows, self.report.quarantined)
        self.report.files, self.report.events, self.report.generation = len(files), writer.rows, name
        sources = [{"name": path.name, "sha256": hashes[path]} for path, _ in files]
        newest_ms = max(newest, default=None)
        return {
            "name": name,
            "rows": writer.rows,
            "files": writer.files,
            "sources": sources,
            "newest_event_ms": newest_ms,
        }

    def _snapshot(self, people: list[tuple[Path, pa.Schema]]) -> dict[str, Any]:
        old = self.manifest["recipients"]
        name = f"recipients-{(old['number'] if old else 0) + 1:06d}"
        keep = dict.fromkeys(self.config.recipients.keep, pa.string())
        schema = recipients_schema(self.manifest["id_type"], keep)
        writer = BucketWriter(self.root, name, self.manifest["buckets"], schema)
        quarantine, report = Quarantine(self.root, name, self.config.ingest.quarantine_payload), IngestReport()
        for path, columns in people:
            for good in self._sorted(path, columns, schema, quarantine, report):
                writer.add(good)
        writer.flush()
        if not writer.rows:
            raise BadData(f"recipients {people[0][0]} hold no row with a user_id; found {report.rows} rows")
        self._check_share(quarantine.counts.total(), report.rows, dict(quarantine.counts))
        self.report.nulled.update(report.nulled)
        self.report.recipients = writer.rows
        self.report.recipients_quarantined = dict(quarantine.counts)
        number = int(name.rpartition("-")[2])
        return {
            "name": name,
            "number": number,
            "files": writer.files,
            "rows": writer.rows,
            "keep": list(keep),
            "quarantined": dict(quarantine.counts),
        }

    def _sorted(
        self, path: Path, columns: pa.Schema, schema: pa.Schema, quarantine: Quarantine, report: IngestReport
    ) -> Iterator[pl.DataFrame]:
        """Good rows of one file, batch by batch; bad rows go to quarantine."""
        wanted = {name: self.names.get(name, name) for name in schema.names if name != "row"}
        present = {name: source for name, source in wanted.items() if source in columns.names}
        first = report.rows
        for batch in read_batches(path, list(present.values())):
            raw = {name: pl.Series(batch[source]) for name, source in present.items()}
            rows = pl.int_range(report.rows, report.rows + batch.num_rows, dtype=pl.UInt64, eager=True)
            result = self._apply_rules(self._typed(raw, rows, schema, path), schema, path)
            quarantine.add(result.bad, path)
            report.nulled = dict(Counter(report.nulled) + result.nulled)
            report.rows += batch.num_rows
            yield result.good
        if report.rows == first:
            report.empty_files.append(path.name)
            self.progress.warn("empty_file", file=path.name)

    def _apply_rules(self, frame: pl.DataFrame, schema: pa.Schema, path: Path) -> Sorted:
        result = sort_events(frame) if "event_ts" in schema.names else sort_recipients(frame)
        if len(result.bad) and self.config.ingest.on_bad_row == "fail":
            row = result.bad.row(0, named=True)
            raise BadData(
                f"{path} row {row['row']}: {row['rule']} in column {row['column']}; {len(result.bad)} such rows in the "
                'batch; fix the export or set ingest.on_bad_row = "quarantine"'
            )
        return result

    def _typed(self, raw: dict[str, pl.Series], rows: pl.Series, schema: pa.Schema, path: Path) -> pl.DataFrame:
        """Every column of `schema` in its type; columns that the file lacks are null."""
        ids = {"user_id": self.manifest["id_type"], "campaign_id": self.manifest["campaign_type"]}
        out: dict[str, pl.Series] = {}
        for field_ in schema:
            name, where = field_.name, f"{path}: {field_.name}"
            values = raw.get(name, pl.Series([None] * len(rows), dtype=pl.Null))
            if name == "row":
                out[name] = rows
            elif name in ids:
                out[name] = typed_ids(values, ids[name], where)
            elif pa.types.is_timestamp(field_.type):
                out[name] = typed_time(values, self.config.ingest.naive_timestamps, where)
            else:
                out[name] = typed_value(values, field_.type, where)
        return pl.DataFrame({**out, "row": rows})

    def _check_share(self, bad: int, rows: int, counts: dict[str, int]) -> None:
        if rows and bad / rows > self.config.ingest.max_bad_share:
            raise BadData(
                f"{bad} of {rows} rows break a rule ({counts}), more than ingest.max_bad_share = "
                f"{self.config.ingest.max_bad_share:g}; nothing was ingested: fix the export or raise the limit"
            )

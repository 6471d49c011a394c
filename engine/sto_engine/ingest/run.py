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

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, UsageError
from sto_engine.files import canonical_json, folder_lock, sha256_file, write_atomic
from sto_engine.ingest.readers import enumerate_files
from sto_engine.ingest.source import Source, Types, open_source, prepare
from sto_engine.ingest.store import STORE_VERSION, Store, next_generation, remove_leftovers
from sto_engine.ingest.write import BucketWriter, Quarantine, new_folder
from sto_engine.progress import Progress
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
    events = [open_source(path, "events", config) for path in enumerate_files(paths)] if paths else []
    files = enumerate_files([str(recipients)]) if recipients is not None else []
    people = [open_source(path, "recipients", config) for path in files]
    new_folder(store)
    with folder_lock(store, "store"):
        return _Ingest(store, config, progress, _existing(store)).run(events, people)


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

    def run(self, events: list[Source], people: list[Source]) -> IngestReport:
        hashes = {source.path: sha256_file(source.path) for source in events}
        fresh = self._fresh(events, hashes)
        types = self._fix_types((fresh or events) + people, people)
        try:
            snapshot = self._snapshot(people, types) if people else self.manifest["recipients"]
            generation = self._generation(fresh, types, hashes) if fresh else None
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

    def _fresh(self, events: list[Source], hashes: dict[Path, str]) -> list[Source]:
        """Files whose content is not in the store yet, each content once."""
        known = {source["sha256"] for g in self.manifest["generations"] for source in g["sources"]}
        fresh = []
        for source in events:
            if hashes[source.path] in known:
                self.report.skipped_files.append(source.path.name)
                self.progress.info("file_skipped", file=source.path.name, why="already ingested")
            else:
                known.add(hashes[source.path])
                fresh.append(source)
        return fresh

    def _fix_types(self, files: list[Source], people: list[Source]) -> Types:
        """Id types and bucket count: the store's, else the config's, else inferred from the first file and kept."""
        asked = self.config.ingest.id_type
        if "id_type" not in self.manifest:
            self.manifest["id_type"] = asked or files[0].infer_id_type("user_id")
            self.manifest["buckets"] = self.config.store.buckets or _default_buckets(people)
        if asked and asked != self.manifest["id_type"]:
            raise BadData(f"ingest.id_type must be {self.manifest['id_type']}, as in {self.root}; found {asked}")
        if self.config.store.buckets not in (None, self.manifest["buckets"]):
            raise BadData(
                f"store.buckets must be {self.manifest['buckets']}, as {self.root} was made; "
                f"found {self.config.store.buckets}"
            )
        for source in files:
            if "campaign_type" not in self.manifest and (kind := source.infer_id_type("campaign_id")):
                self.manifest["campaign_type"] = kind
        self.manifest.setdefault("campaign_type", "string")
        return Types(self.manifest["id_type"], self.manifest["campaign_type"], self.config.recipients.keep)

    def _generation(self, files: list[Source], types: Types, hashes: dict[Path, str]) -> dict[str, Any]:
        name = next_generation(self.manifest)
        writer = BucketWriter(self.root, name, self.manifest["buckets"], types.schema("events"))
        quarantine = Quarantine(self.root, name, self.config.ingest.quarantine_payload)
        newest: list[int] = []
        self.progress.start("ingest", len(files))
        for source in files:
            for good in self._good(source, types, quarantine, self.report):
                writer.add(good)
                newest += [good["event_ts"].dt.epoch("ms").max()] if len(good) else []  # type: ignore[list-item]
            self.progress.advance("ingest")
        writer.flush()
        self.report.quarantined = dict(sorted(quarantine.counts.items()))
        self._check_share(quarantine.counts.total(), self.report.rows, self.report.quarantined)
        self.report.files, self.report.events, self.report.generation = len(files), writer.rows, name
        return {
            "name": name,
            "rows": writer.rows,
            "files": writer.files,
            "sources": [{"name": source.path.name, "sha256": hashes[source.path]} for source in files],
            "newest_event_ms": max(newest, default=None),
        }

    def _snapshot(self, people: list[Source], types: Types) -> dict[str, Any]:
        old = self.manifest["recipients"]
        name = f"recipients-{(old['number'] if old else 0) + 1:06d}"
        writer = BucketWriter(self.root, name, self.manifest["buckets"], types.schema("recipients"))
        quarantine, report = Quarantine(self.root, name, self.config.ingest.quarantine_payload), IngestReport()
        for source in people:
            for good in self._good(source, types, quarantine, report):
                writer.add(good)
        writer.flush()
        if not writer.rows:
            raise BadData(f"recipients {people[0].path} hold no row with a user_id; found {report.rows} rows")
        self._check_share(quarantine.counts.total(), report.rows, dict(quarantine.counts))
        self.report.nulled.update(report.nulled)
        self.report.recipients = writer.rows
        self.report.recipients_quarantined = dict(quarantine.counts)
        return {
            "name": name,
            "number": int(name.rpartition("-")[2]),
            "files": writer.files,
            "rows": writer.rows,
            "keep": list(types.keep),
            "quarantined": dict(quarantine.counts),
        }

    def _good(
        self, source: Source, types: Types, quarantine: Quarantine, report: IngestReport
    ) -> Iterator[pl.DataFrame]:
        """Good rows of one file, batch by batch; bad rows go to quarantine."""
        first = report.rows
        for batch in source.raw(types):
            result = prepare(source, batch, report.rows, types)
            quarantine.add(result.bad, source.path)
            report.nulled = dict(Counter(report.nulled) + result.nulled)
            report.rows += result.rows
            yield result.good
        if report.rows == first:
            report.empty_files.append(source.path.name)
            self.progress.warn("empty_file", file=source.path.name)

    def _check_share(self, bad: int, rows: int, counts: dict[str, int]) -> None:
        if rows and bad / rows > self.config.ingest.max_bad_share:
            raise BadData(
                f"{bad} of {rows} rows break a rule ({counts}), more than ingest.max_bad_share = "
                f"{self.config.ingest.max_bad_share:g}; nothing was ingested: fix the export or raise the limit"
            )


def _default_buckets(people: list[Source]) -> int:
    """So many that about USERS_PER_BUCKET recipients share one."""
    if not people:
        return DEFAULT_BUCKETS
    rows, buckets = sum(source.count_rows() for source in people), 1
    while buckets * USERS_PER_BUCKET < rows and buckets < MAX_BUCKETS:
        buckets *= 2
    return buckets

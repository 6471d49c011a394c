"""`ingest`: files in, one committed generation out, or nothing.

Every file is opened and its columns are checked before the first row is read; the manifest is swapped last, so a
reader sees the store before or after an ingest and nothing between.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sto_engine.config import Config
from sto_engine.errors import BadData, UsageError
from sto_engine.executor import Executor
from sto_engine.files import canonical_json, folder_lock, write_atomic
from sto_engine.ingest.across import pour_across
from sto_engine.ingest.flow import Workers
from sto_engine.ingest.inputs import Input
from sto_engine.ingest.load import Load, Poured, needed, pour
from sto_engine.ingest.manifest import MAX_BUCKETS
from sto_engine.ingest.pseudonyms import check_pseudonyms
from sto_engine.ingest.readers import enumerate_files
from sto_engine.ingest.source import Source, Types
from sto_engine.ingest.spill import bucket_writer
from sto_engine.ingest.store import STORE_VERSION, Store, next_generation, remove_leftovers
from sto_engine.ingest.stream import Mebibytes
from sto_engine.ingest.write import new_folder
from sto_engine.progress import Progress
from sto_kernels.hashing import HASH_NAME, HASH_VERSION

USERS_PER_BUCKET, DEFAULT_BUCKETS = 80_000, 16
MOST_THREADS = 16  # more would wait for the one that decodes, and hold memory
MOST_WORDS = 10


@dataclass
class IngestReport:
    """What one ingest did; counts are rows unless the name says files.

    rows = events + blocked + all of quarantined, which is checked before the commit. `unknown_event_types` are the most
    frequent words that are no event type; `notes` say what was recognised in the files without being told.
    """

    files: int = 0
    skipped_files: list[str] = field(default_factory=list)
    empty_files: list[str] = field(default_factory=list)
    rows: int = 0
    events: int = 0
    blocked: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    unknown_event_types: dict[str, int] = field(default_factory=dict)
    nulled: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    recipients: int = 0
    recipients_blocked: int = 0
    recipients_quarantined: dict[str, int] = field(default_factory=dict)
    buckets: int = 0
    generation: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ingest(
    paths: Sequence[str],
    store: Path,
    recipients: Path | None,
    config: Config,
    progress: Progress,
    threads: int | None = None,
    executor: Executor | None = None,
) -> IngestReport:
    """Append the events of `paths` (files, folders, globs) to `store` and replace its recipients snapshot.

    The same files make the same bytes on any number of threads (default: every core). An `executor` of other processes
    does the work by its workers: the report is the same, and so are the rows of each bucket and their order, but row
    groups may end elsewhere, see `across`. Raises InputMissing (66) for what
    cannot be read, BadData (65) for files that break the contract or too many bad rows, TryLater (75) while another
    command holds the store or for a file that changes while it is read, OutputFailed (74) for a full disk. Nothing is
    committed unless everything is.
    """
    if not paths and recipients is None:
        raise UsageError("nothing to ingest: name event files, folders or globs, or --recipients FILE")
    events = [Input.open(path, "events", config) for path in enumerate_files(paths)] if paths else []
    files = enumerate_files([str(recipients)]) if recipients is not None else []
    people = [Input.open(path, "recipients", config) for path in files]
    new_folder(store)
    with folder_lock(store, "store"), Workers(_threads(threads)) as workers:
        return _Ingest(store, config, progress, _existing(store), workers, executor).run(events, people)


def _threads(asked: int | None) -> int:
    return min(asked or os.cpu_count() or 1, MOST_THREADS)


def _existing(store: Path) -> Store | None:
    return Store.open(store) if (store / "manifest.json").exists() else None


class _Ingest:
    """One ingest under the store's lock."""

    def __init__(
        self,
        root: Path,
        config: Config,
        progress: Progress,
        old: Store | None,
        workers: Workers,
        executor: Executor | None = None,
    ) -> None:
        self.root, self.config, self.progress, self.workers = root, config, progress, workers
        self.across = executor if executor is not None and not executor.in_process else None
        self.manifest: dict[str, Any] = dict(old.manifest) if old else {"generations": [], "recipients": None}
        self.report = IngestReport()
        remove_leftovers(self.root)
        self.pseudonyms = check_pseudonyms(self.manifest, root, config)
        if self.pseudonyms is not None:
            self.manifest["pseudonyms"] = self.pseudonyms.record()
            self.manifest["id_type"] = self.pseudonyms.id_type

    def run(self, events: list[Input], people: list[Input]) -> IngestReport:
        types = self._fix_types([file.source for file in events + people], [file.source for file in people])
        for note in dict.fromkeys(note for file in events + people for note in file.source.notes):
            self.report.notes.append(note)
            self.progress.info("recognised", note=note)
        try:
            snapshot = self._snapshot(people, types) if people else self.manifest["recipients"]
            generation = self._generation(events, types) if events else None
            self._commit(snapshot, generation)
        finally:
            remove_leftovers(self.root)
        self.report.buckets = self.manifest["buckets"]
        return self.report

    def _commit(self, snapshot: dict[str, Any] | None, generation: dict[str, Any] | None) -> None:
        generations = [*self.manifest["generations"], *([generation] if generation else [])]
        self.manifest.update(
            store_version=STORE_VERSION,
            hash=[HASH_NAME, HASH_VERSION],
            generations=generations,
            recipients=snapshot,
            newest_event_ms=max((g["newest_event_ms"] for g in generations if g["rows"]), default=None),
        )
        write_atomic(self.root / "manifest.json", canonical_json(self.manifest))

    def _fix_types(self, files: list[Source], people: list[Source]) -> Types:
        """Id types and bucket count: the store's, else the config's, else inferred from the first file and kept."""
        asked = self.config.ingest.id_type
        if "id_type" not in self.manifest:
            self.manifest["id_type"] = asked or files[0].infer_id_type("user_id")
        if "buckets" not in self.manifest:
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
        return Types(
            self.manifest["id_type"], self.manifest["campaign_type"], self.config.recipients.keep, self.pseudonyms
        )

    def _generation(self, events: list[Input], types: Types) -> dict[str, Any] | None:
        """The manifest entry of the events, whose files are written; None where the store has all of them already."""
        name, report = next_generation(self.manifest), self.report
        known = frozenset(source["sha256"] for g in self.manifest["generations"] for source in g["sources"])
        poured = self._poured(name, types, "events", events, known)
        report.skipped_files = poured.skipped
        if not poured.sources:
            return None
        report.quarantined = dict(sorted(poured.bad.items()))
        counts = poured.counts
        self._check_share(poured.bad.total(), counts.rows, report.quarantined)
        report.files, report.events, report.generation = len(poured.sources), counts.stored, name
        report.rows, report.blocked, report.empty_files = counts.rows, counts.blocked, counts.empty_files
        report.nulled = dict(Counter(report.nulled) + counts.nulled)
        report.unknown_event_types = dict(counts.words.most_common(MOST_WORDS))
        return {
            "name": name,
            "rows": counts.stored,
            "files": poured.entries,
            "sources": poured.sources,
            "nulled": dict(sorted(counts.nulled.items())),
            "newest_event_ms": max((file["max_ts"] for file in poured.entries), default=None),
        }

    def _snapshot(self, people: list[Input], types: Types) -> dict[str, Any]:
        old = self.manifest["recipients"]
        name = f"recipients-{(old['number'] if old else 0) + 1:06d}"
        poured = self._poured(name, types, "recipients", people, None)
        counts, bad = poured.counts, dict(poured.bad)
        if not counts.stored:
            raise BadData(f"recipients {people[0].source.path} hold no row with a user_id; found {counts.rows} rows")
        self._check_share(poured.bad.total(), counts.rows, bad)
        self.report.nulled = dict(counts.nulled)
        self.report.recipients, self.report.recipients_blocked = counts.stored, counts.blocked
        self.report.recipients_quarantined = bad
        return {
            "name": name,
            "number": int(name.rpartition("-")[2]),
            "files": poured.entries,
            "rows": counts.stored,
            "keep": list(types.keep),
            "quarantined": bad,
        }

    def _poured(
        self, name: str, types: Types, table: str, files: Sequence[Input], known: frozenset[str] | None
    ) -> Poured:
        """The rows of the files in buckets under `name`, by the workers of a cluster or in threads here."""
        buckets = self.manifest["buckets"]
        load = Load(self.root, name, table, buckets, types, self.config, needed(self.manifest), known)
        if self.across is not None:
            return pour_across(load, files, self.across, self.progress)
        told = Mebibytes(self.progress, f"{load.phase} MiB", sum(file.state.size for file in files))
        hashed = self.workers.in_order(Input.hashed, files, lambda _: 0)
        writer = bucket_writer(self.root, name, buckets, load.schema, self.workers)
        poured = pour(load, self.root, hashed, writer, self.workers, self.progress, told)
        told.end()
        return poured

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

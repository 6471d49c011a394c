"""`erase`: every row of the people named leaves the store, and of its files only those that hold such rows change.

    1. the files with rows of these people are written anew without them, beside the old ones, under new numbers
    2. the manifest is swapped: the commit point
    3. the old files go, a line is added to the audit file (`remove_leftovers`; the next command does it if need be)

A process killed before 2 leaves the old store, one killed behind it the new one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.files import canonical_json, folder_lock, sha256_file, write_atomic
from sto_engine.ingest.blocked import block_ids
from sto_engine.ingest.erased import renumbered
from sto_engine.ingest.find import find_rows, payload_users, quarantine_files, reading
from sto_engine.ingest.ids import NamedIds, named_ids
from sto_engine.ingest.rewrite import without_named, without_users
from sto_engine.ingest.store import Store, remove_leftovers
from sto_engine.ingest.write import check_rows
from sto_engine.progress import Progress

_In = TypeVar("_In")
_Out = TypeVar("_Out")
OUT_OF_REACH = (
    "run folders of score: assignments, suppressed and scores of earlier runs still name the person",
    "source files, exports, logs and backups; a later ingest of a new export stores the person again, unless blocked",
)


@dataclass(frozen=True)
class EraseReport:
    """What one erasure did, or under `dry_run` would do; `removed` counts rows by table, `buckets` those touched."""

    dry_run: bool
    asked: int
    found: int
    removed: dict[str, int]
    buckets: int
    generations: list[str]
    blocked: int
    out_of_reach: tuple[str, ...] = OUT_OF_REACH

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Hit:
    """A file of a table that holds rows of people to be erased: who they are, how many, the newest of their events."""

    table: str
    file: dict[str, Any]
    users: pl.Series
    rows: int
    newest_ms: int | None


def erase(
    root: Path,
    texts: Sequence[str],
    file: Path | None,
    config: Config,
    progress: Progress,
    threads: int = 1,
    block: bool = False,
    dry_run: bool = False,
) -> EraseReport:
    """Remove the people named by `texts` and in `file` from the store at `root`; `block` keeps later ingests from them.

    Ids that the store does not hold are no error. Raises InputMissing (66) where there is no store, TryLater (75) while
    another command holds it, OutputFailed (74) for a full disk, and what `named_ids` raises for the ids. The old state
    stays until all of the new one is written.
    """
    store = Store.open(root)
    if dry_run:
        named = named_ids(texts, file, store, config)
        return _Erasure(store, named, progress, threads).report(dry_run=True, block=block)
    with folder_lock(root, "store"):
        remove_leftovers(root)
        store = Store.open(root)
        erasure = _Erasure(store, named_ids(texts, file, store, config), progress, threads)
        try:
            report = erasure.report(dry_run=False, block=block)
            manifest = erasure.manifest(report)
            write_atomic(root / "manifest.json", canonical_json(manifest))
        finally:
            remove_leftovers(root)
    return report


class _Erasure:
    """What one erasure takes away, found before anything is written."""

    def __init__(self, store: Store, named: NamedIds, progress: Progress, threads: int) -> None:
        self.store, self.named, self.threads = store, named, threads
        self.snapshot = store.manifest["recipients"]
        events = [("events", file) for g in store.manifest["generations"] for file in g["files"]]
        people = [("recipients", file) for file in self.snapshot["files"]] if self.snapshot else []
        files = [(table, file) for table, file in (*events, *people) if file["bucket"] in named.by_bucket]
        progress.start("erase", len(files))
        self.hits: dict[str, Hit] = {}
        with reading(store):
            for hit in self._in_threads(lambda each: self._find(*each), files):
                if hit.rows:
                    self.hits[hit.file["path"]] = hit
                progress.advance("erase")
            self.quarantine = self._quarantined()

    def _in_threads(self, work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        with ThreadPoolExecutor(max(1, self.threads), thread_name_prefix="erase") as pool:
            yield from pool.map(work, items)

    def _find(self, table: str, file: dict[str, Any]) -> Hit:
        columns = ["user_id", "event_ts"] if table == "events" else ["user_id"]
        rows = find_rows(self.store.path / file["path"], self.named.by_bucket[file["bucket"]], columns)
        newest = pc.max(rows["event_ts"].cast(pa.int64())).as_py() if table == "events" else None
        return Hit(table, file, pl.Series(rows["user_id"]).unique(), len(rows), newest)

    def _quarantined(self) -> dict[Path, pl.Series]:
        """Of each file of kept payloads that names one of these people: who is named in each row, as text."""
        texts, found = self.named.ids.cast(pl.String), {}
        for path in quarantine_files(self.store.path):
            users = payload_users(path, texts)
            if users.null_count() < len(users):
                found[path] = users
        return found

    def report(self, dry_run: bool, block: bool) -> EraseReport:
        named = [users.drop_nulls() for users in self.quarantine.values()]
        found = pl.concat([pl.Series(dtype=pl.String), *(h.users.cast(pl.String) for h in self.hits.values()), *named])
        removed = dict.fromkeys(("events", "recipients"), 0)
        for hit in self.hits.values():
            removed[hit.table] += hit.rows
        removed["quarantine"] = sum(len(users) for users in named)
        buckets = {hit.file["bucket"] for hit in self.hits.values()}
        names = sorted({path.partition("/")[0] for path in self.hits})
        asked = len(self.named.ids)
        return EraseReport(dry_run, asked, found.n_unique(), removed, len(buckets), names, asked if block else 0)

    def manifest(self, report: EraseReport) -> dict[str, Any]:
        """The manifest after the erasure; the files that it names are written."""
        old = self.store.manifest
        number = old["erasure"]["number"] + 1 if "erasure" in old else 1
        new = dict(
            zip(self.hits, self._in_threads(lambda hit: self._rewrite(hit, number), self.hits.values()), strict=True)
        )
        for path, users in self.quarantine.items():
            without_named(path, path.with_stem(renumbered(path.stem, number)), users)
        generations = [self._without(entry, new) for entry in old["generations"]]
        told = {name: value for name, value in report.as_dict().items() if name not in ("dry_run", "out_of_reach")}
        return {
            **old,
            "generations": generations,
            "recipients": self._without(self.snapshot, new) if self.snapshot else None,
            "newest_event_ms": max((g["newest_event_ms"] for g in generations if g["rows"]), default=None),
            "erasure": {"number": number, "time": datetime.now(UTC).isoformat(timespec="seconds"), **told},
            **({"blocked": block_ids(old, self.named.ids)} if report.blocked else {}),
        }

    def _rewrite(self, hit: Hit, erasure: int) -> dict[str, Any] | None:
        """The entry of the file that takes the place of the hit one; None where nobody else is in it."""
        store, file = self.store, hit.file
        path = store.path / file["path"]
        if hit.rows == file["rows"]:
            return None
        found = sha256_file(path)
        if found != file["sha256"]:
            raise BadData(f"store file {path} must have sha256 {file['sha256']}; found {found}; ingest anew")
        number = int(renumbered(path.stem, erasure).rpartition("-")[2])
        entry = without_users(store.path, path, file["bucket"], number, hit.users)
        check_rows([entry], file["rows"] - hit.rows)
        return entry

    def _without(self, entry: dict[str, Any], new: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
        """The manifest entry of a generation, or of the snapshot, with the new files in the place of the old."""
        touched = [hit for path, hit in self.hits.items() if path.startswith(f"{entry['name']}/")]
        if not touched:
            return entry
        files = [file for old in entry["files"] if (file := new.get(old["path"], old)) is not None]
        changed = {**entry, "files": files, "rows": sum(file["rows"] for file in files)}
        if any(hit.newest_ms is not None and hit.newest_ms == entry["newest_event_ms"] for hit in touched):
            changed["newest_event_ms"] = max((_newest_ms(self.store.path, file) for file in files), default=None)
        return changed


def _newest_ms(root: Path, file: dict[str, Any]) -> int:
    """The newest event of a bucket file; those of earlier versions do not have it in the manifest."""
    if "max_ts" in file:
        return int(file["max_ts"])
    times = pq.read_table(root / file["path"], columns=["event_ts"])["event_ts"]
    return int(pc.max(times.cast(pa.int64())).as_py())

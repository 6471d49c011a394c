"""`compact`: every bucket's generations merged into one file in the order of the store, so that reads need no sort.

    --buckets N            the store is split into N buckets instead, the recipients too
    store.retention_days   events that are too old are dropped, see `retention`

Buckets are ranges of the hash, so going from K to N is one pass in the order of the hash: min(K, N) ranges (`ranges`),
each by one worker, which reads the old buckets of its range one after the other and fills the new ones likewise. The
bytes are the same on any number of threads, and on a cluster.

All or nothing: new files are written beside the old ones and the manifest is swapped last. A run killed before the
swap leaves the old store and a folder that the next ingest or compaction removes.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sto_engine.errors import UsageError
from sto_engine.executor import Executor, Threads
from sto_engine.files import canonical_json, folder_lock, sync, write_atomic
from sto_engine.ingest.attempts import adopt_all, remove_attempts
from sto_engine.ingest.manifest import MAX_BUCKETS
from sto_engine.ingest.ranges import Ranges, Written
from sto_engine.ingest.retention import check_share, cutoff_ms, may_expire
from sto_engine.ingest.store import Store, next_generation, remove_leftovers
from sto_engine.ingest.write import check_rows, new_folder
from sto_engine.progress import Progress

MOST_THREADS = 8
WORK_BYTES = 480 << 20  # of all threads together
WORKER_BYTES = 240 << 20  # of a worker that is a process of its own


@dataclass(frozen=True)
class CompactReport:
    """What one compaction did; `already_compact` says that there was nothing to do.

    rows_before = rows + duplicates + expired, which is checked before the commit.
    """

    already_compact: bool
    merged: list[str]
    generation: str | None
    buckets: int
    rows_before: int
    rows: int
    duplicates: int
    expired: int = 0
    buckets_before: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compact(
    root: Path,
    threads: int,
    progress: Progress,
    retention_days: int | None = None,
    buckets: int | None = None,
    executor: Executor | None = None,
) -> CompactReport:
    """Merge and sort the generations of the store at `root`, into `buckets` buckets (default: as many as it has).

    `executor` does the work, else at most `threads` threads. Raises InputMissing (66) where there is no store, BadData
    (65) for a file that is not what was committed or where retention would leave hardly an event, TryLater (75) while
    another command holds the store, OutputFailed (74) where the disk is full, UsageError (2) for a number of buckets
    that is no power of two in 1..8192. The old state stays until all of the new one is written.
    """
    if buckets is not None and not (1 <= buckets <= MAX_BUCKETS and buckets & (buckets - 1) == 0):
        raise UsageError(f"--buckets must be a power of two in 1..{MAX_BUCKETS}; found {buckets}")
    Store.open(root)
    with folder_lock(root, "store"):
        remove_leftovers(root)
        store = Store.open(root)
        target, cutoff = buckets or store.buckets, cutoff_ms(store, retention_days)
        generations = store.manifest["generations"]
        compacted = all(g.get("compacted") for g in generations) and len(generations) < 2
        if compacted and target == store.buckets and not may_expire(store, cutoff):
            progress.info("already_compact", generations=len(generations))
            rows = sum(g["rows"] for g in generations)
            return CompactReport(True, [], None, target, rows, rows, 0, 0, target)
        try:
            merge = _Merge(store, target, cutoff, _workers(executor, threads), progress)
            manifest, report = merge.run()
            write_atomic(root / "manifest.json", canonical_json(manifest))
        finally:
            remove_leftovers(root)
    return report


def _workers(executor: Executor | None, threads: int) -> Executor:
    """More threads of one process would share its memory into pieces too small to sort."""
    return Threads(min(threads, MOST_THREADS)) if executor is None or executor.in_process else executor


def _bounded(executor: Executor) -> Executor:
    """Threads share WORK_BYTES: so many of them that each has its fair part."""
    return Threads(min(executor.workers, MOST_THREADS)) if executor.in_process else executor


@dataclass(frozen=True)
class _Merge:
    """A store and what it is to become."""

    store: Store
    buckets: int
    cutoff: int | None
    executor: Executor
    progress: Progress

    @property
    def budget(self) -> int:
        """Bytes in work of one worker."""
        return WORK_BYTES // max(1, self.executor.workers) if self.executor.in_process else WORKER_BYTES

    def run(self) -> tuple[dict[str, Any], CompactReport]:
        """The manifest of the new state, whose files are written."""
        old = self.store.manifest
        people = old["recipients"] is not None and self.buckets != self.store.buckets
        self.progress.start("compact", self.store.buckets * (2 if people else 1))
        name = next_generation(old)
        files, before, expired = self._table("events", name)
        rows = sum(file["rows"] for file in files)
        check_share(self.store, before, expired, self.cutoff)
        duplicates = before - expired - rows
        merged = self._generation(name, files, duplicates) | (
            {} if self.cutoff is None else {"retained_from_ms": self.cutoff}
        )
        generations = old["generations"]
        report = CompactReport(
            *(False, [g["name"] for g in generations], name, self.buckets, before, rows, duplicates),
            *(expired, self.store.buckets),
        )
        snapshot = self._snapshot() if people else old["recipients"]
        return {**old, "buckets": self.buckets, "generations": [merged], "recipients": snapshot}, report

    def _generation(self, name: str, files: list[dict[str, Any]], duplicates: int) -> dict[str, Any]:
        """It keeps the sources of all it replaces, and what they counted."""
        old = self.store.manifest["generations"]
        return {
            "name": name,
            "compacted": True,
            "merged": [each for g in old for each in (*g.get("merged", []), g["name"])],
            "rows": sum(file["rows"] for file in files),
            "duplicates": duplicates + sum(g.get("duplicates", 0) for g in old),
            "nulled": dict(sum((Counter(g.get("nulled", {})) for g in old), Counter())),
            "files": files,
            "sources": [source for g in old for source in g["sources"]],
            "newest_event_ms": max((g["newest_event_ms"] for g in old if g["rows"]), default=None),
        }

    def _snapshot(self) -> dict[str, Any]:
        """The recipients in the new buckets: all of them, under the next name."""
        old = self.store.manifest["recipients"]
        number = old["number"] + 1
        name = f"recipients-{number:06d}"
        files, _, _ = self._table("recipients", name)
        check_rows(files, old["rows"])
        return {**old, "name": name, "number": number, "files": files, "merged": [*old.get("merged", []), old["name"]]}

    def _table(self, table: str, name: str) -> tuple[list[dict[str, Any]], int, int]:
        """Files of all new buckets in order, rows before, and rows that are too old; the first error stops the rest."""
        folder, done = new_folder(self.store.path / name), dict[int, Written]()
        ranges = Ranges(self.store, table, name, self.buckets, self.cutoff, self.budget)
        for index, written in self.executor.run(ranges.write, range(ranges.count)):
            adopt_all(written.folder, self.store.path, [file["path"] for file in written.files])
            done[index] = written
            self.progress.advance("compact", ranges.share)
        remove_attempts(folder)
        sync(folder)
        parts = [done[index] for index in range(ranges.count)]
        return [file for p in parts for file in p.files], sum(p.before for p in parts), sum(p.expired for p in parts)

"""`compact`: every bucket's generations merged into one file in the order of the store, so that reads need no sort.

All or nothing: the new generation is written beside the old ones, bucket by bucket, and the manifest is swapped last.
A run killed before the swap leaves the old store and a folder that the next ingest or compaction removes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sto_engine.files import canonical_json, folder_lock, write_atomic
from sto_engine.ingest.store import Store, next_generation, remove_leftovers
from sto_engine.ingest.write import new_folder, write_bucket
from sto_engine.progress import Progress
from sto_engine.tables import events_schema


@dataclass(frozen=True)
class CompactReport:
    """What one compaction did; `already_compact` says that there was nothing to do."""

    already_compact: bool
    merged: list[str]
    generation: str | None
    buckets: int
    rows_before: int
    rows: int
    duplicates: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compact(root: Path, threads: int, progress: Progress) -> CompactReport:
    """Merge and sort the generations of the store at `root`; one bucket a thread is in memory.

    Raises InputMissing (66) where there is no store, BadData (65) for a file that is not what was committed, TryLater
    (75) while another command holds the store, OutputFailed (74) where the disk is full. The old state stays until
    all of the new one is written.
    """
    Store.open(root)
    with folder_lock(root, "store"):
        store = Store.open(root)
        remove_leftovers(root)
        generations = store.manifest["generations"]
        if all(g.get("compacted") for g in generations) and len(generations) < 2:
            progress.info("already_compact", generations=len(generations))
            rows = sum(g["rows"] for g in generations)
            return CompactReport(True, [], None, store.buckets, rows, rows, 0)
        try:
            merged = _merge(store, threads, progress)
            write_atomic(root / "manifest.json", canonical_json({**store.manifest, "generations": [merged]}))
        finally:
            remove_leftovers(root)
    names, before = [g["name"] for g in generations], sum(g["rows"] for g in generations)
    return CompactReport(
        False, names, merged["name"], store.buckets, before, merged["rows"], duplicates=before - merged["rows"]
    )


def _merge(store: Store, threads: int, progress: Progress) -> dict[str, Any]:
    """The manifest entry of the new generation, whose files are written; it keeps the sources of all it replaces."""
    old = store.manifest["generations"]
    name = next_generation(store.manifest)
    new_folder(store.path / name)
    progress.start("compact", store.buckets)
    files = []
    for file in _in_threads(store, name, threads):
        files += [file] if file["rows"] else []
        progress.advance("compact")
    rows = sum(file["rows"] for file in files)
    return {
        "name": name,
        "compacted": True,
        "merged": [each for g in old for each in (*g.get("merged", []), g["name"])],
        "rows": rows,
        "duplicates": sum(g.get("duplicates", 0) + g["rows"] for g in old) - rows,
        "files": files,
        "sources": [source for g in old for source in g["sources"]],
        "newest_event_ms": max((g["newest_event_ms"] for g in old if g["rows"]), default=None),
    }


def _in_threads(store: Store, name: str, threads: int) -> Iterator[dict[str, Any]]:
    """The files of all buckets in bucket order; the first error stops the rest."""
    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="compact") as pool:
        yield from pool.map(lambda bucket: _compact_bucket(store, name, bucket), range(store.buckets))


def _compact_bucket(store: Store, name: str, bucket: int) -> dict[str, Any]:
    store.verify(bucket)
    events = store.read_events(bucket)
    if events.is_empty():
        return {"bucket": bucket, "rows": 0}
    return write_bucket(store.path, name, bucket, 0, events, events_schema(store.id_type, store.campaign_type))

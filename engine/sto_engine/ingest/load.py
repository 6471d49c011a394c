"""One table of one ingest: what is the same for all of its files, and how their rows get from there to a writer."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sto_engine.config import Config
from sto_engine.ingest.flow import Workers, gather
from sto_engine.ingest.inputs import HashedInput
from sto_engine.ingest.quarantine import Quarantine
from sto_engine.ingest.source import Types
from sto_engine.ingest.stream import Counts, Stream
from sto_engine.ingest.write import Writer, blocks_of, check_rows
from sto_engine.progress import Progress

BLOCK_ROWS, BLOCK_BYTES = 262_144, 12 << 20
_NEEDED = ("id_type", "pseudonyms", "blocked")


@dataclass(frozen=True)
class Load:
    """A table ("events" or "recipients") on its way into `buckets` buckets under `root/name`.

    `manifest` is the part of the store's that rows are held against. Files whose sha256 is in `known` are passed over;
    where that is None, all are read.
    """

    root: Path
    name: str
    table: str
    buckets: int
    types: Types
    config: Config
    manifest: Mapping[str, Any]
    known: frozenset[str] | None

    @property
    def schema(self) -> pa.Schema:
        return self.types.schema(self.table)

    @property
    def phase(self) -> str:
        """What its progress is called."""
        return "ingest" if self.table == "events" else "recipients"


def needed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a manifest that rows are held against: small, so that it can travel."""
    return {name: manifest[name] for name in _NEEDED if name in manifest}


@dataclass(frozen=True)
class Seen:
    """A file whose content is known, and whether it was read: not where the store has it, or an earlier file is it."""

    name: str
    sha256: str
    is_fresh: bool


@dataclass
class Poured:
    """What became of files: `entries` are what the writer says of each of its own, `bad` are counts of rows by rule."""

    entries: list[dict[str, Any]]
    seen: list[Seen]
    counts: Counts
    bad: Counter[str]

    @property
    def sources(self) -> list[dict[str, str]]:
        """What the manifest says of the files that were read."""
        return [{"name": file.name, "sha256": file.sha256} for file in self.seen if file.is_fresh]

    @property
    def skipped(self) -> list[str]:
        return [file.name for file in self.seen if not file.is_fresh]


def pour(
    load: Load,
    root: Path,
    files: Iterable[HashedInput],
    writer: Writer,
    workers: Workers,
    progress: Progress,
    advance: Callable[[int], None] = lambda _: None,
) -> Poured:
    """The good rows of the files into `writer`, the bad ones into a file of quarantine under `root`.

    Raises what `Stream.good` does, and OutputFailed (74) where the disk is full or rows got lost.
    """
    quarantine = Quarantine(root, load.name, load.config.ingest.quarantine_payload)
    stream, seen = Stream(load.types, load.manifest, quarantine, workers, progress, advance), list[Seen]()
    try:
        frames = gather(stream.good(_fresh(load, files, seen, progress)), BLOCK_ROWS, BLOCK_BYTES)
        for block in blocks_of(frames, writer, workers):
            writer.add(block)
        entries = writer.finish()
        quarantine.finish()
    except BaseException:
        writer.abandon()
        quarantine.abandon()
        raise
    counts, bad = stream.counts, quarantine.counts
    check_rows(entries, counts.rows - counts.blocked - bad.total())
    return Poured(entries, seen, counts, bad)


def _fresh(load: Load, files: Iterable[HashedInput], seen: list[Seen], progress: Progress) -> Iterator[HashedInput]:
    """Files whose content is new, each content once; all are noted in `seen`."""
    known = set(load.known or ())
    for file in files:
        is_fresh = load.known is None or file.sha256 not in known
        known.add(file.sha256)
        seen.append(Seen(file.source.path.name, file.sha256, is_fresh))
        if is_fresh:
            yield file
        else:
            tell_skipped(progress, file.source.path.name)


def tell_skipped(progress: Progress, name: str) -> None:
    progress.info("file_skipped", file=name, why="already ingested")

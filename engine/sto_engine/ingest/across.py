"""`ingest` on a cluster: two stages of work, between which the rows lie in temporary files by hash range.

    files -> groups by size, in order                             follow from the files, not from the workers
    read      a group  -> one temporary file of its good rows (`segments`), its bad ones, counts
    split     a range  -> of all groups, in order, its rows: the bucket files
    driver    names what the winning tries wrote, then the caller writes the manifest

Rows of a bucket come in the order of the local ingest. Row groups may end elsewhere, so that the sha256 of files may
differ from those of threads, though never between two runs on a cluster; `compact` makes both the same.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sto_engine.errors import TryLater
from sto_engine.executor import Executor
from sto_engine.files import sync
from sto_engine.ingest.attempts import adopt, adopt_all, attempt, not_shared, remove_attempts
from sto_engine.ingest.flow import Workers
from sto_engine.ingest.inputs import Input
from sto_engine.ingest.load import Load, Poured, Seen, pour, tell_skipped
from sto_engine.ingest.pseudonyms import check_pseudonyms
from sto_engine.ingest.segments import SegmentWriter, read_segments
from sto_engine.ingest.spill import SPILLS, split
from sto_engine.ingest.stream import Counts, Mebibytes
from sto_engine.ingest.write import BucketWriter, check_rows, new_folder
from sto_engine.progress import Progress, Silent

GROUP_BYTES, GROUP_FILES = 16 << 20, 64
SPLIT_BYTES = 120 << 20  # of rows held by one worker
_ROWS = "rows.segments"


@dataclass(frozen=True)
class Read:
    """What one try made of a group of files, in its folder."""

    folder: Path
    poured: Poured


@dataclass(frozen=True)
class Reading:
    """The first stage. The secret of pseudonyms does not travel: each process reads it from its file."""

    load: Load
    parts: int

    def read(self, _: int, files: tuple[Input, ...]) -> Read:
        """The rows of a group; raises what `pour` does."""
        load = self.load
        secret = check_pseudonyms(load.manifest, load.root, load.config)
        load = replace(load, types=replace(load.types, pseudonyms=secret))
        with attempt(load.root / load.name) as folder:
            writer = SegmentWriter(folder / _ROWS, self.parts, load.schema)
            hashed = (file.seen_here().hashed() for file in files)
            poured = pour(load, folder, hashed, writer, Workers(1), Silent())
            return Read(folder, replace(poured, entries=[]))


@dataclass(frozen=True)
class Splitting:
    """The second stage: temporary files of the groups that have one, in order, each with the rows of those before."""

    load: Load
    parts: int
    groups: tuple[tuple[Path, int], ...]

    @property
    def share(self) -> int:
        """Buckets of a hash range."""
        return self.load.buckets // self.parts

    def split(self, part: int) -> tuple[Path, list[dict[str, Any]]]:
        """The folder of the try, and what the manifest says of the files of a hash range."""
        load, within = self.load, range(part * self.share, (part + 1) * self.share)
        with attempt(load.root / load.name) as folder:
            writer = BucketWriter(folder, load.name, load.buckets, load.schema, Workers(1), within, SPLIT_BYTES)
            spilled = (_placed(each, first) for path, first in self.groups for each in read_segments(path, part))
            return folder, split(spilled, writer)


def _placed(columns: dict[str, pa.Array], first: int) -> dict[str, pa.Array]:
    """Columns of a group whose rows follow `first` rows of others."""
    return (
        columns if "row" not in columns else {**columns, "row": pc.add(columns["row"], pa.scalar(first, pa.uint64()))}
    )


def pour_across(load: Load, files: Sequence[Input], executor: Executor, progress: Progress) -> Poured:
    """What `pour` does, by the workers of a cluster; the files are named when it returns."""
    folder, parts = new_folder(load.root / load.name), min(load.buckets, SPILLS)
    doubles = _doubles(files, executor) if load.known is not None else {}
    groups = grouped([file for place, file in enumerate(files) if place not in doubles])
    travels = replace(load, types=replace(load.types, pseudonyms=None))
    reads = _read(Reading(travels, parts), groups, executor, progress)
    _check_once(load, reads)
    _adopt_quarantine(load, reads)
    counts, bad = Counts(), Counter[str]()
    for read in reads:
        counts.add(read.poured.counts)
        bad += read.poured.bad
    firsts = accumulate((read.poured.counts.rows for read in reads), initial=0)
    spilled = tuple((read.folder / _ROWS, first) for read, first in zip(reads, firsts, strict=False))
    stored = tuple(each for each, read in zip(spilled, reads, strict=True) if read.poured.counts.stored)
    entries = _split(Splitting(travels, parts, stored), executor, progress) if stored else []
    check_rows(entries, counts.rows - counts.blocked - bad.total())
    remove_attempts(folder)
    sync(folder)
    seen = _in_order(files, doubles, (seen for read in reads for seen in read.poured.seen))
    _tell(progress, counts, seen)
    return Poured(entries, seen, counts, bad)


def grouped(files: Sequence[Input]) -> list[tuple[Input, ...]]:
    """Neighbours together, until they are worth a task."""
    groups, size = list[list[Input]](), GROUP_BYTES
    for file in files:
        if size >= GROUP_BYTES or len(groups[-1]) >= GROUP_FILES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.state.size
    return [tuple(group) for group in groups]


def hashes(_: int, files: tuple[Input, ...]) -> list[str]:
    """The sha256 of each file of a group."""
    return [file.hashed().sha256 for file in files]


def _doubles(files: Sequence[Input], executor: Executor) -> dict[int, str]:
    """Places of files that are an earlier one over again, and their sha256; only files of one size need be hashed."""
    sizes = Counter(file.state.size for file in files)
    places = [place for place, file in enumerate(files) if sizes[file.state.size] > 1]
    groups = grouped([files[place] for place in places])
    found = dict(executor.run(hashes, range(len(groups)), groups.__getitem__))
    first, doubles = set[str](), dict[int, str]()
    for place, sha256 in zip(places, (sha for index in range(len(groups)) for sha in found[index]), strict=True):
        if sha256 in first:
            doubles[place] = sha256
        first.add(sha256)
    return doubles


def _check_once(load: Load, reads: Sequence[Read]) -> None:
    """TryLater (75) where two files that are read have one content: one of them changed since its double was sought."""
    names = dict[str, str]()
    for seen in (seen for read in reads for seen in read.poured.seen if load.known is not None and seen.is_fresh):
        if seen.sha256 in names:
            raise TryLater(
                f"{seen.name} has become the same as {names[seen.sha256]} while they were read; nothing was ingested: "
                "wait for the export to end and run the command again"
            )
        names[seen.sha256] = seen.name


def _read(reading: Reading, groups: Sequence[tuple[Input, ...]], executor: Executor, progress: Progress) -> list[Read]:
    """The first stage: what became of each group, in order."""
    sizes = [sum(file.state.size for file in group) for group in groups]
    told, done = Mebibytes(progress, f"{reading.load.phase} MiB", sum(sizes)), dict[int, Read]()
    for index, read in executor.run(reading.read, range(len(groups)), groups.__getitem__):
        if not read.folder.is_dir():
            raise not_shared(read.folder)
        done[index] = read
        told(sizes[index])
    told.end()
    return [done[index] for index in range(len(groups))]


def _adopt_quarantine(load: Load, reads: Sequence[Read]) -> None:
    """Name the bad rows of each group that has some."""
    bad = [read.folder for read in reads if read.poured.bad.total()]
    if bad:
        folder = new_folder(load.root / "quarantine")
        for number, each in enumerate(bad):
            adopt(each / folder.name / f"{load.name}-0000.parquet", folder / f"{load.name}-{number:04d}.parquet")
        sync(folder)


def _split(splitting: Splitting, executor: Executor, progress: Progress) -> list[dict[str, Any]]:
    """The second stage: what the manifest says of each bucket file, in order."""
    phase, done = f"{splitting.load.phase} buckets", dict[int, list[dict[str, Any]]]()
    progress.start(phase, splitting.load.buckets)
    for part, (folder, entries) in executor.run(splitting.split, range(splitting.parts)):
        adopt_all(folder, splitting.load.root, [entry["path"] for entry in entries])
        done[part] = entries
        progress.advance(phase, splitting.share)
    return [entry for part in range(splitting.parts) for entry in done[part]]


def _in_order(files: Sequence[Input], doubles: dict[int, str], read: Iterable[Seen]) -> list[Seen]:
    """All files in order."""
    rest = iter(read)
    return [
        Seen(file.source.path.name, doubles[place], False) if place in doubles else next(rest)
        for place, file in enumerate(files)
    ]


def _tell(progress: Progress, counts: Counts, seen: Sequence[Seen]) -> None:
    """What the local ingest tells on its way."""
    for name in counts.empty_files:
        progress.warn("empty_file", file=name)
    for file in seen:
        if not file.is_fresh:
            tell_skipped(progress, file.name)

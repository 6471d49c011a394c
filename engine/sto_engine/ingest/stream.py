"""Files -> their good rows, in order, prepared in threads; bad rows go to quarantine, and all of them are counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
import pyarrow as pa

from sto_engine.ingest.blocked import drop_blocked
from sto_engine.ingest.flow import Workers
from sto_engine.ingest.inputs import MIB, HashedInput
from sto_engine.ingest.quarantine import Quarantine
from sto_engine.ingest.source import Prepared, Types, prepare
from sto_engine.progress import Progress


@dataclass
class Counts:
    """Rows of the files read so far: every one is stored, in quarantine, or of a person who is blocked."""

    rows: int = 0
    stored: int = 0
    blocked: int = 0
    nulled: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    empty_files: list[str] = field(default_factory=list)

    def add(self, more: "Counts") -> None:
        """Rows of the files behind these."""
        self.rows += more.rows
        self.stored += more.stored
        self.blocked += more.blocked
        self.nulled += more.nulled
        self.words += more.words
        self.empty_files += more.empty_files


@dataclass(frozen=True)
class _Piece:
    """A batch of a file; behind the last one stands a piece without, so that files without a row are seen."""

    file: HashedInput
    batch: pa.Table | None
    first_row: int
    done: int

    @property
    def nbytes(self) -> int:
        return self.batch.nbytes if self.batch is not None else 0


@dataclass
class Stream:
    """What is the same for all files of a table in one ingest."""

    types: Types
    manifest: Mapping[str, Any]
    quarantine: Quarantine
    workers: Workers
    progress: Progress
    advance: Callable[[int], None] = lambda _: None
    counts: Counts = field(default_factory=Counts)

    def good(self, files: Iterable[HashedInput]) -> Iterator[pl.DataFrame]:
        """The good rows of each batch, in the order of the files; a column `row` counts over all files.

        Raises BadData (65) for a column or, if the config says so, a row that breaks the contract; TryLater (75) for a
        file that changed while it was read.
        """
        first, before = 0, 0
        results = self.workers.in_order(self._prepared, self._pieces(files), lambda piece: piece.nbytes)
        for piece, result, blocked in results:
            self.advance(piece.done - before)
            before = piece.done
            if result is None:
                self._end(piece, self.counts.rows == first)
                first, before = self.counts.rows, 0
                continue
            self.quarantine.add(result.bad, piece.file.source.path)
            self.counts.nulled += result.nulled
            self.counts.words += result.words
            self.counts.rows += result.rows
            self.counts.blocked += blocked
            self.counts.stored += len(result.good)
            is_people = piece.file.source.table == "recipients"
            yield result.good.with_columns(pl.col("row") + first) if is_people else result.good

    def _pieces(self, files: Iterable[HashedInput]) -> Iterator[_Piece]:
        for file in files:
            for row, batch, done in file.batches(self.types):
                yield _Piece(file, batch, row, done)
            yield _Piece(file, None, 0, file.state.size)

    def _prepared(self, piece: _Piece) -> tuple[_Piece, Prepared | None, int]:
        """The piece without its batch, what came of it, and how many rows were of blocked people; pure."""
        bare = _Piece(piece.file, None, piece.first_row, piece.done)
        if piece.batch is None:
            return bare, None, 0
        result = prepare(piece.file.source, piece.batch, piece.first_row, self.types)
        good, bad = drop_blocked(self.manifest, result.good), drop_blocked(self.manifest, result.bad)
        blocked = len(result.good) + len(result.bad) - len(good) - len(bad)
        return bare, replace(result, good=good, bad=bad), blocked

    def _end(self, piece: _Piece, empty: bool) -> None:
        if empty:
            name = piece.file.source.path.name
            self.counts.empty_files.append(name)
            self.progress.warn("empty_file", file=name)


class Mebibytes:
    """Bytes done -> whole steps of a MiB for a progress bar."""

    def __init__(self, progress: Progress, phase: str, total: int) -> None:
        self._progress, self._phase, self._bytes, self._told = progress, phase, 0, 0
        self._total = max(1, -(-total // MIB))
        progress.start(phase, self._total)

    def __call__(self, more: int) -> None:
        self._bytes += more
        self._tell(self._bytes // MIB)

    def end(self) -> None:
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        if done > self._told:
            self._progress.advance(self._phase, done - self._told)
            self._told = done

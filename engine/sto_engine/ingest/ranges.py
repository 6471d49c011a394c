"""The work of `compact`, range by range: old buckets read in the order of the store, new ones written.

A range is the share of one old bucket or of one new one, whichever is larger. Ranges know nothing of each other, so any
process may work on any of them, twice if need be: each try writes into a folder of its own (see `attempts`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sto_engine.ingest.attempts import attempt
from sto_engine.ingest.pieces import sorted_pieces
from sto_engine.ingest.retention import retained
from sto_engine.ingest.sorted_file import SortedFiles
from sto_engine.ingest.store import Store
from sto_engine.ingest.write import new_folder
from sto_kernels.hashing import parts_of


@dataclass(frozen=True)
class Written:
    """The files of one range in the folder of the try, by their final names; and what became of the rows."""

    folder: Path
    files: list[dict[str, Any]]
    before: int = 0
    expired: int = 0


@dataclass(frozen=True)
class Ranges:
    """A table ("events" or "recipients") of a store on its way into `buckets` buckets under `name`.

    `budget` is how many bytes the rows of a bucket may take at a time; the bytes written do not depend on it.
    """

    store: Store
    table: str
    name: str
    buckets: int
    cutoff: int | None
    budget: int

    @property
    def count(self) -> int:
        return min(self.store.buckets, self.buckets)

    @property
    def share(self) -> int:
        """Old buckets of a range."""
        return self.store.buckets // self.count

    def write(self, index: int) -> Written:
        """Write the new files of a range; BadData (65) for an old one that is not what was committed."""
        with attempt(self.store.path / self.name) as folder:
            new_folder(folder / self.name)
            out = SortedFiles(folder, self.name, self.store.schema(self.table))
            try:
                before, expired = self._pour(out, index, folder)
                return Written(folder, out.finish(), before, expired)
            except BaseException:
                out.abandon()
                raise

    def _pour(self, out: SortedFiles, index: int, folder: Path) -> tuple[int, int]:
        """Rows of the range before, and how many of them are too old."""
        before = expired = 0
        for bucket in range(index * self.share, (index + 1) * self.share):
            before += sum(file["rows"] for file in self.store.files(self.table, bucket))
            for piece in self._pieces(bucket, folder):
                kept = retained(piece, self.cutoff) if self.table == "events" else piece
                expired += len(piece) - len(kept)
                for target, rows in _by_bucket(kept, self.buckets):
                    out.add(target, rows)
        return before, expired

    def _pieces(self, bucket: int, folder: Path) -> Iterator[pl.DataFrame]:
        if self.store.files(self.table, bucket):
            self.store.verify(bucket, (self.table,))
            yield from sorted_pieces(self.store, self.table, bucket, self.budget, folder / f"spill-{bucket:04d}")


def _by_bucket(rows: pl.DataFrame, buckets: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Rows in the order of h, cut where the bucket changes."""
    bucket_N = parts_of(rows["h"].to_numpy(), buckets)
    starts = [0, *(np.flatnonzero(np.diff(bucket_N)) + 1).tolist()] if len(rows) else []
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=False):
        yield int(bucket_N[start]), rows[start:end]

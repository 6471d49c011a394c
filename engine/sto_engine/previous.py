"""What earlier runs planned, bucket by bucket: their sends, the slots of the latest, whom it deferred.

A run may have been made with another number of buckets. Both are top bits of the same hash, so a bucket of this night
lies in one shard of a coarser run, and is some whole shards of a finer one. A shard is held to the sha256 of its
manifest before it is first read, and read in pieces: memory holds the rows of the bucket and one piece.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sto_engine.errors import BadData
from sto_engine.files import sha256_file
from sto_engine.ingest.decode import hash_column
from sto_engine.slots import grid_of
from sto_engine.tables import assignments_schema, suppressed_schema
from sto_engine.zones import HOUR_MS, MIN_OFFSET, midnight_ms
from sto_kernels.hashing import parts_of

_PIECE = 1 << 16


class Shard(NamedTuple):
    path: Path
    sha256: str


@dataclass(frozen=True)
class PastRun:
    """A committed run: its shards by bucket, its grid (`slots`), and the `plan` of its manifest, where it has one."""

    path: Path
    run_id: str
    date: dt.date
    channels: tuple[str, ...]
    id_type: str
    buckets: int
    slots: int
    assignments: tuple[Shard, ...]
    suppressed: tuple[Shard, ...]
    prices: dict[str, Any] | None = None

    @property
    def end_ms(self) -> int:
        """UTC time before which every send of the run lies: its last local day ends last in the westernmost zone."""
        return midnight_ms(self.date + dt.timedelta(days=grid_of(self.slots).days)) - MIN_OFFSET * HOUR_MS // 60


@dataclass(frozen=True)
class Previous:
    """Runs in ascending order of (date, run_id); all have the ids of the store that is scored."""

    runs: tuple[PastRun, ...]
    _whole: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def run_ids(self) -> list[str]:
        """What identifies all that a run can learn here: a run_id names the content of its shards."""
        return [run.run_id for run in self.runs]

    def sends(self, bucket: int, buckets: int, id_type: str, from_ms: int | None = None) -> pl.DataFrame:
        """Planned sends (at or after `from_ms`) of a bucket of `buckets`, in (h, user_id, run) order.

        Columns h, user_id, send_at_ms, provider, channel, slot, run (place in `runs`). BadData (65) names a shard that
        is gone or not the one that was written.
        """
        columns, types = ("user_id", "send_at", "provider", "channel", "slot"), assignments_schema(id_type)
        parts = [_sends(_empty(types, columns), 0)]
        for number, run in enumerate(self.runs):
            if from_ms is None or run.end_ms > from_ms:
                rows = self._rows(run, run.assignments, bucket, buckets, types, columns)
                parts.append(_sends(rows, number))
        sends = pl.concat(parts)
        if from_ms is not None:
            sends = sends.filter(pl.col("send_at_ms") >= from_ms)
        return sends.sort("h", "user_id", "run")

    def last_slots(self, bucket: int, buckets: int, id_type: str, slots: int) -> pl.DataFrame:
        """Columns h, user_id, slot, channel of the latest run, in (h, user_id) order; none of a run on another grid."""
        columns, types = ("user_id", "slot", "channel"), assignments_schema(id_type)
        if not self.runs or self.runs[-1].slots != slots:
            return _empty(types, columns)
        return self._rows(self.runs[-1], self.runs[-1].assignments, bucket, buckets, types, columns)

    def deferred(self, bucket: int, buckets: int, id_type: str) -> pl.DataFrame:
        """Columns h, user_id of those whom the latest run deferred, in (h, user_id) order."""
        columns, types = ("user_id", "reason"), suppressed_schema(id_type)
        rows = _empty(types, columns)
        if self.runs:
            rows = self._rows(self.runs[-1], self.runs[-1].suppressed, bucket, buckets, types, columns)
        return rows.filter(pl.col("reason") == "deferred").select("h", "user_id")

    def _rows(
        self,
        run: PastRun,
        shards: tuple[Shard, ...],
        bucket: int,
        buckets: int,
        types: pa.Schema,
        columns: tuple[str, ...],
    ) -> pl.DataFrame:
        """h and some columns of the rows of a bucket, in the order of the shards, which is that of (h, user_id)."""
        first, count = bucket * run.buckets // buckets, max(1, run.buckets // buckets)
        parts = [_empty(types, columns)]
        for shard in shards[first : first + count]:
            self._verify(shard)
            for piece in _pieces(shard.path, pa.schema(types.field(name) for name in columns)):
                rows = _with_h(piece)
                if run.buckets < buckets:
                    rows = rows.filter(pl.Series(parts_of(rows["h"].to_numpy(), buckets) == bucket))
                parts.append(rows)
        return pl.concat(parts)

    def _verify(self, shard: Shard) -> None:
        """Once a shard: page checksums, which every read verifies, do not cover the footer."""
        if shard.path in self._whole:
            return
        try:
            found = sha256_file(shard.path)
        except OSError as error:
            raise BadData(
                f"shard {shard.path} of an earlier run is gone or unreadable ({error.strerror}); restore it, or leave "
                "this run out of --previous"
            ) from error
        if found != shard.sha256:
            raise BadData(
                f"shard {shard.path} of an earlier run must have sha256 {shard.sha256}; found {found}; restore it, or "
                "leave this run out of --previous"
            )
        self._whole.add(shard.path)


def told_until(origin_ms: int, newest_event_ms: int | None) -> int:
    """UTC time up to which the events of a store say what was sent, for a day with this origin; then only plans do.

    Without any event, plans are all there is.
    """
    return -(2**62) if newest_event_ms is None else min(origin_ms, newest_event_ms + 1)


def _empty(types: pa.Schema, columns: tuple[str, ...]) -> pl.DataFrame:
    return _with_h(_frame(types.empty_table().select(columns)))


def _with_h(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(hash_column(rows["user_id"]), pl.all())


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _sends(rows: pl.DataFrame, run: int) -> pl.DataFrame:
    time = pl.col("send_at").dt.epoch("ms").alias("send_at_ms")
    return rows.select("h", "user_id", time, "provider", "channel", "slot", run=pl.lit(run, pl.UInt32))


def _pieces(path: Path, schema: pa.Schema) -> Iterator[pl.DataFrame]:
    """Rows of a shard in the columns of `schema`, some at a time, every page checksum verified."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(_PIECE, columns=schema.names, use_threads=False):
                yield _frame(pa.Table.from_batches([batch]).select(schema.names).cast(schema))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BadData(
            f"shard {path} of an earlier run must hold {', '.join(schema.names)} as this version writes them; found: "
            f"{error}; restore it, or leave this run out of --previous"
        ) from error

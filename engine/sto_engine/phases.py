"""The three phases over all buckets, each bucket with a record: what is recorded and whole is not done again."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign.census import Census
from sto_engine.assign.spread import SpreadPlan
from sto_engine.choose import BucketCounts
from sto_engine.cluster import run_buckets
from sto_engine.entry import Entry, demand, enter
from sto_engine.files import write_atomic
from sto_engine.models.bundle import read_tensors, tensor_bytes
from sto_engine.output import manifest as runs
from sto_engine.output.shards import read_staged, write_shard, write_staged
from sto_engine.plan import Plan
from sto_engine.progress import Progress
from sto_engine.records import counts_from_json, counts_to_json
from sto_engine.score import Staged, load_of, place_bucket, stage_bucket
from sto_engine.tables import assignments_schema, check, scores_schema, suppressed_schema
from sto_engine.view import BucketView, look

Priors = dict[str, NDArray[Any]]
Record = dict[str, Any]
# a bucket of 80,000 users with ten events each takes about 40 MB
KEEP_BYTES = 1 << 30


@dataclass(frozen=True)
class Placed:
    """Files of the run folder by their sha256; sends of each quarter-hour and provider."""

    files: dict[str, str]
    load: dict[tuple[int, str], int]


@dataclass(frozen=True)
class StagedRecord:
    """What is known of a bucket after phase A, read back from its record."""

    counts: BucketCounts
    files: dict[str, str]


class Kept:
    """Buckets as phase 0 saw them, up to a limit of memory: those beyond it are read and cleaned a second time."""

    def __init__(self, limit: int) -> None:
        self._free, self._views, self._lock = limit, dict[int, BucketView](), threading.Lock()

    def put(self, bucket: int, view: BucketView) -> None:
        with self._lock:
            if view.nbytes <= self._free:
                self._views[bucket] = view
                self._free -= view.nbytes

    def peek(self, bucket: int) -> BucketView | None:
        with self._lock:
            return self._views.get(bucket)

    def pop(self, bucket: int) -> BucketView | None:
        with self._lock:
            view = self._views.pop(bucket, None)
            self._free += view.nbytes if view is not None else 0
            return view


@dataclass(frozen=True)
class Phases:
    """Runs bucket functions on `threads` threads and keeps their records under `run` (nothing is kept without one)."""

    plan: Plan
    run: Path | None
    run_id: str
    threads: int
    progress: Progress
    dump_scores: bool = False
    kept: "Kept" = field(default_factory=lambda: Kept(KEEP_BYTES))
    entries: dict[int, Entry] = field(default_factory=dict)

    @property
    def buckets(self) -> range:
        return range(self.plan.store.buckets)

    def priors(self) -> Priors:
        """Phase 0: the small tables that cross buckets, summed in bucket order."""
        if not self.plan.policy.needs_sums:
            return {}
        if self.run is None:
            records = self._records("priors", lambda bucket: {"sums": self._sums(bucket)})
            return self.plan.policy.reduce([record["sums"] for record in records])
        run, records = self.run, self._records("priors", self._sums_to_disk)
        names = [next(iter(record["files"])) for record in records]
        parts = [read_tensors((run / name).read_bytes(), str(run / name)) for name in names]
        priors = self.plan.policy.reduce(parts)
        write_atomic(run / runs.STAGING / "priors.safetensors", tensor_bytes(priors))
        return priors

    def _sums(self, bucket: int) -> dict[str, NDArray[Any]]:
        """What a bucket adds to the priors; what was seen of it is kept for phase A while there is room."""
        seen = look(self.plan, bucket)
        self.kept.put(bucket, seen)
        return self.plan.policy.sums(seen.known, self.plan.store.buckets)

    def _sums_to_disk(self, bucket: int) -> Record:
        assert self.run is not None
        name = f"{runs.STAGING}/priors/bucket-{bucket:04d}.safetensors"
        runs.make_folder((self.run / name).parent)
        body = tensor_bytes(self._sums(bucket))
        write_atomic(self.run / name, body)
        return {"files": {name: hashlib.sha256(body).hexdigest()}}

    def demand(self) -> Census:
        """What all recipients want of the limits, before anyone is scored."""
        total = Census()
        for record in self._records("demand", lambda bucket: {"census": self._demand(bucket).to_json()}):
            total.add(Census.from_json(record["census"]))
        return total

    def _demand(self, bucket: int) -> Census:
        seen = self.kept.peek(bucket)
        if seen is None:
            seen = look(self.plan, bucket)
            self.kept.put(bucket, seen)
        entry = enter(self.plan, seen)
        if self.kept.peek(bucket) is not None:
            self.entries[bucket] = entry
        return demand(self.plan, seen, entry)

    def stage(self, priors: Priors, bucket: int, mean_weight: float = 1.0) -> Staged:
        seen = self.kept.pop(bucket) or look(self.plan, bucket)
        return stage_bucket(self.plan, priors, seen, self.entries.pop(bucket, None), mean_weight)

    def stage_all(self, priors: Priors, mean_weight: float = 1.0) -> list[StagedRecord]:
        """Phase A: staged rows, suppressed rows and counts of every bucket, in bucket order."""
        records = self._records("choose", lambda bucket: self._stage_to_disk(priors, bucket, mean_weight))
        return [StagedRecord(counts_from_json(record), record["files"]) for record in records]

    def place_all(self, staged: list[StagedRecord], spread: SpreadPlan, final: "Final") -> Placed:
        """Phase B: the shards; every file of the run folder by its sha256, and the load as it was written."""
        records = self._records("spread", lambda bucket: self._place_to_disk(bucket, staged[bucket], spread, final))
        kept = [record.files for record in staged] + [record["files"] for record in records]
        files = {name: sha for part in kept for name, sha in sorted(part.items()) if not name.startswith(runs.STAGING)}
        load: Counter[tuple[int, str]] = Counter()
        for record in records:
            load.update({(at, name): n for at, name, n in record["load"]})
        return Placed(files, dict(load))

    def _records(self, phase: str, work: Callable[[int], Record]) -> list[Record]:
        """The record of every bucket in bucket order, from disk where it holds and by `work` where not."""
        done = {b: r for b in self.buckets if self.run is not None and (r := runs.read_record(self.run, phase, b))}
        self.progress.start(phase, len(self.buckets))
        self.progress.advance(phase, len(done))
        for bucket, record in run_buckets(work, [b for b in self.buckets if b not in done], self.threads):
            if self.run is not None:
                runs.write_record(self.run, phase, bucket, record)
            done[bucket] = record
            self.progress.advance(phase)
        return [done[bucket] for bucket in self.buckets]

    def _stage_to_disk(self, priors: Priors, bucket: int, mean_weight: float) -> Record:
        assert self.run is not None
        staged = self.stage(priors, bucket, mean_weight)
        id_type, row_group = self.plan.store.id_type, self.plan.config.output.row_group
        files = {rows_name(bucket): self._staging(rows_name(bucket), staged.rows)}
        gone = check(staged.suppressed.cast(suppressed_schema(id_type)), "suppressed")
        if self.plan.is_priced:
            files[gone_name(bucket)] = self._staging(gone_name(bucket), gone)  # who is left out is not known yet
        else:
            self._shard(files, "suppressed", bucket, gone, row_group)
        if self.dump_scores and staged.p_open_US is not None:
            values = pa.array(staged.p_open_US.reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(values, self.plan.grid.slots)
            table = pa.table([staged.rows["user_id"], lists.cast(pa.list_(pa.float32()))], scores_schema(id_type).names)
            self._shard(files, "scores", bucket, table.cast(scores_schema(id_type)), row_group)
        if staged.features is not None:
            self._shard(files, "features", bucket, staged.features, row_group, arrow_types=True)
        return {"files": files, **counts_to_json(staged.counts)}

    def _staging(self, name: str, table: pa.Table) -> str:
        assert self.run is not None
        runs.make_folder((self.run / name).parent)
        return write_staged(self.run / name, table)

    def _place_to_disk(self, bucket: int, staged: StagedRecord, spread: SpreadPlan, final: "Final") -> Record:
        assert self.run is not None
        id_type, row_group = self.plan.store.id_type, self.plan.config.output.row_group
        table = read_staged(self.run / rows_name(bucket), staged.files[rows_name(bucket)])
        rows, left_out = final(bucket, table)
        placed = place_bucket(self.plan, rows, spread, bucket, self.run_id)
        schema, files = assignments_schema(id_type), dict[str, str]()
        body = placed.select(schema.names).to_arrow().cast(schema)
        self._shard(files, "assignments", bucket, check(body, "assignments"), row_group)
        if left_out is not None:
            gone = read_staged(self.run / gone_name(bucket), staged.files[gone_name(bucket)])
            gone = pa.concat_tables([gone, left_out.cast(gone.schema)])
            self._shard(files, "suppressed", bucket, check(gone, "suppressed"), row_group)
        return {"files": files, "rows": body.num_rows, "load": [list(row) for row in load_of(placed)]}

    def _shard(
        self, files: dict[str, str], kind: str, bucket: int, table: pa.Table, row_group: int, arrow_types: bool = False
    ) -> None:
        assert self.run is not None
        path = runs.make_folder(self.run / kind) / f"part-{bucket:04d}.parquet"
        files[f"{kind}/{path.name}"] = write_shard(path, table, row_group, arrow_types)


class Final(Protocol):
    """Staged rows of a bucket with their final slots, and rows that are sent nothing after all (None: not asked)."""

    def __call__(self, bucket: int, table: pa.Table, /) -> tuple[pl.DataFrame, pa.Table | None]: ...


def as_staged(bucket: int, table: pa.Table) -> tuple[pl.DataFrame, None]:
    """Where nothing is short, phase A has said it all."""
    rows = pl.from_arrow(table)
    assert isinstance(rows, pl.DataFrame)
    return rows, None


def rows_name(bucket: int) -> str:
    return f"{runs.STAGING}/rows/bucket-{bucket:04d}.arrow"


def gone_name(bucket: int) -> str:
    return f"{runs.STAGING}/gone/bucket-{bucket:04d}.arrow"

"""What is done to one bucket in phases 0, A and B: pure but for the files of its attempt, so that it may run anywhere.

Each method returns a record: counts and hashes, never rows. U users of the bucket.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign.spread import Ranks, SpreadPlan
from sto_engine.entry import Entry, demand, enter
from sto_engine.errors import BadData
from sto_engine.files import own_path, sha256_file
from sto_engine.models.bundle import read_tensors, tensor_bytes
from sto_engine.output import manifest as runs
from sto_engine.output.manifest import Attempt, Record
from sto_engine.output.shards import read_staged, write_shard, write_staged
from sto_engine.plan import Plan
from sto_engine.records import counts_to_json
from sto_engine.score import Staged, load_of, place_bucket, stage_bucket
from sto_engine.tables import assignments_schema, check, scores_schema, suppressed_schema
from sto_engine.view import BucketView, look

Priors = dict[str, NDArray[Any]]
PRIORS = f"{runs.STAGING}/priors.safetensors"
# a bucket of 80,000 users with ten events each takes about 40 MB
KEEP_BYTES = 1 << 30


class SlotsFile(NamedTuple):
    """Slots of a bucket on disk, a byte a user: relative path and sha256."""

    name: str
    sha256: str

    def read(self, run: Path) -> NDArray[np.uint8]:
        """BadData (65) where they are not what was written."""
        if sha256_file(run / self.name) != self.sha256:
            raise BadData(f"slots {run / self.name} are not as written; delete the run folder and score again")
        return np.fromfile(run / self.name, np.uint8)


class PlaceTold(NamedTuple):
    """What phase B must know of a bucket: its staged files by sha256, its ranks, its slots (None: as staged)."""

    files: dict[str, str]
    ranks: Ranks
    slots: SlotsFile | None = None


class Final(Protocol):
    """Staged rows of a bucket with their final slots, and rows that are sent nothing after all (None: not asked)."""

    def __call__(
        self, table: pa.Table, slot_U: NDArray[np.uint8] | None, /
    ) -> tuple[pl.DataFrame, pa.Table | None]: ...


def as_staged(table: pa.Table, slot_U: NDArray[np.uint8] | None) -> tuple[pl.DataFrame, None]:
    """Where nothing is short, phase A has said it all."""
    rows = pl.from_arrow(table)
    assert isinstance(rows, pl.DataFrame)
    return rows, None


class Kept:
    """Buckets as phase 0 saw them, up to a limit of memory: those beyond it are read and cleaned a second time.

    Only this process has them: where it travels, it is empty and keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._free, self._lock = limit, threading.Lock()
        self._views, self._entries = dict[int, BucketView](), dict[int, Entry]()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (0,)

    def put(self, bucket: int, view: BucketView) -> None:
        with self._lock:
            if view.nbytes <= self._free:
                self._views[bucket] = view
                self._free -= view.nbytes

    def put_entry(self, bucket: int, entry: Entry) -> None:
        """The entry of a bucket that is kept."""
        with self._lock:
            if bucket in self._views:
                self._entries[bucket] = entry

    def peek(self, bucket: int) -> BucketView | None:
        with self._lock:
            return self._views.get(bucket)

    def pop(self, bucket: int) -> tuple[BucketView | None, Entry | None]:
        with self._lock:
            view = self._views.pop(bucket, None)
            self._free += view.nbytes if view is not None else 0
            return view, self._entries.pop(bucket, None)


@dataclass(frozen=True)
class BucketWork:
    """The work of a run whose folder is `run` (phases.Work)."""

    plan: Plan
    run: Path
    run_id: str
    dump_scores: bool = False
    kept: Kept = field(default_factory=lambda: Kept(0))

    @property
    def buckets(self) -> int:
        return self.plan.store.buckets

    @property
    def needs_sums(self) -> bool:
        return self.plan.policy.needs_sums

    def sums(self, bucket: int) -> Record:
        """Phase 0: what a bucket adds to the priors; what was seen of it is kept for phase A while there is room."""
        seen = look(self.plan, bucket)
        self.kept.put(bucket, seen)
        name = _sums_name(bucket)
        with runs.attempt(self.run) as made:
            _write_tensors(made, name, self.plan.policy.sums(seen.known, self.buckets))
            return made.record()

    def priors(self) -> Record:
        """The priors from the sums of every bucket, in bucket order."""
        with runs.attempt(self.run) as made:
            _write_tensors(made, PRIORS, self.plan.policy.reduce(self._parts()))
            return made.record()

    def _parts(self) -> Iterator[Priors]:
        for bucket in range(self.buckets):
            path = self.run / _sums_name(bucket)
            yield read_tensors(path.read_bytes(), str(path))

    def demand(self, bucket: int) -> Record:
        """What a bucket wants of the limits, before anyone is scored."""
        seen = self.kept.peek(bucket)
        if seen is None:
            seen = look(self.plan, bucket)
            self.kept.put(bucket, seen)
        entry = enter(self.plan, seen)
        self.kept.put_entry(bucket, entry)
        return {"census": demand(self.plan, seen, entry).to_json()}

    def stage(self, priors: Priors, mean_weight: float, bucket: int) -> Record:
        """Phase A: staged rows, suppressed rows and counts."""
        seen, entry = self.kept.pop(bucket)
        staged = stage_bucket(self.plan, priors, seen or look(self.plan, bucket), entry, mean_weight)
        with runs.attempt(self.run) as made:
            made.files[rows_name(bucket)] = write_staged(made.path(rows_name(bucket)), staged.rows)
            gone = check(staged.suppressed.cast(suppressed_schema(self.plan.store.id_type)), "suppressed")
            if self.plan.is_priced:  # who is left out is not known yet
                made.files[gone_name(bucket)] = write_staged(made.path(gone_name(bucket)), gone)
            else:
                self._shard(made, "suppressed", bucket, gone)
            self._dump(made, bucket, staged)
            return made.record(**counts_to_json(staged.counts))

    def _dump(self, made: Attempt, bucket: int, staged: Staged) -> None:
        if self.dump_scores and staged.p_open_US is not None:
            schema = scores_schema(self.plan.store.id_type)
            values = pa.array(staged.p_open_US.reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(values, self.plan.options.size)
            table = pa.table([staged.rows["user_id"], lists.cast(pa.list_(pa.float32()))], schema.names)
            self._shard(made, "scores", bucket, table.cast(schema))
        if staged.features is not None:
            self._shard(made, "features", bucket, staged.features, arrow_types=True)

    def place(self, spread: SpreadPlan, final: Final, bucket: int, told: PlaceTold) -> Record:
        """Phase B: the shards, and the load as it was written."""
        table = read_staged(self.run / rows_name(bucket), told.files[rows_name(bucket)])
        rows, left_out = final(table, told.slots.read(self.run) if told.slots is not None else None)
        placed = place_bucket(self.plan, rows, spread, told.ranks, self.run_id)
        schema = assignments_schema(self.plan.store.id_type)
        body = check(placed.select(schema.names).to_arrow().cast(schema), "assignments")
        with runs.attempt(self.run) as made:
            self._shard(made, "assignments", bucket, body)
            if left_out is not None:
                gone = read_staged(self.run / gone_name(bucket), told.files[gone_name(bucket)])
                gone = pa.concat_tables([gone, left_out.cast(gone.schema)])
                self._shard(made, "suppressed", bucket, check(gone, "suppressed"))
            return made.record(rows=body.num_rows, load=[list(row) for row in load_of(placed)])

    def _shard(self, made: Attempt, kind: str, bucket: int, table: pa.Table, arrow_types: bool = False) -> None:
        name, row_group = f"{kind}/part-{bucket:04d}.parquet", self.plan.config.output.row_group
        made.files[name] = write_shard(made.path(name), table, row_group, arrow_types)


def _write_tensors(made: Attempt, name: str, tensors: Priors) -> None:
    with own_path(made.path(name)) as path:
        path.write_bytes(tensor_bytes(tensors))
    made.files[name] = sha256_file(made.path(name))


def staged_rows(run: Path, bucket: int, check_hash: bool) -> pa.Table:
    """What phase A staged of a bucket; BadData (65) where its hash is looked at and is not that of the record."""
    name = rows_name(bucket)
    sha256 = runs.read_record(run, CHOOSE, bucket)["files"][name] if check_hash else None
    return read_staged(run / name, sha256)


CHOOSE = "choose"


def rows_name(bucket: int) -> str:
    return f"{runs.STAGING}/rows/bucket-{bucket:04d}.arrow"


def gone_name(bucket: int) -> str:
    return f"{runs.STAGING}/gone/bucket-{bucket:04d}.arrow"


def _sums_name(bucket: int) -> str:
    return f"{runs.STAGING}/priors/bucket-{bucket:04d}.safetensors"

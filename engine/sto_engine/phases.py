"""The three phases over all buckets, each bucket with a record: what is recorded and whole is not done again.

Rows never come here: work on buckets, wherever the executor runs it, writes them and returns counts and hashes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from sto_engine.assign.census import Census
from sto_engine.assign.spread import Ranking, SpreadPlan
from sto_engine.bucket_counts import BucketCounts
from sto_engine.bucket_work import CHOOSE, PRIORS, Final, PlaceTold, Priors, SlotsFile
from sto_engine.executor import Executor
from sto_engine.models.bundle import read_tensors
from sto_engine.output import manifest as runs
from sto_engine.output.manifest import Record
from sto_engine.output.report import add_to
from sto_engine.progress import Progress
from sto_engine.records import Recorder, Records, counts_from_json, spread_of


class Work(Protocol):
    """What is done to a bucket (bucket_work.BucketWork); it travels to where it runs, and returns records."""

    @property
    def run(self) -> Path: ...

    @property
    def buckets(self) -> int: ...

    @property
    def needs_sums(self) -> bool: ...

    def sums(self, bucket: int) -> Record: ...

    def priors(self) -> Record: ...

    def demand(self, bucket: int) -> Record: ...

    def stage(self, priors: Priors, mean_weight: float, bucket: int) -> Record: ...

    def place(self, spread: SpreadPlan, final: Final, bucket: int, told: PlaceTold) -> Record: ...


@dataclass(frozen=True)
class StagedAll:
    """What is known after phase A: a record a bucket, the counts of all together, files of the run by sha256."""

    records: Records
    counts: BucketCounts
    files: dict[str, str]


@dataclass(frozen=True)
class Placed:
    """Files of the run folder by their sha256; sends of each quarter-hour and provider."""

    files: dict[str, str]
    load: dict[tuple[int, str], int]


@dataclass(frozen=True)
class Phases:
    """Runs the work on all buckets and keeps its records."""

    work: Work
    executor: Executor
    progress: Progress

    def __post_init__(self) -> None:
        runs.begin(self.work.run)

    @property
    def record(self) -> Recorder:
        return Recorder(self.work.run, self.work.buckets, self.executor, self.progress)

    def priors(self) -> Priors:
        """Phase 0: the small tables that cross buckets."""
        if not self.work.needs_sums:
            return {}
        self.record("priors", self.work.sums)
        runs.adopt(self.work.run, self.executor.call(self.work.priors))
        path = self.work.run / PRIORS
        return read_tensors(path.read_bytes(), str(path))

    def demand(self) -> Census:
        """What all recipients want of the limits, before anyone is scored."""
        total = Census()
        for record in self.record("demand", self.work.demand):
            total.add(Census.from_json(record["census"]))
        return total

    def stage_all(self, priors: Priors, mean_weight: float = 1.0) -> StagedAll:
        """Phase A: staged rows, suppressed rows and counts of every bucket."""
        records = self.record(CHOOSE, partial(self.work.stage, priors, mean_weight), on="gpu")
        counts, files = BucketCounts(), dict[str, str]()
        for record in records:
            add_to(counts, counts_from_json(record))
            files |= _lasting(record)
        return StagedAll(records, counts, files)

    def place_all(
        self,
        staged: StagedAll,
        spread: SpreadPlan,
        counted: Records,
        final: Final,
        slots: Mapping[int, SlotsFile],
    ) -> Placed:
        """Phase B: the shards; every file of the run folder by its sha256, and the load as it was written.

        `counted` are the records that tell how many sends of each key a bucket has; `slots` those that are not as
        staged.
        """
        ranking = Ranking(spread, lambda bucket: spread_of(counted.of(bucket)))

        def told(bucket: int) -> PlaceTold:
            return PlaceTold(staged.records.of(bucket)["files"], ranking.of(bucket), slots.get(bucket))

        records = self.record("spread", partial(self.work.place, spread, final), told)
        load, files = Counter[tuple[int, str]](), dict(staged.files)
        for record in records:
            load.update({(at, name): n for at, name, n in record["load"]})
            files |= _lasting(record)
        return Placed(files, dict(load))


def _lasting(record: Record) -> dict[str, str]:
    """Files of a record that stay when the run is committed."""
    return {name: sha for name, sha in record["files"].items() if not name.startswith(runs.STAGING)}

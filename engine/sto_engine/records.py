"""Records of work on every bucket: how they come about, what they say of a bucket, and how they are read back.

They lie on disk and are read one at a time, so a run of any size needs the memory of one of them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sto_engine.assign.census import Census
from sto_engine.assign.gain import Gain
from sto_engine.assign.regret import Regret
from sto_engine.assign.spread import SpreadKey
from sto_engine.bucket_counts import BucketCounts
from sto_engine.executor import Executor, Place, Told
from sto_engine.output import manifest as runs
from sto_engine.output.manifest import Record
from sto_engine.progress import Progress

TALLIES = ("suppressed", "reason", "arm", "slot", "channel", "preferred", "provider", "held", "days", "cold", "urgency")


@dataclass(frozen=True)
class Records:
    """The records of a phase that is done."""

    run: Path
    phase: str
    buckets: int

    def of(self, bucket: int) -> Record:
        return runs.read_record(self.run, self.phase, bucket)

    def __iter__(self) -> Iterator[Record]:
        """In bucket order."""
        return map(self.of, range(self.buckets))


@dataclass(frozen=True)
class Recorder:
    """Runs work on every bucket; what is recorded and whole is not done again."""

    run: Path
    buckets: int
    executor: Executor
    progress: Progress

    def __call__(self, phase: str, work: Callable[..., Record], told: Told | None = None, on: Place = "cpu") -> Records:
        self.progress.start(phase, self.buckets)
        for bucket, record in self.executor.run(work, self._left(phase), told, on):
            runs.write_record(self.run, phase, bucket, runs.adopt(self.run, record))
            self.progress.advance(phase)
        return Records(self.run, phase, self.buckets)

    def _left(self, phase: str) -> Iterator[int]:
        for bucket in range(self.buckets):
            if runs.is_recorded(self.run, phase, bucket):
                self.progress.advance(phase)
            else:
                yield bucket


def counts_to_json(counts: BucketCounts) -> dict[str, Any]:
    """Counts of a bucket as plain JSON values; spread keys are rows, since JSON has no tuples."""
    spread = sorted([start, provider, n] for (start, provider), n in counts.spread.items())
    tallies = {name: sorted(getattr(counts, name).items()) for name in TALLIES}
    return {
        "audience": counts.audience,
        "nan_rows": counts.nan_rows,
        "spread": spread,
        "gain": counts.gain.to_json(),
        "regret": counts.regret.to_json(),
        "census": counts.census.to_json(),
        **json.loads(json.dumps(tallies)),
    }


def counts_from_json(record: Mapping[str, Any]) -> BucketCounts:
    """What `counts_to_json` wrote."""
    tallies = {name: Counter(dict(record[name])) for name in TALLIES}
    return BucketCounts(
        audience=record["audience"],
        nan_rows=record["nan_rows"],
        spread=Counter(spread_of(record)),
        gain=Gain.from_json(record["gain"]),
        regret=Regret.from_json(record["regret"]),
        census=Census.from_json(record["census"]),
        **tallies,
    )


def spread_of(record: Mapping[str, Any]) -> dict[SpreadKey, int]:
    """Sends of each start and provider alone."""
    return {(start, provider): n for start, provider, n in record["spread"]}

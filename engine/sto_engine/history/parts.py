"""What a bucket hands over before anybody can be scored, as named arrays that go to disk and back unchanged."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import Bucket
from sto_engine.history.sample import (
    SAMPLE_USERS,
    Campaigns,
    Sample,
    add_campaigns,
    bucket_campaigns,
    bucket_sample,
    merge_samples,
)
from sto_kernels.journal import Cleaned

T = TypeVar("T")
Tensors = Mapping[str, NDArray[Any]]
_TEXTS = ("cohorts", "sources")
# what waits to be merged: campaign sums, users of samples
GROUP, GROUP_USERS = 64, 2 * SAMPLE_USERS


def campaign_tensors(bucket: Bucket) -> dict[str, NDArray[Any]]:
    """Sums by campaign of a bucket."""
    found = bucket_campaigns(bucket)
    return {f"campaigns.{f.name}": getattr(found, f.name) for f in fields(found)}


def read_campaigns(parts: Iterable[Tensors]) -> Campaigns:
    """The sums of all buckets together."""
    return read_history(parts, with_sample=False).campaigns


def sample_tensors(bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
    """What a bucket, one of `buckets`, offers to the sample."""
    sample = bucket_sample(bucket, buckets)
    out: dict[str, NDArray[Any]] = {f"cleaned.{f.name}": getattr(sample.cleaned, f.name) for f in fields(Cleaned)}
    for name in _TEXTS:
        out[f"sample.{name}"] = np.frombuffer(json.dumps(getattr(sample, name)).encode(), np.uint8)
    out["sample.key_U"], out["sample.cohort_U"] = sample.key_U, sample.cohort_U
    out["sample.campaign_key_C"], out["sample.below"] = sample.campaign_key_C, np.array([sample.below], np.uint64)
    return out


def read_sample(parts: Iterable[Tensors]) -> Sample:
    """The sample of all buckets together."""
    return _samples(map(_sample, parts)).all()


@dataclass(frozen=True)
class History:
    """What all buckets hand over; `window_ms` is that of the first, (0, 0) where it tells none."""

    campaigns: Campaigns
    sample: Sample | None
    window_ms: tuple[int, int]


def read_history(parts: Iterable[Tensors], with_sample: bool) -> History:
    """Sums and sample of all buckets together, in bucket order; parts are read once.

    What waits is merged from time to time: many buckets offer several times the sample.
    """
    campaigns, samples, window_ms = _Merged(add_campaigns, lambda _: 1, GROUP), _samples(()), None
    for part in parts:
        campaigns.add(_campaigns(part))
        if with_sample:
            samples.add(_sample(part))
        window_ms = window_ms if window_ms is not None else part.get("window_ms", np.zeros(2)).tolist()
    assert window_ms is not None
    return History(campaigns.all(), samples.all() if with_sample else None, (int(window_ms[0]), int(window_ms[1])))


class _Merged(Generic[T]):
    """Items that are merged whenever those that wait have a size of `most` together."""

    def __init__(self, merge: Callable[[Sequence[T]], T], size: Callable[[T], int], most: int) -> None:
        self._merge, self._size, self._most = merge, size, most
        self._items, self._waiting = list[T](), 0

    def add(self, item: T) -> None:
        self._items.append(item)
        self._waiting += self._size(item)
        if self._waiting >= self._most:
            self._items, self._waiting = [self.all()], 0

    def all(self) -> T:
        return self._merge(self._items)


def _samples(parts: Iterable[Sample]) -> _Merged[Sample]:
    merged = _Merged(lambda samples: merge_samples(samples), lambda sample: sample.users, GROUP_USERS)
    for part in parts:
        merged.add(part)
    return merged


def _campaigns(part: Tensors) -> Campaigns:
    return Campaigns(**{f.name: part[f"campaigns.{f.name}"] for f in fields(Campaigns)})


def _sample(part: Tensors) -> Sample:
    cleaned = Cleaned(**{f.name: part[f"cleaned.{f.name}"] for f in fields(Cleaned)})
    cohorts, sources = (tuple(json.loads(part[f"sample.{name}"].tobytes())) for name in _TEXTS)
    below = int(part["sample.below"][0])
    key_U, cohort_U = part["sample.key_U"], part["sample.cohort_U"]
    return Sample(key_U, cohort_U, cohorts, sources, cleaned, part["sample.campaign_key_C"], below)

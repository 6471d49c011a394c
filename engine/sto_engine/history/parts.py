"""What a bucket hands over before anybody can be scored, as named arrays that go to disk and back unchanged."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import Bucket
from sto_engine.history.sample import (
    Campaigns,
    Sample,
    add_campaigns,
    bucket_campaigns,
    bucket_sample,
    merge_samples,
)
from sto_kernels.journal import Cleaned

Tensors = Mapping[str, NDArray[Any]]
_TEXTS = ("cohorts", "sources")
GROUP = 64


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
    sample: Sample | None = None
    for group in _groups(parts):
        sample = _with_samples(sample, group)
    assert sample is not None
    return sample


@dataclass(frozen=True)
class History:
    """What all buckets hand over; `window_ms` is that of the first, (0, 0) where it tells none."""

    campaigns: Campaigns
    sample: Sample | None
    window_ms: tuple[int, int]


def read_history(parts: Iterable[Tensors], with_sample: bool) -> History:
    """Sums and sample of all buckets together, in bucket order. Parts are read once, GROUP of them at a time: what many
    buckets offer to the sample is several times the sample."""
    campaigns, sample, window_ms = list[Campaigns](), None, None
    for group in _groups(parts):
        campaigns = [add_campaigns([*campaigns, *map(_campaigns, group)])]
        sample = _with_samples(sample, group) if with_sample else None
        window_ms = window_ms or tuple(group[0].get("window_ms", (0, 0)))
    assert window_ms is not None
    return History(campaigns[0], sample, (int(window_ms[0]), int(window_ms[1])))


def _groups(parts: Iterable[Tensors]) -> Iterator[list[Tensors]]:
    rest = iter(parts)
    while group := list(islice(rest, GROUP)):
        yield group


def _with_samples(sample: Sample | None, parts: Sequence[Tensors]) -> Sample:
    return merge_samples([*([sample] if sample is not None else []), *map(_sample, parts)])


def _campaigns(part: Tensors) -> Campaigns:
    return Campaigns(**{f.name: part[f"campaigns.{f.name}"] for f in fields(Campaigns)})


def _sample(part: Tensors) -> Sample:
    cleaned = Cleaned(**{f.name: part[f"cleaned.{f.name}"] for f in fields(Cleaned)})
    cohorts, sources = (tuple(json.loads(part[f"sample.{name}"].tobytes())) for name in _TEXTS)
    below = int(part["sample.below"][0])
    key_U, cohort_U = part["sample.key_U"], part["sample.cohort_U"]
    return Sample(key_U, cohort_U, cohorts, sources, cleaned, part["sample.campaign_key_C"], below)

"""What a bucket hands over before anybody can be scored, as named arrays that go to disk and back unchanged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
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


def campaign_tensors(bucket: Bucket) -> dict[str, NDArray[Any]]:
    """Sums by campaign of a bucket."""
    found = bucket_campaigns(bucket)
    return {f"campaigns.{f.name}": getattr(found, f.name) for f in fields(found)}


def read_campaigns(parts: Sequence[Tensors]) -> Campaigns:
    """The sums of all buckets together."""
    names = [f.name for f in fields(Campaigns)]
    return add_campaigns([Campaigns(**{name: part[f"campaigns.{name}"] for name in names}) for part in parts])


def sample_tensors(bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
    """What a bucket, one of `buckets`, offers to the sample."""
    sample = bucket_sample(bucket, buckets)
    out: dict[str, NDArray[Any]] = {f"cleaned.{f.name}": getattr(sample.cleaned, f.name) for f in fields(Cleaned)}
    for name in _TEXTS:
        out[f"sample.{name}"] = np.frombuffer(json.dumps(getattr(sample, name)).encode(), np.uint8)
    out["sample.key_U"], out["sample.cohort_U"] = sample.key_U, sample.cohort_U
    out["sample.campaign_key_C"], out["sample.below"] = sample.campaign_key_C, np.array([sample.below], np.uint64)
    return out


def read_sample(parts: Sequence[Tensors]) -> Sample:
    """The sample of all buckets together."""
    return merge_samples([_sample(part) for part in parts])


def _sample(part: Tensors) -> Sample:
    cleaned = Cleaned(**{f.name: part[f"cleaned.{f.name}"] for f in fields(Cleaned)})
    cohorts, sources = (tuple(json.loads(part[f"sample.{name}"].tobytes())) for name in _TEXTS)
    below = int(part["sample.below"][0])
    key_U, cohort_U = part["sample.key_U"], part["sample.cohort_U"]
    return Sample(key_U, cohort_U, cohorts, sources, cleaned, part["sample.campaign_key_C"], below)

"""The part of a bucket that crosses buckets: sums by campaign, and the whole histories of hash-chosen users.

The sample are the SAMPLE_USERS users of the lowest hashes among those who may teach. Which they are depends on neither
buckets nor threads: every bucket offers more than its share, and what lies above the lowest hash at which a bucket may
have held back is dropped. C campaigns, U users of the sample, in the order of their hashes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import DAY_MS, Bucket
from sto_engine.tables import encode
from sto_kernels.count_walk import campaign_sums
from sto_kernels.hashing import derive
from sto_kernels.journal import HOUR_MS, Cleaned

SAMPLE_USERS = 100_000
_SEND = ("utc_S", "local_S", "latency_S", "campaign_S", "type_S", "label_S")
_ACT = ("utc_A", "local_A", "mobile_A")
_ALL = 2**64 - 1


@dataclass(frozen=True)
class Campaigns:
    """Sends and opens within 2 and 24 h of each campaign at each local hour it was sent, int64 [C, 4], and its type.

    Rows are in the order of `key_C`, the hash of the campaign's id, then `hour_C`.
    """

    key_C: NDArray[np.uint64]
    hour_C: NDArray[np.int8]
    type_C: NDArray[np.int8]
    sums_C4: NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Histories of sampled users: `cohort_U` indexes `cohorts`, `campaign_S` of `cleaned` indexes `campaign_key_C`.

    `cohorts` are those of the users of the sample, `sources` the sign-up sources of all who may teach; users of hashes
    from `below` on may have been held back.
    """

    key_U: NDArray[np.uint64]
    cohort_U: NDArray[np.int32]
    cohorts: tuple[str, ...]
    sources: tuple[str, ...]
    cleaned: Cleaned
    campaign_key_C: NDArray[np.uint64]
    below: int = _ALL

    @property
    def users(self) -> int:
        return len(self.key_U)


def bucket_campaigns(bucket: Bucket) -> Campaigns:
    """Sums over the bucket's human sends, one row a campaign and hour of sending."""
    cleaned = bucket.cleaned
    hour_S = cleaned.local_S % DAY_MS // HOUR_MS
    code_S = cleaned.campaign_S.astype(np.int64) * 24 + hour_S
    cell_C = np.flatnonzero(np.bincount(code_S))
    place_N = np.zeros(cell_C.max(initial=-1) + 1, np.int32)
    place_N[cell_C] = np.arange(len(cell_C), dtype=np.int32)
    code_S = place_N[code_S]
    by_hour = _replace(cleaned, campaign_S=code_S)
    sums_C4 = campaign_sums(by_hour, bucket.bad_U, bucket.end_ms, len(cell_C))
    type_C = np.zeros(len(cell_C), np.int8)
    np.maximum.at(type_C, code_S, cleaned.type_S)
    return Campaigns(bucket.campaign_key_C[cell_C // 24], (cell_C % 24).astype(np.int8), type_C, sums_C4)


def add_campaigns(parts: Sequence[Campaigns]) -> Campaigns:
    """The sums of all parts by campaign and hour."""
    key_N, hour_N = (np.concatenate([getattr(part, name) for part in parts]) for name in ("key_C", "hour_C"))
    order = np.lexsort((hour_N, key_N))
    key_N, hour_N = key_N[order], hour_N[order]
    new_N = np.ones(len(order), np.bool_)
    new_N[1:] = (key_N[1:] != key_N[:-1]) | (hour_N[1:] != hour_N[:-1])
    code_N = np.cumsum(new_N) - 1
    sums_C4 = np.zeros((int(new_N.sum()), 4), np.int64)
    type_C = np.zeros(len(sums_C4), np.int8)
    np.add.at(sums_C4, code_N, np.concatenate([part.sums_C4 for part in parts])[order])
    np.maximum.at(type_C, code_N, np.concatenate([part.type_C for part in parts])[order])
    return Campaigns(key_N[new_N], hour_N[new_N], type_C, sums_C4)


def bucket_sample(bucket: Bucket, buckets: int, limit: int = SAMPLE_USERS) -> Sample:
    """What this bucket, one of `buckets`, offers to the sample: users with an event who are no machines."""
    key_U = derive(bucket.users["h"].to_numpy(), "history-sample")
    seen_U = np.zeros(len(key_U), np.bool_)
    seen_U[bucket.cleaned.user_S] = True
    seen_U[bucket.cleaned.user_A] = True
    may_U = np.flatnonzero(seen_U & ~bucket.bad_U)
    may_U = may_U[np.argsort(key_U[may_U], kind="stable")]
    share = limit / buckets
    offer = min(limit, math.ceil(share + 8 * math.sqrt(share)) + 64)
    below = _ALL if len(may_U) <= offer else int(key_U[may_U[offer]])
    chosen = may_U[:offer]
    cohorts, cohort_U = encode(bucket.users["cohort"].gather(chosen))
    sources = bucket.users["signup_source"].gather(may_U).drop_nulls().unique().sort().to_list()
    cleaned = select_users(bucket.counted, chosen)
    used_C, code_S = np.unique(cleaned.campaign_S, return_inverse=True)
    cleaned = _replace(cleaned, campaign_S=code_S.astype(np.int32))
    key_C = bucket.campaign_key_C[used_C]
    return Sample(key_U[chosen], cohort_U, tuple(cohorts), tuple(sources), cleaned, key_C, below)


def select_users(cleaned: Cleaned, chosen: NDArray[np.int64]) -> Cleaned:
    """The rows of the users `chosen`, who are numbered 0.. in that order; rows of a user keep theirs."""
    place_U = np.full(len(cleaned.machine_U), -1, np.int32)
    place_U[chosen] = np.arange(len(chosen), dtype=np.int32)

    def rows(user_N: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        new_N = place_U[user_N]
        kept = np.flatnonzero(new_N >= 0)
        kept = kept[np.argsort(new_N[kept], kind="stable")]
        return kept, new_N[kept]

    (sends, user_S), (acts, user_A) = rows(cleaned.user_S), rows(cleaned.user_A)
    by_user = {name: getattr(cleaned, name)[chosen] for name in ("machine_U", "invalid_U", "shift_U")}
    by_send = {name: getattr(cleaned, name)[sends] for name in _SEND}
    by_act = {name: getattr(cleaned, name)[acts] for name in _ACT}
    return _replace(cleaned, user_S=user_S, user_A=user_A, **by_user, **by_send, **by_act)


def _replace(cleaned: Cleaned, **columns: NDArray[np.generic]) -> Cleaned:
    kept = {f.name: getattr(cleaned, f.name) for f in fields(Cleaned)}
    return Cleaned(**{**kept, **columns})


def merge_samples(parts: Sequence[Sample], limit: int = SAMPLE_USERS) -> Sample:
    """The users of the lowest hashes of all parts, at most `limit`; a part may be such a sample of some of them."""
    below = min(part.below for part in parts)
    cohorts = tuple(sorted({name for part in parts for name in part.cohorts}))
    sources = tuple(sorted({name for part in parts for name in part.sources}))
    campaign_key_C = np.unique(np.concatenate([part.campaign_key_C for part in parts]))
    key_N = np.concatenate([part.key_U for part in parts])
    order = np.argsort(key_N, kind="stable")
    order = order[key_N[order] < np.uint64(below)] if below < _ALL else order
    chosen = order[:limit]
    codes = [np.array([cohorts.index(name) for name in part.cohorts], np.int32) for part in parts]
    cohort_N = np.concatenate([code[part.cohort_U] for code, part in zip(codes, parts, strict=True)])
    # a cohort that was only offered would be there or not by the number of buckets
    used_C, cohort_U = np.unique(cohort_N[chosen], return_inverse=True)
    cohorts = tuple(cohorts[code] for code in used_C)
    cleaned = select_users(_concatenate(parts, campaign_key_C), chosen)
    return Sample(key_N[chosen], cohort_U.astype(np.int32), cohorts, sources, cleaned, campaign_key_C, below)


def _concatenate(parts: Sequence[Sample], campaign_key_C: NDArray[np.uint64]) -> Cleaned:
    first = np.cumsum([0, *(part.users for part in parts)]).astype(np.int32)
    moved = []
    for part, shift in zip(parts, first, strict=False):
        code_C = np.searchsorted(campaign_key_C, part.campaign_key_C).astype(np.int32)
        own = part.cleaned
        moved.append(
            _replace(own, user_S=own.user_S + shift, user_A=own.user_A + shift, campaign_S=code_C[own.campaign_S])
        )
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in moved]) for f in fields(Cleaned)}
    return Cleaned(**{**joined, "dropped_D": np.sum([part.dropped_D for part in moved], axis=0)})

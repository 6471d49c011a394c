"""When each send leaves: by its rank among the sends of its (UTC start, provider) over all buckets.

U sends of a bucket, J starts, P providers, K keys (a start and a provider), E entries (a key in a bucket).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sto_kernels.hashing import tag_key
from sto_kernels.spread import spread_offsets_ms

SpreadKey = tuple[int, str]
MINUTE_MS = 60_000
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SpreadPlan:
    """The ranks of a run's sends. Key k is start k div P and provider k mod P, both ascending.

    `first_turn_K`: sends of the same start of the providers before. Entries of bucket b are `begin_B[b]:begin_B[b+1]`:
    the keys that it has, `key_E`, and how many sends of each lie in earlier buckets, `first_rank_E`.
    """

    window_ms: int
    bins: int
    avoid_ms: int
    start_ms_J: Ints
    providers: list[str]
    first_turn_K: Ints
    begin_B: Ints
    key_E: Ints
    first_rank_E: Ints

    def first_rank_K(self, bucket: int) -> Ints:
        """Rank of the bucket's first send of each key, int64 [K]; -1 for a key that it does not have."""
        entries = slice(self.begin_B[bucket], self.begin_B[bucket + 1])
        first_K = np.full(len(self.first_turn_K), -1, np.int64)
        first_K[self.key_E[entries]] = self.first_rank_E[entries]
        return first_K


def plan_spread(
    counts: Sequence[Mapping[SpreadKey, int]], window_minutes: int, bins: int = 1, avoid_minutes: int = 0
) -> SpreadPlan:
    """Ranks from the sends of each key in each bucket, in bucket order, and the window that they are spread over.

    `bins` is how many quarter-hours the window has where each must get the same number of sends; 1 spreads over the
    window as a whole.
    """
    begin_B = np.cumsum([0, *map(len, counts)])
    entries = int(begin_B[-1])
    start_E = np.fromiter((start for start, _ in chain.from_iterable(counts)), np.int64, entries)
    providers = sorted({name for bucket in counts for _, name in bucket})
    place = {name: p for p, name in enumerate(providers)}
    provider_E = np.fromiter((place[name] for _, name in chain.from_iterable(counts)), np.int64, entries)
    n_E = np.fromiter(chain.from_iterable(bucket.values() for bucket in counts), np.int64, entries)
    start_J, start_E = np.unique(start_E, return_inverse=True)
    key_E = start_E * len(providers) + provider_E
    total_K = np.zeros(len(start_J) * len(providers), np.int64)
    np.add.at(total_K, key_E, n_E)
    total_JP = total_K.reshape(len(start_J), len(providers))
    first_turn_JP = np.cumsum(total_JP, axis=1) - total_JP
    order_E = np.argsort(key_E, kind="stable")
    before_K, before_E = np.cumsum(total_K) - total_K, np.cumsum(n_E[order_E]) - n_E[order_E]
    first_rank_E = np.empty(entries, np.int64)
    first_rank_E[order_E] = before_E - before_K[key_E[order_E]]
    return SpreadPlan(
        *(window_minutes * MINUTE_MS, bins, avoid_minutes * MINUTE_MS, start_J, providers),
        *(first_turn_JP.reshape(-1), begin_B, key_E, first_rank_E),
    )


def send_times(
    plan: SpreadPlan, bucket: int, start_ms_U: Ints, provider_U: NDArray[np.uint32], names: Sequence[str], run_id: str
) -> Ints:
    """UTC time of each send of a bucket, int64 [U] ms; rows in (h, user_id) order, `provider_U` indexes `names`."""
    key_U = _keys(plan, start_ms_U, provider_U, names)
    rank_U = plan.first_rank_K(bucket)[key_U]
    assert (rank_U >= 0).all(), f"bucket {bucket} holds sends that were not counted"
    rank_U += _earlier_rows(key_U, len(plan.first_turn_K))
    tag_P = np.array([tag_key(f"provider:{name}") for name in names], np.uint64)
    run_key, turn_U = np.uint64(tag_key(f"run:{run_id}")), plan.first_turn_K[key_U]
    ranked = rank_U.astype(np.uint64), tag_P[provider_U], run_key
    return start_ms_U + spread_offsets_ms(*ranked, plan.window_ms, plan.bins, turn_U, start_ms_U, plan.avoid_ms)


def _keys(plan: SpreadPlan, start_ms_U: Ints, provider_U: NDArray[np.uint32], names: Sequence[str]) -> Ints:
    """Key of each send, int64 [U]."""
    places = {name: p for p, name in enumerate(plan.providers)}
    place_U = np.array([places.get(name, -1) for name in names], np.int64)[provider_U]
    start_U = np.searchsorted(plan.start_ms_J, start_ms_U)
    assert (place_U >= 0).all(), "sends of a provider that was not counted"
    assert np.array_equal(plan.start_ms_J.take(start_U, mode="clip"), start_ms_U), (
        "sends of a start that was not counted"
    )
    return start_U * len(plan.providers) + place_U


def _earlier_rows(key_U: Ints, keys: int) -> Ints:
    """How many rows before each have its key, int64 [U]."""
    narrow_U = key_U.astype(np.uint16) if keys <= 2**16 else key_U  # 16 bits sort by radix
    order_U = np.argsort(narrow_U, kind="stable")
    n_K = np.bincount(key_U, minlength=keys)
    rank_U = np.empty(len(key_U), np.int64)
    rank_U[order_U] = np.arange(len(key_U)) - np.repeat(np.cumsum(n_K) - n_K, n_K)
    return rank_U

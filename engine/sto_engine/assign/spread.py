"""When each send leaves: by its rank among the sends of its (UTC start, provider) over all buckets.

U sends of a bucket, J starts, P providers, K keys (a start and a provider), E keys that a bucket has.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sto_kernels.hashing import tag_key
from sto_kernels.spread import spread_offsets_ms

SpreadKey = tuple[int, str]
MINUTE_MS = 60_000
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SpreadPlan:
    """What all sends of a run have in common. Key k is start k div P and provider k mod P, both ascending.

    `first_turn_K`: sends of the same start of the providers before.
    """

    window_ms: int
    bins: int
    avoid_ms: int
    start_ms_J: Ints
    providers: list[str]
    first_turn_K: Ints

    def keys_of(self, keys: Collection[SpreadKey]) -> Ints:
        """Numbers of keys that were counted."""
        place = {name: p for p, name in enumerate(self.providers)}
        start_E = np.fromiter((start for start, _ in keys), np.int64, len(keys))
        provider_E = np.fromiter((place[name] for _, name in keys), np.int64, len(keys))
        return np.asarray(np.searchsorted(self.start_ms_J, start_E) * len(self.providers) + provider_E)


def plan_spread(
    total: Mapping[SpreadKey, int], window_minutes: int, bins: int = 1, avoid_minutes: int = 0
) -> SpreadPlan:
    """From the sends of each key in all buckets together, and the window that they are spread over.

    `bins` is how many quarter-hours the window has where each must get the same number of sends; 1 spreads over the
    window as a whole.
    """
    start_J = np.unique(np.array([start for start, _ in total], np.int64))
    providers = sorted({name for _, name in total})
    nobody_K = np.zeros(len(start_J) * len(providers), np.int64)
    plan = SpreadPlan(
        window_minutes * MINUTE_MS, bins, avoid_minutes * MINUTE_MS, start_J, providers, first_turn_K=nobody_K
    )
    total_K = nobody_K.copy()
    total_K[plan.keys_of(total)] = np.fromiter(total.values(), np.int64, len(total))
    total_JP = total_K.reshape(len(start_J), len(providers))
    return replace(plan, first_turn_K=(np.cumsum(total_JP, axis=1) - total_JP).reshape(-1))


@dataclass(frozen=True)
class Ranks:
    """The keys that a bucket has, and how many sends of each lie in earlier buckets."""

    key_E: Ints
    first_rank_E: Ints

    def first_rank_K(self, keys: int) -> Ints:
        """Rank of the bucket's first send of each key, int64 [K]; -1 for a key that it does not have."""
        first_K = np.full(keys, -1, np.int64)
        first_K[self.key_E] = self.first_rank_E
        return first_K


class Ranking:
    """Ranks of one bucket after the other; `counts` tells the sends of each key in a bucket, and is asked once."""

    def __init__(self, plan: SpreadPlan, counts: Callable[[int], Mapping[SpreadKey, int]]) -> None:
        self._plan, self._counts, self._next = plan, counts, 0
        self._before_K = np.zeros(len(plan.first_turn_K), np.int64)

    def of(self, bucket: int) -> Ranks:
        """Ranks of a bucket behind those that were asked for before."""
        assert bucket >= self._next, f"bucket {bucket} was passed"
        for passed in range(self._next, bucket):
            self._pass(passed)
        return self._pass(bucket)

    def _pass(self, bucket: int) -> Ranks:
        counts = self._counts(bucket)
        key_E = self._plan.keys_of(counts)
        ranks = Ranks(key_E, self._before_K[key_E])
        self._before_K[key_E] += np.fromiter(counts.values(), np.int64, len(counts))
        self._next = bucket + 1
        return ranks


def send_times(
    plan: SpreadPlan, ranks: Ranks, start_ms_U: Ints, provider_U: NDArray[np.uint32], names: Sequence[str], run_id: str
) -> Ints:
    """UTC time of each send of a bucket, int64 [U] ms; rows in (h, user_id) order, `provider_U` indexes `names`."""
    key_U = _keys(plan, start_ms_U, provider_U, names)
    rank_U = ranks.first_rank_K(len(plan.first_turn_K))[key_U]
    assert (rank_U >= 0).all(), "a bucket holds sends that were not counted"
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

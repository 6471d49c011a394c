"""The place between phases A and B where prices will move users off full slots.

Without capacity limits the provisional slots are final; what phase B still needs is, per (UTC start, provider), how
many sends share a spread window and how many of them lie in earlier buckets.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.spread import SpreadKey
from sto_engine.config import Config
from sto_engine.errors import ConfigError
from sto_kernels.hashing import U64

__all__ = ["SpreadKey", "refuse_capacity", "spread_ranks", "spread_starts"]


def refuse_capacity(config: Config) -> None:
    """Raise ConfigError (78) for limits that this version would silently ignore."""
    for section in ("capacity", "assign"):
        body = getattr(config, section)
        for key, value in body:
            if value != type(body).model_fields[key].default:
                raise ConfigError(f"{section}.{key} is not available in this version; remove it from the configuration")


def spread_starts(counts: Sequence[Mapping[SpreadKey, int]]) -> list[dict[SpreadKey, int]]:
    """Rank of the first send of each key in each bucket: exclusive prefix sums of the counts in bucket order."""
    seen: Counter[SpreadKey] = Counter()
    starts = []
    for bucket in counts:
        starts.append({key: seen[key] for key in bucket})
        seen.update(bucket)
    return starts


def spread_ranks(
    start_ms_U: NDArray[np.int64],
    provider_U: NDArray[np.uint32],
    providers: Sequence[str],
    first_rank: Mapping[SpreadKey, int],
) -> U64:
    """Rank of each send among those of its key: in the order of rows, from `first_rank` on -> uint64 [U].

    `provider_U` indexes `providers`.
    """
    if not len(start_ms_U):
        return np.zeros(0, np.uint64)
    start_K, start_U = np.unique(start_ms_U, return_inverse=True)
    key_U = start_U * len(providers) + provider_U
    narrow_U = key_U.astype(np.uint16) if len(start_K) * len(providers) < 2**16 else key_U  # 16 bits sort by radix
    order_U = np.argsort(narrow_U, kind="stable")
    sorted_U = key_U[order_U]
    begin_G = np.flatnonzero(np.concatenate([[True], sorted_U[1:] != sorted_U[:-1]]))
    keys = [divmod(int(key), len(providers)) for key in sorted_U[begin_G]]
    first_G = np.array([first_rank[int(start_K[start]), providers[name]] for start, name in keys], np.int64)
    rank_U = np.empty(len(key_U), np.uint64)
    rank_U[order_U] = np.arange(len(key_U)) - np.repeat(begin_G - first_G, np.diff(np.append(begin_G, len(key_U))))
    return rank_U

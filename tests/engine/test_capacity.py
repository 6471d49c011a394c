"""Ranks of sends within their (UTC start, provider), against a loop that counts."""

from collections import Counter

import numpy as np
import pytest

from sto_engine.assign.capacity import SpreadKey, spread_ranks, spread_starts


@pytest.mark.parametrize(("starts", "providers"), [(1, 1), (5, 3), (30_000, 4)])
@pytest.mark.parametrize("n", [0, 1, 500])
def test_ranks_count_on_from_earlier_buckets_in_the_order_of_rows(n: int, starts: int, providers: int) -> None:
    rng = np.random.default_rng(n)
    start_U = rng.integers(0, starts, n) * 3_600_000 - 10**9
    provider_U = rng.integers(0, providers, n).astype(np.uint32)
    names = [f"p{i}" for i in range(providers)]
    first = {(int(s), names[p]): int(rng.integers(0, 100)) for s, p in zip(start_U, provider_U, strict=True)}
    seen, expected = Counter(first), []
    for s, p in zip(start_U, provider_U, strict=True):
        expected.append(seen[int(s), names[p]])
        seen[int(s), names[p]] += 1
    assert spread_ranks(start_U, provider_U, names, first).tolist() == expected


def test_buckets_share_one_count_of_each_key() -> None:
    counts: list[dict[SpreadKey, int]] = [{(0, "a"): 2, (0, "b"): 1}, {(0, "a"): 3}, {(0, "a"): 1, (1, "a"): 1}]
    assert spread_starts(counts) == [{(0, "a"): 0, (0, "b"): 0}, {(0, "a"): 2}, {(0, "a"): 5, (1, "a"): 0}]

"""The whole of `solve` on offers that lie in memory: tests, benchmarks and small plans."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.book import Memory, Outcome, Slots, Terms
from sto_engine.assign.solve import run_key, solve
from sto_kernels.limits import Limits
from sto_kernels.offers import Offers

T = TypeVar("T")


def solve_in_memory(
    parts: Sequence[Offers], limits: Limits, stratum_G: NDArray[np.int32], threads: int = 1, **terms: Any
) -> tuple[Outcome, list[Slots]]:
    """`solve` on `threads` threads over buckets that lie in memory; `terms` are further fields of Terms."""
    book = Memory(parts)
    with ThreadPoolExecutor(max_workers=threads) as pool:

        def each(
            name: str, work: Callable[..., T], buckets: Sequence[int], told: Callable[[int], Any] | None = None
        ) -> Iterator[T]:
            return pool.map(work, buckets, *(() if told is None else (map(told, buckets),)))

        def run(work: Callable[[int], T], n: int) -> list[T]:
            return list(pool.map(work, range(n)))

        plan = solve(book, Terms(limits, stratum_G, **{"run_key": run_key("memory"), **terms}), each, run)
    return plan, [book.slots(bucket) for bucket in book.buckets]

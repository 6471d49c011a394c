"""Which rows are drawn when there are more than `train.max_rows`: those of the lowest hashes, whatever the buckets.

pass 1    each bucket counts the hashes of its rows by their top 16 bits
driver    the bin in which the limit is reached, over all buckets
pass 2    each bucket makes its rows up to that bin, and tells the hashes in the bin itself
driver    the edge: the (limit + 1)-th lowest hash; rows strictly below it are drawn

Rows of one hash are all drawn or none, so that at most `limit` are; N rows, B bins.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 16
Hashes = NDArray[np.uint64]


def count_bins(order_N: Hashes) -> NDArray[Any]:
    """Rows in each bin, [B], in the narrowest integers that hold them: this travels for every bucket."""
    count_B = np.bincount(_bins(order_N), minlength=1 << BITS)
    return count_B.astype(np.min_scalar_type(int(count_B.max())))


@dataclass
class Tally:
    """Rows in each bin over the buckets so far."""

    count_B: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << BITS, np.int64))

    def add(self, count_B: NDArray[Any]) -> None:
        self.count_B += count_B

    def last_bin(self, limit: int) -> int | None:
        """The bin in which row `limit` + 1 lies; None where there are no more than `limit`."""
        total_B = np.cumsum(self.count_B)
        return None if total_B[-1] <= limit else int(np.searchsorted(total_B, limit, "right"))


def up_to(order_N: Hashes, last_bin: int | None) -> NDArray[np.bool_]:
    """Rows in the bins up to `last_bin`, itself included; all for None."""
    return np.ones(len(order_N), np.bool_) if last_bin is None else _bins(order_N) <= last_bin


def in_bin(order_N: Hashes, last_bin: int | None) -> Hashes:
    """Hashes of the rows in `last_bin`; none for None."""
    return order_N[:0] if last_bin is None else order_N[_bins(order_N) == last_bin]


def edge_of(last: Iterable[Hashes], below: int, limit: int) -> int:
    """The hash of row `limit` + 1, from the hashes in the last bin and the number of rows in the bins before it."""
    order_N = np.concatenate(list(last))
    return int(np.partition(order_N, limit - below)[limit - below])


def below_edge(order_N: Hashes, edge: int | None) -> NDArray[np.bool_]:
    """The rows that are drawn; all for None."""
    return np.ones(len(order_N), np.bool_) if edge is None else order_N < np.uint64(edge)


def _bins(order_N: Hashes) -> NDArray[np.int64]:
    return (order_N >> np.uint64(64 - BITS)).astype(np.int64)

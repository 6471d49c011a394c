"""Throttle spread: where in its window a send goes, by turns over the window's bins and by the golden ratio inside one.

    turn   = (first_turn + rank) mod bins                  the bin, of bin_ms = window_ms / bins
    inner  = rank div bins                                 sends before it in its (UTC start, provider, bin)
    x      = (inner + 1) * GOLDEN + provider_key + run_key mod 2^64
    offset = (x >> 32) * usable_ms >> 32                   within the part of the bin that may be used

The sends of a start take the bins by turns, provider after provider: `first_turn` counts those of the providers before.
So the sends of a start, and those of each of its providers, differ by at most one between bins. Multiples of the golden
ratio mod 1 fill an interval evenly at every prefix (Weyl, three-distance theorem), so any share of a window that has
been enqueued is even too. Integers only: the same on every machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.hashing import GOLDEN, U64

MAX_WINDOW_MS = 1 << 31
HALF_HOUR_MS = 1_800_000
Times = NDArray[np.int64]


def spread_offsets_ms(
    rank_U: U64,
    provider_key_U: U64,
    run_key: np.uint64,
    window_ms: int,
    bins: int = 1,
    first_turn_U: Times | None = None,
    start_ms_U: Times | None = None,
    avoid_ms: int = 0,
) -> Times:
    """Offset of each send in [0, window_ms), int64 [U] ms.

    `rank_U` uint64 [U] counts the sends before it in its (UTC start, provider); `provider_key_U` uint64 [U] and
    `run_key` set the phase. `first_turn_U` int64 [U] counts the sends of the same start of the providers before (none
    where it is left out). No send lies in the first `avoid_ms` after :00 and :30 UTC, for which `start_ms_U` int64 [U]
    must be given. Raises ValueError for a window outside 1..2^31 ms, one that is no multiple of its bins, or a bin
    without a millisecond to use.
    """
    if not 1 <= window_ms <= MAX_WINDOW_MS:
        raise ValueError(f"window_ms must be in 1..{MAX_WINDOW_MS}; found {window_ms}")
    if bins < 1 or window_ms % bins:
        raise ValueError(f"window_ms must be a multiple of its bins; found {window_ms} ms and {bins} bins")
    if avoid_ms and start_ms_U is None:
        raise ValueError("avoid_ms needs start_ms_U: which minutes are free depends on the hour")
    bin_ms, rank_U = window_ms // bins, rank_U.astype(np.uint64)
    if bins == 1:
        begin_U: Times | int = 0
    else:
        turn_U = rank_U if first_turn_U is None else rank_U + first_turn_U.astype(np.uint64)
        begin_U = (turn_U % np.uint64(bins)).astype(np.int64) * bin_ms
        rank_U = rank_U // np.uint64(bins)
    if start_ms_U is None or not avoid_ms:
        return begin_U + _golden(rank_U, provider_key_U, run_key, np.uint64(bin_ms))
    used_U, usable_U = _usable(start_ms_U + begin_U, bin_ms, avoid_ms)
    used_U += _golden(rank_U, provider_key_U, run_key, usable_U.astype(np.uint64))
    rounds_U, rest_U = np.divmod(used_U, HALF_HOUR_MS - avoid_ms)
    return np.asarray(rounds_U * HALF_HOUR_MS + avoid_ms + rest_U - start_ms_U)


def _usable(begin_U: Times, bin_ms: int, avoid_ms: int) -> tuple[Times, Times]:
    """Usable milliseconds before each bin and in it; ValueError where it has none."""
    used_U = usable_before(begin_U, avoid_ms)
    usable_U = usable_before(begin_U + bin_ms, avoid_ms) - used_U
    if (usable_U < 1).any():
        raise ValueError(f"{avoid_ms} ms after :00 and :30 leave nothing of a bin of {bin_ms} ms")
    return used_U, usable_U


def _golden(rank_U: U64, provider_key_U: U64, run_key: np.uint64, length_U: Any) -> Times:
    """The term of the sequence for each rank, in [0, length_U); a length is uint64, one for all or one each."""
    with np.errstate(over="ignore"):
        x_U = (rank_U + np.uint64(1)) * GOLDEN + provider_key_U + run_key
        return np.asarray((x_U >> np.uint64(32)) * length_U >> np.uint64(32)).astype(np.int64)


def usable_before(time_ms: Any, avoid_ms: int) -> Times:
    """Milliseconds since the epoch that are not among the first `avoid_ms` after :00 and :30, int64, same shape."""
    rounds, rest = np.divmod(time_ms, HALF_HOUR_MS)
    return np.asarray(rounds * (HALF_HOUR_MS - avoid_ms) + np.maximum(rest - avoid_ms, 0), np.int64)


def bin_counts(n_P: Any, bins: int) -> NDArray[np.int64]:
    """Sends of each provider in each bin of a start's window -> int64 [..., P, bins].

    `n_P` integers [..., P] counts the sends of each provider, in the order that `first_turn` counts them in; a row a
    start. It is what `spread_offsets_ms` does: n div bins or one more, for each provider and for all together.
    """
    n_P = np.asarray(n_P, np.int64)
    first_P = np.cumsum(n_P, axis=-1) - n_P
    after = (np.arange(bins) - first_P[..., None]) % bins
    return np.asarray(n_P[..., None] // bins + (after < n_P[..., None] % bins), np.int64)

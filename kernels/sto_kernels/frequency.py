"""Slots that mail already sent or planned closes: too many messages within the days, or one too near.

Of a user with the sends t_1 <= ... <= t_n a slot that begins at s and lasts L is

    capped   where s < t_(n - cap + 1) + days    the cap-th newest send is not old enough (cap 0: always)
    near     where s - gap < t_i < s + L + gap   for some send (gap 0: never)

U users, S slots, Z zones, N sends; times in ms.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.journal import NO_TIME, Bools, Int32s, Int64s

Array = NDArray[Any]
# a cap that no number of sends reaches
NO_CAP = 2**62


class Limits(NamedTuple):
    days_ms: int
    gap_ms: int
    slot_ms: int


def close_slots(
    start_U: Int64s, time_N: Int64s, cap_U: Int64s, zone_U: Int32s, start_ZS: Int64s, limits: Limits
) -> tuple[Bools, Bools]:
    """Which slots the cap and which the gap closes, two bool [U, S].

    Sends of user u are time_N[start_U[u]:start_U[u + 1]], ascending, so `start_U` has U + 1 entries; `zone_U` indexes
    the rows of `start_ZS`, the starts of the slots.
    """
    shape = len(cap_U), start_ZS.shape[1]
    capped_US, near_US = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    inputs = [read_only(values, np.int64) for values in (start_U, time_N, cap_U)]
    _close(*inputs, read_only(zone_U, np.int32), read_only(start_ZS, np.int64), *limits, capped_US, near_US)
    return capped_US, near_US


@jit
def _close(
    start_U: Array,
    time_N: Array,
    cap_U: Array,
    zone_U: Array,
    start_ZS: Array,
    days_ms: int,
    gap_ms: int,
    slot_ms: int,
    capped_US: Array,
    near_US: Array,
) -> None:
    for u in range(len(cap_U)):
        first, last, cap = start_U[u], start_U[u + 1], cap_U[u]
        free = NO_TIME
        if cap == 0:
            free = -NO_TIME
        elif last - first >= cap:
            free = time_N[last - cap] + days_ms
        for s in range(start_ZS.shape[1]):
            start = start_ZS[zone_U[u], s]
            capped_US[u, s] = start < free
            if gap_ms > 0:
                for n in range(first, last):
                    if start - gap_ms < time_N[n] < start + slot_ms + gap_ms:
                        near_US[u, s] = True
                        break

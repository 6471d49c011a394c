"""How much of each resource a bucket may use, so that buckets can repair themselves without knowing of each other.

A bucket keeps what it has of resources that have room, plus its part of the room; of an over-full resource it gives
up its part of the excess. Parts are whole units by largest remainder, so that the quotas of all buckets add up to the
capacity exactly. B buckets, R resources.
"""

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]


def quotas(load_BR: Int64s, fixed_BR: Int64s, users_B: Int64s, capacity_R: Int64s) -> Int64s:
    """Quota of each bucket of each resource, int64 [B, R]; columns add up to the capacity.

    `fixed_BR` is the part of the load that cannot move; where that alone is over the capacity, the quota is it.
    """
    load_R, fixed_R = load_BR.sum(axis=0), fixed_BR.sum(axis=0)
    over_R = load_R > capacity_R
    quota_BR = load_BR + shares(np.where(over_R, 0, capacity_R - load_R), np.repeat(users_B[:, None], len(over_R), 1))
    movable_BR = load_BR - fixed_BR
    kept_BR = fixed_BR + shares(np.maximum(capacity_R - fixed_R, 0), movable_BR)
    return np.asarray(np.where(over_R, kept_BR, quota_BR))


def shares(total_R: Int64s, weight_BR: Int64s) -> Int64s:
    """Whole parts of each total in proportion to the weights, by largest remainder, ties to the first, int64 [B, R]."""
    sum_R = weight_BR.sum(axis=0)
    weight_BR = np.where(sum_R > 0, weight_BR, 1)
    sum_R = weight_BR.sum(axis=0)
    exact_BR = total_R * (weight_BR / sum_R)
    part_BR = np.floor(exact_BR).astype(np.int64)
    rest_R = total_R - part_BR.sum(axis=0)
    order_BR = np.argsort(part_BR - exact_BR, axis=0, kind="stable")
    rank_BR = np.empty_like(order_BR)
    np.put_along_axis(rank_BR, order_BR, np.arange(len(weight_BR))[:, None], axis=0)
    # rounding of the division may leave one too many or too few
    while (rest_R != 0).any():
        step_BR = np.where(rank_BR < np.abs(rest_R), np.sign(rest_R), 0)
        step_BR = np.maximum(step_BR, -part_BR)
        part_BR += step_BR
        rest_R = total_R - part_BR.sum(axis=0)
    return np.asarray(part_BR)

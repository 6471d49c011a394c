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
    """Whole parts of each total in proportion to the weights, by largest remainder, ties to the first, int64 [B, R].

    All in integers: total * weight / sum is quotient * weight + remainder * weight / sum, the latter within 64 bits.
    """
    weight_BR = weight_BR >> _too_long(weight_BR.sum(axis=0))
    weight_BR = np.where(weight_BR.sum(axis=0) > 0, weight_BR, 1)
    sum_R = weight_BR.sum(axis=0)
    quotient_R, rest_R = np.divmod(total_R, sum_R)
    part_BR, remainder_BR = np.divmod(rest_R * weight_BR, sum_R)
    part_BR += quotient_R * weight_BR
    rank_BR = np.empty_like(part_BR)
    order_BR = np.argsort(-remainder_BR, axis=0, kind="stable")
    np.put_along_axis(rank_BR, order_BR, np.arange(len(weight_BR))[:, None], axis=0)
    return np.asarray(part_BR + (rank_BR < total_R - part_BR.sum(axis=0)))


def _too_long(sum_R: Int64s) -> Int64s:
    """Bits to drop from weights so that the square of their sum has less than 63, int64 [R]."""
    bits_R = np.frexp(sum_R.astype(np.float64))[1]
    return np.asarray(np.maximum(bits_R - 31, 0), np.int64)

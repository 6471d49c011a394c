"""The order of a bucket: (h, user_id, campaign_id, event_ts, event_type), rows equal in all of these once.

The five keys are packed into one integer of 64 bits where they fit (they do in any bucket of under a million rows):

    rank of the user | campaign - first campaign, or its rank | event_ts - first, or its rank | code of the type

One sort of integers then gives the order, and equal neighbours are the duplicates.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_kernels.hashing import U64

KEYS = ("user_id", "campaign_id", "event_type", "event_ts")
_ORDER = ["h", "user_id", "campaign_id", "event_ts", "event_type"]
_CAMPAIGN_BITS = 16


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of `frame` (columns h and the keys, h the hash of user_id) in order; of equal rows the first stays."""
    if len(frame) < 2:
        return frame
    key_N = _packed(frame)
    if key_N is None:
        frame = frame.sort(*_ORDER, maintain_order=True)
        return frame.unique(_ORDER, keep="first", maintain_order=True)
    order_N = pl.Series(key_N).arg_sort().to_numpy()
    sorted_N = key_N[order_N]
    first_N = np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]])
    if not first_N.all():  # the sort is not stable: of equal rows take the one that came first
        order_N = np.minimum.reduceat(order_N, np.flatnonzero(first_N))
    return frame[order_N]


def _packed(frame: pl.DataFrame) -> U64 | None:
    """One integer a row that sorts and compares as the keys do; None where 64 bits do not hold them."""
    if any(frame[name].null_count() for name in KEYS):
        return None
    user_N = _rank(frame["h"])
    if frame["user_id"].dtype == pl.String and frame["user_id"].n_unique() != int(user_N.max()) + 1:
        return None  # two ids of one hash: their order is that of the text
    campaign_N, time_N = _offsets(frame["campaign_id"]), _offsets(frame["event_ts"].to_physical())
    if campaign_N is None or _bits(campaign_N) > _CAMPAIGN_BITS:
        campaign_N = _rank(frame["campaign_id"])
    assert time_N is not None
    type_N = frame["event_type"].to_physical().to_numpy().astype(np.uint64)
    if _bits(user_N) + _bits(campaign_N) + _bits(time_N) + _bits(type_N) > 64:
        time_N = _rank(frame["event_ts"])
    parts = (user_N, campaign_N, time_N, type_N)
    if sum(_bits(part) for part in parts) > 64:
        return None
    key_N = np.zeros(len(frame), np.uint64)
    for part in parts:
        key_N = key_N << np.uint64(_bits(part)) | part
    return key_N


def _rank(values: pl.Series) -> U64:
    return values.rank("dense").to_numpy().astype(np.uint64) - np.uint64(1)


def _offsets(values: pl.Series) -> U64 | None:
    """Distance of each integer from the least, exact over the whole of 64 bits; None for text."""
    if not values.dtype.is_integer():
        return None
    bits_N: NDArray[np.uint64] = values.to_numpy().view(np.uint64)
    return bits_N - np.array([values.min()]).astype(values.to_numpy().dtype).view(np.uint64)


def _bits(values: U64) -> int:
    return int(values.max()).bit_length()

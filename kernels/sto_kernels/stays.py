"""Sends as the counting walks see them, and the clock of a stay: how long a mail lay unread, in which cells, how old.

A latency is known at an origin only if it ended before it. Letters as in `journal`; local times in ms.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.journal import HOUR_MS, NO_LATENCY, NO_TIME, Cleaned

AGES = 24
SHORT_MS, DAY_PART_MS = 2 * HOUR_MS, AGES * HOUR_MS
# longer than any latency
NEVER = -NO_TIME
Array = NDArray[Any]


class Sends(NamedTuple):
    user_S: Array
    utc_S: Array
    local_S: Array
    latency_S: Array
    campaign_S: Array


def send_table(cleaned: Cleaned, users: int, campaigns: int) -> Sends:
    user_S, campaign_S = read_only(cleaned.user_S, np.int32), read_only(cleaned.campaign_S, np.int32)
    check_users(user_S, users, "sends")
    if campaign_S.min(initial=0) < 0 or campaign_S.max(initial=-1) >= campaigns:
        raise ValueError(f"campaign_S must be in 0..{campaigns - 1}; found {campaign_S.min()}..{campaign_S.max()}")
    utc_S, local_S, latency_S = (read_only(x, np.int64) for x in (cleaned.utc_S, cleaned.local_S, cleaned.latency_S))
    return Sends(user_S, utc_S, local_S, latency_S, campaign_S)


def check_users(user: Array, users: int, what: str) -> None:
    if len(user) and (user[0] < 0 or user[-1] >= users or np.any(user[1:] < user[:-1])):
        raise ValueError(f"{what} must be grouped by ascending user in 0..{users - 1}")


@jit
def known_latency(latency: int, observed: int) -> int:
    """The latency as known after `observed` ms: without one, or one that ended later, longer than anything."""
    return NEVER if latency == NO_LATENCY or latency >= observed else latency


@jit
def cell_of(local: int) -> int:
    hour = local // HOUR_MS
    return hour % 24 + 24 * ((hour // 24 + 3) % 7 >= 5)


@jit
def hour_of_week(local: int) -> int:
    hour = local // HOUR_MS
    return (hour // 24 + 3) % 7 * 24 + hour % 24


@jit
def age_of(low: int, high: int, local: int) -> Any:
    """Whole hours from the send to the middle of a stay."""
    return min((low + high - 2 * local) // (2 * HOUR_MS), AGES - 1)

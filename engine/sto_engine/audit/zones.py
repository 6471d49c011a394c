"""What the zones of a bucket's users are worth: who has none, whose profile his own events contradict."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import Journal
from sto_kernels.journal import CLICK, NO_OFFSET, OPEN

CONFLICT_SHARE = 0.5


def count_zones(counts: Counter[str], known: Journal, user_N: NDArray[np.int64], in_N: NDArray[np.bool_]) -> None:
    """Add users without any zone, with offsets beside a profile, and those of whom most contradict it."""
    users, n, events = known.users, len(known.users), known.events
    profile_U = (users["timezone"].is_not_null() | users["tz_offset"].is_not_null()).to_numpy()
    stated_N = events.stated_N != NO_OFFSET
    states_U = np.bincount(user_N[stated_N], minlength=n) > 0
    counts["zone:profile"] = int(profile_U.sum())
    counts["zone:events_only"] = int((~profile_U & states_U).sum())
    counts["zone:none"] = int((~profile_U & ~states_U).sum())
    acts = np.flatnonzero(in_N & stated_N & np.isin(events.kind_N, (OPEN, CLICK)) & profile_U[user_N])
    off_N = events.stated_N[acts] != _zone_offsets(known, user_N[acts], events.ts_N[acts])
    acts_U, off_U = np.bincount(user_N[acts], minlength=n), np.bincount(user_N[acts], off_N, n)
    counts["zone:comparable"] = int((acts_U > 0).sum())
    counts["zone:conflict"] = int((off_U > CONFLICT_SHARE * acts_U).sum())


def _zone_offsets(known: Journal, user_N: NDArray[np.int64], time_N: NDArray[np.int64]) -> NDArray[np.int16]:
    """Offset of each row's user by his zone at the time of the row, minutes, int16 [N]."""
    zone_N = known.zones.zone_U[user_N]
    change_N = (time_N[:, None] >= known.zones.moments_ZK[zone_N]).sum(axis=1)
    return np.asarray(known.zones.offsets_ZK[zone_N, change_N], np.int16)

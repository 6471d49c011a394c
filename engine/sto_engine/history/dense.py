"""Plain twin of `count_walk.count` for whole tables at once: every tensor is one `bincount`, no compiled code.

    cell of a send or an act  ->  user * width + slot;  the tensor is the bincount of the cells, weighted
    a send opened, or not yet a day old: cut at the clock's hours; one bincount for all first hours, one for the second
    a send never opened: a row of the table by hour of the week, added up over the run of the user's sends

Same arguments and results: integers exactly, sums of weights to rounding. U users, S sends, A acts, C campaigns,
T types, 48 = weekday hours then weekend hours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.journal import HOUR_MS, NO_LATENCY, NO_TIME, Cleaned, Counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY_HOURS, SHORT_MS, DAY_MS = 24, 2 * HOUR_MS, 24 * HOUR_MS
MIN_LATENCY_H = 1e-3
NEVER = 2**62
# sends whose rows of 48 cells are in memory at once
BLOCK_SENDS = 65_536


@dataclass(frozen=True)
class _Sends:
    """Sends before the origin; `latency_S` is NEVER where no open was known then, `fade_S` the weight of their age."""

    user_S: Ints
    local_S: Ints
    latency_S: Ints
    observed_S: Ints
    campaign_S: Ints
    fade_S: Floats

    def of(self, keep_S: NDArray[np.bool_]) -> "_Sends":
        return _Sends(*(getattr(self, name)[keep_S] for name in self.__dataclass_fields__))


def count(
    cleaned: Cleaned,
    users: int,
    rho2_C: Floats,
    rho24_C: Floats,
    decay_T24: Floats,
    kernel_Tx168x48: NDArray[np.float32],
    origin_ms: int,
    half_life_ms: float = 0,
    type_C: NDArray[np.int8] | None = None,
    follow_T: Floats | None = None,
) -> Counts:
    """Sums per user of what was known at `origin_ms`; arguments as those of `count_walk.count`."""
    decay, kernel = decay_T24.reshape(-1, DAY_HOURS), kernel_Tx168x48.reshape(-1, 168, 48)
    sends = _sends(cleaned, origin_ms, half_life_ms)
    type_S = np.zeros(len(sends.user_S), np.int64) if type_C is None else type_C[sends.campaign_S].astype(np.int64)
    follow_S = sends.fade_S if follow_T is None else sends.fade_S * follow_T[type_S]
    rate2_S, rate24_S = rho2_C[sends.campaign_S], rho24_C[sends.campaign_S]
    opened_S = sends.latency_S < DAY_MS
    opens_U48 = _opens(sends.of(opened_S), follow_S[opened_S], users)
    exposure_U48 = _exposure(sends, type_S, rate24_S * follow_S, decay, kernel, users)
    slots = _slots(sends, rate2_S, rate24_S, users)
    acts = _acts(cleaned, users, origin_ms, half_life_ms)
    columns: list[Any] = [opens_U48, exposure_U48, *slots, acts[0], *_profile(sends, users), *acts[1:]]
    return Counts(*columns)


def _sends(cleaned: Cleaned, origin_ms: int, half_life_ms: float) -> _Sends:
    observed_S = origin_ms - cleaned.utc_S
    past_S = observed_S > 0
    latency_S, observed_S = cleaned.latency_S[past_S], observed_S[past_S]
    known_S = (latency_S != NO_LATENCY) & (latency_S < observed_S)
    user_S, campaign_S = (x[past_S].astype(np.int64) for x in (cleaned.user_S, cleaned.campaign_S))
    latency_S = np.where(known_S, latency_S, NEVER)
    return _Sends(user_S, cleaned.local_S[past_S], latency_S, observed_S, campaign_S, _fade(observed_S, half_life_ms))


def _fade(age_N: Ints, half_life_ms: float) -> Floats:
    return np.exp2(-age_N / half_life_ms) if half_life_ms > 0 else np.ones(len(age_N))


def _table(user_N: Ints, cell_N: Ints, weight_N: Floats | None, users: int, width: int) -> NDArray[np.float32]:
    """Sums of the weights by user and cell, float32 [U, width]."""
    sums = np.bincount(user_N * width + cell_N, weight_N, users * width)
    return sums.reshape(users, width).astype(np.float32)


def _cell(local_N: Ints) -> Ints:
    hour_N = local_N // HOUR_MS
    return np.asarray(hour_N % 24 + 24 * ((hour_N // 24 + 3) % 7 >= 5), np.int64)


def _opens(opened: _Sends, weight_S: Floats, users: int) -> NDArray[np.float32]:
    return _table(opened.user_S, _cell(opened.local_S + opened.latency_S), weight_S, users, 48)


def _slots(sends: _Sends, rate2_S: Floats, rate24_S: Floats, users: int) -> list[NDArray[np.float32]]:
    """sends2, opens2, sends24, opens24, seen, by the hour of the send."""
    hour_S, fade_S, seen_S = sends.local_S // HOUR_MS % 24, sends.fade_S, sends.observed_S >= SHORT_MS
    first_S, second_S = (sends.latency_S < limit for limit in (SHORT_MS, DAY_MS))

    def by_hour(keep_S: NDArray[np.bool_], weight_S: Floats) -> NDArray[np.float32]:
        return _table(sends.user_S[keep_S], hour_S[keep_S], weight_S[keep_S], users, 24)

    every_S = np.ones(len(hour_S), np.bool_)
    opens2, opens24 = by_hour(seen_S & first_S, fade_S), by_hour(second_S, fade_S)
    return [
        by_hour(seen_S, rate2_S * fade_S),
        opens2,
        by_hour(every_S, rate24_S * fade_S),
        opens24,
        by_hour(seen_S, fade_S),
    ]


def _profile(sends: _Sends, users: int) -> list[Floats]:
    """Sends, those opened, sum of their log latencies."""
    opened_S = sends.latency_S < NEVER
    user_S, hours_S = sends.user_S[opened_S], sends.latency_S[opened_S] / HOUR_MS
    log_U = np.bincount(user_S, np.log(np.maximum(hours_S, MIN_LATENCY_H)), users)
    sent_U, opened_U = (np.bincount(x, minlength=users).astype(np.float64) for x in (sends.user_S, user_S))
    return [sent_U, opened_U, np.asarray(log_U, np.float64)]


def _acts(cleaned: Cleaned, users: int, origin_ms: int, half_life_ms: float) -> list[NDArray[Any]]:
    """Histogram by hour, acts on a mobile, acts, the last of them."""
    past_A = cleaned.utc_A < origin_ms
    user_A, utc_A = cleaned.user_A[past_A].astype(np.int64), cleaned.utc_A[past_A]
    fade_A, hour_A = _fade(origin_ms - utc_A, half_life_ms), cleaned.local_A[past_A] // HOUR_MS % 24
    last_U = np.full(users, NO_TIME, np.int64)
    np.maximum.at(last_U, user_A, utc_A)
    mobile_U = np.bincount(user_A, cleaned.mobile_A[past_A], users)
    acts_U = np.bincount(user_A, minlength=users).astype(np.float64)
    return [_table(user_A, hour_A, fade_A, users, 24), mobile_U.astype(np.float64), acts_U, last_U]


def _exposure(
    sends: _Sends, type_S: Ints, weight_S: Floats, decay_T24: Floats, kernel_Tx168x48: NDArray[np.float32], users: int
) -> NDArray[np.float32]:
    """Weighted hours unread by user and cell."""
    whole_S = (sends.latency_S >= DAY_MS) & (sends.observed_S >= DAY_MS)
    exposure_U48 = _unopened(sends.of(whole_S), type_S[whole_S], weight_S[whole_S], kernel_Tx168x48, users)
    rest, type_R, weight_R = sends.of(~whole_S), type_S[~whole_S], weight_S[~whole_S]
    end_R = rest.local_S + np.minimum(np.minimum(rest.latency_S, rest.observed_S), DAY_MS)
    low_R, start_R, user_R = rest.local_S, rest.local_S, rest.user_S
    cells = np.zeros(users * 48)
    while len(low_R):
        high_R = np.minimum((low_R // HOUR_MS + 1) * HOUR_MS, end_R)
        age_R = np.minimum((low_R + high_R - 2 * start_R) // (2 * HOUR_MS), DAY_HOURS - 1)
        hours_R = (high_R - low_R) / HOUR_MS * decay_T24[type_R, age_R] * weight_R
        cells += np.bincount(user_R * 48 + _cell(low_R), hours_R, users * 48)
        going_R = high_R < end_R
        low_R, start_R, end_R = high_R[going_R], start_R[going_R], end_R[going_R]
        user_R, type_R, weight_R = user_R[going_R], type_R[going_R], weight_R[going_R]
    return (exposure_U48 + cells.reshape(users, 48)).astype(np.float32)


def _unopened(
    sends: _Sends, type_S: Ints, weight_S: Floats, kernel_Tx168x48: NDArray[np.float32], users: int
) -> Floats:
    """Rows of the kernel summed over each user's sends, which stand together, float64 [U, 48]."""
    hour_S = sends.local_S // HOUR_MS
    row_S = type_S * 168 + (hour_S // 24 + 3) % 7 * 24 + hour_S % 24
    kernel, sums_U48 = kernel_Tx168x48.reshape(-1, 48).astype(np.float64), np.zeros((users, 48))
    for first in range(0, len(row_S), BLOCK_SENDS):
        block = slice(first, first + BLOCK_SENDS)
        user_B = sends.user_S[block]
        start_B = np.flatnonzero(np.concatenate([[True], user_B[1:] != user_B[:-1]]))
        rows = kernel[row_S[block]] * weight_S[block, None]
        sums_U48[user_B[start_B]] += np.add.reduceat(rows, start_B, axis=0)
    return sums_U48

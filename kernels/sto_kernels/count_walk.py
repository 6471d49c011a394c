"""From sends and acts to sums per user and per campaign (recipe, sections 2, 3 and 5).

A mail waits for a look: each send adds, to every hour it lay unread (to its open, to the origin, to 24 h), the length
of the stay times age decay times the rate of its campaign. A send never opened in 24 h adds a row of a table by hour of
the week; the others are walked hour by hour. An open counts at the hour it happened.

Everything of a user is summed in float64 in the order of his rows: same bits for any split of the users. Sends and acts
at or after the origin do not exist, and a latency is known only if it ended before the origin. The twins stand in
`naive_history`. U users, S sends, A acts, C campaigns, 48 = weekday hours then weekend hours.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.journal import HOUR_MS, NO_LATENCY, NO_TIME, Cleaned, Counts, Float32s, Float64s, Int64s

AGES = 24
DAY_PART_MS = AGES * HOUR_MS
SHORT_MS = 2 * HOUR_MS
DECAY_ROUNDS, DECAY_START_H, DECAY_FLOOR, USER_PRIOR = 4, 8.0, 1e-3, 1.5
MIN_LATENCY_H = 1e-3
# an unopened send stands for one at a quarter past its hour
QUARTER = 0.25
Array = NDArray[Any]


class _Sends(NamedTuple):
    user: Array
    utc: Array
    local: Array
    latency: Array
    campaign: Array


class _Acts(NamedTuple):
    user: Array
    utc: Array
    local: Array
    mobile: Array


class _Moment(NamedTuple):
    origin_ms: int
    half_life_ms: float


class _Rates(NamedTuple):
    rho2_C: Array
    rho24_C: Array
    decay_24: Array
    kernel_168x48: Array


class _Sums(NamedTuple):
    """As in journal.Counts; the five tables by send hour and the three sums over sends each in one array."""

    opens_U48: Array
    exposure_U48: Array
    slots_5xU24: Array
    acts_U24: Array
    sends_3xU: Array
    mobile_acts_U: Array
    acts_U: Array
    last_act_U: Array


def campaign_sums(cleaned: Cleaned, bad_U: NDArray[np.bool_], origin_ms: int, campaigns: int) -> Int64s:
    """Per campaign over users not bad: sends seen for 2 h, those opened within 2 h, and both for 24 h; int64 [C, 4]."""
    sends = _sends(cleaned, len(bad_U), campaigns)
    sums_C4 = np.zeros((campaigns, 4), np.int64)
    _campaign_sums(sends, read_only(bad_U, np.bool_), origin_ms, sums_C4)
    return sums_C4


def count(
    cleaned: Cleaned,
    users: int,
    rho2_C: Float64s,
    rho24_C: Float64s,
    decay_24: Float64s,
    kernel_168x48: Float32s,
    origin_ms: int,
    half_life_ms: float = 0,
) -> Counts:
    """Sums per user of what was known at `origin_ms`; `kernel_168x48` from `unopened_kernel`.

    half_life_ms > 0 multiplies what a send or an act adds to the arrays by 2 ** -(its age / half_life_ms); the sums
    per user (sent_U and after) stay whole.
    """
    if len(rho2_C) != len(rho24_C) or decay_24.shape != (AGES,) or kernel_168x48.shape != (168, 48):
        raise ValueError("count needs as many rho2_C as rho24_C, decay_24 [24] and kernel_168x48 [168, 48]")
    sends, acts = _sends(cleaned, users, len(rho2_C)), _acts(cleaned, users)
    rates = _Rates(*(read_only(x, np.float64) for x in (rho2_C, rho24_C, decay_24, kernel_168x48)))
    moment, sums = _Moment(origin_ms, float(half_life_ms)), _new_sums(users)
    _count_sends(sends, rates, moment, sums)
    _count_acts(acts, moment, sums)
    opens_U48, exposure_U48, slots_5xU24, acts_U24, sends_3xU, *act_sums = sums
    columns: list[Any] = [opens_U48, exposure_U48, *slots_5xU24, acts_U24, *sends_3xU, *act_sums]
    return Counts(*columns)


def _new_sums(users: int) -> _Sums:
    cells, slots = [np.empty((users, 48), np.float32) for _ in range(2)], np.empty((5, users, 24), np.float32)
    act_sums = np.zeros(users), np.zeros(users), np.full(users, NO_TIME, np.int64)
    return _Sums(cells[0], cells[1], slots, np.empty((users, 24), np.float32), np.zeros((3, users)), *act_sums)


def age_decay(cleaned: Cleaned, users: int, rho24_C: Float64s, origin_ms: int) -> Float64s:
    """How attention fades with the age of a mail in hours, g[0] = 1, float64 [24], from the first `users` users.

    Four rounds of ratio fits of hour, age and user factors; without a single open, the fade that the fit starts from.
    """
    last = int(np.searchsorted(cleaned.user_S, users))
    sends = _Sends(*(column[:last] for column in _sends(cleaned, len(cleaned.machine_U), len(rho24_C))))
    start = np.exp(-np.arange(AGES) / DECAY_START_H)
    cells = _count_cells(sends, origin_ms)
    risk = np.empty(cells, np.int32), np.empty(cells, np.int8), np.empty(cells, np.int8), np.empty(cells, np.float64)
    opens = np.zeros(48), np.zeros(AGES), np.zeros(users)
    _risk_cells(sends, read_only(rho24_C, np.float64), origin_ms, *risk, *opens)
    if opens[0].sum() == 0:
        return np.maximum(start, DECAY_FLOOR)
    return np.asarray(np.maximum(_fit_decay(*risk, *opens, start), DECAY_FLOOR))


def unopened_kernel(decay_24: Float64s) -> Float32s:
    """Weighted hours in each cell of a send never opened, by the hour of the week it left at, float32 [168, 48]."""
    kernel = np.zeros((168, 48), np.float32)
    for hour in range(168):
        for age in range(AGES + 1):
            low, high = (QUARTER, 1.0) if age == 0 else (float(age), min(age + 1.0, AGES + QUARTER))
            at = hour + age
            weight = decay_24[min(int((low + high) / 2 - QUARTER), AGES - 1)]
            kernel[hour, at % 24 + 24 * (at // 24 % 7 >= 5)] += (high - low) * weight
    return kernel


def _sends(cleaned: Cleaned, users: int, campaigns: int) -> _Sends:
    user_S, campaign_S = read_only(cleaned.user_S, np.int32), read_only(cleaned.campaign_S, np.int32)
    _check_users(user_S, users, "sends")
    if campaign_S.min(initial=0) < 0 or campaign_S.max(initial=-1) >= campaigns:
        raise ValueError(f"campaign_S must be in 0..{campaigns - 1}; found {campaign_S.min()}..{campaign_S.max()}")
    utc_S, local_S, latency_S = (read_only(x, np.int64) for x in (cleaned.utc_S, cleaned.local_S, cleaned.latency_S))
    return _Sends(user_S, utc_S, local_S, latency_S, campaign_S)


def _acts(cleaned: Cleaned, users: int) -> _Acts:
    user_A = read_only(cleaned.user_A, np.int32)
    _check_users(user_A, users, "acts")
    utc_A, local_A = read_only(cleaned.utc_A, np.int64), read_only(cleaned.local_A, np.int64)
    return _Acts(user_A, utc_A, local_A, read_only(cleaned.mobile_A, np.bool_))


def _check_users(user: Array, users: int, what: str) -> None:
    if len(user) and (user[0] < 0 or user[-1] >= users or np.any(user[1:] < user[:-1])):
        raise ValueError(f"{what} must be grouped by ascending user in 0..{users - 1}")


@jit
def _known(latency: int, observed: int) -> int:
    """The latency as known after `observed` ms: without one, or one that ended later, longer than anything."""
    return -NO_TIME if latency == NO_LATENCY or latency >= observed else latency


@jit
def _cell(local: int) -> int:
    hour = local // HOUR_MS
    return hour % 24 + 24 * ((hour // 24 + 3) % 7 >= 5)


@jit
def _hour_of_week(local: int) -> int:
    hour = local // HOUR_MS
    return (hour // 24 + 3) % 7 * 24 + hour % 24


@jit
def _campaign_sums(sends: _Sends, bad_U: Array, origin_ms: int, sums_C4: Array) -> None:
    for s in range(len(sends.user)):
        observed = origin_ms - sends.utc[s]
        if bad_U[sends.user[s]] or observed < SHORT_MS:
            continue
        latency, c = _known(sends.latency[s], observed), sends.campaign[s]
        sums_C4[c, 0] += 1
        sums_C4[c, 1] += latency < SHORT_MS
        if observed >= DAY_PART_MS:
            sums_C4[c, 2] += 1
            sums_C4[c, 3] += latency < DAY_PART_MS


@jit
def _count_sends(sends: _Sends, rates: _Rates, moment: _Moment, sums: _Sums) -> None:
    user_S, utc_S, local_S, latency_S, campaign_S = sends
    rho2_C, rho24_C, decay_24, kernel_168x48 = rates
    opens_U48, exposure_U48, slots_5xU24, sends_3xU = (
        sums.opens_U48,
        sums.exposure_U48,
        sums.slots_5xU24,
        sums.sends_3xU,
    )
    opens, exposure, slots, s = np.zeros(48), np.zeros(48), np.zeros((5, 24)), 0
    for u in range(len(opens_U48)):
        opens[:], exposure[:], slots[:] = 0.0, 0.0, 0.0
        while s < len(user_S) and user_S[s] == u:
            local, observed, c = local_S[s], moment.origin_ms - utc_S[s], campaign_S[s]
            latency = _known(latency_S[s], observed)
            s += 1
            if observed <= 0:
                continue
            fade = _fade(moment.half_life_ms, observed)
            _add_slots(slots, local // HOUR_MS % 24, latency, observed, rho2_C[c], rho24_C[c], fade)
            _add_profile(sends_3xU, u, latency)
            if latency < DAY_PART_MS:
                opens[_cell(local + latency)] += fade
            if latency >= DAY_PART_MS and observed >= DAY_PART_MS:
                _add_unopened(exposure, kernel_168x48, _hour_of_week(local), rho24_C[c] * fade)
            else:
                _add_stay(exposure, local, min(latency, observed, DAY_PART_MS), decay_24, rho24_C[c] * fade)
        _store(opens, opens_U48, u)
        _store(exposure, exposure_U48, u)
        for kind in range(5):
            _store(slots[kind], slots_5xU24[kind], u)


@jit
def _count_acts(acts: _Acts, moment: _Moment, sums: _Sums) -> None:
    user_A, utc_A, local_A, mobile_A = acts
    acts_U24, mobile_acts_U, acts_U, last_act_U = sums.acts_U24, sums.mobile_acts_U, sums.acts_U, sums.last_act_U
    histogram, a = np.zeros(24), 0
    for u in range(len(acts_U24)):
        histogram[:] = 0.0
        while a < len(user_A) and user_A[a] == u:
            if utc_A[a] < moment.origin_ms:
                histogram[local_A[a] // HOUR_MS % 24] += _fade(moment.half_life_ms, moment.origin_ms - utc_A[a])
                mobile_acts_U[u] += mobile_A[a]
                acts_U[u] += 1
                last_act_U[u] = max(last_act_U[u], utc_A[a])
            a += 1
        _store(histogram, acts_U24, u)


@jit
def _store(cells: Array, table: Array, u: int) -> None:
    for cell in range(len(cells)):
        table[u, cell] = cells[cell]


@jit
def _fade(half_life_ms: float, age_ms: int) -> float:
    return 2.0 ** -(age_ms / half_life_ms) if half_life_ms > 0 else 1.0


@jit
def _add_slots(slots: Array, hour: int, latency: int, observed: int, rho2: float, rho24: float, fade: float) -> None:
    if observed >= SHORT_MS:
        slots[0, hour] += rho2 * fade
        slots[1, hour] += (latency < SHORT_MS) * fade
        slots[4, hour] += fade
    slots[2, hour] += rho24 * fade
    slots[3, hour] += (latency < DAY_PART_MS) * fade


@jit
def _add_profile(sends_3xU: Array, u: int, latency: int) -> None:
    sends_3xU[0, u] += 1
    if latency < -NO_TIME:
        sends_3xU[1, u] += 1
        sends_3xU[2, u] += np.log(max(latency / HOUR_MS, MIN_LATENCY_H))


@jit
def _add_unopened(exposure: Array, kernel_168x48: Array, hour_of_week: int, weight: float) -> None:
    for cell in range(48):
        exposure[cell] += weight * kernel_168x48[hour_of_week, cell]


@jit
def _add_stay(exposure: Array, local: int, stay: int, decay_24: Array, weight: float) -> None:
    """The hours from `local` to `local + stay`, each in its cell and weighted by its age."""
    low, end = local, local + stay
    while low < end:
        high = min((low // HOUR_MS + 1) * HOUR_MS, end)
        exposure[_cell(low)] += (high - low) / HOUR_MS * decay_24[_age(low, high, local)] * weight
        low = high


@jit
def _age(low: int, high: int, local: int) -> Any:
    """Whole hours from the send to the middle of a stay."""
    return min((low + high - 2 * local) // (2 * HOUR_MS), AGES - 1)


@jit
def _stay(sends: _Sends, s: int, origin_ms: int) -> Any:
    """How long send s lay unread within 24 h; 0 for one at or after the origin."""
    observed = max(origin_ms - sends.utc[s], 0)
    return min(_known(sends.latency[s], observed), observed, DAY_PART_MS)


@jit
def _count_cells(sends: _Sends, origin_ms: int) -> int:
    cells = 0
    for s in range(len(sends.user)):
        end = sends.local[s] + _stay(sends, s, origin_ms)
        cells += (end - 1) // HOUR_MS - sends.local[s] // HOUR_MS + 1
    return cells


@jit
def _risk_cells(
    sends: _Sends,
    rho24_C: Array,
    origin_ms: int,
    user_R: Array,
    cell_R: Array,
    age_R: Array,
    weight_R: Array,
    opens_48: Array,
    opens_24: Array,
    opens_U: Array,
) -> None:
    """The R hours at risk (rate-weighted lengths) and the opens by cell, age and user."""
    r = 0
    for s in range(len(sends.user)):
        local, u, observed = sends.local[s], sends.user[s], origin_ms - sends.utc[s]
        low, end = local, local + _stay(sends, s, origin_ms)
        while low < end:
            high = min((low // HOUR_MS + 1) * HOUR_MS, end)
            user_R[r], cell_R[r], age_R[r] = u, _cell(low), _age(low, high, local)
            weight_R[r] = (high - low) / HOUR_MS * rho24_C[sends.campaign[s]]
            low, r = high, r + 1
        latency = _known(sends.latency[s], observed)
        if latency < DAY_PART_MS:
            opens_48[_cell(local + latency)] += 1
            opens_24[latency // HOUR_MS] += 1
            opens_U[u] += 1


@jit
def _fit_decay(
    user_R: Array,
    cell_R: Array,
    age_R: Array,
    weight_R: Array,
    opens_48: Array,
    opens_24: Array,
    opens_U: Array,
    decay_24: Array,
) -> Array:
    user_U, g = np.ones(len(opens_U)), decay_24
    for _ in range(DECAY_ROUNDS):
        at_48, at_24, at_U = np.zeros(48), np.zeros(AGES), np.zeros(len(opens_U))
        for r in range(len(user_R)):
            at_48[cell_R[r]] += weight_R[r] * g[age_R[r]] * user_U[user_R[r]]
        hour_48 = (opens_48 + 1) / (at_48 + at_48.sum() / opens_48.sum())
        for r in range(len(user_R)):
            at_24[age_R[r]] += weight_R[r] * hour_48[cell_R[r]] * user_U[user_R[r]]
        g = (opens_24 + 1) / (at_24 + 1)
        g = g / g[0]
        for r in range(len(user_R)):
            at_U[user_R[r]] += weight_R[r] * hour_48[cell_R[r]] * g[age_R[r]]
        user_U = (opens_U + USER_PRIOR) / (at_U + USER_PRIOR)
    return g

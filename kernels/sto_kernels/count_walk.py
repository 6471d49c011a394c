"""From sends and acts to sums per user and per campaign (recipe, sections 2, 3 and 5).

A mail waits for a look: each send adds, to every hour it lay unread (to its open, to the origin, to 24 h), the length
of the stay times age decay times the rate of its campaign. A send never opened in 24 h adds a row of a table by hour of
the week; the others are walked hour by hour. An open counts at the hour it happened.

Everything of a user is summed in float64 in the order of his rows: same bits for any split of the users. Sends and acts
at or after the origin do not exist, and a latency is known only if it ended before the origin. The twins stand in
`naive_counts`. U users, S sends, A acts, C campaigns, 48 = weekday hours then weekend hours.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.decay_walk import age_decay
from sto_kernels.journal import HOUR_MS, NO_TIME, Cleaned, Counts, Float32s, Float64s, Int8s, Int64s
from sto_kernels.stays import (
    AGES,
    DAY_PART_MS,
    NEVER,
    SHORT_MS,
    Array,
    Sends,
    age_of,
    cell_of,
    check_users,
    hour_of_week,
    known_latency,
    send_table,
)

MIN_LATENCY_H = 1e-3
# an unopened send stands for one at a quarter past its hour
QUARTER = 0.25
__all__ = ["age_decay", "campaign_sums", "count", "unopened_kernel"]


class _Acts(NamedTuple):
    user_A: Array
    utc_A: Array
    local_A: Array
    mobile_A: Array


class _Moment(NamedTuple):
    origin_ms: int
    half_life_ms: float


class _Rates(NamedTuple):
    rho2_C: Array
    rho24_C: Array
    decay_T24: Array
    kernel_Tx168x48: Array
    follow_T: Array
    type_C: Array


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
    sends = send_table(cleaned, len(bad_U), campaigns)
    sums_C4 = np.zeros((campaigns, 4), np.int64)
    _campaign_sums(sends, read_only(bad_U, np.bool_), origin_ms, sums_C4)
    return sums_C4


def count(
    cleaned: Cleaned,
    users: int,
    rho2_C: Float64s,
    rho24_C: Float64s,
    decay_T24: Float64s,
    kernel_Tx168x48: Float32s,
    origin_ms: int,
    half_life_ms: float = 0,
    type_C: Int8s | None = None,
    follow_T: Float64s | None = None,
) -> Counts:
    """Sums per user of what was known at `origin_ms`; `kernel_Tx168x48` of each type from `unopened_kernel`.

    Campaigns are of T types, each with its own age decay; without `type_C` there is one, and decay [24] and kernel
    [168, 48] may stand alone. `follow_T` weighs what the sends of a type add to opens_U48 and exposure_U48.
    half_life_ms > 0 multiplies what a send or an act adds to the arrays by 2 ** -(its age / half_life_ms); the sums
    per user (sent_U and after) stay whole.
    """
    decay, kernel = decay_T24.reshape(-1, AGES), kernel_Tx168x48.reshape(-1, 168, 48)
    kinds = np.zeros(len(rho2_C), np.int8) if type_C is None else type_C
    follow = np.ones(len(decay)) if follow_T is None else follow_T
    if len({len(rho2_C), len(rho24_C), len(kinds)}) > 1 or len({len(decay), len(kernel), len(follow)}) > 1:
        raise ValueError("count needs rho2_C, rho24_C and type_C of one length, and a decay, kernel and weight a type")
    if kinds.min(initial=0) < 0 or kinds.max(initial=0) >= len(decay):
        raise ValueError(f"type_C must be in 0..{len(decay) - 1}; found {kinds.min()}..{kinds.max()}")
    sends, acts = send_table(cleaned, users, len(rho2_C)), _acts(cleaned, users)
    tables = (
        (rho2_C, np.float64),
        (rho24_C, np.float64),
        (decay, np.float64),
        (kernel, np.float64),
        (follow, np.float64),
    )
    rates = _Rates(*(read_only(x, kind) for x, kind in (*tables, (kinds, np.int8))))
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


def _acts(cleaned: Cleaned, users: int) -> _Acts:
    user_A = read_only(cleaned.user_A, np.int32)
    check_users(user_A, users, "acts")
    utc_A, local_A = read_only(cleaned.utc_A, np.int64), read_only(cleaned.local_A, np.int64)
    return _Acts(user_A, utc_A, local_A, read_only(cleaned.mobile_A, np.bool_))


@jit
def _campaign_sums(sends: Sends, bad_U: Array, origin_ms: int, sums_C4: Array) -> None:
    user_S, utc_S, _, latency_S, campaign_S = sends
    for s in range(len(user_S)):
        observed = origin_ms - utc_S[s]
        if bad_U[user_S[s]] or observed < SHORT_MS:
            continue
        latency, c = known_latency(latency_S[s], observed), campaign_S[s]
        sums_C4[c, 0] += 1
        sums_C4[c, 1] += latency < SHORT_MS
        if observed >= DAY_PART_MS:
            sums_C4[c, 2] += 1
            sums_C4[c, 3] += latency < DAY_PART_MS


@jit
def _count_sends(sends: Sends, rates: _Rates, moment: _Moment, sums: _Sums) -> None:
    user_S, utc_S, local_S, latency_S, campaign_S = sends
    rho2_C, rho24_C, decay_T24, kernel_Tx168x48, follow_T, type_C = rates
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
            latency = known_latency(latency_S[s], observed)
            s += 1
            if observed <= 0:
                continue
            fade = _fade(moment.half_life_ms, observed)
            _add_slots(slots, local // HOUR_MS % 24, latency, observed, rho2_C[c], rho24_C[c], fade)
            _add_profile(sends_3xU, u, latency)
            kind, weight = type_C[c], follow_T[type_C[c]] * fade
            if latency < DAY_PART_MS:
                opens[cell_of(local + latency)] += weight
            if latency >= DAY_PART_MS and observed >= DAY_PART_MS:
                _add_unopened(exposure, kernel_Tx168x48[kind], hour_of_week(local), rho24_C[c] * weight)
            else:
                _add_stay(exposure, local, min(latency, observed, DAY_PART_MS), decay_T24[kind], rho24_C[c] * weight)
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
    if latency < NEVER:
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
        exposure[cell_of(low)] += (high - low) / HOUR_MS * decay_24[age_of(low, high, local)] * weight
        low = high

"""How attention to a mail fades with its age: four rounds of ratio fits on a sample (recipe, section 3).

    hours at risk of cell, age, user  =  length * rate of the campaign * the other two factors
    factor = (opens + prior) / (hours at risk + prior)

The stays of the sample are cut into hours once and kept; the rounds walk those. The twin is `naive_counts.age_decay`.
R = hours at risk; other letters as in `journal`.
"""

from typing import Any

import numpy as np

from sto_kernels.compiled import jit, read_only
from sto_kernels.journal import HOUR_MS, Cleaned, Float64s
from sto_kernels.stays import AGES, DAY_PART_MS, Array, Sends, age_of, cell_of, known_latency, send_table

LEAST_RISK_H = 1e-6  # everything may have been opened at once: nothing lay unread
DECAY_ROUNDS, DECAY_START_H, DECAY_FLOOR, USER_PRIOR = 4, 8.0, 1e-3, 1.5


def age_decay(cleaned: Cleaned, users: int, rho24_C: Float64s, origin_ms: int) -> Float64s:
    """How attention fades with the age of a mail in hours, g[0] = 1, float64 [24], from the first `users` users.

    Four rounds of ratio fits of hour, age and user factors; without a single open, the fade that the fit starts from.
    """
    last = int(np.searchsorted(cleaned.user_S, users))
    sends = Sends(*(column[:last] for column in send_table(cleaned, len(cleaned.machine_U), len(rho24_C))))
    start = np.exp(-np.arange(AGES) / DECAY_START_H)
    cells = _count_cells(sends, origin_ms)
    risk = np.empty(cells, np.int32), np.empty(cells, np.int8), np.empty(cells, np.int8), np.empty(cells, np.float64)
    opens = np.zeros(48), np.zeros(AGES), np.zeros(users)
    filled = _risk_cells(sends, read_only(rho24_C, np.float64), origin_ms, *risk, *opens)
    if opens[0].sum() == 0:
        return np.asarray(np.maximum(start, DECAY_FLOOR))
    return np.asarray(np.maximum(_fit_decay(*(column[:filled] for column in risk), *opens, start), DECAY_FLOOR))


@jit
def _stay(utc: int, latency: int, origin_ms: int) -> Any:
    """How long a send lay unread within 24 h; 0 for one at or after the origin."""
    observed = max(origin_ms - utc, 0)
    return min(known_latency(latency, observed), observed, DAY_PART_MS)


@jit
def _count_cells(sends: Sends, origin_ms: int) -> int:
    """At least as many as `_risk_cells` fills."""
    _, utc_S, local_S, latency_S, _ = sends
    cells = 0
    for s in range(len(utc_S)):
        end = local_S[s] + _stay(utc_S[s], latency_S[s], origin_ms)
        cells += (end - 1) // HOUR_MS - local_S[s] // HOUR_MS + 1
    return cells


@jit
def _risk_cells(
    sends: Sends,
    rho24_C: Array,
    origin_ms: int,
    user_R: Array,
    cell_R: Array,
    age_R: Array,
    weight_R: Array,
    opens_48: Array,
    opens_24: Array,
    opens_U: Array,
) -> int:
    """The R hours at risk (rate-weighted lengths) and the opens by cell, age and user. -> R"""
    user_S, utc_S, local_S, latency_S, campaign_S = sends
    r = 0
    for s in range(len(user_S)):
        local, observed, rho = local_S[s], origin_ms - utc_S[s], rho24_C[campaign_S[s]]
        low, end = local, local + _stay(utc_S[s], latency_S[s], origin_ms)
        while low < end:
            high = min((low // HOUR_MS + 1) * HOUR_MS, end)
            user_R[r], cell_R[r], age_R[r] = user_S[s], cell_of(low), age_of(low, high, local)
            weight_R[r] = (high - low) / HOUR_MS * rho
            low, r = high, r + 1
        latency = known_latency(latency_S[s], observed)
        if latency < DAY_PART_MS:
            opens_48[cell_of(local + latency)] += 1
            opens_24[latency // HOUR_MS] += 1
            opens_U[user_S[s]] += 1
    return r


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
        hour_48 = (opens_48 + 1) / (at_48 + max(at_48.sum() / opens_48.sum(), LEAST_RISK_H))
        for r in range(len(user_R)):
            at_24[age_R[r]] += weight_R[r] * hour_48[cell_R[r]] * user_U[user_R[r]]
        g = (opens_24 + 1) / (at_24 + 1)
        g = g / g[0]
        for r in range(len(user_R)):
            at_U[user_R[r]] += weight_R[r] * hour_48[cell_R[r]] * g[age_R[r]]
        user_U = (opens_U + USER_PRIOR) / (at_U + USER_PRIOR)
    return g

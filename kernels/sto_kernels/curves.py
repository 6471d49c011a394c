"""From rates and counts to one number a slot: chances of an open, slot rate, histogram (recipe, sections 3 and 5).

`Windows` says how long a mail sent at a slot lies unread in each cell; with it

    P_L(slot) = 1 - exp(-sum_c rate_c * M_L[c, slot])

U users, S slots, L lanes, C cohorts, 48 cells. Results are slot-major [S, U], as the scoring kernel takes them.
The twins stand in `naive_attention`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.lanes import LANES, Array, Floats, gaussian_taps, load, load_rows, smooth, store

AGES = 24
# users at a time, so that a block of slots stays in the cache
BLOCK_USERS = 4096
RATE_WIDTH_H, RATE_LEVEL, RATE_SENDS = 1.0, 2.0, 15.0
SHAPE_WIDTH_H, SHAPE_COUNTS = 1.0, 4.0


@dataclass(frozen=True)
class Windows:
    """The cells that a window of `hours` after each slot touches: rows first_S[s]:first_S[s + 1] of cell and weight."""

    first_S: NDArray[np.int64]
    cell_N: NDArray[np.int64]
    weight_N: Floats


def windows(decay_24: Floats, hours: int, weekday: int, slots: int) -> Windows:
    """Hours of [slot + a quarter of it, + hours) in each cell on a weekday (Monday 0), weighted by age decay."""
    per_hour = slots / AGES
    first, cells, weights = [0], [], []
    for slot in range(slots):
        sent = (slot + 0.25) / per_hour
        found: dict[int, float] = {}
        at = sent
        while at < sent + hours - 1e-9:
            until = min(math.floor(at + 1e-9) + 1.0, sent + hours)
            hour, day = int(at + 1e-9) % 24, (weekday + int((at + 1e-9) // 24)) % 7
            age = min(int((at + until) / 2 - sent), AGES - 1)
            cell = hour + 24 * (day >= 5)
            found[cell] = found.get(cell, 0.0) + (until - at) * float(decay_24[age])
            at = until
        cells += list(found)
        weights += list(found.values())
        first.append(len(cells))
    return Windows(np.array(first, np.int64), np.array(cells, np.int64), np.array(weights))


def open_chances(rate_48U: Floats, window: Windows) -> Floats:
    """P(open within the window | sent at slot), float64 [S, U]."""
    p_SU = np.empty((len(window.first_S) - 1, rate_48U.shape[1]))
    _expected_opens(rate_48U, window.first_S, window.cell_N, window.weight_N, p_SU)
    np.exp(np.negative(p_SU, out=p_SU), out=p_SU)
    return np.subtract(1.0, p_SU, out=p_SU)


@jit
def _expected_opens(rate_48U: Array, first_S: Array, cell_N: Array, weight_N: Array, out_SU: Array) -> None:
    users = rate_48U.shape[1]
    rate, expected = np.empty((48, LANES)), np.empty(LANES)
    for first in range(0, users, LANES):
        load_rows(rate_48U, first, rate)
        for slot in range(len(out_SU)):
            for lane in range(LANES):
                expected[lane] = 0.0
            for row in range(first_S[slot], first_S[slot + 1]):
                cell, weight = cell_N[row], weight_N[row]
                for lane in range(LANES):
                    expected[lane] += rate[cell, lane] * weight
            for lane in range(min(LANES, users - first)):
                out_SU[slot, first + lane] = expected[lane]


def slot_rates(
    opens2_U24: NDArray[np.float32],
    sends2_U24: NDArray[np.float32],
    cohort_U: NDArray[np.int32],
    rate_C24: Floats,
) -> Floats:
    """Beta posterior mean of an open within 2 h a send at each hour: cohort -> user level -> hour, float64 [24, U]."""
    rate_24U = np.empty((24, len(opens2_U24)))
    _slot_rates(opens2_U24, sends2_U24, cohort_U, rate_C24, gaussian_taps(RATE_WIDTH_H), rate_24U)
    return rate_24U


@jit
def _slot_rates(
    opens2_U24: Array, sends2_U24: Array, cohort_U: Array, rate_C24: Array, taps: Array, rate_24U: Array
) -> None:
    opens, sends, prior = np.empty((24, LANES)), np.empty((24, LANES)), np.zeros((24, LANES))
    near_opens, near_sends = np.empty((24, LANES)), np.empty((24, LANES))
    for first in range(0, len(opens2_U24), LANES):
        load(opens2_U24, first, opens)
        load(sends2_U24, first, sends)
        opened, expected = np.zeros(LANES), np.zeros(LANES)
        for lane in range(min(LANES, len(cohort_U) - first)):
            for hour in range(24):
                prior[hour, lane] = rate_C24[cohort_U[first + lane], hour]
        for hour in range(24):
            for lane in range(LANES):
                opened[lane] += opens[hour, lane]
                expected[lane] += sends[hour, lane] * prior[hour, lane]
        smooth(opens, taps, near_opens)
        smooth(sends, taps, near_sends)
        for hour in range(24):
            for lane in range(LANES):
                level = prior[hour, lane] * ((opened[lane] + RATE_LEVEL) / (expected[lane] + RATE_LEVEL))
                level = min(max(level, 1e-4), 0.95)
                opens[hour, lane] = (near_opens[hour, lane] + RATE_SENDS * level) / (
                    near_sends[hour, lane] + RATE_SENDS
                )
        store(opens, first, rate_24U)


def act_shapes(acts_U24: NDArray[np.float32], cohort_U: NDArray[np.int32], shape_C24: Floats) -> Floats:
    """Share of each hour in a user's acts, smoothed and with 4 acts of his cohort's shape, float64 [24, U]."""
    share_24U = np.empty((24, len(acts_U24)))
    _act_shapes(acts_U24, cohort_U, shape_C24, gaussian_taps(SHAPE_WIDTH_H), share_24U)
    return share_24U


@jit
def _act_shapes(acts_U24: Array, cohort_U: Array, shape_C24: Array, taps: Array, share_24U: Array) -> None:
    acts, near = np.empty((24, LANES)), np.empty((24, LANES))
    for first in range(0, len(acts_U24), LANES):
        load(acts_U24, first, acts)
        total = np.zeros(LANES)
        for lane in range(min(LANES, len(cohort_U) - first)):
            for hour in range(24):
                acts[hour, lane] += SHAPE_COUNTS * shape_C24[cohort_U[first + lane], hour]
        smooth(acts, taps, near)
        for hour in range(24):
            for lane in range(LANES):
                total[lane] += near[hour, lane]
        for hour in range(24):
            for lane in range(LANES):
                near[hour, lane] /= max(total[lane], 1e-300)
        store(near, first, share_24U)


def smooth_counts(counts_U24: NDArray[np.float32], width_h: float) -> Floats:
    """Counts by hour spread by a circular Gaussian kernel, float64 [24, U]."""
    out_24U = np.empty((24, len(counts_U24)))
    _smooth_counts(counts_U24, gaussian_taps(width_h), out_24U)
    return out_24U


@jit
def _smooth_counts(counts_U24: Array, taps: Array, out_24U: Array) -> None:
    counts, near = np.empty((24, LANES)), np.empty((24, LANES))
    for first in range(0, len(counts_U24), LANES):
        load(counts_U24, first, counts)
        smooth(counts, taps, near)
        store(near, first, out_24U)


def centred_logs(p_SU: Floats, out_SU: NDArray[np.float32], floor: float = 1e-6) -> Floats:
    """log p less its mean over slots into float32 [S, U]; returns the means, float64 [U]. p is held to [floor, 1]."""
    slots, users = p_SU.shape
    mean_U, logs_SU = np.empty(users), np.empty((slots, min(users, BLOCK_USERS)))
    for first in range(0, users, BLOCK_USERS):
        block = slice(first, first + BLOCK_USERS)
        logs_SB = logs_SU[:, : len(mean_U[block])]
        _hold(p_SU[:, block], floor, logs_SB)
        np.log(logs_SB, out=logs_SB)
        _centre(logs_SB, out_SU[:, block], mean_U[block])
    return mean_U


@jit
def _hold(p_SU: Array, floor: float, out_SU: Array) -> None:
    for slot in range(p_SU.shape[0]):
        for u in range(p_SU.shape[1]):
            out_SU[slot, u] = min(max(p_SU[slot, u], floor), 1.0)


@jit
def _centre(logs_SU: Array, out_SU: Array, mean_U: Array) -> None:
    slots, users = logs_SU.shape
    for u in range(users):
        mean_U[u] = 0.0
    for slot in range(slots):
        for u in range(users):
            mean_U[u] += logs_SU[slot, u]
    for u in range(users):
        mean_U[u] /= slots
    for slot in range(slots):
        for u in range(users):
            out_SU[slot, u] = logs_SU[slot, u] - mean_U[u]

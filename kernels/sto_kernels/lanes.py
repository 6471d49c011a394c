"""Small steps on blocks of users: what the kernels of `attention`, `send_effect` and `curves` are built from.

A block holds LANES users side by side, so that every step is a loop over lanes that the compiler turns into vector
instructions, and a user's numbers do not depend on who stands beside him. Sums run in a fixed order and without
fused operations: same bits for any split of users over blocks, buckets and threads.

    L lanes    B cells (24 hours, or 48 = weekday hours then weekend hours)    all float64
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit

LANES = 64
DAY = 24
# taps below this are left out: they add less than 1e-9 of a count
TAP_FLOOR = 1e-9
Floats = NDArray[np.float64]
Array = NDArray[Any]


def gaussian_taps(width_h: float) -> Floats:
    """Weights of a circular Gaussian kernel over a day by distance -12..11 h, summing to 1, float64 [24]."""
    weight = np.exp(-0.5 * ((np.arange(DAY) - 12) / width_h) ** 2)
    return np.asarray(weight / weight.sum())


def smooth_days(x_NB: Floats, width_h: float) -> Floats:
    """Circular Gaussian smoothing of each day of 24 hours of B = 24 or 48 cells, float64 [N, B]: the plain form."""
    taps = gaussian_taps(width_h)
    out_NB = np.zeros(x_NB.shape)
    for first in range(0, x_NB.shape[1], DAY):
        day = x_NB[:, first : first + DAY]
        for tap in np.flatnonzero(taps > TAP_FLOOR):
            out_NB[:, first : first + DAY] += taps[tap] * np.roll(day, 12 - int(tap), axis=1)
    return out_NB


def share_days(x_NB: Floats, share: float) -> Floats:
    """Weekday and weekend hours lend each other a share of their counts, float64 [N, 48]."""
    return np.asarray(x_NB + share * np.roll(x_NB, DAY, axis=1))


@jit
def load(x_UB: Array, first: int, out_BL: Array) -> None:
    """Users first..first+L of a user-major table into a block; lanes without a user are 0."""
    users, cells = min(LANES, x_UB.shape[0] - first), x_UB.shape[1]
    for lane in range(users):
        for cell in range(cells):
            out_BL[cell, lane] = x_UB[first + lane, cell]
    for cell in range(cells):
        for lane in range(users, LANES):
            out_BL[cell, lane] = 0.0


@jit
def load_rows(x_BU: Array, first: int, out_BL: Array) -> None:
    """Users first..first+L of a cell-major table into a block; lanes without a user are 0."""
    users = min(LANES, x_BU.shape[1] - first)
    for cell in range(x_BU.shape[0]):
        for lane in range(users):
            out_BL[cell, lane] = x_BU[cell, first + lane]
        for lane in range(users, LANES):
            out_BL[cell, lane] = 0.0


@jit
def store(x_BL: Array, first: int, out_BU: Array) -> None:
    """The users of a block into a cell-major table [B, U]."""
    users = min(LANES, out_BU.shape[1] - first)
    for cell in range(out_BU.shape[0]):
        for lane in range(users):
            out_BU[cell, first + lane] = x_BL[cell, lane]


@jit
def smooth(x_BL: Array, taps: Array, out_BL: Array) -> None:
    """`smooth_days` of a block. Taps are taken three at a time: a sum is loaded and stored a third as often."""
    first, last = 0, DAY
    while taps[first] <= TAP_FLOOR:
        first += 1
    while taps[last - 1] <= TAP_FLOOR:
        last -= 1
    for day in range(0, x_BL.shape[0], DAY):
        for hour in range(DAY):
            for lane in range(LANES):
                out_BL[day + hour, lane] = 0.0
            for tap in range(first, last - 2, 3):
                a, b, c = day + (hour + tap + 12) % DAY, day + (hour + tap + 13) % DAY, day + (hour + tap + 14) % DAY
                for lane in range(LANES):
                    total = out_BL[day + hour, lane] + taps[tap] * x_BL[a, lane]
                    total += taps[tap + 1] * x_BL[b, lane]
                    out_BL[day + hour, lane] = total + taps[tap + 2] * x_BL[c, lane]
            for tap in range(last - (last - first) % 3, last):
                a = day + (hour + tap + 12) % DAY
                for lane in range(LANES):
                    out_BL[day + hour, lane] += taps[tap] * x_BL[a, lane]


@jit
def lend(x_BL: Array, share: float) -> None:
    """`share_days` of a block of 48 cells, in place."""
    for hour in range(DAY):
        for lane in range(LANES):
            week, weekend = x_BL[hour, lane], x_BL[hour + DAY, lane]
            x_BL[hour, lane] = week + share * weekend
            x_BL[hour + DAY, lane] = weekend + share * week

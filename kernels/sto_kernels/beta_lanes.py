"""Beta draws of a block of cells side by side: loops over lanes without branches, and again for the few that failed.

A cell is a (user, slot). Scratch arrays hold rows of LANES numbers one behind the other at offsets known when the code
is compiled, so that the compiler sees that rows do not overlap. `beta` says what is computed.

    cells_F   float32   shapes less a third, their spreads and inverses; X and Y, the two gammas, one behind the other
    cells_W   uint64    key and counter of each cell, start of its words, two words
    tries_F, tries_W    the same of one gamma each, of those that failed; twice as many lanes
"""

from typing import Any

import numpy as np

from sto_kernels.beta_math import HALF, ONE, QUARTER, exp_32, log_32, log_64, sin_cos
from sto_kernels.compiled import jit
from sto_kernels.hashing import GOLDEN

Array = Any
LANES = 512
_D_A, _C_A, _D_B, _C_B, INV_A, INV_B, X, _Y = (row * LANES for row in range(8))
KEY, COUNTER, _START, _WORD_1, _WORD_2 = (row * LANES for row in range(5))
_TRY_D, _TRY_C, _TRY_SIDE, _TRY_X = (2 * row * LANES for row in range(4))
_TRY_START, _TRY_WORD_1, _TRY_WORD_2 = (2 * row * LANES for row in range(3))

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S1, _S27, _S30, _S31, _S33 = (np.uint64(shift) for shift in (1, 27, 30, 31, 33))
_LOW_31, _LOW_32 = np.uint64(0x7FFFFFFF), np.uint64(0xFFFFFFFF)
MAX_SLOTS = 1 << 16
# from a word of a cell to its next; its slots are GOLDEN apart
STEP = np.uint64((int(GOLDEN) * MAX_SLOTS) & 0xFFFFFFFFFFFFFFFF)
UNIT, HALF_UNIT = np.float32(2.0**-31), np.float32(2.0**-32)
EIGHTH_TURN = np.float32(np.pi / 4 * 2.0**-31)
_SWAP, _SIGN, _ANGLE = np.int32(1), np.int32(2), np.int32(-4)
THIRD, TWO_THIRDS, MINUS_TWO = np.float32(1 / 3), np.float32(2 / 3), np.float32(-2)
SQUEEZE = np.float32(108)
LEAST_SHAPE = np.float32(2.0**-100)
FAILED, ZERO = np.float32(-1), np.float32(0)
# e^-80 beside 1 is nothing, and so is what it is a factor of
FADE = np.float32(-80)


@jit
def mixed(state: Any) -> Any:
    """splitmix64 of `hashing`."""
    z = state + GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@jit
def scratch() -> Any:
    """cells_F, cells_W, tries_F, tries_W and the list of what failed."""
    cells_F, cells_W = np.ones(8 * LANES, np.float32), np.zeros(5 * LANES, np.uint64)
    return (
        cells_F,
        cells_W,
        np.ones(8 * LANES, np.float32),
        np.zeros(6 * LANES, np.uint64),
        np.zeros(2 * LANES, np.int32),
    )


@jit
def prepare(cells_F: Array, a_C: Array, b_C: Array, first: int, count: int) -> bool:
    """What the draws of a block need of its shapes; whether one of them is below 1."""
    small = 0
    for i in range(count):
        a, b = a_C[first + i], b_C[first + i]
        d_a, d_b = a + (TWO_THIRDS if a < ONE else -THIRD), b + (TWO_THIRDS if b < ONE else -THIRD)
        cells_F[_D_A + i], cells_F[_C_A + i] = d_a, THIRD / np.sqrt(d_a)
        cells_F[_D_B + i], cells_F[_C_B + i] = d_b, THIRD / np.sqrt(d_b)
        cells_F[INV_A + i] = ONE / max(a, LEAST_SHAPE) if a < ONE else ZERO
        cells_F[INV_B + i] = ONE / max(b, LEAST_SHAPE) if b < ONE else ZERO
        small += (a < ONE) | (b < ONE)
    return small > 0


@jit
def draw(scratches: Any, round_key: Any, count: int, small: bool) -> None:
    """Draws of the first `count` cells into the row X of cells_F; keys, counters and shapes are in place."""
    cells_F, cells_W, _, _, list_P = scratches
    for i in range(count):
        cells_W[_START + i] = mixed(cells_W[KEY + i] ^ round_key) + cells_W[COUNTER + i]
    for i in range(count):
        cells_W[_WORD_1 + i] = mixed(cells_W[_START + i] + STEP)
    for i in range(count):
        cells_W[_WORD_2 + i] = mixed(cells_W[_START + i] + STEP + STEP)
    for i in range(count):
        x, y = normals(cells_W[_WORD_1 + i])
        word = cells_W[_WORD_2 + i]
        cells_F[X + i] = squeezed(cells_F[_D_A + i], cells_F[_C_A + i], x, uniform(word >> _S33))
        cells_F[_Y + i] = squeezed(cells_F[_D_B + i], cells_F[_C_B + i], y, uniform((word >> _S1) & _LOW_31))
    failed = 0
    for i in range(count):
        list_P[failed] = i
        failed += cells_F[X + i] < ZERO
    for i in range(count):
        list_P[failed] = LANES + i
        failed += cells_F[_Y + i] < ZERO
    _try_again(scratches, failed)
    if small:
        _boost(cells_F, cells_W, count)
    for i in range(count):
        cells_F[X + i] = cells_F[X + i] / (cells_F[X + i] + cells_F[_Y + i])


@jit
def uniform(bits: Any) -> Any:
    """(n + 1/2) 2^-31 of 31 bits, float32 in (0, 1]."""
    return np.float32(np.int32(bits)) * UNIT + HALF_UNIT


@jit
def normals(word: Any) -> Any:
    """Two independent normals of a word, by Box and Muller: up to an eighth of a turn, its axes swapped, its sign."""
    radius = np.sqrt(log_32(uniform(word >> _S33)) * MINUS_TWO)
    low = np.int32(word & _LOW_32)
    s, c = sin_cos(np.float32(np.int32(low & _ANGLE)) * EIGHTH_TURN)
    signed = -radius if low & _SIGN else radius
    swap = (low & _SWAP) != 0
    return signed * (s if swap else c), signed * (c if swap else s)


@jit
def squeezed(d: Any, c: Any, x: Any, u: Any) -> Any:
    """A quarter of the gamma of d and c = 1/sqrt(9 d) that normal x leads to, where the squeeze accepts it, else -1."""
    p = c * x + ONE
    square = x * x
    return QUARTER * d * (p * p * p) if SQUEEZE * d * u * min(ONE, p) > square * square else FAILED


@jit
def tested(d: Any, c: Any, x: Any, u: Any) -> Any:
    """The same by the whole test, in float64."""
    w, p = np.float64(c * x), c * x + ONE
    bound = 3.0 * np.float64(d) * (log_64(1.0 + w) - w + w * w * 0.5 - w * w * w / 3.0)
    return QUARTER * d * (p * p * p) if (p > ZERO) & (log_64(1.0 - np.float64(u)) < bound) else FAILED


@jit
def _try_again(scratches: Any, failed: int) -> None:
    """Gammas that failed: first their own try by the whole test, then try after try."""
    cells_F, cells_W, tries_F, tries_W, list_P = scratches
    for k in range(failed):
        side = list_P[k] // LANES
        i = list_P[k] - side * LANES
        tries_F[_TRY_D + k], tries_F[_TRY_C + k] = cells_F[2 * side * LANES + i], cells_F[(2 * side + 1) * LANES + i]
        tries_F[_TRY_SIDE + k] = side
        tries_W[_TRY_START + k] = cells_W[_START + i]
    step = STEP
    while failed > 0:
        _try(tries_F, tries_W, step, failed)
        step += STEP + STEP
        kept = 0
        for k in range(failed):
            if tries_F[_TRY_X + k] > ZERO:
                cells_F[X + list_P[k]] = tries_F[_TRY_X + k]
            else:
                list_P[kept], tries_W[_TRY_START + kept] = list_P[k], tries_W[_TRY_START + k]
                for row in (_TRY_D, _TRY_C, _TRY_SIDE):
                    tries_F[row + kept] = tries_F[row + k]
                kept += 1
        failed = kept


@jit
def _try(tries_F: Array, tries_W: Array, step: Any, count: int) -> None:
    for k in range(count):
        tries_W[_TRY_WORD_1 + k] = mixed(tries_W[_TRY_START + k] + step)
    for k in range(count):
        tries_W[_TRY_WORD_2 + k] = mixed(tries_W[_TRY_START + k] + step + STEP)
    for k in range(count):
        x, y = normals(tries_W[_TRY_WORD_1 + k])
        word = tries_W[_TRY_WORD_2 + k]
        first = tries_F[_TRY_SIDE + k] < HALF
        u = uniform(word >> _S33 if first else (word >> _S1) & _LOW_31)
        tries_F[_TRY_X + k] = tested(tries_F[_TRY_D + k], tries_F[_TRY_C + k], x if first else y, u)


@jit
def _boost(cells_F: Array, cells_W: Array, count: int) -> None:
    """Gamma(a) = Gamma(a + 1) U^(1/a) for shapes below 1; of the two factors the larger is divided out of both."""
    for i in range(count):
        cells_W[_WORD_1 + i] = mixed(cells_W[_START + i])
    for i in range(count):
        word = cells_W[_WORD_1 + i]
        log_a = log_32(uniform(word >> _S33)) * cells_F[INV_A + i]
        log_b = log_32(uniform((word >> _S1) & _LOW_31)) * cells_F[INV_B + i]
        gap = -abs(log_a - log_b)
        factor = exp_32(max(gap, FADE)) if gap > FADE else ZERO
        cells_F[X + i] *= factor if log_a < log_b else ONE
        cells_F[_Y + i] *= factor if log_b < log_a else ONE
